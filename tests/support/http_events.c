#include "tests/support/http_events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct http_events http_events_read(const struct http_answer *a)
{
    struct http_events e = {0};
    const char *at = buf_text(&a->body);
    while (*at) {
        const char *end = strstr(at, "\n\n");
        assert_non_null(end);
        assert_false(e.is_done);
        assert_memory_equal(at, "data: ", 6);
        if (strncmp(at, "data: [DONE]", 12) == 0)
            e.is_done = true;
        else
            e.list[e.n] = json_loadb(at + 6, (size_t)(end - at - 6), 0, NULL);
        if (!e.is_done)
            assert_non_null(e.list[e.n++]);
        at = end + 2;
    }
    return e;
}

void http_events_free(struct http_events *e)
{
    for (int i = 0; i < e->n; i++)
        json_decref(e->list[i]);
}

void http_events_join(const struct http_events *e, int index, const char *path, struct buf *text,
                      const char **ret_finish)
{
    *ret_finish = NULL;
    for (int i = 0; i < e->n; i++) {
        if (json_integer_value(http_fixture_at(e->list[i], "choices.0.index")) != index ||
            !http_fixture_at(e->list[i], "choices.0"))
            continue;
        const json_t *piece = http_fixture_at(e->list[i], path);
        const char *finish =
            json_string_value(http_fixture_at(e->list[i], "choices.0.finish_reason"));
        assert_null(*ret_finish); /* nothing comes after the end */
        if (json_is_string(piece))
            buf_puts(text, json_string_value(piece));
        if (finish)
            *ret_finish = finish;
    }
}
