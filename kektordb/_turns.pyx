"""How do threads that search go back to Python one after the other, without being put to sleep for it?

A search takes 30 µs, and then a few of the GIL. Who finds the GIL taken sleeps, and is woken long after it was given
back: 100 µs were measured on a virtual machine, for one search in ten, which cost two threads a fifth of their time.
So a thread tells when it leaves Python to search and when it is back, and who wants to go back waits for that a few
microseconds awake. All this is a hint: threads that do something else with the GIL are not seen, and after the wait the
GIL is asked for as always.
"""

import os

cdef extern from *:
    """
    #if defined(Py_GIL_DISABLED)
    #define kektor_turn_taken() 1
    #define kektor_turn_given() ((void)0)
    #define kektor_pause() ((void)0)
    #else
    static unsigned char kektor_turn = 0;   /* 1: a thread that searched is back in Python */
    #if defined(__GNUC__) || defined(__clang__)
    #define kektor_turn_taken() \\
        (!__atomic_load_n(&kektor_turn, __ATOMIC_RELAXED) && !__atomic_exchange_n(&kektor_turn, 1, __ATOMIC_ACQUIRE))
    #define kektor_turn_given() __atomic_store_n(&kektor_turn, 0, __ATOMIC_RELEASE)
    #else
    #include <intrin.h>
    #define kektor_turn_taken() (!_InterlockedExchange8((char*)&kektor_turn, 1))
    #define kektor_turn_given() ((void)_InterlockedExchange8((char*)&kektor_turn, 0))
    #endif
    #if defined(__x86_64__) || defined(__i386__)
    #define kektor_pause() __builtin_ia32_pause()
    #elif defined(__aarch64__) && defined(__GNUC__)
    #define kektor_pause() __asm__ __volatile__("isb")
    #else
    #define kektor_pause() ((void)0)
    #endif
    #endif
    """
    bint turn_taken "kektor_turn_taken"() noexcept nogil
    void turn_given "kektor_turn_given"() noexcept nogil
    void pause "kektor_pause"() noexcept nogil

# About 4 µs; a thread that was put to sleep takes longer to come back. With one core nobody else can get on meanwhile.
cdef int SPINS = 300 if (os.cpu_count() or 1) > 1 else 0


cdef void leave() noexcept:
    """Let another thread take its turn: call it before giving the GIL away."""
    turn_given()


cdef void wait_turn() noexcept nogil:
    """Wait for a turn, not for long: call it before asking for the GIL again."""
    cdef int _i
    for _i in range(SPINS):
        if turn_taken():
            return
        pause()
