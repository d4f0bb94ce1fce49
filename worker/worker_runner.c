#include "worker/worker_runner.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/data_link.h"
#include "proto/known_answers.h"
#include "proto/step_message.h"
#include "proto/wire.h"
#include "worker/assignment.h"
#include "worker/scrub.h"
#include "worker/worker_loader.h"

#include <inttypes.h>
#include <omp.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

enum runner_command_kind {
    RUNNER_INSTALL,
    RUNNER_RETIRE,
    RUNNER_UNLOAD,
    RUNNER_FORGET,
    RUNNER_MEASURE,
    RUNNER_EXAMINE,
    RUNNER_STOP
};
struct runner_command {
    enum runner_command_kind kind;
    struct assignment *assignment; /* owned by whoever holds the command */
    uint64_t epoch;
    bool only;
    struct measure_spec measure; /* without what is the runner's */
    uint32_t round;              /* RUNNER_EXAMINE */
};

struct worker_runner {
    struct worker_runner_spec spec;
    pthread_t thread;
    int data_port;
    struct packs *packs;
    struct scrub *scrub; /* or NULL */
    char commands_endpoint[64], news_endpoint[64];
    atomic_uint_fast64_t steps, busy_us, sent_bytes, damaged, epoch, standby_epoch;
    atomic_int_fast64_t busy_since_us; /* of the step under way; 0: none */
    atomic_uint_fast64_t busy_epoch, busy_step;
    sem_t retired;
    atomic_uint n_posted; /* the socket orders all before it: this says so to ThreadSanitizer */
    atomic_bool measure_cancelled; /* somebody waits for the compute thread */

    /* the control thread's own */
    void *news_in;      /* PULL, from the compute thread and the loader */
    void *commands_out; /* PUSH */
    struct worker_loader *loader;
    Paceline__Control *pending; /* a Load that waits for the loader to end, or NULL */
    bool is_standby_unwanted;   /* the one that is being loaded */

    struct standby *standby; /* of whoever changes it under the lock; or NULL */

    /* the compute thread's own, but others read the two stages: it changes them under the lock */
    pthread_mutex_t lock;
    struct assignment *now;   /* whose steps are executed, or NULL */
    struct assignment *next;  /* made ready beside it, until its first step comes; or NULL */
    void *commands_in;        /* PULL, from the control thread and the loader */
    void *news_out;           /* PUSH */
    void *data_in;            /* PULL */
    uint64_t unloaded_epoch;  /* and older: not wanted any more, */
    uint64_t abandoned_epoch; /* nor is this one */
    uint64_t next_step;       /* of the epoch; 0: one was lost, the rest of the epoch is no use */
    int64_t idle_since_us;
};

static void runner_tell(struct worker_runner *r, const struct worker_news *news)
{
    zmq_send(r->news_out, news, sizeof *news, 0);
}

/* step: that could not be executed, or 0 */
static void runner_fail(struct worker_runner *r, const Paceline__Load *load, uint64_t step,
                        const struct err *err)
{
    struct worker_news news = {.kind = WORKER_FAILED,
                               .deployment = load->deployment,
                               .epoch = load->epoch,
                               .step = step,
                               .failure = *err};
    runner_tell(r, &news);
}

/* ---- the stages: one that computes, one made ready ---- */

/* Puts a in the place of what was there. */
static void runner_put(struct worker_runner *r, struct assignment **place, struct assignment *a)
{
    pthread_mutex_lock(&r->lock);
    struct assignment *old = *place;
    *place = a;
    const struct assignment *newest = r->next ? r->next : r->now;
    atomic_store(&r->epoch, newest ? newest->load->epoch : 0);
    pthread_mutex_unlock(&r->lock);
    assignment_free(old);
}

/* The next stage takes the place of the one that served. */
static void runner_advance(struct worker_runner *r)
{
    struct assignment *next = r->next;
    pthread_mutex_lock(&r->lock);
    r->next = NULL;
    pthread_mutex_unlock(&r->lock);
    runner_put(r, &r->now, next);
    packs_trim(r->packs);
    r->next_step = 1;
}

