#include "cli/stop_signal.h"

#include <signal.h>

/* What a signal handler can reach is global by nature. */
static volatile sig_atomic_t stop_signal_interrupted, stop_signal_terminated;

static void stop_signal_handle(int number)
{
    if (number == SIGINT)
        stop_signal_interrupted++;
    else if (number == SIGTERM)
        stop_signal_terminated++;
    else if (!stop_signal_terminated) /* a terminal that closes may say so twice */
        stop_signal_terminated = 1;
}

void stop_signal_install(void)
{
    struct sigaction action = {.sa_handler = stop_signal_handle};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

bool stop_signal_is_raised(void)
{
    return stop_signal_interrupted || stop_signal_terminated;
}

bool stop_signal_is_repeated(void)
{
    return stop_signal_interrupted > 1 || stop_signal_terminated > 1;
}

void stop_signal_forget(void)
{
    stop_signal_interrupted = 0;
}
