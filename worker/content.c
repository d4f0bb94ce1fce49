#include "worker/content.h"

#include "model/manifest.h"
#include "proto/content_server.h"
#include "worker/content_file.h"
#include "worker/content_load.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS     20
#define CHUNKS_KEPT 16

_Static_assert(CONTENT_CHUNK_BYTES == MANIFEST_CHUNK_BYTES, "one size of chunks");
_Static_assert(CONTENT_DIGEST_BYTES == DIGEST_BYTES, "one size of digests");

/* A tensor of a stage. */
struct content_tensor {
    const unsigned char (*chunks)[DIGEST_BYTES]; /* borrowed from the Load */
    const struct tensor *local;                  /* of the local model file, while it may be good */
    atomic_bool local_is_good;                   /* verified */
    struct content_file *file;                   /* where it comes from elsewhere */
    atomic_bool is_gone;                         /* it went through memory */
    bool keeps;                                  /* its bytes are read while the stage runs */
};

struct content_stage {
    struct content *content;
    unsigned serial;
    Paceline__Load *load;
    const atomic_bool *cancelled;
    struct weight_file *local; /* or NULL */
    size_t n_tensors;
    struct tensor *about; /* [n_tensors] */
    struct content_tensor *tensors;
    struct content_fetch_tensor *wants;
    struct content_fetch *fetch;       /* NULL: nothing is fetched */
    atomic_bool told_other, told_disk; /* once is enough */
    struct content_stage *next;
};

struct content {
    struct content_spec spec;
    char *coordinator_host, *models_dir;
    struct content_cache cache;
    struct content_server *server;
    char endpoint[CONTENT_ENDPOINT_BYTES];
    atomic_uint generation;
    pthread_mutex_t lock; /* of the list, and */
    unsigned n_loads;
    struct content_stage *stages; /* the newest first */
};

static void content_tell(const struct content *c, bool is_fault, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void content_tell(const struct content *c, bool is_fault, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (c->spec.tell)
        c->spec.tell(is_fault, text);
}

static void content_on_fetch_words(void *context, const char *text)
{
    content_tell(context, true, "fetching weights: %s", text);
}

void content_keep_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, (int)(2 * MANIFEST_CHUNK_BYTES)); /* larger ones are mapped as ever */
    mallopt(M_TRIM_THRESHOLD, (int)(CHUNKS_KEPT * MANIFEST_CHUNK_BYTES));
}

void content_give_memory_back(void)
{
    malloc_trim(0);
}

/* ---- giving to others ---- */

static void content_free_piece(const void *data, size_t bytes, void *hint)
{
    (void)bytes;
    (void)hint;
    free((void *)data);
}

/* A copy: the stage may go while libzmq still holds the bytes. */
static enum content_status content_find_in_stage(const struct content_stage *s,
                                                 const struct content_request *q,
                                                 struct content_piece *piece)
{
    for (size_t i = 0; i < s->n_tensors; i++) {
        const struct content_tensor *t = &s->tensors[i];
        if (memcmp(s->wants[i].digest, q->digest, DIGEST_BYTES) != 0)
            continue;
        size_t bytes = s->about[i].bytes;
        if (q->chunk >= manifest_chunk_count(bytes))
            return CONTENT_ABSENT;
        piece->bytes = manifest_chunk_bytes(bytes, q->chunk);
        const size_t begin = q->chunk * MANIFEST_CHUNK_BYTES;
        if (atomic_load(&t->local_is_good)) {
            memcpy((void *)piece->data, (const char *)t->local->data + begin, piece->bytes);
            return CONTENT_HERE;
        }
        if (t->file && content_file_read(t->file, q->chunk, (void *)piece->data))
            return CONTENT_HERE;
        return t->is_gone ? CONTENT_ABSENT : CONTENT_COMING;
    }
    return CONTENT_ABSENT;
}

