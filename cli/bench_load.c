#include "cli/bench_load.h"

#include "base/clock.h"
#include "cli/bench_bodies.h"
#include "cli/paths.h"
#include "cli/progress.h"
#include "cli/stop_signal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* SEND_AT_ONCE: curl_multi_perform() looks at every request that is under way. */
enum { LOOK_EVERY_MS = 100, REFUSAL_LIMIT = 65536, SPARE_FILES = 64, SEND_AT_ONCE = 16 };

/* One request at a time; the connection is kept for the next one. */
struct load_slot {
    struct load *load;
    CURL *curl;
    char *body; /* owned, until the answer has ended */
    struct sse_reader events;
    struct buf refusal; /* the body of what is no 200 */
    char reason[CURL_ERROR_SIZE];
    struct err err;
    int failure;      /* an err_code, or 0 */
    int64_t number;   /* of the request */
    int64_t start_us; /* open loop: its arrival, even if a client was to be waited for */
    int64_t last_us;  /* when its last token came, or 0 */
    int64_t n_tokens; /* that came */
    double first_ms;  /* when last_us is set */
    struct bench_samples gap_ms;
    int64_t usage[3];      /* prompt, completion, cached; -1: not told */
    bool is_out_of_memory; /* for a sample */
};

struct load {
    const struct bench_load_plan *plan;
    struct bench_load_result *result;
    CURLM *multi;
    char *url;
    struct curl_slist *headers;
    struct load_slot *slots;
    int *idle; /* stack of the numbers of those without a request */
    int n_slots, n_idle;
    struct bench_bodies bodies; /* of the next requests */
    int64_t n_sent;
    double next_s; /* open loop: when the next request arrives, from the start */
    int64_t start_us, end_us;
    struct progress progress;
};

/* ---- what comes ---- */

static int64_t slot_count(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* How many tokens an event brings: the server may tell their ids; text is one at least. */
static int64_t slot_tokens(const json_t *event)
{
    const json_t *choice = json_array_get(json_object_get(event, "choices"), 0);
    const json_t *delta = json_object_get(choice, "delta");
    const json_t *ids = json_object_get(choice, "token_ids");
    const json_t *text = json_object_get(delta ? delta : choice, delta ? "content" : "text");
    if (json_array_size(ids))
        return (int64_t)json_array_size(ids);
    return json_string_length(text) > 0;
}

static int slot_event(void *context, const json_t *event, struct err *err)
{
    struct load_slot *s = context;
    const json_t *usage = json_object_get(event, "usage");
    if (json_is_object(usage)) {
        s->usage[0] = slot_count(usage, "prompt_tokens");
        s->usage[1] = slot_count(usage, "completion_tokens");
        s->usage[2] = slot_count(json_object_get(usage, "prompt_tokens_details"), "cached_tokens");
    }
    const int64_t tokens = slot_tokens(event);
    if (!tokens)
        return 0;
    const int64_t now = clock_now_us();
    const double ms = (double)(now - (s->last_us ? s->last_us : s->start_us)) * 1e-3;
    if (s->last_us)
        s->is_out_of_memory |= !bench_samples_add(&s->gap_ms, ms);
    else
        s->first_ms = ms;
    s->last_us = now;
    s->n_tokens += tokens;
    return s->is_out_of_memory ? err_set(err, ERR_MEMORY, "no memory for a measurement") : 0;
}

static size_t slot_write(char *bytes, size_t size, size_t count, void *context)
{
    struct load_slot *s = context;
    const size_t length = size * count;
    long status = 0;
    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status == 200) {
        s->failure = sse_reader_push(&s->events, bytes, length, &s->err);
        return s->failure < 0 ? 0 : length;
    }
    if (s->refusal.length + length <= REFUSAL_LIMIT)
        buf_append(&s->refusal, bytes, length);
    return length;
}

/* ---- sending ---- */

