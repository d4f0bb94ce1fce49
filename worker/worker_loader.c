#include "worker/worker_loader.h"

#include "base/clock.h"
#include "base/log.h"
#include "proto/wire.h"

#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define PROGRESS_EVERY_MS 100
/* Beside a stage that serves, here or on a neighbour of this machine, loading gives way to it. */
#define NICE_BESIDE 5

struct worker_loader {
    struct worker_loader_spec spec;
    pthread_t thread;
    atomic_bool cancelled;
    uint32_t deployment;
    uint64_t epoch;
    bool is_standby;

    /* the thread's own */
    void *news; /* PUSH */
    const Paceline__Load *load;
    struct made_stage *made;
    int64_t last_progress_ms;
};

static void loader_tell(const struct worker_loader *l, struct worker_news *news)
{
    news->deployment = l->deployment;
    news->epoch = l->epoch;
    zmq_send(l->news, news, sizeof *news, 0);
}

static const unsigned char *loader_digest_of(void *context, const char *tensor)
{
    const struct worker_loader *l = context;
    for (size_t i = 0; i < l->load->n_digests; i++) {
        const Paceline__TensorDigest *d = l->load->digests[i];
        if (strcmp(d->name, tensor) == 0 && d->sha256.len == DIGEST_BYTES)
            return d->sha256.data;
    }
    return NULL;
}

static void loader_progress(void *context, int64_t done, int64_t total)
{
    struct worker_loader *l = context;
    int64_t now = clock_now_ms();
    if (now - l->last_progress_ms < PROGRESS_EVERY_MS && done < total)
        return;
    l->last_progress_ms = now;
    loader_tell(l, &(struct worker_news){
                       .kind = WORKER_PROGRESS, .bytes_done = done, .bytes_total = total});
}

/* The layers are held: who held them before lets go of what is not needed any more. */
static void loader_on_claimed(void *context)
{
    struct worker_loader *l = context;
    if (l->is_standby)
        l->spec.retire(l->spec.context);
    l->spec.stand_by(l->spec.context, NULL);
}

/* own_bytes: of the stages that stay */
static int loader_make_stage(struct worker_loader *l, int64_t own_bytes, struct err *err)
{
    const Paceline__Load *load = l->load;
    struct made_stage *made = l->made;
    int rc = content_load(l->spec.runner->content, load, &l->cancelled, &made->model,
                          &made->weights, err);
    if (rc != 0)
        return rc;
    if (load->end_layer > (uint32_t)made->model.n_layers || load->first_layer >= load->end_layer)
        return err_set(err, ERR_NETWORK, "layers %u to %u were asked for, the model has %d",
                       load->first_layer, load->end_layer, made->model.n_layers);
    if (load->kv_type >= KV_TYPES)
        return err_set(err, ERR_NETWORK, "KV type %u is unknown here", load->kv_type);
    made->limits = (struct batch_limits){load->max_rows,    load->max_sequences,
                                         load->max_outputs, load->max_context,
                                         load->kv_blocks,   (uint32_t)made->model.vocabulary_size};
    struct stage_spec spec = {.kernels = l->spec.runner->kernels,
                              .model = &made->model,
                              .weights = made->weights,
                              .first_layer = (int)load->first_layer,
                              .end_layer = (int)load->end_layer,
                              .limits = made->limits,
                              .kv_type = (enum kv_type)load->kv_type,
                              .memory_bytes = l->spec.runner->memory_bytes,
                              .packs = l->spec.packs,
                              .memory_beside = own_bytes,
                              .digest_of = loader_digest_of,
                              .progress = loader_progress,
                              .claimed = loader_on_claimed,
                              .context = l,
                              .cancelled = &l->cancelled};
    if (load->first_layer > 0) {
        made->aligned =
            calloc((size_t)load->max_rows, (size_t)made->model.hidden_size * sizeof(float));
        if (!made->aligned)
            return err_set(err, ERR_MEMORY, "no memory for %u rows of activations", load->max_rows);
    }
    return stage_new(&made->stage, &spec, err);
}

static void loader_give_way(void)
{
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + NICE_BESIDE);
}

