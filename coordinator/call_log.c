#include "coordinator/call_log.h"

#include "base/log.h"
#include "coordinator/api.h"
#include "coordinator/api_generation.h"

void call_log_end(const struct api_call *c, int64_t took_ms)
{
    const struct api_generation *g = c->generation;
    bool generates = c->route && c->route->generates;
    int64_t prompt = 0, generated = 0;
    for (size_t i = g ? g->n_scores : 0; g && i < g->n_requests; i++) {
        prompt += g->requests[i]->n_prompt;
        for (int k = 0; g->requests[i]->choices && k < g->requests[i]->n_choices; k++)
            generated += g->requests[i]->choices[k].n_tokens - g->requests[i]->n_prompt;
    }
    const struct log_field fields[] = {{"request_id", c->request_id, 0},
                                       {"trace_id", c->trace.trace_id, 0},
                                       {"span_id", c->trace.span_id, 0},
                                       {"parent_id", c->trace.parent_id, 0},
                                       {"id", g ? g->id : "", 0},
                                       {"status", NULL, api_call_status(c)},
                                       {"duration_ms", NULL, took_ms},
                                       {"prompt_tokens", g ? NULL : "", prompt},
                                       {"completion_tokens", g ? NULL : "", generated}};
    log_event(generates ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, fields,
              sizeof fields / sizeof fields[0], "%s %s", c->method,
              c->route ? c->route->path : "(no such endpoint)");
}
