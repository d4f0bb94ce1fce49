/* The compute thread: loads that overtake each other, links that are not there yet or never, steps
 * that are lost. */
#include "base/clock.h"
#include "coordinator/shipping.h"
#include "model/manifest.h"
#include "proto/data_link.h"
#include "proto/step_message.h"
#include "proto/wire.h"
#include "proto/zap.h"
#include "worker/worker_runner.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LIMIT_MS 60000 /* sanitizers on a busy machine */
#define MODEL    TEST_DATA "/models/qwen2-tied/gguf/qwen2-tied-Q4_0.gguf"
#define LAYERS   5

struct bench {
    void *zmq, *steps, *results;
    struct kernels kernels;
    struct worker_runner *runner;
    char results_endpoint[64];
    struct weight_file *weights;
    struct content *content;
    struct manifest manifest;
    struct model_config config;
    unsigned char config_digest[DIGEST_BYTES];
    uint32_t kv_blocks;
    bool beside, standby; /* the next loads say so */
    const char *model_path;
    /* with keys */
    bool is_guarded;
    struct key_pair own, coordinator, stranger;
    struct zap zap; /* lets everybody in: what is tested is what follows */
};

/* In the place of the C library's, for all of this program. */
static bool has_no_threads;

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*begin)(void *),
                   void *argument)
{
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    void *symbol = dlsym(RTLD_NEXT, "pthread_create");
    memcpy(&create, &symbol, sizeof create);
    return has_no_threads ? EAGAIN : create(thread, attributes, begin, argument);
}

static bool bench_judge(void *context, const char *domain, const unsigned char key[KEYS_BYTES])
{
    return true;
}

static int bench_start(void **state, bool is_guarded);

static int bench_open(void **state)
{
    return bench_start(state, false);
}

static int bench_open_guarded(void **state)
{
    return bench_start(state, true);
}

static int bench_start(void **state, bool is_guarded)
{
    static struct bench b;
    struct err err;
    b = (struct bench){.kv_blocks = 4, .is_guarded = is_guarded, .model_path = MODEL};
    if (wire_context(&b.zmq, &err) != 0)
        return -1;
    if (is_guarded && (keys_make(&b.own, &err) != 0 || keys_make(&b.coordinator, &err) != 0 ||
                       keys_make(&b.stranger, &err) != 0 ||
                       zap_open(&b.zap, b.zmq, bench_judge, NULL, &err) != 0))
        return -1;
    const struct wire_security results = {.own = &b.coordinator, .domain = WIRE_RESULTS};
    const struct wire_security steps = {.own = &b.coordinator, .server_key = b.own.public_key};
    if (kernels_select(&b.kernels, "scalar", &err) != 0 ||
        weight_file_open(&b.weights, MODEL, &err) != 0 ||
        model_config_read(&b.config, b.weights, &err) != 0 ||
        manifest_compute(&b.manifest, b.weights, NULL, NULL, NULL, &err) != 0)
        return -1;
    manifest_digest_config(&b.config, b.config_digest);
    struct content_spec content = {.zmq = b.zmq, .coordinator_host = "127.0.0.1"};
    if (content_open(&b.content, &content, &err) != 0)
        return -1;
    struct worker_runner_spec spec = {.zmq = b.zmq,
                                      .content = b.content,
                                      .kernels = &b.kernels,
                                      .threads = 1,
                                      .coordinator_host = "127.0.0.1",
                                      .own = is_guarded ? &b.own : NULL,
                                      .data_host = "127.0.0.1"};
    if (worker_runner_start(&b.runner, &spec, &err) != 0)
        return -1;
    /* A port that nobody listens on yet. */
    int port;
    if (wire_socket(&b.results, b.zmq, ZMQ_PULL, is_guarded ? &results : NULL, &err) != 0 ||
        wire_bind(b.results, "127.0.0.1", 0, &port, &err) != 0)
        return -1;
    snprintf(b.results_endpoint, sizeof b.results_endpoint, "tcp://127.0.0.1:%d", port);
    zmq_unbind(b.results, b.results_endpoint);
    char endpoint[64];
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", worker_runner_data_port(b.runner));
    if (wire_socket(&b.steps, b.zmq, ZMQ_PUSH, is_guarded ? &steps : NULL, &err) != 0 ||
        zmq_connect(b.steps, endpoint) != 0)
        return -1;
    *state = &b;
    return 0;
}

