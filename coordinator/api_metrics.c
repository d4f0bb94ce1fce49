#include "coordinator/api_metrics.h"

#include "base/clock.h"
#include "base/version.h"
#include "coordinator/metrics.h"
#include "coordinator/metrics_text.h"
#include "coordinator/process_usage.h"
#include "kernels/attention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void api_metrics_histogram(struct metrics_text *t, const char *name, const char *help,
                                  const struct histogram *h)
{
    metrics_text_family(t, name, "histogram", help);
    metrics_text_histogram(t, NULL, 0, h);
}

static double api_metrics_kv_usage(const struct coordinator_status *s)
{
    return s->kv_blocks ? 1 - (double)s->kv_blocks_free / s->kv_blocks : 0;
}

/* ---- the names of vLLM, so that its dashboards fit ---- */

static void api_metrics_vllm_requests(struct metrics_text *t, const struct coordinator_status *s,
                                      const struct metrics *m)
{
    static const char *const reasons[METRICS_ENDS] = {"stop", "length", "abort", "error"};
    metrics_text_one(t, "vllm:num_requests_running", "gauge", "Sequences that are computed.",
                     s->running);
    metrics_text_one(t, "vllm:num_requests_waiting", "gauge", "Sequences that wait for a place.",
                     s->waiting);
    metrics_text_family(t, "vllm:request_success_total", "counter",
                        "Sequences that ended, by the reason.");
    for (int i = 0; i < METRICS_ENDS; i++)
        metrics_text_sample(t, &(struct metrics_label){"finished_reason", reasons[i]}, 1,
                            (double)m->n_ended[i]);
    api_metrics_histogram(t, "vllm:time_to_first_token_seconds",
                          "From a request's arrival to its first token.", &m->first_token_s);
    api_metrics_histogram(t, "vllm:inter_token_latency_seconds",
                          "Between two tokens of a sequence.", &m->token_gap_s);
    api_metrics_histogram(t, "vllm:e2e_request_latency_seconds",
                          "From a request's arrival to its last token.", &m->whole_s);
    api_metrics_histogram(t, "vllm:request_queue_time_seconds",
                          "From a request's arrival to its place.", &m->waiting_s);
    api_metrics_histogram(t, "vllm:request_prefill_time_seconds",
                          "From its place to its first token.", &m->prefill_s);
    api_metrics_histogram(t, "vllm:request_decode_time_seconds",
                          "From its first token to its last.", &m->decode_s);
    api_metrics_histogram(t, "vllm:request_prompt_tokens", "Tokens of a prompt.",
                          &m->prompt_tokens);
    api_metrics_histogram(t, "vllm:request_generation_tokens", "Tokens of an answer.",
                          &m->generated_tokens);
}

static void api_metrics_vllm(struct metrics_text *t, const struct coordinator_status *s,
                             const struct metrics *m)
{
    api_metrics_vllm_requests(t, s, m);
    metrics_text_one(t, "vllm:prompt_tokens_total", "counter",
                     "Tokens of prompts that were read, found in the prefix cache or computed.",
                     (double)m->n_prompt_tokens);
    metrics_text_one(t, "vllm:generation_tokens_total", "counter", "Tokens that were generated.",
                     (double)m->n_generated_tokens);
    api_metrics_histogram(t, "vllm:iteration_tokens_total", "Tokens of a step.", &m->step_rows);
    metrics_text_one(t, "vllm:kv_cache_usage_perc", "gauge",
                     "Share of the KV cache that sequences hold, 0 to 1.", api_metrics_kv_usage(s));
    metrics_text_one(t, "vllm:prefix_cache_queries_total", "counter",
                     "Tokens of prompts that were looked up in the prefix cache.",
                     (double)s->n_looked_up_tokens);
    metrics_text_one(t, "vllm:prefix_cache_hits_total", "counter", "Those of them that were found.",
                     (double)s->n_found_tokens);
    metrics_text_one(t, "vllm:num_preemptions_total", "counter",
                     "Sequences that gave up their blocks and were computed again.",
                     (double)s->n_preemptions);
    char blocks[16], tokens[16];
    snprintf(blocks, sizeof blocks, "%d", s->kv_blocks);
    snprintf(tokens, sizeof tokens, "%d", KV_BLOCK_TOKENS);
    metrics_text_family(t, "vllm:cache_config_info", "gauge", "The KV cache.");
    metrics_text_sample(
        t, (struct metrics_label[]){{"block_size", tokens}, {"num_gpu_blocks", blocks}}, 2, 1);
}

