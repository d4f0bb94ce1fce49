#include "coordinator/pace.h"

#include <math.h>

#define DEFAULT_ROWS_BESIDE    16  /* of prompt beside decode, before times are known */
#define DEFAULT_ROWS_PIPELINED 128 /* alone, over several stages */
#define DEFAULT_ROWS_ALONE     256
#define LEAST_ROWS_ALONE       32
#define SHARE_OF_DECODE        0.8    /* what prompts may add to a decode step's time */
#define FREE_US                5000   /* and always may: nobody sees it */
#define MOST_US                500000 /* of a prompt's chunk at a stage */
#define GAIN_TO_CHANGE         1.03
#define MORE_GROUPS            16 /* than stages, on slow links */

static double pace_rate(const struct step_cost *c, int n_decoding, int groups)
{
    int rows = (n_decoding + groups - 1) / groups;
    double busy = groups * step_cost_slowest(c, STEP_DECODE, rows);
    double round = step_cost_sum(c, STEP_DECODE, rows) + c->hops_us;
    return n_decoding / fmax(busy, round);
}

int pace_groups(const struct step_cost *c, int n_decoding, int now)
{
    int most = c->n_stages + MORE_GROUPS;
    if (most > n_decoding)
        most = n_decoding;
    if (most <= 1)
        return 1;
    if (!(step_cost_slowest(c, STEP_DECODE, 1) > 0))
        return c->n_stages < most ? c->n_stages : most;
    int best = now >= 1 && now <= most ? now : c->n_stages < most ? c->n_stages : most;
    double best_rate = pace_rate(c, n_decoding, best) * GAIN_TO_CHANGE;
    for (int groups = 1; groups <= most; groups++) {
        double rate = pace_rate(c, n_decoding, groups);
        if (rate > best_rate) {
            best_rate = rate;
            best = groups;
        }
    }
    return best;
}

/* The largest number of rows within the budget; the curves ascend but for noise. */
static int pace_rows_within(const struct step_cost *c, enum step_curve curve, double budget_us,
                            int most)
{
    int low = 0, high = most;
    while (low < high) {
        int rows = low + (high - low + 1) / 2;
        if (step_cost_slowest(c, curve, rows) <= budget_us)
            low = rows;
        else
            high = rows - 1;
    }
    return low;
}

static int pace_rows_in(const struct step_cost *c, enum step_curve curve, int n_decode, int most)
{
    double decode_us = step_cost_slowest(c, STEP_DECODE, n_decode);
    if (!(decode_us > 0) || !(step_cost_slowest(c, curve, 1) > 0))
        return DEFAULT_ROWS_BESIDE < most ? DEFAULT_ROWS_BESIDE : most;
    return pace_rows_within(c, curve, fmax(SHARE_OF_DECODE * decode_us, FREE_US), most);
}

int pace_rows_beside(const struct step_cost *c, int n_decode, int most)
{
    return pace_rows_in(c, STEP_EXTRA, n_decode, most);
}

int pace_rows_between(const struct step_cost *c, int n_decode, int most)
{
    return pace_rows_in(c, STEP_PREFILL, n_decode, most);
}

static double pace_prompt_us(const struct step_cost *c, int n_left, int rows)
{
    double chunks = fmax(1, (double)n_left / rows);
    return (chunks - 1) * step_cost_slowest(c, STEP_PREFILL, rows) +
           step_cost_sum(c, STEP_PREFILL, rows);
}

int pace_rows_alone(const struct step_cost *c, int n_left, int most)
{
    int best = c->n_stages > 1 ? DEFAULT_ROWS_PIPELINED : DEFAULT_ROWS_ALONE;
    if (!(step_cost_slowest(c, STEP_PREFILL, best) > 0))
        return best < most ? best : most;
    double least_us = INFINITY;
    for (int rows = LEAST_ROWS_ALONE; rows <= most; rows += LEAST_ROWS_ALONE) {
        if (rows > LEAST_ROWS_ALONE && step_cost_slowest(c, STEP_PREFILL, rows) > MOST_US)
            break;
        double us = pace_prompt_us(c, n_left, rows);
        if (us < least_us) {
            least_us = us;
            best = rows;
        }
    }
    return best < most ? best : most;
}

int pace_steps_alone(const struct step_cost *c, int rows)
{
    double slowest_us = step_cost_slowest(c, STEP_PREFILL, rows);
    int on_the_wire = slowest_us > 0 ? (int)fmin(c->hops_us / slowest_us, MORE_GROUPS) : 0;
    return c->n_stages + 1 + on_the_wire;
}