static bool content_find_in_cache(const struct content *c, const struct content_request *q,
                                  struct content_piece *piece)
{
    char path[4096];
    struct stat st;
    if (!content_cache_path(&c->cache, q->digest, false, path, sizeof path))
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool ok = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
              q->chunk < manifest_chunk_count((size_t)st.st_size);
    if (ok) {
        piece->bytes = manifest_chunk_bytes((size_t)st.st_size, q->chunk);
        ok = pread(fd, (void *)piece->data, piece->bytes,
                   (off_t)(q->chunk * MANIFEST_CHUNK_BYTES)) == (ssize_t)piece->bytes;
    }
    close(fd);
    return ok;
}

static enum content_status content_find(void *context, const struct content_request *q,
                                        struct content_piece *ret_piece,
                                        char ret_elsewhere[CONTENT_ENDPOINT_BYTES])
{
    struct content *c = context;
    (void)ret_elsewhere;
    struct content_piece piece = {.data = malloc(MANIFEST_CHUNK_BYTES), .done = content_free_piece};
    if (!piece.data)
        return CONTENT_LATER;
    enum content_status status = CONTENT_ABSENT;
    pthread_mutex_lock(&c->lock);
    for (const struct content_stage *s = c->stages; s && status == CONTENT_ABSENT; s = s->next)
        status = content_find_in_stage(s, q, &piece);
    pthread_mutex_unlock(&c->lock);
    if (status != CONTENT_HERE && content_find_in_cache(c, q, &piece))
        status = CONTENT_HERE;
    if (status == CONTENT_HERE)
        *ret_piece = piece;
    else
        free((void *)piece.data);
    return status;
}

/* ---- one tensor ---- */

static bool stage_is_cancelled(const struct content_stage *s)
{
    return s->cancelled && atomic_load(s->cancelled);
}

/* Verified, chunk by chunk, while it is read in. */
static bool stage_take_local(struct content_stage *s, size_t index)
{
    struct content_tensor *t = &s->tensors[index];
    unsigned char digest[DIGEST_BYTES];
    weight_file_prefetch(s->local, t->local);
    for (size_t i = 0; i < manifest_chunk_count(t->local->bytes); i++) {
        if (stage_is_cancelled(s))
            return false;
        manifest_digest_chunk((const char *)t->local->data + i * MANIFEST_CHUNK_BYTES,
                              manifest_chunk_bytes(t->local->bytes, i), digest);
        if (memcmp(digest, t->chunks[i], DIGEST_BYTES) != 0)
            return false;
    }
    atomic_store(&t->local_is_good, true);
    return true;
}

static int stage_open_file(struct content_stage *s, size_t index, struct err *err)
{
    struct content_tensor *t = &s->tensors[index];
    struct content_file *file;
    int rc = content_file_open(&file, &s->content->cache, s->wants[index].digest,
                               s->wants[index].bytes, err);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&s->content->lock);
    t->file = file;
    pthread_mutex_unlock(&s->content->lock);
    return 0;
}

static void stage_want_missing(struct content_stage *s, size_t index)
{
    struct content_tensor *t = &s->tensors[index];
    size_t n = manifest_chunk_count(s->wants[index].bytes);
    for (size_t i = 0; i < n && !stage_is_cancelled(s); i++) {
        if (content_file_verify(t->file, i, t->chunks[i]))
            continue;
        if (content_file_is_damaged(t->file))
            content_tell(s->content, true,
                         "tensor %s is damaged in the cache, %s: what is wrong is fetched again",
                         s->wants[index].name, s->content->cache.folder);
        if (s->fetch)
            content_fetch_want(s->fetch, index, i);
    }
}

static int stage_store(struct content_stage *s, struct content_arrival *a, struct err *err)
{
    struct content_tensor *t = &s->tensors[a->tensor];
    unsigned char digest[DIGEST_BYTES];
    struct err why = {0};
    bool moved = false;
    int rc = 0;
    manifest_digest_chunk(zmq_msg_data(&a->frame), zmq_msg_size(&a->frame), digest);
    bool good = memcmp(digest, t->chunks[a->chunk], DIGEST_BYTES) == 0;
    if (good)
        rc = content_file_write(t->file, a->chunk, zmq_msg_data(&a->frame), &moved, &why, err);
    if (moved) {
        content_fetch_restrain(s->fetch);
        if (!atomic_exchange(&s->told_disk, true))
            content_tell(s->content, true,
                         "the cache takes no more (%s): tensors go through memory", why.text);
    }
    content_fetch_settle(s->fetch, a, good);
    return rc;
}