static int slot_open(struct load_slot *s, struct err *err)
{
    s->curl = curl_easy_init();
    if (!s->curl)
        return err_set(err, ERR_MEMORY, "no memory for a client");
    s->events = (struct sse_reader){.on_event = slot_event, .context = s};
    http_client_prepare(s->load->plan->client, s->curl, s->load->url, s->load->headers);
    curl_easy_setopt(s->curl, CURLOPT_WRITEFUNCTION, slot_write);
    curl_easy_setopt(s->curl, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->curl, CURLOPT_ERRORBUFFER, s->reason);
    curl_easy_setopt(s->curl, CURLOPT_PRIVATE, s);
    return 0;
}

/* Takes the body. */
static int load_send(struct load *l, char *body, int64_t start_us, struct err *err)
{
    struct load_slot *s = &l->slots[l->idle[--l->n_idle]];
    s->load = l;
    s->body = body;
    s->number = l->n_sent++;
    s->last_us = s->n_tokens = 0;
    s->gap_ms.n = 0;
    s->usage[0] = s->usage[1] = s->usage[2] = -1;
    s->failure = 0;
    s->reason[0] = '\0';
    sse_reader_reset(&s->events);
    buf_reset(&s->refusal);
    int rc = s->curl ? 0 : slot_open(s, err);
    if (rc < 0)
        return rc;
    s->start_us = start_us ? start_us : clock_now_us();
    curl_easy_setopt(s->curl, CURLOPT_POSTFIELDS, s->body);
    if (curl_multi_add_handle(l->multi, s->curl) != CURLM_OK)
        return err_set(err, ERR_MEMORY, "no memory for a request");
    return 0;
}

static int load_perform(struct load *l, struct err *err)
{
    int running;
    if (curl_multi_perform(l->multi, &running) != CURLM_OK)
        return err_set(err, ERR_INTERNAL, "libcurl cannot go on");
    return 0;
}

/* Sends what is due, and returns after how many milliseconds to look again. */
static int load_send_due(struct load *l, int *ret_wait_ms, struct err *err)
{
    const struct bench_load_plan *p = l->plan;
    int rc = 0;
    *ret_wait_ms = LOOK_EVERY_MS;
    for (int n = 1; rc == 0 && l->n_idle && l->n_sent < p->requests; n++) {
        int64_t arrival_us = 0;
        char *body;
        if (p->work.rate > 0) {
            arrival_us = l->start_us + (int64_t)(l->next_s * 1e6);
            const int64_t early_us = arrival_us - clock_now_us();
            if (early_us > 0) {
                if (early_us < LOOK_EVERY_MS * 1000)
                    *ret_wait_ms = (int)((early_us + 999) / 1000);
                return 0;
            }
        }
        rc = bench_bodies_take(&l->bodies, &body, err);
        if (rc == 0 && !body) {
            *ret_wait_ms = 1;
            return 0;
        }
        if (rc == 0 && p->work.rate > 0)
            l->next_s += bench_workload_gap(&p->work, l->n_sent + 1);
        if (rc == 0)
            rc = load_send(l, body, arrival_us, err);
        if (rc == 0 && n % SEND_AT_ONCE == 0)
            rc = load_perform(l, err);
    }
    return rc;
}

/* ---- ends ---- */

static int load_count_failure(struct load *l, const char *kind, const char *sentence,
                              struct err *err)
{
    struct bench_load_result *r = l->result;
    r->failed++;
    if (!*r->first_error)
        snprintf(r->first_error, sizeof r->first_error, "%s", sentence);
    const json_int_t before = json_integer_value(json_object_get(r->failures, kind));
    if (json_object_set_new(r->failures, kind, json_integer(before + 1)) < 0)
        return err_set(err, ERR_MEMORY, "no memory for the report");
    return 0;
}

/* What was measured of an answer counts once it is known not to have failed: it may have come fast
 * because it was short of what was asked for. */
static int slot_keep_samples(const struct load_slot *s, struct err *err)
{
    struct bench_load_result *r = s->load->result;
    bool kept = !s->last_us || bench_samples_add(&r->first_ms, s->first_ms);
    for (size_t i = 0; kept && i < s->gap_ms.n; i++)
        kept = bench_samples_add(&r->gap_ms, s->gap_ms.values[i]);
    return kept ? 0 : err_set(err, ERR_MEMORY, "no memory for a measurement");
}

