/* timed_wait.h - waits on a condition that no change of the machine's time shortens or lengthens.
 */
#ifndef PACELINE_BASE_TIMED_WAIT_H
#define PACELINE_BASE_TIMED_WAIT_H

#include <pthread.h>

/* A condition for timed_wait(), to be destroyed as any other. */
void timed_wait_init(pthread_cond_t *condition);
/* Under the lock, until the condition is signalled, ms milliseconds at most; or it wakes without a
 * reason. */
void timed_wait(pthread_cond_t *condition, pthread_mutex_t *lock, int ms);

#endif
