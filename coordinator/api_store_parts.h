/* api_store_parts.h - what the files of the store share; only they include this.
 *
 *   api_store.c          the calls in memory: found, kept, forgotten
 *   api_store_runner.c   who runs them and who follows, and what a runner brings
 *   api_store_journal.c  their way to the journal and back */
#ifndef PACELINE_COORDINATOR_API_STORE_PARTS_H
#define PACELINE_COORDINATOR_API_STORE_PARTS_H

#include "coordinator/api_store.h"
#include "coordinator/journal.h"

enum { API_STORE_BUCKETS = 1024 };

struct api_store_list {
    struct api_stored *first, *last;
};

struct api_store {
    struct api_store_spec spec;
    struct journal *journal; /* NULL: off, or it could not be opened */
    struct err journal_failure;
    enum journal_state journal_state;
    struct api_store_list running, over, sent; /* the oldest first */
    struct api_stored *buckets[API_STORE_BUCKETS];
    struct api_call *woken;
    struct buf unwanted; /* ids in the journal that nobody can have, each with its NUL */
    size_t bytes;
    int n_to_begin; /* of an earlier process, that nobody runs yet */
    int64_t last_run_ms, begin_at_ms;
    uint64_t settled, newest_ticket;
    bool is_closed;
};

struct api_stored *api_store_new_call(int n_prompts, int n_choices);
void api_store_free_call(struct api_stored *d);
/* Into the list and the table; its bytes count from now on. */
void api_store_insert(struct api_store *s, struct api_stored *d);
const char *api_store_tenant(const struct api_store *s, int tenant);

void api_store_tell_followers(struct api_store *s, struct api_stored *d);
/* A client's connection has taken its stream to the end. What has not reached the client yet it can
 * ask for, for a minute; the journal forgets it at once. */
void api_store_sent(struct api_store *s, struct api_stored *d);
/* The call is not among those with news any more. */
void api_store_unwake(struct api_store *s, const struct api_call *c);
/* It is over: noted, told, and its runner freed if no connection has it. */
void api_store_finish(struct api_store *s, struct api_stored *d, enum api_outcome outcome,
                      const struct err *failure);
void api_store_free_runner(struct api_stored *d);
/* The runner's new tokens come into the logs. */
void api_store_log_all(struct api_store *s, struct api_stored *d);

/* Opens the journal and takes what is in it. */
void api_store_open_journal(struct api_store *s);
/* Tells the journal of the call, if it does not know it, and of its new tokens. */
void api_store_note(struct api_store *s, struct api_stored *d);
/* It has been begun again: what ends the coordinator next may be its doing. */
void api_store_note_restart(struct api_store *s, struct api_stored *d);
void api_store_note_end(struct api_store *s, struct api_stored *d);
void api_store_note_removal(struct api_store *s, struct api_stored *d);
/* Logs what has become of the journal. */
void api_store_watch_journal(struct api_store *s);

#endif