static void runner_retire(struct worker_runner *r)
{
    runner_put(r, &r->next, NULL);
    runner_put(r, &r->now, NULL);
}

static bool runner_is_meant(uint64_t epoch, uint64_t unloaded, bool only)
{
    return only ? epoch == unloaded : epoch <= unloaded;
}

static void runner_unload(struct worker_runner *r, uint64_t epoch, bool only)
{
    if (only)
        r->abandoned_epoch = epoch;
    else if (epoch > r->unloaded_epoch)
        r->unloaded_epoch = epoch;
    if (r->next && runner_is_meant(r->next->load->epoch, epoch, only))
        runner_put(r, &r->next, NULL);
    if (r->now && runner_is_meant(r->now->load->epoch, epoch, only)) {
        if (r->next)
            runner_advance(r);
        else
            runner_put(r, &r->now, NULL);
    }
    packs_trim(r->packs);
}

/* Stages stay. */
static void runner_forget(struct worker_runner *r)
{
    r->unloaded_epoch = r->abandoned_epoch = 0;
}

static int runner_connect_next(struct worker_runner *r, struct assignment *a, struct err *err)
{
    const char *next = a->load->next_endpoint;
    const char *any = "tcp://*:";
    char endpoint[512];
    bool bare = strchr(r->spec.coordinator_host, ':') != NULL;
    if (strncmp(next, any, strlen(any)) == 0)
        snprintf(endpoint, sizeof endpoint, "tcp://%s%s%s:%s", bare ? "[" : "",
                 r->spec.coordinator_host, bare ? "]" : "", next + strlen(any));
    else
        snprintf(endpoint, sizeof endpoint, "%s", next);
    const struct wire_security security = {.own = r->spec.own,
                                           .server_key = a->load->next_key.data};
    int rc = wire_socket(&a->data_out, r->spec.zmq, ZMQ_PUSH, r->spec.own ? &security : NULL, err);
    if (rc == 0 && zmq_connect(a->data_out, endpoint) != 0)
        rc = err_set(err, ERR_NETWORK, "the next stage's address %s: %s", endpoint,
                     zmq_strerror(errno));
    return rc;
}

static void runner_install(struct worker_runner *r, struct assignment *a)
{
    struct err err = {0};
    const Paceline__Load *load = a->load;
    if (load->epoch <= r->unloaded_epoch || load->epoch == r->abandoned_epoch) {
        assignment_free(a);
        return;
    }
    if (runner_connect_next(r, a, &err) != 0) {
        runner_fail(r, load, 0, &err);
        assignment_free(a);
        return;
    }
    if (!stage_is_sound(a->made->stage)) { /* since a moment ago */
        err_set(&err, ERR_DAMAGED, "its weights are damaged in this machine's memory");
        runner_fail(r, load, 0, &err);
        assignment_free(a);
        return;
    }
    struct worker_news news = {.kind = WORKER_READY,
                               .deployment = load->deployment,
                               .epoch = load->epoch,
                               .memory_bytes = stage_claimed_bytes(a->made->stage)};
    if (r->now) {
        runner_put(r, &r->next, a);
    } else {
        runner_put(r, &r->now, a);
        r->next_step = 1;
    }
    runner_tell(r, &news);
}

/* ---- steps ---- */

static int runner_send_on(struct worker_runner *r, struct step_message *m,
                          const struct stage_output *out, const Paceline__StageTime *time,
                          struct err *err)
{
    zmq_msg_t envelope, frame;
    int rc;
    const void *bytes;
    size_t size;
    const struct made_stage *made = r->now->made;
    if (stage_is_last(made->stage)) {
        bytes = out->rows;
        size = out->n_values * sizeof(float);
        rc = step_result_pack(m, time, out->results, out->n_results, &envelope, err);
    } else {
        bytes = out->hidden;
        size = (size_t)m->batch.n_rows * (size_t)made->model.hidden_size * sizeof(float);
        rc = step_message_forward(m, time, &envelope, err);
    }
    if (rc != 0)
        return rc;
    rc = wire_frame(&frame, bytes, size, err);
    if (rc != 0) {
        zmq_msg_close(&envelope);
        return rc;
    }
    size += zmq_msg_size(&envelope);
    rc = data_link_send(r->now->data_out, &envelope, &frame, !r->spec.own, err);
    if (rc == 0)
        atomic_fetch_add(&r->sent_bytes, size);
    return rc;
}

