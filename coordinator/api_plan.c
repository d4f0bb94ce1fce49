#include "coordinator/api_plan.h"

#include "coordinator/json_body.h"
#include "coordinator/plan_desk.h"
#include "model/known_models.h"
#include "model/quant_mix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PLAN_CONTEXT_MAX (1 << 20)

/* They keep an answer within about a second. */
enum { PLAN_API_KINDS = 8, PLAN_API_MACHINES = 32 };

/* ---- what may be asked for ---- */

static json_t *api_plan_models(void)
{
    json_t *list = json_array();
    double parameters;
    const char *name;
    for (size_t i = 0; list && (name = known_model_name(i, &parameters)); i++)
        json_array_append_new(list, json_string(name));
    return list;
}

static json_t *api_plan_mixes(void)
{
    json_t *list = json_array();
    for (int i = 0; list && quant_mix_name(i); i++)
        json_array_append_new(list, json_string(quant_mix_name(i)));
    return list;
}

static json_t *api_plan_objectives(void)
{
    json_t *list = json_array();
    for (int i = 0; list && planner_objectives[i]; i++)
        json_array_append_new(list, json_string(planner_objectives[i]));
    return list;
}

void api_plan_choices(struct api_call *c)
{
    api_call_answer(c, 200,
                    json_pack("{s:o, s:o, s:o, s:i, s:i}", "models", api_plan_models(), "quants",
                              api_plan_mixes(), "objectives", api_plan_objectives(), "most_kinds",
                              PLAN_API_KINDS, "most_machines", PLAN_API_MACHINES));
}

/* ---- a question ---- */

static int api_plan_objective(const json_t *body, enum planner_objective *ret_objective,
                              struct err *err)
{
    const char *name = planner_objectives[PLANNER_BALANCED];
    int rc = json_body_string(body, "objective", &name, NULL, err);
    for (int i = 0; rc == 0 && planner_objectives[i]; i++) {
        if (strcmp(planner_objectives[i], name) == 0) {
            *ret_objective = (enum planner_objective)i;
            return 0;
        }
    }
    return rc != 0 ? rc
                   : err_set_param(err, ERR_INPUT, "objective",
                                   "'objective' must be balanced, latency or throughput, not "
                                   "\"%.40s\".",
                                   name);
}

static int api_plan_shape(const json_t *body, struct plan_report *r, struct model_shape *ret_shape,
                          struct err *err)
{
    struct err unknown = {0};
    r->mix = "Q4_K_M";
    int rc = json_body_string(body, "model", &r->model, NULL, err);
    if (rc == 0)
        rc = json_body_string(body, "quant", &r->mix, NULL, err);
    if (rc != 0)
        return rc;
    if (!r->model)
        return err_set_param(err, ERR_INPUT, "model",
                             "'model' is missing: a name such as \"qwen2.5-7b\".");
    if (!known_model_exists(r->model))
        return err_set_param(err, ERR_NOT_FOUND, "model",
                             "The shape of the model \"%.60s\" is not known; GET /cluster/plan "
                             "lists those that are.",
                             r->model);
    if (quant_mix_find(r->mix, &unknown) < 0)
        return err_set_param(err, ERR_INPUT, "quant",
                             "'quant' is \"%.40s\"; GET /cluster/plan lists what it may be.",
                             r->mix);
    return model_shape_of_name(ret_shape, r->model, r->mix, err);
}

static int api_plan_kind(const json_t *item, int number, struct plan_machine_kind *ret_kind,
                         struct err *err)
{
    const char *name = NULL;
    double figures[PLAN_FIGURES];
    if (!json_is_object(item))
        return err_set_param(err, ERR_INPUT, "machines",
                             "'machines' must hold objects; element %d is none.", number - 1);
    int rc = json_body_string(item, "name", &name, NULL, err);
    if (rc == 0 && name && strlen(name) >= sizeof ret_kind->name)
        rc = err_set_param(err, ERR_INPUT, "name", "'name' of machines has at most %zu bytes.",
                           sizeof ret_kind->name - 1);
    for (int f = 0; rc == 0 && f < PLAN_FIGURES; f++) {
        const struct plan_figure_rule *rule = &plan_figure_rules[f];
        figures[f] = rule->initial;
        rc = json_body_real(item, rule->name, rule->least, rule->most, &figures[f], err);
        if (rc == 0 && isnan(figures[f]))
            rc = err_set_param(err, ERR_INPUT, rule->name,
                               "'%s' of element %d of 'machines' is missing.", rule->name,
                               number - 1);
        else if (rc == 0 && !plan_figure_fits((enum plan_figure)f, figures[f]))
            rc = err_set_param(err, ERR_INPUT, rule->name,
                               "'%s' of element %d of 'machines' is %g; it must be an integer.",
                               rule->name, number - 1, figures[f]);
    }
    if (rc == 0)
        plan_machine_describe(ret_kind, name, number, figures);
    return rc;
}

