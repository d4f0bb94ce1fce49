/* api_plan.h - /cluster/plan: what machines would do with a model, whether there are any or not.
 * GET tells what may be asked for, POST answers as "paceline plan --json" does. */
#ifndef PACELINE_COORDINATOR_API_PLAN_H
#define PACELINE_COORDINATOR_API_PLAN_H

#include "coordinator/api_call.h"

void api_plan_choices(struct api_call *c);
/* The call waits for api_plan_take(). */
void api_plan(struct api_call *c);
/* A call that has got its answer, or NULL. */
struct api_call *api_plan_take(struct api *api);
/* It does not wait any more, if it did. */
void api_plan_leave(struct api_call *c);

#endif
