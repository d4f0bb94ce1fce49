#include "coordinator/reply.h"

#include <stdlib.h>
#include <string.h>

bool reply_thinks(const char *source, size_t length)
{
    return memmem(source, length, REPLY_THINK_END, strlen(REPLY_THINK_END)) != NULL;
}

void reply_init(struct reply *r, const struct reply_rules *rules)
{
    *r = (struct reply){.rules = *rules};
}

void reply_clear(struct reply *r)
{
    for (size_t i = 0; i < r->n_calls; i++)
        tool_calls_clear(&r->calls[i]);
    free(r->calls);
    buf_clear(&r->held);
    buf_clear(&r->reasoning);
    buf_clear(&r->content);
    *r = (struct reply){0};
}

bool reply_failed(const struct reply *r)
{
    return r->has_failed || buf_failed(&r->held) || buf_failed(&r->reasoning) ||
           buf_failed(&r->content);
}

/* ---- held text ---- */

static void reply_enter(struct reply *r, enum reply_state state, size_t dropped)
{
    buf_drop_front(&r->held, dropped);
    r->state = state;
    r->scanned = 0;
    r->in_string = r->is_escaped = false;
}

static size_t reply_count(const struct reply *r, const char *set)
{
    return strspn(buf_text(&r->held), set); /* ends at a NUL at the latest */
}

static bool reply_begins(const struct reply *r, size_t at, const char *tag)
{
    return r->held.length - at >= strlen(tag) && !memcmp(r->held.data + at, tag, strlen(tag));
}

/* The text from `at` on is the beginning of the tag, or nothing at all: more must come. */
static bool reply_may_begin(const struct reply *r, size_t at, const char *tag)
{
    size_t left = r->held.length - at;
    return left < strlen(tag) && memcmp(buf_text(&r->held) + at, tag, left) == 0;
}

/* Bytes at the end of held that may be the beginning of the tag. */
static size_t reply_undecided(const struct reply *r, const char *tag)
{
    size_t n = strlen(tag) - 1;
    if (n > r->held.length)
        n = r->held.length;
    while (n && memcmp(r->held.data + r->held.length - n, tag, n) != 0)
        n--;
    return n;
}

/* Where the tag begins in held[at, …), or NULL. */
static const char *reply_find(const struct reply *r, size_t at, const char *tag)
{
    return memmem(buf_text(&r->held) + at, r->held.length - at, tag, strlen(tag));
}

/* ---- reasoning and content ---- */

static bool reply_step_begin(struct reply *r, bool is_end)
{
    size_t space = reply_count(r, " \t\r\n");
    if (!r->rules.thinks) {
        reply_enter(r, REPLY_TALKS, 0);
    } else if (reply_begins(r, space, REPLY_THINK_BEGIN)) {
        reply_enter(r, REPLY_REASONS, space + strlen(REPLY_THINK_BEGIN));
        r->has_reasoning = true;
    } else if (reply_may_begin(r, space, REPLY_THINK_BEGIN) && !is_end) {
        return false;
    } else {
        reply_enter(r, r->rules.is_thinking ? REPLY_REASONS : REPLY_TALKS, 0);
        r->has_reasoning = r->rules.is_thinking;
    }
    return true;
}

/* Line breaks at both ends are the template's. */
static bool reply_step_reason(struct reply *r, bool is_end)
{
    const char *tag = reply_find(r, 0, REPLY_THINK_END);
    size_t end = tag      ? (size_t)(tag - r->held.data)
                 : is_end ? r->held.length
                          : r->held.length - reply_undecided(r, REPLY_THINK_END);
    size_t shown = end, from = r->has_reasoned ? 0 : reply_count(r, "\n");
    while (shown > from && r->held.data[shown - 1] == '\n')
        shown--;
    if (shown > from) {
        buf_append(&r->reasoning, r->held.data + from, shown - from);
        r->has_reasoned = true;
    }
    if (tag) {
        reply_enter(r, REPLY_HAS_REASONED, end + strlen(REPLY_THINK_END));
        return true;
    }
    buf_drop_front(&r->held, shown > from ? shown : from);
    return false;
}

static bool reply_step_after_reasoning(struct reply *r)
{
    buf_drop_front(&r->held, reply_count(r, "\r\n"));
    if (!r->held.length)
        return false;
    reply_enter(r, REPLY_TALKS, 0);
    return true;
}

static bool reply_step_talk(struct reply *r, bool is_end)
{
    bool looks = r->rules.format != TOOL_FORMAT_NONE;
    const char *tag = looks ? reply_find(r, 0, TOOL_CALLS_BEGIN) : NULL;
    size_t end = tag                ? (size_t)(tag - r->held.data)
                 : looks && !is_end ? r->held.length - reply_undecided(r, TOOL_CALLS_BEGIN)
                                    : r->held.length;
    buf_append(&r->content, buf_text(&r->held), end);
    if (!tag) {
        buf_drop_front(&r->held, end);
        return false;
    }
    reply_enter(r, REPLY_CALLS, end + strlen(TOOL_CALLS_BEGIN));
    return true;
}

/* ---- calls ---- */

/* An end tag in a string of JSON is none. */
static bool reply_find_json_end(struct reply *r, size_t *ret_end)
{
    for (; r->scanned < r->held.length; r->scanned++) {
        char c = r->held.data[r->scanned];
        if (r->is_escaped)
            r->is_escaped = false;
        else if (r->in_string && c == '\\')
            r->is_escaped = true;
        else if (c == '"')
            r->in_string = !r->in_string;
        else if (r->in_string || c != '<')
            continue;
        else if (reply_may_begin(r, r->scanned, TOOL_CALLS_END))
            return false;
        else if (reply_begins(r, r->scanned, TOOL_CALLS_END)) {
            *ret_end = r->scanned;
            return true;
        }
    }
    return false;
}

