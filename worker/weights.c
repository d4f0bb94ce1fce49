#include "worker/weights.h"

#include "kernels/quant.h"
#include "model/manifest.h"
#include "proto/block_sum.h"

#include <omp.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct weight_slot {
    const struct tensor *tensor;
    int unit; /* the layer, counted from the first one here; or n_layers: an end of the model */
    int rows, cols;
    struct matrix *matrix; /* where the packed matrix is bound, or */
    const float **vector;  /* where the floats are; neither: the tensor is read in the file */
    void *memory;
    uint64_t sum; /* block_sum() of it, once it is packed */
    bool is_done, other_content;
};

static int weights_shape_error(struct err *err, const struct weight_file *f, const struct tensor *t,
                               int rows, int cols)
{
    return err_set(err, ERR_MODEL,
                   "%s: tensor %s is %lld x %lld of type %s where the model's settings want "
                   "%d x %d: the file is damaged or of an unknown kind",
                   weight_file_path(f), t->name, (long long)t->dims[1], (long long)t->dims[0],
                   quant_type_name(t->type), rows, cols);
}

static bool weights_is_end(enum model_tensor kind)
{
    return kind == MODEL_TOKEN_EMBEDDING || kind == MODEL_OUTPUT_NORM || kind == MODEL_OUTPUT;
}

/* Finds the tensor, checks it and gives it a slot. rows = 1 for vectors. */
static int weights_find(struct weights *w, const struct model_config *c,
                        const struct weight_file *f, enum model_tensor kind, int layer, int rows,
                        int cols, struct weight_slot **ret_slot, struct err *err)
{
    const struct tensor *t = model_tensor(c, f, kind, layer);
    if (!t) {
        char name[64];
        model_tensor_name(kind, layer, name);
        return err_set(err, ERR_MODEL, "%s: tensor %s is missing", weight_file_path(f), name);
    }
    int block = quant_type_is_supported(t->type) ? quant_block_elements(t->type) : 0;
    if (block == 0 || t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 ||
        t->dims[3] != 1 || cols % block != 0 ||
        t->bytes != (size_t)rows * quant_row_bytes(t->type, cols))
        return weights_shape_error(err, f, t, rows, cols);
    struct weight_slot *slot = &w->slots[w->n_slots++];
    slot->tensor = t;
    slot->unit = weights_is_end(kind) ? w->n_layers : layer - w->first_layer;
    slot->rows = rows;
    slot->cols = cols;
    w->file_bytes += (int64_t)t->bytes;
    *ret_slot = slot;
    return 0;
}

static int weights_bind_matrix(struct weights *w, const struct model_config *c,
                               const struct weight_file *f, enum model_tensor kind, int layer,
                               int rows, int cols, struct matrix *to, struct err *err)
{
    struct weight_slot *slot;
    int rc = weights_find(w, c, f, kind, layer, rows, cols, &slot, err);
    if (rc == 0)
        slot->matrix = to;
    return rc;
}

static int weights_bind_vector(struct weights *w, const struct model_config *c,
                               const struct weight_file *f, enum model_tensor kind, int layer,
                               int length, const float **to, struct err *err)
{
    struct weight_slot *slot;
    int rc = weights_find(w, c, f, kind, layer, 1, length, &slot, err);
    if (rc == 0)
        slot->vector = to;
    return rc;
}

