#include "worker/worker_runner.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/step_message.h"
#include "proto/wire.h"
#include "worker/stage.h"

#include <inttypes.h>
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRESS_EVERY_MS 100

enum runner_command_kind { RUNNER_LOAD, RUNNER_UNLOAD, RUNNER_STOP };
struct runner_command {
    enum runner_command_kind kind;
    Paceline__Control *load; /* owned by whoever holds the command */
    uint64_t epoch;
};

struct worker_runner {
    struct worker_runner_spec spec;
    pthread_t thread;
    int data_port;
    void *control_end;     /* of the inproc pair, in the control thread */
    void *runner_end;      /* of the inproc pair, in the compute thread */
    void *data_in;         /* PULL */
    atomic_uint posted;    /* commands */
    atomic_bool cancelled; /* a command waits: the load under way is not wanted any more */
    atomic_uint_fast64_t steps, busy_us, epoch;
    atomic_int_fast64_t busy_since_us; /* of the step under way; 0: none */

    /* the compute thread's own */
    unsigned obeyed;         /* commands */
    Paceline__Control *load; /* what the stage was made from */
    struct weight_file *weights;
    struct model_config model;
    struct stage *stage;
    struct batch_limits limits;
    void *data_out;     /* PUSH to the next stage or to the coordinator */
    float *aligned;     /* [max_rows, hidden]: frames that libzmq delivers at odd addresses */
    uint64_t next_step; /* of the epoch; 0: one was lost, the rest of the epoch is no use */
    int64_t idle_since_us, last_progress_ms;
};

static void runner_tell(struct worker_runner *r, const struct worker_news *news)
{
    zmq_send(r->runner_end, news, sizeof *news, 0);
}

static void runner_fail(struct worker_runner *r, const Paceline__Load *load, const struct err *err)
{
    struct worker_news news = {.kind = WORKER_FAILED,
                               .deployment = load->deployment,
                               .epoch = load->epoch,
                               .failure = *err};
    runner_tell(r, &news);
}

static void runner_drop_stage(struct worker_runner *r)
{
    stage_free(r->stage);
    r->stage = NULL;
    free(r->aligned);
    r->aligned = NULL;
    weight_file_close(r->weights);
    r->weights = NULL;
    if (r->data_out)
        zmq_close(r->data_out);
    r->data_out = NULL;
    if (r->load)
        paceline__control__free_unpacked(r->load, NULL);
    r->load = NULL;
    atomic_store(&r->epoch, 0);
}

static const unsigned char *runner_digest_of(void *context, const char *tensor)
{
    const struct worker_runner *r = context;
    const Paceline__Load *load = r->load->load;
    for (size_t i = 0; i < load->n_digests; i++) {
        const Paceline__TensorDigest *d = load->digests[i];
        if (strcmp(d->name, tensor) == 0 && d->sha256.len == DIGEST_BYTES)
            return d->sha256.data;
    }
    return NULL;
}

static void runner_progress(void *context, int64_t done, int64_t total)
{
    struct worker_runner *r = context;
    int64_t now = clock_now_ms();
    if (now - r->last_progress_ms < PROGRESS_EVERY_MS && done < total)
        return;
    r->last_progress_ms = now;
    struct worker_news news = {.kind = WORKER_PROGRESS,
                               .deployment = r->load->load->deployment,
                               .epoch = r->load->load->epoch,
                               .bytes_done = done,
                               .bytes_total = total};
    runner_tell(r, &news);
}