/* The kind of a failure, with its sentence in s->err; NULL: the answer is whole. */
static const char *slot_judge(struct load_slot *s, CURLcode code, char *kind, size_t size)
{
    long status = 0;
    curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
    if (s->failure)
        return "stream_error";
    if (status && status != 200) {
        http_client_refused(s->load->url, status, &s->refusal, &s->err);
        snprintf(kind, size, "http_%ld", status);
        return kind;
    }
    if (code == CURLE_OK && s->events.done)
        return NULL;
    err_set(&s->err, ERR_NETWORK, "%s: %s", s->load->url,
            code == CURLE_OK ? "the answer broke off"
            : *s->reason     ? s->reason
                             : curl_easy_strerror(code));
    return status ? "broken_off" : "connection";
}

static int load_finish(struct load *l, struct load_slot *s, CURLcode code, struct err *err)
{
    struct bench_load_result *r = l->result;
    char text[24];
    int rc = 0;
    l->end_us = clock_now_us();
    if (s->is_out_of_memory)
        return err_set(err, ERR_MEMORY, "no memory for a measurement");
    const char *kind = slot_judge(s, code, text, sizeof text);
    if (kind) {
        r->output_tokens += s->n_tokens;
        rc = load_count_failure(l, kind, s->err.text, err);
    } else {
        r->completed++;
        r->output_tokens += s->usage[1] >= 0 ? s->usage[1] : s->n_tokens;
        r->prompt_tokens +=
            s->usage[0] >= 0 ? s->usage[0] : bench_workload_input(&l->plan->work, s->number);
        if (s->usage[2] >= 0)
            r->cached_tokens = (r->cached_tokens > 0 ? r->cached_tokens : 0) + s->usage[2];
        rc = slot_keep_samples(s, err);
        if (rc == 0 && !bench_samples_add(&r->whole_ms, (double)(l->end_us - s->start_us) * 1e-3))
            rc = err_set(err, ERR_MEMORY, "no memory for a measurement");
    }
    curl_multi_remove_handle(l->multi, s->curl);
    free(s->body);
    s->body = NULL;
    l->idle[l->n_idle++] = (int)(s - l->slots);
    return rc;
}

static int load_take_finished(struct load *l, struct err *err)
{
    int rc = 0, left;
    for (CURLMsg *m; rc == 0 && (m = curl_multi_info_read(l->multi, &left));) {
        char *slot = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        const CURLcode code = m->data.result;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &slot);
        rc = load_finish(l, (struct load_slot *)slot, code, err);
    }
    return rc;
}

/* What was under way when the run ended has given tokens, too. rc: of the run so far. */
static int load_abandon(struct load *l, int rc, struct err *err)
{
    for (int i = 0; i < l->n_slots; i++) {
        struct load_slot *s = &l->slots[i];
        if (!s->body)
            continue;
        curl_multi_remove_handle(l->multi, s->curl);
        l->result->unfinished++;
        l->result->output_tokens += s->n_tokens;
        if (rc == 0)
            rc = slot_keep_samples(s, err);
        free(s->body);
        s->body = NULL;
    }
    return rc;
}

/* ---- the run ---- */

static void load_say(struct load *l)
{
    const struct bench_load_result *r = l->result;
    if (l->plan->quiet)
        return;
    progress_say(&l->progress,
                 "%" PRId64 " of %" PRId64 " requests done, %" PRId64 " failed, %d under way "
                 "(%.0f s)",
                 r->completed + r->failed, l->plan->requests, r->failed, l->n_slots - l->n_idle,
                 (double)(clock_now_us() - l->start_us) * 1e-6);
}