static int bench_close(void **state)
{
    struct bench *b = *state;
    worker_runner_stop(b->runner);
    content_close(b->content);
    zmq_close(b->steps);
    zmq_close(b->results);
    zap_close(&b->zap);
    zmq_ctx_term(b->zmq);
    manifest_clear(&b->manifest);
    weight_file_close(b->weights);
    return 0;
}

/* packed and unpacked, so that it is the runner's to free */
static Paceline__Control *bench_message(struct bench *b, uint64_t epoch, uint32_t end_layer)
{
    Paceline__Load load = PACELINE__LOAD__INIT;
    load.deployment = 1;
    load.epoch = epoch;
    load.model_path = (char *)b->model_path;
    load.model_file = (char *)"qwen2-tied-Q4_0.gguf";
    load.end_layer = end_layer;
    load.beside = b->beside;
    load.standby = b->standby;
    load.kv_blocks = b->kv_blocks;
    load.max_sequences = 2;
    load.max_context = 128;
    load.max_rows = 16;
    load.max_outputs = 4;
    load.next_endpoint = b->results_endpoint;
    load.upstream_name = (char *)"desk-1";
    if (b->is_guarded) {
        load.upstream_key = (ProtobufCBinaryData){KEYS_BYTES, b->coordinator.public_key};
        load.next_key = load.upstream_key;
    }
    load.config_sha256.data = b->config_digest;
    load.config_sha256.len = DIGEST_BYTES;
    size_t n = b->manifest.n_tensors, used = 0;
    Paceline__TensorDigest *digests = calloc(n, sizeof *digests);
    Paceline__TensorDigest **list = calloc(n, sizeof(Paceline__TensorDigest *));
    assert_true(digests && list);
    for (size_t i = 0; i < n; i++) {
        if (!model_tensor_is_in_stage(&b->config, weight_file_tensor(b->weights, i)->name, 0,
                                      (int)end_layer))
            continue;
        shipping_describe_tensor(b->weights, &b->manifest, i, &digests[used]);
        list[used] = &digests[used];
        used++;
    }
    Paceline__ModelConfig config;
    shipping_describe_config(&b->config, &config);
    load.config = &config;
    load.n_digests = used;
    load.digests = list;
    Paceline__Control c = PACELINE__CONTROL__INIT;
    c.body_case = PACELINE__CONTROL__BODY_LOAD;
    c.load = &load;
    size_t size = paceline__control__get_packed_size(&c);
    uint8_t *bytes = malloc(size);
    assert_non_null(bytes);
    paceline__control__pack(&c, bytes);
    free(digests);
    free(list);
    Paceline__Control *message = paceline__control__unpack(NULL, size, bytes);
    free(bytes);
    assert_non_null(message);
    return message;
}

static void bench_load(struct bench *b, uint64_t epoch, uint32_t end_layer)
{
    struct err err;
    Paceline__Control *message = bench_message(b, epoch, end_layer);
    assert_int_equal(worker_runner_load(b->runner, message, &err), 0);
}

/* The next news but progress, and the self-test of the beginning. */
static struct worker_news bench_news(struct bench *b)
{
    struct worker_news news;
    zmq_pollitem_t item = {.socket = worker_runner_socket(b->runner), .events = ZMQ_POLLIN};
    do {
        while (!worker_runner_next_news(b->runner, &news))
            assert_int_equal(zmq_poll(&item, 1, LIMIT_MS), 1);
    } while (news.kind == WORKER_PROGRESS || news.kind == WORKER_EXAMINED);
    return news;
}

