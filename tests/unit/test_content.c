/* A stage's tensors from a file, the cache, the coordinator and other workers, of which some lie,
 * stall or have nothing; and Loads that do not fit together. */
#include "worker/content.h"

#include "base/clock.h"
#include "coordinator/shipping.h"
#include "proto/wire.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL    TEST_DATA "/models/qwen2-tied/gguf/qwen2-tied-Q4_0.gguf"
#define TOLD_MAX 4096

struct world {
    void *zmq;
    char folder[64];
    struct weight_file *file;
    struct manifest manifest;
    struct model_config config;
    Paceline__ModelConfig config_message;
    unsigned char config_digest[DIGEST_BYTES];
    struct shipping *shipping;
    Paceline__Load load;
    Paceline__TensorDigest *digests, **list;
    Paceline__ContentSource sources[3], *source_list[3];
    char own[64];
    int64_t bytes;
    bool is_closed; /* by the test, to its end: nothing uses the sockets' context any more */
};

/* What the module said, from any thread. */
static char told[TOLD_MAX];
static pthread_mutex_t told_lock = PTHREAD_MUTEX_INITIALIZER;

static void tell(bool is_fault, const char *text)
{
    (void)is_fault;
    pthread_mutex_lock(&told_lock);
    size_t length = strlen(told);
    snprintf(told + length, sizeof told - length, "%s\n", text);
    pthread_mutex_unlock(&told_lock);
}

/* Who is connected a moment later is not asked for so little content each time. */
#define LOADS_MOST 50

static bool was_told(const char *words)
{
    pthread_mutex_lock(&told_lock);
    bool found = strstr(told, words) != NULL;
    pthread_mutex_unlock(&told_lock);
    return found;
}

static void add_source(struct world *w, const char *name, const char *endpoint)
{
    Paceline__ContentSource *s = &w->sources[w->load.n_sources];
    paceline__content_source__init(s);
    s->name = (char *)name;
    s->endpoint = (char *)endpoint;
    w->source_list[w->load.n_sources++] = s;
    w->load.sources = w->source_list;
}

static void fill_load(struct world *w)
{
    w->load = (Paceline__Load)PACELINE__LOAD__INIT;
    w->load.epoch = 7;
    w->load.model_path = (char *)MODEL;
    w->load.model_file = (char *)"qwen2-tied-Q4_0.gguf";
    w->load.end_layer = (uint32_t)w->config.n_layers;
    shipping_describe_config(&w->config, &w->config_message);
    w->load.config = &w->config_message;
    manifest_digest_config(&w->config, w->config_digest);
    w->load.config_sha256.data = w->config_digest;
    w->load.config_sha256.len = DIGEST_BYTES;
    size_t n = w->manifest.n_tensors;
    w->digests = calloc(n, sizeof *w->digests);
    w->list = calloc(n, sizeof(Paceline__TensorDigest *));
    assert_true(w->digests && w->list);
    for (size_t i = 0; i < n; i++) {
        shipping_describe_tensor(w->file, &w->manifest, i, &w->digests[i]);
        w->list[i] = &w->digests[i];
        w->bytes += w->digests[i].bytes;
    }
    w->load.digests = w->list;
    w->load.n_digests = n;
    snprintf(w->own, sizeof w->own, "tcp://*:%d", shipping_port(w->shipping));
    add_source(w, "the coordinator", w->own);
}

static int world_open(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct err err;
    if (!w || wire_context(&w->zmq, &err) != 0 || weight_file_open(&w->file, MODEL, &err) != 0 ||
        model_config_read(&w->config, w->file, &err) != 0 ||
        manifest_compute(&w->manifest, w->file, NULL, NULL, NULL, &err) != 0 ||
        shipping_open(&w->shipping, w->zmq, "127.0.0.1", 0, NULL, &err) != 0 ||
        shipping_publish(w->shipping, w->file, &w->manifest, &err) != 0)
        return -1;
    strcpy(w->folder, "/tmp/test_content.XXXXXX");
    if (!mkdtemp(w->folder))
        return -1;
    fill_load(w);
    told[0] = '\0';
    *state = w;
    return 0;
}

