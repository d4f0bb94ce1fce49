#include "coordinator/token_log.h"

#include <string.h>

void token_log_append(struct buf *log, uint32_t token, bool with_records,
                      const struct token_record *record)
{
    buf_append(log, &token, sizeof token);
    if (!with_records)
        return;
    float logprob = record ? record->logprob : 0;
    uint32_t n_top = record ? record->n_top : 0;
    buf_append(log, &logprob, sizeof logprob);
    buf_append(log, &n_top, sizeof n_top);
    if (n_top)
        buf_append(log, record->top, n_top * sizeof *record->top);
}

static bool token_log_take(const void *log, size_t length, size_t *at, void *to, size_t size)
{
    if (length - *at < size)
        return false;
    memcpy(to, (const char *)log + *at, size);
    *at += size;
    return true;
}

bool token_log_next(const void *log, size_t length, size_t *at, bool with_records,
                    struct batch_result *ret_result)
{
    struct batch_result r = {.kind = BATCH_SAMPLE};
    size_t end = *at;
    bool is_there = token_log_take(log, length, &end, &r.token, sizeof r.token);
    if (is_there && with_records)
        is_there = token_log_take(log, length, &end, &r.logprob, sizeof r.logprob) &&
                   token_log_take(log, length, &end, &r.n_top, sizeof r.n_top) &&
                   r.n_top <= BATCH_TOP_LOGPROBS &&
                   token_log_take(log, length, &end, r.top, r.n_top * sizeof r.top[0]);
    if (!is_there)
        return false;
    *at = end;
    *ret_result = r;
    return true;
}

int token_log_count(const void *log, size_t length, bool with_records)
{
    struct batch_result result;
    size_t at = 0;
    int n = 0;
    while (token_log_next(log, length, &at, with_records, &result))
        n++;
    return at == length ? n : -1;
}
