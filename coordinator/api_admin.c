#include "coordinator/api_admin.h"

#include "base/clock.h"
#include "base/version.h"
#include "coordinator/api.h"
#include "coordinator/api_params.h"
#include "coordinator/api_store.h"
#include "coordinator/json_body.h"
#include "coordinator/json_text.h"
#include "coordinator/metrics.h"
#include "kernels/attention.h"

#include <stdlib.h>
#include <string.h>

static json_t *api_admin_missing_json(const struct coordinator_status *s)
{
    return s->missing_bytes ? json_pack("{s:i, s:I}", "workers", s->missing_workers, "memory_bytes",
                                        (json_int_t)s->missing_bytes)
                            : json_null();
}

void api_admin_health(struct api_call *c)
{
    struct coordinator_status s;
    coordinator_status(c->api->coordinator, &s);
    bool is_draining = c->api->is_draining;
    if (s.ready && !is_draining) {
        api_call_answer(c, 200,
                        json_pack("{s:s, s:o, s:i, s:i, s:i, s:i}", "status", "ok", "model",
                                  api_call_model_json(c), "workers", s.n_workers, "stages",
                                  s.n_stages, "running", s.running, "waiting", s.waiting));
        return;
    }
    const char *why = is_draining        ? "The server is shutting down."
                      : s.waiting_for[0] ? s.waiting_for
                                         : "Loading model";
    const char *status = is_draining ? "draining" : s.is_degraded ? "degraded" : "loading";
    json_t *error = json_pack("{s:i, s:o, s:s}", "code", 503, "message",
                              json_text_string(why, strlen(why)), "type", "unavailable_error");
    api_call_header(c, "Retry-After", "%d", is_draining ? 5 : 1);
    api_call_answer(c, 503,
                    s.is_degraded && !is_draining
                        ? json_pack("{s:s, s:o, s:i, s:i, s:o}", "status", status, "missing",
                                    api_admin_missing_json(&s), "running", s.running, "waiting",
                                    s.waiting, "error", error)
                        : json_pack("{s:s, s:o}", "status", status, "error", error));
}

/* For who spreads requests: a word and a status, without the machines. After a loss they wait here
 * and not at the door. */
void api_admin_ready(struct api_call *c)
{
    struct coordinator_status s;
    coordinator_status(c->api->coordinator, &s);
    bool is_ready = (s.ready || s.is_degraded) && !c->api->is_draining;
    if (!is_ready)
        api_call_header(c, "Retry-After", "%d", c->api->is_draining ? 5 : 1);
    api_call_answer(c, is_ready ? 200 : 503,
                    json_pack("{s:s}", "status", is_ready ? "ready" : "not ready"));
}

static json_t *api_admin_model_json(const struct api_call *c)
{
    const struct coordinator *owner = c->api->coordinator;
    const struct model_config *m = coordinator_model(owner);
    return json_pack("{s:o, s:s, s:I, s:s, s:{s:o, s:s, s:i, s:i, s:i, s:i, s:i, s:I, s:s, s:i}}",
                     "id", api_call_model_json(c), "object", "model", "created",
                     (json_int_t)clock_unix_s(), "owned_by", "paceline", "meta", "name",
                     json_text_string(m->name, strlen(m->name)), "architecture",
                     m->architecture == MODEL_QWEN3 ? "qwen3" : "qwen2", "n_vocab",
                     m->vocabulary_size, "n_ctx", coordinator_context(owner), "n_ctx_train",
                     m->context_length, "n_embd", m->hidden_size, "n_layer", m->n_layers, "size",
                     (json_int_t)weight_file_bytes(coordinator_weights(owner)), "fingerprint",
                     coordinator_fingerprint(owner), "numerics", PACELINE_NUMERICS_VERSION);
}

void api_admin_models(struct api_call *c)
{
    api_call_answer(c, 200,
                    json_pack("{s:s, s:[o]}", "object", "list", "data", api_admin_model_json(c)));
}

void api_admin_model(struct api_call *c)
{
    struct err err;
    const char *name = c->path + strlen(c->route->path);
    if (api_params_names_model(c->api, name)) {
        api_call_answer(c, 200, api_admin_model_json(c));
        return;
    }
    err_set_param(&err, ERR_NOT_FOUND, "model",
                  "There is no model '%.100s' here; this server has '%.100s'.", name,
                  coordinator_model_alias(c->api->coordinator));
    c->error_code = "model_not_found";
    api_call_fail(c, &err);
}

/* Words that a worker said of itself. */
static json_t *api_admin_words(const char *text, size_t size)
{
    return json_text_string(text, strnlen(text, size));
}