static int api_plan_machines(const json_t *body, struct plan_machines *ret_machines,
                             struct err *err)
{
    json_t *list = NULL;
    int rc = json_body_array(body, "machines", &list, err);
    int n = rc == 0 && json_array_size(list) <= PLAN_API_KINDS ? (int)json_array_size(list) : 0;
    if (rc == 0 && n == 0)
        rc = err_set_param(err, ERR_INPUT, "machines",
                           "'machines' must be an array of 1 to %d kinds of machines.",
                           PLAN_API_KINDS);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = api_plan_kind(json_array_get(list, (size_t)i), i + 1, &ret_machines->kinds[i], err);
    ret_machines->n_kinds = n;
    if (rc == 0 && plan_machines_count(ret_machines) > PLAN_API_MACHINES)
        rc = err_set_param(err, ERR_INPUT, "machines",
                           "'machines' are more than %d altogether; \"paceline plan\" takes %d.",
                           PLAN_API_MACHINES, PLAN_MACHINES);
    return rc;
}

static int api_plan_question(const json_t *body, struct plan_report *r, struct model_shape *shape,
                             struct err *err)
{
    int64_t context = 0, concurrency = 4;
    struct plan_question *q = &r->question;
    int rc = api_plan_shape(body, r, shape, err);
    if (rc == 0)
        rc = api_plan_objective(body, &q->objective, err);
    if (rc == 0)
        rc = json_body_integer(body, "context", 0, PLAN_CONTEXT_MAX, &context, err);
    if (rc == 0)
        rc = json_body_integer(body, "concurrency", 1, PLAN_CONCURRENCY, &concurrency, err);
    if (rc == 0)
        rc = api_plan_machines(body, &q->machines, err);
    if (rc == 0 && context > shape->config.context_length)
        rc = err_set_param(err, ERR_INPUT, "context",
                           "'context' is %lld; this model was trained for %d tokens.",
                           (long long)context, shape->config.context_length);
    q->shape = shape; /* of the same job */
    q->concurrency = (int)concurrency;
    if (rc == 0)
        q->context = context ? (int)context : plan_question_context(shape);
    return rc;
}

void api_plan(struct api_call *c)
{
    struct err err;
    struct plan_job *j = plan_job_new();
    int rc = j ? 0 : err_set(&err, ERR_MEMORY, "There is no memory to plan.");
    if (rc == 0) {
        j->owner = c;
        j->words = json_incref(c->body);
        rc = api_plan_question(c->body, &j->report, &j->shape, &err);
    }
    if (rc == 0)
        rc = plan_desk_add(c->api->planner, j, &err);
    if (rc == 0) {
        c->waits_for_plan = true;
        return;
    }
    plan_job_free(j);
    api_call_fail(c, &err);
}

struct api_call *api_plan_take(struct api *api)
{
    struct plan_job *j;
    while ((j = plan_desk_take(api->planner))) {
        struct api_call *c = j->owner;
        if (c) {
            c->waits_for_plan = false;
            if (j->rc == 0)
                api_call_answer(c, 200, plan_report_json(&j->report));
            else
                api_call_fail(c, &j->err);
        }
        plan_job_free(j);
        if (c)
            return c;
    }
    return NULL;
}

void api_plan_leave(struct api_call *c)
{
    if (c->waits_for_plan)
        plan_desk_forget(c->api->planner, c);
    c->waits_for_plan = false;
}
