#include "coordinator/coordinator_open.h"

#include "coordinator/announcer.h"
#include "coordinator/links.h"
#include "coordinator/metrics.h"

#include "base/clock.h"
#include "base/log.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define KEEP_TIME_MS    250
#define EXPIRE_EVERY_MS 100

struct coordinator {
    const struct coordinator_settings *settings;
    void *zmq;
    char manifests[2100];
    char fingerprint[16];
    int cluster_port;
    struct trust trust; /* where links are encrypted */
    struct announcer announcer;
    struct registry registry;
    struct pipeline pipeline;
    struct shipping *shipping;
    struct deployment deployment;
    struct scheduler scheduler;
    struct tokenizer *tokenizer;
    struct constraint_store *constraints;
    struct timeline *timeline;
    struct metrics *metrics;
    int64_t last_time_kept_ms;

    struct request *requests; /* all that are under way */
    int n_tenants;
    int *tenant_requests;      /* [n_tenants], of those under way */
    int64_t first_deadline_us; /* nobody's is earlier; INT64_MAX: nobody has one */
    int64_t last_expired_ms;
    uint64_t n_queue_full, n_tenant_limit, n_timeout; /* requests, since the start */
    int64_t last_finish_us; /* or when the first request came after a time without any */
    double finish_every_us; /* between choices that finish, smoothed; 0: none has */
    /* Of prompts that were looked up in the prefix cache, once their first token has come. */
    uint64_t n_looked_up_tokens, n_found_tokens;
    struct request *first_changed, *last_changed;
};

/* ---- requests ---- */

static void coordinator_mark(struct coordinator *c, struct request *r)
{
    if (r->changed)
        return;
    r->changed = true;
    r->next_changed = NULL;
    if (c->last_changed)
        c->last_changed->next_changed = r;
    else
        c->first_changed = r;
    c->last_changed = r;
}

static void coordinator_unmark(struct coordinator *c, struct request *r)
{
    struct request *before = NULL;
    for (struct request *q = c->first_changed; q; before = q, q = q->next_changed) {
        if (q != r)
            continue;
        if (before)
            before->next_changed = r->next_changed;
        else
            c->first_changed = r->next_changed;
        if (c->last_changed == r)
            c->last_changed = before;
        break;
    }
    r->next_changed = NULL;
    r->changed = false;
}

struct request *coordinator_take_changed(struct coordinator *c)
{
    struct request *r = c->first_changed;
    if (r)
        coordinator_unmark(c, r);
    return r;
}

int64_t coordinator_take_answered_us(struct coordinator *c)
{
    return metrics_take_untold(c->metrics);
}

static void coordinator_unlist(struct coordinator *c, struct request *r)
{
    if (r->previous)
        r->previous->next = r->next;
    else
        c->requests = r->next;
    if (r->next)
        r->next->previous = r->previous;
    r->next = r->previous = NULL;
    c->tenant_requests[r->tenant]--;
}

/* One more choice had a slot, and gives it back. */
static void coordinator_count_finish(struct coordinator *c)
{
    int64_t now = clock_now_us();
    double since = (double)(now - c->last_finish_us);
    c->last_finish_us = now;
    c->finish_every_us += c->finish_every_us > 0 ? (since - c->finish_every_us) / 16 : since;
}

int coordinator_retry_after_s(const struct coordinator *c)
{
    double s = c->finish_every_us * (c->scheduler.waiting.n_waiting + 1) / 1e6;
    return s <= 1 ? 1 : s >= 60 ? 60 : (int)ceil(s);
}

/* The request holds nothing any more once its choices have finished. */
static void coordinator_settle(struct coordinator *c, struct request *r)
{
    bool done = true;
    for (int i = 0; i < r->n_choices; i++) {
        struct choice *choice = &r->choices[i];
        if (choice->finish == FINISH_NONE) {
            done = false;
            continue;
        }
        if (choice->slot >= 0) {
            scheduler_remove(&c->scheduler, &c->pipeline, choice);
            coordinator_count_finish(c);
        }
    }
    if (done && !r->is_done) {
        r->is_done = true;
        r->finished_us = clock_now_us();
        metrics_request_done(c->metrics, r);
        coordinator_unlist(c, r);
    }
}