/* Until the tensor is whole, whoever waits for it verifies and stores what arrives, of any. */
static int stage_wait(struct content_stage *s, size_t index, struct err *err)
{
    struct content_tensor *t = &s->tensors[index];
    int rc = 0;
    content_fetch_hurry(s->fetch, index, true);
    while (rc == 0 && !content_file_is_whole(t->file)) {
        struct content_arrival a;
        if (stage_is_cancelled(s))
            rc = err_set(err, ERR_CANCELLED, "loading was cancelled");
        else if (content_fetch_take(s->fetch, WAIT_MS, &a))
            rc = stage_store(s, &a, err);
        else
            rc = content_fetch_failure(s->fetch, err);
    }
    content_fetch_hurry(s->fetch, index, false);
    return rc;
}

static int stage_refuse(const struct content_stage *s, size_t index, struct err *err)
{
    const char *name = s->wants[index].name;
    if (s->local)
        return err_set(err, ERR_MODEL,
                       "%s: tensor %s has other content than the coordinator's file: give this "
                       "worker the same file, or let it fetch weights (ship = true)",
                       weight_file_path(s->local), name);
    return err_set(err, ERR_MODEL,
                   "tensor %s is not on this machine, and weights are not fetched (ship = false)",
                   name);
}

static int stage_provide(void *context, size_t index, const void **ret_data, struct err *err)
{
    struct content_stage *s = context;
    struct content_tensor *t = &s->tensors[index];
    int rc = 0;
    if (t->local && stage_take_local(s, index)) {
        *ret_data = t->local->data;
        return 0;
    }
    if (stage_is_cancelled(s))
        return err_set(err, ERR_CANCELLED, "loading was cancelled");
    if (t->local && s->fetch && !atomic_exchange(&s->told_other, true))
        content_tell(s->content, true,
                     "%s: tensor %s has other content than the coordinator's file: what differs "
                     "is fetched",
                     weight_file_path(s->local), s->wants[index].name);
    if (!t->file)
        rc = stage_open_file(s, index, err);
    if (rc != 0)
        return rc;
    if (!s->fetch || content_file_is_in_memory(t->file) || content_file_is_begun(t->file) ||
        t->local)
        stage_want_missing(s, index); /* else that was done when the load began */
    if (!content_file_is_whole(t->file) && !s->fetch)
        return stage_is_cancelled(s) ? err_set(err, ERR_CANCELLED, "loading was cancelled")
                                     : stage_refuse(s, index, err);
    rc = content_file_is_whole(t->file) ? 0 : stage_wait(s, index, err);
    if (rc != 0)
        return rc;
    *ret_data = content_file_data(t->file);
    atomic_fetch_add(&s->content->generation, 1);
    return 0;
}

static void stage_release(void *context, size_t index)
{
    struct content_stage *s = context;
    struct content_tensor *t = &s->tensors[index];
    if (atomic_load(&t->local_is_good))
        weight_file_release(s->local, t->local);
    if (t->file) {
        atomic_store(&t->is_gone, !t->keeps && content_file_is_in_memory(t->file));
        content_file_release(t->file, !t->keeps);
    }
}

/* ---- a stage ---- */

static void stage_free(struct content_stage *s)
{
    content_fetch_close(s->fetch);
    for (size_t i = 0; s->tensors && i < s->n_tensors; i++)
        content_file_close(s->tensors[i].file);
    weight_file_close(s->local);
    if (s->load)
        paceline__load__free_unpacked(s->load, NULL);
    free(s->about);
    free(s->tensors);
    free(s->wants);
    free(s);
}

static void stage_close(void *context)
{
    struct content_stage *s = context;
    struct content *c = s->content;
    pthread_mutex_lock(&c->lock);
    struct content_stage **p = &c->stages;
    while (*p && *p != s)
        p = &(*p)->next;
    if (*p)
        *p = s->next;
    pthread_mutex_unlock(&c->lock);
    atomic_fetch_add(&c->generation, 1);
    stage_free(s);
}