static const float *runner_aligned(struct worker_runner *r, const void *bytes, size_t size)
{
    if ((uintptr_t)bytes % _Alignof(float) == 0)
        return bytes;
    memcpy(r->now->made->aligned, bytes, size);
    return r->now->made->aligned;
}

/* Over an hour is an hour. */
static uint32_t runner_microseconds(int64_t us)
{
    return us < UINT32_MAX ? (uint32_t)us : UINT32_MAX;
}

/* The coordinator's log says whose step it was. */
static void runner_log_step(const struct batch *b, const Paceline__StageTime *time)
{
    const struct log_field fields[] = {{"epoch", NULL, (int64_t)b->epoch},
                                       {"step", NULL, (int64_t)b->step},
                                       {"rows", NULL, b->n_rows},
                                       {"compute_us", NULL, time->compute_us},
                                       {"wait_us", NULL, time->wait_us}};
    log_event(LOG_LEVEL_DEBUG, fields, sizeof fields / sizeof fields[0], "step computed");
}

static int runner_execute(struct worker_runner *r, struct step_message *m, zmq_msg_t *frame,
                          struct err *err)
{
    int64_t start_us = clock_now_us();
    const struct made_stage *made = r->now->made;
    int rc = batch_check(&m->batch, &made->limits, err);
    if (rc != 0)
        return rc;
    const float *in = NULL;
    if (!stage_is_first(made->stage)) {
        size_t expected = (size_t)m->batch.n_rows * (size_t)made->model.hidden_size * sizeof(float);
        if (zmq_msg_size(frame) != expected)
            return err_set(err, ERR_NETWORK, "step %llu: %zu bytes of activations, %zu expected",
                           (unsigned long long)m->batch.step, zmq_msg_size(frame), expected);
        in = runner_aligned(r, zmq_msg_data(frame), expected);
    }
    struct stage_output out = {0};
    atomic_store(&r->busy_epoch, m->batch.epoch);
    atomic_store(&r->busy_step, m->batch.step);
    atomic_store(&r->busy_since_us, start_us);
    rc = stage_forward(made->stage, &m->batch, in, &out, err);
    int64_t end_us = clock_now_us();
    atomic_store(&r->busy_since_us, 0);
    atomic_fetch_add(&r->busy_us, (uint64_t)(end_us - start_us));
    atomic_fetch_add(&r->steps, 1);
    if (rc != 0)
        return rc;
    Paceline__StageTime time = PACELINE__STAGE_TIME__INIT;
    time.stage = r->now->load->stage;
    time.compute_us = runner_microseconds(end_us - start_us);
    time.start_us = (uint64_t)start_us;
    time.wait_us = runner_microseconds(start_us - r->idle_since_us);
    runner_log_step(&m->batch, &time);
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

/* With keys: whether the step comes from whom its plan names. */
static bool runner_is_from_upstream(const struct worker_runner *r, const struct assignment *a,
                                    const unsigned char *key)
{
    return !r->spec.own || (key && keys_are_equal(key, a->load->upstream_key.data));
}

static struct assignment *runner_assignment(const struct worker_runner *r, uint64_t epoch)
{
    if (r->next && epoch == r->next->load->epoch)
        return r->next;
    return r->now && epoch == r->now->load->epoch ? r->now : NULL;
}

/* Whose step it was cannot be told: all plans that wait for one do without it, and are made anew.
 */
static void runner_lose_step(struct worker_runner *r, const struct err *why)
{
    const struct assignment *const plans[] = {r->now, r->next};
    atomic_fetch_add(&r->damaged, 1);
    for (int i = 0; i < 2; i++) {
        if (!plans[i])
            continue;
        struct err err = {0};
        const char *from = plans[i]->load->upstream_name;
        err_set(&err, ERR_NETWORK, "the link from %s to this worker damages what it carries: %s",
                strcmp(from, "") == 0 ? "the stage before" : from, why->text);
        runner_fail(r, plans[i]->load, 0, &err);
    }
    if (r->now)
        r->next_step = 0;
}

static void runner_receive_step(struct worker_runner *r)
{
    struct err err = {0};
    zmq_msg_t envelope, frame;
    int rc = data_link_receive(r->data_in, &envelope, &frame, !r->spec.own, &err);
    if (rc == 0)
        return;
    if (rc == ERR_DAMAGED) {
        runner_lose_step(r, &err);
        return;
    }
    if (rc < 0) {
        log_warning("data plane: %s", err.text);
        return;
    }
    unsigned char key[KEYS_BYTES];
    const bool has_key = wire_key_of(&envelope, key);
    struct step_message m;
    rc = step_message_unpack(&m, zmq_msg_data(&envelope), zmq_msg_size(&envelope), &err);
    zmq_msg_close(&envelope);
    if (rc != 0) {
        log_warning("data plane: %s", err.text);
    } else {
        /* Steps of an epoch that is over, or not begun here, are nobody's. */
        const struct assignment *a = runner_assignment(r, m.batch.epoch);
        const bool is_ours = a && runner_is_from_upstream(r, a, has_key ? key : NULL);
        if (is_ours && a == r->next)
            runner_advance(r);
        if (is_ours && r->next_step) {
            rc = runner_follow(r, &m, &frame, &err);
            if (rc != 0)
                runner_fail(r, r->now->load, m.batch.step, &err);
        }
        step_message_clear(&m);
    }
    zmq_msg_close(&frame);
    r->idle_since_us = clock_now_us();
}

/* ---- the compute thread ---- */

static void runner_measure(struct worker_runner *r, const struct measure_spec *wanted)
{
    struct measure_spec spec = *wanted;
    struct worker_news news = {.kind = WORKER_MEASURED};
    spec.kernels = r->spec.kernels;
    spec.memory_bytes = r->spec.memory_bytes;
    spec.cancelled = &r->measure_cancelled;
    measure_remembered(&spec, r->spec.measures_dir, &news.measured, &news.failure);
    runner_tell(r, &news);
}

static void runner_examine(struct worker_runner *r, uint32_t round)
{
    struct worker_news news = {.kind = WORKER_EXAMINED};
    self_test_run(r->spec.kernels, round, &news.exam);
    runner_tell(r, &news);
}

/* false: stop */
static bool runner_obey(struct worker_runner *r)
{
    struct runner_command command;
    while (zmq_recv(r->commands_in, &command, sizeof command, ZMQ_DONTWAIT) == sizeof command) {
        atomic_load(&r->n_posted);
        switch (command.kind) {
        case RUNNER_STOP:
            return false;
        case RUNNER_RETIRE:
            runner_retire(r);
            sem_post(&r->retired);
            break;
        case RUNNER_UNLOAD:
            runner_unload(r, command.epoch, command.only);
            break;
        case RUNNER_FORGET:
            runner_forget(r);
            break;
        case RUNNER_INSTALL:
            runner_install(r, command.assignment);
            break;
        case RUNNER_MEASURE:
            runner_measure(r, &command.measure);
            break;
        case RUNNER_EXAMINE:
            runner_examine(r, command.round);
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
    runner_examine(r, r->spec.first_exam);
    r->idle_since_us = clock_now_us();
    zmq_pollitem_t items[] = {{.socket = r->commands_in, .events = ZMQ_POLLIN},
                              {.socket = r->data_in, .events = ZMQ_POLLIN}};
    for (;;) {
        if (zmq_poll(items, 2, -1) < 0 && errno != EINTR)
            break;
        if (items[0].revents && !runner_obey(r))
            break;
        if (items[1].revents)
            runner_receive_step(r);
    }
    runner_retire(r);
    struct runner_command left; /* no loader is there any more */
    while (zmq_recv(r->commands_in, &left, sizeof left, ZMQ_DONTWAIT) == sizeof left)
        if (left.kind == RUNNER_INSTALL)
            assignment_free(left.assignment);
    zmq_close(r->data_in);
    zmq_close(r->commands_in);
    zmq_close(r->news_out);
    return NULL;
}

/* ---- what the loader asks of the compute thread, from its own ---- */

static struct made_stage *runner_find(void *context, const unsigned char key[DIGEST_BYTES],
                                      int64_t *ret_own_bytes)
{
    struct worker_runner *r = context;
    struct made_stage *found = NULL;
    int64_t own_bytes = 0;
    pthread_mutex_lock(&r->lock);
    const struct assignment *const there[] = {r->now, r->next};
    for (int i = 0; i < 2; i++) {
        if (!there[i])
            continue;
        struct made_stage *made = there[i]->made;
        if (!found && memcmp(made->key, key, DIGEST_BYTES) == 0 && stage_is_sound(made->stage))
            found = assignment_hold_stage(made);
        if (i == 0 || made != r->now->made)
            own_bytes += stage_own_bytes(made->stage);
    }
    pthread_mutex_unlock(&r->lock);
    *ret_own_bytes = own_bytes;
    return found;
}

static int runner_push(struct worker_runner *r, int type, const char *endpoint, void **ret_socket,
                       struct err *err)
{
    int rc = wire_socket(ret_socket, r->spec.zmq, type, NULL, err);
    if (rc == 0 && zmq_connect(*ret_socket, endpoint) != 0)
        rc = err_set(err, ERR_INTERNAL, "%s: %s", endpoint, zmq_strerror(errno));
    return rc;
}

/* Of each stage that has the tensor; the others' are not changed by it. */
static int runner_list_damaged(struct worker_runner *r, const char *tensor,
                               struct worker_news *ret_news)
{
    int n = 0;
    pthread_mutex_lock(&r->lock);
    const struct assignment *const there[] = {r->now, r->next};
    for (int i = 0; i < 2; i++) {
        if (!there[i] || stage_is_sound(there[i]->made->stage))
            continue;
        struct worker_news *news = &ret_news[n++];
        *news = (struct worker_news){.kind = WORKER_FAILED,
                                     .deployment = there[i]->load->deployment,
                                     .epoch = there[i]->load->epoch};
        err_set(&news->failure, ERR_DAMAGED,
                "tensor %s is damaged in this machine's memory: what was computed with it since it "
                "was last looked at may be wrong; it is loaded again",
                tensor);
    }
    pthread_mutex_unlock(&r->lock);
    return n;
}

/* From the scrub's thread. */
static void runner_on_damage(void *context, const char *tensor)
{
    struct worker_runner *r = context;
    struct worker_news news[2];
    struct err err = {0};
    void *out = NULL;
    const int linger_ms = -1;
    int n = runner_list_damaged(r, tensor, news);
    log_error("tensor %s is damaged in memory", tensor);
    if (n && runner_push(r, ZMQ_PUSH, r->news_endpoint, &out, &err) == 0)
        zmq_setsockopt(out, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
    for (int i = 0; out && i < n; i++)
        zmq_send(out, &news[i], sizeof news[i], 0);
    if (out)
        zmq_close(out);
    else if (n)
        log_error("%s", err.text);
}

static int runner_start_scrub(struct worker_runner *r, struct err *err)
{
    const struct scrub_spec spec = {.packs = r->packs,
                                    .bytes_per_s = r->spec.scrub_bytes_per_s,
                                    .damaged = runner_on_damage,
                                    .context = r};
    return spec.bytes_per_s > 0 ? scrub_start(&r->scrub, &spec, err) : 0;
}

/* false: it will not arrive. */
static bool runner_post(struct worker_runner *r, const struct runner_command *command)
{
    void *commands = NULL;
    struct err err = {0};
    const int linger_ms = -1;
    atomic_fetch_add(&r->n_posted, 1);
    bool sent = runner_push(r, ZMQ_PUSH, r->commands_endpoint, &commands, &err) == 0 &&
                zmq_setsockopt(commands, ZMQ_LINGER, &linger_ms, sizeof linger_ms) == 0 &&
                zmq_send(commands, command, sizeof *command, 0) == sizeof *command;
    if (commands)
        zmq_close(commands);
    if (!sent)
        log_error("the compute thread cannot be reached: %s",
                  err.text[0] ? err.text : zmq_strerror(errno));
    return sent;
}

static void runner_have_retired(void *context)
{
    struct worker_runner *r = context;
    if (!runner_post(r, &(struct runner_command){.kind = RUNNER_RETIRE}))
        return;
    while (sem_wait(&r->retired) != 0)
        ;
}

static void runner_have_installed(void *context, struct assignment *a)
{
    struct worker_runner *r = context;
    if (!runner_post(r, &(struct runner_command){.kind = RUNNER_INSTALL, .assignment = a}))
        assignment_free(a);
}

static void runner_stand_by(void *context, struct standby *s)
{
    struct worker_runner *r = context;
    pthread_mutex_lock(&r->lock);
    struct standby *old = r->standby;
    r->standby = s;
    atomic_store(&r->standby_epoch, s ? standby_epoch(s) : 0);
    pthread_mutex_unlock(&r->lock);
    standby_free(old);
}

/* ---- the control thread ---- */

static int runner_bind(struct worker_runner *r, const char *endpoint, void **ret_socket,
                       struct err *err)
{
    int rc = wire_socket(ret_socket, r->spec.zmq, ZMQ_PULL, NULL, err);
    if (rc == 0 && zmq_bind(*ret_socket, endpoint) != 0)
        rc = err_set(err, ERR_INTERNAL, "%s: %s", endpoint, zmq_strerror(errno));
    return rc;
}

static int runner_open_sockets(struct worker_runner *r, struct err *err)
{
    snprintf(r->commands_endpoint, sizeof r->commands_endpoint, "inproc://commands-%p", (void *)r);
    snprintf(r->news_endpoint, sizeof r->news_endpoint, "inproc://news-%p", (void *)r);
    const struct wire_security security = {.own = r->spec.own, .domain = WIRE_STEPS};
    int rc = wire_socket(&r->data_in, r->spec.zmq, ZMQ_PULL, r->spec.own ? &security : NULL, err);
    if (rc == 0)
        rc = wire_bind(r->data_in, r->spec.data_host, r->spec.data_port, &r->data_port, err);
    if (rc == 0)
        rc = runner_bind(r, r->commands_endpoint, &r->commands_in, err);
    if (rc == 0)
        rc = runner_bind(r, r->news_endpoint, &r->news_in, err);
    if (rc == 0)
        rc = runner_push(r, ZMQ_PUSH, r->commands_endpoint, &r->commands_out, err);
    if (rc == 0)
        rc = runner_push(r, ZMQ_PUSH, r->news_endpoint, &r->news_out, err);
    return rc;
}

/* Once the compute thread has ended, or before it begins. */
static void runner_free(struct worker_runner *r)
{
    scrub_stop(r->scrub);
    if (r->commands_out)
        zmq_close(r->commands_out);
    if (r->news_in)
        zmq_close(r->news_in);
    if (r->pending)
        paceline__control__free_unpacked(r->pending, NULL);
    runner_stand_by(r, NULL);
    packs_free(r->packs);
    sem_destroy(&r->retired);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

int worker_runner_start(struct worker_runner **ret_runner, const struct worker_runner_spec *spec,
                        struct err *err)
{
    struct worker_runner *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ERR_MEMORY, "no memory for the compute thread");
    r->spec = *spec;
    pthread_mutex_init(&r->lock, NULL);
    sem_init(&r->retired, 0, 0);
    int rc = packs_new(&r->packs, err);
    if (rc == 0)
        rc = runner_open_sockets(r, err);
    if (rc == 0)
        rc = runner_start_scrub(r, err);
    if (rc == 0) {
        /* The sockets change owner here, once; pthread_create is the barrier that libzmq wants. */
        int failed = pthread_create(&r->thread, NULL, runner_main, r);
        if (failed)
            rc = err_set(err, ERR_MEMORY, "compute thread: %s", strerror(failed));
    }
    if (rc != 0) {
        void *const sockets[] = {r->data_in, r->commands_in, r->news_out};
        for (size_t i = 0; i < sizeof sockets / sizeof sockets[0]; i++)
            if (sockets[i])
                zmq_close(sockets[i]);
        runner_free(r);
        return rc;
    }
    *ret_runner = r;
    return 0;
}

/* A Load replaces what is being loaded and what waits. */
static int runner_begin_loading(struct worker_runner *r, struct err *err)
{
    struct worker_loader_spec spec = {.runner = &r->spec,
                                      .packs = r->packs,
                                      .message = r->pending,
                                      .news_endpoint = r->news_endpoint,
                                      .context = r,
                                      .find = runner_find,
                                      .retire = runner_have_retired,
                                      .install = runner_have_installed,
                                      .stand_by = runner_stand_by};
    int rc = worker_loader_start(&r->loader, &spec, err);
    if (rc == 0)
        r->pending = NULL;
    return rc;
}

static void runner_drop_pending(struct worker_runner *r)
{
    if (r->pending)
        paceline__control__free_unpacked(r->pending, NULL);
    r->pending = NULL;
}

int worker_runner_load(struct worker_runner *r, Paceline__Control *load, struct err *err)
{
    atomic_store(&r->measure_cancelled, true);
    runner_drop_pending(r);
    r->pending = load;
    if (r->loader) {
        worker_loader_cancel(r->loader);
        return 0;
    }
    int rc = runner_begin_loading(r, err);
    r->pending = NULL; /* the loader's, or the caller's again */
    return rc;
}

static int runner_command(struct worker_runner *r, const struct runner_command *command,
                          struct err *err)
{
    if (zmq_send(r->commands_out, command, sizeof *command, 0) < 0)
        return err_set(err, ERR_INTERNAL, "compute thread: %s", zmq_strerror(errno));
    return 0;
}

int worker_runner_unload(struct worker_runner *r, uint64_t epoch, bool only, bool standby,
                         struct err *err)
{
    if (r->pending && (standby || !r->pending->load->standby) &&
        runner_is_meant(r->pending->load->epoch, epoch, only))
        runner_drop_pending(r);
    if (r->loader && (standby || !worker_loader_is_standby(r->loader)) &&
        runner_is_meant(worker_loader_epoch(r->loader), epoch, only))
        worker_loader_cancel(r->loader);
    if (standby) {
        r->is_standby_unwanted = r->loader != NULL;
        runner_stand_by(r, NULL);
    }
    struct runner_command command = {.kind = RUNNER_UNLOAD, .epoch = epoch, .only = only};
    return runner_command(r, &command, err);
}

int worker_runner_forget(struct worker_runner *r, struct err *err)
{
    struct runner_command command = {.kind = RUNNER_FORGET};
    return runner_command(r, &command, err);
}

/* The loader has ended: who waits for it is next. true: that could not begin, which is news. */
static bool runner_on_loaded(struct worker_runner *r, struct worker_news *ret_news)
{
    if (r->is_standby_unwanted) /* it may have been made all the same */
        runner_stand_by(r, NULL);
    r->is_standby_unwanted = false;
    worker_loader_join(r->loader);
    r->loader = NULL;
    if (!r->pending) {
        packs_trim(r->packs);
        return false;
    }
    *ret_news = (struct worker_news){.kind = WORKER_FAILED,
                                     .deployment = r->pending->load->deployment,
                                     .epoch = r->pending->load->epoch};
    if (runner_begin_loading(r, &ret_news->failure) == 0)
        return false;
    runner_drop_pending(r);
    return true;
}

bool worker_runner_next_news(struct worker_runner *r, struct worker_news *ret_news)
{
    while (zmq_recv(r->news_in, ret_news, sizeof *ret_news, ZMQ_DONTWAIT) == sizeof *ret_news) {
        if (ret_news->kind != WORKER_LOADED)
            return true;
        if (runner_on_loaded(r, ret_news))
            return true;
    }
    return false;
}

void worker_runner_stop(struct worker_runner *r)
{
    if (!r)
        return;
    atomic_store(&r->measure_cancelled, true);
    if (r->loader)
        worker_loader_cancel(r->loader);
    worker_loader_join(r->loader);
    struct runner_command command = {.kind = RUNNER_STOP};
    runner_command(r, &command, NULL);
    pthread_join(r->thread, NULL);
    runner_free(r);
}

int worker_runner_data_port(const struct worker_runner *r)
{
    return r->data_port;
}

void *worker_runner_socket(const struct worker_runner *r)
{
    return r->news_in;
}

int worker_runner_measure(struct worker_runner *r, const Paceline__Measure *m, struct err *err)
{
    atomic_store(&r->measure_cancelled, false);
    struct runner_command command = {.kind = RUNNER_MEASURE};
    struct measure_spec *spec = &command.measure;
    size_t n_kinds = m->types.len / MODEL_SHAPE_MATRICES;
    spec->config = (struct model_config){.hidden_size = (int)m->hidden_size,
                                         .intermediate_size = (int)m->intermediate_size,
                                         .n_heads = (int)m->heads,
                                         .n_kv_heads = (int)m->kv_heads,
                                         .head_dim = (int)m->head_dim,
                                         .rope_dim = (int)m->rope_dim,
                                         .vocabulary_size = (int)m->vocabulary,
                                         .rms_eps = 1e-6f,
                                         .rope_base = 1e6,
                                         .qkv_bias = m->qkv_bias,
                                         .qk_norm = m->qk_norm};
    spec->n_kinds = n_kinds < MEASURE_KINDS ? (int)n_kinds : MEASURE_KINDS;
    if (m->types.data)
        memcpy(spec->types, m->types.data, (size_t)spec->n_kinds * MODEL_SHAPE_MATRICES);
    spec->head_type = (int)m->head_type;
    spec->kv_type = (enum kv_type)m->kv_type;
    return runner_command(r, &command, err);
}

int worker_runner_examine(struct worker_runner *r, uint32_t round, struct err *err)
{
    struct runner_command command = {.kind = RUNNER_EXAMINE, .round = round % KNOWN_ANSWERS};
    return runner_command(r, &command, err);
}

uint32_t worker_runner_stage(struct worker_runner *r, uint32_t *ret_stages)
{
    pthread_mutex_lock(&r->lock);
    const struct assignment *newest = r->next ? r->next : r->now;
    uint32_t stage = newest ? newest->load->stage + 1 : 0;
    *ret_stages = newest ? newest->load->n_stages : 0;
    pthread_mutex_unlock(&r->lock);
    return stage;
}

void worker_runner_counters(const struct worker_runner *r, struct worker_counters *ret_counters)
{
    ret_counters->steps = atomic_load(&r->steps);
    int64_t since_us = atomic_load(&r->busy_since_us);
    ret_counters->busy_us = atomic_load(&r->busy_us);
    if (since_us)
        ret_counters->busy_us += (uint64_t)(clock_now_us() - since_us);
    ret_counters->sent_bytes = atomic_load(&r->sent_bytes);
    ret_counters->busy_epoch = since_us ? atomic_load(&r->busy_epoch) : 0;
    ret_counters->busy_step = since_us ? atomic_load(&r->busy_step) : 0;
    ret_counters->damaged = atomic_load(&r->damaged);
    ret_counters->scrubbed_bytes = scrub_bytes(r->scrub);
    ret_counters->epoch = atomic_load(&r->epoch);
    ret_counters->standby_epoch = atomic_load(&r->standby_epoch);
}
