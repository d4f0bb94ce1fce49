/* duty.h - when a worker takes part: always, within hours, or only while the machine's owner is
 * away. A thread looks a few times a second. */
#ifndef PACELINE_WORKER_DUTY_H
#define PACELINE_WORKER_DUTY_H

#include "base/err.h"
#include "worker/hours.h"
#include "worker/owner.h"

#include <stdbool.h>
#include <stdint.h>

struct duty_rules {
    bool only_idle;
    bool has_hours;
    struct hours hours;
    double idle_load;      /* share of the processors that others may use while it is idle */
    int64_t idle_after_ms; /* so long the owner must have been away */
    const char *probe;     /* or NULL; see owner_open() */
};

/* ---- the judgement, a pure function of what was seen ---- */

struct duty_state {
    bool is_on, has_judged;
    int64_t there_ms;      /* when the owner was last seen */
    int64_t busy_since_ms; /* since when others compute more than they may; 0: they do not */
    char why[96];
};

/* day: 0 is Monday; minute of that day. sample: unread without only_idle. */
bool duty_judge(struct duty_state *s, const struct duty_rules *rules,
                const struct owner_sample *sample, int day, int minute, int64_t now_ms);

/* ---- the thread ---- */

struct duty;

/* rules: copied, the probe is borrowed. */
int duty_start(struct duty **ret_duty, const struct duty_rules *rules, struct err *err);
void duty_stop(struct duty *d); /* NULL is fine */
/* NULL: always. why (may be NULL): a sentence on the last change. */
bool duty_is_on(struct duty *d, char why[96]);

#endif
