#include "coordinator/deployment_change.h"

#include "base/clock.h"
#include "base/log.h"

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
#define STUCK_MS        2000
#define STUCK_FIRST_MS  15000
#define MAX_BARREN      3
#define READ_OF_THREAD  10e9  /* bytes a second, where nothing was measured ... */
#define OPS_OF_THREAD   250e9 /* ... and int8 operations */
#define TYPICAL_CONTEXT 512
#define OFFICE_LINK     110e6       /* bytes a second */
#define MEASURE_MS      5000        /* a plan waits for measurements */
#define MEASURE_BYTES   (128 << 20) /* a smaller model is not worth them */
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
    *d = (struct deployment){.spec = *spec, .newest_epoch = (uint64_t)clock_unix_s()};
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

/* ---- what workers do ---- */

static void deployment_ask_measure(const struct deployment *d, struct registry *r,
                                   struct worker_entry *w)
{
    const struct model_config *c = &d->model;
    unsigned char types[PLAN_KINDS * PLAN_MATRICES];
    for (int i = 0; i < d->costs.n_kinds; i++)
        memcpy(types + i * PLAN_MATRICES, d->costs.kinds[i].types, PLAN_MATRICES);
    Paceline__Measure m = PACELINE__MEASURE__INIT;
    m.hidden_size = (uint32_t)c->hidden_size;
    m.intermediate_size = (uint32_t)c->intermediate_size;
    m.heads = (uint32_t)c->n_heads;
    m.kv_heads = (uint32_t)c->n_kv_heads;
    m.head_dim = (uint32_t)c->head_dim;
    m.rope_dim = (uint32_t)c->rope_dim;
    m.vocabulary = (uint32_t)c->vocabulary_size;
    m.qkv_bias = c->qkv_bias;
    m.qk_norm = c->qk_norm;
    m.kv_type = (uint32_t)d->spec.kv_type;
    m.types.data = types;
    m.types.len = (size_t)d->costs.n_kinds * PLAN_MATRICES;
    m.head_type = d->costs.kinds[PLAN_HEAD].types[0];
    registry_send(r, w, PACELINE__CONTROL__BODY_MEASURE, &m);
    w->measure = MEASURE_ASKED;
    w->measure_asked_ms = clock_now_ms();
}

/* Asks those who have no stage and were not asked yet. true: the plan had better wait. */
bool deployment_await_measures(const struct deployment *d, struct registry *r)
{
    bool waits = false;
    for (struct worker_entry *w = r->workers; d->wants_measures && w; w = w->next) {
        if (w->measure == MEASURE_UNASKED && w->stage < 0)
            deployment_ask_measure(d, r, w);
        waits = waits ||
                (w->measure == MEASURE_ASKED && clock_now_ms() - w->measure_asked_ms < MEASURE_MS);
    }
    return waits;
}

/* Beyond this machine a link's rate is not known: that of most offices. */
static void deployment_describe_link(const struct worker_entry *w, struct plan_speed *s)
{
    int64_t round_trip_us = 0;
    bool is_near =
        strncmp(w->address, "tcp://127.", 10) == 0 || strncmp(w->address, "tcp://[::1]", 11) == 0;
    clock_offset_round_trip(&w->clock, &round_trip_us);
    s->link_s = PLAN_HANDLING_S + (is_near ? 0 : (double)round_trip_us / 2e6);
    s->link_bytes_per_s = is_near ? 0 : OFFICE_LINK;
}

/* Speeds that nobody has measured: by the number of threads, and hops cost nothing. */
static struct planner_worker deployment_describe_worker(const struct deployment *d,
                                                        const struct worker_entry *w,
                                                        bool is_measured)
{
    struct planner_worker worker = {
        .speed = w->speed, .memory_bytes = w->memory_bytes, .threads = w->most_threads};
    if (is_measured)
        deployment_describe_link(w, &worker.speed);
    else
        worker.speed = plan_speed_of_figures(&d->costs, w->threads * READ_OF_THREAD,
                                             w->threads * OPS_OF_THREAD);
    return worker;
}

static struct planner_goal deployment_goal(const struct deployment *d)
{
    uint32_t half = d->limits.max_context / 2;
    return (struct planner_goal){.objective = d->spec.objective,
                                 .concurrency = (int)d->limits.max_sequences,
                                 .context = half < TYPICAL_CONTEXT ? half : TYPICAL_CONTEXT};
}

/* Equal machines offer nearly the same; what is alike for the planner is planned alike each time.
 */
