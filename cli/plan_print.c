#include "cli/plan_print.h"

#include <stdio.h>
#include <string.h>

#define GIB         1073741824.0
#define LEAST_GAIN  0.02 /* below it nothing is worth a line */
#define LEAST_WIDTH 40

static double print_gib(int64_t bytes)
{
    return (double)bytes / GIB;
}

static void print_heading(const struct plan_report *r)
{
    const struct plan_question *q = &r->question;
    const struct model_config *c = &q->shape->config;
    printf("%s %s: %d layers, %.1f GiB; context %d, %d at once, objective %s\n", r->model, r->mix,
           c->n_layers, print_gib(model_shape_bytes(q->shape)), q->context, q->concurrency,
           planner_objectives[q->objective]);
}

/* The layers as a bar from left to right, one line for each machine. */
static void print_picture(const struct plan_report *r, int width, bool is_utf8)
{
    const struct plan_answer *a = &r->answer;
    int n = r->question.shape->config.n_layers, longest = 0;
    for (int i = 0; i < a->n_stages; i++) {
        int length = (int)strlen(a->stages[i].worker);
        longest = length > longest ? length : longest;
    }
    int bar = width - longest - 12;
    bar = bar < 10 ? 10 : bar > 2 * n ? 2 * n : bar;
    printf("\n");
    for (int i = 0; i < a->n_stages; i++) {
        const struct plan_answer_stage *s = &a->stages[i];
        int first = s->first_layer * bar / n, end = s->end_layer * bar / n;
        end = end > first ? end : first + 1;
        printf("  %-*s ", longest, s->worker);
        for (int x = 0; x < bar; x++)
            fputs(x < first || x >= end ? (is_utf8 ? "·" : ".") : (is_utf8 ? "█" : "#"), stdout);
        printf(" %d-%d\n", s->first_layer, s->end_layer - 1);
    }
}

static void print_table(const struct plan_report *r)
{
    const struct plan_answer *a = &r->answer;
    printf("\n  %-16s %9s %9s %8s %9s %9s %9s\n", "machine", "layers", "weights", "KV", "memory",
           "offered", "step");
    for (int i = 0; i < a->n_stages; i++) {
        const struct plan_answer_stage *s = &a->stages[i];
        char layers[32];
        snprintf(layers, sizeof layers, "%d-%d", s->first_layer, s->end_layer - 1);
        printf("  %-16s %9s %5.2f GiB %4.2f GiB %5.2f GiB %5.1f GiB %6.2f ms\n", s->worker, layers,
               print_gib(s->weight_bytes), print_gib(s->kv_bytes), print_gib(s->memory_bytes),
               r->question.machines.kinds[s->kind].memory_bytes / GIB, 1000 * s->step_s);
    }
    for (int i = 0; i < r->question.machines.n_kinds; i++)
        if (a->n_standby[i] > 0)
            printf("  %-16s %d on standby: more would only slow things down\n",
                   r->question.machines.kinds[i].name, a->n_standby[i]);
}

static void print_figures(const struct plan_report *r)
{
    const struct planner_forecast *f = &r->answer.forecast;
    printf("\n  one stream           %8.2f tokens/s (hops take %.2f of %.1f ms)\n",
           1 / f->latency_s, 1000 * f->hops_s, 1000 * f->latency_s);
    if (r->question.concurrency > 1)
        printf("  %-3d streams together %8.2f tokens/s\n", r->question.concurrency, f->total_rate);
    printf("  first token after    %8.2f s for a prompt of %d tokens\n", f->ttft_s, PLANNER_PROMPT);
    printf("  bottleneck           %s\n", r->answer.bottleneck);
}

static void print_helps(const struct plan_report *r)
{
    int shown = 0;
    printf("\nWhat would help most:\n");
    for (int i = 0; i < r->n_helps && shown < 3; i++) {
        const struct plan_help *h = &r->helps[i];
        if (h->total_gain < LEAST_GAIN && h->latency_gain < LEAST_GAIN)
            continue;
        printf("  %-44s %+4.0f %% together, %+4.0f %% one stream\n", h->what, 100 * h->total_gain,
               100 * h->latency_gain);
        shown++;
    }
    if (!shown)
        printf("  faster memory or processors: neither machines, network nor memory gain 2 %%\n");
}

static void print_misfit(const struct plan_report *r)
{
    const struct plan_answer *a = &r->answer;
    const struct plan_remedies *m = &r->remedies;
    int64_t missing = a->needed_bytes - a->offered_bytes;
    printf("\n  It does not fit: about %.1f GiB are needed and %.1f GiB offered",
           print_gib(a->needed_bytes), print_gib(a->offered_bytes));
    if (missing > 0)
        printf(", %.1f GiB are missing.\n", print_gib(missing));
    else
        printf(", in pieces that do not fit its layers.\n");
    printf("\nWhat would fit:\n");
    bool any = false;
    if (m->mix) {
        printf("  --quant %s\n", m->mix);
        any = true;
    }
    if (m->context) {
        printf("  --context %d\n", m->context);
        any = true;
    }
    for (int i = 0; i < r->question.machines.n_kinds; i++) {
        if (!m->machines[i])
            continue;
        printf("  %d more machine%s like %s\n", m->machines[i], m->machines[i] == 1 ? "" : "s",
               r->question.machines.kinds[i].name);
        any = true;
    }
    if (!any)
        printf("  neither a smaller quantization, a shorter context nor 64 more of one kind\n");
}

void plan_print(const struct plan_report *r, int width, bool is_utf8)
{
    print_heading(r);
    if (!r->answer.fits) {
        print_misfit(r);
        return;
    }
    print_picture(r, width < LEAST_WIDTH ? LEAST_WIDTH : width, is_utf8);
    print_table(r);
    print_figures(r);
    print_helps(r);
}
