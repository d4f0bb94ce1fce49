/* worker_crash.h - a fault in a thread that computes or loads ends the process; before it does, the
 * control thread gets to say so, and in which step it came: so the coordinator knows which requests
 * may be the cause. A fault of the control thread itself ends the process at once. */
#ifndef PACELINE_WORKER_WORKER_CRASH_H
#define PACELINE_WORKER_WORKER_CRASH_H

#include <stdbool.h>

/* From now on the calling thread is the one that is to ask. */
void worker_crash_watch(void);
/* The fault's name, or NULL while there is none. Whoever gets it has two seconds. */
const char *worker_crash_name(void);
/* Ends the process by the signal of its fault, with a core where cores are kept. */
_Noreturn void worker_crash_end(void);

#endif
