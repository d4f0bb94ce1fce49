/* trace_context.h - W3C's traceparent: which larger trace a call is a part of, for whoever
 * collects traces of several programs. */
#ifndef PACELINE_COORDINATOR_TRACE_CONTEXT_H
#define PACELINE_COORDINATOR_TRACE_CONTEXT_H

#include <stdbool.h>

struct trace_context {
    char trace_id[33];  /* 32 small hexadecimal digits; "": the call is part of no trace */
    char parent_id[17]; /* the caller's span */
    char span_id[17];   /* ours, drawn */
    char flags[3];      /* as they came */
};

/* header: a traceparent's value, or NULL. false: none, or one that cannot be; *ret_trace is empty
 * then. */
bool trace_context_read(struct trace_context *ret_trace, const char *header);

#endif
