#include "coordinator/step_cost.h"

#include <math.h>
#include <stdlib.h>

#define WEIGHT_OF_NEW 0.2 /* in the moving means */
#define MEMO_STEPS    16  /* learnt, before what is remembered is asked again */
#define HOPS_WINDOW   64  /* steps */
#define STALE_STEPS   64  /* of a curve without one of this size */
#define UNTRIED_STEPS 256 /* without any above it */

int step_cost_init(struct step_cost *c, int n_stages, struct err *err)
{
    *c = (struct step_cost){.n_stages = n_stages, .generation = 1};
    c->points = calloc((size_t)n_stages * STEP_CURVES * STEP_COST_POINTS, sizeof *c->points);
    c->memo = calloc((size_t)STEP_CURVES * STEP_COST_MEMO_ROWS, sizeof *c->memo);
    if (c->points && c->memo)
        return 0;
    step_cost_clear(c);
    return err_set(err, ERR_MEMORY, "no memory for the costs of %d stages", n_stages);
}

void step_cost_clear(struct step_cost *c)
{
    free(c->points);
    free(c->memo);
    *c = (struct step_cost){0};
}

static struct step_cost_point *step_cost_curve(const struct step_cost *c, int stage,
                                               enum step_curve curve)
{
    return c->points + ((size_t)stage * STEP_CURVES + curve) * STEP_COST_POINTS;
}

/* 1, 2, 3, 4, 6, 8, 12, 16 … */
static int step_cost_next_size(int size)
{
    return size < 4 ? size + 1 : (size & (size - 1)) ? size / 3 * 4 : size / 2 * 3;
}

/* Each stands for the sizes from it up to the next. */
static int step_cost_index(int rows)
{
    int index = 0;
    for (int size = 2; index < STEP_COST_POINTS - 1 && rows >= size; index++)
        size = step_cost_next_size(size);
    return index;
}

static void step_cost_add(struct step_cost *c, int stage, enum step_curve curve, int rows,
                          double us)
{
    struct step_cost_point *p = &step_cost_curve(c, stage, curve)[step_cost_index(rows)];
    if (!(p->rows > 0)) /* a size that was not known */
        c->n_learnt = MEMO_STEPS;
    double weight = p->rows > 0 ? WEIGHT_OF_NEW : 1;
    p->rows += weight * (rows - p->rows);
    p->us += weight * (us - p->us);
    p->learnt_at = c->n_steps[curve];
}

/* What a step takes that does not grow with its rows: of a decode step nearly all, for it reads
 * the weights once; where two sizes have been seen they say it better. */
static double step_cost_fixed_share(enum step_curve curve)
{
    return curve == STEP_DECODE ? 0.5 : curve == STEP_PREFILL ? 0.1 : 0;
}

/* On the line through the two nearest points; that is never less than in proportion to the rows
 * below them, nor more above. With one point only, by the fixed share. */
static double step_cost_beyond(const struct step_cost_point *p, const struct step_cost_point *next,
                               enum step_curve curve, int rows)
{
    double fixed = step_cost_fixed_share(curve);
    double proportional = p->us * rows / p->rows;
    if (!next)
        return fixed * p->us + (1 - fixed) * proportional;
    double us = p->us + (next->us - p->us) * (rows - p->rows) / (next->rows - p->rows);
    return rows < p->rows ? fmin(fmax(us, proportional), p->us)
                          : fmax(fmin(us, proportional), p->us);
}

static double step_cost_of_stage(const struct step_cost *c, int stage, enum step_curve curve,
                                 int rows)
{
    /* the two nearest points on either side */
    const struct step_cost_point *below[2] = {NULL, NULL}, *above[2] = {NULL, NULL};
    const struct step_cost_point *p = step_cost_curve(c, stage, curve);
    for (int i = 0; i < STEP_COST_POINTS && !above[1]; i++, p++) {
        if (!(p->rows > 0))
            continue;
        if (p->rows <= rows) {
            below[1] = below[0];
            below[0] = p;
        } else {
            above[above[0] != NULL] = p;
        }
    }
    if (below[0] && above[0])
        return below[0]->us + (above[0]->us - below[0]->us) * (rows - below[0]->rows) /
                                  (above[0]->rows - below[0]->rows);
    return below[0]   ? step_cost_beyond(below[0], below[1], curve, rows)
           : above[0] ? step_cost_beyond(above[0], above[1], curve, rows)
                      : 0;
}

static struct step_cost_memo step_cost_ask(struct step_cost *c, enum step_curve curve, int rows)
{
    struct step_cost_memo fresh = {0}, *memo = &fresh;
    if (rows >= 0 && rows < STEP_COST_MEMO_ROWS)
        memo = &c->memo[curve * STEP_COST_MEMO_ROWS + rows];
    if (memo->generation == c->generation)
        return *memo;
    double slowest = 0, sum = 0;
    for (int i = 0; i < c->n_stages; i++) {
        double us = step_cost_of_stage(c, i, curve, rows);
        slowest = fmax(slowest, us);
        sum += us;
    }
    *memo = (struct step_cost_memo){c->generation, (float)slowest, (float)sum};
    return *memo;
}

