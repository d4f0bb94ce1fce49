#include "coordinator/pace.h"

#include <math.h>
#include <stdbool.h>

#define DEFAULT_ROWS_BESIDE 16  /* of prompt beside decode, before times are known */
#define DEFAULT_ROWS_ALONE  256 /* at most */
#define FIXED_ROWS          14  /* what any step costs in prompt rows, before times are known */
#define LEAST_ROWS_BESIDE   4   /* whatever was learnt: a prompt must get on */
#define CHUNKS_OF_A_PROMPT  12  /* at least, for each stage after the first */
#define FEW_ROWS_ALONE      96  /* chunks may always have so many: fewer cost more each */
#define LEAST_ROWS_ALONE    32
#define SHARE_OF_DECODE     0.8     /* what prompts may add to a decode step's time */
#define MOST_GROWTH         2       /* beyond the largest step that is known */
#define FREE_US             5000    /* and always may: nobody sees it */
#define MOST_ROUND_US       1000000 /* of a prompt's chunk through all stages */
#define GAIN_TO_CHANGE      1.03
#define MORE_GROUPS         16 /* than stages, on slow links */

static double pace_rate(struct step_cost *c, int n_decoding, int groups)
{
    int rows = (n_decoding + groups - 1) / groups;
    double busy = groups * step_cost_slowest(c, STEP_DECODE, rows);
    double round = step_cost_sum(c, STEP_DECODE, rows) + c->hops_us;
    return n_decoding / fmax(busy, round);
}

int pace_groups(struct step_cost *c, int n_decoding, int now)
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
static int pace_rows_within(struct step_cost *c, enum step_curve curve, double budget_us, int most)
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

static int pace_rows_in(struct step_cost *c, enum step_curve curve, int n_decode, int most)
{
    double decode_us = step_cost_slowest(c, STEP_DECODE, n_decode);
    int known = step_cost_largest(c, curve);
    if (!(decode_us > 0) || !known)
        return DEFAULT_ROWS_BESIDE < most ? DEFAULT_ROWS_BESIDE : most;
    /* Rows that were free say nothing of where they begin to cost. */
    most = most < MOST_GROWTH * known ? most : MOST_GROWTH * known;
    return pace_rows_within(c, curve, fmax(SHARE_OF_DECODE * decode_us, FREE_US), most);
}

int pace_rows_beside(struct step_cost *c, int n_decode, int most)
{
    int rows = pace_rows_in(c, STEP_EXTRA, n_decode, most);
    int least = LEAST_ROWS_BESIDE < most ? LEAST_ROWS_BESIDE : most;
    return rows > least ? rows : least;
}

int pace_rows_between(struct step_cost *c, int n_decode, int most)
{
    return pace_rows_in(c, STEP_PREFILL, n_decode, most);
}

/* In microseconds, or in any unit while nothing is known. */
static double pace_prompt_time(struct step_cost *c, int n_left, int rows)
{
    double slowest = step_cost_slowest(c, STEP_PREFILL, rows);
    double sum = step_cost_sum(c, STEP_PREFILL, rows);
    if (!(slowest > 0)) {
        slowest = FIXED_ROWS + rows;
        sum = slowest * c->n_stages;
    }
    return (fmax(1, (double)n_left / rows) - 1) * slowest + sum;
}

/* Where stages follow each other, the first one's chunk is what the last one waits for, and times
 * are known too roughly (a row costs more the further back it looks) to trust in large ones. */
static int pace_most_alone(const struct step_cost *c, int n_left)
{
    int most = c->n_stages > 1 ? n_left / (CHUNKS_OF_A_PROMPT * (c->n_stages - 1)) : n_left;
    return most > FEW_ROWS_ALONE ? most : FEW_ROWS_ALONE;
}

int pace_rows_alone(struct step_cost *c, int n_left, int most)
{
    int bound = pace_most_alone(c, n_left);
    most = most < bound ? most : bound;
    int best = most;
    double least = INFINITY;
    bool known = step_cost_slowest(c, STEP_PREFILL, LEAST_ROWS_ALONE) > 0;
    for (int rows = LEAST_ROWS_ALONE; rows <= most; rows += LEAST_ROWS_ALONE) {
        if (!known && rows > DEFAULT_ROWS_ALONE)
            break;
        /* What was slow once must not hide the sizes above it. */
        if (known && rows > LEAST_ROWS_ALONE &&
            step_cost_sum(c, STEP_PREFILL, rows) > MOST_ROUND_US)
            continue;
        double time = pace_prompt_time(c, n_left, rows);
        if (time < least) {
            least = time;
            best = rows;
        }
    }
    /* Where nothing larger seems to fit, after one slow step perhaps, trying is the only way up. */
    int untried = step_cost_untried(c, STEP_PREFILL, best);
    bool is_bounded =
        known && step_cost_sum(c, STEP_PREFILL, best + LEAST_ROWS_ALONE) > MOST_ROUND_US;
    return is_bounded && untried > best && untried <= most ? untried : best;
}

int pace_steps_alone(struct step_cost *c, int rows)
{
    double slowest_us = step_cost_slowest(c, STEP_PREFILL, rows);
    int on_the_wire = slowest_us > 0 ? (int)fmin(c->hops_us / slowest_us, MORE_GROUPS) : 0;
    return c->n_stages + 1 + on_the_wire;
}
