#include "worker/placement.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct placement_core {
    int processor; /* the system's number of the core's first one */
    int efficiency, order;
    int claim; /* a bound socket, or -1 */
};

struct placement {
    char claims[64];
    int quota; /* 0: none */
    int n_numa_nodes;
    int n_cores, n_claimed;
    struct placement_core *cores; /* fastest first */
    int *claimed;                 /* [n_claimed] indices of cores */
};

/* ---- quotas ---- */

int placement_read_quota(const char *text)
{
    long long quota, period;
    if (sscanf(text, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0)
        return 0;
    const long long whole = quota / period;
    return whole < 1 ? 1 : whole > 1 << 20 ? 0 : (int)whole;
}

static bool placement_read_file(const char *path, char *to, size_t size)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    const size_t n = fread(to, 1, size - 1, f);
    to[n] = '\0';
    fclose(f);
    return n > 0;
}

static int placement_quota_of(const char *folder, bool v2)
{
    char path[4200], text[64];
    snprintf(path, sizeof path, "%s/%s", folder, v2 ? "cpu.max" : "cpu.cfs_quota_us");
    if (!placement_read_file(path, text, sizeof text))
        return 0;
    if (!v2) {
        char both[160], period[64];
        snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
        if (!placement_read_file(path, period, sizeof period))
            return 0;
        snprintf(both, sizeof both, "%s %s", text, period);
        return placement_read_quota(both);
    }
    return placement_read_quota(text);
}

/* The tightest quota of the process's control group and those above it. Version 2 is the line
 * "0::/path"; version 1 has a line "5:cpu,cpuacct:/path". */
static int placement_quota(void)
{
    char text[4096];
    int least = 0;
    if (!placement_read_file("/proc/self/cgroup", text, sizeof text))
        return 0;
    char *rest = NULL;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const bool v2 = strncmp(line, "0::", 3) == 0;
        char *group = strrchr(line, ':');
        if (!group ||
            (!v2 && !strstr(line, ":cpu,") && !strstr(line, ":cpu:") && !strstr(line, ",cpu:")))
            continue;
        char folder[4160];
        const char *root = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
        int n = snprintf(folder, sizeof folder, "%s%s", root, group + 1);
        while (n >= (int)strlen(root)) {
            const int quota = placement_quota_of(folder, v2);
            least = quota && (!least || quota < least) ? quota : least;
            char *slash = strrchr(folder, '/');
            n = (int)(slash - folder);
            *slash = '\0';
        }
    }
    return least;
}

/* ---- cores ---- */

static int placement_compare(const void *a, const void *b)
{
    const struct placement_core *x = a, *y = b;
    return x->efficiency != y->efficiency ? (x->efficiency < y->efficiency ? 1 : -1)
                                          : x->order - y->order;
}

/* How fast hwloc ranks the kind of core; 0 where all are alike or nobody knows. */
static int placement_efficiency(hwloc_topology_t t, hwloc_const_cpuset_t set)
{
    int efficiency = 0;
    const int kind = hwloc_cpukinds_get_by_cpuset(t, set, 0);
    if (kind < 0 || hwloc_cpukinds_get_info(t, (unsigned)kind, NULL, &efficiency, NULL, NULL, 0))
        return 0;
    return efficiency > 0 ? efficiency : 0;
}

static int placement_find_cores(struct placement *p, hwloc_topology_t t, struct err *err)
{
    /* Machines that tell nothing of cores have processors. */
    const hwloc_obj_type_t type =
        hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_CORE) > 0 ? HWLOC_OBJ_CORE : HWLOC_OBJ_PU;
    const int n = hwloc_get_nbobjs_by_type(t, type);
    p->cores = calloc((size_t)n + 1, sizeof *p->cores);
    p->claimed = calloc((size_t)n + 1, sizeof *p->claimed);
    if (!p->cores || !p->claimed)
        return err_set(err, ERR_MEMORY, "no memory for a table of %d cores", n);
    for (int i = 0; i < n; i++) {
        const hwloc_obj_t core = hwloc_get_obj_by_type(t, type, (unsigned)i);
        const int processor = hwloc_bitmap_first(core->cpuset);
        if (processor >= 0)
            p->cores[p->n_cores++] =
                (struct placement_core){processor, placement_efficiency(t, core->cpuset), i, -1};
    }
    p->n_numa_nodes = hwloc_get_nbobjs_by_type(t, HWLOC_OBJ_NUMANODE);
    if (p->n_cores == 0)
        return err_set(err, ERR_INTERNAL, "the system names no processor for this process");
    qsort(p->cores, (size_t)p->n_cores, sizeof *p->cores, placement_compare);
    return 0;
}