/* Nor is one that does not stand behind the function's: it is part of a parameter's value. */
static bool reply_find_tag_end(struct reply *r, size_t *ret_end)
{
    static const char last[] = "</function>";
    const char *tag;
    while ((tag = reply_find(r, r->scanned, TOOL_CALLS_END))) {
        size_t end = (size_t)(tag - r->held.data), at = end;
        r->scanned = end + strlen(TOOL_CALLS_END);
        while (at && memchr(" \t\r\n", r->held.data[at - 1], 4))
            at--;
        if (at >= strlen(last) && !memcmp(r->held.data + at - strlen(last), last, strlen(last))) {
            *ret_end = end;
            return true;
        }
    }
    r->scanned = r->held.length - reply_undecided(r, TOOL_CALLS_END);
    return false;
}

static bool reply_find_end(struct reply *r, size_t *ret_end)
{
    return r->rules.format == TOOL_FORMAT_XML ? reply_find_tag_end(r, ret_end)
                                              : reply_find_json_end(r, ret_end);
}

static void reply_drop_calls(struct reply *r, size_t n_left)
{
    while (r->n_calls > n_left)
        tool_calls_clear(&r->calls[--r->n_calls]);
}

/* One more call, at held[at, end): true if there is one. *ret_used: bytes of it. */
static bool reply_add_call(struct reply *r, size_t at, size_t end, size_t *ret_used)
{
    struct tool_call *more = realloc(r->calls, (r->n_calls + 1) * sizeof *more);
    r->has_failed |= !more;
    if (!more)
        return false;
    r->calls = more;
    int rc = tool_calls_parse(r->rules.format, r->rules.tools, buf_text(&r->held) + at, end - at,
                              &r->calls[r->n_calls], ret_used);
    r->has_failed |= rc < 0;
    r->n_calls += rc == 1;
    return rc == 1;
}

/* held[0, end) stands between begin and end: true if it is calls, and nothing else. */
static bool reply_take_calls(struct reply *r, size_t end)
{
    size_t at = 0, used = 0, n_before = r->n_calls;
    do {
        if (!reply_add_call(r, at, end, &used)) {
            reply_drop_calls(r, n_before);
            return false;
        }
        at += used;
    } while (at < end && !r->rules.is_single);
    return true;
}

/* The last begin tag in held[0, end), or NULL. */
static const char *reply_find_last_begin(const struct reply *r, size_t end)
{
    const char *found = NULL, *at = buf_text(&r->held), *last = at + end;
    while ((at = memmem(at, (size_t)(last - at), TOOL_CALLS_BEGIN, strlen(TOOL_CALLS_BEGIN))))
        found = at++;
    return found;
}

/* No call ends at `end`: what was taken for one is content, up to a later beginning if there is
 * one, and else with the end tag. */
static void reply_take_back(struct reply *r, size_t end)
{
    const char *begin = reply_find_last_begin(r, end);
    size_t length = begin ? (size_t)(begin - r->held.data) : end + strlen(TOOL_CALLS_END);
    if (length > r->held.length)
        length = r->held.length;
    buf_puts(&r->content, TOOL_CALLS_BEGIN);
    buf_append(&r->content, buf_text(&r->held), length);
    reply_enter(r, REPLY_TALKS, length);
}

static bool reply_step_call(struct reply *r, bool is_end)
{
    size_t end = 0;
    bool is_whole = reply_find_end(r, &end);
    if (!is_whole && !is_end)
        return false;
    if (!is_whole) /* models forget the last end tag */
        end = r->held.length;
    if (reply_take_calls(r, end)) {
        reply_enter(r, REPLY_HAS_CALLED, end + (is_whole ? strlen(TOOL_CALLS_END) : 0));
        return true;
    }
    reply_take_back(r, end);
    return true;
}

static bool reply_step_after_call(struct reply *r, bool is_end)
{
    size_t space = reply_count(r, " \t\r\n");
    if (r->rules.is_single) {
        buf_reset(&r->held);
        return false;
    }
    if (r->held.length == space)
        return false;
    if (reply_begins(r, space, TOOL_CALLS_BEGIN))
        reply_enter(r, REPLY_CALLS, space + strlen(TOOL_CALLS_BEGIN));
    else if (reply_may_begin(r, space, TOOL_CALLS_BEGIN) && !is_end)
        return false;
    else
        reply_enter(r, REPLY_TALKS, 0);
    return true;
}

/* ---- the whole ---- */

/* false: nothing more can be told from what is held. */
static bool reply_step(struct reply *r, bool is_end)
{
    switch (r->state) {
    case REPLY_BEGINS:
        return reply_step_begin(r, is_end);
    case REPLY_REASONS:
        return reply_step_reason(r, is_end);
    case REPLY_HAS_REASONED:
        return reply_step_after_reasoning(r);
    case REPLY_TALKS:
        return reply_step_talk(r, is_end);
    case REPLY_CALLS:
        return reply_step_call(r, is_end);
    case REPLY_HAS_CALLED:
        return reply_step_after_call(r, is_end);
    }
    return false;
}

void reply_push(struct reply *r, const char *text, size_t length)
{
    buf_append(&r->held, text, length);
    while (!reply_failed(r) && reply_step(r, false))
        ;
}

void reply_finish(struct reply *r)
{
    while (!reply_failed(r) && reply_step(r, true))
        ;
}
