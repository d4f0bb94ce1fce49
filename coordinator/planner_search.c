#include "coordinator/planner_search.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_STATES 1024 /* ten workers, all different */
#define MOST_ORDERS 48

/* Workers that are alike. Prefix sums are over layers, [n_layers + 1]. */
struct search_class {
    int worker, count, stride; /* the first one; how many; of a digit of a state */
    double *one, *many;        /* seconds of a row, of `rows` rows */
    double one_head, many_head;
    double link_s, transfer_one_s, transfer_many_s;
    const double *sum; /* what is made least: one or many, and what goes with it */
    double sum_head, sum_transfer_s;
    int64_t fixed_bytes;
    int *low; /* [n_layers + 1]: a stage that ends there begins no earlier */
};

/* Where the best way to a cell comes from. */
struct search_step {
    short class; /* -1: no stage here */
    short first_layer;
};

struct planner_search {
    const struct plan_model *m;
    const struct planner_worker *workers;
    int n_workers, n_classes, n_states;
    double context;
    bool is_exact;
    double least_link_s, least_transfer_s;
    double rows, slowest_s, sum_rows;
    struct search_class *classes;
    int *class_of;    /* [n_workers] */
    int64_t *bytes;   /* [n_layers + 1] prefix sums */
    double *prefixes; /* of all classes */
    int *lows;        /* of all classes */
    double *value;    /* [n_rows][n_layers + 1] */
    struct search_step *step;
    int *window;   /* [n_layers + 1] */
    int end_state; /* of the best way */
    int n_orders;
    short (*orders)[PLANNER_MAX_STAGES]; /* classes */
    short best_order[PLANNER_MAX_STAGES];
};

/* ---- classes ---- */

static bool search_is_alike(const struct planner_worker *a, const struct planner_worker *b)
{
    return memcmp(&a->speed, &b->speed, sizeof a->speed) == 0 &&
           a->memory_bytes == b->memory_bytes && a->threads == b->threads;
}

static void search_classify(struct planner_search *s)
{
    for (int i = 0; i < s->n_workers; i++) {
        int c = 0;
        while (c < s->n_classes &&
               !search_is_alike(&s->workers[i], &s->workers[s->classes[c].worker]))
            c++;
        if (c == s->n_classes)
            s->classes[s->n_classes++] = (struct search_class){.worker = i};
        s->classes[c].count++;
        s->class_of[i] = c;
    }
    double states = 1;
    for (int c = 0; c < s->n_classes; c++) {
        s->classes[c].stride = (int)fmin(states, MOST_STATES);
        states *= s->classes[c].count + 1;
    }
    s->is_exact = s->is_exact && states <= MOST_STATES;
    s->n_states = s->is_exact ? (int)states : s->n_workers + 1;
}

static void search_prepare_class(struct planner_search *s, struct search_class *c, int number)
{
    const struct plan_model *m = s->m;
    const struct plan_speed *speed = &s->workers[c->worker].speed;
    int n = m->n_layers;
    c->one = s->prefixes + (size_t)number * 2 * (size_t)(n + 1);
    c->many = c->one + n + 1;
    c->low = s->lows + (size_t)number * (size_t)(n + 1);
    for (int i = 0; i < n; i++) /* of one layer: without the head, which is the last one's */
        c->one[i + 1] =
            c->one[i] + plan_cost_prefill(m, speed, i, i + 1, 1, 0) + s->context * speed->attend_s;
    c->one_head = plan_cost_decode(m, speed, n, n, 1, 0);
    c->link_s = plan_cost_link(m, speed, 0);
    c->transfer_one_s = plan_cost_transfer(m, speed, 1);
    c->fixed_bytes = plan_model_memory(m, s->workers[c->worker].threads, 0, 0);
    s->least_link_s = fmin(s->least_link_s, c->link_s);
    s->least_transfer_s = fmin(s->least_transfer_s, c->transfer_one_s);
}

/* Sums of one row, or of as many as the bound counts. */
static void search_weigh(struct planner_search *s, bool by_rows)
{
    for (int i = 0; i < s->n_classes; i++) {
        struct search_class *c = &s->classes[i];
        c->sum = by_rows ? c->many : c->one;
        c->sum_head = by_rows ? c->many_head : c->one_head;
        c->sum_transfer_s = by_rows ? c->transfer_many_s : c->transfer_one_s;
    }
    s->sum_rows = by_rows ? s->rows : 1;
}

