"""Which distance kernels does this CPU run? Chosen once, at import."""

import os
from importlib import import_module

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport uint32_t

from kektordb._types cimport key_t

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #if (defined(__x86_64__) || defined(__amd64__)) && (defined(__GNUC__) || defined(__clang__))
    /* The highest kernel level that this CPU supports: 4, 3 or 2. */
    static int kektor_cpu_level(void) {
        __builtin_cpu_init();
        if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")))
            return 2;
        if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
              && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
              && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni")))
            return 3;
        return 4;
    }
    #else
    static int kektor_cpu_level(void) { return 2; }
    #endif
    static inline float kektor_distance(uint32_t key) {
        uint32_t bits = key ^ ((uint32_t)((int32_t)~key >> 31) | 0x80000000u);
        float value;
        memcpy(&value, &bits, 4);
        return value;
    }
    #if defined(__clang__)
    #define KEKTOR_COMPILER "clang " __clang_version__
    #elif defined(__GNUC__)
    #define KEKTOR_COMPILER "gcc " __VERSION__
    #elif defined(_MSC_VER)
    #define KEKTOR_COMPILER "msvc"
    #else
    #define KEKTOR_COMPILER "unknown"
    #endif
    """
    int cpu_level "kektor_cpu_level"() noexcept nogil
    float key_to_float "kektor_distance"(uint32_t key) noexcept nogil
    const char* COMPILER "KEKTOR_COMPILER"

cdef const Kernels* chosen = NULL
compiler = COMPILER.decode()


cdef const Kernels* active_kernels() noexcept nogil:
    return chosen


cdef float distance_of_key(key_t key) noexcept nogil:
    return key_to_float(key)


def _choose():
    """Load the kernel module of the highest level at hand; ``KEKTORDB_ISA`` (v2, v3, v4) asks for a lower one."""
    global chosen
    wish = os.environ.get("KEKTORDB_ISA", "")
    if wish not in ("", "v2", "v3", "v4"):
        raise ImportError(f"KEKTORDB_ISA: expected v2, v3 or v4, got {wish!r}")
    highest = cpu_level()
    level = int(wish[1:]) if wish else highest
    if level > highest:
        raise ImportError(f"KEKTORDB_ISA: this CPU runs v{highest} at most, got {wish!r}")
    while True:
        try:
            module = import_module(f"kektordb._kern_v{level}")
        except ModuleNotFoundError:
            if level == 2:
                raise
            level -= 1
            continue
        # The capsule's table lives in the module, and sys.modules keeps that alive.
        chosen = <const Kernels*>PyCapsule_GetPointer(module.table(), b"kektordb.kernels")
        return f"v{level}"


isa = _choose()