/* ---- the names of llama-server, for the same reason ---- */

static void api_metrics_llamacpp(struct metrics_text *t, const struct coordinator_status *s,
                                 const struct metrics *m)
{
    metrics_text_one(t, "llamacpp:prompt_tokens_total", "counter", "Tokens of prompts.",
                     (double)m->n_prompt_tokens);
    metrics_text_one(t, "llamacpp:prompt_seconds_total", "counter",
                     "Time from place to first token, of sequences that ended.", m->prefill_s.sum);
    metrics_text_one(t, "llamacpp:tokens_predicted_total", "counter", "Tokens that were generated.",
                     (double)m->n_generated_tokens);
    metrics_text_one(t, "llamacpp:tokens_predicted_seconds_total", "counter",
                     "Time from first token to last, of sequences that ended.", m->decode_s.sum);
    metrics_text_one(t, "llamacpp:requests_processing", "gauge", "Sequences that are computed.",
                     s->running);
    metrics_text_one(t, "llamacpp:requests_deferred", "gauge", "Sequences that wait for a place.",
                     s->waiting);
}

/* ---- the coordinator's own ---- */

static void api_metrics_service(struct metrics_text *t, const struct api_call *c,
                                const struct coordinator_status *s, const struct metrics *m)
{
    metrics_text_family(t, "paceline_build_info", "gauge", "The program.");
    metrics_text_sample(t, &(struct metrics_label){"version", PACELINE_VERSION}, 1, 1);
    metrics_text_one(t, "paceline_ready", "gauge", "1 while the model is in service.",
                     s->ready && !c->api->is_draining);
    metrics_text_one(t, "paceline_stages", "gauge", "Stages of the plan.", s->n_stages);
    metrics_text_one(t, "paceline_plans_total", "counter", "Plans that went into service.",
                     (double)m->n_plans);
    metrics_text_one(t, "paceline_plans_lost_total", "counter",
                     "Plans that ended because a worker or a step was lost.",
                     (double)m->n_plans_lost);
    metrics_text_one(t, "paceline_replays_total", "counter",
                     "Sequences that a new plan computed again from their tokens.",
                     (double)m->n_replays);
    metrics_text_one(t, "paceline_damaged_results_total", "counter",
                     "Results that came with a wrong checksum.", (double)s->n_damaged_results);
    metrics_text_family(t, "paceline_requests_refused_total", "counter",
                        "Requests that were refused or ended, by the error's code.");
    const struct {
        const char *code;
        uint64_t n;
    } refused[] = {{"queue_full", s->n_queue_full},
                   {"tenant_limit", s->n_tenant_limit},
                   {"timeout", s->n_timeout}};
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        metrics_text_sample(t, &(struct metrics_label){"code", refused[i].code}, 1,
                            (double)refused[i].n);
    api_metrics_histogram(t, "paceline_step_seconds",
                          "From a step's sending to its results, all stages and hops.", &m->step_s);
    metrics_text_one(t, "paceline_pipeline_active_seconds_total", "counter",
                     "Time in which at least one step was under way.", m->active_s);
}

static void api_metrics_answers(struct metrics_text *t, const struct answer_counts *a,
                                const struct histogram *delivery_s)
{
    api_metrics_histogram(t, "paceline_delivery_seconds",
                          "From a step's results to the bytes of a stream in its socket.",
                          delivery_s);
    metrics_text_family(t, "paceline_http_responses_total", "counter",
                        "Answers, by endpoint and status; 499: the client went away before.");
    for (size_t i = 0; i < a->n; i++) {
        char status[16];
        snprintf(status, sizeof status, "%d", a->list[i].status);
        metrics_text_sample(t,
                            (struct metrics_label[]){{"path", a->list[i].path}, {"status", status}},
                            2, (double)a->list[i].n);
    }
}

