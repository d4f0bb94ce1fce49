/* deployment_parts.h - what the files of the deployment share; only they include this.
 *
 *   deployment.c         its states, from hashing to serving
 *   deployment_plan.c    workers as the planner wants them
 *   deployment_load.c    the Loads of a plan
 *   deployment_change.c  the next plan, made ready beside the one that serves: when a worker
 * joined, is to be drained, or observed times speak for it
 *   deployment_standby.c idle workers pack layers beforehand, and replace who is lost */
#ifndef PACELINE_COORDINATOR_DEPLOYMENT_PARTS_H
#define PACELINE_COORDINATOR_DEPLOYMENT_PARTS_H

#include "coordinator/deployment.h"

/* Begins, continues, completes or gives up a change. look: workers came, went, or are to go. */
int deployment_change_review(struct deployment *d, struct registry *r, struct pipeline *p,
                             bool look, enum deployment_event *ret_event, struct err *err);
/* There is no next plan any more; workers are not told, for a newer one follows. */
void deployment_change_forget(struct deployment *d, struct registry *r);

/* ---- the others ---- */

/* Those that a plan may use; ret_entries: room for all. with_unwanted: also those that are to be
 * drained, or are kept out. */
int deployment_candidates(const struct registry *r, bool with_unwanted,
                          struct worker_entry **ret_entries);
int deployment_make_plan(const struct deployment *d, struct worker_entry *const *entries, int n,
                         struct deployment_plan *ret_plan, struct err *err);
/* Says in the log, and to those who stand by, what the plan is. */
void deployment_tell_plan(const struct deployment *d, struct worker_entry *const *entries, int n,
                          const struct deployment_plan *plan);
/* By how much the plan is better than the one in service, as a share, by the planner's forecasts
 * for the objective. */
double deployment_gain(const struct deployment *d, const struct registry *r,
                       struct worker_entry *const *entries, int n,
                       const struct deployment_plan *plan);
/* What observed times say; false: nothing, or nothing yet. ret_plan: to go over to, its workers are
 * indices of entries. */
bool deployment_judge(struct deployment *d, const struct registry *r, const struct pipeline *p,
                      struct worker_entry *const *entries, int n, struct deployment_plan *ret_plan,
                      double *ret_gain);
/* Asks those who have no stage and were not asked yet. true: a plan had better wait. */
bool deployment_await_measures(const struct deployment *d, struct registry *r);
/* And those who stand by because they were slower than measured, some minutes later. */
void deployment_measure_again(const struct deployment *d, struct registry *r);
int deployment_send_loads(const struct deployment *d, struct registry *r, const struct pipeline *p,
                          const struct deployment_plan *plan, struct worker_entry *const *entries,
                          bool beside, struct err *err);
/* Of what w is asked to hold as a standby. */
int deployment_send_standby_load(const struct deployment *d, struct registry *r,
                                 const struct worker_entry *w, struct err *err);
/* Asks idle workers for what they are to hold; those that are not to hold anything let it go. */
int deployment_standby_review(struct deployment *d, struct registry *r, struct err *err);
/* The plan that broke, with standbys in the place of those that are gone, where that loads nothing
 * and `best` would. false: there is none. before: the plan that broke. */
bool deployment_standby_plan(const struct deployment *d, const struct deployment_plan *before,
                             struct worker_entry *const *entries, int n,
                             const struct deployment_plan *best, struct deployment_plan *ret_plan);
/* Out of service; the next review plans anew. loss: how it ended; NULL: nobody knows, and if it
 * happens again and again before anything comes back, what runs fails. */
void deployment_interrupt(struct deployment *d, struct registry *r, struct pipeline *p,
                          const struct deployment_loss *loss, enum deployment_event *ret_event);
/* All stages of d->plan are ready: into service. */
void deployment_begin(struct deployment *d, struct registry *r, struct pipeline *p,
                      enum deployment_event *ret_event);

#endif