static void deployment_level_memory(struct planner_worker *workers, int n)
{
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            if (workers[i].memory_bytes > workers[k].memory_bytes &&
                workers[i].memory_bytes - workers[k].memory_bytes < workers[k].memory_bytes / 100)
                workers[i].memory_bytes = workers[k].memory_bytes;
            else if (workers[k].memory_bytes > workers[i].memory_bytes &&
                     workers[k].memory_bytes - workers[i].memory_bytes <
                         workers[i].memory_bytes / 100)
                workers[k].memory_bytes = workers[i].memory_bytes;
}

/* [n], of entries; the caller frees. */
static struct planner_worker *
deployment_describe_workers(const struct deployment *d, struct worker_entry *const *entries, int n)
{
    struct planner_worker *workers = calloc((size_t)n, sizeof *workers);
    if (!workers)
        return NULL;
    bool is_measured = true; /* numbers of different origin are not compared */
    for (int i = 0; i < n; i++)
        is_measured = is_measured && entries[i]->measure == MEASURE_KNOWN;
    for (int i = 0; i < n; i++)
        workers[i] = deployment_describe_worker(d, entries[i], is_measured);
    planner_level(&d->costs, workers, n);
    deployment_level_memory(workers, n);
    return workers;
}

void deployment_tell_plan(const struct deployment *d, struct worker_entry *const *entries, int n,
                          const struct deployment_plan *plan)
{
    bool has_stage[PLANNER_MAX_STAGES] = {false};
    struct planner_goal goal = deployment_goal(d);
    struct planner_worker *workers = deployment_describe_workers(d, entries, n);
    if (!workers)
        return;
    for (int i = 0; i < plan->n_stages; i++)
        has_stage[plan->stages[i].worker] = true;
    for (int i = 0; i < n && i < PLANNER_MAX_STAGES; i++) {
        entries[i]->standby_reason[0] = '\0';
        if (has_stage[i])
            continue;
        if (d->spec.n_cuts)
            snprintf(entries[i]->standby_reason, sizeof entries[i]->standby_reason,
                     "standby: the cuts make %d stages, and others joined first", plan->n_stages);
        else
            planner_explain_standby(&d->costs, workers, n, &goal, plan->stages, plan->n_stages, i,
                                    entries[i]->standby_reason, sizeof entries[i]->standby_reason);
        log_info("worker %s: %s", entries[i]->name, entries[i]->standby_reason);
    }
    if (entries[0]->measure == MEASURE_KNOWN) {
        struct planner_forecast f =
            planner_forecast(&d->costs, workers, n, &goal, plan->stages, plan->n_stages);
        log_info("plan for %s: about %.1f tokens/s for one stream, %.0f for %d, first token of %d "
                 "after %.1f s",
                 planner_objectives[goal.objective], 1 / f.latency_s, f.total_rate,
                 goal.concurrency, PLANNER_PROMPT, f.ttft_s);
    }
    free(workers);
}

/* The plan in service, its workers as indices of entries. false: one of them is not there. */
static bool deployment_present(const struct deployment *d, const struct registry *r,
                               struct worker_entry *const *entries, int n,
                               struct planner_stage ret_stages[PLANNER_MAX_STAGES])
{
    for (int i = 0; i < d->plan.n_stages; i++) {
        const struct worker_entry *w = registry_stage(r, i);
        int index = 0;
        while (index < n && entries[index] != w)
            index++;
        if (index == n)
            return false;
        ret_stages[i] = d->plan.stages[i];
        ret_stages[i].worker = index;
    }
    return true;
}

double deployment_gain(const struct deployment *d, const struct registry *r,
                       struct worker_entry *const *entries, int n,
                       const struct deployment_plan *plan)
{
    struct planner_stage now[PLANNER_MAX_STAGES];
    struct planner_goal goal = deployment_goal(d);
    if (!deployment_present(d, r, entries, n, now))
        return 0;
    struct planner_worker *workers = deployment_describe_workers(d, entries, n);
    if (!workers)
        return 0;
    struct planner_forecast f =
        planner_forecast(&d->costs, workers, n, &goal, now, d->plan.n_stages);
    struct planner_forecast g =
        planner_forecast(&d->costs, workers, n, &goal, plan->stages, plan->n_stages);
    free(workers);
    double rate = g.total_rate / f.total_rate - 1, latency = f.latency_s / g.latency_s - 1;
    if (goal.objective == PLANNER_LATENCY)
        return latency;
    /* A tenth more tokens are worth a tenth of latency, and the other way round where none are
     * lost. */
    return goal.objective == PLANNER_BALANCED && rate > -0.02 && latency > rate ? latency : rate;
}