static int world_close(void **state)
{
    struct world *w = *state;
    char command[128];
    if (!w->is_closed)
        return 0; /* it failed: to wait for its threads would hide why */
    shipping_close(w->shipping);
    zmq_ctx_term(w->zmq);
    manifest_clear(&w->manifest);
    weight_file_close(w->file);
    snprintf(command, sizeof command, "rm -r '%s'", w->folder);
    free(w->digests);
    free(w->list);
    free(w);
    return system(command);
}

static struct content *worker_open_with(struct world *w, int64_t cache_bytes)
{
    struct content *c;
    struct err err;
    struct content_spec spec = {.zmq = w->zmq,
                                .coordinator_host = "127.0.0.1",
                                .host = "127.0.0.1",
                                .cache_dir = w->folder,
                                .cache_bytes = cache_bytes,
                                .ignores_files = true,
                                .ships = true,
                                .stall_ms = 200,
                                .give_up_ms = 3000,
                                .tell = tell};
    if (content_open(&c, &spec, &err) != 0)
        fail_msg("%s", err.text);
    return c;
}

static struct content *worker_open(struct world *w, bool has_cache)
{
    return worker_open_with(w, has_cache ? 1 << 30 : 0);
}

/* Loads, and compares every tensor with the file's. */
static int worker_load(struct world *w, struct content *c, struct content_progress *ret_progress,
                       struct weight_file **ret_file, struct err *err)
{
    struct weight_file *f;
    struct model_config config;
    int rc = content_load(c, &w->load, NULL, &config, &f, err);
    if (rc != 0)
        return rc;
    unsigned char digest[DIGEST_BYTES];
    manifest_digest_config(&config, digest);
    assert_memory_equal(digest, w->config_digest, DIGEST_BYTES);
    for (size_t i = 0; rc == 0 && i < weight_file_tensor_count(f); i++) {
        const struct tensor *t = weight_file_tensor(f, i);
        rc = weight_file_provide(f, t, err);
        if (rc != 0)
            break;
        assert_memory_equal(t->data, weight_file_find(w->file, t->name)->data, t->bytes);
        weight_file_release(f, t);
    }
    if (ret_progress)
        assert_true(content_progress(c, ret_progress));
    if (ret_file && rc == 0)
        *ret_file = f;
    else
        weight_file_close(f);
    return rc;
}

static void load_well(struct world *w, struct content *c, int64_t fetched)
{
    struct content_progress p;
    struct err err = {0};
    if (worker_load(w, c, &p, NULL, &err) != 0)
        fail_msg("%s (%s)", err.text, told);
    assert_int_equal(p.fetched_bytes, fetched);
    assert_int_equal(p.fetch_bytes, fetched);
    assert_int_equal(p.epoch, 7);
}

static void all_comes_from_the_coordinator(void **state)
{
    struct world *w = *state;
    struct content *c = worker_open(w, false);
    load_well(w, c, w->bytes);
    assert_true(shipping_sent_bytes(w->shipping) >= w->bytes); /* a slow machine asks twice */
    load_well(w, c, w->bytes);                                 /* nothing was kept */
    content_close(c);
    w->is_closed = true;
}

static void the_cache_is_used_again(void **state)
{
    struct world *w = *state;
    unsigned char have[CONTENT_MAX_HAVE][DIGEST_BYTES];
    struct content *c = worker_open(w, true);
    load_well(w, c, w->bytes);
    int64_t sent = shipping_sent_bytes(w->shipping);
    load_well(w, c, 0);
    content_close(c);
    c = worker_open(w, true); /* another process */
    assert_int_equal(content_have(c, have, CONTENT_MAX_HAVE), w->manifest.n_tensors);
    load_well(w, c, 0);
    assert_int_equal(shipping_sent_bytes(w->shipping), sent);
    content_close(c);
    w->is_closed = true;
}

