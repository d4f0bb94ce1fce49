/* trace_file.h - the steps of a pipeline as a trace that Perfetto and Chrome show: one process for
 * each worker, one slice for each step, arrows that join a step's slices. */
#ifndef PACELINE_CLI_TRACE_FILE_H
#define PACELINE_CLI_TRACE_FILE_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

struct trace_file;

int trace_file_new(struct trace_file **ret_trace, struct err *err);
void trace_file_free(struct trace_file *t); /* NULL is fine */
/* Adds an answer of GET /cluster/trace; the first one begins the time that is looked at, the last
 * one ends it. */
int trace_file_take(struct trace_file *t, const json_t *answer, struct err *err);
size_t trace_file_steps(const struct trace_file *t);
/* The trace, events by time, a stage's slices one after the other. Whether all was written is for
 * the caller to ask the stream. */
int trace_file_write(struct trace_file *t, FILE *out, struct err *err);
/* For each stage what it did of that time, for people. After trace_file_write(). */
void trace_file_report(const struct trace_file *t, FILE *out);

#endif
