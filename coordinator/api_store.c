#include "coordinator/api_store.h"

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/api_generation.h"
#include "coordinator/api_replay.h"
#include "coordinator/api_store_parts.h"

#include <stdlib.h>
#include <string.h>

enum {
    API_STORE_RUN_MS = 250,
    API_STORE_RETRY_MS = 1000,
    API_STORE_RESTARTS = 3,
    API_STORE_SENT_S = 60,
};

/* ---- calls in lists ---- */

struct api_stored *api_store_new_call(int n_prompts, int n_choices)
{
    struct api_stored *d = calloc(1, sizeof *d);
    if (!d)
        return NULL;
    d->n_prompts = n_prompts;
    d->n_choices = n_choices;
    d->prompts = calloc((size_t)n_prompts, sizeof *d->prompts);
    d->choices = calloc((size_t)n_prompts * (size_t)n_choices, sizeof *d->choices);
    if (d->prompts && d->choices)
        return d;
    free(d->prompts);
    free(d->choices);
    free(d);
    return NULL;
}

void api_store_free_call(struct api_stored *d)
{
    for (int i = 0; i < d->n_prompts * d->n_choices; i++)
        buf_clear(&d->choices[i].log);
    for (int i = 0; i < d->n_prompts; i++)
        free(d->prompts[i].ids);
    free(d->prompts);
    free(d->choices);
    free(d->body);
    free(d);
}

static struct api_stored **api_store_bucket(const struct api_store *s, const char *id)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *id; id++)
        hash = (hash ^ (unsigned char)*id) * 16777619u;
    return (struct api_stored **)&s->buckets[hash % API_STORE_BUCKETS];
}

static struct api_store_list *api_store_list_of(struct api_store *s, const struct api_stored *d)
{
    return d->outcome == API_RUNS ? &s->running : d->sent_unix_s ? &s->sent : &s->over;
}

static void api_store_list(struct api_store *s, struct api_stored *d)
{
    struct api_store_list *l = api_store_list_of(s, d);
    d->next = NULL;
    d->previous = l->last;
    *(l->last ? &l->last->next : &l->first) = d;
    l->last = d;
}

static void api_store_unlist(struct api_store *s, struct api_stored *d)
{
    struct api_store_list *l = api_store_list_of(s, d);
    *(d->previous ? &d->previous->next : &l->first) = d->next;
    *(d->next ? &d->next->previous : &l->last) = d->previous;
    d->next = d->previous = NULL;
}

static size_t api_store_measure(const struct api_stored *d)
{
    size_t bytes = sizeof *d + d->body_length;
    for (int i = 0; i < d->n_prompts; i++)
        bytes += sizeof d->prompts[i] + (size_t)d->prompts[i].n * sizeof(uint32_t);
    for (int i = 0; i < d->n_prompts * d->n_choices; i++)
        bytes += sizeof d->choices[i] + d->choices[i].log.length;
    return bytes;
}

void api_store_insert(struct api_store *s, struct api_stored *d)
{
    struct api_stored **bucket = api_store_bucket(s, d->id);
    d->next_of_hash = *bucket;
    *bucket = d;
    api_store_list(s, d);
    d->bytes = api_store_measure(d);
    s->bytes += d->bytes;
}

struct api_stored *api_store_find(const struct api_store *s, const char *id, int tenant)
{
    struct api_stored *d = *api_store_bucket(s, id);
    while (d && strcmp(d->id, id) != 0)
        d = d->next_of_hash;
    return d && (tenant < 0 || d->tenant == tenant) ? d : NULL;
}

/* ---- who has news ---- */

static void api_store_wake(struct api_store *s, struct api_call *c)
{
    if (c->is_woken || !c->connection)
        return;
    c->is_woken = true;
    c->next_woken = s->woken;
    s->woken = c;
}

struct api_call *api_store_take_woken(struct api_store *s)
{
    struct api_call *c = s->woken;
    if (c) {
        s->woken = c->next_woken;
        c->is_woken = false;
    }
    return c;
}

