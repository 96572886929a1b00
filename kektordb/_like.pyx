"""Does a text fit a LIKE pattern? Patterns compiled to bytes and wildcards, matched on UTF-8."""

from libc.stdint cimport uint32_t

cdef extern from "Python.h" nogil:
    # Looks into constant tables, so that it needs no GIL.
    uint32_t Py_UNICODE_TOLOWER(uint32_t character) noexcept

cdef enum:
    SIGMA = 0x3C3
    FINAL_SIGMA = 0x3C2


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


cdef str in_lower_case(str text):
    """Return a text as `lower` would: character by character, so that wildcards count the same ones."""
    return "".join([chr(_lowered(ord(character))) for character in text])


cdef Py_ssize_t lower(const char* data, Py_ssize_t n, char* out) noexcept nogil:
    """Write a text in lower case; `out` has room for 2 * n bytes. Return how many it takes."""
    cdef Py_ssize_t at = 0, stop, n_out = 0
    cdef uint32_t character
    cdef unsigned char first
    while at < n:
        first = <unsigned char>data[at]
        if first < 0x80:
            out[n_out] = <char>(first + 32 if 65 <= first <= 90 else first)
            n_out += 1
            at += 1
            continue
        # At most four bytes, of which the first begins with as many ones, also when a damaged text is no UTF-8.
        stop = min(_next_character(data, at, n), at + 4)
        character = first & (0xFF >> (stop - at + 1))
        for at in range(at + 1, stop):
            character = (character << 6) | (<unsigned char>data[at] & 0x3F)
        at = stop
        n_out += _encode(_lowered(character), out + n_out)
    return n_out


cdef inline uint32_t _lowered(uint32_t character) noexcept nogil:
    character = Py_UNICODE_TOLOWER(character)
    # The one letter that has two lower cases: which, depends on whether it ends a word.
    return SIGMA if character == FINAL_SIGMA else character


cdef inline Py_ssize_t _encode(uint32_t character, char* out) noexcept nogil:
    if character < 0x80:
        out[0] = <char>character
        return 1
    if character < 0x800:
        out[0] = <char>(0xC0 | (character >> 6))
        out[1] = <char>(0x80 | (character & 0x3F))
        return 2
    if character < 0x10000:
        out[0] = <char>(0xE0 | (character >> 12))
        out[1] = <char>(0x80 | ((character >> 6) & 0x3F))
        out[2] = <char>(0x80 | (character & 0x3F))
        return 3
    out[0] = <char>(0xF0 | (character >> 18))
    out[1] = <char>(0x80 | ((character >> 12) & 0x3F))
    out[2] = <char>(0x80 | ((character >> 6) & 0x3F))
    out[3] = <char>(0x80 | (character & 0x3F))
    return 4