static int placement_this_machine(hwloc_topology_t *ret_topology, struct err *err)
{
    hwloc_topology_t t;
    if (hwloc_topology_init(&t) != 0)
        return err_set(err, ERR_MEMORY, "no memory for the machine's topology");
    hwloc_topology_set_flags(t, HWLOC_TOPOLOGY_FLAG_IS_THISSYSTEM |
                                    HWLOC_TOPOLOGY_FLAG_RESTRICT_TO_CPUBINDING);
    if (hwloc_topology_load(t) != 0) {
        hwloc_topology_destroy(t);
        return err_set(err, ERR_INTERNAL, "the machine's topology cannot be read: %s",
                       strerror(errno));
    }
    *ret_topology = t;
    return 0;
}

int placement_open(struct placement **ret_placement, const struct placement_spec *spec,
                   struct err *err)
{
    struct placement *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ERR_MEMORY, "no memory for the placement of threads");
    hwloc_topology_t t = spec->topology;
    int rc = t ? 0 : placement_this_machine(&t, err);
    if (rc == 0) {
        snprintf(p->claims, sizeof p->claims, "%s",
                 spec->claims ? spec->claims : "paceline/processor");
        p->quota = spec->topology ? 0 : placement_quota();
        rc = placement_find_cores(p, t, err);
        if (!spec->topology)
            hwloc_topology_destroy(t);
    }
    if (rc == 0) {
        *ret_placement = p;
        p = NULL;
    }
    placement_close(p);
    return rc;
}

void placement_close(struct placement *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_cores; i++)
        if (p->cores[i].claim >= 0)
            close(p->cores[i].claim);
    free(p->cores);
    free(p->claimed);
    free(p);
}

int placement_default_threads(const struct placement *p)
{
    return p->quota && p->quota < p->n_cores ? p->quota : p->n_cores;
}

int placement_cores(const struct placement *p)
{
    return p->n_cores;
}

int placement_efficient_cores(const struct placement *p)
{
    int n = 0;
    for (int i = 0; i < p->n_cores; i++)
        n += p->cores[i].efficiency < p->cores[0].efficiency;
    return n;
}

int placement_numa_nodes(const struct placement *p)
{
    return p->n_numa_nodes;
}

int placement_processor(const struct placement *p, int i)
{
    return p->cores[i].processor;
}

/* ---- claims ---- */

/* A name in the abstract namespace begins with a zero byte, and has no file. -1: taken. */
static int placement_bind(const struct placement *p, int processor)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int n =
        snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "%s/%d", p->claims, processor);
    const int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (s < 0)
        return -1;
    const size_t size = offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n;
    if (bind(s, (const struct sockaddr *)&address, (socklen_t)size) == 0)
        return s;
    close(s);
    return -1;
}

int placement_claim(struct placement *p, int n)
{
    for (int i = 0; i < p->n_cores && p->n_claimed < n; i++) {
        struct placement_core *core = &p->cores[i];
        if (core->claim >= 0)
            continue;
        core->claim = placement_bind(p, core->processor);
        if (core->claim >= 0)
            p->claimed[p->n_claimed++] = i;
    }
    return p->n_claimed;
}

bool placement_pin(const struct placement *p, int thread)
{
    if (thread >= p->n_claimed)
        return true;
    const int processor = p->cores[p->claimed[thread]].processor;
    cpu_set_t *set = CPU_ALLOC((size_t)processor + 1);
    if (!set)
        return false;
    const size_t size = CPU_ALLOC_SIZE((size_t)processor + 1);
    CPU_ZERO_S(size, set);
    CPU_SET_S((size_t)processor, size, set);
    const bool ok = sched_setaffinity(0, size, set) == 0;
    CPU_FREE(set);
    return ok;
}
