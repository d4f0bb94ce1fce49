/* owner.h - whether somebody uses this machine: what the others compute, what logind says, and what
 * a command of the administrator's says. */
#ifndef PACELINE_WORKER_OWNER_H
#define PACELINE_WORKER_OWNER_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum owner_word { OWNER_UNKNOWN, OWNER_IS_THERE, OWNER_IS_AWAY };

struct owner_sample {
    double others_load; /* share of all processors that other programs used since the last sample */
    enum owner_word session; /* logind's IdleHint; unknown where there is no logind */
    enum owner_word probe;   /* the command's exit code: 0 is away; unknown without a command */
};

struct owner;

/* probe: run by /bin/sh for each sample, or NULL; borrowed. */
int owner_open(struct owner **ret_owner, const char *probe, struct err *err);
void owner_close(struct owner *o); /* NULL is fine */
/* Takes as long as the command does, a second at most. */
void owner_look(struct owner *o, struct owner_sample *ret_sample);

#endif