static int weights_bind_attention(struct weights *w, const struct model_config *c,
                                  const struct weight_file *f, int layer, struct layer_weights *to,
                                  struct err *err)
{
    int hidden = c->hidden_size;
    int q = c->n_heads * c->head_dim;
    int kv = c->n_kv_heads * c->head_dim;
    int rc =
        weights_bind_vector(w, c, f, MODEL_ATTENTION_NORM, layer, hidden, &to->attention_norm, err);
    if (rc == 0)
        rc = weights_bind_matrix(w, c, f, MODEL_Q, layer, q, hidden, &to->q, err);
    if (rc == 0)
        rc = weights_bind_matrix(w, c, f, MODEL_K, layer, kv, hidden, &to->k, err);
    if (rc == 0)
        rc = weights_bind_matrix(w, c, f, MODEL_V, layer, kv, hidden, &to->v, err);
    if (rc == 0 && c->qkv_bias)
        rc = weights_bind_vector(w, c, f, MODEL_Q_BIAS, layer, q, &to->q_bias, err);
    if (rc == 0 && c->qkv_bias)
        rc = weights_bind_vector(w, c, f, MODEL_K_BIAS, layer, kv, &to->k_bias, err);
    if (rc == 0 && c->qkv_bias)
        rc = weights_bind_vector(w, c, f, MODEL_V_BIAS, layer, kv, &to->v_bias, err);
    if (rc == 0 && c->qk_norm)
        rc = weights_bind_vector(w, c, f, MODEL_Q_NORM, layer, c->head_dim, &to->q_norm, err);
    if (rc == 0 && c->qk_norm)
        rc = weights_bind_vector(w, c, f, MODEL_K_NORM, layer, c->head_dim, &to->k_norm, err);
    if (rc == 0)
        rc = weights_bind_matrix(w, c, f, MODEL_ATTENTION_OUTPUT, layer, hidden, q,
                                 &to->attention_output, err);
    return rc;
}

static int weights_bind_mlp(struct weights *w, const struct model_config *c,
                            const struct weight_file *f, int layer, struct layer_weights *to,
                            struct err *err)
{
    int hidden = c->hidden_size;
    int inner = c->intermediate_size;
    int rc = weights_bind_vector(w, c, f, MODEL_FFN_NORM, layer, hidden, &to->ffn_norm, err);
    if (rc == 0)
        rc = weights_bind_matrix(w, c, f, MODEL_FFN_GATE, layer, inner, hidden, &to->gate, err);
    if (rc == 0)
        rc = weights_bind_matrix(w, c, f, MODEL_FFN_UP, layer, inner, hidden, &to->up, err);
    if (rc == 0)
        rc = weights_bind_matrix(w, c, f, MODEL_FFN_DOWN, layer, hidden, inner, &to->down, err);
    return rc;
}

/* The embedding, and the norm and head after the last layer. A tied head is the embedding: when
 * both ends are here, one slot serves both. */
static int weights_bind_ends(struct weights *w, const struct model_config *c,
                             const struct weight_file *f, bool first, bool last, struct err *err)
{
    struct weight_slot *embedding = NULL;
    int rc = 0;
    if (first || (last && c->tied_head))
        rc = weights_find(w, c, f, MODEL_TOKEN_EMBEDDING, 0, c->vocabulary_size, c->hidden_size,
                          &embedding, err);
    if (rc == 0 && first)
        w->embedding = embedding->tensor;
    if (rc == 0 && last)
        rc = weights_bind_vector(w, c, f, MODEL_OUTPUT_NORM, 0, c->hidden_size, &w->output_norm,
                                 err);
    if (rc == 0 && last && c->tied_head)
        embedding->matrix = &w->head;
    if (rc == 0 && last && !c->tied_head)
        rc = weights_bind_matrix(w, c, f, MODEL_OUTPUT, 0, c->vocabulary_size, c->hidden_size,
                                 &w->head, err);
    return rc;
}

int weights_init(struct weights *w, const struct model_config *c, const struct weight_file *f,
                 int first_layer, int end_layer, struct err *err)
{
    memset(w, 0, sizeof *w);
    w->first_layer = first_layer;
    w->n_layers = end_layer - first_layer;
    w->held = calloc((size_t)w->n_layers + 1, sizeof(struct pack *));
    w->layers = calloc((size_t)w->n_layers, sizeof *w->layers);
    w->slots = calloc(((size_t)w->n_layers + 1) * MODEL_TENSOR_KINDS, sizeof *w->slots);
    if (!w->layers || !w->slots || !w->held)
        return err_set(err, ERR_MEMORY, "no memory for the table of %d layers", w->n_layers);
    int rc = weights_bind_ends(w, c, f, first_layer == 0, end_layer == c->n_layers, err);
    for (int i = 0; rc == 0 && i < w->n_layers; i++) {
        rc = weights_bind_attention(w, c, f, first_layer + i, &w->layers[i], err);
        if (rc == 0)
            rc = weights_bind_mlp(w, c, f, first_layer + i, &w->layers[i], err);
    }
    return rc;
}