static int load_loop(struct load *l, struct err *err)
{
    const struct http_client *c = l->plan->client;
    int rc = 0, wait_ms;
    bench_bodies_wait(&l->bodies);
    l->start_us = l->end_us = clock_now_us();
    while (rc == 0 && l->result->completed + l->result->failed < l->plan->requests) {
        if (stop_signal_is_raised()) {
            l->result->interrupted = true;
            l->end_us = clock_now_us();
            break;
        }
        rc = load_send_due(l, &wait_ms, err);
        if (rc == 0)
            rc = load_perform(l, err);
        const int64_t before = l->result->completed + l->result->failed;
        if (rc == 0)
            rc = load_take_finished(l, err);
        if (rc == 0 && c->watch)
            rc = c->watch(c->watch_context, err);
        load_say(l);
        /* Whoever has ended may have a next one to send. */
        if (rc == 0 && l->result->completed + l->result->failed == before)
            curl_multi_poll(l->multi, NULL, 0, wait_ms, NULL);
    }
    rc = load_abandon(l, rc, err);
    l->result->seconds = (double)(l->end_us - l->start_us) * 1e-6;
    return rc;
}

/* As many connections as the system lets us have. */
static int load_count_slots(const struct bench_load_plan *p, struct err *err)
{
    int64_t n = p->clients ? p->clients : BENCH_CLIENTS_MAX;
    struct rlimit files;
    n = n < p->requests ? n : p->requests;
    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return (int)n;
    if (files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
        getrlimit(RLIMIT_NOFILE, &files);
    }
    if (files.rlim_cur == RLIM_INFINITY || (rlim_t)(n + SPARE_FILES) <= files.rlim_cur)
        return (int)n;
    if (p->clients || files.rlim_cur <= SPARE_FILES)
        return err_set(err, ERR_IO,
                       "%" PRId64 " clients want more open files than the %llu that this process "
                       "may have; see ulimit -n",
                       n, (unsigned long long)files.rlim_cur);
    return (int)files.rlim_cur - SPARE_FILES;
}

static int load_open(struct load *l, struct err *err)
{
    const struct bench_load_plan *p = l->plan;
    int rc = load_count_slots(p, err);
    if (rc < 0)
        return rc;
    l->n_slots = l->n_idle = rc;
    l->slots = calloc((size_t)rc, sizeof *l->slots);
    l->idle = calloc((size_t)rc, sizeof *l->idle);
    l->multi = curl_multi_init();
    l->result->failures = json_object();
    if (!l->slots || !l->idle || !l->multi || !l->result->failures)
        return err_set(err, ERR_MEMORY, "no memory for %d clients", rc);
    for (int i = 0; i < l->n_slots; i++)
        l->idle[i] = l->n_slots - 1 - i;
    curl_multi_setopt(l->multi, CURLMOPT_MAXCONNECTS, (long)l->n_slots);
    rc = paths_format(&l->url, err, "%s/v1/%s", p->client->base,
                      p->is_chat ? "chat/completions" : "completions");
    if (rc == 0)
        rc = http_client_headers(p->client, &l->headers, err);
    if (rc == 0)
        rc = bench_bodies_open(&l->bodies, p, l->n_slots, err);
    progress_start(&l->progress);
    return rc;
}

static void load_close(struct load *l)
{
    progress_end(&l->progress);
    bench_bodies_close(&l->bodies);
    for (int i = 0; l->slots && i < l->n_slots; i++) {
        struct load_slot *s = &l->slots[i];
        curl_easy_cleanup(s->curl);
        sse_reader_clear(&s->events);
        buf_clear(&s->refusal);
        bench_samples_clear(&s->gap_ms);
        free(s->body);
    }
    curl_multi_cleanup(l->multi);
    curl_slist_free_all(l->headers);
    free(l->slots);
    free(l->idle);
    free(l->url);
}

int bench_load_run(const struct bench_load_plan *p, struct bench_load_result *ret_result,
                   struct err *err)
{
    struct load l = {.plan = p, .result = ret_result};
    *ret_result = (struct bench_load_result){.cached_tokens = -1};
    if (p->work.rate > 0)
        l.next_s = bench_workload_gap(&p->work, 0);
    int rc = load_open(&l, err);
    if (rc == 0)
        rc = load_loop(&l, err);
    load_close(&l);
    return rc;
}

void bench_load_clear(struct bench_load_result *r)
{
    json_decref(r->failures);
    bench_samples_clear(&r->first_ms);
    bench_samples_clear(&r->gap_ms);
    bench_samples_clear(&r->whole_ms);
    *r = (struct bench_load_result){0};
}
