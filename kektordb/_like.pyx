"""Does a text fit a LIKE pattern? Patterns compiled to bytes and wildcards, matched on UTF-8."""


cdef bytes after_prefix(bytes prefix):
    """Return the first bytes after all texts that begin with `prefix`; UTF-8 has no byte 255."""
    return prefix[:len(prefix) - 1] + bytes([prefix[len(prefix) - 1] + 1])


cdef list compile_pattern(str pattern):
    """Return the bytes of a pattern, with ANY_RUN and ANY_ONE between them."""
    cdef list codes = []
    cdef bint is_escaped = False
    for character in pattern:
        if not is_escaped and character == "\\":
            is_escaped = True
            continue
        if is_escaped and character not in "%_\\":
            codes.append(92)  # a backslash before anything else is itself
        if not is_escaped and character == "%":
            if not codes or codes[len(codes) - 1] != ANY_RUN:
                codes.append(ANY_RUN)
        elif not is_escaped and character == "_":
            codes.append(ANY_ONE)
        else:
            codes += character.encode("utf-8", "surrogatepass")
        is_escaped = False
    if is_escaped:
        codes.append(92)
    return codes


cdef bint fits(const char* data, Py_ssize_t n, const unsigned short* codes, Py_ssize_t n_codes) noexcept nogil:
    """Match a text against a pattern; on a mismatch the last ANY_RUN takes one character more."""
    cdef Py_ssize_t at = 0, code = 0, run_code = -1, run_at = 0
    while at < n:
        if code < n_codes and codes[code] == ANY_RUN:
            run_code, run_at = code, at
            code += 1
        elif code < n_codes and codes[code] == ANY_ONE:
            at = _next_character(data, at, n)
            code += 1
        elif code < n_codes and codes[code] == <unsigned char>data[at]:
            at += 1
            code += 1
        elif run_code >= 0:
            run_at = _next_character(data, run_at, n)
            at = run_at
            code = run_code + 1
        else:
            return False
    while code < n_codes and codes[code] == ANY_RUN:
        code += 1
    return code == n_codes


cdef inline Py_ssize_t _next_character(const char* data, Py_ssize_t at, Py_ssize_t n) noexcept nogil:
    at += 1
    while at < n and (<unsigned char>data[at] & 0xC0) == 0x80:
        at += 1
    return at
