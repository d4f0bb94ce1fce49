#include "worker/owner.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef HAVE_SYSTEMD
#include <systemd/sd-bus.h>
#endif

#define PROBE_MOST_MS 1000
/* logind is asked over a bus that other programs use as well. */
#define SESSION_EVERY_MS 500

extern char **environ;

struct owner {
    const char *probe;
    uint64_t busy, total, own; /* clock ticks at the last look */
    bool has_looked, probe_was_slow;
#ifdef HAVE_SYSTEMD
    sd_bus *bus; /* NULL: none */
#endif
    enum owner_word session;
    int64_t session_ms; /* when it was asked */
};

int owner_open(struct owner **ret_owner, const char *probe, struct err *err)
{
    struct owner *o = calloc(1, sizeof *o);
    if (!o)
        return err_set(err, ERR_MEMORY, "no memory to look for the owner");
    o->probe = probe;
    *ret_owner = o;
    return 0;
}

void owner_close(struct owner *o)
{
    if (!o)
        return;
#ifdef HAVE_SYSTEMD
    sd_bus_unref(o->bus);
#endif
    free(o);
}

/* proc(5): user nice system idle iowait irq softirq steal, of all processors */
static bool owner_read_machine(uint64_t *ret_busy, uint64_t *ret_total)
{
    unsigned long long t[8] = {0};
    FILE *f = fopen("/proc/stat", "re");
    if (!f)
        return false;
    int n = fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3],
                   &t[4], &t[5], &t[6], &t[7]);
    fclose(f);
    if (n < 4)
        return false;
    *ret_busy = t[0] + t[1] + t[2] + t[5] + t[6];
    *ret_total = *ret_busy + t[3] + t[4] + t[7];
    return true;
}

static uint64_t owner_read_own(void)
{
    unsigned long long user = 0, system = 0;
    char text[1024];
    FILE *f = fopen("/proc/self/stat", "re");
    if (!f)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    const char *after = strrchr(text, ')'); /* the name may hold anything */
    if (after)
        sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system);
    return user + system;
}

static double owner_others_load(struct owner *o)
{
    uint64_t busy, total, own = owner_read_own();
    if (!owner_read_machine(&busy, &total))
        return 0;
    double span = (double)(total - o->total);
    double others = (double)(busy - o->busy) - (double)(own - o->own);
    bool known = o->has_looked && span > 0;
    o->busy = busy;
    o->total = total;
    o->own = own;
    o->has_looked = true;
    return known && others > 0 ? others / span : 0;
}

/* A bus that does not answer is opened anew the next time: it may have been restarted. */
static enum owner_word owner_ask_session(struct owner *o)
{
#ifdef HAVE_SYSTEMD
    int is_idle = 0;
    int64_t now = clock_now_ms();
    if (o->session_ms && now - o->session_ms < SESSION_EVERY_MS)
        return o->session;
    o->session_ms = now;
    if (!o->bus && sd_bus_open_system(&o->bus) < 0)
        o->bus = NULL;
    int rc = !o->bus ? -1
                     : sd_bus_get_property_trivial(
                           o->bus, "org.freedesktop.login1", "/org/freedesktop/login1",
                           "org.freedesktop.login1.Manager", "IdleHint", NULL, 'b', &is_idle);
    if (rc < 0)
        o->bus = sd_bus_unref(o->bus);
    o->session = rc < 0 ? OWNER_UNKNOWN : is_idle ? OWNER_IS_AWAY : OWNER_IS_THERE;
    return o->session;
#else
    (void)o;
    return OWNER_UNKNOWN;
#endif
}

/* A command that does not end in time says nothing, and is killed with all that it started. */
static enum owner_word owner_run_probe(struct owner *o)
{
    char *const arguments[] = {(char *)"sh", (char *)"-c", (char *)o->probe, NULL};
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t pid;
    int status = 0, ended;
    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setpgroup(&attributes, 0);
    posix_spawnattr_setsigmask(&attributes, &none);
    int failed = posix_spawn(&pid, "/bin/sh", NULL, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    if (failed)
        return OWNER_UNKNOWN;
    int64_t begin_ms = clock_now_ms();
    while ((ended = waitpid(pid, &status, WNOHANG)) == 0) {
        if (clock_now_ms() - begin_ms > PROBE_MOST_MS) {
            kill(-pid, SIGKILL);
            waitpid(pid, &status, 0);
            if (!o->probe_was_slow)
                log_warning("idle-probe takes longer than %d ms and is not believed: %s",
                            PROBE_MOST_MS, o->probe);
            o->probe_was_slow = true;
            return OWNER_UNKNOWN;
        }
        poll(NULL, 0, 5);
    }
    if (ended < 0) /* whoever started this worker ignores SIGCHLD, and so do we: no code is kept */
        return OWNER_UNKNOWN;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? OWNER_IS_AWAY : OWNER_IS_THERE;
}

void owner_look(struct owner *o, struct owner_sample *ret_sample)
{
    *ret_sample = (struct owner_sample){
        .others_load = owner_others_load(o),
        .session = owner_ask_session(o),
        .probe = o->probe ? owner_run_probe(o) : OWNER_UNKNOWN,
    };
}
