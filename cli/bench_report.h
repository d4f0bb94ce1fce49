/* bench_report.h - what `paceline bench` prints: medians and spread, as text or as JSON. */
#ifndef PACELINE_CLI_BENCH_REPORT_H
#define PACELINE_CLI_BENCH_REPORT_H

#include "cli/bench_measure.h"

/* `model`: the file's path; only its name is printed. Asks the cluster which kernels ran. */
int bench_report_print(const struct bench_plan *p, const struct local_cluster *cluster,
                       const char *model, bool is_json, struct err *err);

#endif
