/* plan_desk.h - plans are made by a thread of their own, one after the other: some take a second,
 * and the event loop has answers to stream. */
#ifndef PACELINE_COORDINATOR_PLAN_DESK_H
#define PACELINE_COORDINATOR_PLAN_DESK_H

#include "coordinator/plan_report.h"

struct plan_desk;

struct plan_job {
    struct model_shape shape;  /* of the model that is asked about; owned */
    struct plan_report report; /* the question is in it when the job is handed over */
    json_t *words;             /* owned; what the report's names are borrowed from */
    int rc;                    /* of plan_report_fill(), with err */
    struct err err;
    void *owner; /* who asks; NULL: gone */
    struct plan_job *next;
};

struct plan_job *plan_job_new(void); /* NULL: there is no memory */
void plan_job_free(struct plan_job *j);

/* The thread starts with the first question. */
int plan_desk_open(struct plan_desk **ret_desk, struct err *err);
/* Waits for the plan that is being made; the others are dropped. NULL is fine. */
void plan_desk_close(struct plan_desk *d);
/* Takes the job over. ERR_LIMIT: too many wait already; ERR_MEMORY: there is no thread for it; then
 * the job stays the caller's. */
int plan_desk_add(struct plan_desk *d, struct plan_job *j, struct err *err);
/* A job that is done, the caller's from now on, or NULL. */
struct plan_job *plan_desk_take(struct plan_desk *d);
/* Nobody waits for the owner's job any more. */
void plan_desk_forget(struct plan_desk *d, const void *owner);
int plan_desk_fd(const struct plan_desk *d); /* readable: there is something to take */

#endif