/* The coordinator's path if it can be read here, else the same name in the folder of models. */
static int runner_open_model(struct worker_runner *r, struct err *err)
{
    const Paceline__Load *load = r->load->load;
    char path[4096];
    snprintf(path, sizeof path, "%s", load->model_path);
    if (access(path, R_OK) != 0) {
        if (!r->spec.models_dir || strchr(load->model_file, '/'))
            return err_set(err, ERR_MODEL,
                           "%s cannot be read here and no folder of models is known: use --models",
                           load->model_path);
        snprintf(path, sizeof path, "%s/%s", r->spec.models_dir, load->model_file);
        if (access(path, R_OK) != 0)
            return err_set(err, ERR_MODEL, "neither %s nor %s can be read: copy the file there",
                           load->model_path, path);
    }
    int rc = weight_file_open(&r->weights, path, err);
    if (rc == 0)
        rc = model_config_read(&r->model, r->weights, err);
    if (rc != 0)
        return rc;
    unsigned char digest[DIGEST_BYTES];
    manifest_digest_config(&r->model, digest);
    if (load->config_sha256.len != DIGEST_BYTES ||
        memcmp(load->config_sha256.data, digest, DIGEST_BYTES) != 0)
        return err_set(err, ERR_MODEL,
                       "%s has another configuration than the coordinator's file (shapes, rotary "
                       "base or scaling): give this worker the same file",
                       path);
    return 0;
}

static int runner_connect_next(struct worker_runner *r, struct err *err)
{
    const char *next = r->load->load->next_endpoint;
    const char *any = "tcp://*:";
    char endpoint[512];
    bool bare = strchr(r->spec.coordinator_host, ':') != NULL;
    if (strncmp(next, any, strlen(any)) == 0)
        snprintf(endpoint, sizeof endpoint, "tcp://%s%s%s:%s", bare ? "[" : "",
                 r->spec.coordinator_host, bare ? "]" : "", next + strlen(any));
    else
        snprintf(endpoint, sizeof endpoint, "%s", next);
    int rc = wire_socket(&r->data_out, r->spec.zmq, ZMQ_PUSH, err);
    if (rc == 0 && zmq_connect(r->data_out, endpoint) != 0)
        rc = err_set(err, ERR_NETWORK, "the next stage's address %s: %s", endpoint,
                     zmq_strerror(errno));
    return rc;
}

static int runner_make_stage(struct worker_runner *r, struct err *err)
{
    const Paceline__Load *load = r->load->load;
    int rc = runner_open_model(r, err);
    if (rc != 0)
        return rc;
    if (load->end_layer > (uint32_t)r->model.n_layers || load->first_layer >= load->end_layer)
        return err_set(err, ERR_NETWORK, "layers %u to %u were asked for, the model has %d",
                       load->first_layer, load->end_layer, r->model.n_layers);
    if (load->kv_type >= KV_TYPES)
        return err_set(err, ERR_NETWORK, "KV type %u is unknown here", load->kv_type);
    r->limits = (struct batch_limits){load->max_rows,    load->max_sequences,
                                      load->max_outputs, load->max_context,
                                      load->kv_blocks,   (uint32_t)r->model.vocabulary_size};
    struct stage_spec spec = {.kernels = r->spec.kernels,
                              .model = &r->model,
                              .weights = r->weights,
                              .first_layer = (int)load->first_layer,
                              .end_layer = (int)load->end_layer,
                              .limits = r->limits,
                              .kv_type = (enum kv_type)load->kv_type,
                              .memory_bytes = r->spec.memory_bytes,
                              .digest_of = runner_digest_of,
                              .progress = runner_progress,
                              .context = r,
                              .cancelled = &r->cancelled};
    if (load->first_layer > 0) {
        r->aligned = calloc((size_t)load->max_rows, (size_t)r->model.hidden_size * sizeof(float));
        if (!r->aligned)
            return err_set(err, ERR_MEMORY, "no memory for %u rows of activations", load->max_rows);
    }
    return stage_new(&r->stage, &spec, err);
}

/* The same stage serves a new epoch as it is: only its place in the line may have changed. */
static bool runner_can_keep(const struct worker_runner *r, const Paceline__Load *next)
{
    if (!r->stage)
        return false;
    const Paceline__Load *now = r->load->load;
    if (strcmp(now->model_path, next->model_path) != 0 || now->first_layer != next->first_layer ||
        now->end_layer != next->end_layer || now->kv_blocks != next->kv_blocks ||
        now->kv_type != next->kv_type || now->max_sequences != next->max_sequences ||
        now->max_context != next->max_context || now->max_rows != next->max_rows ||
        now->max_outputs != next->max_outputs || now->n_digests != next->n_digests ||
        now->config_sha256.len != next->config_sha256.len ||
        memcmp(now->config_sha256.data, next->config_sha256.data, now->config_sha256.len) != 0)
        return false;
    for (size_t i = 0; i < now->n_digests; i++) {
        const ProtobufCBinaryData *a = &now->digests[i]->sha256, *b = &next->digests[i]->sha256;
        if (a->len != b->len || memcmp(a->data, b->data, a->len) != 0)
            return false;
    }
    return true;
}

