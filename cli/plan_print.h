/* plan_print.h - a plan for people, as a picture and in figures. */
#ifndef PACELINE_CLI_PLAN_PRINT_H
#define PACELINE_CLI_PLAN_PRINT_H

#include "coordinator/plan_report.h"

/* width: columns of the terminal. is_utf8: it shows block characters. */
void plan_print(const struct plan_report *r, int width, bool is_utf8);

#endif