static void api_metrics_tenants(struct metrics_text *t, const struct coordinator *coordinator,
                                int n)
{
    struct coordinator_tenant_status *tenants = calloc((size_t)n, sizeof *tenants);
    if (!tenants) {
        t->out->failed = true;
        return;
    }
    coordinator_tenants(coordinator, tenants);
    metrics_text_family(t, "paceline_tenant_requests", "gauge",
                        "Sequences of each tenant, running and waiting.");
    for (int i = 0; i < n; i++) {
        struct metrics_label labels[] = {{"tenant", tenants[i].name}, {"state", "running"}};
        metrics_text_sample(t, labels, 2, tenants[i].running);
        labels[1].value = "waiting";
        metrics_text_sample(t, labels, 2, tenants[i].waiting);
    }
    free(tenants);
}

static void api_metrics_process(struct metrics_text *t)
{
    struct process_usage u;
    process_usage_read(&u);
    metrics_text_one(t, "process_cpu_seconds_total", "counter",
                     "Processor time of the coordinator.", u.cpu_s);
    metrics_text_one(t, "process_resident_memory_bytes", "gauge",
                     "Resident memory of the coordinator.", (double)u.resident_bytes);
    metrics_text_one(t, "process_open_fds", "gauge", "Open files of the coordinator.",
                     (double)u.open_files);
    metrics_text_one(t, "process_max_fds", "gauge", "How many it may have open.",
                     (double)u.most_files);
    metrics_text_one(t, "process_start_time_seconds", "gauge", "When it was started, Unix time.",
                     u.started_s);
}

/* ---- the workers' ---- */

struct api_metrics_workers {
    struct coordinator_worker_status *list; /* [n] */
    int n;
};

struct api_metrics_figure {
    const char *name, *type, *help;
    /* false: not known of this worker */
    bool (*value)(const struct coordinator_worker_status *w, double *ret_value);
};

static bool api_metrics_steps(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->steps;
    return true;
}

static bool api_metrics_busy(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->busy_us / 1e6;
    return true;
}

static bool api_metrics_sent(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->sent_bytes;
    return true;
}

static bool api_metrics_damaged(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->damaged_messages;
    return true;
}

static bool api_metrics_scrubbed(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->scrubbed_bytes;
    return true;
}

static bool api_metrics_tensors(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->n_damaged_tensors;
    return true;
}

static bool api_metrics_exams(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->n_exams;
    return true;
}

static bool api_metrics_memory_used(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->memory_used;
    return w->memory_used > 0;
}

static bool api_metrics_memory_claimed(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->memory_claimed;
    return true;
}

static bool api_metrics_memory_offered(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->memory_offered;
    return true;
}

static bool api_metrics_temperature(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = w->temperature_c;
    return w->has_temperature;
}

static bool api_metrics_link(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = w->link_rate;
    return w->link_rate > 0;
}

static bool api_metrics_round_trip(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = (double)w->round_trip_us / 1e6;
    return w->round_trip_us >= 0;
}

static bool api_metrics_layers(const struct coordinator_worker_status *w, double *ret_value)
{
    *ret_value = w->stage >= 0 ? w->end_layer - w->first_layer : 0;
    return true;
}

static const struct api_metrics_figure api_metrics_figures[] = {
    {"paceline_worker_layers", "gauge", "Layers that the worker has in the plan.",
     api_metrics_layers},
    {"paceline_worker_steps_total", "counter", "Steps that the worker has computed.",
     api_metrics_steps},
    {"paceline_worker_busy_seconds_total", "counter", "Time that it has spent computing.",
     api_metrics_busy},
    {"paceline_worker_sent_bytes_total", "counter",
     "Bytes of steps and results that it has sent on.", api_metrics_sent},
    {"paceline_worker_damaged_messages_total", "counter",
     "Steps that came to it with a wrong checksum.", api_metrics_damaged},
    {"paceline_worker_scrubbed_bytes_total", "counter",
     "Bytes of weights that it has compared with what was loaded.", api_metrics_scrubbed},
    {"paceline_worker_damaged_tensors_total", "counter", "Tensors that had changed in its memory.",
     api_metrics_tensors},
    {"paceline_worker_self_tests_total", "counter", "Self-tests whose answer was right.",
     api_metrics_exams},
    {"paceline_worker_memory_used_bytes", "gauge", "Anonymous memory of its process.",
     api_metrics_memory_used},
    {"paceline_worker_memory_claimed_bytes", "gauge", "Memory that its stage has claimed.",
     api_metrics_memory_claimed},
    {"paceline_worker_memory_offered_bytes", "gauge", "Memory that it offers.",
     api_metrics_memory_offered},
    {"paceline_worker_temperature_celsius", "gauge",
     "The hottest sensor of its processors, where they tell.", api_metrics_temperature},
    {"paceline_worker_round_trip_seconds", "gauge", "The shortest of its last heartbeats.",
     api_metrics_round_trip},
    {"paceline_worker_link_bytes_per_second", "gauge", "To the coordinator, probed at joining.",
     api_metrics_link},
};