bool deployment_judge(struct deployment *d, const struct registry *r, const struct pipeline *p,
                      struct worker_entry *const *entries, int n, struct deployment_plan *ret_plan,
                      double *ret_gain)
{
    struct planner_stage now[PLANNER_MAX_STAGES];
    struct planner_goal goal = deployment_goal(d);
    struct replan_rules rules = {d->spec.change_gain, d->spec.change_after_ms};
    if (!deployment_present(d, r, entries, n, now))
        return false;
    for (int i = 0; i < n; i++) /* nobody's speed is guessed beside others that were seen */
        if (entries[i]->measure != MEASURE_KNOWN && entries[i]->stage < 0)
            return false;
    struct planner_worker *workers = deployment_describe_workers(d, entries, n);
    struct replan_verdict *v = calloc(1, sizeof *v);
    bool is_seen = workers && v;
    for (int i = 0; is_seen && i < d->plan.n_stages; i++) {
        double rows, us;
        is_seen = step_cost_lately(&p->cost, i, &rows, &us);
        if (is_seen)
            replan_observe(&d->costs, &workers[now[i].worker], &now[i], rows, goal.context,
                           us / 1e6);
    }
    bool is_due = is_seen &&
                  replan_judge(&d->costs, workers, n, &goal, now, d->plan.n_stages, &rules,
                               clock_now_ms(), &d->replan, v, NULL) == 0 &&
                  v->is_due;
    if (is_due) {
        *ret_gain = v->gain;
        ret_plan->n_stages = v->n_stages;
        memcpy(ret_plan->stages, v->stages, (size_t)v->n_stages * sizeof *v->stages);
    }
    free(workers);
    free(v);
    return is_due;
}

int deployment_make_plan(const struct deployment *d, struct worker_entry *const *entries, int n,
                         struct deployment_plan *ret_plan, struct err *err)
{
    struct planner_worker *workers = deployment_describe_workers(d, entries, n);
    if (!workers)
        return err_set(err, ERR_MEMORY, "no memory to plan");
    struct planner_goal goal = deployment_goal(d);
    int rc;
    if (d->spec.n_cuts && n > d->spec.n_cuts)
        rc = planner_plan_cuts(&d->costs, workers, n, d->spec.cuts, d->spec.n_cuts,
                               ret_plan->stages, &ret_plan->n_stages, err);
    else
        rc = planner_plan(&d->costs, workers, n, &goal, ret_plan->stages, &ret_plan->n_stages, err);
    free(workers);
    return rc;
}

static int deployment_send_with_sources(const struct deployment *d, struct registry *r,
                                        const struct worker_entry *w, Paceline__Load *load,
                                        struct err *err)
{
    Paceline__ModelConfig config;
    struct shipping_sources sources;
    shipping_describe_config(&d->model, &config);
    shipping_find_sources(d->spec.shipping, d->spec.results_host, r, w, load, &sources);
    load->config = &config;
    load->n_sources = sources.n;
    load->sources = sources.list;
    size_t size = paceline__load__get_packed_size(load);
    if (size > WIRE_MAX_ENVELOPE - 64)
        return err_set(err, ERR_LIMIT,
                       "worker %s: the list of its tensors' chunks takes %zu bytes, and a message "
                       "may have %u: share the layers among more workers",
                       w->name, size, WIRE_MAX_ENVELOPE);
    registry_send(r, w, PACELINE__CONTROL__BODY_LOAD, load);
    return 0;
}

/* With keys: whom the stage listens to and whom it speaks to. NULL: the coordinator. peers: room
 * for one of each worker, borrowed by load. */
static void deployment_add_keys(Paceline__Load *load, struct registry *r,
                                const struct worker_entry *upstream,
                                const struct worker_entry *next, ProtobufCBinaryData *peers)
{
    if (!r->trust)
        return;
    unsigned char *own = r->trust->own.public_key;
    load->upstream_key =
        (ProtobufCBinaryData){KEYS_BYTES, upstream ? (uint8_t *)upstream->key : own};
    load->next_key = (ProtobufCBinaryData){KEYS_BYTES, next ? (uint8_t *)next->key : own};
    for (struct worker_entry *w = r->workers; w; w = w->next)
        peers[load->n_peer_keys++] = (ProtobufCBinaryData){KEYS_BYTES, w->key};
    load->peer_keys = peers;
}

