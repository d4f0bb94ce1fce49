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

/* With keys: whom the stage listens to and whom it speaks to. NULL: the coordinator. */
static void deployment_add_keys(Paceline__Load *load, struct registry *r,
                                const struct worker_entry *upstream,
                                const struct worker_entry *next)
{
    if (!r->trust)
        return;
    unsigned char *own = r->trust->own.public_key;
    load->upstream_key =
        (ProtobufCBinaryData){KEYS_BYTES, upstream ? (uint8_t *)upstream->key : own};
    load->next_key = (ProtobufCBinaryData){KEYS_BYTES, next ? (uint8_t *)next->key : own};
}

/* What a worker is told to load. */
struct deployment_order {
    const struct worker_entry *worker;
    uint64_t epoch;
    int first_layer, end_layer;
    bool beside, standby;
    /* of a stage */
    const struct worker_entry *upstream, *next; /* NULL: the coordinator */
    int stage, n_stages;
    const char *results; /* the coordinator's endpoint */
};

static void deployment_describe_load(const struct deployment *d, const struct deployment_order *o,
                                     Paceline__Load *load)
{
    const char *slash = strrchr(d->spec.model_path, '/');
    paceline__load__init(load);
    load->deployment = 1;
    load->epoch = o->epoch;
    load->beside = o->beside;
    load->standby = o->standby;
    load->model_path = (char *)d->spec.model_path;
    load->model_file = (char *)(slash ? slash + 1 : d->spec.model_path);
    load->first_layer = (uint32_t)o->first_layer;
    load->end_layer = (uint32_t)o->end_layer;
    load->kv_blocks = d->limits.kv_blocks;
    load->kv_type = (uint32_t)d->spec.kv_type;
    load->max_sequences = d->limits.max_sequences;
    load->max_context = d->limits.max_context;
    load->max_rows = d->limits.max_rows;
    load->max_outputs = d->limits.max_outputs;
    load->next_endpoint = (char *)(o->next ? o->next->address : o->results);
    load->stage = (uint32_t)o->stage;
    load->n_stages = (uint32_t)o->n_stages;
    load->upstream_name = (char *)(o->upstream ? o->upstream->name : "the coordinator");
    load->config_sha256.data = (uint8_t *)d->config_digest;
    load->config_sha256.len = DIGEST_BYTES;
}

/* Room for all tensors of the model: what its layers need is put there, and their number given. */
static size_t deployment_describe_tensors(const struct deployment *d,
                                          const struct deployment_order *o,
                                          Paceline__TensorDigest *digests,
                                          Paceline__TensorDigest **list)
{
    size_t n = weight_file_tensor_count(d->weights), used = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tensor *t = weight_file_tensor(d->weights, i);
        if (!model_tensor_is_in_stage(&d->model, t->name, o->first_layer, o->end_layer))
            continue;
        shipping_describe_tensor(d->weights, &d->manifest, i, &digests[used]);
        list[used] = &digests[used];
        used++;
    }
    return used;
}

static int deployment_send_load(const struct deployment *d, struct registry *r,
                                const struct deployment_order *o, struct err *err)
{
    Paceline__Load load;
    deployment_describe_load(d, o, &load);
    size_t n = weight_file_tensor_count(d->weights);
    Paceline__TensorDigest *digests = calloc(n + 1, sizeof *digests);
    Paceline__TensorDigest **list = calloc(n + 1, sizeof *list);
    int rc = 0;
    if (!digests || !list) {
        rc = err_set(err, ERR_MEMORY, "no memory for the digests of %zu tensors", n);
    } else {
        load.n_digests = deployment_describe_tensors(d, o, digests, list);
        load.digests = list;
        deployment_add_keys(&load, r, o->upstream, o->next);
        rc = deployment_send_with_sources(d, r, o->worker, &load, err);
    }
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
        const struct deployment_order order = {.worker = entries[s->worker],
                                               .epoch = plan->epoch,
                                               .first_layer = s->first_layer,
                                               .end_layer = s->end_layer,
                                               .beside = beside,
                                               .upstream = i ? entries[s[-1].worker] : NULL,
                                               .next = i + 1 < plan->n_stages ? entries[s[1].worker]
                                                                              : NULL,
                                               .stage = i,
                                               .n_stages = plan->n_stages,
                                               .results = results};
        log_info("epoch %" PRIu64 ": layers %d to %d on %s", plan->epoch, s->first_layer,
                 s->end_layer - 1, order.worker->name);
        int rc = deployment_send_load(d, r, &order, err);
        if (rc != 0)
            return rc;
    }
    return 0;
}

int deployment_send_standby_load(const struct deployment *d, struct registry *r,
                                 const struct worker_entry *w, struct err *err)
{
    const struct deployment_order order = {.worker = w,
                                           .epoch = w->standby_epoch,
                                           .first_layer = w->standby_first,
                                           .end_layer = w->standby_end,
                                           .standby = true,
                                           .results = ""};
    return deployment_send_load(d, r, &order, err);
}