/* The coordinator's path if it can be read here, else the same name in the folder of models. */
static int stage_open_local(struct content_stage *s, struct err *err)
{
    const Paceline__Load *load = s->load;
    const struct content *c = s->content;
    char path[4096];
    if (c->spec.ignores_files)
        return 0;
    snprintf(path, sizeof path, "%s", load->model_path);
    if (access(path, R_OK) != 0) {
        if (!c->models_dir || strchr(load->model_file, '/'))
            return err_set(err, ERR_MODEL,
                           "%s cannot be read here and no folder of models is known: use --models",
                           load->model_path);
        snprintf(path, sizeof path, "%s/%s", c->models_dir, load->model_file);
        if (access(path, R_OK) != 0)
            return err_set(err, ERR_MODEL, "neither %s nor %s can be read: copy the file there",
                           load->model_path, path);
    }
    return weight_file_open(&s->local, path, err);
}

static bool tensors_are_alike(const struct tensor *a, const struct tensor *b)
{
    return a->type == b->type && a->bytes == b->bytes &&
           memcmp(a->dims, b->dims, sizeof a->dims) == 0;
}

static int stage_describe(struct content_stage *s, const struct model_config *config,
                          struct err *err)
{
    const Paceline__Load *load = s->load;
    s->n_tensors = load->n_digests;
    s->about = calloc(s->n_tensors + 1, sizeof *s->about);
    s->tensors = calloc(s->n_tensors + 1, sizeof *s->tensors);
    s->wants = calloc(s->n_tensors + 1, sizeof *s->wants);
    if (!s->about || !s->tensors || !s->wants)
        return err_set(err, ERR_MEMORY, "no memory for %zu tensors", s->n_tensors);
    int rc = content_load_tensors(load, config, s->about, err);
    for (size_t i = 0; rc == 0 && i < s->n_tensors; i++) {
        int layer;
        s->tensors[i].chunks = (const unsigned char(*)[DIGEST_BYTES])load->digests[i]->chunks.data;
        s->tensors[i].keeps =
            load->first_layer == 0 &&
            model_tensor_kind(config, s->about[i].name, &layer) == MODEL_TOKEN_EMBEDDING;
        s->wants[i] =
            (struct content_fetch_tensor){.name = s->about[i].name, .bytes = s->about[i].bytes};
        memcpy(s->wants[i].digest, load->digests[i]->sha256.data, DIGEST_BYTES);
    }
    return rc;
}

static void stage_find_local(struct content_stage *s)
{
    for (size_t i = 0; s->local && i < s->n_tensors; i++) {
        const struct tensor *t = weight_file_find(s->local, s->about[i].name);
        if (t && tensors_are_alike(t, &s->about[i]))
            s->tensors[i].local = t;
    }
}

static int stage_start_fetching(struct content_stage *s, struct err *err)
{
    struct content *c = s->content;
    struct content_fetch_source *sources = calloc(CONTENT_FETCH_MAX_SOURCES, sizeof *sources);
    if (!sources)
        return err_set(err, ERR_MEMORY, "no memory for the sources of weights");
    struct content_fetch_spec spec = {
        .zmq = c->spec.zmq,
        .own_endpoint = c->endpoint,
        .own = c->spec.own,
        .n_sources = content_load_sources(s->load, c->coordinator_host, c->endpoint, sources),
        .sources = sources,
        .n_tensors = s->n_tensors,
        .tensors = s->wants,
        .stall_ms = c->spec.stall_ms,
        .give_up_ms = c->spec.give_up_ms,
        .tell = content_on_fetch_words,
        .context = c};
    struct content_fetch *fetch;
    int rc = content_fetch_open(&fetch, &spec, err);
    free(sources);
    if (rc != 0)
        return rc;
    pthread_mutex_lock(&c->lock); /* content_progress() looks */
    s->fetch = fetch;
    pthread_mutex_unlock(&c->lock);
    return 0;
}

/* What is whole in the cache is opened, and so in use, before room is made for the rest: else it
 * would be removed for it. */