void planner_search_set_rows(struct planner_search *s, double rows, bool by_rows)
{
    int n = s->m->n_layers;
    s->rows = rows;
    for (int i = 0; i < s->n_classes; i++) {
        struct search_class *c = &s->classes[i];
        const struct plan_speed *speed = &s->workers[c->worker].speed;
        for (int j = 0; j < n; j++)
            c->many[j + 1] = c->many[j] + plan_cost_prefill(s->m, speed, j, j + 1, rows, 0) +
                             rows * s->context * speed->attend_s;
        c->many_head = plan_cost_decode(s->m, speed, n, n, rows, 0);
        c->transfer_many_s = plan_cost_transfer(s->m, speed, rows);
    }
    search_weigh(s, by_rows);
}

double planner_search_bound(const struct planner_search *s)
{
    int n = s->m->n_layers;
    double rate = 0;
    for (int i = 0; i < s->n_classes; i++)
        rate += s->classes[i].count / s->classes[i].many[n];
    return 1 / rate;
}

/* ---- orders ---- */

static double search_rank(const struct planner_search *s, int class, int by)
{
    const struct search_class *c = &s->classes[class];
    const struct planner_worker *w = &s->workers[c->worker];
    double slowness = c->one[s->m->n_layers];
    switch (by) {
    case 0:
        return c->worker;
    case 1:
        return slowness;
    case 2:
        return -slowness;
    case 3:
        return -(double)w->memory_bytes;
    case 4:
        return (double)w->memory_bytes;
    default:
        return (double)w->memory_bytes * slowness;
    }
}

static void search_sort(const struct planner_search *s, short *order, int by)
{
    for (int i = 1; i < s->n_workers; i++)
        for (int j = i; j > 0 && search_rank(s, order[j], by) < search_rank(s, order[j - 1], by);
             j--) {
            short swapped = order[j];
            order[j] = order[j - 1];
            order[j - 1] = swapped;
        }
}

/* Six orders, and of two of them those in which another class comes last, where the head is. */
static void search_make_orders(struct planner_search *s)
{
    for (int by = 0; by < 6; by++) {
        short *order = s->orders[s->n_orders++];
        for (int i = 0; i < s->n_workers; i++)
            order[i] = (short)s->class_of[i];
        search_sort(s, order, by);
    }
    for (int c = 0; c < s->n_classes; c++) {
        for (int base = 1; base <= 2 && s->n_orders < MOST_ORDERS; base++) {
            short *order = s->orders[s->n_orders++];
            int at = 0, n = 0;
            while (s->orders[base][at] != c)
                at++;
            for (int i = 0; i < s->n_workers; i++)
                if (i != at)
                    order[n++] = s->orders[base][i];
            order[n] = (short)c;
        }
    }
}

/* ---- life ---- */

static int search_claim(struct planner_search *s, struct err *err)
{
    size_t width = (size_t)s->m->n_layers + 1, n = (size_t)s->n_workers;
    s->bytes = calloc(width, sizeof *s->bytes);
    s->prefixes = calloc(n * 2 * width, sizeof *s->prefixes);
    s->lows = calloc(n * width, sizeof *s->lows);
    s->value = calloc((size_t)s->n_states * width, sizeof *s->value);
    s->step = calloc((size_t)s->n_states * width, sizeof *s->step);
    s->window = calloc(width, sizeof *s->window);
    s->orders = s->is_exact ? NULL : calloc(MOST_ORDERS, sizeof *s->orders);
    if (!s->bytes || !s->prefixes || !s->lows || !s->value || !s->step || !s->window ||
        (!s->is_exact && !s->orders))
        return err_set(err, ERR_MEMORY, "no memory to plan");
    return 0;
}

