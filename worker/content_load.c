#include "worker/content_load.h"

#include <stdio.h>
#include <string.h>

#define MAX_TENSORS 16384
#define KEY_BYTES   32

int content_load_config(const Paceline__Load *load, struct model_config *ret_config,
                        struct err *err)
{
    const Paceline__ModelConfig *m = load->config;
    if (!m)
        return err_set(err, ERR_NETWORK, "the coordinator sent no configuration of the model");
    struct model_config c = {.architecture = (enum model_architecture)m->architecture,
                             .n_layers = m->n_layers,
                             .hidden_size = m->hidden_size,
                             .intermediate_size = m->intermediate_size,
                             .n_heads = m->n_heads,
                             .n_kv_heads = m->n_kv_heads,
                             .head_dim = m->head_dim,
                             .vocabulary_size = m->vocabulary_size,
                             .context_length = m->context_length,
                             .rms_eps = m->rms_eps,
                             .rope_base = m->rope_base,
                             .rope_dim = m->rope_dim,
                             .yarn_factor = m->yarn_factor,
                             .yarn_original_context = m->yarn_original_context,
                             .yarn_beta_fast = m->yarn_beta_fast,
                             .yarn_beta_slow = m->yarn_beta_slow,
                             .yarn_attention_factor = m->yarn_attention_factor,
                             .qkv_bias = m->qkv_bias,
                             .qk_norm = m->qk_norm,
                             .tied_head = m->tied_head};
    snprintf(c.name, sizeof c.name, "%s", m->name);
    int rc = model_config_check(&c, err);
    if (rc != 0)
        return rc;
    unsigned char digest[DIGEST_BYTES];
    manifest_digest_config(&c, digest);
    if (load->config_sha256.len != DIGEST_BYTES ||
        memcmp(load->config_sha256.data, digest, DIGEST_BYTES) != 0)
        return err_set(err, ERR_NETWORK,
                       "the model's configuration is not the one that its digest names: the "
                       "releases of coordinator and worker may differ");
    *ret_config = c;
    return 0;
}

static bool tensor_is_sound(const Paceline__TensorDigest *d)
{
    unsigned char digest[DIGEST_BYTES];
    if (d->sha256.len != DIGEST_BYTES || d->n_dims < 1 || d->n_dims > TENSOR_DIMENSIONS ||
        d->bytes < 1 || d->chunks.len != manifest_chunk_count((size_t)d->bytes) * DIGEST_BYTES)
        return false;
    manifest_digest_chunks((uint64_t)d->bytes, d->chunks.data, d->chunks.len / DIGEST_BYTES,
                           digest);
    return memcmp(digest, d->sha256.data, DIGEST_BYTES) == 0;
}

int content_load_tensors(const Paceline__Load *load, const struct model_config *config,
                         struct tensor *ret_tensors, struct err *err)
{
    if (load->n_digests > MAX_TENSORS)
        return err_set(err, ERR_NETWORK, "a stage of %zu tensors; at most %d are possible",
                       load->n_digests, MAX_TENSORS);
    for (size_t i = 0; i < load->n_digests; i++) {
        const Paceline__TensorDigest *d = load->digests[i];
        if (!tensor_is_sound(d) ||
            !model_tensor_is_in_stage(config, d->name, (int)load->first_layer,
                                      (int)load->end_layer))
            return err_set(err, ERR_NETWORK,
                           "tensor %.64s: what the coordinator says of it does not fit together",
                           d->name);
        struct tensor t = {.name = d->name,
                           .type = (int)d->type,
                           .n_dims = (int)d->n_dims,
                           .dims = {1, 1, 1, 1},
                           .bytes = (size_t)d->bytes};
        for (size_t k = 0; k < d->n_dims; k++)
            t.dims[k] = d->dims[k];
        ret_tensors[i] = t; /* weight_file_assemble() looks at type and shape */
    }
    return 0;
}

size_t content_load_sources(const Paceline__Load *load, const char *coordinator_host,
                            const char *own, struct content_fetch_source *ret_sources)
{
    static const char any[] = "tcp://*:";
    bool bare = strchr(coordinator_host, ':') != NULL;
    size_t n = 0;
    for (size_t i = 0; i < load->n_sources && n < CONTENT_FETCH_MAX_SOURCES; i++) {
        const Paceline__ContentSource *from = load->sources[i];
        struct content_fetch_source *s = &ret_sources[n];
        int length;
        *s = (struct content_fetch_source){.has_key = from->server_key.len == KEY_BYTES};
        if (s->has_key)
            memcpy(s->server_key, from->server_key.data, KEY_BYTES);
        if (strncmp(from->endpoint, any, strlen(any)) == 0)
            length = snprintf(s->endpoint, sizeof s->endpoint, "tcp://%s%s%s:%s", bare ? "[" : "",
                              coordinator_host, bare ? "]" : "", from->endpoint + strlen(any));
        else
            length = snprintf(s->endpoint, sizeof s->endpoint, "%s", from->endpoint);
        snprintf(s->name, sizeof s->name, "%s", from->name);
        n += length < (int)sizeof s->endpoint && (i == 0 || strcmp(s->endpoint, own) != 0);
    }
    return n;
}