/* What a worker is and does, as far as it is known. */
static json_t *api_admin_machine_json(const struct coordinator_worker_status *w)
{
    bool is_measured = w->layer_us > 0;
    json_t *measured =
        is_measured ? json_pack("{s:f, s:f, s:f, s:f}", "read_bytes_per_s_one_thread", w->read_one,
                                "read_bytes_per_s", w->read_all, "layer_us_1_row", w->layer_us,
                                "layer_us_64_rows", w->layer_many_us)
                    : json_null();
    return json_pack("{s:i, s:i, s:i, s:o}", "cores", w->cores, "efficient_cores",
                     w->efficient_cores, "numa_nodes", w->numa_nodes, "measured", measured);
}

static json_t *api_admin_number(double value)
{
    return value > 0 ? json_real(value) : json_null();
}

/* What was measured of the way to the next stage. */
static json_t *api_admin_hop_json(const struct coordinator_worker_status *w)
{
    return w->hop_rate > 0 || w->hop_us >= 0
               ? json_pack("{s:o, s:o}", "bytes_per_second", api_admin_number(w->hop_rate),
                           "least_us", w->hop_us >= 0 ? json_integer(w->hop_us) : json_null())
               : json_null();
}

static json_t *api_admin_worker_json(const struct coordinator_worker_status *w)
{
    json_t *worker = json_pack("{s:o, s:o, s:o, s:o, s:o, s:i, s:I, s:I, s:I, s:I, s:I, s:I}",
                               "name", api_admin_words(w->name, sizeof w->name), "address",
                               api_admin_words(w->address, sizeof w->address), "isa",
                               api_admin_words(w->isa, sizeof w->isa), "state",
                               api_admin_words(w->state, sizeof w->state), "kernels",
                               api_admin_words(w->kernels, sizeof w->kernels), "threads",
                               w->threads, "memory_offered", (json_int_t)w->memory_offered,
                               "memory_claimed", (json_int_t)w->memory_claimed, "load_done",
                               (json_int_t)w->load_done, "load_total", (json_int_t)w->load_total,
                               "steps", (json_int_t)w->steps, "busy_us", (json_int_t)w->busy_us);
    bool has_stage = w->stage >= 0;
    json_object_set_new(worker, "key", w->key[0] ? json_string(w->key) : json_null());
    int rc = json_object_set_new(worker, "stage", has_stage ? json_integer(w->stage) : json_null());
    rc |= json_object_set_new(worker, "layers",
                              has_stage ? json_pack("[i, i]", w->first_layer, w->end_layer)
                                        : json_null());
    rc |= json_object_set_new(worker, "next_layers",
                              w->next_stage >= 0
                                  ? json_pack("[i, i]", w->next_first_layer, w->next_end_layer)
                                  : json_null());
    rc |= json_object_set_new(worker, "standby",
                              w->standby_first >= 0
                                  ? json_pack("{s:[i, i], s:b}", "layers", w->standby_first,
                                              w->standby_end, "ready", w->standby_is_ready)
                                  : json_null());
    rc |= json_object_set_new(worker, "kept_out",
                              w->n_losses ? json_pack("{s:i, s:f}", "losses", w->n_losses,
                                                      "seconds", (double)w->kept_out_ms / 1000)
                                          : json_null());
    rc |= json_object_set_new(worker, "fetch_done", json_integer(w->fetch_done));
    rc |= json_object_set_new(worker, "fetch_total", json_integer(w->fetch_total));
    rc |= json_object_set_new(worker, "fetch_bytes_per_second", json_integer(w->fetch_rate));
    rc |= json_object_set_new(worker, "memory_used", json_integer(w->memory_used));
    rc |= json_object_set_new(worker, "sent_bytes", json_integer((json_int_t)w->sent_bytes));
    rc |= json_object_set_new(worker, "temperature_celsius",
                              w->has_temperature ? json_real(w->temperature_c) : json_null());
    rc |= json_object_set_new(worker, "clock_offset_us",
                              w->is_timed ? json_integer(w->clock_offset_us) : json_null());
    rc |= json_object_set_new(worker, "clock_uncertainty_us",
                              w->is_timed ? json_integer(w->clock_uncertainty_us) : json_null());
    rc |= json_object_set_new(worker, "machine", api_admin_machine_json(w));
    rc |= json_object_set_new(worker, "round_trip_us",
                              w->round_trip_us >= 0 ? json_integer(w->round_trip_us) : json_null());
    rc |= json_object_set_new(worker, "expelled",
                              w->expelled[0] ? api_admin_words(w->expelled, sizeof w->expelled)
                                             : json_null());
    rc |= json_object_set_new(worker, "link_bytes_per_second", api_admin_number(w->link_rate));
    rc |= json_object_set_new(worker, "next_hop", api_admin_hop_json(w));
    rc |= json_object_set_new(worker, "standby_reason",
                              w->standby_reason[0]
                                  ? api_admin_words(w->standby_reason, sizeof w->standby_reason)
                                  : json_null());
    if (rc == 0)
        return worker;
    json_decref(worker);
    return NULL;
}