void api_store_unwake(struct api_store *s, const struct api_call *c)
{
    struct api_call **at = &s->woken;
    while (*at && *at != c)
        at = &(*at)->next_woken;
    if (*at)
        *at = c->next_woken;
}

void api_store_tell_followers(struct api_store *s, struct api_stored *d)
{
    for (struct api_call *c = d->followers, *next; c; c = next) {
        next = c->next_follower;
        if (!c->generation || c->is_complete)
            continue;
        api_generation_news(c);
        api_store_wake(s, c);
    }
}

bool api_store_holds(const struct api_call *c)
{
    return c->ticket > c->api->store->settled;
}

/* ---- the end of calls ---- */

void api_store_free_runner(struct api_stored *d)
{
    struct api_call *c = d->runner;
    d->runner = NULL;
    if (!c)
        return;
    c->stored = NULL;
    api_call_clear(c);
    free(c);
}

/* Nobody finds it any more. It is freed with the last call that needs it. */
void api_store_remove(struct api_store *s, struct api_stored *d)
{
    if (d->outcome == API_RUNS)
        api_store_cancel(s, d);
    if (!d->is_removed) {
        struct api_stored **at = api_store_bucket(s, d->id);
        while (*at != d)
            at = &(*at)->next_of_hash;
        *at = d->next_of_hash;
        api_store_unlist(s, d);
        s->bytes -= d->bytes;
        d->is_removed = true;
        api_store_note_removal(s, d);
    }
    if (!d->runner && !d->followers)
        api_store_free_call(d);
}

void api_store_sent(struct api_store *s, struct api_stored *d)
{
    api_store_unlist(s, d);
    d->sent_unix_s = clock_unix_s();
    api_store_list(s, d);
    api_store_note_removal(s, d);
}

void api_store_finish(struct api_store *s, struct api_stored *d, enum api_outcome outcome,
                      const struct err *failure)
{
    api_store_unlist(s, d);
    d->outcome = outcome;
    d->finished_unix_s = clock_unix_s();
    if (failure)
        d->failure = *failure;
    api_store_list(s, d);
    api_store_note_end(s, d);
    api_store_tell_followers(s, d);
    api_store_free_runner(d);
}

void api_store_cancel(struct api_store *s, struct api_stored *d)
{
    static const struct err cancelled = {.code = ERR_CANCELLED,
                                         .text = "The request was cancelled."};
    if (d->outcome != API_RUNS)
        return;
    s->n_to_begin -= !d->runner;
    if (d->runner) { /* the coordinator forgets it */
        api_generation_free(d->runner->generation);
        d->runner->generation = NULL;
    }
    api_store_finish(s, d, API_CANCELLED, &cancelled);
}

/* ---- turns ---- */

/* Calls of an earlier process, in the order in which they came. */
static void api_store_begin_again(struct api_store *s, struct api *api)
{
    struct coordinator_status status;
    coordinator_status(api->coordinator, &status);
    if (!status.ready)
        return;
    for (struct api_stored *d = s->running.first, *next; d && s->n_to_begin; d = next) {
        struct err failure = {0};
        next = d->next;
        if (d->runner)
            continue;
        int rc = d->n_restarts >= API_STORE_RESTARTS
                     ? err_set(&failure, ERR_INTERNAL,
                               "The coordinator was restarted %d times without a new token of this "
                               "request: it may be what ends it, and is not tried again.",
                               d->n_restarts)
                     : api_replay_begin(api, d, &failure);
        if (rc == ERR_QUOTA)
            continue;
        if (rc == ERR_LIMIT || rc == ERR_UNAVAILABLE) {
            s->begin_at_ms = clock_now_ms() + API_STORE_RETRY_MS;
            return; /* it had its place once: there will be one again */
        }
        s->n_to_begin--;
        if (rc != 0) {
            log_warning("%s could not be finished after the restart: %s", d->id, failure.text);
            api_store_finish(s, d, API_FAILED, &failure);
        } else {
            api_store_note_restart(s, d);
            api_store_news(d->runner);
        }
    }
}

