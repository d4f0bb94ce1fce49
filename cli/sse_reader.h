/* sse_reader.h - server-sent events whose data is JSON, out of the bytes of an answer. */
#ifndef PACELINE_CLI_SSE_READER_H
#define PACELINE_CLI_SSE_READER_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/* Returns 0, or a negative code to end the answer. The event is borrowed. */
typedef int sse_reader_event(void *context, const json_t *event, struct err *err);

struct sse_reader {
    struct buf text; /* what came, up to the next line's end */
    sse_reader_event *on_event;
    void *context;
    bool done; /* [DONE] came; what follows is passed over */
};

/* Any piece of an answer. An event that is an error object is a failure with its sentence. */
int sse_reader_push(struct sse_reader *r, const char *bytes, size_t length, struct err *err);
/* Ready for another answer; keeps the memory. */
void sse_reader_reset(struct sse_reader *r);
void sse_reader_clear(struct sse_reader *r);

#endif