static int coordinator_check_request(const struct coordinator *c, const struct request *r,
                                     struct err *err)
{
    if (r->n_prompt + (r->kind == REQUEST_GENERATE ? r->max_tokens : 0) > coordinator_context(c))
        return err_set(err, ERR_INPUT, "%d tokens and %d more do not fit a context of %d",
                       r->n_prompt, r->max_tokens, coordinator_context(c));
    /* What a worker would refuse must not come so far: there it would break everybody's step. */
    return r->kind == REQUEST_GENERATE
               ? batch_check_sampling(&r->sampling, &c->deployment.limits, err)
               : 0;
}

static int coordinator_check_quota(const struct coordinator *c, uint32_t tenant, size_t n,
                                   struct err *err)
{
    int64_t most = c->settings->tenant_requests;
    if (most && (int64_t)n > most)
        return err_set(err, ERR_INPUT,
                       "%zu prompts in one call are more than the %d requests that a key may have "
                       "under way",
                       n, (int)most);
    if (most && (int64_t)n > most - c->tenant_requests[tenant])
        return err_set(err, ERR_QUOTA,
                       "this key's tenant has %d requests under way, and no more than %d are "
                       "allowed at once: try again when one has ended",
                       c->tenant_requests[tenant], (int)most);
    return 0;
}

static void coordinator_take(struct coordinator *c, struct request *r)
{
    r->arrived_us = clock_now_us();
    scheduler_add(&c->scheduler, r);
    if (c->settings->request_timeout_s) {
        r->deadline_us = r->arrived_us + c->settings->request_timeout_s * 1000000;
        if (c->first_deadline_us > r->deadline_us)
            c->first_deadline_us = r->deadline_us;
    }
    if (!c->requests)
        c->last_finish_us = r->arrived_us;
    c->tenant_requests[r->tenant]++;
    r->next = c->requests;
    r->previous = NULL;
    if (c->requests)
        c->requests->previous = r;
    c->requests = r;
}

int coordinator_submit(struct coordinator *c, struct request *const *requests, size_t n,
                       struct err *err)
{
    if (c->deployment.state != DEPLOYMENT_SERVING && !deployment_is_degraded(&c->deployment)) {
        char why[256];
        deployment_explain(&c->deployment, &c->registry, why, sizeof why);
        return err_set(err, ERR_UNAVAILABLE, "the model is not in service: %s", why);
    }
    int64_t n_choices = 0;
    for (size_t i = 0; i < n; i++) {
        int rc = coordinator_check_request(c, requests[i], err);
        for (int k = 0; rc == 0 && k < requests[i]->n_choices; k++)
            rc = request_make_mask(&requests[i]->choices[k], err);
        if (rc != 0)
            return rc;
        n_choices += requests[i]->n_choices;
    }
    int rc = coordinator_check_quota(c, requests[0]->tenant, n, err);
    if (rc == 0)
        rc = scheduler_check_room(&c->scheduler, n_choices, err);
    if (rc == ERR_INPUT)
        snprintf(err->param, sizeof err->param, "%s", n > 1 ? "prompt" : "n");
    for (size_t i = 0; rc == 0 && i < n; i++)
        coordinator_take(c, requests[i]);
    if (rc == ERR_QUOTA)
        c->n_tenant_limit += n;
    else if (rc == ERR_LIMIT)
        c->n_queue_full += n;
    return rc;
}

static void coordinator_end(struct coordinator *c, struct request *r, enum finish_reason reason)
{
    for (int i = 0; i < r->n_choices; i++) {
        struct choice *choice = &r->choices[i];
        if (choice->slot < 0)
            scheduler_remove(&c->scheduler, &c->pipeline, choice);
        if (choice->finish == FINISH_NONE)
            choice->finish = reason;
    }
    coordinator_settle(c, r);
}

