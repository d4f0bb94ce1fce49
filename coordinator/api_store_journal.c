#include "coordinator/api_generation.h"
#include "coordinator/api_store_parts.h"
#include "coordinator/token_log.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

const char *api_store_tenant(const struct api_store *s, int tenant)
{
    return tenant < s->spec.n_tenants ? s->spec.tenant_names[tenant] : "default";
}

/* ---- to the journal ---- */

/* The ids of each prompt, behind their number. */
static void api_store_write_prompts(const struct api_stored *d, struct buf *out)
{
    for (int i = 0; i < d->n_prompts; i++) {
        buf_append(out, &d->prompts[i].n, sizeof d->prompts[i].n);
        buf_append(out, d->prompts[i].ids, (size_t)d->prompts[i].n * sizeof(uint32_t));
    }
}

static void api_store_note_call(struct api_store *s, struct api_stored *d)
{
    struct buf prompts;
    buf_init(&prompts);
    api_store_write_prompts(d, &prompts);
    struct journal_call call = {
        .id = d->id,
        .path = d->route->path,
        .tenant = api_store_tenant(s, d->tenant),
        .request_id = d->request_id,
        .bits = d->bits,
        .body = d->body,
        .body_length = d->body_length,
        .prompts = prompts.data,
        .prompts_length = prompts.length,
        .seed = d->seed,
        .created_unix_s = d->created_unix_s,
        .n_prompts = d->n_prompts,
        .n_choices = d->n_choices,
        .is_kept = d->is_kept,
        .is_background = d->is_background,
        .with_records = d->with_records,
    };
    if (!buf_failed(&prompts)) { /* else it is as with all that memory is missing for */
        journal_add(s->journal, &call);
        d->is_noted = true;
    }
    buf_clear(&prompts);
}

void api_store_note(struct api_store *s, struct api_stored *d)
{
    bool has_news = false;
    if (!s->journal)
        return;
    if (!d->is_noted)
        api_store_note_call(s, d);
    for (int i = 0; d->is_noted && i < d->n_prompts * d->n_choices; i++) {
        struct api_stored_choice *c = &d->choices[i];
        if (c->n_noted == c->log.length)
            continue;
        journal_add_tokens(s->journal, d->id, i, (int64_t)c->n_noted, c->log.data + c->n_noted,
                           c->log.length - c->n_noted);
        c->n_noted = c->log.length;
        has_news = true;
    }
    if (has_news && d->n_restarts) {
        journal_restarts(s->journal, d->id, 0);
        d->n_restarts = 0;
    }
}

void api_store_note_restart(struct api_store *s, struct api_stored *d)
{
    d->n_restarts++;
    if (!s->journal || !d->is_noted)
        return;
    journal_restarts(s->journal, d->id, d->n_restarts);
    journal_hurry(s->journal); /* it may end us soon */
}

void api_store_await(struct api_call *c)
{
    struct api_store *s = c->api->store;
    if (s->journal)
        c->ticket = s->newest_ticket = journal_hurry(s->journal);
}

void api_store_note_end(struct api_store *s, struct api_stored *d)
{
    struct journal_end end = {.outcome = (int)d->outcome,
                              .n_cached = d->n_cached,
                              .failure_code = d->failure.code,
                              .failure = d->failure.text,
                              .finished_unix_s = d->finished_unix_s};
    if (!s->journal || (!d->is_noted && !d->is_kept))
        return;
    api_store_note(s, d);
    if (d->is_noted)
        journal_end(s->journal, d->id, &end);
}

void api_store_note_removal(struct api_store *s, struct api_stored *d)
{
    if (s->journal && d->is_noted)
        journal_remove(s->journal, d->id);
    d->is_noted = false;
}

/* ---- and back ---- */

static int api_store_read_prompts(struct api_stored *d, const struct journal_call *call,
                                  struct err *err)
{
    const char *at = call->prompts, *end = at + call->prompts_length;
    for (int i = 0; i < d->n_prompts; i++) {
        struct api_stored_prompt *p = &d->prompts[i];
        int n = 0;
        if ((size_t)(end - at) >= sizeof n)
            memcpy(&n, at, sizeof n);
        if (n <= 0 || (size_t)n > ((size_t)(end - at) - sizeof n) / sizeof(uint32_t))
            return err_set(err, ERR_IO, "its prompts are damaged");
        at += sizeof n;
        p->ids = malloc((size_t)n * sizeof *p->ids);
        if (!p->ids)
            return err_set(err, ERR_MEMORY, "no memory for the calls of the journal");
        memcpy(p->ids, at, (size_t)n * sizeof *p->ids);
        p->n = n;
        at += (size_t)n * sizeof *p->ids;
    }
    return 0;
}

static int api_store_tenant_index(const struct api_store *s, const char *name)
{
    int n = s->spec.n_tenants ? s->spec.n_tenants : 1;
    for (int i = 0; i < n; i++)
        if (strcmp(api_store_tenant(s, i), name) == 0)
            return i;
    return -1;
}

static bool api_store_takes(const struct api_store *s, const struct journal_call *call)
{
    return strlen(call->id) < sizeof((struct api_stored *)0)->id && call->n_prompts > 0 &&
           call->n_choices > 0 &&
           (int64_t)call->n_prompts * call->n_choices <= API_GENERATION_CHOICES &&
           api_route_find("POST", call->path) && api_store_tenant_index(s, call->tenant) >= 0;
}

