/* What ZeroMQ alone takes for the road of a step: a head and N stages as processes, connected as
 * coordinator and workers are, each stage reading memory for a while and sending on a message of
 * as many bytes. Round trip less all computing, by the number of hops. */
#include "base/clock.h"
#include "proto/data_link.h"
#include "proto/wire.h"

#include <arpa/inet.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_STAGES   16
#define MEMORY_BYTES ((size_t)64 << 20)
#define WARM_UP      20

struct measured {
    int n_stages, compute_us, n_rounds;
    size_t bytes;
    int ports[MAX_STAGES + 1]; /* of the stages, of the head */
};

static void give_up(const char *what)
{
    perror(what);
    exit(1);
}

static void fail(const struct err *err)
{
    fprintf(stderr, "measure_wire: %s\n", err->text);
    exit(1);
}

/* Nobody else takes it in the instant between this and the stage's own bind, or it says so. */
static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        give_up("a free port");
    close(fd);
    return ntohs(address.sin_port);
}

static void open_ends(const struct measured *m, int at, void **ret_in, void **ret_out)
{
    struct err err = {0};
    void *context = zmq_ctx_new();
    char next[64];
    int port;
    snprintf(next, sizeof next, "tcp://127.0.0.1:%d", m->ports[at == m->n_stages ? 0 : at + 1]);
    if (!context)
        give_up("zmq_ctx_new");
    if (wire_socket(ret_in, context, ZMQ_PULL, NULL, &err) != 0 ||
        wire_socket(ret_out, context, ZMQ_PUSH, NULL, &err) != 0 ||
        wire_bind(*ret_in, "127.0.0.1", m->ports[at], &port, &err) != 0)
        fail(&err);
    if (zmq_connect(*ret_out, next) != 0)
        give_up(next);
}

static void send_on(void *socket, const void *bytes, size_t size)
{
    struct err err = {0};
    zmq_msg_t envelope, frame;
    if (wire_frame(&envelope, bytes, 64, &err) != 0 || wire_frame(&frame, bytes, size, &err) != 0 ||
        data_link_send(socket, &envelope, &frame, true, &err) != 0)
        fail(&err);
}

static void wait_for(void *socket)
{
    struct err err = {0};
    zmq_msg_t envelope, frame;
    zmq_pollitem_t item = {.socket = socket, .events = ZMQ_POLLIN};
    zmq_poll(&item, 1, -1);
    if (data_link_receive(socket, &envelope, &frame, true, &err) != 1)
        fail(&err);
    zmq_msg_close(&envelope);
    zmq_msg_close(&frame);
}

/* Reads memory for m->compute_us: as a stage does, it leaves nothing of others in the caches. */
static uint64_t compute(const struct measured *m, const uint64_t *memory, size_t *at)
{
    uint64_t sum = 0;
    for (int64_t end = clock_now_us() + m->compute_us; clock_now_us() < end;)
        for (int i = 0; i < 1024; i++, *at = (*at + 8) % (MEMORY_BYTES / sizeof *memory))
            sum += memory[*at];
    return sum;
}

static void be_stage(const struct measured *m, int stage)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    void *in, *out;
    open_ends(m, stage, &in, &out);
    cpu_set_t cores;
    CPU_ZERO(&cores);
    CPU_SET(stage % (int)sysconf(_SC_NPROCESSORS_ONLN), &cores);
    sched_setaffinity(0, sizeof cores, &cores); /* libzmq's threads may still run anywhere */
    uint64_t *memory = malloc(MEMORY_BYTES);
    size_t at = 0;
    if (!memory)
        give_up("memory");
    memset(memory, 1, MEMORY_BYTES);
    for (;;) {
        wait_for(in);
        int64_t begin = clock_now_us();
        memory[0] += compute(m, memory, &at);
        memory[1] = (uint64_t)(clock_now_us() - begin);
        send_on(out, memory, m->bytes);
    }
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void measure(const struct measured *m)
{
    void *in, *out;
    open_ends(m, m->n_stages, &in, &out);
    int n_hops = m->n_stages + 1, n = m->n_rounds;
    int64_t *over = calloc((size_t)n, sizeof *over);
    char first[64] = {0};
    if (!over)
        give_up("memory");
    for (int i = -WARM_UP; i < n; i++) {
        int64_t begin = clock_now_us();
        send_on(out, first, 0);
        wait_for(in);
        if (i >= 0)
            over[i] = clock_now_us() - begin - (int64_t)m->n_stages * m->compute_us;
    }
    qsort(over, (size_t)n, sizeof *over, by_value);
    printf("%d hops of %zu bytes, %d us of computing a stage: %.0f us a hop in the median (5 %%: "
           "%.0f, 95 %%: %.0f)\n",
           n_hops, m->bytes, m->compute_us, (double)over[n / 2] / n_hops,
           (double)over[n / 20] / n_hops, (double)over[n * 19 / 20] / n_hops);
    free(over);
}

int main(int argc, char **argv)
{
    struct measured m = {.n_stages = 2, .compute_us = 15000, .bytes = 3584, .n_rounds = 200};
    if (argc > 1 && argc != 5) {
        fprintf(stderr, "usage: measure_wire [STAGES COMPUTE_US BYTES ROUNDS]\n");
        return 1;
    }
    if (argc == 5) {
        m.n_stages = atoi(argv[1]);
        m.compute_us = atoi(argv[2]);
        m.bytes = (size_t)atol(argv[3]);
        m.n_rounds = atoi(argv[4]);
    }
    if (m.n_stages < 1 || m.n_stages > MAX_STAGES || m.compute_us < 0 || m.n_rounds < 1 ||
        m.bytes > MEMORY_BYTES) {
        fprintf(stderr, "measure_wire: 1 to %d stages, at least one round\n", MAX_STAGES);
        return 1;
    }
    pid_t children[MAX_STAGES];
    for (int i = 0; i <= m.n_stages; i++)
        m.ports[i] = free_port();
    for (int i = 0; i < m.n_stages; i++) {
        children[i] = fork();
        if (children[i] < 0)
            give_up("fork");
        if (children[i] == 0)
            be_stage(&m, i);
    }
    measure(&m);
    for (int i = 0; i < m.n_stages; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    return 0;
}
