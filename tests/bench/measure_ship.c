/* measure_ship.c - how fast tensors reach workers that have none of them: a coordinator's content
 * server and workers in one process, each with sockets and threads of its own.
 *
 *     measure_ship [OPTION...] MODEL
 *       --workers N        that want the whole model at once (1)
 *       --threads N        of each, that verify (2)
 *       --cache FOLDER     for their caches, emptied by the caller; without: through memory
 *       --keys             encrypted links
 *       --hosts NAME=ADDRESS,…   network namespaces: the coordinator's first, then each worker's;
 *                          without: all over loopback
 *
 * Printed: seconds until every tensor was provided to every worker, verified; seconds of processor
 * for each GB that a worker got; bytes that left the coordinator. What follows in a real load,
 * packing, is not measured. */
#include "base/clock.h"
#include "coordinator/shipping.h"
#include "proto/wire.h"
#include "proto/zap.h"
#include "worker/content.h"

#include <fcntl.h>
#include <getopt.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define MAX_WORKERS 15
#define HOST_BYTES  64

struct setup {
    const char *model, *cache;
    int n_workers, threads;
    bool with_keys;
    int n_hosts;
    char spaces[MAX_WORKERS + 1][HOST_BYTES], addresses[MAX_WORKERS + 1][HOST_BYTES];
};

struct peer {
    int number, threads;
    struct key_pair keys;
    struct zap zap;
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

static void fail(const struct err *err)
{
    fprintf(stderr, "measure_ship: %s\n", err->text);
    exit(1);
}

/* Keys are checked as in real programs; who is let in is not what is measured. */
static bool let_all_in(void *context, const char *domain, const unsigned char key[KEYS_BYTES])
{
    return context != NULL && domain && key;
}

static void *doorman_main(void *argument)
{
    struct zap *z = argument;
    zmq_pollitem_t item = {.socket = z->socket, .events = ZMQ_POLLIN};
    while (zmq_poll(&item, 1, -1) >= 0)
        zap_serve(z);
    return NULL;
}

static void open_door(struct zap *z, void *zmq)
{
    pthread_t doorman; /* until the program ends */
    struct err err;
    if (zap_open(z, zmq, let_all_in, z, &err) != 0)
        fail(&err);
    if (pthread_create(&doorman, NULL, doorman_main, z) != 0 || pthread_detach(doorman) != 0) {
        fprintf(stderr, "no thread for a door\n");
        exit(1);
    }
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

/* This thread, and those that it makes, are on that host from now on. */
static const char *enter_host(const struct setup *s, int host)
{
    char path[128];
    if (!s->n_hosts)
        return "127.0.0.1";
    snprintf(path, sizeof path, "/run/netns/%s", s->spaces[host]);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET) != 0) {
        perror(path);
        exit(1);
    }
    close(fd);
    return s->addresses[host];
}

