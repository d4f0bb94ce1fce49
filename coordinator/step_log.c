#include "coordinator/step_log.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>

static void step_log_line(uint64_t epoch, const struct pipeline_step *s, const char *ids)
{
    const struct log_field fields[] = {
        {"epoch", NULL, (int64_t)epoch},
        {"step", NULL, (int64_t)s->step},
        {"rows", NULL, s->n_decode_rows + s->n_prefill_rows},
        {"request_ids", ids, 0},
    };
    log_event(LOG_LEVEL_DEBUG, fields, sizeof fields / sizeof fields[0], "step sent");
}

/* A line takes so many bytes of ids; the others follow in lines of their own. */
void step_log_sent(uint64_t epoch, const struct pipeline_step *s)
{
    char ids[2048];
    size_t n = 0;
    if (log_level() < LOG_LEVEL_DEBUG)
        return;
    for (int i = 0; i < s->n_items; i++) {
        const char *id = s->items[i].choice->request->request_id;
        if (i > 0 && strcmp(id, s->items[i - 1].choice->request->request_id) == 0)
            continue; /* another choice of the same call */
        if (n + strlen(id) + 2 > sizeof ids) {
            step_log_line(epoch, s, ids);
            n = 0;
        }
        n += (size_t)snprintf(ids + n, sizeof ids - n, "%s%s", n ? "," : "", id);
    }
    if (n)
        step_log_line(epoch, s, ids);
}