static void runner_load(struct worker_runner *r, Paceline__Control *message)
{
    struct err err = {0};
    int rc = 0;
    if (runner_can_keep(r, message->load)) {
        zmq_close(r->data_out);
        r->data_out = NULL;
        paceline__control__free_unpacked(r->load, NULL);
        r->load = message;
    } else {
        runner_drop_stage(r);
        r->load = message;
        r->last_progress_ms = 0;
        rc = runner_make_stage(r, &err);
    }
    if (rc == 0)
        rc = runner_connect_next(r, &err);
    if (rc != 0) {
        runner_fail(r, message->load, &err);
        runner_drop_stage(r);
        return;
    }
    r->next_step = 1;
    atomic_store(&r->epoch, message->load->epoch);
    struct worker_news news = {.kind = WORKER_READY,
                               .deployment = message->load->deployment,
                               .epoch = message->load->epoch,
                               .memory_bytes = stage_claimed_bytes(r->stage)};
    runner_tell(r, &news);
}

static int runner_send_on(struct worker_runner *r, struct step_message *m,
                          const struct stage_output *out, const Paceline__StageTime *time,
                          struct err *err)
{
    zmq_msg_t envelope, frame;
    int rc;
    const void *bytes;
    size_t size;
    if (stage_is_last(r->stage)) {
        bytes = out->logits;
        size = out->n_logit_rows * (size_t)r->model.vocabulary_size * sizeof(float);
        rc = step_result_pack(m, time, out->results, out->n_results, &envelope, err);
    } else {
        bytes = out->hidden;
        size = (size_t)m->batch.n_rows * (size_t)r->model.hidden_size * sizeof(float);
        rc = step_message_forward(m, time, &envelope, err);
    }
    if (rc != 0)
        return rc;
    rc = wire_frame(&frame, bytes, size, err);
    if (rc != 0) {
        zmq_msg_close(&envelope);
        return rc;
    }
    return wire_send_data(r->data_out, &envelope, &frame, err);
}

static const float *runner_aligned(struct worker_runner *r, const void *bytes, size_t size)
{
    if ((uintptr_t)bytes % _Alignof(float) == 0)
        return bytes;
    memcpy(r->aligned, bytes, size);
    return r->aligned;
}