static int loader_make_standby(struct worker_loader *l, struct err *err)
{
    struct standby_spec spec = {.load = l->load,
                                .content = l->spec.runner->content,
                                .packs = l->spec.packs,
                                .memory_bytes = l->spec.runner->memory_bytes,
                                .watch = {.digest_of = loader_digest_of,
                                          .progress = loader_progress,
                                          .context = l,
                                          .cancelled = &l->cancelled},
                                .claimed = loader_on_claimed,
                                .context = l};
    struct standby *standby;
    loader_give_way();
    int rc = standby_new(&standby, &spec, err);
    if (rc != 0)
        return rc;
    const int64_t bytes = standby_bytes(standby);
    l->spec.stand_by(l->spec.context, standby);
    loader_tell(l, &(struct worker_news){.kind = WORKER_READY, .memory_bytes = bytes});
    return 0;
}

static int loader_run(struct worker_loader *l, struct err *err)
{
    unsigned char key[DIGEST_BYTES];
    int64_t own_bytes = 0;
    int rc = 0;
    assignment_key(l->load, key);
    l->made = l->spec.find(l->spec.context, key, &own_bytes);
    if (!l->load->beside) {
        l->spec.retire(l->spec.context);
        own_bytes = 0;
    } else if (!l->made) {
        loader_give_way();
    }
    if (!l->made) {
        l->made = calloc(1, sizeof *l->made);
        if (!l->made)
            return err_set(err, ERR_MEMORY, "no memory for a stage");
        memcpy(l->made->key, key, sizeof key);
        atomic_store(&l->made->holders, 1);
        rc = loader_make_stage(l, own_bytes, err);
    }
    struct assignment *a = NULL;
    if (rc == 0)
        rc = assignment_new(&a, l->spec.message, l->made, err);
    if (rc == 0) {
        l->spec.message = NULL;
        l->made = NULL;
        l->spec.install(l->spec.context, a);
    }
    return rc;
}

static void *loader_main(void *argument)
{
    struct worker_loader *l = argument;
    struct err err = {0};
    omp_set_num_threads(l->spec.runner->threads);
    int rc = l->is_standby ? loader_make_standby(l, &err) : loader_run(l, &err);
    if (rc != 0)
        loader_tell(l, &(struct worker_news){.kind = WORKER_FAILED, .failure = err});
    assignment_let_stage_go(l->made);
    l->made = NULL;
    content_give_memory_back();
    loader_tell(l, &(struct worker_news){.kind = WORKER_LOADED});
    zmq_close(l->news);
    return NULL;
}

/* Before the thread runs: one without words would be waited for for ever. */
static int loader_open_news(struct worker_loader *l, struct err *err)
{
    int rc = wire_socket(&l->news, l->spec.runner->zmq, ZMQ_PUSH, NULL, err);
    if (rc == 0 && zmq_connect(l->news, l->spec.news_endpoint) != 0)
        rc = err_set(err, ERR_INTERNAL, "loading thread: %s", zmq_strerror(errno));
    return rc;
}

int worker_loader_start(struct worker_loader **ret_loader, const struct worker_loader_spec *spec,
                        struct err *err)
{
    struct worker_loader *l = calloc(1, sizeof *l);
    if (!l)
        return err_set(err, ERR_MEMORY, "no memory for a loader");
    l->spec = *spec;
    l->load = spec->message->load;
    l->deployment = l->load->deployment;
    l->epoch = l->load->epoch;
    l->is_standby = l->load->standby;
    int rc = loader_open_news(l, err);
    int failed = rc == 0 ? pthread_create(&l->thread, NULL, loader_main, l) : 0;
    if (failed)
        rc = err_set(err, ERR_MEMORY, "loading thread: %s", strerror(failed));
    if (rc != 0) {
        if (l->news)
            zmq_close(l->news);
        free(l);
        return rc;
    }
    *ret_loader = l;
    return 0;
}

uint64_t worker_loader_epoch(const struct worker_loader *l)
{
    return l->epoch;
}

bool worker_loader_is_standby(const struct worker_loader *l)
{
    return l->is_standby;
}

void worker_loader_cancel(struct worker_loader *l)
{
    atomic_store(&l->cancelled, true);
}

void worker_loader_join(struct worker_loader *l)
{
    if (!l)
        return;
    pthread_join(l->thread, NULL);
    if (l->spec.message)
        paceline__control__free_unpacked(l->spec.message, NULL);
    free(l);
}
