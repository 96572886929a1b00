"""How many threads can a loop run on? So many as there can be now, and at least the one that asks.

OpenMP ends the process when it cannot start a thread: because of a limit of threads, or because there is no address
space left for their stacks. So before a loop wants more threads than the calling thread's last one, which wait for the
next loop, as many are started here, all at once, and let go.
"""

cdef extern from *:
    """
    #if defined(_OPENMP)
    #define KEKTOR_OPENMP _OPENMP
    #else
    #define KEKTOR_OPENMP 0
    #endif
    #if defined(_OPENMP) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 9
    #include <omp.h>
    #define KEKTOR_END_TEAM() ((void)omp_pause_resource_all(omp_pause_hard))
    #else
    #define KEKTOR_END_TEAM() ((void)0)
    #endif
    #if defined(_OPENMP) && !defined(_WIN32)
    #include <pthread.h>
    #include <stdlib.h>
    /* Of the calling thread: how many its last loop had. */
    static __thread int kektor_last = 1;
    static void *kektor_wait(void *mutex)
    {
        pthread_mutex_lock(mutex);
        pthread_mutex_unlock(mutex);
        return NULL;
    }
    static int kektor_team(int wanted)
    {
        int i, more = wanted - kektor_last, started = 0;
        pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
        pthread_t *threads = more > 0 ? malloc(more * sizeof(pthread_t)) : NULL;
        if (threads != NULL) {
            pthread_mutex_lock(&mutex);
            while (started < more && pthread_create(&threads[started], NULL, kektor_wait, &mutex) == 0)
                started++;
            pthread_mutex_unlock(&mutex);
            for (i = 0; i < started; i++)
                pthread_join(threads[i], NULL);
            free(threads);
        }
        kektor_last = more > 0 ? kektor_last + started : wanted;
        return kektor_last;
    }
    static void kektor_forget(void)
    {
        kektor_last = 1;
    }
    #else
    #define kektor_team(wanted) (wanted)
    #define kektor_forget() ((void)0)
    #endif
    """
    const int OPENMP "KEKTOR_OPENMP"
    void end_team "KEKTOR_END_TEAM"() noexcept nogil
    int start_team "kektor_team"(int) noexcept nogil
    void forget_team "kektor_forget"() noexcept nogil

openmp = OPENMP != 0


cdef int team(int n_threads) noexcept nogil:
    """Return how many threads a loop of the calling thread, the next one, can have: 1 to `n_threads`."""
    return start_team(n_threads)


def end_waiting_threads():
    """End the threads that loops of the calling thread left waiting for the next one; the next one makes new ones.

    GNU's libgomp believes in a forked child that they are there, and waits for them. Others see to a fork themselves.
    """
    with nogil:
        forget_team()
        end_team()