/* Bytes on disk of all that is in the cache. */
static int64_t cached_bytes(const struct world *w)
{
    DIR *dir = opendir(w->folder);
    int64_t bytes = 0;
    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        if (fstatat(dirfd(dir), e->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            bytes += (int64_t)st.st_blocks * 512;
    }
    closedir(dir);
    return bytes;
}

/* A stage that fits once, and not twice. */
static void no_room_is_made_of_what_is_needed(void **state)
{
    struct world *w = *state;
    struct content *c = worker_open(w, true);
    load_well(w, c, w->bytes);
    content_close(c);
    c = worker_open_with(w, cached_bytes(w));
    load_well(w, c, 0);
    content_close(c);
    w->is_closed = true;
}

static void a_file_of_this_machine_comes_first(void **state)
{
    struct world *w = *state;
    struct content *c;
    struct err err;
    struct content_spec spec = {.zmq = w->zmq,
                                .coordinator_host = "127.0.0.1",
                                .cache_dir = w->folder,
                                .cache_bytes = -1,
                                .ships = true,
                                .give_up_ms = 600,
                                .tell = tell};
    assert_int_equal(content_open(&c, &spec, &err), 0);
    load_well(w, c, 0);
    /* One tensor of another content: it alone is fetched, and told. */
    unsigned char *chunk = w->digests[4].chunks.data, was = chunk[0];
    chunk[0] ^= 1;
    manifest_digest_chunks((uint64_t)w->digests[4].bytes, chunk, 1, w->manifest.digests[4]);
    struct content_progress p;
    assert_int_equal(worker_load(w, c, &p, NULL, &err), ERR_NETWORK); /* nobody has it */
    assert_int_equal(p.fetch_bytes, w->digests[4].bytes);
    assert_true(was_told("other content"));
    chunk[0] = was;
    content_close(c);
    w->is_closed = true;
}

/* As in a merge that repeats layers: both come, though one digest names them. */
static void equal_tensors_come_both(void **state)
{
    struct world *w = *state;
    struct content *c = worker_open(w, true); /* all is asked for at once */
    struct weight_file *f;
    struct model_config config;
    struct err err = {0};
    const char *names[] = {"blk.0.attn_norm.weight", "blk.1.attn_norm.weight"};
    Paceline__TensorDigest *twins[2] = {0};
    for (size_t i = 0; i < w->load.n_digests; i++)
        for (int k = 0; k < 2; k++)
            if (strcmp(w->digests[i].name, names[k]) == 0)
                twins[k] = &w->digests[i];
    assert_true(twins[0] && twins[1] && twins[0]->bytes == twins[1]->bytes);
    twins[1]->chunks = twins[0]->chunks;
    twins[1]->sha256 = twins[0]->sha256;
    const void *wanted = weight_file_find(w->file, names[0])->data;
    assert_int_equal(content_load(c, &w->load, NULL, &config, &f, &err), 0);
    for (int k = 0; k < 2; k++) {
        const struct tensor *t = weight_file_find(f, names[k]);
        if (weight_file_provide(f, t, &err) != 0)
            fail_msg("%s: %s (%s)", names[k], err.text, told);
        assert_memory_equal(t->data, wanted, t->bytes);
    }
    weight_file_close(f);
    content_close(c);
    w->is_closed = true;
}

static void flip_a_file(const char *folder, bool cut)
{
    DIR *dir = opendir(folder);
    char path[512];
    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir));)
        if (e->d_name[0] != '.')
            snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
    closedir(dir);
    int fd = open(path, O_RDWR);
    unsigned char byte;
    assert_int_equal(pread(fd, &byte, 1, 0), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, 0), 1);
    close(fd);
    if (cut)
        assert_int_equal(truncate(path, 1), 0);
}