void coordinator_cancel(struct coordinator *c, struct request *r)
{
    if (!r->is_done)
        coordinator_end(c, r, FINISH_CANCELLED);
    coordinator_unmark(c, r);
}

static void coordinator_fail(struct coordinator *c, struct request *r, const struct err *why)
{
    request_fail(r, why);
    coordinator_end(c, r, FINISH_ERROR);
    coordinator_mark(c, r);
}

static void coordinator_fail_all(struct coordinator *c, const struct err *why)
{
    while (c->requests)
        coordinator_fail(c, c->requests, why);
}

/* Ends those whose time is over. */
static void coordinator_expire(struct coordinator *c, int64_t now_ms)
{
    int64_t now_us = clock_now_us();
    if (now_us < c->first_deadline_us || now_ms - c->last_expired_ms < EXPIRE_EVERY_MS)
        return;
    c->last_expired_ms = now_ms;
    c->first_deadline_us = INT64_MAX;
    for (struct request *r = c->requests, *next; r; r = next) {
        struct err why = {0};
        next = r->next;
        if (r->deadline_us && r->deadline_us <= now_us) {
            err_set(&why, ERR_TIMEOUT,
                    "the request took longer than the %lld s that are allowed here",
                    (long long)c->settings->request_timeout_s);
            coordinator_fail(c, r, &why);
            c->n_timeout++;
        } else if (r->deadline_us && r->deadline_us < c->first_deadline_us) {
            c->first_deadline_us = r->deadline_us;
        }
    }
}

/* ---- what comes back ---- */

/* A token of the text. With the first one it is certain how much of the prompt was found. */
static int coordinator_take_token(struct coordinator *c, struct choice *choice,
                                  const struct batch_result *row, struct err *err)
{
    struct request *r = choice->request;
    bool is_first = !r->first_token_us;
    if (is_first && r->cache_prompt && c->settings->prefix_cache) {
        c->n_looked_up_tokens += (uint64_t)r->n_prompt;
        c->n_found_tokens += (uint64_t)r->n_cached;
    }
    int rc = request_accept_token(r, choice, row, c->tokenizer, err);
    metrics_token(c->metrics, r, choice, is_first);
    return rc == 0 ? request_make_mask(choice, err) : rc;
}

static void coordinator_take_result(void *context, const struct pipeline_result *result)
{
    struct coordinator *c = context;
    struct choice *choice = result->choice;
    struct request *r = choice->request;
    struct err why = {0};
    if (choice->finish != FINISH_NONE)
        return;
    if (result->row.not_a_number) {
        err_set(&why, ERR_INTERNAL,
                "the model's output after token %d is not a number: the weights or this prompt "
                "overflow its arithmetic",
                choice->n_tokens);
        coordinator_fail(c, r, &why);
        return;
    }
    switch (result->row.kind) {
    case BATCH_SAMPLE:
        if (coordinator_take_token(c, choice, &result->row, &why) != 0) {
            coordinator_fail(c, r, &why);
            return;
        }
        break;
    case BATCH_SCORE:
        request_accept_score(r, choice, &result->row);
        break;
    case BATCH_LOGITS:
    case BATCH_EMBED:
        request_accept_row(r, result->values, result->n_values);
        break;
    }
    if (buf_failed(&choice->text) || buf_failed(&r->rows)) {
        err_set(&why, ERR_MEMORY, "no memory for the answer");
        coordinator_fail(c, r, &why);
        return;
    }
    coordinator_mark(c, r);
}

static void coordinator_step_done(void *context, struct choice *choice)
{
    struct coordinator *c = context;
    struct request *r = choice->request;
    choice->in_flight--;
    bool read_through = r->kind != REQUEST_GENERATE && choice->n_computed == choice->n_tokens &&
                        choice->in_flight == 0;
    if (read_through && choice->finish == FINISH_NONE)
        choice->finish = FINISH_LENGTH;
    if (choice->finish != FINISH_NONE) {
        coordinator_settle(c, r);
        coordinator_mark(c, r);
    }
}

