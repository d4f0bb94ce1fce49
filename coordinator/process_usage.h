/* process_usage.h - what this process takes of its machine. */
#ifndef PACELINE_COORDINATOR_PROCESS_USAGE_H
#define PACELINE_COORDINATOR_PROCESS_USAGE_H

#include <stdint.h>

struct process_usage {
    double cpu_s, started_s; /* since its start; when that was, Unix time */
    int64_t resident_bytes;  /* all 0 where /proc does not tell */
    int64_t open_files, most_files;
};

void process_usage_read(struct process_usage *ret_usage);

#endif
