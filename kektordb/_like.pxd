cdef enum:
    # Elements of a compiled pattern beside bytes.
    ANY_RUN = 256
    ANY_ONE = 257

cdef bytes after_prefix(bytes prefix)
cdef list compile_pattern(str pattern)
cdef str in_lower_case(str text)
cdef Py_ssize_t lower(const char* data, Py_ssize_t n, char* out) noexcept nogil
cdef bint fits(const char* data, Py_ssize_t n, const unsigned short* codes, Py_ssize_t n_codes) noexcept nogil
