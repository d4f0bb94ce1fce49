/* plan_report.h - a plan for people, as a picture, and for programs, as JSON. */
#ifndef PACELINE_CLI_PLAN_REPORT_H
#define PACELINE_CLI_PLAN_REPORT_H

#include "cli/plan_question.h"

struct plan_report {
    const char *model, *mix;
    const struct plan_question *question;
    const struct plan_answer *answer;
    const struct plan_help *helps; /* where it fits */
    int n_helps;
    const struct plan_remedies *remedies; /* where it does not */
};

/* width: columns of the terminal. is_utf8: it shows block characters. */
void plan_report_print(const struct plan_report *r, int width, bool is_utf8);
int plan_report_print_json(const struct plan_report *r, struct err *err);

#endif