int planner_search_new(struct planner_search **ret_search, const struct plan_model *m,
                       const struct planner_worker *workers, int n_workers, double context,
                       bool is_exact, struct err *err)
{
    struct planner_search *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory to plan");
    *s = (struct planner_search){.m = m,
                                 .workers = workers,
                                 .n_workers = n_workers,
                                 .context = context,
                                 .is_exact = is_exact,
                                 .least_link_s = INFINITY,
                                 .least_transfer_s = INFINITY,
                                 .classes = calloc((size_t)n_workers, sizeof *s->classes),
                                 .class_of = calloc((size_t)n_workers, sizeof *s->class_of)};
    int rc = s->classes && s->class_of ? 0 : err_set(err, ERR_MEMORY, "no memory to plan");
    if (rc == 0) {
        search_classify(s);
        rc = search_claim(s, err);
    }
    if (rc != 0) {
        planner_search_free(s);
        return rc;
    }
    int64_t none = plan_model_memory(m, 0, 0, 0);
    for (int i = 0; i < m->n_layers; i++)
        s->bytes[i + 1] = plan_model_memory(m, 0, 0, i + 1) - none;
    for (int i = 0; i < s->n_classes; i++)
        search_prepare_class(s, &s->classes[i], i);
    if (!s->is_exact)
        search_make_orders(s);
    planner_search_set_rows(s, 1, false);
    *ret_search = s;
    return 0;
}

void planner_search_free(struct planner_search *s)
{
    if (!s)
        return;
    free(s->classes);
    free(s->class_of);
    free(s->bytes);
    free(s->prefixes);
    free(s->lows);
    free(s->value);
    free(s->step);
    free(s->window);
    free(s->orders);
    free(s);
}

bool planner_search_is_exact(const struct planner_search *s)
{
    return s->is_exact;
}

/* ---- one search ---- */

static bool search_fits(const struct planner_search *s, const struct search_class *c, int first,
                        int end)
{
    bool has_head = end == s->m->n_layers;
    double busy = c->many[end] - c->many[first] + (has_head ? c->many_head : 0);
    int64_t bytes = c->fixed_bytes + s->bytes[end] - s->bytes[first];
    return busy <= s->slowest_s && bytes <= s->workers[c->worker].memory_bytes;
}

/* Both limits only become tighter with more layers, so that the begin moves with the end. */
static void search_bound_class(struct planner_search *s, struct search_class *c)
{
    int low = 0;
    for (int end = 1; end <= s->m->n_layers; end++) {
        while (low < end && !search_fits(s, c, low, end))
            low++;
        c->low[end] = low;
    }
}

/* What a stage costs beside its layers: its part of the hops. */
static double search_entry(const struct planner_search *s, const struct search_class *c,
                           int first_layer)
{
    double least_transfer_s = s->least_transfer_s * s->sum_rows;
    double both = 2 * (c->link_s + c->sum_transfer_s) - s->least_link_s - least_transfer_s;
    return first_layer > 0 ? both : both + s->least_link_s + least_transfer_s - c->sum_transfer_s;
}

/* A stage of this class after `before`: to[x] becomes the least of what it is and of
 * before[y] + the stage's time for layers [y, x). */
static void search_extend(struct planner_search *s, int number, const double *before, double *to,
                          struct search_step *steps)
{
    const struct search_class *c = &s->classes[number];
    const int n = s->m->n_layers;
    int head = 0, tail = 0; /* of the window: begins whose value ascends */
    const bool is_slow_link = c->transfer_many_s > s->slowest_s;
    for (int end = 1; end <= n; end++) {
        const int y = end - 1;
        if (before[y] < INFINITY) {
            double value = before[y] - c->sum[y] + search_entry(s, c, y);
            while (tail > head) {
                int last = s->window[tail - 1];
                if (before[last] - c->sum[last] + search_entry(s, c, last) < value)
                    break;
                tail--;
            }
            s->window[tail++] = y;
        }
        while (head < tail && s->window[head] < c->low[end])
            head++;
        if (head == tail)
            continue;
        const int first = s->window[head];
        if (is_slow_link && (end < n || first > 0))
            continue; /* whoever is alone sends nothing large */
        double value = before[first] - c->sum[first] + search_entry(s, c, first) + c->sum[end];
        if (end == n)
            value += c->sum_head - c->sum_transfer_s;
        if (value < to[end]) {
            to[end] = value;
            steps[end] = (struct search_step){(short)number, (short)first};
        }
    }
}

