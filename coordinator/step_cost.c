#include "coordinator/step_cost.h"

#include <math.h>
#include <stdlib.h>

#define WEIGHT_OF_NEW 0.2 /* in the moving means */
#define HOPS_WINDOW   64  /* steps */

int step_cost_init(struct step_cost *c, int n_stages, struct err *err)
{
    *c = (struct step_cost){.n_stages = n_stages};
    c->points = calloc((size_t)n_stages * STEP_CURVES * STEP_COST_POINTS, sizeof *c->points);
    return c->points ? 0
                     : err_set(err, ERR_MEMORY, "no memory for the costs of %d stages", n_stages);
}

void step_cost_clear(struct step_cost *c)
{
    free(c->points);
    *c = (struct step_cost){0};
}

static struct step_cost_point *step_cost_curve(const struct step_cost *c, int stage,
                                               enum step_curve curve)
{
    return c->points + ((size_t)stage * STEP_CURVES + curve) * STEP_COST_POINTS;
}

/* 1, 2, 3, 4, 6, 8, 12, 16 … each stands for the sizes from it up to the next. */
static int step_cost_index(int rows)
{
    int index = 0;
    for (int size = 1; index < STEP_COST_POINTS - 1; index++) {
        size = size < 4 ? size + 1 : (size & (size - 1)) ? size / 3 * 4 : size / 2 * 3;
        if (rows < size)
            break;
    }
    return index;
}

static void step_cost_add(struct step_cost_point *curve, int rows, double us)
{
    struct step_cost_point *p = &curve[step_cost_index(rows)];
    double weight = p->rows > 0 ? WEIGHT_OF_NEW : 1;
    p->rows += weight * (rows - p->rows);
    p->us += weight * (us - p->us);
}

/* What a step takes that does not grow with its rows: of a decode step nearly all, for it reads
 * the weights once; where two sizes have been seen they say it better. */
static double step_cost_fixed_share(enum step_curve curve)
{
    return curve == STEP_DECODE ? 0.5 : curve == STEP_PREFILL ? 0.1 : 0;
}

static double step_cost_beyond(const struct step_cost_point *p, enum step_curve curve, int rows)
{
    double fixed = step_cost_fixed_share(curve);
    return p->us * (fixed + (1 - fixed) * rows / p->rows);
}

static double step_cost_of_stage(const struct step_cost *c, int stage, enum step_curve curve,
                                 int rows)
{
    const struct step_cost_point *points = step_cost_curve(c, stage, curve), *below = NULL,
                                 *above = NULL;
    for (int i = 0; i < STEP_COST_POINTS && !above; i++) {
        if (!(points[i].rows > 0))
            continue;
        if (points[i].rows <= rows)
            below = &points[i];
        else
            above = &points[i];
    }
    if (below && above)
        return below->us +
               (above->us - below->us) * (rows - below->rows) / (above->rows - below->rows);
    return below   ? step_cost_beyond(below, curve, rows)
           : above ? step_cost_beyond(above, curve, rows)
                   : 0;
}

double step_cost_slowest(const struct step_cost *c, enum step_curve curve, int rows)
{
    double most = 0;
    for (int i = 0; i < c->n_stages; i++)
        most = fmax(most, step_cost_of_stage(c, i, curve, rows));
    return most;
}

double step_cost_sum(const struct step_cost *c, enum step_curve curve, int rows)
{
    double sum = 0;
    for (int i = 0; i < c->n_stages; i++)
        sum += step_cost_of_stage(c, i, curve, rows);
    return sum;
}

/* The least of a window: a busy machine delays some. */
static void step_cost_learn_hops(struct step_cost *c, double us)
{
    if (c->hops_seen == 0 || us < c->hops_next_us)
        c->hops_next_us = us;
    if (c->hops_us > us || !(c->hops_us > 0))
        c->hops_us = us;
    if (++c->hops_seen == HOPS_WINDOW) {
        c->hops_us = c->hops_next_us;
        c->hops_seen = 0;
    }
}

void step_cost_learn(struct step_cost *c, int n_decode_rows, int n_prefill_rows,
                     const uint32_t *stage_us, int64_t round_trip_us)
{
    double sum = 0;
    for (int i = 0; i < c->n_stages; i++) {
        double us = stage_us[i];
        sum += us;
        if (!n_decode_rows) {
            step_cost_add(step_cost_curve(c, i, STEP_PREFILL), n_prefill_rows, us);
        } else if (!n_prefill_rows) {
            step_cost_add(step_cost_curve(c, i, STEP_DECODE), n_decode_rows, us);
        } else {
            double alone = step_cost_of_stage(c, i, STEP_DECODE, n_decode_rows);
            if (alone > 0)
                step_cost_add(step_cost_curve(c, i, STEP_EXTRA), n_prefill_rows,
                              fmax(us - alone, 0));
        }
    }
    if (round_trip_us >= 0)
        step_cost_learn_hops(c, fmax((double)round_trip_us - sum, 0));
}
