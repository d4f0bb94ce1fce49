/* http_events.h - the server-sent events of an answer, in OpenAI's form. */
#ifndef PACELINE_TESTS_SUPPORT_HTTP_EVENTS_H
#define PACELINE_TESTS_SUPPORT_HTTP_EVENTS_H

#include "tests/support/http_fixture.h"

struct http_events {
    json_t *list[256];
    int n;
    bool is_done; /* [DONE] came, and nothing after it */
};

struct http_events http_events_read(const struct http_answer *a);
void http_events_free(struct http_events *e);
/* The strings at path of one choice's chunks, put together; its finish reason. */
void http_events_join(const struct http_events *e, int index, const char *path, struct buf *text,
                      const char **ret_finish);

#endif