double step_cost_slowest(struct step_cost *c, enum step_curve curve, int rows)
{
    return (double)step_cost_ask(c, curve, rows).slowest_us;
}

double step_cost_sum(struct step_cost *c, enum step_curve curve, int rows)
{
    return (double)step_cost_ask(c, curve, rows).sum_us;
}

bool step_cost_lately(const struct step_cost *c, int stage, double *ret_rows, double *ret_us)
{
    const struct step_cost_point *points = step_cost_curve(c, stage, STEP_DECODE), *newest = NULL;
    for (int i = 0; i < STEP_COST_POINTS; i++)
        if (points[i].rows > 0 && (!newest || points[i].learnt_at > newest->learnt_at))
            newest = &points[i];
    if (!newest)
        return false;
    *ret_rows = newest->rows;
    *ret_us = newest->us;
    return true;
}

int step_cost_largest(const struct step_cost *c, enum step_curve curve)
{
    const struct step_cost_point *points = step_cost_curve(c, 0, curve);
    for (int i = STEP_COST_POINTS - 1; i >= 0; i--)
        if (points[i].rows > 0)
            return (int)points[i].rows;
    return 0;
}

int step_cost_untried(const struct step_cost *c, enum step_curve curve, int rows)
{
    const struct step_cost_point *points = step_cost_curve(c, 0, curve);
    int index = step_cost_index(rows), size = 1;
    uint32_t newest = 0;
    for (int i = index + 1; i < STEP_COST_POINTS; i++)
        newest = points[i].rows > 0 && points[i].learnt_at > newest ? points[i].learnt_at : newest;
    if (c->n_steps[curve] - newest <= UNTRIED_STEPS)
        return 0;
    for (int i = 0; i <= index; i++)
        size = step_cost_next_size(size);
    return size;
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

/* The most that so many rows take by a point of another size. Fewer rows take no longer than more;
 * more take no longer than in proportion, for prompts less the fixed share, beside decode for the
 * whole step. */
static double step_cost_most(const struct step_cost_point *seen, enum step_curve curve, double rows,
                             int n_decode, double decode_us)
{
    if (rows < seen->rows)
        return seen->us;
    if (curve == STEP_EXTRA)
        return (decode_us + seen->us) * (n_decode + rows) / (n_decode + seen->rows) - decode_us;
    double fixed = curve == STEP_PREFILL ? step_cost_fixed_share(curve) : 0;
    return seen->us * (fixed + (1 - fixed) * rows / seen->rows);
}

/* One slow step makes its size unattractive, and then no other one comes to correct it. So a size
 * that was not seen lately is forgotten when the one seen now contradicts it. */
static void step_cost_doubt(struct step_cost *c, int stage, enum step_curve curve, int rows,
                            int n_decode, double decode_us)
{
    struct step_cost_point *points = step_cost_curve(c, stage, curve);
    const struct step_cost_point *seen = &points[step_cost_index(rows)];
    for (struct step_cost_point *p = points; p < points + STEP_COST_POINTS; p++)
        if (p->rows > 0 && c->n_steps[curve] - p->learnt_at > STALE_STEPS &&
            p->us > step_cost_most(seen, curve, p->rows, n_decode, decode_us))
            *p = (struct step_cost_point){0};
}

static void step_cost_take(struct step_cost *c, int stage, enum step_curve curve, int rows,
                           double us, int n_decode, double decode_us)
{
    step_cost_add(c, stage, curve, rows, us);
    step_cost_doubt(c, stage, curve, rows, n_decode, decode_us);
}

void step_cost_learn(struct step_cost *c, int n_decode_rows, int n_prefill_rows,
                     const uint32_t *stage_us, int64_t round_trip_us)
{
    double sum = 0;
    enum step_curve curve = !n_decode_rows    ? STEP_PREFILL
                            : !n_prefill_rows ? STEP_DECODE
                                              : STEP_EXTRA;
    c->n_steps[curve]++;
    for (int i = 0; i < c->n_stages; i++) {
        double us = stage_us[i];
        sum += us;
        if (curve != STEP_EXTRA) {
            step_cost_take(c, i, curve, n_decode_rows + n_prefill_rows, us, 0, 0);
        } else {
            double alone = step_cost_of_stage(c, i, STEP_DECODE, n_decode_rows);
            if (alone > 0)
                step_cost_take(c, i, STEP_EXTRA, n_prefill_rows, fmax(us - alone, 0), n_decode_rows,
                               alone);
        }
    }
    if (++c->n_learnt > MEMO_STEPS) {
        c->n_learnt = 0;
        c->generation++;
    }
    if (round_trip_us >= 0)
        step_cost_learn_hops(c, fmax((double)round_trip_us - sum, 0));
}