static void expect_ready(struct bench *b, uint64_t epoch)
{
    struct worker_news news = bench_news(b);
    if (news.kind != WORKER_READY)
        fail_msg("%s", news.failure.text);
    assert_int_equal(news.epoch, epoch);
}

static void send_step(struct bench *b, uint64_t epoch, uint64_t step)
{
    const uint32_t tokens[] = {(uint32_t)step % 100}, blocks[] = {1, 2};
    const struct batch_sequence sequence = {.sequence = 1,
                                            .position = (uint32_t)step % 100,
                                            .count = 1,
                                            .n_blocks = 2,
                                            .blocks = blocks};
    const struct batch_output output = {.sequence = 1, .kind = BATCH_SCORE, .target = 3};
    const struct batch batch = {1, epoch, step, 1, tokens, 1, &sequence, 1, &output};
    zmq_msg_t envelope, frame;
    struct err err;
    assert_int_equal(step_message_pack(&batch, &envelope, &err), 0);
    zmq_msg_init(&frame);
    assert_int_equal(data_link_send(b->steps, &envelope, &frame, !b->is_guarded, &err), 0);
}

static void expect_result(struct bench *b, uint64_t epoch, uint64_t step)
{
    zmq_pollitem_t item = {.socket = b->results, .events = ZMQ_POLLIN};
    zmq_msg_t envelope, frame;
    struct err err;
    Paceline__StepResult *result;
    assert_int_equal(zmq_poll(&item, 1, LIMIT_MS), 1);
    assert_int_equal(data_link_receive(b->results, &envelope, &frame, !b->is_guarded, &err), 1);
    assert_int_equal(
        step_result_unpack(&result, zmq_msg_data(&envelope), zmq_msg_size(&envelope), &err), 0);
    assert_int_equal(result->epoch, epoch);
    assert_int_equal(result->step, step);
    assert_int_equal(result->n_results, 1);
    paceline__step_result__free_unpacked(result, NULL);
    zmq_msg_close(&envelope);
    zmq_msg_close(&frame);
}

/* Now somebody listens where the results go. libzmq lets go of an address in its own time. */
static void bench_listen(struct bench *b)
{
    int rc = -1;
    for (int i = 0; i < 500 && rc != 0; i++) {
        rc = zmq_bind(b->results, b->results_endpoint);
        if (rc != 0)
            zmq_poll(NULL, 0, 10);
    }
    assert_int_equal(rc, 0);
}

/* true: a result came; the door is served meanwhile. */
static bool guarded_answers(struct bench *b, int limit_ms)
{
    for (int i = 0; i < limit_ms / 10; i++) {
        zmq_pollitem_t items[] = {{.socket = b->zap.socket, .events = ZMQ_POLLIN},
                                  {.socket = b->results, .events = ZMQ_POLLIN}};
        zmq_poll(items, 2, 10);
        zap_serve(&b->zap);
        zmq_msg_t envelope, frame;
        struct err err;
        if (data_link_receive(b->results, &envelope, &frame, !b->is_guarded, &err) != 1)
            continue;
        zmq_msg_close(&envelope);
        zmq_msg_close(&frame);
        return true;
    }
    return false;
}

/* Who is connected, and not the one whom the plan names, is not heard. */
static void only_the_upstream_is_heard(void **state)
{
    struct bench *b = *state;
    const struct wire_security security = {.own = &b->stranger, .server_key = b->own.public_key};
    void *coordinator = b->steps;
    char endpoint[64];
    struct err err;
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    bench_listen(b);
    assert_int_equal(wire_socket(&b->steps, b->zmq, ZMQ_PUSH, &security, &err), 0);
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%d", worker_runner_data_port(b->runner));
    assert_int_equal(zmq_connect(b->steps, endpoint), 0);
    send_step(b, 1, 1);
    bool is_heard = guarded_answers(b, 700);
    zmq_close(b->steps);
    b->steps = coordinator;
    assert_false(is_heard);
    send_step(b, 1, 1);
    assert_true(guarded_answers(b, LIMIT_MS));
}