void weights_clear(struct weights *w)
{
    packs_give(w->packs, w->watched);
    for (int i = 0; w->held && i <= w->n_layers; i++)
        packs_give(w->packs, w->held[i]);
    free(w->held);
    free(w->layers);
    free(w->slots);
    memset(w, 0, sizeof *w);
}

size_t weights_table_bytes(const struct weights *w)
{
    return ((size_t)w->n_layers + 1) *
           (sizeof *w->layers + sizeof(struct pack) + sizeof(struct pack *) +
            MODEL_TENSOR_KINDS * (sizeof *w->slots + sizeof(struct pack_part)));
}

/* ---- memory: a pack for each unit ---- */

/* Lays the unit's tensors out in the region, or measures them where it has no memory. */
static void weights_place(const struct weights *w, int unit, struct region *r)
{
    for (size_t i = 0; i < w->n_slots; i++) {
        struct weight_slot *slot = &w->slots[i];
        enum tensor_type type = (enum tensor_type)slot->tensor->type;
        void *memory = NULL;
        if (slot->unit != unit)
            continue;
        if (slot->matrix)
            memory = region_take(r, 1, matrix_bytes(type, slot->rows, slot->cols));
        else if (slot->vector)
            memory = region_take(r, (size_t)slot->cols, sizeof(float));
        if (r->base)
            slot->memory = memory;
    }
}

static size_t weights_unit_bytes(const struct weights *w, int unit)
{
    struct region measured = {0};
    weights_place(w, unit, &measured);
    return measured.overflow ? SIZE_MAX : measured.used;
}

size_t weights_bytes(const struct weights *w)
{
    size_t sum = 0;
    for (int unit = 0; unit <= w->n_layers; unit++)
        if (__builtin_add_overflow(sum, weights_unit_bytes(w, unit), &sum))
            return SIZE_MAX;
    return sum;
}

/* SHA-256 over what the unit's memory depends on: for each tensor in the order of its place, form,
 * type, sizes and digest. false: some digest is not known. */