/* Over an hour is an hour. */
static uint32_t runner_microseconds(int64_t us)
{
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

static int runner_execute(struct worker_runner *r, struct step_message *m, zmq_msg_t *frame,
                          struct err *err)
{
    int64_t start_us = clock_now_us();
    int rc = batch_check(&m->batch, &r->limits, err);
    if (rc != 0)
        return rc;
    const float *in = NULL;
    if (!stage_is_first(r->stage)) {
        size_t expected = (size_t)m->batch.n_rows * (size_t)r->model.hidden_size * sizeof(float);
        if (zmq_msg_size(frame) != expected)
            return err_set(err, ERR_NETWORK, "step %llu: %zu bytes of activations, %zu expected",
                           (unsigned long long)m->batch.step, zmq_msg_size(frame), expected);
        in = runner_aligned(r, zmq_msg_data(frame), expected);
    }
    struct stage_output out = {0};
    atomic_store(&r->busy_since_us, start_us);
    rc = stage_forward(r->stage, &m->batch, in, &out, err);
    int64_t end_us = clock_now_us();
    atomic_store(&r->busy_since_us, 0);
    atomic_fetch_add(&r->busy_us, (uint64_t)(end_us - start_us));
    atomic_fetch_add(&r->steps, 1);
    if (rc != 0)
        return rc;
    Paceline__StageTime time = PACELINE__STAGE_TIME__INIT;
    time.stage = r->load->load->stage;
    time.compute_us = runner_microseconds(end_us - start_us);
    time.start_us = (uint64_t)start_us;
    time.wait_us = runner_microseconds(start_us - r->idle_since_us);
    return runner_send_on(r, m, &out, &time, err);
}

/* Without the step before, what this one finds in the KV blocks is not what it needs. */
static int runner_follow(struct worker_runner *r, struct step_message *m, zmq_msg_t *frame,
                         struct err *err)
{
    uint64_t due = r->next_step;
    if (m->batch.step < due) {
        log_warning("data plane: step %" PRIu64 " once more, step %" PRIu64 " is due: left aside",
                    m->batch.step, due);
        return 0;
    }
    r->next_step = 0;
    if (m->batch.step > due)
        return err_set(err, ERR_NETWORK, "step %" PRIu64 " came when step %" PRIu64 " was due",
                       m->batch.step, due);
    int rc = runner_execute(r, m, frame, err);
    if (rc == 0)
        r->next_step = due + 1;
    return rc;
}

static void runner_receive_step(struct worker_runner *r)
{
    struct err err = {0};
    zmq_msg_t envelope, frame;
    int rc = wire_receive_data(r->data_in, &envelope, &frame, &err);
    if (rc == 0)
        return;
    if (rc < 0) {
        log_warning("data plane: %s", err.text);
        return;
    }
    struct step_message m;
    rc = step_message_unpack(&m, zmq_msg_data(&envelope), zmq_msg_size(&envelope), &err);
    zmq_msg_close(&envelope);
    if (rc != 0) {
        log_warning("data plane: %s", err.text);
    } else {
        /* Steps of an epoch that is over, or not begun here, are nobody's. */
        if (r->stage && m.batch.epoch == atomic_load(&r->epoch) && r->next_step) {
            rc = runner_follow(r, &m, &frame, &err);
            if (rc != 0)
                runner_fail(r, r->load->load, &err);
        }
        step_message_clear(&m);
    }
    zmq_msg_close(&frame);
    r->idle_since_us = clock_now_us();
}

/* false: stop */
static bool runner_obey(struct worker_runner *r)
{
    struct runner_command command;
    while (zmq_recv(r->runner_end, &command, sizeof command, ZMQ_DONTWAIT) == sizeof command) {
        /* Whoever posts counts first and raises the flag then, so a command that comes between
         * these two lines leaves it raised. */
        atomic_store(&r->cancelled, false);
        if (++r->obeyed != atomic_load(&r->posted))
            atomic_store(&r->cancelled, true);
        switch (command.kind) {
        case RUNNER_STOP:
            return false;
        case RUNNER_UNLOAD:
            if (r->load && r->load->load->epoch <= command.epoch)
                runner_drop_stage(r);
            break;
        case RUNNER_LOAD:
            runner_load(r, command.load);
            break;
        }
    }
    return true;
}

/* The team is made here, by a thread that may still run anywhere, as libzmq's threads may. */
static void runner_pin(const struct worker_runner *r)
{
    if (!r->spec.placement)
        return;
    atomic_bool refused = false;
#pragma omp parallel
    if (!placement_pin(r->spec.placement, omp_get_thread_num()))
        atomic_store(&refused, true);
    if (atomic_load(&refused))
        log_warning("the system refuses to bind threads to cores: they run anywhere");
}

static void *runner_main(void *argument)
{
    struct worker_runner *r = argument;
    omp_set_num_threads(r->spec.threads);
    runner_pin(r);
    r->idle_since_us = clock_now_us();
    zmq_pollitem_t items[] = {{.socket = r->runner_end, .events = ZMQ_POLLIN},
                              {.socket = r->data_in, .events = ZMQ_POLLIN}};
    for (;;) {
        if (zmq_poll(items, 2, -1) < 0 && errno != EINTR)
            break;
        if (items[0].revents && !runner_obey(r))
            break;
        if (items[1].revents)
            runner_receive_step(r);
    }
    runner_drop_stage(r);
    zmq_close(r->data_in);
    zmq_close(r->runner_end);
    return NULL;
}

static int runner_open_sockets(struct worker_runner *r, struct err *err)
{
    char pair[64];
    snprintf(pair, sizeof pair, "inproc://runner-%p", (void *)r);
    int rc = wire_socket(&r->data_in, r->spec.zmq, ZMQ_PULL, err);
    if (rc == 0)
        rc = wire_bind(r->data_in, r->spec.data_host, r->spec.data_port, &r->data_port, err);
    if (rc == 0)
        rc = wire_socket(&r->control_end, r->spec.zmq, ZMQ_PAIR, err);
    if (rc == 0)
        rc = wire_socket(&r->runner_end, r->spec.zmq, ZMQ_PAIR, err);
    if (rc == 0 && (zmq_bind(r->control_end, pair) != 0 || zmq_connect(r->runner_end, pair) != 0))
        rc = err_set(err, ERR_INTERNAL, "inproc pair: %s", zmq_strerror(errno));
    return rc;
}

int worker_runner_start(struct worker_runner **ret_runner, const struct worker_runner_spec *spec,
                        struct err *err)
{
    struct worker_runner *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ERR_MEMORY, "no memory for the compute thread");
    r->spec = *spec;
    int rc = runner_open_sockets(r, err);
    if (rc == 0) {
        /* The sockets change owner here, once; pthread_create is the barrier that libzmq wants. */
        int failed = pthread_create(&r->thread, NULL, runner_main, r);
        if (failed)
            rc = err_set(err, ERR_MEMORY, "compute thread: %s", strerror(failed));
    }
    if (rc != 0) {
        void *const sockets[] = {r->data_in, r->control_end, r->runner_end};
        for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++)
            if (sockets[i])
                zmq_close(sockets[i]);
        free(r);
        return rc;
    }
    *ret_runner = r;
    return 0;
}