/* Who computes the plan's stages, and how far the clocks are apart by now. */
static void coordinator_tell_timeline(struct coordinator *c)
{
    struct timeline_stage stages[TIMELINE_STAGES];
    memset(stages, 0, sizeof stages);
    int n = c->deployment.plan.n_stages < TIMELINE_STAGES ? c->deployment.plan.n_stages
                                                          : TIMELINE_STAGES;
    for (int i = 0; i < n; i++) {
        const struct worker_entry *w = registry_stage(&c->registry, i);
        if (!w || w->epoch != c->deployment.plan.epoch)
            return; /* a plan that is ending: the timeline knows it already */
        snprintf(stages[i].worker, sizeof stages[i].worker, "%s", w->name);
        stages[i].first_layer = w->first_layer;
        stages[i].end_layer = w->end_layer;
        stages[i].is_timed = clock_offset_estimate(&w->clock, clock_now_us(), &stages[i].offset_us,
                                                   &stages[i].uncertainty_us);
    }
    timeline_set_stages(c->timeline, c->deployment.plan.epoch, stages, n);
}

static void coordinator_count_plan(struct coordinator *c)
{
    int n;
    uint64_t epoch;
    const struct timeline_stage *stages = timeline_stages(c->timeline, &n, &epoch);
    metrics_plan(c->metrics, stages, n, c->scheduler.n_running);
}

/* A worker ended, or refused a step. Whoever was alone with it, and not for the first time, is not
 * tried again. */
static void coordinator_look_for_cause(struct coordinator *c, const struct deployment_loss *loss)
{
    struct err why = {0};
    struct choice *guilty = scheduler_suspect(&c->scheduler, loss->is_seen);
    if (!guilty)
        return;
    err_set(&why, ERR_CRASH,
            "this request is not tried again, for it was under way each time when workers ended or "
            "refused their work, the last time alone: %s",
            loss->words);
    log_error("request %s: %s", guilty->request->id, why.text);
    coordinator_fail(c, guilty->request, &why);
}

static void coordinator_on_event(struct coordinator *c, enum deployment_event event)
{
    if (event == DEPLOYMENT_BEGAN) {
        manifest_fingerprint(&c->deployment.manifest, &c->deployment.model, c->fingerprint);
        coordinator_tell_timeline(c);
        coordinator_count_plan(c);
        scheduler_restart(&c->scheduler); /* running sequences are replayed from their tokens */
    } else if (event != DEPLOYMENT_NOTHING) {
        c->metrics->n_plans_lost++;
    }
    if (event == DEPLOYMENT_FAILED) {
        coordinator_fail_all(c, &c->deployment.failure);
    } else if (event == DEPLOYMENT_LOST && c->deployment.loss.is_suspicious) {
        coordinator_look_for_cause(c, &c->deployment.loss);
    }
}

int coordinator_run(struct coordinator *c, struct err *err)
{
    if (c->registry.trust && trust_run(&c->trust))
        registry_review_trust(&c->registry);
    registry_receive(&c->registry);
    int rc = shipping_let_in(c->shipping, &c->registry, err);
    if (rc != 0)
        return rc;
    int64_t now = clock_now_ms();
    if (now - c->last_time_kept_ms >= KEEP_TIME_MS) {
        c->last_time_kept_ms = now;
        registry_keep_time(&c->registry);
        announcer_run(&c->announcer);
        if (c->deployment.state == DEPLOYMENT_SERVING) {
            coordinator_tell_timeline(c);
            links_watch_hops(&c->registry, c->timeline,
                             (size_t)c->deployment.model.hidden_size * sizeof(float));
        }
    }
    coordinator_expire(c, now);
    enum deployment_event event;
    rc = deployment_review(&c->deployment, &c->registry, &c->pipeline, &event, err);
    if (rc != 0)
        return rc;
    coordinator_on_event(c, event);
    pipeline_receive(&c->pipeline, (uint32_t)c->deployment.model.vocabulary_size,
                     (uint32_t)c->deployment.model.hidden_size, coordinator_take_result,
                     coordinator_step_done, c);
    if (c->deployment.state != DEPLOYMENT_SERVING)
        return 0;
    struct err trouble = {0};
    rc = scheduler_step(&c->scheduler, &c->pipeline, &trouble);
    if (rc != 0)
        log_error("%s", trouble.text);
    if (rc != 0 && !c->pipeline.is_broken) /* else a new plan helps, at the next review */
        coordinator_fail_all(c, &trouble);
    return 0;
}

