/* stop_strings.h - ends a text at the first stop string, holding back what may become one. */
#ifndef PACELINE_COORDINATOR_STOP_STRINGS_H
#define PACELINE_COORDINATOR_STOP_STRINGS_H

#include "base/buf.h"

struct stop_strings {
    size_t n;
    const char *const *strings; /* borrowed; none empty */
    struct buf held;            /* text that may be the beginning of one */
    int matched;                /* index, or -1 */
};

void stop_strings_init(struct stop_strings *s, const char *const *strings, size_t n);
void stop_strings_clear(struct stop_strings *s);
/* Appends to out what can be shown; true once a stop string is complete (its text is not shown). */
bool stop_strings_push(struct stop_strings *s, const char *text, size_t length, struct buf *out);
/* The generation ended otherwise: what was held back is text. */
void stop_strings_finish(struct stop_strings *s, struct buf *out);

#endif
