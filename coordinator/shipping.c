#include "coordinator/shipping.h"

#include "base/clock.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* So long a chunk's last receiver is where others are sent for it. */
#define ELSEWHERE_MS 60000
#define MAX_PEERS    256

struct shipped { /* of a chunk */
    uint32_t sent_s;
    uint16_t peer; /* index + 1; 0: to nobody yet */
};

struct shipping {
    struct content_server *server;
    pthread_mutex_t lock; /* of all below */
    const struct weight_file *weights;
    const struct manifest *manifest;
    size_t *by_digest; /* [n_tensors] indices, ascending by digest */
    struct shipped *shipped;
    char (*peers)[CONTENT_ENDPOINT_BYTES]; /* [MAX_PEERS] */
    size_t n_peers;
};

/* Pages that were sent need not stay in this process; the page cache keeps them while it can. */
static void shipping_release(const void *data, size_t bytes, void *hint)
{
    (void)hint;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)data + bytes) / page * page;
    if (end > begin)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* Read in here, so that the thread that sends does not wait for the disk. */
static void shipping_read_in(const void *data, size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)data / page * page, end = (uintptr_t)data + bytes;
#ifdef MADV_POPULATE_READ
    if (madvise((void *)begin, end - begin, MADV_POPULATE_READ) == 0)
        return;
#endif
    madvise((void *)begin, end - begin, MADV_WILLNEED);
}