bool coordinator_is_stranded(const struct coordinator *c)
{
    return c->deployment.state == DEPLOYMENT_WAITING;
}

void coordinator_give_up(struct coordinator *c)
{
    struct err why = {0};
    err_set(&why, ERR_UNAVAILABLE, "The server stopped before the answer was done.");
    coordinator_fail_all(c, &why);
}

bool coordinator_is_idle(const struct coordinator *c)
{
    return !c->requests;
}

int coordinator_wait_ms(const struct coordinator *c)
{
    if (c->first_changed) /* by results that came while others were told */
        return 0;
    return c->deployment.state == DEPLOYMENT_HASHING ? 20 : KEEP_TIME_MS / 2;
}

/* ---- opening ---- */

/* A position that is attended to costs a head_dim of multiply-adds twice, for its score and for its
 * value, in each head. */
static int coordinator_context_per_row(const struct deployment *d)
{
    int64_t multiply_adds = d->costs.kinds[d->costs.kind[0]].elements;
    return (int)(multiply_adds / (2 * (int64_t)d->model.n_heads * d->model.head_dim));
}

static int coordinator_open_model(struct coordinator *c, struct err *err)
{
    const struct coordinator_settings *s = c->settings;
    bool any = !s->cluster_host[0] || strcmp(s->cluster_host, "*") == 0 ||
               strcmp(s->cluster_host, "0.0.0.0") == 0 || strcmp(s->cluster_host, "::") == 0;
    snprintf(c->manifests, sizeof c->manifests, "%s/manifests", s->home);
    struct deployment_spec spec = {
        .model_path = s->model_path,
        .cache_dir = c->manifests,
        .workers_wanted = (int)s->workers,
        .context = (int)s->context,
        .concurrency = (int)s->concurrency,
        .kv_tokens = (int)s->kv_tokens,
        .kv_type = s->kv_type,
        .cuts = s->cuts,
        .n_cuts = s->n_cuts,
        .change_gain = s->replan_gain_percent / 100,
        .change_after_ms = 1000 * s->replan_after_s,
        .measure = s->measure,
        .preloads = s->preloads,
        .objective = (enum planner_objective)s->objective_choice,
        .shipping = c->shipping,
        .results_host = any                                         ? "*"
                        : strcmp(s->cluster_host, "localhost") == 0 ? "127.0.0.1"
                                                                    : s->cluster_host,
    };
    int rc = deployment_open(&c->deployment, &spec, err);
    if (rc == 0)
        rc = tokenizer_from_file(&c->tokenizer, c->deployment.weights, err);
    if (rc == 0)
        rc = constraint_store_new(&c->constraints, c->tokenizer, c->deployment.limits.vocabulary,
                                  err);
    if (rc != 0)
        return rc;
    const struct batch_limits *limits = &c->deployment.limits;
    struct scheduler_spec scheduler = {
        .n_slots = (int)limits->max_sequences,
        .context = (int)limits->max_context,
        .kv_blocks = (int)limits->kv_blocks,
        .max_rows = (int)limits->max_rows,
        .max_outputs = (int)limits->max_outputs,
        .max_waiting = (int)s->queue,
        .vocabulary = limits->vocabulary,
        .context_per_row = coordinator_context_per_row(&c->deployment),
        .tenant_weights = s->tenant_weights,
        .n_tenants = s->n_tenants,
        .without_cache = !s->prefix_cache,
    };
    return scheduler_init(&c->scheduler, &scheduler, err);
}