static void the_newest_load_wins(void **state)
{
    struct bench *b = *state;
    uint64_t epoch = 0;
    uint32_t random = 7;
    int n_cancelled = 0;
    struct err err;
    for (int round = 0; round < 60; round++) {
        int n = 1 + (int)((random = random * 1664525u + 1013904223u) >> 30);
        for (int i = 0; i < n; i++) { /* of other layers each time: none can be kept */
            epoch++;
            bench_load(b, epoch, 1 + (uint32_t)(epoch % LAYERS));
            if (random >> 20 & 1)
                zmq_poll(NULL, 0, (long)(random >> 16 & 3));
        }
        struct worker_news news;
        do {
            news = bench_news(b);
            if (news.kind == WORKER_FAILED)
                assert_int_equal(news.failure.code, ERR_CANCELLED);
            n_cancelled += news.kind == WORKER_FAILED;
            /* only who was followed by another may have been given up */
            assert_true(news.kind == WORKER_READY || news.epoch < epoch);
        } while (news.epoch < epoch);
        struct worker_counters counters;
        worker_runner_counters(b->runner, &counters);
        assert_int_equal(counters.epoch, epoch);
        if (round % 4 == 0) {
            assert_int_equal(worker_runner_unload(b->runner, epoch, false, false, &err), 0);
            assert_int_equal(worker_runner_unload(b->runner, epoch - 1, false, false, &err), 0);
        }
    }
    assert_true(n_cancelled > 0);
}

static void a_stage_is_kept_for_the_next_plan(void **state)
{
    struct bench *b = *state;
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    bench_listen(b);
    send_step(b, 1, 1);
    expect_result(b, 1, 1);
    bench_load(b, 2, LAYERS);
    expect_ready(b, 2);
    send_step(b, 1, 2); /* of the old plan: nobody's */
    send_step(b, 2, 1); /* steps begin anew */
    expect_result(b, 2, 1);
}

/* The first step is often there before the link to the next stage is. */
static void a_link_may_come_later(void **state)
{
    struct bench *b = *state;
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    for (uint64_t step = 1; step <= 5; step++)
        send_step(b, 1, step);
    struct worker_counters counters = {0};
    for (int i = 0; i < 1000 && counters.steps < 5; i++) {
        zmq_poll(NULL, 0, 10);
        worker_runner_counters(b->runner, &counters);
    }
    assert_int_equal(counters.steps, 5);
    bench_listen(b);
    for (uint64_t step = 1; step <= 5; step++)
        expect_result(b, 1, step);
}

/* Nobody ever listens: the thread goes on until its queue is full, says so, and obeys. */
static void a_dead_neighbour_does_not_block(void **state)
{
    struct bench *b = *state;
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    bench_load(b, 2, 1); /* one layer is enough */
    expect_ready(b, 2);
    struct worker_counters counters = {0};
    for (uint64_t step = 1; step <= 4200; step++) {
        send_step(b, 2, step);
        while (counters.steps + 1000 < step && counters.steps < 4096) {
            zmq_poll(NULL, 0, 1);
            worker_runner_counters(b->runner, &counters);
        }
    }
    struct worker_news news = bench_news(b);
    assert_int_equal(news.kind, WORKER_FAILED);
    assert_int_equal(news.failure.code, ERR_LIMIT);
    bench_load(b, 3, 2); /* it still listens */
    expect_ready(b, 3);
}

static void a_lost_step_is_told(void **state)
{
    struct bench *b = *state;
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    bench_listen(b);
    send_step(b, 1, 1);
    expect_result(b, 1, 1);
    send_step(b, 1, 3);
    send_step(b, 1, 4);
    struct worker_news news = bench_news(b);
    assert_int_equal(news.kind, WORKER_FAILED);
    assert_int_equal(news.epoch, 1);
    assert_int_equal(news.failure.code, ERR_NETWORK);
    bench_load(b, 2, LAYERS); /* told once, and forgotten with the next plan */
    expect_ready(b, 2);
    send_step(b, 2, 1);
    expect_result(b, 2, 1);
}