static void a_damaged_cache_is_repaired(void **state)
{
    struct world *w = *state;
    struct content *c = worker_open(w, true);
    struct content_progress p;
    struct err err;
    load_well(w, c, w->bytes);
    flip_a_file(w->folder, false);
    assert_int_equal(worker_load(w, c, &p, NULL, &err), 0);
    assert_true(p.fetched_bytes > 0 && p.fetched_bytes < w->bytes);
    assert_true(was_told("damaged in the cache"));
    load_well(w, c, 0);
    flip_a_file(w->folder, true);
    assert_int_equal(worker_load(w, c, &p, NULL, &err), 0);
    assert_true(p.fetched_bytes > 0 && p.fetched_bytes < w->bytes);
    load_well(w, c, 0);
    content_close(c);
    w->is_closed = true;
}

/* ---- others ---- */

static void give_back(const void *data, size_t bytes, void *hint)
{
    (void)bytes;
    (void)hint;
    free((void *)data);
}

enum manner { LIES, CUTS, HAS_NOTHING };

/* A peer that gives what it should not. */
static enum content_status find_falsely(void *context, const struct content_request *q,
                                        struct content_piece *piece, char *elsewhere)
{
    struct world *w = *(struct world **)context;
    const enum manner manner = *(const enum manner *)((char *)context + sizeof w);
    (void)elsewhere;
    if (manner == HAS_NOTHING)
        return CONTENT_ABSENT;
    for (size_t i = 0; i < w->manifest.n_tensors; i++) {
        if (memcmp(w->manifest.digests[i], q->digest, DIGEST_BYTES) != 0)
            continue;
        const struct tensor *t = weight_file_tensor(w->file, i);
        size_t bytes = manifest_chunk_bytes(t->bytes, q->chunk) - (manner == CUTS);
        unsigned char *data = malloc(bytes);
        if (!data)
            return CONTENT_LATER;
        memcpy(data, (const char *)t->data + q->chunk * MANIFEST_CHUNK_BYTES, bytes);
        data[bytes / 2] ^= manner == LIES;
        *piece = (struct content_piece){.data = data, .bytes = bytes, .done = give_back};
        return CONTENT_HERE;
    }
    return CONTENT_ABSENT;
}

struct false_peer {
    struct {
        struct world *world;
        enum manner manner;
    } is;
    struct content_server *server;
    char endpoint[64];
};

static void peer_open(struct false_peer *p, struct world *w, enum manner manner)
{
    struct err err;
    p->is.world = w;
    p->is.manner = manner;
    struct content_server_spec spec = {
        .zmq = w->zmq, .host = "127.0.0.1", .find = find_falsely, .context = &p->is};
    assert_int_equal(content_server_open(&p->server, &spec, &err), 0);
    snprintf(p->endpoint, sizeof p->endpoint, "tcp://127.0.0.1:%d", content_server_port(p->server));
}

static void drop_a_false_peer(struct world *w, enum manner manner)
{
    struct false_peer peer;
    struct content *c = worker_open(w, true); /* all is asked for at once, of both */
    peer_open(&peer, w, manner);
    add_source(w, "worker liar", peer.endpoint);
    for (int i = 0; i < LOADS_MOST && !was_told("worker liar sent a"); i++)
        load_well(w, c, w->bytes);
    assert_true(was_told("worker liar sent a"));
    assert_true(was_told("not asked any more"));
    content_close(c);
    content_server_close(peer.server);
    w->is_closed = true;
}

static void a_peer_that_lies_is_dropped(void **state)
{
    drop_a_false_peer(*state, LIES);
}

static void a_peer_that_cuts_is_dropped(void **state)
{
    drop_a_false_peer(*state, CUTS);
}

