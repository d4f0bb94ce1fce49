#include "worker/standby.h"

#include <stdlib.h>

struct standby {
    uint64_t epoch;
    struct weight_file *file; /* open, so that others may have its tensors from here */
    struct weights weights;
};

static int standby_open(struct standby *s, const struct standby_spec *spec, struct err *err)
{
    const Paceline__Load *load = spec->load;
    struct model_config model;
    int rc = content_load(spec->content, load, spec->watch.cancelled, &model, &s->file, err);
    if (rc != 0)
        return rc;
    if (load->first_layer >= load->end_layer || load->end_layer > (uint32_t)model.n_layers)
        return err_set(err, ERR_NETWORK, "layers %u to %u were asked for, the model has %d",
                       load->first_layer, load->end_layer, model.n_layers);
    rc = weights_init(&s->weights, &model, s->file, (int)load->first_layer, (int)load->end_layer,
                      err);
    if (rc == 0 && spec->memory_bytes > 0 && standby_bytes(s) > spec->memory_bytes)
        rc = err_set(err, ERR_MEMORY,
                     "layers %u to %u take %lld MiB when they are packed, %lld MiB are offered",
                     load->first_layer, load->end_layer - 1, (long long)(standby_bytes(s) >> 20),
                     (long long)(spec->memory_bytes >> 20));
    return rc;
}

int standby_new(struct standby **ret_standby, const struct standby_spec *spec, struct err *err)
{
    struct standby *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for a standby");
    s->epoch = spec->load->epoch;
    int rc = standby_open(s, spec, err);
    if (rc == 0)
        rc = weights_claim(&s->weights, spec->packs, &spec->watch, err);
    if (rc == 0 && spec->claimed)
        spec->claimed(spec->context);
    if (rc == 0) {
        packs_trim(spec->packs);
        rc = weights_load(&s->weights, s->file, &spec->watch, err);
    }
    if (rc == 0) {
        *ret_standby = s;
        s = NULL;
    }
    standby_free(s);
    return rc;
}

void standby_free(struct standby *s)
{
    if (!s)
        return;
    weights_clear(&s->weights);
    weight_file_close(s->file);
    free(s);
}

uint64_t standby_epoch(const struct standby *s)
{
    return s->epoch;
}

int64_t standby_bytes(const struct standby *s)
{
    size_t packed = weights_bytes(&s->weights), table = weights_table_bytes(&s->weights);
    return packed < INT64_MAX / 2 ? (int64_t)(packed + table) : INT64_MAX;
}
