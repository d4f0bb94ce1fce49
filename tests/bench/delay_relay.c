/* delay_relay.c - a TCP relay that passes on every byte a fixed time after it came, both ways.
 *   delay_relay LISTEN_HOST:PORT TARGET_HOST:PORT MICROSECONDS
 * The time is added to that of the connection itself; the rate is not limited, but for 64 MiB that
 * may be under way in each direction. It ends with a signal. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define PIECE     ((size_t)256 << 10)
#define UNDER_WAY ((size_t)64 << 20)

/* What one recv() gave. */
struct piece {
    struct piece *next;
    int64_t due_ns;
    size_t length, taken;
    char bytes[];
};

struct direction {
    int from, to;
    struct piece *first, *last;
    size_t under_way;
    bool has_ended; /* `from` will send nothing more */
    bool is_closed; /* and `to` has been told */
};

struct link {
    struct link *next;
    struct direction there, back;
};

struct relay {
    int listener, epoll, timer;
    int64_t delay_ns;
    struct sockaddr_in target;
    struct link *links;
    char buffer[PIECE];
};

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "delay_relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static struct sockaddr_in read_address(const char *text)
{
    char host[64];
    int port;
    struct sockaddr_in a = {.sin_family = AF_INET};
    if (sscanf(text, "%63[0-9.]:%d", host, &port) != 2 || port < 0 || port > 65535 ||
        inet_pton(AF_INET, host, &a.sin_addr) != 1) {
        fprintf(stderr, "delay_relay: '%s' is not an IPv4 address and a port\n", text);
        exit(2);
    }
    a.sin_port = htons((uint16_t)port);
    return a;
}

static void watch(struct relay *r, int fd)
{
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.fd = fd};
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &e) != 0)
        fail("epoll_ctl");
}

static void accept_all(struct relay *r)
{
    for (int near; (near = accept4(r->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
        int far = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct link *l = calloc(1, sizeof *l);
        if (far < 0 || !l)
            fail("a connection");
        if (connect(far, (struct sockaddr *)&r->target, sizeof r->target) != 0) {
            close(near); /* the other side tries again */
            close(far);
            free(l);
            continue;
        }
        l->there = (struct direction){.from = near, .to = far};
        l->back = (struct direction){.from = far, .to = near};
        l->next = r->links;
        r->links = l;
        watch(r, near);
        watch(r, far);
    }
}

static void take_in(struct relay *r, struct direction *d)
{
    while (!d->has_ended && d->under_way < UNDER_WAY) {
        ssize_t n = recv(d->from, r->buffer, sizeof r->buffer, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            d->has_ended = true;
            return;
        }
        struct piece *p = malloc(sizeof *p + (size_t)n);
        if (!p)
            fail("a piece");
        *p = (struct piece){.due_ns = now_ns() + r->delay_ns, .length = (size_t)n};
        memcpy(p->bytes, r->buffer, (size_t)n);
        if (d->first)
            d->last->next = p;
        else
            d->first = p;
        d->last = p;
        d->under_way += (size_t)n;
    }
}

static void drop_first(struct direction *d)
{
    struct piece *p = d->first;
    d->first = p->next;
    d->under_way -= p->length;
    free(p);
}

/* Sends what is due. Returns when the next piece will be, INT64_MAX when none waits for time. */
static int64_t let_out(struct direction *d)
{
    for (struct piece *p; (p = d->first);) {
        if (p->due_ns > now_ns())
            return p->due_ns;
        ssize_t n =
            send(d->to, p->bytes + p->taken, p->length - p->taken, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return INT64_MAX; /* the socket tells when it takes more */
        if (n < 0) {
            d->has_ended = true;
            while (d->first)
                drop_first(d);
            break;
        }
        p->taken += (size_t)n;
        if (p->taken == p->length)
            drop_first(d);
    }
    if (d->has_ended && !d->is_closed) {
        shutdown(d->to, SHUT_WR);
        d->is_closed = true;
    }
    return INT64_MAX;
}

/* All links in turn: there are a handful. */
static void serve_links(struct relay *r)
{
    int64_t next_ns = INT64_MAX;
    for (struct link **at = &r->links, *l; (l = *at);) {
        struct direction *both[] = {&l->there, &l->back};
        for (int i = 0; i < 2; i++) {
            take_in(r, both[i]);
            int64_t due = let_out(both[i]);
            next_ns = due < next_ns ? due : next_ns;
        }
        if (!l->there.is_closed || !l->back.is_closed) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        close(l->there.from);
        close(l->there.to);
        free(l);
    }
    struct itimerspec when = {0};
    if (next_ns != INT64_MAX)
        when.it_value = (struct timespec){next_ns / 1000000000, next_ns % 1000000000};
    if (timerfd_settime(r->timer, TFD_TIMER_ABSTIME, &when, NULL) != 0)
        fail("timerfd_settime");
}

int main(int argc, char **argv)
{
    static struct relay r;
    if (argc != 4) {
        fprintf(stderr, "usage: delay_relay LISTEN_HOST:PORT TARGET_HOST:PORT MICROSECONDS\n");
        return 1;
    }
    struct sockaddr_in own = read_address(argv[1]);
    const int on = 1;
    r.target = read_address(argv[2]);
    r.delay_ns = strtoll(argv[3], NULL, 10) * 1000;
    prctl(PR_SET_TIMERSLACK, 1UL); /* else a wait may be 50 us longer */
    r.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    r.epoll = epoll_create1(EPOLL_CLOEXEC);
    r.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (r.listener < 0 || r.epoll < 0 || r.timer < 0)
        fail("descriptors");
    setsockopt(r.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(r.listener, (struct sockaddr *)&own, sizeof own) != 0 || listen(r.listener, 16) != 0)
        fail(argv[1]);
    struct epoll_event e = {.events = EPOLLIN, .data.fd = r.listener};
    epoll_ctl(r.epoll, EPOLL_CTL_ADD, r.listener, &e);
    e.data.fd = r.timer;
    epoll_ctl(r.epoll, EPOLL_CTL_ADD, r.timer, &e);
    for (;;) {
        struct epoll_event events[16];
        uint64_t expirations;
        if (epoll_wait(r.epoll, events, 16, -1) < 0 && errno != EINTR)
            fail("epoll_wait");
        if (read(r.timer, &expirations, sizeof expirations) < 0 && errno != EAGAIN)
            fail("timer");
        accept_all(&r);
        serve_links(&r);
    }
}