static void nobody_left_to_believe_is_a_failure(void **state)
{
    struct world *w = *state;
    struct false_peer peer;
    struct content *c = worker_open(w, true);
    struct err err = {0};
    peer_open(&peer, w, LIES);
    w->load.n_sources = 0;
    add_source(w, "the coordinator", peer.endpoint);
    assert_int_equal(worker_load(w, c, NULL, NULL, &err), ERR_NETWORK);
    assert_non_null(strstr(err.text, "no source for it is left"));
    content_server_close(peer.server);
    peer_open(&peer, w, HAS_NOTHING);
    w->load.n_sources = 0;
    add_source(w, "the coordinator", peer.endpoint);
    assert_int_equal(worker_load(w, c, NULL, NULL, &err), ERR_NETWORK);
    assert_non_null(strstr(err.text, "the coordinator does not have it"));
    content_close(c);
    content_server_close(peer.server);
    w->is_closed = true;
}

/* The coordinator takes requests and answers none; a worker has everything. */
static void who_stalls_is_left_alone(void **state)
{
    struct world *w = *state;
    struct content *has = worker_open(w, true), *c = worker_open(w, false);
    struct weight_file *held;
    struct err err = {0};
    void *deaf;
    int port;
    char endpoint[64];
    assert_int_equal(worker_load(w, has, NULL, &held, &err), 0);
    assert_int_equal(wire_socket(&deaf, w->zmq, ZMQ_ROUTER, NULL, &err), 0);
    assert_int_equal(wire_bind(deaf, "127.0.0.1", 0, &port, &err), 0);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", port);
    w->load.n_sources = 0;
    add_source(w, "the coordinator", endpoint);
    add_source(w, "worker has", content_endpoint(has));
    for (int i = 0; i < LOADS_MOST && !was_told("the coordinator has sent nothing"); i++)
        load_well(w, c, w->bytes);
    assert_true(was_told("the coordinator has sent nothing"));
    assert_true(content_sent_bytes(has) >= w->bytes);
    /* Nobody at all. */
    w->load.n_sources = 1;
    assert_int_equal(worker_load(w, c, NULL, NULL, &err), ERR_NETWORK);
    assert_non_null(strstr(err.text, "for too long"));
    weight_file_close(held);
    content_close(c);
    content_close(has);
    zmq_close(deaf);
    w->is_closed = true;
}

struct comeback {
    struct world *world;
    int port;
};

static void *coordinator_comes_back(void *argument)
{
    struct comeback *c = argument;
    struct err err;
    struct timespec pause = {.tv_nsec = 300000000};
    nanosleep(&pause, NULL);
    if (shipping_open(&c->world->shipping, c->world->zmq, "127.0.0.1", c->port, NULL, &err) != 0)
        return NULL;
    nanosleep(&pause, NULL); /* it hashes */
    shipping_publish(c->world->shipping, c->world->file, &c->world->manifest, &err);
    return NULL;
}

static void the_coordinator_may_restart(void **state)
{
    struct world *w = *state;
    struct content *c = worker_open(w, false); /* one tensor after the other */
    struct weight_file *f;
    struct model_config config;
    struct err err = {0};
    struct comeback comeback = {w, shipping_port(w->shipping)};
    pthread_t thread;
    assert_int_equal(content_load(c, &w->load, NULL, &config, &f, &err), 0);
    for (size_t i = 0; i < weight_file_tensor_count(f); i++) {
        const struct tensor *t = weight_file_tensor(f, i);
        if (i == 5) {
            shipping_close(w->shipping);
            assert_int_equal(pthread_create(&thread, NULL, coordinator_comes_back, &comeback), 0);
        }
        if (weight_file_provide(f, t, &err) != 0)
            fail_msg("%s", err.text);
        assert_memory_equal(t->data, weight_file_find(w->file, t->name)->data, t->bytes);
    }
    pthread_join(thread, NULL);
    struct content_progress p;
    assert_true(content_progress(c, &p));
    assert_int_equal(p.fetched_bytes, w->bytes);
    weight_file_close(f);
    content_close(c);
    w->is_closed = true;
}