/* It is not computed, and neither is what follows it: the coordinator makes a new plan. */
static void a_damaged_step_is_told(void **state)
{
    struct bench *b = *state;
    static const unsigned char sums[16] = "not those of it";
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    bench_listen(b);
    send_step(b, 1, 1);
    expect_result(b, 1, 1);
    zmq_send(b->steps, "envelope", 8, ZMQ_SNDMORE);
    zmq_send(b->steps, "frame", 5, ZMQ_SNDMORE);
    zmq_send(b->steps, sums, sizeof sums, 0);
    send_step(b, 1, 2);
    struct worker_news news = bench_news(b);
    assert_int_equal(news.kind, WORKER_FAILED);
    assert_int_equal(news.epoch, 1);
    assert_int_equal(news.failure.code, ERR_NETWORK);
    assert_non_null(strstr(news.failure.text, "the link from desk-1 to this worker damages"));
    struct worker_counters counters;
    worker_runner_counters(b->runner, &counters);
    assert_int_equal(counters.damaged, 1);
    bench_load(b, 2, LAYERS);
    expect_ready(b, 2);
    worker_runner_counters(b->runner, &counters);
    assert_int_equal(counters.steps, 1);
    send_step(b, 2, 1);
    expect_result(b, 2, 1);
}

static void what_is_wrong_is_told(void **state)
{
    struct bench *b = *state;
    bench_load(b, 1, LAYERS + 1);
    assert_int_equal(bench_news(b).failure.code, ERR_NETWORK);
    bench_load(b, 2, 0);
    assert_int_equal(bench_news(b).failure.code, ERR_NETWORK);
    b->config_digest[0] ^= 1; /* equal tensors under another configuration */
    bench_load(b, 2, LAYERS);
    struct worker_news news = bench_news(b);
    assert_int_equal(news.failure.code, ERR_NETWORK);
    assert_non_null(strstr(news.failure.text, "not the one that its digest names"));
    b->config_digest[0] ^= 1;
    b->manifest.digests[3][0] ^= 1; /* the list of chunks is not the tensor's */
    bench_load(b, 2, LAYERS);
    news = bench_news(b);
    assert_int_equal(news.failure.code, ERR_NETWORK);
    assert_non_null(strstr(news.failure.text, "does not fit together"));
    size_t n = b->manifest.first_chunks[4] - b->manifest.first_chunks[3];
    unsigned char(*chunks)[DIGEST_BYTES] = &b->manifest.chunks[b->manifest.first_chunks[3]];
    chunks[0][0] ^= 1; /* another tensor than the file's */
    manifest_digest_chunks(weight_file_tensor(b->weights, 3)->bytes, chunks, n,
                           b->manifest.digests[3]);
    bench_load(b, 2, LAYERS);
    news = bench_news(b);
    assert_int_equal(news.failure.code, ERR_MODEL);
    assert_non_null(strstr(news.failure.text, "other content"));
    chunks[0][0] ^= 1;
    manifest_digest_chunks(weight_file_tensor(b->weights, 3)->bytes, chunks, n,
                           b->manifest.digests[3]);
    b->manifest.n_tensors--; /* a tensor that nobody vouches for */
    bench_load(b, 2, LAYERS);
    assert_int_equal(bench_news(b).failure.code, ERR_MODEL);
    b->manifest.n_tensors++;
    zmq_send(b->steps, "x", 1, 0);
    zmq_send(b->steps, "x", 1, ZMQ_SNDMORE);
    zmq_send(b->steps, "y", 1, 0);
    bench_load(b, 3, LAYERS);
    expect_ready(b, 3);
}

