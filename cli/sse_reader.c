#include "cli/sse_reader.h"

#include <string.h>

enum { SSE_EVENT_LIMIT = 1 << 24 };

static int sse_reader_take(struct sse_reader *r, const char *data, size_t length, struct err *err)
{
    if (length == 6 && !memcmp(data, "[DONE]", 6)) {
        r->done = true;
        return 0;
    }
    json_error_t at;
    json_t *event = json_loadb(data, length, 0, &at);
    if (!event)
        return err_set(err, ERR_NETWORK, "an event of the server is not JSON: %s", at.text);
    const json_t *error = json_object_get(event, "error");
    const char *sentence = json_string_value(json_object_get(error, "message"));
    int rc = error ? err_set(err, ERR_NETWORK, "%s", sentence ? sentence : "the request failed")
                   : r->on_event(r->context, event, err);
    json_decref(event);
    return rc;
}

/* One "data:" line is one event, as all servers of this kind write them; comments (pings) and
 * other fields are passed over. */
int sse_reader_push(struct sse_reader *r, const char *bytes, size_t length, struct err *err)
{
    buf_append(&r->text, bytes, length);
    if (buf_failed(&r->text) || r->text.length > SSE_EVENT_LIMIT)
        return err_set(err, ERR_MEMORY, "an event of the server is too long");
    size_t start = 0;
    int rc = 0;
    for (char *end;
         rc == 0 && (end = memchr(r->text.data + start, '\n', r->text.length - start));) {
        char *line = r->text.data + start;
        size_t line_length = (size_t)(end - line);
        start += line_length + 1;
        if (line_length && line[line_length - 1] == '\r')
            line_length--;
        if (line_length < 5 || memcmp(line, "data:", 5) || r->done)
            continue;
        size_t skip = line_length > 5 && line[5] == ' ' ? 6 : 5;
        rc = sse_reader_take(r, line + skip, line_length - skip, err);
    }
    buf_drop_front(&r->text, start);
    return rc;
}

void sse_reader_reset(struct sse_reader *r)
{
    buf_reset(&r->text);
    r->done = false;
}

void sse_reader_clear(struct sse_reader *r)
{
    buf_clear(&r->text);
}