static void search_reset_row(struct planner_search *s, int row)
{
    const int width = s->m->n_layers + 1;
    for (int i = 0; i < width; i++) {
        s->value[row * width + i] = i == 0 && row == 0 ? 0 : INFINITY;
        s->step[row * width + i] = (struct search_step){-1, 0};
    }
}

static double search_run_exact(struct planner_search *s)
{
    const int width = s->m->n_layers + 1;
    double best = INFINITY;
    search_reset_row(s, 0);
    for (int state = 1; state < s->n_states; state++) {
        search_reset_row(s, state);
        double *to = s->value + (size_t)state * (size_t)width;
        struct search_step *steps = s->step + (size_t)state * (size_t)width;
        for (int i = 0; i < s->n_classes; i++) {
            const struct search_class *c = &s->classes[i];
            if (state / c->stride % (c->count + 1) > 0)
                search_extend(s, i, to - (size_t)c->stride * (size_t)width, to, steps);
        }
        if (to[width - 1] < best) {
            best = to[width - 1];
            s->end_state = state;
        }
    }
    return best;
}

static double search_run_order(struct planner_search *s, const short *order)
{
    const size_t width = (size_t)s->m->n_layers + 1;
    search_reset_row(s, 0);
    for (int i = 0; i < s->n_workers; i++) {
        double *before = s->value + (size_t)i * width;
        struct search_step *steps = s->step + (size_t)(i + 1) * width;
        memcpy(before + width, before, width * sizeof *before);
        for (size_t x = 0; x < width; x++)
            steps[x] = (struct search_step){-1, 0};
        search_extend(s, order[i], before, before + width, steps);
    }
    return s->value[(size_t)s->n_workers * width + width - 1];
}

static double search_run_orders(struct planner_search *s)
{
    double best = INFINITY;
    int best_order = -1;
    for (int i = 0; i < s->n_orders; i++) {
        double value = search_run_order(s, s->orders[i]);
        if (value < best) {
            best = value;
            best_order = i;
        }
    }
    if (best_order < 0)
        return INFINITY;
    memcpy(s->best_order, s->orders[best_order], sizeof s->best_order);
    return search_run_order(s, s->best_order); /* leaves its steps */
}

double planner_search_run(struct planner_search *s, double slowest_s)
{
    s->slowest_s = slowest_s;
    for (int i = 0; i < s->n_classes; i++)
        search_bound_class(s, &s->classes[i]);
    return s->is_exact ? search_run_exact(s) : search_run_orders(s);
}

/* The workers of a class come in their order. */
static void search_name_workers(const struct planner_search *s, struct planner_stage *stages, int n)
{
    for (int c = 0; c < s->n_classes; c++) {
        int next = 0;
        for (int i = 0; i < n; i++) {
            if (stages[i].worker != -1 - c)
                continue;
            while (s->class_of[next] != c)
                next++;
            stages[i].worker = next++;
        }
    }
}

int planner_search_take(const struct planner_search *s, struct planner_stage *ret_stages)
{
    struct planner_stage backwards[PLANNER_MAX_STAGES];
    const int width = s->m->n_layers + 1;
    int n = 0, end = s->m->n_layers, row = s->is_exact ? s->end_state : s->n_workers;
    while (end > 0 && row > 0 && n < PLANNER_MAX_STAGES) {
        struct search_step step = s->step[row * width + end];
        assert(step.class >= 0 || !s->is_exact); /* there is a way */
        if (step.class >= 0)
            backwards[n++] = (struct planner_stage){-1 - step.class, step.first_layer, end, 0};
        end = step.class >= 0 ? step.first_layer : end;
        row -= s->is_exact ? s->classes[step.class].stride : 1;
    }
    for (int i = 0; i < n; i++)
        ret_stages[i] = backwards[n - 1 - i];
    search_name_workers(s, ret_stages, n);
    for (int i = 0; i < n; i++)
        ret_stages[i].memory_bytes =
            plan_model_memory(s->m, s->workers[ret_stages[i].worker].threads,
                              ret_stages[i].first_layer, ret_stages[i].end_layer);
    return n;
}
