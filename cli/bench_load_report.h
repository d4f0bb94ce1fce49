/* bench_load_report.h - what is printed of a load: rates and latencies, as text or as JSON. */
#ifndef PACELINE_CLI_BENCH_LOAD_REPORT_H
#define PACELINE_CLI_BENCH_LOAD_REPORT_H

#include "cli/bench_load.h"

/* Sorts the samples. */
int bench_load_report_print(const struct bench_load_plan *p, struct bench_load_result *r,
                            bool is_json, struct err *err);

#endif
