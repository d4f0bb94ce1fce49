/* measure_ship.c - how fast tensors reach workers that have none of them: a coordinator's content
 * server and K workers in one process, each with sockets and threads of its own, over loopback.
 *
 *     measure_ship MODEL [WORKERS [THREADS [FOLDER]]]
 *
 * FOLDER: for the workers' caches, emptied by the caller; without: through memory. Printed: seconds
 * until every tensor was provided to every worker, verified; bytes that left the coordinator. What
 * follows in a real load, packing, is not measured. */
#include "base/clock.h"
#include "coordinator/shipping.h"
#include "proto/wire.h"
#include "worker/content.h"

#include <omp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_WORKERS 16

struct peer {
    int number, threads;
    void *zmq;
    struct content *content;
    Paceline__Load *load;
    pthread_t thread;
    int rc;
    struct err err;
};

static void say(bool is_fault, const char *text)
{
    if (is_fault)
        fprintf(stderr, "%s\n", text);
}

static void *peer_main(void *argument)
{
    struct peer *p = argument;
    struct model_config config;
    struct weight_file *f;
    p->rc = content_load(p->content, p->load, NULL, &config, &f, &p->err);
    if (p->rc != 0)
        return NULL;
    omp_set_num_threads(p->threads);
#pragma omp parallel for schedule(dynamic, 1)
    for (size_t i = 0; i < weight_file_tensor_count(f); i++) {
        struct err err;
        const struct tensor *t = weight_file_tensor(f, i);
        if (weight_file_provide(f, t, &err) != 0) {
            fprintf(stderr, "worker %d: %s\n", p->number, err.text);
            p->rc = err.code;
        }
        weight_file_release(f, t);
    }
    /* It stays until all are done: others may still ask it. */
    struct content_progress progress;
    content_progress(p->content, &progress);
    printf("worker %d: %.1f MB fetched, %.1f MB of them from the coordinator\n", p->number,
           (double)progress.fetched_bytes / 1e6, (double)progress.coordinator_bytes / 1e6);
    return NULL;
}

/* A load of all layers, whose sources are the coordinator and all peers. */
static void fill_load(Paceline__Load *load, const struct weight_file *f, const struct manifest *m,
                      const struct model_config *c, Paceline__ModelConfig *config,
                      unsigned char digest[DIGEST_BYTES])
{
    load->model_path = (char *)"nowhere";
    load->model_file = (char *)"model";
    load->end_layer = (uint32_t)c->n_layers;
    shipping_describe_config(c, config);
    load->config = config;
    manifest_digest_config(c, digest);
    load->config_sha256.data = digest;
    load->config_sha256.len = DIGEST_BYTES;
    load->n_digests = m->n_tensors;
    load->digests = calloc(m->n_tensors, sizeof(Paceline__TensorDigest *));
    Paceline__TensorDigest *all = calloc(m->n_tensors, sizeof *all);
    if (!load->digests || !all)
        exit(5);
    for (size_t i = 0; i < m->n_tensors; i++) {
        shipping_describe_tensor(f, m, i, &all[i]);
        load->digests[i] = &all[i];
    }
}

static void fail(const struct err *err)
{
    fprintf(stderr, "measure_ship: %s\n", err->text);
    exit(1);
}

int main(int argc, char **argv)
{
    int n = argc > 2 ? atoi(argv[2]) : 1, threads = argc > 3 ? atoi(argv[3]) : 2;
    if (argc < 2 || n < 1 || n > MAX_WORKERS || threads < 1) {
        fprintf(stderr, "usage: measure_ship MODEL [WORKERS [THREADS [FOLDER]]]\n");
        return 1;
    }
    struct err err;
    struct weight_file *f;
    struct manifest m;
    struct model_config c;
    struct shipping *s;
    struct registry registry = {0};
    struct worker_entry entries[MAX_WORKERS] = {0};
    void *zmq;
    if (weight_file_open(&f, argv[1], &err) != 0 || model_config_read(&c, f, &err) != 0)
        fail(&err);
    int64_t start_us = clock_now_us();
    if (manifest_compute(&m, f, NULL, NULL, NULL, &err) != 0)
        fail(&err);
    int64_t bytes = 0;
    for (size_t i = 0; i < m.n_tensors; i++)
        bytes += (int64_t)weight_file_tensor(f, i)->bytes;
    printf("hashing: %.2f GB/s\n", (double)bytes / (double)(clock_now_us() - start_us) / 1e3);
    if (wire_context(&zmq, &err) != 0 || shipping_open(&s, zmq, "127.0.0.1", 0, NULL, &err) != 0 ||
        shipping_publish(s, f, &m, &err) != 0)
        fail(&err);
    static struct peer peers[MAX_WORKERS];
    Paceline__Load load = PACELINE__LOAD__INIT;
    Paceline__ModelConfig config;
    unsigned char digest[DIGEST_BYTES];
    fill_load(&load, f, &m, &c, &config, digest);
    for (int i = 0; i < n; i++) {
        char folder[4096];
        snprintf(folder, sizeof folder, "%s/%d", argc > 4 ? argv[4] : "", i);
        struct content_spec spec = {.coordinator_host = "127.0.0.1",
                                    .host = "127.0.0.1",
                                    .cache_dir = argc > 4 ? folder : NULL,
                                    .cache_bytes = -1,
                                    .ignores_files = true,
                                    .ships = true,
                                    .tell = say};
        peers[i] = (struct peer){.number = i + 1, .threads = threads, .load = &load};
        if (wire_context(&spec.zmq, &err) != 0 || content_open(&peers[i].content, &spec, &err) != 0)
            fail(&err);
        entries[i] = (struct worker_entry){
            .end_layer = c.n_layers, .next_stage = -1, .next = registry.workers};
        snprintf(entries[i].name, sizeof entries[i].name, "worker %d", i + 1);
        snprintf(entries[i].content_address, sizeof entries[i].content_address, "%s",
                 content_endpoint(peers[i].content));
        registry.workers = &entries[i];
    }
    struct shipping_sources sources;
    const struct worker_entry stranger = {.end_layer = c.n_layers};
    shipping_find_sources(s, "127.0.0.1", &registry, &stranger, &load, &sources);
    load.n_sources = sources.n;
    load.sources = sources.list;
    start_us = clock_now_us();
    for (int i = 0; i < n; i++)
        if (pthread_create(&peers[i].thread, NULL, peer_main, &peers[i]) != 0)
            return 1;
    int failed = 0;
    for (int i = 0; i < n; i++) {
        pthread_join(peers[i].thread, NULL);
        failed |= peers[i].rc;
    }
    double seconds = (double)(clock_now_us() - start_us) / 1e6;
    int64_t sent = shipping_sent_bytes(s);
    printf("%d worker%s: %.2f s, %.2f GB/s each, %.2f GB/s in all; the coordinator sent %.2f x the "
           "content\n",
           n, n == 1 ? "" : "s", seconds, (double)bytes / seconds / 1e9,
           (double)bytes * n / seconds / 1e9, (double)sent / (double)bytes);
    fflush(stdout);
    _exit(failed ? 1 : 0); /* what is mapped and bound ends with the process */
}