static int deployment_send_load(const struct deployment *d, struct registry *r,
                                const struct deployment_plan *plan,
                                struct worker_entry *const *entries, int stage, const char *results,
                                bool beside, struct err *err)
{
    const struct worker_entry *w = entries[plan->stages[stage].worker];
    const struct worker_entry *upstream = stage ? entries[plan->stages[stage - 1].worker] : NULL;
    const struct worker_entry *next =
        stage + 1 < plan->n_stages ? entries[plan->stages[stage + 1].worker] : NULL;

    const char *slash = strrchr(d->spec.model_path, '/');
    Paceline__Load load = PACELINE__LOAD__INIT;
    load.deployment = 1;
    load.epoch = plan->epoch;
    load.beside = beside;
    load.model_path = (char *)d->spec.model_path;
    load.model_file = (char *)(slash ? slash + 1 : d->spec.model_path);
    load.first_layer = (uint32_t)plan->stages[stage].first_layer;
    load.end_layer = (uint32_t)plan->stages[stage].end_layer;
    load.kv_blocks = d->limits.kv_blocks;
    load.kv_type = (uint32_t)d->spec.kv_type;
    load.max_sequences = d->limits.max_sequences;
    load.max_context = d->limits.max_context;
    load.max_rows = d->limits.max_rows;
    load.max_outputs = d->limits.max_outputs;
    load.next_endpoint = (char *)(next ? next->address : results);
    load.stage = (uint32_t)stage;
    load.n_stages = (uint32_t)plan->n_stages;

    size_t n = weight_file_tensor_count(d->weights), used = 0;
    Paceline__TensorDigest *digests = calloc(n + 1, sizeof *digests);
    Paceline__TensorDigest **list = calloc(n + 1, sizeof *list);
    ProtobufCBinaryData *peers = calloc((size_t)r->n_workers + 1, sizeof *peers);
    if (!digests || !list || !peers) {
        free(digests);
        free(list);
        free(peers);
        return err_set(err, ERR_MEMORY, "no memory for the digests of %zu tensors", n);
    }
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = weight_file_tensor(d->weights, i);
        if (!model_tensor_is_in_stage(&d->model, t->name, plan->stages[stage].first_layer,
                                      plan->stages[stage].end_layer))
            continue;
        shipping_describe_tensor(d->weights, &d->manifest, i, &digests[used]);
        list[used] = &digests[used];
        used++;
    }
    load.config_sha256.data = (uint8_t *)d->config_digest;
    load.config_sha256.len = DIGEST_BYTES;
    load.n_digests = used;
    load.digests = list;
    deployment_add_keys(&load, r, upstream, next, peers);
    int rc = deployment_send_with_sources(d, r, w, &load, err);
    free(peers);
    free(digests);
    free(list);
    return rc;
}

