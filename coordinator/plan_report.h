/* plan_report.h - all that there is to say about a question: the plan, and what would help. */
#ifndef PACELINE_COORDINATOR_PLAN_REPORT_H
#define PACELINE_COORDINATOR_PLAN_REPORT_H

#include "coordinator/plan_question.h"

#include <jansson.h>

struct plan_report {
    const char *model, *mix; /* borrowed; the mix of a file is "file" */
    bool is_file;
    struct plan_question question;
    struct plan_answer answer;
    struct plan_help helps[PLAN_HELPS]; /* where it fits */
    int n_helps;
    struct plan_remedies remedies; /* where it does not */
};

/* What is asked stands in it already; all the rest is found. */
int plan_report_fill(struct plan_report *r, struct err *err);
/* NULL: there is no memory. */
json_t *plan_report_json(const struct plan_report *r);

#endif