static int stage_open_cached(struct content_stage *s, struct err *err)
{
    struct content_cache *cache = &s->content->cache;
    int64_t missing = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < s->n_tensors; i++) {
        if (s->tensors[i].local)
            continue;
        if (content_cache_has(cache, s->wants[i].digest, s->wants[i].bytes))
            rc = stage_open_file(s, i, err);
        else
            missing += (int64_t)s->about[i].bytes;
    }
    if (missing > 0)
        content_cache_make_room(cache, missing);
    return rc;
}

/* What is nowhere on this machine is asked for at once; what goes through memory, and what was
 * begun, when somebody waits for it. */
static int stage_begin_fetching(struct content_stage *s, struct err *err)
{
    const struct content_cache *cache = &s->content->cache;
    int64_t homeless = 0;
    int rc = stage_open_cached(s, err);
    for (size_t i = 0; rc == 0 && i < s->n_tensors; i++) {
        struct content_tensor *t = &s->tensors[i];
        if (t->local)
            continue;
        if (!t->file)
            rc = stage_open_file(s, i, err);
        if (rc == 0 && s->fetch && !content_file_is_in_memory(t->file) &&
            !content_file_is_begun(t->file))
            for (size_t k = 0; k < manifest_chunk_count(s->about[i].bytes); k++)
                content_fetch_want(s->fetch, i, k);
        if (rc == 0 && content_file_is_in_memory(t->file))
            homeless += (int64_t)s->about[i].bytes;
    }
    if (rc == 0 && homeless > 0 && cache->folder)
        content_tell(s->content, true,
                     "%s has no room for %.1f MB of weights (it may hold %.1f MB; see --cache): "
                     "they go through memory",
                     cache->folder, (double)homeless / 1e6, (double)cache->limit / 1e6);
    return rc;
}

static int stage_open(struct content_stage *s, struct model_config *ret_config, struct err *err)
{
    struct content *c = s->content;
    struct err local = {0};
    int rc = content_load_config(s->load, ret_config, err);
    if (rc == 0)
        rc = stage_describe(s, ret_config, err);
    if (rc == 0 && stage_open_local(s, &local) != 0) {
        if (c->spec.ships)
            content_tell(c, false, "%s; its weights are fetched", local.text);
        else
            *err = local;
        rc = c->spec.ships ? 0 : local.code;
    }
    if (rc != 0)
        return rc;
    stage_find_local(s);
    pthread_mutex_lock(&c->lock); /* from now on others may ask for what comes */
    s->serial = ++c->n_loads;
    s->next = c->stages;
    c->stages = s;
    pthread_mutex_unlock(&c->lock);
    if (c->spec.ships)
        rc = stage_start_fetching(s, err);
    return rc == 0 ? stage_begin_fetching(s, err) : rc;
}

/* A stage may outlive the message: a newer one may keep it. */
static Paceline__Load *stage_copy_load(const Paceline__Load *load)
{
    size_t size = paceline__load__get_packed_size(load);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes)
        return NULL;
    paceline__load__pack(load, bytes);
    Paceline__Load *copy = paceline__load__unpack(NULL, size, bytes);
    free(bytes);
    return copy;
}

int content_load(struct content *c, const Paceline__Load *load, const atomic_bool *cancelled,
                 struct model_config *ret_config, struct weight_file **ret_file, struct err *err)
{
    struct content_stage *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for a stage");
    *s =
        (struct content_stage){.content = c, .load = stage_copy_load(load), .cancelled = cancelled};
    const struct weight_hooks hooks = {
        .provide = stage_provide, .release = stage_release, .close = stage_close, .context = s};
    struct model_config config;
    struct weight_file *file = NULL;
    int rc =
        s->load ? stage_open(s, &config, err) : err_set(err, ERR_MEMORY, "no memory for a stage");
    if (rc == 0)
        rc = weight_file_assemble(&file, load->model_file, s->about, s->n_tensors, &hooks, err);
    if (rc != 0) {
        stage_close(s);
        return rc;
    }
    *ret_config = config;
    *ret_file = file;
    return 0;
}

/* ---- the whole ---- */