static bool shipping_find_tensor(const struct shipping *s, const unsigned char *digest,
                                 size_t *ret_index)
{
    size_t low = 0, high = s->manifest ? s->manifest->n_tensors : 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = memcmp(digest, s->manifest->digests[s->by_digest[middle]], DIGEST_BYTES);
        if (order == 0) {
            *ret_index = s->by_digest[middle];
            return true;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

/* Index + 1 of the peer; when there are too many, all that is known of them is forgotten. */
static uint16_t shipping_peer(struct shipping *s, const char *endpoint)
{
    for (size_t i = 0; i < s->n_peers; i++)
        if (strcmp(s->peers[i], endpoint) == 0)
            return (uint16_t)(i + 1);
    if (s->n_peers == MAX_PEERS) {
        s->n_peers = 0;
        memset(s->shipped, 0,
               s->manifest->first_chunks[s->manifest->n_tensors] * sizeof *s->shipped);
    }
    snprintf(s->peers[s->n_peers], sizeof s->peers[0], "%s", endpoint);
    return (uint16_t)++s->n_peers;
}

/* What left once goes round among those who need it. */
static bool shipping_is_elsewhere(struct shipping *s, struct shipped *chunk,
                                  const struct content_request *q,
                                  char ret_elsewhere[CONTENT_ENDPOINT_BYTES])
{
    if (!q->endpoint[0])
        return false;
    uint32_t now_s = (uint32_t)(clock_now_ms() / 1000);
    uint16_t peer = shipping_peer(s, q->endpoint);
    if (!q->insist && chunk->peer && chunk->peer != peer &&
        now_s - chunk->sent_s <= ELSEWHERE_MS / 1000) {
        snprintf(ret_elsewhere, CONTENT_ENDPOINT_BYTES, "%s", s->peers[chunk->peer - 1]);
        return true;
    }
    chunk->peer = peer;
    chunk->sent_s = now_s;
    return false;
}

static enum content_status shipping_find(void *context, const struct content_request *q,
                                         struct content_piece *ret_piece,
                                         char ret_elsewhere[CONTENT_ENDPOINT_BYTES])
{
    struct shipping *s = context;
    enum content_status status = CONTENT_LATER;
    size_t index;
    pthread_mutex_lock(&s->lock);
    if (s->manifest)
        status = CONTENT_ABSENT;
    if (s->manifest && shipping_find_tensor(s, q->digest, &index)) {
        const struct tensor *t = weight_file_tensor(s->weights, index);
        size_t first = s->manifest->first_chunks[index];
        if (q->chunk < s->manifest->first_chunks[index + 1] - first) {
            *ret_piece = (struct content_piece){.data = (const char *)t->data +
                                                        q->chunk * MANIFEST_CHUNK_BYTES,
                                                .bytes = manifest_chunk_bytes(t->bytes, q->chunk),
                                                .done = shipping_release};
            status = shipping_is_elsewhere(s, &s->shipped[first + q->chunk], q, ret_elsewhere)
                         ? CONTENT_ELSEWHERE
                         : CONTENT_HERE;
        }
    }
    pthread_mutex_unlock(&s->lock);
    if (status == CONTENT_HERE)
        shipping_read_in(ret_piece->data, ret_piece->bytes);
    return status;
}

int shipping_open(struct shipping **ret_shipping, void *zmq, const char *host, int port,
                  const struct key_pair *own, struct err *err)
{
    struct shipping *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory to give weights to workers");
    pthread_mutex_init(&s->lock, NULL);
    struct content_server_spec spec = {
        .zmq = zmq, .host = host, .port = port, .own = own, .find = shipping_find, .context = s};
    int rc = content_server_open(&s->server, &spec, err);
    if (rc != 0) {
        shipping_close(s);
        return rc;
    }
    *ret_shipping = s;
    return 0;
}

void shipping_close(struct shipping *s)
{
    if (!s)
        return;
    content_server_close(s->server);
    pthread_mutex_destroy(&s->lock);
    free(s->by_digest);
    free(s->shipped);
    free(s->peers);
    free(s);
}

int shipping_port(const struct shipping *s)
{
    return content_server_port(s->server);
}

int64_t shipping_sent_bytes(const struct shipping *s)
{
    return content_server_sent_bytes(s->server);
}

static int compare_digests(const void *a, const void *b, void *manifest)
{
    const struct manifest *m = manifest;
    return memcmp(m->digests[*(const size_t *)a], m->digests[*(const size_t *)b], DIGEST_BYTES);
}

int shipping_publish(struct shipping *s, const struct weight_file *weights,
                     const struct manifest *manifest, struct err *err)
{
    size_t n = manifest->n_tensors;
    size_t *by_digest = calloc(n + 1, sizeof *by_digest);
    struct shipped *shipped = calloc(manifest->first_chunks[n] + 1, sizeof *shipped);
    char(*peers)[CONTENT_ENDPOINT_BYTES] = calloc(MAX_PEERS, sizeof *peers);
    if (!by_digest || !shipped || !peers) {
        free(by_digest);
        free(shipped);
        free(peers);
        return err_set(err, ERR_MEMORY, "no memory to give weights to workers");
    }
    for (size_t i = 0; i < n; i++)
        by_digest[i] = i;
    qsort_r(by_digest, n, sizeof *by_digest, compare_digests, (void *)manifest);
    pthread_mutex_lock(&s->lock);
    s->by_digest = by_digest;
    s->shipped = shipped;
    s->peers = peers;
    s->weights = weights;
    s->manifest = manifest;
    pthread_mutex_unlock(&s->lock);
    return 0;
}

void shipping_describe_config(const struct model_config *c, Paceline__ModelConfig *ret_config)
{
    paceline__model_config__init(ret_config);
    ret_config->architecture = (uint32_t)c->architecture;
    ret_config->name = (char *)c->name;
    ret_config->n_layers = c->n_layers;
    ret_config->hidden_size = c->hidden_size;
    ret_config->intermediate_size = c->intermediate_size;
    ret_config->n_heads = c->n_heads;
    ret_config->n_kv_heads = c->n_kv_heads;
    ret_config->head_dim = c->head_dim;
    ret_config->vocabulary_size = c->vocabulary_size;
    ret_config->context_length = c->context_length;
    ret_config->rms_eps = c->rms_eps;
    ret_config->rope_base = c->rope_base;
    ret_config->rope_dim = c->rope_dim;
    ret_config->yarn_factor = c->yarn_factor;
    ret_config->yarn_original_context = c->yarn_original_context;
    ret_config->yarn_beta_fast = c->yarn_beta_fast;
    ret_config->yarn_beta_slow = c->yarn_beta_slow;
    ret_config->yarn_attention_factor = c->yarn_attention_factor;
    ret_config->qkv_bias = c->qkv_bias;
    ret_config->qk_norm = c->qk_norm;
    ret_config->tied_head = c->tied_head;
}

void shipping_describe_tensor(const struct weight_file *weights, const struct manifest *m,
                              size_t index, Paceline__TensorDigest *ret_tensor)
{
    const struct tensor *t = weight_file_tensor(weights, index);
    paceline__tensor_digest__init(ret_tensor);
    ret_tensor->name = (char *)t->name;
    ret_tensor->sha256.data = m->digests[index];
    ret_tensor->sha256.len = DIGEST_BYTES;
    ret_tensor->type = (uint32_t)t->type;
    ret_tensor->dims = (int64_t *)t->dims;
    ret_tensor->n_dims = (size_t)t->n_dims;
    ret_tensor->bytes = (int64_t)t->bytes;
    ret_tensor->chunks.data = m->chunks[m->first_chunks[index]];
    ret_tensor->chunks.len =
        (m->first_chunks[index + 1] - m->first_chunks[index]) * (size_t)DIGEST_BYTES;
}

static int compare_have(const void *a, const void *b)
{
    return memcmp(a, b, DIGEST_BYTES);
}

/* It has a tensor of the load, or is given one by the plan that is being made. */
static bool shipping_may_have(const struct worker_entry *peer, const struct worker_entry *w,
                              const Paceline__Load *load)
{
    if (peer == w || !peer->content_address[0])
        return false;
    const int first = (int)load->first_layer, end = (int)load->end_layer;
    if ((peer->stage >= 0 && peer->first_layer < end && first < peer->end_layer) ||
        (peer->next_stage >= 0 && peer->next_first_layer < end && first < peer->next_end_layer))
        return true;
    for (size_t i = 0; peer->n_have && i < load->n_digests; i++)
        if (bsearch(load->digests[i]->sha256.data, peer->have, peer->n_have, DIGEST_BYTES,
                    compare_have))
            return true;
    return false;
}

void shipping_find_sources(const struct shipping *s, const char *host, const struct registry *r,
                           const struct worker_entry *w, const Paceline__Load *load,
                           struct shipping_sources *ret_sources)
{
    struct shipping_sources *to = ret_sources;
    bool bare = strchr(host, ':') != NULL;
    snprintf(to->own, sizeof to->own, "tcp://%s%s%s:%d", bare ? "[" : "", host, bare ? "]" : "",
             shipping_port(s));
    to->n = 0;
    for (size_t i = 0; i < SHIPPING_MAX_SOURCES; i++) {
        paceline__content_source__init(&to->sources[i]);
        to->list[i] = &to->sources[i];
    }
    to->sources[to->n].endpoint = to->own;
    if (r->trust)
        to->sources[to->n].server_key = (ProtobufCBinaryData){KEYS_BYTES, r->trust->own.public_key};
    to->sources[to->n++].name = (char *)"the coordinator";
    for (const struct worker_entry *peer = r->workers; peer; peer = peer->next) {
        if (to->n == SHIPPING_MAX_SOURCES || !shipping_may_have(peer, w, load))
            continue;
        to->sources[to->n].endpoint = (char *)peer->content_address;
        if (r->trust)
            to->sources[to->n].server_key = (ProtobufCBinaryData){KEYS_BYTES, (uint8_t *)peer->key};
        to->sources[to->n++].name = (char *)peer->name;
    }
}

int shipping_let_in(struct shipping *s, struct registry *r, struct err *err)
{
    if (!r->trust || !r->has_new_peers)
        return 0;
    unsigned char(*keys)[KEYS_BYTES] = calloc((size_t)r->n_workers + 1, KEYS_BYTES);
    ProtobufCBinaryData *told = calloc((size_t)r->n_workers + 1, sizeof *told);
    Paceline__Peers peers = PACELINE__PEERS__INIT;
    int rc = keys && told ? 0 : err_set(err, ERR_MEMORY, "no memory for the keys of workers");
    for (struct worker_entry *w = r->workers; rc == 0 && w; w = w->next) {
        memcpy(keys[peers.n_keys], w->key, KEYS_BYTES);
        told[peers.n_keys++] = (ProtobufCBinaryData){KEYS_BYTES, w->key};
    }
    peers.keys = told;
    if (rc == 0)
        rc = content_server_allow(s->server, keys, peers.n_keys, err);
    for (struct worker_entry *w = r->workers; rc == 0 && w; w = w->next)
        registry_send(r, w, PACELINE__CONTROL__BODY_PEERS, &peers);
    free(keys);
    free(told);
    r->has_new_peers = rc != 0;
    return rc;
}
