#include "cli/cluster_options.h"

#include <inttypes.h>

const char *const cluster_options_kv[] = {"f16", "f32", "q8_0", NULL};
const char *const cluster_options_switch[] = {"on", "off", NULL};

int cluster_options_check(const struct cluster_options *o, struct err *err)
{
    if (!o->cuts || !*o->cuts)
        return 0;
    int64_t stages = 2;
    for (const char *p = o->cuts; *p; p++)
        stages += *p == ',';
    if (stages > CLUSTER_WORKERS_MAX)
        return err_set_param(err, ERR_USAGE, "cuts",
                             "--cuts makes %" PRId64 " stages; at most %d are possible", stages,
                             CLUSTER_WORKERS_MAX);
    if (o->workers && o->workers != stages)
        return err_set_param(err, ERR_USAGE, "cuts",
                             "--cuts %.80s makes %" PRId64 " workers, but --workers says %" PRId64
                             "; leave one of the two out",
                             o->cuts, stages, o->workers);
    return 0;
}

struct local_cluster_settings cluster_options_settings(const struct cluster_options *o,
                                                       const char *model_path)
{
    return (struct local_cluster_settings){.model = model_path,
                                           .workers = o->workers,
                                           .threads = o->threads,
                                           .queue = -1, /* none may wait: 0 */
                                           .kv = cluster_options_kv[o->kv],
                                           .cuts = o->cuts,
                                           .encryption = o->encryption == 0,
                                           .verbose = o->verbose};
}