static int coordinator_open_sockets(struct coordinator *c, struct err *err)
{
    const struct coordinator_settings *s = c->settings;
    struct trust *trust = s->is_encrypted ? &c->trust : NULL;
    int rc = trust ? trust_open(trust, c->zmq, s->trust, err) : 0;
    if (rc == 0)
        rc = registry_open(&c->registry, c->zmq, s->cluster_host, s->cluster_port, trust,
                           &c->cluster_port, err);
    c->registry.exam_every_ms = 1000 * s->self_test_every_s;
    if (s->worker_silence_ms)
        c->registry.silence_ms = s->worker_silence_ms;
    if (rc == 0)
        rc = pipeline_open(&c->pipeline, c->zmq, s->cluster_host,
                           s->cluster_port ? s->cluster_port + 1 : 0, trust ? &trust->own : NULL,
                           err);
    if (rc == 0 && trust)
        rc = trust_tell_address(trust, s->cluster_host, c->cluster_port, err);
    if (rc != 0 || !s->beacon)
        return rc;
    struct beacon beacon = {.is_encrypted = s->is_encrypted, .port = c->cluster_port};
    snprintf(beacon.cluster, sizeof beacon.cluster, "%s", s->cluster_name);
    if (trust)
        memcpy(beacon.key, trust->own.public_key, KEYS_BYTES);
    announcer_open(&c->announcer, s->cluster_host, (int)s->beacon_port, &beacon);
    return 0;
}

int coordinator_open(struct coordinator **ret_coordinator,
                     const struct coordinator_settings *settings, struct err *err)
{
    struct coordinator *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, ERR_MEMORY, "no memory for the coordinator");
    c->settings = settings;
    c->n_tenants = settings->n_tenants ? settings->n_tenants : 1;
    c->tenant_requests = calloc((size_t)c->n_tenants, sizeof *c->tenant_requests);
    c->first_deadline_us = INT64_MAX;
    c->announcer.fd = -1;
    int rc = c->tenant_requests ? wire_context(&c->zmq, err)
                                : err_set(err, ERR_MEMORY, "no memory for the tenants");
    if (rc == 0)
        rc = coordinator_open_sockets(c, err);
    if (rc == 0)
        rc = shipping_open(&c->shipping, c->zmq, settings->cluster_host,
                           settings->cluster_port ? settings->cluster_port + 2 : 0,
                           settings->is_encrypted ? &c->trust.own : NULL, err);
    if (rc == 0)
        rc = timeline_new(&c->timeline, err);
    if (rc == 0)
        rc = metrics_new(&c->metrics, err);
    if (rc == 0) {
        c->pipeline.timeline = c->timeline;
        c->pipeline.metrics = c->metrics;
        rc = coordinator_open_model(c, err);
    }
    if (rc != 0) {
        coordinator_close(c);
        return rc;
    }
    *ret_coordinator = c;
    return 0;
}

void coordinator_close(struct coordinator *c)
{
    if (!c)
        return;
    while (c->requests)
        coordinator_end(c, c->requests, FINISH_CANCELLED);
    scheduler_clear(&c->scheduler);
    constraint_store_free(c->constraints);
    tokenizer_free(c->tokenizer);
    shipping_close(c->shipping); /* it lends what the deployment has mapped */
    deployment_close(&c->deployment);
    pipeline_close(&c->pipeline);
    registry_close(&c->registry);
    trust_close(&c->trust);
    announcer_close(&c->announcer);
    timeline_free(c->timeline);
    metrics_free(c->metrics);
    if (c->zmq)
        zmq_ctx_term(c->zmq);
    free(c->tenant_requests);
    free(c);
}

int coordinator_content_port(const struct coordinator *c)
{
    return shipping_port(c->shipping);
}

int coordinator_cluster_port(const struct coordinator *c)
{
    return c->cluster_port;
}

void coordinator_sockets(const struct coordinator *c, void **ret_control, void **ret_results,
                         void **ret_door)
{
    *ret_control = c->registry.socket;
    *ret_results = c->pipeline.results;
    *ret_door = c->trust.zap.socket;
}

/* ---- what the API may know ---- */

