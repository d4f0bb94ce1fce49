#include "worker/worker_numa.h"

#include "base/log.h"

#include <errno.h>
#include <hwloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct numa {
    hwloc_topology_t topology;
    int n; /* nodes, and children once they run */
    pid_t *children;
    int n_alive;
    bool stopping;
    int failed; /* exit status of the first that failed */
};

/* Nodes with processors that this process may use. */
static int numa_count(hwloc_topology_t t)
{
    int n = 0;
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, o));)
        n += !hwloc_bitmap_iszero(o->cpuset);
    return n;
}

static hwloc_obj_t numa_node(hwloc_topology_t t, int index)
{
    for (hwloc_obj_t o = NULL; (o = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, o));)
        if (!hwloc_bitmap_iszero(o->cpuset) && index-- == 0)
            return o;
    return NULL;
}

/* In the child. Memory follows the threads where it cannot be bound. */
static int numa_become(const struct numa *m, int index, struct worker_settings *s, struct err *err)
{
    const hwloc_obj_t node = numa_node(m->topology, index);
    if (hwloc_set_cpubind(m->topology, node->cpuset, HWLOC_CPUBIND_PROCESS) != 0)
        return err_set(err, ERR_INTERNAL, "NUMA node %u: its processors cannot be bound to: %s",
                       node->os_index, strerror(errno));
    if (hwloc_set_membind(m->topology, node->nodeset, HWLOC_MEMBIND_BIND,
                          HWLOC_MEMBIND_BYNODESET | HWLOC_MEMBIND_PROCESS) != 0)
        log_warning("NUMA node %u: memory cannot be bound to it: %s", node->os_index,
                    strerror(errno));
    char name[300];
    snprintf(name, sizeof name, "%s-%d", s->name, index);
    char *copy = strdup(name);
    if (!copy)
        return err_set(err, ERR_MEMORY, "no memory for settings");
    free(s->name);
    s->name = copy;
    s->memory_bytes /= m->n;
    if (s->data && s->data_port)
        s->data_port += index;
    if (s->advertise && s->advertise_port)
        s->advertise_port += index;
    s->is_child = true;
    return 0;
}

static void numa_tell(const struct numa *m, int signal_number)
{
    for (int i = 0; i < m->n; i++)
        if (m->children[i] > 0)
            kill(m->children[i], signal_number);
}

static void numa_reap(struct numa *m, const char *name)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        int index = 0;
        while (index < m->n && m->children[index] != pid)
            index++;
        if (index == m->n)
            continue;
        m->children[index] = 0;
        m->n_alive--;
        const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
        if (WIFSIGNALED(status))
            log_error("worker %s-%d was ended by signal %d", name, index, WTERMSIG(status));
        if (code && !m->failed)
            m->failed = code;
        if (!m->stopping)
            numa_tell(m, SIGTERM);
        m->stopping = true;
    }
}

/* The error that has this exit status: what failed was said by the child. */
static int numa_code(int status)
{
    static const int codes[] = {ERR_NONE,  ERR_INTERNAL, ERR_CONFIG,
                                ERR_MODEL, ERR_NETWORK,  ERR_MEMORY};
    return status < (int)(sizeof codes / sizeof *codes) ? codes[status] : ERR_INTERNAL;
}

/* Children are a process group each, so that a terminal's Ctrl-C reaches them through us alone: a
 * second signal would end them at once. */
static int numa_start(struct numa *m, struct worker_settings *s, bool *ret_is_parent,
                      struct err *err)
{
    const pid_t parent = getpid();
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    *ret_is_parent = true;
    for (int i = 0; i < m->n; i++) {
        const pid_t pid = fork();
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            if (getppid() != parent)
                _exit(1);
            setpgid(0, 0);
            /* The others stay blocked until the worker reads them: none is lost, none kills. */
            sigprocmask(SIG_UNBLOCK, &child, NULL);
            *ret_is_parent = false;
            return numa_become(m, i, s, err);
        }
        if (pid < 0) {
            m->stopping = true;
            m->failed = 5;
            log_error("worker %s-%d: %s", s->name, i, strerror(errno));
            numa_tell(m, SIGTERM);
            return 0;
        }
        m->children[i] = pid;
        m->n_alive++;
    }
    return 0;
}

static int numa_watch(struct numa *m, const char *name, const sigset_t *set)
{
    while (m->n_alive > 0) {
        siginfo_t info;
        if (sigwaitinfo(set, &info) < 0)
            continue;
        if (info.si_signo != SIGCHLD) {
            m->stopping = true;
            numa_tell(m, info.si_signo);
        }
        numa_reap(m, name);
    }
    return numa_code(m->failed);
}

static int numa_run(struct numa *m, struct worker_settings *s, bool *ret_is_parent, struct err *err)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int rc = numa_start(m, s, ret_is_parent, err);
    if (*ret_is_parent) {
        log_info("%d NUMA nodes: a worker for each", m->n);
        rc = numa_watch(m, s->name, &set);
    }
    return rc;
}

int worker_numa(struct worker_settings *settings, bool *ret_is_parent, struct err *err)
{
    struct numa m = {0};
    *ret_is_parent = false;
    if (hwloc_topology_init(&m.topology) != 0)
        return err_set(err, ERR_MEMORY, "no memory for the machine's topology");
    hwloc_topology_set_flags(m.topology, HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM |
                                             HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING);
    int rc = 0;
    if (hwloc_topology_load(m.topology) != 0)
        rc = err_set(err, ERR_INTERNAL, "the machine's topology cannot be read: %s",
                     strerror(errno));
    if (rc == 0 && (m.n = numa_count(m.topology)) > 1) {
        m.children = calloc((size_t)m.n, sizeof *m.children);
        rc = m.children ? numa_run(&m, settings, ret_is_parent, err)
                        : err_set(err, ERR_MEMORY, "no memory for %d workers", m.n);
    }
    free(m.children);
    hwloc_topology_destroy(m.topology);
    return rc;
}