static int runner_command(struct worker_runner *r, const struct runner_command *command,
                          struct err *err)
{
    atomic_fetch_add(&r->posted, 1);
    atomic_store(&r->cancelled, true);
    if (zmq_send(r->control_end, command, sizeof *command, 0) < 0)
        return err_set(err, ERR_INTERNAL, "compute thread: %s", zmq_strerror(errno));
    return 0;
}

void worker_runner_stop(struct worker_runner *r)
{
    if (!r)
        return;
    struct runner_command command = {.kind = RUNNER_STOP};
    runner_command(r, &command, NULL);
    pthread_join(r->thread, NULL);
    zmq_close(r->control_end);
    free(r);
}

int worker_runner_data_port(const struct worker_runner *r)
{
    return r->data_port;
}

void *worker_runner_socket(const struct worker_runner *r)
{
    return r->control_end;
}

bool worker_runner_next_news(struct worker_runner *r, struct worker_news *ret_news)
{
    return zmq_recv(r->control_end, ret_news, sizeof *ret_news, ZMQ_DONTWAIT) == sizeof *ret_news;
}

int worker_runner_load(struct worker_runner *r, Paceline__Control *load, struct err *err)
{
    struct runner_command command = {.kind = RUNNER_LOAD, .load = load};
    return runner_command(r, &command, err);
}

int worker_runner_unload(struct worker_runner *r, uint64_t epoch, struct err *err)
{
    struct runner_command command = {.kind = RUNNER_UNLOAD, .epoch = epoch};
    return runner_command(r, &command, err);
}

void worker_runner_counters(const struct worker_runner *r, struct worker_counters *ret_counters)
{
    ret_counters->steps = atomic_load(&r->steps);
    int64_t since_us = atomic_load(&r->busy_since_us);
    ret_counters->busy_us = atomic_load(&r->busy_us);
    if (since_us)
        ret_counters->busy_us += (uint64_t)(clock_now_us() - since_us);
    ret_counters->epoch = atomic_load(&r->epoch);
}
