/* api_generation.h - a call that waits for the model: its requests, one for each prompt, and the
 * answer that grows from them, whole or as server-sent events. How the kinds of endpoints
 * write it is in their `struct api_generation_format`. */
#ifndef PACELINE_COORDINATOR_API_GENERATION_H
#define PACELINE_COORDINATOR_API_GENERATION_H

#include "coordinator/api_call.h"
#include "coordinator/api_params.h"
#include "coordinator/reply.h"
#include "coordinator/request.h"

/* Something of one choice of one prompt, as it is about to be written. In a stream: new reasoning,
 * or new text, or one call, or its end; in a whole answer: all of it. */
struct api_generation_piece {
    struct api_call *call;
    const struct request *request;
    const struct choice *choice;
    int index;     /* over all prompts and choices */
    bool is_first; /* nothing of this choice was written before */
    const char *text;
    size_t text_length;
    const char *reasoning; /* NULL: none */
    size_t reasoning_length;
    const struct tool_call *calls;      /* [n_calls] */
    size_t n_calls, first_call;         /* and the number of the first among the choice's */
    const struct token_record *records; /* the new ones, or all */
    size_t n_records;
    const struct request *scored; /* the prompt's scores, which come first; or NULL */
    size_t text_offset;           /* characters of this choice before the records */
    const char *finish;           /* "stop", "length", "tool_calls"; NULL while it goes on */
    bool is_last;                 /* of the whole answer */
};

struct api_chunks_form;
struct api_embed_task;

struct api_generation_format {
    const char *id_prefix;                /* "chatcmpl-" */
    const struct api_chunks_form *chunks; /* of OpenAI's answers, see api_chunks.h; or NULL */
    bool chunk_before_text; /* the stream begins with a piece that has nothing (the role) */
    /* Everything is done: the call is to be answered. */
    void (*answer)(struct api_call *c);
    /* A stream: a piece, the end, and a failure instead of it. */
    void (*write)(const struct api_generation_piece *piece);
    void (*end)(struct api_call *c);
    void (*fail)(struct api_call *c, const struct err *failure);
};

enum { API_GENERATION_CHOICES = 64 }; /* most choices of one call, over all prompts */

/* The server leaves the model's output where it is while this much waits for a slow reader. */
enum { API_GENERATION_PENDING = 256 * 1024 };

struct api_responses_item;

/* What /v1/responses has beside the rest. */
struct api_response {
    json_t *question;                 /* the body as it came, owned */
    struct api_responses_item *items; /* [n_items] of the output, owned; api_responses_object.h */
    size_t n_items;
    size_t n_records_read;
    /* As a stream: number of the next event, and of the last that was had; items that were told
     * to their end, and whether the next one has been begun. */
    int64_t sequence, had_sequence;
    size_t n_closed;
    bool is_open;
};

/* A call that wants states of texts: see api_embed.h. */
struct api_texts {
    const struct api_embed_task *task;
    size_t n, n_told;
    int n_unsound; /* states that are no vectors */
};

struct api_generation {
    const struct api_generation_format *format; /* NULL: a probe */
    void (*news)(struct api_call *c);
    struct api_params params;
    struct request **requests; /* [n_requests], owned; the first n_scores only score the prompts */
    size_t n_requests, n_scores; /* of the others, one each, or there are none */
    char id[40];
    int64_t created_unix_s;
    struct buf head;       /* the format's own: what every chunk begins with */
    struct reply *replies; /* [choices of the one request]; NULL: the text is not taken apart */
    int n_replies;
    const char *open_block; /* Anthropic's format: the type of the block that grows, or NULL */
    int n_blocks;
    struct api_texts texts;
    bool wants_logprobs;
    bool is_echo; /* text completions: the prompt is part of the text */
    struct api_response response;
    bool has_begun[API_GENERATION_CHOICES];
    size_t text_offsets[API_GENERATION_CHOICES];
    size_t n_calls_taken[API_GENERATION_CHOICES];
    /* A call that follows a stored one: pieces of each choice that were told, those that its client
     * has had before, and bytes of the stored log that have been read. */
    uint32_t n_told[API_GENERATION_CHOICES], n_had[API_GENERATION_CHOICES];
    size_t log_at[API_GENERATION_CHOICES];
};

/* Takes params when it succeeds. format NULL: news is called instead. */
int api_generation_new(struct api_call *c, const struct api_generation_format *format,
                       struct api_params *params, struct err *err);
/* Takes the request. */
int api_generation_add(struct api_call *c, struct request *r, struct err *err);
/* The same with one that is prepared. */
int api_generation_take(struct api_call *c, struct request *r, struct err *err);
/* The prompts of all requests will be scored, too. */
int api_generation_score_prompts(struct api_call *c, struct err *err);
/* The text of the one request is taken apart by these rules, behind what the prompt has of it. */
int api_generation_read_replies(struct api_generation *g, const struct reply_rules *rules,
                                const struct buf *begin, struct err *err);
/* Submits them all, or none. A stream that can be gone on with is stored: another call runs it, and
 * this one follows (api_store.h). */
int api_generation_submit(struct api_call *c, struct err *err);
/* To the coordinator, from which their news come to this call. */
int api_generation_submit_all(struct api_call *c, struct err *err);
/* What the requests have more than was told goes to the client, as events. */
void api_generation_stream(struct api_call *c);
/* The end of every beginning: with err the call fails and nothing of it runs on; without, a stream
 * starts. */
void api_generation_began(struct api_call *c, const struct err *err);
void api_generation_news(struct api_call *c);
/* What is not done is cancelled. NULL is fine. */
void api_generation_free(struct api_generation *g);
bool api_generation_is_done(const struct api_generation *g);
/* The first request that failed, or NULL. */
const struct err *api_generation_failure(const struct api_generation *g);
/* All of a choice, once everything is done; false: no memory. */
bool api_generation_whole(struct api_call *c, size_t prompt, struct choice *choice,
                          struct api_generation_piece *ret_piece);

#endif
