#include "coordinator/deployment_parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/reunion.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CONTEXT     4096
#define DEFAULT_CONCURRENCY 16
#define DEFAULT_CONTEXTS    4 /* that fit the KV cache */
#define MAX_ROWS            512
#define MIN_OUTPUTS         32
/* A step that has been under way for so long, and longer than any before, while no stage computed,
 * was lost between two; as long as none has come back, a slow link may be on its way. */
#define STUCK_MS       2000
#define STUCK_FIRST_MS 15000
#define MAX_BARREN     3
#define MEASURE_BYTES  (128 << 20) /* a smaller model is not worth measuring for */
/* While workers load, the log says so often how far they are. */
#define TELL_EVERY_MS 5000

static bool deployment_on_hash(void *context, int64_t bytes)
{
    struct deployment *d = context;
    atomic_store(&d->bytes_hashed, bytes);
    return !atomic_load(&d->hash_cancelled);
}

static void *deployment_hash(void *argument)
{
    struct deployment *d = argument;
    d->hash_rc = manifest_compute(&d->manifest, d->weights, d->spec.cache_dir, deployment_on_hash,
                                  d, &d->hash_err);
    atomic_store(&d->hashed, true);
    return NULL;
}

static int deployment_set_limits(struct deployment *d, struct err *err)
{
    int context = d->spec.context ? d->spec.context : DEFAULT_CONTEXT;
    if (!d->spec.context && context > d->model.context_length)
        context = d->model.context_length;
    int concurrency = d->spec.concurrency ? d->spec.concurrency : DEFAULT_CONCURRENCY;
    uint32_t blocks_each = (uint32_t)(context + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS;
    uint32_t kv_blocks =
        d->spec.kv_tokens
            ? (uint32_t)(d->spec.kv_tokens + KV_BLOCK_TOKENS - 1) / KV_BLOCK_TOKENS
            : blocks_each *
                  (uint32_t)(concurrency < DEFAULT_CONTEXTS ? concurrency : DEFAULT_CONTEXTS);
    d->limits = (struct batch_limits){
        .max_rows = concurrency > MAX_ROWS ? (uint32_t)concurrency : MAX_ROWS,
        .max_sequences = (uint32_t)concurrency,
        .max_outputs = concurrency > MIN_OUTPUTS ? (uint32_t)concurrency : MIN_OUTPUTS,
        .max_context = (uint32_t)context,
        .kv_blocks = kv_blocks,
        .vocabulary = (uint32_t)d->model.vocabulary_size,
    };
    if (kv_blocks < blocks_each)
        return err_set(err, ERR_CONFIG,
                       "kv_tokens %d is less than one context of %d: raise --kv-tokens, or lower "
                       "--context",
                       d->spec.kv_tokens, context);
    return 0;
}

static int deployment_describe_model(struct deployment *d, struct err *err)
{
    struct model_shape shape;
    int rc = model_shape_of_file(&shape, &d->model, d->weights, err);
    if (rc == 0)
        rc = plan_model_of_shape(&d->costs, &shape, &d->limits, d->spec.kv_type, err);
    d->wants_measures = d->spec.measure && model_shape_bytes(&shape) >= MEASURE_BYTES;
    model_shape_clear(&shape);
    return rc;
}

int deployment_open(struct deployment *d, const struct deployment_spec *spec, struct err *err)
{
    /* Epochs go on from the clock, so that a coordinator that was restarted never takes results of
     * the one before for its own. */
    *d = (struct deployment){.spec = *spec, .newest_epoch = (uint64_t)clock_unix_ms()};
    int rc = weight_file_open(&d->weights, spec->model_path, err);
    if (rc == 0)
        rc = model_config_read(&d->model, d->weights, err);
    if (rc != 0)
        return rc;
    if (spec->context > d->model.context_length)
        return err_set(err, ERR_CONFIG, "a context of %d was asked for, %s was trained for %d",
                       spec->context, d->model.name, d->model.context_length);
    for (int i = 0; i < spec->n_cuts; i++)
        if (spec->cuts[i] >= d->model.n_layers)
            return err_set(err, ERR_CONFIG, "cut at layer %d: %s has layers 0 to %d", spec->cuts[i],
                           d->model.name, d->model.n_layers - 1);
    if (spec->kv_type == KV_Q8_0 && d->model.head_dim % KV_Q8_0_GROUP != 0)
        return err_set(err, ERR_CONFIG,
                       "kv = \"q8_0\" takes groups of %d elements, and a head of %s has %d",
                       KV_Q8_0_GROUP, d->model.name, d->model.head_dim);
    rc = deployment_set_limits(d, err);
    if (rc != 0)
        return rc;
    rc = deployment_describe_model(d, err);
    if (rc != 0)
        return rc;
    manifest_digest_config(&d->model, d->config_digest);
    int failed = pthread_create(&d->hasher, NULL, deployment_hash, d);
    if (failed)
        return err_set(err, ERR_MEMORY, "hashing thread: %s", strerror(failed));
    d->hasher_runs = true;
    return 0;
}

void deployment_close(struct deployment *d)
{
    atomic_store(&d->hash_cancelled, true);
    if (d->hasher_runs)
        pthread_join(d->hasher, NULL);
    d->hasher_runs = false;
    manifest_clear(&d->manifest);
    plan_model_clear(&d->costs);
    weight_file_close(d->weights);
    d->weights = NULL;
}

/* ---- plans ---- */

/* Who has no part in the plan holds no memory for it. */
static void deployment_unload_standby(const struct deployment *d, struct registry *r)
{
    Paceline__Unload unload = PACELINE__UNLOAD__INIT;
    unload.deployment = 1;
    unload.epoch = d->plan.epoch;
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        if (w->stage < 0)
            registry_send(r, w, PACELINE__CONTROL__BODY_UNLOAD, &unload);
}

static int deployment_start_loading(struct deployment *d, struct registry *r,
                                    struct worker_entry *const *entries, const struct pipeline *p,
                                    struct err *err)
{
    d->plan.epoch = ++d->newest_epoch;
    for (int i = 0; i < d->plan.n_stages; i++) {
        const struct planner_stage *s = &d->plan.stages[i];
        struct worker_entry *w = entries[s->worker];
        w->stage = i;
        w->epoch = d->plan.epoch;
        w->state = WORKER_LOADING;
        w->first_layer = s->first_layer;
        w->end_layer = s->end_layer;
        w->load_done = w->load_total = w->memory_claimed = 0;
        w->fetch_done = w->fetch_total = w->fetch_rate = 0;
        w->standby_epoch = 0; /* the stage takes what it needs of it */
        w->standby_is_ready = false;
        w->beats_astray = 0;
    }
    int rc = deployment_send_loads(d, r, p, &d->plan, entries, false, err);
    if (rc != 0)
        return rc;
    deployment_unload_standby(d, r);
    d->state = DEPLOYMENT_LOADING;
    d->obstacle.code = ERR_NONE;
    return 0;
}

/* That must have joined before the first plan. */
static int deployment_workers_wanted(const struct deployment_spec *s)
{
    int wanted = s->n_cuts + 1;
    return wanted > s->workers_wanted ? wanted : s->workers_wanted;
}

int deployment_candidates(const struct registry *r, bool with_unwanted,
                          struct worker_entry **ret_entries)
{
    int n = 0;
    for (struct worker_entry *w = r->workers; w; w = w->next)
        if (!w->unfit && (with_unwanted || (!w->is_draining && !w->n_losses)))
            ret_entries[n++] = w;
    return n;
}

/* Without those who are to have no part, unless nothing serves without them. */
static int deployment_plan_anew(struct deployment *d, const struct registry *r,
                                struct worker_entry **entries, int *ret_n, struct err *err)
{
    const struct deployment_plan before = d->plan;
    struct deployment_plan best;
    int rc = ERR_MEMORY;
    *ret_n = deployment_candidates(r, false, entries);
    if (!d->served_once)
        reunion_order(entries, *ret_n);
    if (*ret_n > 0)
        rc = deployment_make_plan(d, entries, *ret_n, &best, err);
    if (rc != 0) {
        int n = deployment_candidates(r, true, entries);
        if (n > *ret_n)
            rc = deployment_make_plan(d, entries, n, &best, err);
        *ret_n = n;
    }
    /* What can go on at once does; a better plan is made ready beside it. */
    if (rc == 0 &&
        (!d->served_once || !deployment_standby_plan(d, &before, entries, *ret_n, &best, &d->plan)))
        d->plan = best;
    return rc;
}

static int deployment_try_plan(struct deployment *d, struct registry *r, const struct pipeline *p,
                               struct err *err)
{
    int wanted = deployment_workers_wanted(&d->spec);
    if (!r->n_workers)
        d->obstacle.code = ERR_NONE; /* what hindered those who have left */
    if (!r->n_workers || (!d->served_once && r->n_workers < wanted))
        return 0;
    struct worker_entry **entries = calloc((size_t)r->n_workers, sizeof(struct worker_entry *));
    if (!entries)
        return err_set(err, ERR_MEMORY, "no memory to plan");
    int n;
    struct err obstacle = {0};
    int rc = deployment_plan_anew(d, r, entries, &n, &obstacle);
    if (n == 0) { /* the obstacle stays: what made the last of them unfit */
        free(entries);
        return 0;
    }
    if (rc == 0) {
        deployment_tell_plan(d, entries, n, &d->plan);
        rc = deployment_start_loading(d, r, entries, p, err);
    } else if (!d->served_once && d->spec.workers_wanted) {
        *err = obstacle; /* these workers were said to suffice */
    } else {
        if (strcmp(obstacle.text, d->obstacle.text) != 0)
            log_warning("no plan: %s", obstacle.text);
        d->obstacle = obstacle;
        rc = 0;
    }
    free(entries);
    return rc;
}

/* ---- moving on ---- */

static void deployment_release_workers(struct deployment *d, struct registry *r)
{
    for (struct worker_entry *w = r->workers; w; w = w->next) {
        w->last_stage = w->stage;
        w->stage = w->first_layer = w->end_layer = -1;
        w->state = WORKER_JOINED;
    }
    deployment_change_forget(d, r); /* the plan that comes replaces it */
    d->state = DEPLOYMENT_WAITING;
}

static bool deployment_all_ready(const struct deployment *d, const struct registry *r)
{
    for (int i = 0; i < d->plan.n_stages; i++) {
        const struct worker_entry *w = registry_stage(r, i);
        if (!w || w->state != WORKER_SERVING || w->epoch != d->plan.epoch)
            return false;
    }
    return true;
}

/* Without a cause that is known, nor any step that came back: what is replayed may be what breaks
 * it. */
static void deployment_count_barren(struct deployment *d, const struct pipeline *p,
                                    enum deployment_event *ret_event)
{
    if (p->next_step > 1 && p->n_steps_back == 0)
        d->n_barren++;
    if (d->n_barren < MAX_BARREN)
        return;
    d->n_barren = 0;
    *ret_event = DEPLOYMENT_FAILED;
    err_set(&d->failure, ERR_INTERNAL,
            "%d plans in a row broke before they brought a result: the coordinator's log names the "
            "workers",
            MAX_BARREN);
}

void deployment_interrupt(struct deployment *d, struct registry *r, struct pipeline *p,
                          const struct deployment_loss *loss, enum deployment_event *ret_event)
{
    if (p->n_steps_back > 0)
        d->n_barren = 0;
    if (d->state == DEPLOYMENT_SERVING) {
        *ret_event = DEPLOYMENT_LOST;
        d->loss = loss ? *loss : (struct deployment_loss){.is_suspicious = false};
        if (!loss)
            deployment_count_barren(d, p, ret_event);
        else if (loss->is_suspicious)
            pipeline_blame(p, loss->step);
    }
    pipeline_disconnect(p);
    deployment_release_workers(d, r);
}

/* Whether there is a plan without those who could not load their layers. */
static bool deployment_others_suffice(const struct deployment *d, const struct registry *r)
{
    struct worker_entry **entries = calloc((size_t)r->n_workers + 1, sizeof(struct worker_entry *));
    struct deployment_plan plan;
    int n = entries ? deployment_candidates(r, true, entries) : 0;
    bool suffice = n > 0 && deployment_make_plan(d, entries, n, &plan, NULL) == 0;
    free(entries);
    return suffice;
}

static int deployment_on_failure(struct deployment *d, struct registry *r, struct pipeline *p,
                                 enum deployment_event *ret_event, struct err *err)
{
    /* A link or a memory that failed says nothing of the requests. */
    bool is_machine = r->failure.code == ERR_NETWORK || r->failure.code == ERR_LIMIT ||
                      r->failure.code == ERR_DAMAGED;
    struct deployment_loss refused = {
        .is_suspicious = true, .is_seen = true, .step = r->failed_step};
    snprintf(refused.words, sizeof refused.words, "%s", r->failure.text);
    log_error("%s", r->failure.text);
    deployment_interrupt(d, r, p, is_machine ? NULL : &refused, ret_event);
    d->obstacle = r->failure;
    /* One that cannot load is no reason to do without the others, or without those that may come.
     */
    bool goes_on = r->failure.code == ERR_CANCELLED || deployment_others_suffice(d, r) ||
                   !d->spec.workers_wanted;
    if (!d->served_once && !goes_on) {
        /* The workers that were said to suffice do not: file or memory is not what it should be. */
        *err = r->failure;
        return r->failure.code;
    }
    return 0;
}

static bool deployment_is_stuck(const struct deployment *d, const struct registry *r,
                                const struct pipeline *p)
{
    int64_t now_ms = clock_now_ms();
    int64_t limit_ms = p->longest_us ? STUCK_MS + 2 * p->longest_us / 1000 : STUCK_FIRST_MS;
    if (!p->oldest || now_ms - p->oldest->sent_us / 1000 < limit_ms)
        return false;
    for (const struct worker_entry *w = r->workers; w; w = w->next)
        if (w->stage >= 0 && now_ms - w->last_busy_ms < limit_ms)
            return false;
    return true;
}

static void deployment_describe_loss(const struct deployment *d, const struct registry *r,
                                     struct deployment_loss *ret_loss)
{
    bool crashed = r->lost_end == WORKER_CRASHED;
    *ret_loss = (struct deployment_loss){.is_suspicious = crashed || r->lost_end == WORKER_ENDED,
                                         .is_seen = crashed && r->lost_step &&
                                                    r->lost_epoch == d->plan.epoch};
    if (ret_loss->is_seen)
        ret_loss->step = r->lost_step;
    snprintf(ret_loss->words, sizeof ret_loss->words, "worker %s %s%s%s", r->lost_name,
             crashed ? "crashed (" : "ended", crashed ? r->lost_fault : "", crashed ? ")" : "");
}

/* What ends a plan. true: there are workers to plan anew with. */
static bool deployment_review_losses(struct deployment *d, struct registry *r, struct pipeline *p,
                                     enum deployment_event *ret_event)
{
    bool in_service = d->state == DEPLOYMENT_SERVING;
    struct deployment_loss loss;
    deployment_describe_loss(d, r, &loss);
    if (r->stage_lost)
        log_warning("worker %s is gone: planning anew", r->lost_name);
    else if (in_service && p->is_broken)
        log_warning("a step was lost between the workers: planning anew");
    else if (in_service && deployment_is_stuck(d, r, p))
        log_warning("a step is lost and no worker computes: planning anew");
    else
        return false;
    deployment_interrupt(d, r, p, r->stage_lost ? &loss : NULL, ret_event);
    return true;
}

void deployment_begin(struct deployment *d, struct registry *r, struct pipeline *p,
                      enum deployment_event *ret_event)
{
    struct worker_entry *first = registry_stage(r, 0);
    const struct pipeline_keys keys = {first->key, registry_stage(r, d->plan.n_stages - 1)->key};
    struct err failure = {0};
    if (pipeline_connect(p, d->plan.epoch, d->plan.n_stages, first->address,
                         r->trust ? &keys : NULL, &failure) != 0) {
        log_error("worker %s: %s", first->name, failure.text);
        first->unfit = true;
        d->obstacle = failure;
        deployment_interrupt(d, r, p, NULL, ret_event);
        r->joined = true; /* the others may do without it */
        return;
    }
    d->state = DEPLOYMENT_SERVING;
    d->served_once = true;
    d->replan = (struct replan_state){0};
    *ret_event = DEPLOYMENT_BEGAN;
    log_info("epoch %" PRIu64 ": in service with %d stage%s", d->plan.epoch, d->plan.n_stages,
             d->plan.n_stages == 1 ? "" : "s");
}

static void deployment_tell_loading(struct deployment *d, const struct registry *r)
{
    int64_t now_ms = clock_now_ms();
    if (d->state != DEPLOYMENT_LOADING)
        d->last_told_ms = now_ms;
    if (now_ms - d->last_told_ms < TELL_EVERY_MS)
        return;
    d->last_told_ms = now_ms;
    for (const struct worker_entry *w = r->workers; w; w = w->next) {
        if (w->stage < 0 || w->state != WORKER_LOADING)
            continue;
        int64_t left = w->fetch_total - w->fetch_done;
        if (left > 0)
            log_info("worker %s: %.0f of %.0f MB fetched, %.0f MB/s, %.0f s left", w->name,
                     (double)w->fetch_done / 1e6, (double)w->fetch_total / 1e6,
                     (double)w->fetch_rate / 1e6,
                     w->fetch_rate > 0 ? (double)left / (double)w->fetch_rate : 0.0);
        else
            log_info("worker %s: %.0f of %.0f MB packed", w->name, (double)w->load_done / 1e6,
                     (double)w->load_total / 1e6);
    }
}

int deployment_review(struct deployment *d, struct registry *r, struct pipeline *p,
                      enum deployment_event *ret_event, struct err *err)
{
    *ret_event = DEPLOYMENT_NOTHING;
    if (d->state == DEPLOYMENT_HASHING) {
        if (!atomic_load(&d->hashed))
            return 0;
        if (d->hash_rc != 0) {
            *err = d->hash_err;
            return d->hash_rc;
        }
        int published = shipping_publish(d->spec.shipping, d->weights, &d->manifest, err);
        if (published != 0)
            return published;
        if (d->manifest.not_kept.code)
            log_warning("%s: the next start hashes the model again", d->manifest.not_kept.text);
        d->state = DEPLOYMENT_WAITING;
        r->joined = true; /* some may have come meanwhile */
    }
    deployment_tell_loading(d, r);
    if (r->expulsion.code)
        d->obstacle = r->expulsion;
    r->expulsion.code = ERR_NONE;
    int rc = 0;
    bool look = r->joined || r->stage_failed || d->awaits_measures || d->awaits_reunion;
    if (deployment_review_losses(d, r, p, ret_event))
        look = true;
    else if (r->stage_failed && r->failed_epoch == d->plan.epoch && d->state != DEPLOYMENT_WAITING)
        rc = deployment_on_failure(d, r, p, ret_event, err);
    if (r->joined && d->state >= DEPLOYMENT_LOADING)
        deployment_unload_standby(d, r);
    bool ready = r->stage_ready;
    r->joined = r->measured = r->stage_lost = r->stage_failed = r->stage_ready = false;
    /* What was in service is not kept waiting. */
    d->awaits_measures = look && deployment_await_measures(d, r) && !d->served_once;
    d->awaits_reunion = look && !d->served_once && reunion_is_awaited(r, clock_now_ms());
    if (rc == 0 && look && d->state == DEPLOYMENT_WAITING && !d->awaits_measures &&
        !d->awaits_reunion)
        rc = deployment_try_plan(d, r, p, err);
    if (rc == 0 && ready && d->state == DEPLOYMENT_LOADING && deployment_all_ready(d, r))
        deployment_begin(d, r, p, ret_event);
    if (rc == 0)
        rc = deployment_change_review(d, r, p, look || *ret_event == DEPLOYMENT_BEGAN, ret_event,
                                      err);
    return rc == 0 ? deployment_standby_review(d, r, err) : rc;
}

bool deployment_is_degraded(const struct deployment *d)
{
    return d->served_once && d->state != DEPLOYMENT_SERVING;
}

/* What would let it serve. */
static void deployment_explain_obstacle(const struct deployment *d, const struct registry *r,
                                        char *to, size_t size)
{
    struct deployment_missing missing;
    deployment_find_missing(d, r, &missing);
    int n = snprintf(to, size, "%s",
                     !r->n_workers      ? "no worker is here: start paceline-worker"
                     : d->obstacle.code ? d->obstacle.text
                                        : "a plan is being made");
    if (missing.memory_bytes && n > 0 && (size_t)n < size)
        snprintf(to + n, size - (size_t)n, "; one more that offers %.2f GiB is enough",
                 (double)missing.memory_bytes / (1 << 30));
}

void deployment_explain(const struct deployment *d, const struct registry *r, char *to, size_t size)
{
    int wanted = deployment_workers_wanted(&d->spec);
    int64_t done = 0, total = 0, left = 0, rate = 0;
    char fetching[80] = "";
    switch (d->state) {
    case DEPLOYMENT_HASHING:
        snprintf(to, size, "hashing the model's weights, %.0f %% done",
                 100.0 * (double)atomic_load(&d->bytes_hashed) /
                     (double)(weight_file_bytes(d->weights) + 1));
        return;
    case DEPLOYMENT_WAITING:
        if (d->served_once || d->obstacle.code)
            deployment_explain_obstacle(d, r, to, size);
        else if (d->awaits_reunion)
            snprintf(to, size, "the other workers of the plan before are expected");
        else if (d->awaits_measures && r->n_workers >= wanted)
            snprintf(to, size, "workers are measuring how fast they are");
        else if (r->n_workers < wanted)
            snprintf(to, size, "%d of %d worker%s joined: start paceline-worker on another machine",
                     r->n_workers, wanted, wanted == 1 ? " has" : "s have");
        else
            snprintf(to, size, "no worker is here: start paceline-worker");
        return;
    case DEPLOYMENT_LOADING:
        for (const struct worker_entry *w = r->workers; w; w = w->next) {
            if (w->stage < 0)
                continue;
            done += w->state == WORKER_SERVING ? w->load_total : w->load_done;
            total += w->load_total;
            left += w->fetch_total - w->fetch_done;
            rate += w->fetch_done < w->fetch_total ? w->fetch_rate : 0;
        }
        if (left > 0)
            snprintf(fetching, sizeof fetching, ", %.0f MB to fetch at %.0f MB/s",
                     (double)left / 1e6, (double)rate / 1e6);
        snprintf(to, size, "%d worker%s loading weights, %.0f of %.0f MB done%s", d->plan.n_stages,
                 d->plan.n_stages == 1 ? " is" : "s are", (double)done / 1e6, (double)total / 1e6,
                 fetching);
        return;
    case DEPLOYMENT_SERVING:
        snprintf(to, size, "in service");
        return;
    }
}
