#include "coordinator/api_chunks.h"

#include "coordinator/api_usage.h"
#include "coordinator/json_text.h"

#include <inttypes.h>
#include <string.h>

json_t *api_chunks_checked(json_t *choice, int rc)
{
    if (rc == 0)
        return choice;
    json_decref(choice);
    return NULL;
}

void api_chunks_answer(struct api_call *c)
{
    struct api_generation *g = c->generation;
    const struct api_chunks_form *form = g->format->chunks;
    json_t *choices = json_array();
    for (size_t i = g->n_scores; i < g->n_requests; i++) {
        struct request *r = g->requests[i];
        for (int k = 0; k < r->n_choices; k++) {
            struct api_generation_piece piece;
            if (!api_generation_whole(c, i, &r->choices[k], &piece) ||
                json_array_append_new(choices, form->choice(&piece)) != 0) {
                json_decref(choices);
                api_call_answer(c, 500, NULL);
                return;
            }
        }
    }
    json_t *answer = json_pack("{s:s, s:s, s:I, s:o, s:s, s:o, s:o, s:o, s:I}", "id", g->id,
                               "object", form->object, "created", (json_int_t)g->created_unix_s,
                               "model", api_call_model_json(c), "system_fingerprint",
                               coordinator_fingerprint(c->api->coordinator), "choices", choices,
                               "usage", api_usage_json(g), "timings", api_usage_timings_json(g),
                               "seed", (json_int_t)g->params.seed);
    api_call_answer(c, 200, answer);
}

/* What every chunk begins with is the same. */
static void api_chunks_begin(struct api_call *c)
{
    struct api_generation *g = c->generation;
    if (!g->head.length) {
        const char *alias = coordinator_model_alias(c->api->coordinator);
        const char *fingerprint = coordinator_fingerprint(c->api->coordinator);
        buf_printf(&g->head,
                   "data: {\"id\":\"%s\",\"object\":\"%s\",\"created\":%" PRId64 ",\"model\":",
                   g->id, g->format->chunks->chunk_object, g->created_unix_s);
        json_text_quote(&g->head, alias, strlen(alias));
        buf_puts(&g->head, ",\"system_fingerprint\":");
        json_text_quote(&g->head, fingerprint, strlen(fingerprint));
        buf_puts(&g->head, ",\"choices\":[");
    }
    buf_append(&c->out, buf_text(&g->head), g->head.length);
    c->out.failed |= buf_failed(&g->head);
}

static void api_chunks_write_timings(struct api_call *c)
{
    json_t *timings = api_usage_timings_json(c->generation);
    buf_puts(&c->out, ",\"timings\":");
    json_text_write(&c->out, timings);
    json_decref(timings);
}

void api_chunks_write(const struct api_generation_piece *p)
{
    struct api_call *c = p->call;
    const struct api_chunks_form *form = c->generation->format->chunks;
    const struct api_params *params = &c->generation->params;
    bool is_plain = !p->finish && !p->is_first && !p->n_records && !p->reasoning && !p->n_calls;
    api_chunks_begin(c);
    if (is_plain) {
        form->text_chunk(p, &c->out);
    } else {
        json_t *choice = form->choice(p);
        json_text_write(&c->out, choice);
        json_decref(choice);
    }
    buf_putc(&c->out, ']');
    if (params->include_usage)
        buf_puts(&c->out, ",\"usage\":null");
    if (p->is_first || p->is_last)
        buf_printf(&c->out, ",\"seed\":%" PRId64, params->seed);
    if (p->is_last)
        api_chunks_write_timings(c);
    buf_puts(&c->out, "}\n\n");
}

void api_chunks_end(struct api_call *c)
{
    struct api_generation *g = c->generation;
    if (g->params.include_usage) {
        json_t *usage = api_usage_json(g);
        api_chunks_begin(c);
        buf_puts(&c->out, "],\"usage\":");
        json_text_write(&c->out, usage);
        buf_printf(&c->out, ",\"seed\":%" PRId64, g->params.seed);
        api_chunks_write_timings(c);
        buf_puts(&c->out, "}\n\n");
        json_decref(usage);
    }
    buf_puts(&c->out, "data: [DONE]\n\n");
}

void api_chunks_fail(struct api_call *c, const struct err *failure)
{
    json_t *error = api_call_error_json(c, err_http_status(failure->code),
                                        api_call_error_code(failure), failure);
    buf_puts(&c->out, "data: ");
    json_text_write(&c->out, error);
    buf_puts(&c->out, "\n\n");
    json_decref(error);
}
