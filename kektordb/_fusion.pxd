"""How do a distance and a text score become one score? For the module that searches."""

# Turns the two sides of n candidates into their parts, in place: `nearness` is the negated distance, and either may be
# NaN where the side did not find the candidate, for the methods that allow it. `spare` is room for n.
cdef void make_parts(int method, double* nearness, double* text, double* spare, Py_ssize_t n) noexcept nogil

# Spreads values from 1, the best, to 0, in place; `constant` where all are equal.
cdef void spread(double* values, Py_ssize_t n, double constant) noexcept nogil
