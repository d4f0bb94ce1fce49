/* api_store.h - calls that may outlive their connection: streams that a client can go on with after
 * it, or the coordinator, was gone, and responses that are kept. All of them are in memory, each
 * with its body, the ids of its prompts and the tokens so far (token_log.h), which is enough to
 * compute the rest, or to tell the whole answer again. What is in memory is written to a journal,
 * and comes from it at start.
 *
 * A stored call is run by an api_call that no connection has. Those of connections follow it, each
 * as if it were asked alone: with copies of the requests, which are given the tokens as they come
 * (api_replay.h). */
#ifndef PACELINE_COORDINATOR_API_STORE_H
#define PACELINE_COORDINATOR_API_STORE_H

#include "coordinator/api.h"
#include "coordinator/api_call.h"

struct api_store;

struct api_store_spec {
    const char *journal;             /* a file; NULL: nothing outlives the process */
    int64_t keep_s;                  /* how long what is finished is kept; 0: for ever */
    int64_t most_bytes;              /* of what is kept, in memory and about as much on disk */
    const char *kv_type;             /* with the model's fingerprint: whose bits the tokens are */
    const char *const *tenant_names; /* [n_tenants]; NULL: one, called "default" */
    int n_tenants;
};

enum api_outcome { API_RUNS, API_DONE, API_FAILED, API_CANCELLED };

struct api_stored_prompt {
    uint32_t *ids;
    int n;
};

struct api_stored_choice {
    struct buf log; /* token_log.h */
    int n_tokens;
    size_t n_noted; /* bytes of it that the journal has been told */
};

struct api_stored {
    char id[40];
    const struct api_route *route;
    int tenant;
    char request_id[129], bits[64];
    char *body;
    size_t body_length;
    int64_t seed, created_unix_s, finished_unix_s;
    int64_t sent_unix_s;               /* its stream, to the end; 0: not yet */
    bool is_kept;                      /* its answer stays when it has been delivered */
    bool is_background;                /* it goes on without a client */
    bool with_records;                 /* its logs hold log-probabilities */
    int n_prompts, n_choices;          /* n_choices: of each prompt */
    struct api_stored_prompt *prompts; /* [n_prompts] */
    struct api_stored_choice *choices; /* [n_prompts * n_choices] */
    enum api_outcome outcome;
    struct err failure; /* when it failed or was cancelled: in words */
    int n_cached;       /* prompt tokens that were found in the prefix cache */
    int64_t scheduled_us, first_token_us, finished_us; /* of clock_now_us(), in this process */

    struct api_call *runner; /* owned; NULL: it is over, or has to be begun again */
    struct api_call *followers;
    int n_restarts;  /* how often it was begun again since its last token */
    bool is_noted;   /* the journal has it */
    bool is_removed; /* nobody finds it any more; it is freed when nobody needs it */
    size_t bytes;
    struct api_stored *next, *previous; /* of the list that it is in */
    struct api_stored *next_of_hash;
};

/* A journal that cannot be opened is told in the log; the store works without it. */
int api_store_new(struct api_store **ret_store, const struct api_store_spec *spec, struct err *err);
/* Writes down what runs, so that it is finished after the next start: its connections end in the
 * midst. Nothing is stored any more. */
void api_store_close(struct api_store *s);
/* Whose bits the tokens of a new call are: the model's fingerprint and the type of the KV cache. */
void api_store_bits(const struct api *api, char to[64]);
/* After all calls are gone. NULL is fine. */
void api_store_free(struct api_store *s);
/* A descriptor: readable = call api_store_run(); -1: there is none. */
int api_store_fd(const struct api_store *s);
/* Notes new tokens, begins calls of an earlier process anew once the model serves, forgets what was
 * kept long enough. true: answers that api_store_holds() need not wait any longer. */
bool api_store_run(struct api_store *s, struct api *api);

/* The call's requests are submitted, by a call of nobody's; c follows it from now on, and carries
 * it. ERR_UNAVAILABLE: the store is closed; else as coordinator_submit(). */
int api_store_begin(struct api_call *c, bool is_kept, bool is_background, struct err *err);
/* NULL: there is none, or it is another tenant's. */
struct api_stored *api_store_find(const struct api_store *s, const char *id, int tenant);
/* The runner has news: followers get them. With the last ones it is freed. */
void api_store_news(struct api_call *c);
/* Takes the runner, malloc'd. */
void api_store_own(struct api_stored *d, struct api_call *runner);
void api_store_follow(struct api_stored *d, struct api_call *c);
/* The call is about to end. When a client that carries a call leaves, it is cancelled. */
void api_store_leave(struct api_call *c);
/* Ends it, if it runs: what it has said stays if it is kept. */
void api_store_cancel(struct api_store *s, struct api_stored *d);
void api_store_remove(struct api_store *s, struct api_stored *d);

/* The call is not answered before all that was noted is in the journal. */
void api_store_await(struct api_call *c);
/* The call must not be answered yet. */
bool api_store_holds(const struct api_call *c);
/* The next call that got something to say by another's news, or NULL. */
struct api_call *api_store_take_woken(struct api_store *s);
/* "off", "on", "waiting" or "lost", and why (or ""). */
const char *api_store_journal_state(const struct api_store *s, const char **ret_why);

#endif