static bool weights_identify(const struct weights *w, int unit, const struct weights_watch *watch,
                             unsigned char ret_identity[PACK_IDENTITY_BYTES])
{
    EVP_MD_CTX *sha = watch->digest_of ? EVP_MD_CTX_new() : NULL;
    bool ok = sha && EVP_DigestInit_ex(sha, EVP_sha256(), NULL) == 1;
    for (size_t i = 0; ok && i < w->n_slots; i++) {
        const struct weight_slot *slot = &w->slots[i];
        if (slot->unit != unit || (!slot->matrix && !slot->vector))
            continue;
        const unsigned char *digest = watch->digest_of(watch->context, slot->tensor->name);
        const int32_t form[] = {slot->matrix != NULL, (int32_t)slot->tensor->type, slot->rows,
                                slot->cols};
        ok = digest && EVP_DigestUpdate(sha, form, sizeof form) == 1 &&
             EVP_DigestUpdate(sha, digest, DIGEST_BYTES) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(sha, ret_identity, NULL) == 1;
    EVP_MD_CTX_free(sha);
    return ok;
}

static void weights_bind(struct weight_slot *slot)
{
    if (slot->matrix)
        *slot->matrix = (struct matrix){(enum tensor_type)slot->tensor->type, slot->rows,
                                        slot->cols, slot->memory};
    else if (slot->vector)
        *slot->vector = slot->memory;
}

int weights_claim(struct weights *w, struct packs *packs, const struct weights_watch *watch,
                  struct err *err)
{
    w->packs = packs;
    for (int unit = 0; unit <= w->n_layers; unit++) {
        unsigned char identity[PACK_IDENTITY_BYTES];
        size_t bytes = weights_unit_bytes(w, unit);
        if (bytes == 0)
            continue;
        bool known = weights_identify(w, unit, watch, identity);
        int rc = packs_take(&w->held[unit], packs, known ? identity : NULL, bytes, err);
        if (rc != 0)
            return rc;
        struct region place = w->held[unit]->region;
        place.used = 0;
        weights_place(w, unit, &place);
    }
    for (size_t i = 0; i < w->n_slots; i++) {
        struct weight_slot *slot = &w->slots[i];
        weights_bind(slot);
        slot->is_done = (slot->matrix || slot->vector) && w->held[slot->unit]->is_filled;
    }
    return 0;
}

/* ---- loading ---- */

static size_t weights_slot_bytes(const struct weight_slot *slot)
{
    return slot->matrix ? matrix_bytes((enum tensor_type)slot->tensor->type, slot->rows, slot->cols)
           : slot->vector ? (size_t)slot->cols * sizeof(float)
                          : 0;
}

static void weights_pack(struct weight_slot *slot)
{
    const struct tensor *t = slot->tensor;
    if (slot->matrix)
        matrix_pack(slot->matrix, slot->memory, (enum tensor_type)t->type, slot->rows, slot->cols,
                    t->data);
    else if (slot->vector)
        quant_unpack_row(t->type, t->data, slot->memory, slot->cols);
    slot->sum = block_sum(slot->memory, weights_slot_bytes(slot)); /* while a cache has it */
}

/* What the threads of a load share. */
struct weights_loading {
    struct weights *w;
    const struct weight_file *file;
    const struct weights_watch *watch;
    atomic_llong done;
    atomic_bool cancelled, refused;
    struct err failure; /* the first one to provide a tensor; written under a critical section */
};

static bool weights_provide(struct weights_loading *l, const struct weight_slot *slot)
{
    struct err err = {0};
    if (weight_file_provide(l->file, slot->tensor, &err) == 0)
        return true;
#pragma omp critical(weights_failure)
    if (!l->failure.code)
        l->failure = err;
    return false;
}

static bool weights_verify(struct weights_loading *l, struct weight_slot *slot)
{
    if (!l->watch->digest_of || weight_file_verifies(l->file))
        return true;
    const unsigned char *known = l->watch->digest_of(l->watch->context, slot->tensor->name);
    unsigned char digest[DIGEST_BYTES];
    if (known)
        manifest_digest_tensor(slot->tensor, digest);
    slot->other_content = !known || memcmp(digest, known, DIGEST_BYTES) != 0;
    return !slot->other_content;
}

static void weights_load_one(struct weights_loading *l, struct weight_slot *slot)
{
    const struct weights_watch *watch = l->watch;
    if (watch->cancelled && atomic_load(watch->cancelled))
        atomic_store(&l->cancelled, true);
    if (atomic_load(&l->cancelled) || atomic_load(&l->refused))
        return;
    /* What is packed already need not come; but the embedding's rows are read where they come. */
    if ((!slot->is_done || slot->tensor == l->w->embedding) && !weights_provide(l, slot)) {
        atomic_store(&l->refused, true);
        return;
    }
    if (!slot->is_done) {
        if (!weights_verify(l, slot)) {
            atomic_store(&l->refused, true);
            return;
        }
        weights_pack(slot);
        weight_file_release(l->file, slot->tensor);
        slot->is_done = true;
    }
    const long long bytes = (long long)slot->tensor->bytes;
    const long long done = atomic_fetch_add(&l->done, bytes) + bytes;
    /* From the caller's own thread; the end is told at the end. */
    if (watch->progress && omp_get_thread_num() == 0 && done < l->w->file_bytes)
        watch->progress(watch->context, done, l->w->file_bytes);
}

static bool weights_is_packed(const struct weight_slot *slot, int unit)
{
    return slot->unit == unit && (slot->matrix || slot->vector);
}

static void weights_describe(struct pack_part *to, const struct weight_slot *slot,
                             const struct pack *pack)
{
    snprintf(to->name, sizeof to->name, "%s", slot->tensor->name);
    to->offset = (size_t)((unsigned char *)slot->memory - pack->region.base);
    to->bytes = weights_slot_bytes(slot);
    to->sum = slot->sum;
}

/* The unit's pack is whole: its parts are known from now on. */
static int weights_fill(struct weights *w, int unit, struct err *err)
{
    size_t count = 0;
    for (size_t i = 0; i < w->n_slots; i++)
        count += weights_is_packed(&w->slots[i], unit);
    struct pack_part *parts = calloc(count + 1, sizeof *parts);
    int n = 0;
    if (!parts)
        return err_set(err, ERR_MEMORY, "no memory for the checksums of a layer");
    for (size_t i = 0; i < w->n_slots; i++)
        if (weights_is_packed(&w->slots[i], unit))
            weights_describe(&parts[n++], &w->slots[i], w->held[unit]);
    packs_fill(w->packs, w->held[unit], parts, n);
    return 0;
}

/* Also after a load that was given up: the next one takes what is whole. */
static int weights_note_filled(struct weights *w, struct err *err)
{
    int rc = 0;
    for (int unit = 0; rc == 0 && unit <= w->n_layers; unit++) {
        bool filled = w->held[unit] && !w->held[unit]->is_filled;
        for (size_t i = 0; filled && i < w->n_slots; i++)
            filled = !weights_is_packed(&w->slots[i], unit) || w->slots[i].is_done;
        if (filled)
            rc = weights_fill(w, unit, err);
    }
    return rc;
}

/* The embedding is read where the file has it, row by row: it is watched there. */
static int weights_watch_embedding(struct weights *w, struct err *err)
{
    if (!w->embedding || !w->packs)
        return 0;
    struct pack_part part = {.bytes = w->embedding->bytes,
                             .sum = block_sum(w->embedding->data, w->embedding->bytes)};
    snprintf(part.name, sizeof part.name, "%s", w->embedding->name);
    return packs_watch(&w->watched, w->packs, w->embedding->data, &part, err);
}

bool weights_are_sound(const struct weights *w)
{
    bool ok = !w->watched || !atomic_load(&w->watched->is_spoilt);
    for (int unit = 0; ok && unit <= w->n_layers; unit++)
        ok = !w->held[unit] || !atomic_load(&w->held[unit]->is_spoilt);
    return ok;
}

/* Each thread verifies a tensor and packs it, while it is in its cache: a digest is one thread's
 * work from end to end. The largest tensors, of the ends of the model, come first. */
int weights_load(struct weights *w, const struct weight_file *f, const struct weights_watch *watch,
                 struct err *err)
{
    struct weights_loading l = {.w = w, .file = f, .watch = watch};
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < w->n_slots; i++)
        weights_load_one(&l, &w->slots[i]);
    int rc = weights_note_filled(w, err);
    if (rc != 0)
        return rc;
    for (size_t i = 0; i < w->n_slots; i++)
        if (w->slots[i].other_content)
            return err_set(err, ERR_MODEL,
                           "%s: tensor %s has other content than the coordinator's file: give "
                           "this worker the same file",
                           weight_file_path(f), w->slots[i].tensor->name);
    if (l.failure.code) {
        if (err)
            *err = l.failure;
        return l.failure.code;
    }
    if (atomic_load(&l.cancelled))
        return err_set(err, ERR_CANCELLED, "loading was cancelled");
    if (watch->progress)
        watch->progress(watch->context, w->file_bytes, w->file_bytes);
    return weights_watch_embedding(w, err);
}