static int content_listen(struct content *c, struct err *err)
{
    const char *host = c->spec.advertised_host ? c->spec.advertised_host : c->spec.host;
    struct content_server_spec spec = {.zmq = c->spec.zmq,
                                       .host = c->spec.host,
                                       .own = c->spec.own,
                                       .find = content_find,
                                       .context = c};
    int rc = content_server_open(&c->server, &spec, err);
    if (rc != 0)
        return rc;
    bool bare = strchr(host, ':') != NULL;
    int length = snprintf(c->endpoint, sizeof c->endpoint, "tcp://%s%s%s:%d", bare ? "[" : "", host,
                          bare ? "]" : "", content_server_port(c->server));
    if (length >= (int)sizeof c->endpoint)
        return err_set(err, ERR_CONFIG, "%s is too long for an address", host);
    return 0;
}

int content_open(struct content **ret_content, const struct content_spec *spec, struct err *err)
{
    struct content *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, ERR_MEMORY, "no memory for weights");
    c->spec = *spec;
    pthread_mutex_init(&c->lock, NULL);
    c->coordinator_host = strdup(spec->coordinator_host);
    c->models_dir = spec->models_dir ? strdup(spec->models_dir) : NULL;
    int rc = 0;
    if (!c->coordinator_host || (spec->models_dir && !c->models_dir))
        rc = err_set(err, ERR_MEMORY, "no memory for weights");
    struct err no_cache;
    if (content_cache_open(&c->cache, spec->cache_dir ? spec->cache_dir : "",
                           spec->cache_dir ? spec->cache_bytes : 0, &no_cache) != 0)
        content_tell(c, true, "%s: weights that are fetched are not kept", no_cache.text);
    if (rc == 0 && spec->host)
        rc = content_listen(c, err);
    if (rc != 0) {
        content_close(c);
        return rc;
    }
    *ret_content = c;
    return 0;
}

void content_close(struct content *c)
{
    if (!c)
        return;
    content_server_close(c->server);
    content_cache_close(&c->cache);
    pthread_mutex_destroy(&c->lock);
    free(c->coordinator_host);
    free(c->models_dir);
    free(c);
}

const char *content_endpoint(const struct content *c)
{
    return c->endpoint;
}

bool content_progress(struct content *c, struct content_progress *ret_progress)
{
    pthread_mutex_lock(&c->lock);
    const struct content_stage *s = c->stages;
    if (s) {
        struct content_fetch_state state = {0};
        if (s->fetch)
            content_fetch_state(s->fetch, &state);
        *ret_progress = (struct content_progress){.serial = s->serial,
                                                  .deployment = s->load->deployment,
                                                  .epoch = s->load->epoch,
                                                  .fetch_bytes = state.wanted_bytes,
                                                  .fetched_bytes = state.good_bytes,
                                                  .bytes_per_second = state.bytes_per_second,
                                                  .coordinator_bytes = state.coordinator_bytes};
    }
    pthread_mutex_unlock(&c->lock);
    return s != NULL;
}

int content_let_in(struct content *c, const unsigned char (*keys)[KEYS_BYTES], size_t n,
                   struct err *err)
{
    return c->server ? content_server_allow(c->server, keys, n, err) : 0;
}

int64_t content_sent_bytes(const struct content *c)
{
    return c->server ? content_server_sent_bytes(c->server) : 0;
}

unsigned content_generation(const struct content *c)
{
    return atomic_load(&c->generation);
}

size_t content_have(struct content *c, unsigned char (*to)[32], size_t most)
{
    size_t n = 0;
    pthread_mutex_lock(&c->lock);
    for (const struct content_stage *s = c->stages; s; s = s->next)
        for (size_t i = 0; i < s->n_tensors && n < most; i++) {
            const struct content_tensor *t = &s->tensors[i];
            if (atomic_load(&t->local_is_good) || (t->file && content_file_is_whole(t->file)))
                memcpy(to[n++], s->wants[i].digest, DIGEST_BYTES);
        }
    pthread_mutex_unlock(&c->lock);
    return n + content_cache_list(&c->cache, to + n, most - n);
}
