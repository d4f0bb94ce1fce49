/* worker_main.c - paceline-worker: options, where threads run, exit code. */
#include "base/log.h"
#include "worker/content.h"
#include "worker/memory_limits.h"
#include "worker/placement.h"
#include "worker/worker.h"
#include "worker/worker_join.h"
#include "worker/worker_measure.h"
#include "worker/worker_numa.h"
#include "worker/worker_settings.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* Where threads outnumber the cores that are theirs, waiting must not spin: it takes time from who
 * is waited for. The OpenMP runtime reads its policy before main() begins, so the program begins
 * once more, unless somebody chose a policy. When that fails, only time is lost. */
static void main_wait_asleep(char **argv)
{
    char path[4096];
    const ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n <= 0 || getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT") ||
        setenv("OMP_WAIT_POLICY", "passive", 1) != 0)
        return;
    path[n] = '\0';
    execv(path, argv);
    log_debug("threads that wait will spin: %s cannot be started anew", path);
}

static int main_place(struct placement **ret_placement, struct worker_settings *s, char **argv,
                      struct err *err)
{
    int rc = placement_open(ret_placement, &(struct placement_spec){0}, err);
    if (rc != 0)
        return rc;
    if (!s->threads)
        s->threads = placement_default_threads(*ret_placement);
    const int claimed = placement_claim(*ret_placement, (int)s->threads);
    log_debug("%lld threads, %d of %d cores claimed", (long long)s->threads, claimed,
              placement_cores(*ret_placement));
    if (s->threads > 1 && claimed < s->threads && !s->is_child)
        main_wait_asleep(argv);
    return 0;
}

/* Whoever offers what is not there would be given layers, and end of it. */
static void main_bound_memory(struct worker_settings *s)
{
    const int64_t total = memory_limits_read("").total;
    if (total <= 0 || s->memory_bytes <= total)
        return;
    log_warning("memory of %.1f GiB is not to be had here: %.1f GiB are offered, which is all",
                (double)s->memory_bytes / (1 << 30), (double)total / (1 << 30));
    s->memory_bytes = total;
}

static int main_run(struct worker_settings *s, char **argv, struct err *err)
{
    struct kernels kernels;
    struct placement *placement = NULL;
    if (s->nice && setpriority(PRIO_PROCESS, 0, (int)s->nice) != 0)
        log_warning("nice level %lld: %s", (long long)s->nice, strerror(errno));
    int rc = kernels_select(&kernels, getenv("PACELINE_ISA"), err);
    if (rc == 0)
        rc = main_place(&placement, s, argv, err);
    if (rc == 0) {
        char text[1024];
        kernels_describe(&kernels, text, sizeof text);
        log_debug("kernels: %s", text);
        rc = s->measure ? worker_measure(s, &kernels, placement, err)
                        : worker_run(s, &kernels, placement, err);
    }
    placement_close(placement);
    return rc;
}

int main(int argc, char **argv)
{
    struct worker_settings settings;
    struct err err = {0};
    enum conf_outcome outcome = CONF_RUN;
    content_keep_memory();
    int rc = worker_settings_read(&settings, argc, argv, &outcome, &err);
    if (rc == 0 && outcome == CONF_RUN) {
        log_setup("paceline-worker", settings.verbose ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO,
                  settings.log_format_choice == 1);
        bool is_parent = false;
        main_bound_memory(&settings);
        rc = worker_join(&settings, &err);
        if (rc == 0 && settings.numa)
            rc = worker_numa(&settings, &is_parent, &err);
        if (rc == 0 && !is_parent)
            rc = main_run(&settings, argv, &err);
    }
    if (rc != 0 && err.text[0])
        fprintf(stderr, "paceline-worker: %s\n", err.text);
    worker_settings_clear(&settings);
    return err_exit_code(rc);
}
