/* journal_file.h - the journal on disk: an SQLite database of calls that are under way or kept, and
 * of the tokens that they have so far. It knows neither threads nor HTTP; journal.h has the queue.
 *
 * A transaction is in the file once it is committed, so it outlives the process, however that ends;
 * after a power cut the last ones may be missing, the others are whole (WAL, synchronous=NORMAL).
 */
#ifndef PACELINE_COORDINATOR_JOURNAL_FILE_H
#define PACELINE_COORDINATOR_JOURNAL_FILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct journal_file;

enum { JOURNAL_ID_BYTES = 40 };

/* A call as it was accepted: enough to begin it anew with the same bits. All is borrowed. */
struct journal_call {
    const char *id, *path, *tenant, *request_id;
    const char *bits; /* whose tokens these are: weights, numerics, type of the KV cache */
    const void *body, *prompts;
    size_t body_length, prompts_length;
    int64_t seed, created_unix_s;
    int n_prompts, n_choices; /* n_choices: of each prompt */
    int n_restarts;           /* read: how often it was begun again since its last token */
    bool is_kept, is_background, with_records;
};

/* How it ended. outcome 0: it has not; the numbers are the caller's. */
struct journal_end {
    int outcome, n_cached, failure_code;
    const char *failure; /* a sentence, or "" */
    int64_t finished_unix_s;
};

enum journal_kind { JOURNAL_CALL, JOURNAL_TOKENS, JOURNAL_RESTARTS, JOURNAL_END, JOURNAL_REMOVE };

/* A change. Of the fields after id, those of its kind count. */
struct journal_note {
    struct journal_note *next;
    enum journal_kind kind;
    char id[JOURNAL_ID_BYTES];
    struct journal_call call; /* without id */
    struct journal_end end;
    int choice;       /* JOURNAL_TOKENS: over all prompts; */
    int64_t at;       /* byte of the choice's log */
    const void *data; /* [length] */
    size_t length;
    int n_restarts; /* JOURNAL_RESTARTS */
};

/* What journal_file_load() hands out: first the call, then its tokens in their order. */
struct journal_reader {
    void *context;
    int (*on_call)(void *context, const struct journal_call *call, const struct journal_end *end,
                   struct err *err);
    int (*on_tokens)(void *context, const char *id, int choice, int64_t at, const void *data,
                     size_t length, struct err *err);
};

/* Makes folder and file, for this user alone, when they are not there. ERR_IO: they cannot be
 * written, another process has the file, or it is none of ours. */
int journal_file_open(struct journal_file **ret_file, const char *path, struct err *err);
/* All calls, the oldest first. Nothing is written, so a full disk is no hindrance. Ends with the
 * first failure of a reader's function. */
int journal_file_load(struct journal_file *f, const struct journal_reader *reader, struct err *err);
/* All changes in one transaction, or none. */
int journal_file_write(struct journal_file *f, const struct journal_note *first, struct err *err);
void journal_file_close(struct journal_file *f); /* NULL is fine */

#endif
