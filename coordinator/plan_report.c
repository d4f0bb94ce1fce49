#include "coordinator/plan_report.h"

int plan_report_fill(struct plan_report *r, struct err *err)
{
    const struct plan_question *q = &r->question;
    int rc = plan_question_ask(q, &r->answer, err);
    if (rc == 0 && r->answer.fits)
        rc = plan_question_helps(q, &r->answer, r->helps, &r->n_helps, err);
    else if (rc == 0)
        rc = plan_question_remedies(q, r->is_file ? NULL : r->model, r->mix, &r->remedies, err);
    return rc;
}

static json_t *report_stages(const struct plan_answer *a)
{
    json_t *list = json_array();
    for (int i = 0; list && i < a->n_stages; i++) {
        const struct plan_answer_stage *s = &a->stages[i];
        json_t *stage =
            json_pack("{s:s, s:i, s:i, s:I, s:I, s:I, s:f}", "worker", s->worker, "first_layer",
                      s->first_layer, "end_layer", s->end_layer, "weight_bytes",
                      (json_int_t)s->weight_bytes, "kv_bytes", (json_int_t)s->kv_bytes,
                      "memory_bytes", (json_int_t)s->memory_bytes, "step_ms", 1000 * s->step_s);
        if (json_array_append_new(list, stage) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static json_t *report_helps(const struct plan_report *r)
{
    json_t *list = json_array();
    for (int i = 0; list && i < r->n_helps; i++)
        json_array_append_new(list, json_pack("{s:s, s:f, s:f}", "what", r->helps[i].what,
                                              "total_gain", r->helps[i].total_gain, "single_gain",
                                              r->helps[i].latency_gain));
    return list;
}

static json_t *report_missing(const struct plan_report *r)
{
    const struct plan_answer *a = &r->answer;
    const struct plan_remedies *m = &r->remedies;
    json_t *machines = json_array();
    for (int i = 0; machines && i < r->question.machines.n_kinds; i++)
        if (m->machines[i])
            json_array_append_new(machines, json_pack("{s:s, s:i}", "worker",
                                                      r->question.machines.kinds[i].name, "count",
                                                      m->machines[i]));
    int64_t missing = a->needed_bytes - a->offered_bytes;
    return json_pack("{s:I, s:I, s:I, s:s?, s:o, s:o}", "needed_bytes", (json_int_t)a->needed_bytes,
                     "offered_bytes", (json_int_t)a->offered_bytes, "missing_bytes",
                     (json_int_t)(missing > 0 ? missing : 0), "quant", m->mix, "context",
                     m->context ? json_integer(m->context) : json_null(), "machines", machines);
}

json_t *plan_report_json(const struct plan_report *r)
{
    const struct plan_answer *a = &r->answer;
    const struct planner_forecast *f = &a->forecast;
    bool fits = a->fits;
    json_t *report = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:o, s:f, s:f, s:f, s:b, s:s}", "model", r->model, "quant",
        r->mix, "objective", planner_objectives[r->question.objective], "context",
        r->question.context, "concurrency", r->question.concurrency, "stages", report_stages(a),
        "decode_tokens_per_second", fits ? 1 / f->latency_s : 0.0, "total_tokens_per_second",
        fits ? f->total_rate : 0.0, "ttft_ms_1000", fits ? 1000 * f->ttft_s : 0.0, "fits", fits,
        "bottleneck", fits ? a->bottleneck : "memory");
    int rc = report ? 0 : -1;
    if (rc == 0)
        rc = fits ? json_object_set_new(report, "helps", report_helps(r))
                  : json_object_set_new(report, "missing", report_missing(r));
    if (rc == 0)
        return report;
    json_decref(report);
    return NULL;
}