void coordinator_status(const struct coordinator *c, struct coordinator_status *ret_status)
{
    *ret_status = (struct coordinator_status){
        .ready = c->deployment.state == DEPLOYMENT_SERVING,
        .epoch = c->deployment.plan.epoch,
        .next_epoch = c->deployment.next.n_stages ? c->deployment.next.epoch : 0,
        .n_stages = c->deployment.state >= DEPLOYMENT_LOADING ? c->deployment.plan.n_stages : 0,
        .n_workers = c->registry.n_workers,
        .n_tenants = c->n_tenants,
        .running = c->scheduler.n_running,
        .waiting = c->scheduler.waiting.n_waiting,
        .n_queue_full = c->n_queue_full,
        .n_tenant_limit = c->n_tenant_limit,
        .n_timeout = c->n_timeout,
        .kv_blocks = c->scheduler.blocks.n_blocks,
        .kv_blocks_free = c->scheduler.blocks.n_free,
        .n_preemptions = c->scheduler.n_preemptions,
        .n_looked_up_tokens = c->n_looked_up_tokens,
        .n_found_tokens = c->n_found_tokens,
        .n_damaged_results = c->pipeline.n_damaged,
    };
    snprintf(ret_status->change, sizeof ret_status->change, "%s", c->deployment.change);
    ret_status->is_degraded = deployment_is_degraded(&c->deployment);
    if (ret_status->is_degraded && c->deployment.state == DEPLOYMENT_WAITING) {
        struct deployment_missing missing;
        deployment_find_missing(&c->deployment, &c->registry, &missing);
        ret_status->missing_bytes = missing.memory_bytes;
        ret_status->missing_workers = missing.workers;
    }
    if (!ret_status->ready)
        deployment_explain(&c->deployment, &c->registry, ret_status->waiting_for,
                           sizeof ret_status->waiting_for);
}

void coordinator_tenants(const struct coordinator *c, struct coordinator_tenant_status *to)
{
    const char *const *names = c->settings->tenant_names;
    for (int i = 0; i < c->n_tenants; i++)
        to[i] = (struct coordinator_tenant_status){.name = names ? names[i] : "default"};
    for (const struct request *r = c->requests; r; r = r->next)
        for (int i = 0; i < r->n_choices; i++) {
            to[r->tenant].running += r->choices[i].slot >= 0;
            to[r->tenant].waiting += r->choices[i].slot < 0 && r->choices[i].finish == FINISH_NONE;
        }
}

/* Pipeline order first, then those without a stage in the order of joining. */
static const struct worker_entry *coordinator_worker(const struct coordinator *c, int index)
{
    for (int i = 0; i < c->deployment.plan.n_stages; i++) {
        const struct worker_entry *w = registry_stage(&c->registry, i);
        if (w && index-- == 0)
            return w;
    }
    for (const struct worker_entry *w = c->registry.workers; w; w = w->next)
        if (w->stage < 0 && index-- == 0)
            return w;
    return NULL;
}