int deployment_send_loads(const struct deployment *d, struct registry *r, const struct pipeline *p,
                          const struct deployment_plan *plan, struct worker_entry *const *entries,
                          bool beside, struct err *err)
{
    const char *host = d->spec.results_host;
    bool bare = strchr(host, ':') != NULL;
    char results[320];
    snprintf(results, sizeof results, "tcp://%s%s%s:%d", bare ? "[" : "", host, bare ? "]" : "",
             p->results_port);
    for (int i = 0; i < plan->n_stages; i++) {
        const struct planner_stage *s = &plan->stages[i];
        log_info("epoch %" PRIu64 ": layers %d to %d on %s", plan->epoch, s->first_layer,
                 s->end_layer - 1, entries[s->worker]->name);
        int rc = deployment_send_load(d, r, plan, entries, i, results, beside, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

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

int deployment_candidates(const struct registry *r, bool with_draining,
                          struct worker_entry **ret_entries)
{
    int n = 0;
    for (struct worker_entry *w = r->workers; w; w = w->next)
        if (!w->unfit && (with_draining || !w->is_draining))
            ret_entries[n++] = w;
    return n;
}

/* Without those who are to have no part, unless nothing serves without them. */
static int deployment_plan_anew(struct deployment *d, const struct registry *r,
                                struct worker_entry **entries, int *ret_n, struct err *err)
{
    int rc = ERR_MEMORY;
    *ret_n = deployment_candidates(r, false, entries);
    if (*ret_n > 0)
        rc = deployment_make_plan(d, entries, *ret_n, &d->plan, err);
    if (rc == 0)
        return 0;
    int n = deployment_candidates(r, true, entries);
    if (n > *ret_n)
        rc = deployment_make_plan(d, entries, n, &d->plan, err);
    *ret_n = n;
    return rc;
}

static int deployment_try_plan(struct deployment *d, struct registry *r, const struct pipeline *p,
                               struct err *err)
{
    int wanted =
        d->spec.n_cuts + 1 > d->spec.workers_wanted ? d->spec.n_cuts + 1 : d->spec.workers_wanted;
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
    } else if (!d->served_once) {
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

/* Out of service: LOST, unless this has happened too often without any result, for then what is
 * replayed may be what breaks it. */
void deployment_interrupt(struct deployment *d, struct registry *r, struct pipeline *p,
                          enum deployment_event *ret_event)
{
    if (d->state == DEPLOYMENT_SERVING) {
        *ret_event = DEPLOYMENT_LOST;
        if (p->n_results > 0)
            d->n_barren = 0;
        else if (p->next_step > 1)
            d->n_barren++;
        if (d->n_barren >= MAX_BARREN) {
            d->n_barren = 0;
            *ret_event = DEPLOYMENT_FAILED;
            err_set(&d->failure, ERR_INTERNAL,
                    "%d plans in a row broke before they brought a result: the coordinator's log "
                    "names the workers",
                    MAX_BARREN);
        }
    }
    pipeline_disconnect(p);
    deployment_release_workers(d, r);
}

static int deployment_on_failure(struct deployment *d, struct registry *r, struct pipeline *p,
                                 enum deployment_event *ret_event, struct err *err)
{
    bool served = d->state == DEPLOYMENT_SERVING;
    log_error("%s", r->failure.text);
    deployment_interrupt(d, r, p, ret_event);
    d->obstacle = r->failure;
    if (!d->served_once && r->failure.code != ERR_CANCELLED) {
        /* The workers that were said to suffice do not: file or memory is not what it should be. */
        *err = r->failure;
        return r->failure.code;
    }
    /* A link that failed says nothing of the requests: they are replayed. */
    if (served && r->failure.code != ERR_NETWORK && r->failure.code != ERR_LIMIT) {
        *ret_event = DEPLOYMENT_FAILED;
        err_set(&d->failure, ERR_INTERNAL, "%s", r->failure.text); /* no client's fault */
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

/* What ends a plan. true: there are workers to plan anew with. */
static bool deployment_review_losses(struct deployment *d, struct registry *r, struct pipeline *p,
                                     enum deployment_event *ret_event)
{
    bool in_service = d->state == DEPLOYMENT_SERVING;
    if (r->stage_lost)
        log_warning("worker %s is gone: planning anew", r->lost_name);
    else if (in_service && p->is_broken)
        log_warning("a step was lost between the workers: planning anew");
    else if (in_service && deployment_is_stuck(d, r, p))
        log_warning("a step is lost and no worker computes: planning anew");
    else
        return false;
    deployment_interrupt(d, r, p, ret_event);
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
        deployment_interrupt(d, r, p, ret_event);
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
        d->state = DEPLOYMENT_WAITING;
        r->joined = true; /* some may have come meanwhile */
    }
    deployment_tell_loading(d, r);
    int rc = 0;
    bool look = r->joined || r->stage_failed || d->awaits_measures;
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
    if (rc == 0 && look && d->state == DEPLOYMENT_WAITING && !d->awaits_measures)
        rc = deployment_try_plan(d, r, p, err);
    if (rc == 0 && ready && d->state == DEPLOYMENT_LOADING && deployment_all_ready(d, r))
        deployment_begin(d, r, p, ret_event);
    if (rc == 0)
        rc = deployment_change_review(d, r, p, look || *ret_event == DEPLOYMENT_BEGAN, ret_event,
                                      err);
    return rc;
}

void deployment_explain(const struct deployment *d, const struct registry *r, char *to, size_t size)
{
    int wanted =
        d->spec.n_cuts + 1 > d->spec.workers_wanted ? d->spec.n_cuts + 1 : d->spec.workers_wanted;
    int64_t done = 0, total = 0, left = 0, rate = 0;
    char fetching[80] = "";
    switch (d->state) {
    case DEPLOYMENT_HASHING:
        snprintf(to, size, "hashing the model's weights, %.0f %% done",
                 100.0 * (double)atomic_load(&d->bytes_hashed) /
                     (double)(weight_file_bytes(d->weights) + 1));
        return;
    case DEPLOYMENT_WAITING:
        if (d->obstacle.code)
            snprintf(to, size, "%s", d->obstacle.text);
        else if (d->awaits_measures && r->n_workers >= wanted)
            snprintf(to, size, "workers are measuring how fast they are");
        else if (!d->served_once && r->n_workers < wanted)
            snprintf(to, size, "%d of %d worker%s joined: start paceline-worker on another machine",
                     r->n_workers, wanted, wanted == 1 ? " has" : "s have");
        else
            snprintf(to, size, "no worker is here: start paceline-worker");
        return;
    case DEPLOYMENT_LOADING:
        for (const struct worker_entry *w = r->workers; w; w = w->next) {
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