static void a_stage_is_made_beside_the_one_that_serves(void **state)
{
    struct bench *b = *state;
    struct worker_counters counters;
    struct err err;
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    bench_listen(b);
    send_step(b, 1, 1);
    expect_result(b, 1, 1);
    b->beside = true;
    bench_load(b, 2, LAYERS);
    expect_ready(b, 2);
    send_step(b, 1, 2);
    expect_result(b, 1, 2);
    send_step(b, 2, 1); /* the next plan begins */
    send_step(b, 1, 3); /* late: nobody's */
    send_step(b, 2, 2);
    expect_result(b, 2, 1);
    expect_result(b, 2, 2);
    /* Made anew, for other limits, and begun because the old one goes. */
    b->kv_blocks = 7;
    bench_load(b, 3, LAYERS);
    expect_ready(b, 3);
    assert_int_equal(worker_runner_unload(b->runner, 2, false, false, &err), 0);
    send_step(b, 3, 1);
    expect_result(b, 3, 1);
    worker_runner_counters(b->runner, &counters);
    assert_int_equal(counters.epoch, 3);
}

static void a_next_stage_that_is_abandoned_disturbs_nobody(void **state)
{
    struct bench *b = *state;
    struct err err;
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    bench_listen(b);
    b->beside = true;
    b->kv_blocks = 7;
    bench_load(b, 2, LAYERS);
    expect_ready(b, 2);
    assert_int_equal(worker_runner_unload(b->runner, 2, true, false, &err), 0);
    send_step(b, 1, 1);
    expect_result(b, 1, 1);
    send_step(b, 2, 1); /* nobody's */
    b->manifest.digests[3][0] ^= 1;
    bench_load(b, 3, LAYERS);
    struct worker_news news = bench_news(b);
    assert_int_equal(news.kind, WORKER_FAILED);
    assert_int_equal(news.epoch, 3);
    b->manifest.digests[3][0] ^= 1;
    send_step(b, 1, 2);
    expect_result(b, 1, 2);
    struct worker_counters counters;
    worker_runner_counters(b->runner, &counters);
    assert_int_equal(counters.epoch, 1);
}

/* Its clock, from which it takes its first epoch, may have been set back. */
static void another_coordinator_counts_anew(void **state)
{
    struct bench *b = *state;
    struct err err;
    bench_load(b, 9, LAYERS);
    expect_ready(b, 9);
    assert_int_equal(worker_runner_unload(b->runner, 8, true, false, &err), 0);
    assert_int_equal(worker_runner_unload(b->runner, 9, false, false, &err), 0);
    assert_int_equal(worker_runner_forget(b->runner, &err), 0);
    bench_load(b, 7, LAYERS);
    expect_ready(b, 7);
    bench_load(b, 8, LAYERS);
    expect_ready(b, 8);
}

static void a_load_without_a_thread_stays_the_callers(void **state)
{
    struct bench *b = *state;
    struct err err;
    Paceline__Control *message = bench_message(b, 1, LAYERS);
    has_no_threads = true;
    int rc = worker_runner_load(b->runner, message, &err);
    has_no_threads = false;
    paceline__control__free_unpacked(message, NULL);
    assert_int_equal(rc, ERR_MEMORY);
    bench_load(b, 2, LAYERS);
    expect_ready(b, 2);
}

/* A copy of the model, and garbage in the place of its layers: who reads them notices. */
static void copy_model(char path[32])
{
    snprintf(path, 32, "/tmp/standby-XXXXXX");
    int to = mkstemp(path), from = open(MODEL, O_RDONLY);
    struct stat st;
    assert_true(to >= 0 && from >= 0 && fstat(from, &st) == 0);
    assert_int_equal(sendfile(to, from, NULL, (size_t)st.st_size), st.st_size);
    close(from);
    close(to);
}