static int api_store_fill_call(struct api_store *s, struct api_stored *d,
                               const struct journal_call *call, const struct journal_end *end,
                               struct err *err)
{
    snprintf(d->id, sizeof d->id, "%s", call->id);
    snprintf(d->request_id, sizeof d->request_id, "%s", call->request_id);
    snprintf(d->bits, sizeof d->bits, "%s", call->bits);
    d->route = api_route_find("POST", call->path);
    d->tenant = api_store_tenant_index(s, call->tenant);
    d->seed = call->seed;
    d->created_unix_s = call->created_unix_s;
    d->finished_unix_s = end->finished_unix_s;
    d->is_kept = call->is_kept;
    d->is_background = call->is_background;
    d->with_records = call->with_records;
    d->n_restarts = call->n_restarts;
    d->is_noted = true;
    d->n_cached = end->n_cached;
    d->outcome = end->outcome >= API_RUNS && end->outcome <= API_CANCELLED
                     ? (enum api_outcome)end->outcome
                     : API_FAILED;
    d->failure.code = end->failure_code;
    snprintf(d->failure.text, sizeof d->failure.text, "%s", end->failure);
    d->body = malloc(call->body_length + 1);
    if (!d->body)
        return err_set(err, ERR_MEMORY, "no memory for the calls of the journal");
    memcpy(d->body, call->body, call->body_length);
    d->body[call->body_length] = '\0';
    d->body_length = call->body_length;
    return api_store_read_prompts(d, call, err);
}

/* It stays where it is until it is known that the journal can be had. */
static int api_store_leave_out(struct api_store *s, const struct journal_call *call,
                               const char *why)
{
    log_warning("journal: call %.39s is left out: %s", call->id, why);
    if (strlen(call->id) < JOURNAL_ID_BYTES)
        buf_append(&s->unwanted, call->id, strlen(call->id) + 1);
    return 0;
}

static int api_store_load_call(void *context, const struct journal_call *call,
                               const struct journal_end *end, struct err *err)
{
    struct api_store *s = context;
    if (!api_store_takes(s, call))
        return api_store_leave_out(s, call, "its tenant or its endpoint is not there any more");
    struct api_stored *d = api_store_new_call(call->n_prompts, call->n_choices);
    if (!d)
        return err_set(err, ERR_MEMORY, "no memory for the calls of the journal");
    int rc = api_store_fill_call(s, d, call, end, err);
    if (rc != 0) {
        api_store_free_call(d);
        return rc == ERR_IO ? api_store_leave_out(s, call, err->text) : rc;
    }
    api_store_insert(s, d);
    s->n_to_begin += d->outcome == API_RUNS;
    return 0;
}

/* Tokens whose call was left out, or that do not continue what is there, count for nothing: what is
 * missing is computed again. */
static int api_store_load_tokens(void *context, const char *id, int choice, int64_t at,
                                 const void *data, size_t length, struct err *err)
{
    struct api_store *s = context;
    struct api_stored *d = api_store_find(s, id, -1);
    if (!d || choice < 0 || choice >= d->n_prompts * d->n_choices)
        return 0;
    struct api_stored_choice *c = &d->choices[choice];
    int n = token_log_count(data, length, d->with_records);
    if (at != (int64_t)c->log.length || n < 0)
        return 0;
    buf_append(&c->log, data, length);
    if (buf_failed(&c->log))
        return err_set(err, ERR_MEMORY, "no memory for the calls of the journal");
    c->n_tokens += n;
    c->n_noted = c->log.length;
    d->bytes += length;
    s->bytes += length;
    return 0;
}

static void api_store_drop_unwanted(struct api_store *s)
{
    const struct buf *ids = &s->unwanted;
    for (size_t at = 0; at < ids->length; at += strlen(ids->data + at) + 1)
        journal_remove(s->journal, ids->data + at);
    buf_clear(&s->unwanted);
}

void api_store_open_journal(struct api_store *s)
{
    const struct journal_reader reader = {
        .context = s, .on_call = api_store_load_call, .on_tokens = api_store_load_tokens};
    struct err *why = &s->journal_failure;
    if (!s->spec.journal)
        return;
    if (journal_open(&s->journal, s->spec.journal, &reader, why) == 0) {
        api_store_drop_unwanted(s);
        if (s->n_to_begin)
            log_info("journal: requests of an earlier run that will be finished: %d",
                     s->n_to_begin);
        return;
    }
    log_error("no journal: %s: requests go on without it, and those under way are lost when the "
              "coordinator ends (journal = \"off\": without this message)",
              why->text);
}

void api_store_watch_journal(struct api_store *s)
{
    struct err why = {0};
    enum journal_state state = s->journal ? journal_trouble(s->journal, &why) : JOURNAL_WORKS;
    if (state == s->journal_state)
        return;
    s->journal_state = state;
    s->journal_failure = why;
    if (state == JOURNAL_WORKS)
        log_info("journal: it is written again");
    else if (state == JOURNAL_WAITS)
        log_error("journal: %s: requests go on, but until it can be written again a restart would "
                  "lose them; tried again every two seconds",
                  why.text);
    else
        log_error("journal: %s: from now on requests under way are lost when the coordinator ends; "
                  "restart it when this is mended",
                  why.text);
}

const char *api_store_journal_state(const struct api_store *s, const char **ret_why)
{
    *ret_why = s->journal_failure.text;
    if (!s->journal)
        return s->spec.journal ? "lost" : "off";
    if (s->journal_state == JOURNAL_WORKS)
        *ret_why = "";
    return s->journal_state == JOURNAL_WORKS   ? "on"
           : s->journal_state == JOURNAL_WAITS ? "waiting"
                                               : "lost";
}