static void api_metrics_write_figure(struct metrics_text *t, const struct api_metrics_workers *all,
                                     const struct api_metrics_figure *figure)
{
    metrics_text_family(t, figure->name, figure->type, figure->help);
    for (int i = 0; i < all->n; i++) {
        double value;
        if (figure->value(&all->list[i], &value))
            metrics_text_sample(t, &(struct metrics_label){"worker", all->list[i].name}, 1, value);
    }
}

/* What the coordinator has seen of their stages. */
static void api_metrics_seen(struct metrics_text *t, const struct api_metrics_workers *all,
                             const struct metrics *m)
{
    int64_t now_us = clock_now_us();
    metrics_text_family(t, "paceline_worker_step_seconds", "histogram",
                        "Computing of a worker's stage, for each step.");
    for (int i = 0; i < all->n; i++) {
        const struct metrics_worker *w = metrics_worker_named(m, all->list[i].name);
        if (w)
            metrics_text_histogram(t, &(struct metrics_label){"worker", w->name}, 1, &w->step_s);
    }
    metrics_text_family(t, "paceline_worker_bubble_ratio", "gauge",
                        "Share of the last 10 to 20 seconds with steps under way in which a "
                        "worker with a stage did not compute.");
    for (int i = 0; i < all->n; i++) {
        const struct metrics_worker *w = metrics_worker_named(m, all->list[i].name);
        double ratio;
        if (w && all->list[i].stage >= 0 && metrics_bubble_ratio(m, w, now_us, &ratio))
            metrics_text_sample(t, &(struct metrics_label){"worker", w->name}, 1, ratio);
    }
}

static void api_metrics_workers(struct metrics_text *t, const struct coordinator *coordinator,
                                int n, const struct metrics *m)
{
    struct api_metrics_workers all = {calloc((size_t)n + 1, sizeof *all.list), 0};
    if (!all.list) {
        t->out->failed = true;
        return;
    }
    while (all.n < n && coordinator_worker_status(coordinator, all.n, &all.list[all.n]))
        all.n++;
    metrics_text_family(t, "paceline_worker_info", "gauge", "Who is there, and its state.");
    for (int i = 0; i < all.n; i++)
        metrics_text_sample(t,
                            (struct metrics_label[]){{"worker", all.list[i].name},
                                                     {"state", all.list[i].state},
                                                     {"isa", all.list[i].isa}},
                            3, 1);
    for (size_t i = 0; i < sizeof api_metrics_figures / sizeof api_metrics_figures[0]; i++)
        api_metrics_write_figure(t, &all, &api_metrics_figures[i]);
    api_metrics_seen(t, &all, m);
    free(all.list);
}

void api_metrics(struct api_call *c)
{
    const struct coordinator *coordinator = c->api->coordinator;
    const struct metrics *m = coordinator_metrics(coordinator);
    struct coordinator_status s;
    struct metrics_text t = {
        .out = &c->out,
        .every = {{"model_name", coordinator_model_alias(coordinator)}, {"engine", "0"}}};
    coordinator_status(coordinator, &s);
    api_metrics_vllm(&t, &s, m);
    t.every[0].name = t.every[1].name = NULL;
    api_metrics_llamacpp(&t, &s, m);
    api_metrics_service(&t, c, &s, m);
    api_metrics_answers(&t, &c->api->answers, &c->api->delivery_s);
    api_metrics_tenants(&t, coordinator, s.n_tenants);
    api_metrics_workers(&t, coordinator, s.n_workers, m);
    api_metrics_process(&t);
    if (buf_failed(&c->out)) {
        api_call_answer(c, 500, NULL);
        return;
    }
    c->status = 200;
    c->content_type = METRICS_TEXT_TYPE;
    c->is_complete = true;
}