bool coordinator_worker_status(const struct coordinator *c, int index,
                               struct coordinator_worker_status *ret_status)
{
    const struct worker_entry *w = coordinator_worker(c, index);
    if (!w)
        return false;
    *ret_status = (struct coordinator_worker_status){
        .stage = w->stage,
        .first_layer = w->first_layer,
        .end_layer = w->end_layer,
        .next_stage = w->next_stage,
        .next_first_layer = w->next_first_layer,
        .next_end_layer = w->next_end_layer,
        .standby_first = w->stage < 0 && w->standby_epoch ? w->standby_first : -1,
        .standby_end = w->stage < 0 && w->standby_epoch ? w->standby_end : -1,
        .standby_is_ready = w->standby_is_ready,
        .n_losses = w->n_losses,
        .threads = w->threads,
        .memory_offered = w->memory_bytes,
        .memory_claimed = w->memory_claimed,
        .load_done = w->load_done,
        .load_total = w->load_total,
        .fetch_done = w->fetch_done,
        .fetch_total = w->fetch_total,
        .fetch_rate = w->fetch_rate,
        .steps = w->steps,
        .busy_us = w->busy_us,
        .memory_used = w->memory_used,
        .sent_bytes = w->sent_bytes,
        .damaged_messages = w->damaged_messages,
        .scrubbed_bytes = w->scrubbed_bytes,
        .n_damaged_tensors = w->n_damaged_tensors,
        .n_exams = w->n_exams,
        .has_temperature = w->temperature_mk > 0,
        .temperature_c = (double)w->temperature_mk / 1000 - 273.15,
        .cores = w->cores,
        .efficient_cores = w->efficient_cores,
        .numa_nodes = w->numa_nodes,
        .read_one = w->read_one,
        .read_all = w->read_all,
        .layer_us = 1e6 * w->speed.seconds[0][0],
        .layer_many_us = 1e6 * w->speed.seconds[0][3],
        .round_trip_us = -1,
        .link_rate = links_probed(w),
        .hop_rate = w->stage >= 0 ? w->hop.bytes_per_second : 0,
        .hop_us = w->stage >= 0 && w->hop.epoch ? w->hop.least_us : -1,
    };
    clock_offset_round_trip(&w->clock, &ret_status->round_trip_us);
    if (w->n_losses && w->kept_out_until_ms > clock_now_ms())
        ret_status->kept_out_ms = w->kept_out_until_ms - clock_now_ms();
    snprintf(ret_status->expelled, sizeof ret_status->expelled, "%s", w->expelled);
    snprintf(ret_status->standby_reason, sizeof ret_status->standby_reason, "%s",
             w->stage < 0 ? w->standby_reason : "");
    ret_status->is_timed = clock_offset_estimate(
        &w->clock, clock_now_us(), &ret_status->clock_offset_us, &ret_status->clock_uncertainty_us);
    const char *state = w->expelled[0]                ? "expelled"
                        : w->unfit                    ? "unfit"
                        : w->is_draining              ? w->stage < 0 ? "drained" : "draining"
                        : w->stage < 0 && w->n_losses ? "kept-out"
                        : w->stage < 0                ? "standby"
                        : w->state == WORKER_SERVING  ? "serving"
                        : w->state == WORKER_LOADING  ? "loading"
                                                      : "joined";
    snprintf(ret_status->name, sizeof ret_status->name, "%s", w->name);
    if (c->registry.trust)
        keys_format(w->key, ret_status->key);
    snprintf(ret_status->isa, sizeof ret_status->isa, "%s", w->isa);
    snprintf(ret_status->address, sizeof ret_status->address, "%s", w->address);
    snprintf(ret_status->state, sizeof ret_status->state, "%s", state);
    snprintf(ret_status->kernels, sizeof ret_status->kernels, "%s", w->kernels);
    return true;
}

int coordinator_drain_worker(struct coordinator *c, const char *worker, struct err *err)
{
    return deployment_drain(&c->deployment, &c->registry, worker, err);
}

int coordinator_resume_worker(struct coordinator *c, const char *worker, struct err *err)
{
    return deployment_resume(&c->deployment, &c->registry, worker, err);
}

const struct timeline *coordinator_timeline(const struct coordinator *c)
{
    return c->timeline;
}

const struct metrics *coordinator_metrics(const struct coordinator *c)
{
    return c->metrics;
}

const struct model_config *coordinator_model(const struct coordinator *c)
{
    return &c->deployment.model;
}

const char *coordinator_model_alias(const struct coordinator *c)
{
    return c->settings->model_alias;
}

const struct tokenizer *coordinator_tokenizer(const struct coordinator *c)
{
    return c->tokenizer;
}

struct constraint_store *coordinator_constraints(const struct coordinator *c)
{
    return c->constraints;
}

const struct weight_file *coordinator_weights(const struct coordinator *c)
{
    return c->deployment.weights;
}

int coordinator_context(const struct coordinator *c)
{
    return (int)c->deployment.limits.max_context;
}

const char *coordinator_fingerprint(const struct coordinator *c)
{
    return c->fingerprint[0] ? c->fingerprint : "fp_none";
}
