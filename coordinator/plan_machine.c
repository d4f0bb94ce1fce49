#include "coordinator/plan_machine.h"

#include <math.h>
#include <stdio.h>

#define GIB 1073741824.0

const struct plan_figure_rule plan_figure_rules[PLAN_FIGURES] = {
    [PLAN_COUNT] = {"count", 1, 1, PLAN_MACHINES, true},
    [PLAN_MEMORY_GIB] = {"memory_gib", NAN, 0.001, 1e6, false},
    [PLAN_READ_GB] = {"read_gb_per_s", NAN, 0.001, 1e5, false},
    [PLAN_INT8_GOPS] = {"int8_gops", NAN, 0.001, 1e7, false},
    [PLAN_LINK_MBIT] = {"link_mbit_per_s", 1000, 0.001, 1e7, false},
    [PLAN_LINK_MS] = {"link_ms", 0.2, 0, 1e5, false},
    [PLAN_THREADS] = {"threads", 8, 1, 1024, true},
};

bool plan_figure_fits(enum plan_figure f, double value)
{
    const struct plan_figure_rule *rule = &plan_figure_rules[f];
    return value >= rule->least && value <= rule->most && (!rule->is_whole || value == rint(value));
}

void plan_machine_describe(struct plan_machine_kind *ret_kind, const char *name, int number,
                           const double figures[PLAN_FIGURES])
{
    *ret_kind = (struct plan_machine_kind){
        .count = (int)figures[PLAN_COUNT],
        .memory_bytes = figures[PLAN_MEMORY_GIB] * GIB,
        .read_bytes = figures[PLAN_READ_GB] * 1e9,
        .int8_ops = figures[PLAN_INT8_GOPS] * 1e9,
        .link_bytes = figures[PLAN_LINK_MBIT] * 1e6 / 8,
        .link_s = figures[PLAN_LINK_MS] / 1000,
        .threads = (int)figures[PLAN_THREADS],
    };
    if (name && *name)
        snprintf(ret_kind->name, sizeof ret_kind->name, "%s", name);
    else
        snprintf(ret_kind->name, sizeof ret_kind->name, "machine%d", number);
}

int plan_machines_count(const struct plan_machines *m)
{
    int n = 0;
    for (int i = 0; i < m->n_kinds; i++)
        n += m->kinds[i].count;
    return n;
}
