/* reply.h - what a chat model writes, taken apart while it comes: reasoning, content, tool calls.
 * Whatever cannot be a call is content; nothing is lost but tags, and line breaks around them. */
#ifndef PACELINE_COORDINATOR_REPLY_H
#define PACELINE_COORDINATOR_REPLY_H

#include "coordinator/tool_calls.h"

#include <stdbool.h>
#include <stddef.h>

#define REPLY_THINK_BEGIN "<think>"
#define REPLY_THINK_END   "</think>"

struct reply_rules {
    bool thinks;             /* "<think>…</think>" at the beginning is reasoning */
    bool is_thinking;        /* and the prompt ends with "<think>" already, */
    bool has_thought;        /* or with "</think>": that part is over */
    enum tool_format format; /* TOOL_FORMAT_NONE: no calls are looked for */
    const json_t *tools;     /* borrowed; see tool_calls_parse() */
    bool is_single;          /* whatever follows the first call is dropped */
};

enum reply_state {
    REPLY_BEGINS,
    REPLY_REASONS,
    REPLY_HAS_REASONED, /* line breaks before the answer */
    REPLY_TALKS,
    REPLY_CALLS,
    REPLY_HAS_CALLED /* white space, and then perhaps the next call */
};

struct reply {
    struct reply_rules rules;
    enum reply_state state;
    struct buf held; /* text that has come, but cannot be told yet */
    size_t scanned;  /* bytes of held that the end of the call is not in */
    bool in_string, is_escaped;

    /* What the caller takes: resets the buffers, counts the calls. */
    struct buf reasoning, content;
    struct tool_call *calls; /* [n_calls], owned */
    size_t n_calls;
    bool has_reasoning; /* there is such a part, though it may be empty */
    bool has_reasoned;  /* and something of it has been told */
    bool has_failed;    /* no memory: text was lost */
};

/* Whether a chat template knows of reasoning. */
bool reply_thinks(const char *source, size_t length);
void reply_init(struct reply *r, const struct reply_rules *rules);
void reply_clear(struct reply *r);
void reply_push(struct reply *r, const char *text, size_t length);
/* Nothing more comes: what was held back is told from what is there. */
void reply_finish(struct reply *r);
bool reply_failed(const struct reply *r);

#endif
