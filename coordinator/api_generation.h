/* api_generation.h - a call that waits for the model: its requests, one for each prompt, and the
 * answer that grows from them, whole or as server-sent events. What chat and text completions
 * write differently is in their `struct api_generation_format`. */
#ifndef PACELINE_COORDINATOR_API_GENERATION_H
#define PACELINE_COORDINATOR_API_GENERATION_H

#include "coordinator/api_call.h"
#include "coordinator/api_params.h"
#include "coordinator/request.h"

/* One choice of one prompt, as it is about to be written. */
struct api_generation_piece {
    struct api_call *call;
    const struct request *request;
    const struct choice *choice;
    int index;        /* over all prompts and choices */
    bool is_first;    /* nothing of this choice was written before */
    const char *text; /* new text, or all of it */
    size_t text_length;
    const struct token_record *records; /* the new ones, or all */
    size_t n_records;
    size_t text_offset; /* characters of this choice before the records */
    const char *finish; /* "stop", "length"; NULL while it goes on */
};

struct api_generation_format {
    const char *id_prefix; /* "chatcmpl-" */
    const char *object, *chunk_object;
    bool chunk_before_text; /* the stream begins with a chunk that has no text (the role) */
    /* The choice object, whole or as a chunk's. */
    json_t *(*choice)(const struct api_generation_piece *piece);
    /* The same for the chunk of a plain piece of text, without jansson. */
    void (*text_chunk)(const struct api_generation_piece *piece, struct buf *out);
};

enum { API_GENERATION_CHOICES = 64 }; /* most choices of one call, over all prompts */

/* The server leaves the model's output where it is while this much waits for a slow reader. */
enum { API_GENERATION_PENDING = 256 * 1024 };

struct api_generation {
    const struct api_generation_format *format; /* NULL: a probe */
    void (*news)(struct api_call *c);
    struct api_params params;
    struct request **requests; /* [n_requests], owned */
    size_t n_requests;
    char id[40];
    int64_t created_unix_s;
    struct buf head; /* what every chunk begins with */
    bool wants_logprobs;
    bool is_echo; /* text completions: the prompt is part of the text */
    bool has_begun[API_GENERATION_CHOICES];
    size_t text_offsets[API_GENERATION_CHOICES];
};

/* Takes params when it succeeds. format NULL: news is called instead. */
int api_generation_new(struct api_call *c, const struct api_generation_format *format,
                       struct api_params *params, struct err *err);
/* Takes the request. */
int api_generation_add(struct api_call *c, struct request *r, struct err *err);
/* Submits them all, or none. */
int api_generation_submit(struct api_call *c, struct err *err);
/* The end of every beginning: with err the call fails and nothing of it runs on; without, a stream
 * starts. */
void api_generation_began(struct api_call *c, const struct err *err);
void api_generation_news(struct api_call *c);
/* What is not done is cancelled. NULL is fine. */
void api_generation_free(struct api_generation *g);
bool api_generation_is_done(const struct api_generation *g);
/* The first request that failed, or NULL. */
const struct err *api_generation_failure(const struct api_generation *g);

#endif