static void spoil_layers(const struct bench *b, const char *path)
{
    struct weight_file *copy;
    struct err err;
    int fd = open(path, O_WRONLY), n = 0;
    assert_int_equal(weight_file_open(&copy, path, &err), 0);
    const char *base = weight_file_tensor(copy, 0)->data;
    for (size_t i = 0; i < b->manifest.n_tensors; i++) {
        const struct tensor *t = weight_file_tensor(copy, i);
        base = (const char *)t->data < base ? t->data : base;
    }
    struct stat st;
    size_t end = 0;
    assert_int_equal(fstat(fd, &st), 0);
    for (size_t i = 0; i < b->manifest.n_tensors; i++) {
        const struct tensor *t = weight_file_tensor(copy, i);
        size_t last = (size_t)((const char *)t->data - base) + t->bytes;
        end = last > end ? last : end;
    }
    const off_t data = st.st_size - (off_t)end; /* the last tensor ends the file, but for padding */
    for (size_t i = 0; i < b->manifest.n_tensors; i++) {
        const struct tensor *t = weight_file_tensor(copy, i);
        off_t at = data + ((const char *)t->data - base) + (off_t)t->bytes / 2;
        if (strncmp(t->name, "blk.", 4) == 0)
            n += pwrite(fd, "garbage", 7, at) == 7;
    }
    assert_true(n > 0);
    weight_file_close(copy);
    close(fd);
}

static void a_standby_has_its_layers_at_once(void **state)
{
    struct bench *b = *state;
    struct worker_counters counters;
    struct err err;
    char path[32];
    copy_model(path);
    b->model_path = path;
    b->standby = true;
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    worker_runner_counters(b->runner, &counters);
    assert_int_equal(counters.standby_epoch, 1);
    assert_int_equal(counters.epoch, 0); /* it has no stage */
    spoil_layers(b, path);
    /* The end of a plan that it had no part in changes nothing. */
    assert_int_equal(worker_runner_unload(b->runner, 1, false, false, &err), 0);
    b->standby = false;
    bench_load(b, 2, LAYERS - 1);
    expect_ready(b, 2);
    worker_runner_counters(b->runner, &counters);
    assert_int_equal(counters.epoch, 2);
    assert_int_equal(counters.standby_epoch, 0);
    bench_listen(b);
    bench_load(b, 3, LAYERS); /* what the stage before did not need is gone */
    assert_int_equal(bench_news(b).failure.code, ERR_MODEL);
    unlink(path);
}

static void a_stage_becomes_a_standby(void **state)
{
    struct bench *b = *state;
    struct worker_counters counters;
    struct err err;
    char path[32];
    copy_model(path);
    b->model_path = path;
    bench_load(b, 1, LAYERS);
    expect_ready(b, 1);
    spoil_layers(b, path);
    b->standby = true;
    bench_load(b, 2, LAYERS); /* of what the stage had */
    expect_ready(b, 2);
    worker_runner_counters(b->runner, &counters);
    assert_int_equal(counters.epoch, 0);
    assert_int_equal(counters.standby_epoch, 2);
    assert_int_equal(worker_runner_unload(b->runner, 2, false, true, &err), 0);
    worker_runner_counters(b->runner, &counters);
    assert_int_equal(counters.standby_epoch, 0);
    b->standby = false;
    b->model_path = MODEL;
    bench_load(b, 3, LAYERS);
    expect_ready(b, 3);
    bench_listen(b);
    send_step(b, 3, 1);
    expect_result(b, 3, 1);
    unlink(path);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, bench_open, bench_close)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_the_upstream_is_heard, bench_open_guarded,
                                        bench_close),
        TEST(the_newest_load_wins),
        TEST(a_stage_is_kept_for_the_next_plan),
        TEST(a_link_may_come_later),
        TEST(a_dead_neighbour_does_not_block),
        TEST(a_lost_step_is_told),
        TEST(a_damaged_step_is_told),
        TEST(what_is_wrong_is_told),
        TEST(a_stage_is_made_beside_the_one_that_serves),
        TEST(a_next_stage_that_is_abandoned_disturbs_nobody),
        TEST(another_coordinator_counts_anew),
        TEST(a_load_without_a_thread_stays_the_callers),
        TEST(a_standby_has_its_layers_at_once),
        TEST(a_stage_becomes_a_standby),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