static json_t *api_admin_tenants_json(const struct coordinator *coordinator, int n)
{
    struct coordinator_tenant_status *tenants = calloc((size_t)n, sizeof *tenants);
    json_t *list = json_array();
    int rc = tenants && list ? 0 : -1;
    if (rc == 0)
        coordinator_tenants(coordinator, tenants);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = json_array_append_new(list,
                                   json_pack("{s:s, s:i, s:i}", "name", tenants[i].name, "running",
                                             tenants[i].running, "waiting", tenants[i].waiting));
    free(tenants);
    if (rc == 0)
        return list;
    json_decref(list);
    return NULL;
}

static json_t *api_admin_change_json(const struct coordinator_status *s)
{
    return s->next_epoch ? json_pack("{s:I, s:o}", "epoch", (json_int_t)s->next_epoch, "why",
                                     api_admin_words(s->change, sizeof s->change))
                         : json_null();
}

static json_t *api_admin_journal_json(const struct api_store *s)
{
    const char *why, *state = api_store_journal_state(s, &why);
    return json_pack("{s:s, s:o}", "state", state, "why",
                     why[0] ? api_admin_words(why, strlen(why)) : json_null());
}

void api_admin_cluster(struct api_call *c)
{
    struct coordinator_status s;
    struct coordinator_worker_status w;
    coordinator_status(c->api->coordinator, &s);
    const struct metrics *m = coordinator_metrics(c->api->coordinator);
    json_t *workers = json_array();
    int rc = workers ? 0 : -1;
    for (int i = 0; rc == 0 && i < s.n_workers; i++)
        if (coordinator_worker_status(c->api->coordinator, i, &w))
            rc = json_array_append_new(workers, api_admin_worker_json(&w));
    if (rc != 0) {
        json_decref(workers);
        workers = NULL; /* answered as no memory */
    }
    api_call_answer(
        c, 200,
        json_pack("{s:b, s:o, s:o, s:s, s:I, s:o, s:i, s:i, s:i, s:i, s:{s:I, s:I, s:I}, s:i, s:i, "
                  "s:i, s:I, s:I, s:I, s:I, s:I, s:s, s:o, s:o, s:o}",
                  "ready", s.ready && !c->api->is_draining, "waiting_for",
                  s.ready ? json_null() : api_admin_words(s.waiting_for, sizeof s.waiting_for),
                  "model", api_call_model_json(c), "fingerprint",
                  coordinator_fingerprint(c->api->coordinator), "epoch", (json_int_t)s.epoch,
                  "change", api_admin_change_json(&s), "stages", s.n_stages, "layers",
                  coordinator_model(c->api->coordinator)->n_layers, "running", s.running, "waiting",
                  s.waiting, "refused", "queue_full", (json_int_t)s.n_queue_full, "tenant_limit",
                  (json_int_t)s.n_tenant_limit, "timeout", (json_int_t)s.n_timeout,
                  "kv_block_tokens", KV_BLOCK_TOKENS, "kv_blocks", s.kv_blocks, "kv_blocks_free",
                  s.kv_blocks_free, "preemptions", (json_int_t)s.n_preemptions,
                  "prefix_cache_query_tokens", (json_int_t)s.n_looked_up_tokens,
                  "prefix_cache_hit_tokens", (json_int_t)s.n_found_tokens, "prompt_tokens",
                  (json_int_t)m->n_prompt_tokens, "generated_tokens",
                  (json_int_t)m->n_generated_tokens, "version", PACELINE_VERSION, "workers",
                  workers, "tenants", api_admin_tenants_json(c->api->coordinator, s.n_tenants),
                  "journal", api_admin_journal_json(c->api->store)));
}

static void api_admin_command(struct api_call *c,
                              int (*command)(struct coordinator *, const char *, struct err *))
{
    struct err err = {0};
    const char *worker = NULL;
    size_t length = 0;
    int rc = json_body_string(c->body, "worker", &worker, &length, &err);
    if (rc == 0 && !worker)
        rc = err_set_param(&err, ERR_INPUT, "worker", "'worker' is missing: a worker's name.");
    if (rc == 0)
        rc = command(c->api->coordinator, worker, &err);
    if (rc != 0)
        api_call_fail(c, &err);
    else
        api_call_answer(c, 200,
                        json_pack("{s:s, s:o}", "status", "accepted", "worker",
                                  json_text_string(worker, length)));
}

void api_admin_drain(struct api_call *c)
{
    api_admin_command(c, coordinator_drain_worker);
}

void api_admin_resume(struct api_call *c)
{
    api_admin_command(c, coordinator_resume_worker);
}