static double processor_s(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static bool read_hosts(struct setup *s, char *text)
{
    for (char *rest = NULL, *part = strtok_r(text, ",", &rest); part;
         part = strtok_r(NULL, ",", &rest)) {
        if (s->n_hosts > MAX_WORKERS ||
            sscanf(part, "%63[^=]=%63s", s->spaces[s->n_hosts], s->addresses[s->n_hosts]) != 2)
            return false;
        s->n_hosts++;
    }
    return true;
}

static bool read_setup(struct setup *s, int argc, char **argv)
{
    static const struct option options[] = {
        {"workers", required_argument, NULL, 'w'}, {"threads", required_argument, NULL, 't'},
        {"cache", required_argument, NULL, 'c'},   {"keys", no_argument, NULL, 'k'},
        {"hosts", required_argument, NULL, 'h'},   {NULL, 0, NULL, 0}};
    *s = (struct setup){.n_workers = 1, .threads = 2};
    bool ok = true;
    for (int c; ok && (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
        if (c == 'w')
            s->n_workers = atoi(optarg);
        else if (c == 't')
            s->threads = atoi(optarg);
        else if (c == 'c')
            s->cache = optarg;
        else if (c == 'k')
            s->with_keys = true;
        else
            ok = c == 'h' && read_hosts(s, optarg);
    }
    s->model = argv[optind];
    return ok && s->model && s->n_workers >= 1 && s->n_workers <= MAX_WORKERS && s->threads >= 1 &&
           (!s->n_hosts || s->n_hosts > s->n_workers);
}

/* A worker, and how the registry knows it. */
static void open_peer(const struct setup *s, struct peer *p, struct registry *r,
                      struct worker_entry *entry, int n_layers, const char *coordinator)
{
    char folder[4096];
    struct err err;
    const char *host = enter_host(s, p->number);
    snprintf(folder, sizeof folder, "%s/%d", s->cache ? s->cache : "", p->number);
    struct content_spec spec = {.coordinator_host = coordinator,
                                .host = host,
                                .own = s->with_keys ? &p->keys : NULL,
                                .cache_dir = s->cache ? folder : NULL,
                                .cache_bytes = -1,
                                .ignores_files = true,
                                .ships = true,
                                .tell = say};
    if (wire_context(&spec.zmq, &err) != 0 || keys_make(&p->keys, &err) != 0)
        fail(&err);
    if (s->with_keys)
        open_door(&p->zap, spec.zmq);
    if (content_open(&p->content, &spec, &err) != 0)
        fail(&err);
    *entry = (struct worker_entry){.end_layer = n_layers, .next_stage = -1, .next = r->workers};
    memcpy(entry->key, p->keys.public_key, KEYS_BYTES);
    snprintf(entry->name, sizeof entry->name, "worker %d", p->number);
    snprintf(entry->content_address, sizeof entry->content_address, "%s",
             content_endpoint(p->content));
    r->workers = entry;
    r->n_workers++;
    r->has_new_peers = true;
}

static void let_in(struct shipping *s, struct registry *r, struct peer *peers, int n)
{
    unsigned char keys[MAX_WORKERS][KEYS_BYTES];
    struct err err;
    for (int i = 0; i < n; i++)
        memcpy(keys[i], peers[i].keys.public_key, KEYS_BYTES);
    for (int i = 0; i < n; i++)
        if (content_let_in(peers[i].content, keys, (size_t)n, &err) != 0)
            fail(&err);
    if (shipping_let_in(s, r, &err) != 0)
        fail(&err);
}

static int run_peers(struct peer *peers, int n)
{
    int failed = 0;
    for (int i = 0; i < n; i++)
        if (pthread_create(&peers[i].thread, NULL, peer_main, &peers[i]) != 0)
            return 1;
    for (int i = 0; i < n; i++) {
        pthread_join(peers[i].thread, NULL);
        failed |= peers[i].rc;
    }
    return failed;
}

static int measure(const struct setup *setup, const struct weight_file *f, const struct manifest *m,
                   const struct model_config *c, int64_t bytes)
{
    static struct peer peers[MAX_WORKERS];
    static struct worker_entry entries[MAX_WORKERS];
    static struct trust trust;
    static struct zap zap;
    struct err err;
    struct shipping *s;
    struct registry registry = {.trust = setup->with_keys ? &trust : NULL};
    void *zmq;
    const int n = setup->n_workers;
    const char *host = enter_host(setup, 0);
    if (keys_make(&trust.own, &err) != 0 || wire_context(&zmq, &err) != 0)
        fail(&err);
    if (setup->with_keys)
        open_door(&zap, zmq);
    if (shipping_open(&s, zmq, host, 0, setup->with_keys ? &trust.own : NULL, &err) != 0 ||
        shipping_publish(s, f, m, &err) != 0)
        fail(&err);
    Paceline__Load load = PACELINE__LOAD__INIT;
    Paceline__ModelConfig config;
    unsigned char digest[DIGEST_BYTES];
    fill_load(&load, f, m, c, &config, digest);
    for (int i = 0; i < n; i++) {
        peers[i] = (struct peer){.number = i + 1, .threads = setup->threads, .load = &load};
        open_peer(setup, &peers[i], &registry, &entries[i], c->n_layers, host);
    }
    let_in(s, &registry, peers, n);
    struct shipping_sources sources;
    const struct worker_entry stranger = {.end_layer = c->n_layers};
    shipping_find_sources(s, host, &registry, &stranger, &load, &sources);
    load.n_sources = sources.n;
    load.sources = sources.list;
    double before_s = processor_s();
    int64_t start_us = clock_now_us();
    int failed = run_peers(peers, n);
    double seconds = (double)(clock_now_us() - start_us) / 1e6, gb = (double)bytes / 1e9;
    printf("%d worker%s: %.2f s, %.3f GB/s each, %.3f GB/s in all, %.2f s of processor for a GB; "
           "the coordinator sent %.2f x the content\n",
           n, n == 1 ? "" : "s", seconds, gb / seconds, gb * n / seconds,
           (processor_s() - before_s) / (gb * n), (double)shipping_sent_bytes(s) / (double)bytes);
    return failed;
}

int main(int argc, char **argv)
{
    struct setup setup;
    struct err err;
    struct weight_file *f;
    struct manifest m;
    struct model_config c;
    content_keep_memory();
    if (!read_setup(&setup, argc, argv)) {
        fprintf(stderr, "usage: measure_ship [--workers N] [--threads N] [--cache FOLDER] [--keys] "
                        "[--hosts NAME=ADDRESS,...] MODEL\n");
        return 1;
    }
    if (weight_file_open(&f, setup.model, &err) != 0 || model_config_read(&c, f, &err) != 0)
        fail(&err);
    int64_t start_us = clock_now_us(), bytes = 0;
    if (manifest_compute(&m, f, NULL, NULL, NULL, &err) != 0)
        fail(&err);
    for (size_t i = 0; i < m.n_tensors; i++)
        bytes += (int64_t)weight_file_tensor(f, i)->bytes;
    printf("hashing: %.2f GB/s\n", (double)bytes / (double)(clock_now_us() - start_us) / 1e3);
    int failed = measure(&setup, f, &m, &c, bytes);
    fflush(stdout);
    _exit(failed ? 1 : 0); /* what is mapped and bound ends with the process */
}
