/* child.h - a program that runs as long as we do. Its standard error goes to a log file, or to
 * ours; it has a process group of its own, so that Ctrl-C reaches only us, and the kernel kills it
 * when we die, however that happens. */
#ifndef PACELINE_CLI_CHILD_H
#define PACELINE_CLI_CHILD_H

#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>

struct child {
    char name[32]; /* "coordinator", "worker-1" */
    char *log;     /* file, or NULL: our standard error */
    pid_t pid;     /* 0: not running */
    int status;    /* of waitpid, once it has ended */
    bool ended;
};

/* arguments: NULL-terminated, [0] is the program's path. log: copied; may be NULL. */
int child_start(struct child *c, const char *name, const char *const *arguments, const char *log,
                struct err *err);
/* false: it runs. Otherwise it has ended and c->status says how. */
bool child_has_ended(struct child *c);
/* Says how it ended, with the last line of its log; returns the code that gives its exit code. */
int child_report(const struct child *c, struct err *err);
/* SIGTERM to all, SIGKILL to those that are left after grace_ms, or when a stop signal is repeated;
 * all are gone afterwards. */
void child_stop_all(struct child *children, int n, int grace_ms);
void child_clear(struct child *c);

#endif