static bool api_store_is_in_use(const struct api_stored *d)
{
    return d->runner || d->followers;
}

/* What is over goes when it is old (keep_s 0: never), or when there is too much in memory, the
 * oldest first. */
static void api_store_forget(struct api_store *s, const struct api_store_list *l, int64_t keep_s)
{
    int64_t now_s = clock_unix_s();
    for (struct api_stored *d = l->first, *next; d; d = next) {
        int64_t since_s = d->sent_unix_s ? d->sent_unix_s : d->finished_unix_s;
        bool is_old = keep_s && since_s + keep_s < now_s;
        next = d->next;
        if (!is_old && (int64_t)s->bytes <= s->spec.most_bytes)
            return;
        if (!api_store_is_in_use(d))
            api_store_remove(s, d);
    }
}

/* Whoever waits for a ticket does so no longer than the journal needs; a lost one settles nothing.
 */
static bool api_store_settle(struct api_store *s)
{
    if (!s->journal)
        return false;
    uint64_t before = s->settled;
    journal_take_wake(s->journal);
    s->settled = journal_settled(s->journal);
    return s->settled != before && before < s->newest_ticket;
}

bool api_store_run(struct api_store *s, struct api *api)
{
    bool has_settled = api_store_settle(s);
    int64_t now_ms = clock_now_ms();
    if (s->is_closed || now_ms - s->last_run_ms < API_STORE_RUN_MS)
        return has_settled;
    s->last_run_ms = now_ms;
    for (struct api_stored *d = s->running.first; d; d = d->next)
        if (d->is_noted)
            api_store_note(s, d);
    if (s->n_to_begin && now_ms >= s->begin_at_ms && !api->is_draining)
        api_store_begin_again(s, api);
    api_store_forget(s, &s->sent, API_STORE_SENT_S);
    api_store_forget(s, &s->over, s->spec.keep_s);
    api_store_watch_journal(s);
    return has_settled;
}

int api_store_fd(const struct api_store *s)
{
    return s->journal ? journal_fd(s->journal) : -1;
}

/* ---- life ---- */

int api_store_new(struct api_store **ret_store, const struct api_store_spec *spec, struct err *err)
{
    struct api_store *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for the store of calls");
    s->spec = *spec;
    buf_init(&s->unwanted);
    api_store_open_journal(s);
    *ret_store = s;
    return 0;
}

/* Its client sees that the answer is not whole, and can ask for the rest later. */
static void api_store_break(struct api_store *s, struct api_call *c)
{
    if (c->is_complete)
        return;
    c->is_complete = c->is_broken = true;
    api_store_wake(s, c);
}

void api_store_close(struct api_store *s)
{
    if (s->is_closed)
        return;
    s->is_closed = true;
    for (struct api_stored *d = s->running.first; d; d = d->next) {
        if (!d->is_noted) /* it fails in words, with the others */
            continue;
        if (d->runner)
            api_store_log_all(s, d);
        api_store_note(s, d);
        for (struct api_call *c = d->followers; c; c = c->next_follower)
            api_store_break(s, c);
        api_store_free_runner(d);
    }
    journal_close(s->journal);
    s->journal = NULL;
    s->settled = UINT64_MAX;
}

static void api_store_free_list(const struct api_store_list *l)
{
    for (struct api_stored *d = l->first, *next; d; d = next) {
        next = d->next;
        api_store_free_runner(d);
        api_store_free_call(d);
    }
}

void api_store_free(struct api_store *s)
{
    if (!s)
        return;
    api_store_close(s);
    api_store_free_list(&s->running);
    api_store_free_list(&s->over);
    api_store_free_list(&s->sent);
    buf_clear(&s->unwanted);
    free(s);
}
