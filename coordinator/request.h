/* request.h - one generation, from its arrival to its last byte.
 *
 * The API fills it, the scheduler gives its choices slots and blocks, the pipeline brings tokens
 * back, the detokenizer makes text of them, the API takes the text. Fields stand in that order.
 * One thread, the coordinator's event loop, owns every request. */
#ifndef PACELINE_COORDINATOR_REQUEST_H
#define PACELINE_COORDINATOR_REQUEST_H

#include "base/buf.h"
#include "base/err.h"
#include "coordinator/choice_counts.h"
#include "coordinator/constraint.h"
#include "coordinator/detokenizer.h"
#include "coordinator/prefix_name.h"
#include "coordinator/stop_strings.h"
#include "proto/batch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum request_kind {
    REQUEST_GENERATE, /* tokens */
    REQUEST_SCORE,    /* log-probability of each prompt token after the first */
    REQUEST_LOGITS,   /* raw logits of every prompt position */
    REQUEST_EMBED     /* the hidden state after the final norm */
};

enum request_pooling {
    POOLING_LAST, /* of the last position */
    POOLING_MEAN  /* over all positions */
};

enum finish_reason { FINISH_NONE, FINISH_STOP, FINISH_LENGTH, FINISH_ERROR, FINISH_CANCELLED };

/* A token that came back, with what the client asked to know about it. */
struct token_record {
    uint32_t token;
    float logprob;
    uint32_t n_top;
    struct batch_token_logprob *top; /* owned; NULL when none */
};

struct request;

struct choice {
    struct request *request;
    int index;

    /* scheduler and pipeline */
    uint32_t *tokens; /* prompt, then generated; room for prompt + max_tokens */
    int n_tokens;
    int n_computed;   /* tokens handed to the pipeline: their K and V are, or will be, there */
    int slot;         /* sequence id on the workers, -1 while it waits */
    uint32_t *blocks; /* block table */
    int n_blocks;
    int n_blocks_told;              /* how many of them the workers know */
    int n_blocks_named;             /* how many of them have a name, or could not get one */
    struct prefix_name prefix;      /* of the last of those */
    struct prefix_name next_prefix; /* of the block after it, if n_blocks_next is its number + 1 */
    int n_blocks_next;
    uint32_t copy_from;          /* 1 + block whose content the newest one gets; 0: none */
    uint64_t age;                /* its number in the order of arrival */
    uint64_t step;               /* the last one that carries it */
    int64_t passed_since_us;     /* there is no room for it since then, and others may pass; or 0 */
    int n_before_step;           /* n_computed before that one */
    bool counts_told;            /* the workers know its token counts */
    struct choice_counts counts; /* of its tokens, when there are penalties */
    struct constraint_run *run;  /* where its text stands in what it must be, or NULL */
    struct buf mask;             /* of the tokens that can be next; then */
    int in_flight;               /* steps that carry it now */
    int64_t last_news_us;        /* when it arrived, or its last token came */
    bool is_replaying;           /* a new plan computes anew what it had */

    /* suspects.c's own */
    int n_proven;    /* tokens up to here were computed once, and came back */
    int lost_end;    /* tokens that were on their way in steps that a worker's
                        end has lost; 0: none were */
    int suspect_end; /* it is a suspect until so many are proven; 0: it is none */
    unsigned char n_seen, n_alone, n_ends; /* since then */

    /* wait_queue.c's own */
    int64_t wait_rank;   /* microseconds; the smaller one goes first */
    uint64_t wait_order; /* among equal ranks */
    struct choice *wait_child, *wait_next, *wait_previous;
    bool is_waiting;

    int64_t last_token_us; /* when the newest one came; 0: none has */

    /* detokenizer and stop strings */
    struct detokenizer detokenizer;
    struct stop_strings stops;

    /* what the API takes */
    struct buf text; /* shown text that it has not taken yet */
    struct token_record
        *records; /* [n_records], in order; kept when logprobs or token ids are wanted */
    size_t n_records, n_records_taken;
    enum finish_reason finish;
    bool finish_taken;
};

struct request {
    char id[40];          /* "chatcmpl-…", made by the API */
    char request_id[129]; /* the call's X-Request-Id, for the log */
    enum request_kind kind;
    enum request_pooling pooling; /* REQUEST_EMBED */
    int64_t created_unix_s;

    /* filled by the API */
    uint32_t *prompt; /* owned */
    int n_prompt;
    int max_tokens; /* to generate; the API has clipped it to the context */
    int n_choices;
    int tenant;          /* index, from the key; 0 without keys */
    int priority;        /* lower is earlier */
    bool cache_prompt;   /* the prompt may be found in the prefix cache, and be kept there */
    int64_t deadline_us; /* of clock_now_us(): past it the request fails; 0: none */
    struct batch_sampling
        sampling; /* bias owned; counts, forbidden, mask and choice are the scheduler's */
    bool ignore_eos;
    bool keep_records;             /* logprobs, or token ids, are wanted */
    struct constraint *constraint; /* what the text must be; held; NULL: anything */
    char **stop;                   /* owned */
    size_t n_stop;

    /* scheduler */
    struct choice *choices;          /* [n_choices] */
    int n_cached;                    /* prompt tokens that were found in the prefix cache */
    struct request *next, *previous; /* the coordinator's list */
    bool changed;                    /* it is in the list of those with news for the API */
    struct request *next_changed;

    /* REQUEST_SCORE: [n_prompt - 1], the likeliest ones in the records; REQUEST_LOGITS: rows not
     * yet taken, raw float32; REQUEST_EMBED: one row, the last one's or the sum */
    float *scores;
    int n_scored;
    struct buf rows;
    int n_rows;     /* that have come so far */
    int n_replayed; /* rows that came before a new plan: computed again, not asked again */

    /* for timings; microseconds of clock_now_us() */
    int64_t arrived_us, scheduled_us, first_token_us, finished_us;
    struct err failure; /* code != 0: the request failed, in words */
    bool is_done;       /* all choices have finished; it holds no slot and no block */

    void *owner; /* the API's own: who waits for it */
};

/* Room for the choices and their tokens, once prompt, max_tokens, n_choices, stops and constraint
 * are set. */
int request_prepare(struct request *r, const struct tokenizer *t, struct err *err);
/* Another request that asks the same, and is nobody's yet. */
int request_copy(struct request **ret_request, const struct request *of, const struct tokenizer *t,
                 struct err *err);
/* A token came back: text, records, stop strings, constraint, end of text, length. Sets finish.
 * When some of it was lost, for there was no memory, text is marked as failed, and so must the
 * request be, as when this fails: the token is not one that may come here. */
int request_accept_token(struct request *r, struct choice *c, const struct batch_result *result,
                         const struct tokenizer *t, struct err *err);
/* Before a choice's next token is asked for: which ones it may be. ERR_INPUT: it costs too much. */
int request_make_mask(struct choice *c, struct err *err);
/* The next token of the prompt was scored. */
void request_accept_score(struct request *r, struct choice *c, const struct batch_result *result);
/* A row of logits or a hidden state came: [n] float32, of any alignment. No memory: rows is marked
 * as failed. */
void request_accept_row(struct request *r, const void *values, size_t n);
/* Every row of the prompt brings something, so none may be left out. */
bool request_wants_every_row(const struct request *r);
void request_fail(struct request *r, const struct err *why);
void request_free(struct request *r); /* NULL is fine; must not be submitted any more */

#endif
