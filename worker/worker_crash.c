#include "worker/worker_crash.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_S 2 /* that whoever is to be told may take */

/* What a signal handler needs. */
static pthread_t crash_speaker;
static atomic_int crash_signal;

static void crash_on_signal(int signal_number)
{
    if (pthread_equal(pthread_self(), crash_speaker)) {
        signal(signal_number, SIG_DFL);
        raise(signal_number);
        return;
    }
    int none = 0;
    if (atomic_compare_exchange_strong(&crash_signal, &none, signal_number))
        alarm(MOST_S);
    for (;;) /* the thread cannot go on */
        pause();
}

void worker_crash_watch(void)
{
    crash_speaker = pthread_self();
    struct sigaction action = {.sa_handler = crash_on_signal, .sa_flags = SA_NODEFER};
    sigaction(SIGABRT, &action, NULL);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) /* they report these */
    const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigaction(faults[i], &action, NULL);
#endif
}

const char *worker_crash_name(void)
{
    const int signal_number = atomic_load(&crash_signal);
    return signal_number ? sigdescr_np(signal_number) : NULL;
}

void worker_crash_end(void)
{
    const int signal_number = atomic_load(&crash_signal);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    _exit(128 + signal_number);
}
