/* A plan's Loads: everything that a worker needs to know of its stage. */
#include "coordinator/deployment_parts.h"

#include "base/log.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