static void it_can_be_cancelled(void **state)
{
    struct world *w = *state;
    struct content *c = worker_open(w, false);
    struct weight_file *f;
    struct model_config config;
    struct err err = {0};
    atomic_bool cancelled = true;
    w->load.n_sources = 0;
    add_source(w, "the coordinator", "tcp://127.0.0.1:1");
    assert_int_equal(content_load(c, &w->load, &cancelled, &config, &f, &err), 0);
    assert_int_equal(weight_file_provide(f, weight_file_tensor(f, 0), &err), ERR_CANCELLED);
    weight_file_close(f);
    content_close(c);
    w->is_closed = true;
}

/* ---- loads ---- */

static void refuse(struct world *w, struct content *c, const char *words)
{
    struct err err = {0};
    assert_true(worker_load(w, c, NULL, NULL, &err) < 0);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" instead of \"…%s…\"", err.text, words);
}

static void what_does_not_fit_is_refused(void **state)
{
    struct world *w = *state;
    struct content *c = worker_open(w, false);
    Paceline__TensorDigest *t = &w->digests[2], was = *t;
    int64_t dims[5];
    w->load.config = NULL;
    refuse(w, c, "no configuration");
    w->load.config = &w->config_message;
    w->config_message.n_heads = 0;
    refuse(w, c, "not one of a Qwen model");
    w->config_message.n_heads = w->config.n_heads;
    w->config_message.rope_base *= 2;
    refuse(w, c, "not the one that its digest names");
    w->config_message.rope_base = w->config.rope_base;

    t->chunks.len -= 1;
    refuse(w, c, "does not fit together");
    *t = was;
    t->bytes = INT64_MAX;
    refuse(w, c, "does not fit together");
    t->bytes = -1;
    refuse(w, c, "does not fit together");
    *t = was;
    t->n_dims = 5;
    t->dims = dims;
    refuse(w, c, "does not fit together");
    *t = was;
    t->name = (char *)"blk.9999.attn_q.weight";
    refuse(w, c, "does not fit together");
    *t = was;
    t->dims = dims;
    t->n_dims = 2;
    dims[0] = (int64_t)1 << 31;
    dims[1] = (int64_t)1 << 33;
    refuse(w, c, "do not go together");
    dims[0] = was.dims[0];
    dims[1] = -1;
    refuse(w, c, "do not go together");
    *t = was;
    t->type = 24;
    refuse(w, c, "do not go together");
    *t = was;
    w->list[3] = w->list[2];
    refuse(w, c, "twice");
    w->list[3] = &w->digests[3];
    load_well(w, c, w->bytes);
    content_close(c);
    w->is_closed = true;
}

static void without_shipping_the_file_must_be_here(void **state)
{
    struct world *w = *state;
    struct content *c;
    struct err err;
    struct content_spec spec = {
        .zmq = w->zmq, .coordinator_host = "127.0.0.1", .models_dir = "/nowhere", .tell = tell};
    assert_int_equal(content_open(&c, &spec, &err), 0);
    load_well(w, c, 0);
    w->load.model_path = (char *)"/absent/qwen2-tied-Q4_0.gguf";
    refuse(w, c, "copy the file there");
    content_close(c);
    w->is_closed = true;
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, world_open, world_close)
    const struct CMUnitTest tests[] = {
        TEST(all_comes_from_the_coordinator),
        TEST(the_cache_is_used_again),
        TEST(a_file_of_this_machine_comes_first),
        TEST(a_damaged_cache_is_repaired),
        TEST(equal_tensors_come_both),
        TEST(no_room_is_made_of_what_is_needed),
        TEST(a_peer_that_lies_is_dropped),
        TEST(a_peer_that_cuts_is_dropped),
        TEST(nobody_left_to_believe_is_a_failure),
        TEST(who_stalls_is_left_alone),
        TEST(the_coordinator_may_restart),
        TEST(it_can_be_cancelled),
        TEST(what_does_not_fit_is_refused),
        TEST(without_shipping_the_file_must_be_here),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
