/* Stop strings against golden cases, however the text is cut, and strings that overlap. */
#include "coordinator/stop_strings.h"
#include "tests/support/json_lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MAX_STOPS 8

struct golden {
    const json_t *line;
    const char *stops[MAX_STOPS];
    size_t n_stops;
    struct buf text; /* expected, without the stop string */
    const char *matched;
};

static void golden_read(struct golden *g, const json_t *line)
{
    *g = (struct golden){.line = line};
    const json_t *stops = json_object_get(line, "stop");
    g->n_stops = json_array_size(stops);
    assert_true(g->n_stops <= MAX_STOPS);
    for (size_t i = 0; i < g->n_stops; i++)
        g->stops[i] = json_string_value(json_array_get(stops, i));
    size_t length;
    const char *text = json_lines_text(line, "text", &length);
    g->matched = json_lines_text(line, "matched", &(size_t){0});
    if (json_is_true(json_object_get(line, "include_stop"))) {
        size_t shown = length - strlen(g->matched);
        assert_string_equal(text + shown, g->matched);
        length = shown;
    }
    buf_append(&g->text, text, length);
}

static void check_end(const struct golden *g, struct stop_strings *s, struct buf *out)
{
    stop_strings_finish(s, out);
    assert_int_equal(out->length, g->text.length);
    assert_string_equal(buf_text(out), buf_text(&g->text));
    if (g->matched)
        assert_string_equal(g->stops[s->matched], g->matched);
    else
        assert_int_equal(s->matched, -1);
    stop_strings_clear(s);
    buf_clear(out);
}

static void check_pieces(const struct golden *g)
{
    struct stop_strings s;
    struct buf out = {0};
    stop_strings_init(&s, g->stops, g->n_stops);
    const json_t *pieces = json_object_get(g->line, "pieces");
    size_t used = 0;
    bool stopped = false;
    while (!stopped && used < json_array_size(pieces)) {
        const json_t *piece = json_array_get(pieces, used++);
        stopped = stop_strings_push(&s, json_string_value(piece), json_string_length(piece), &out);
        /* What was shown stays true. */
        assert_true(out.length <= g->text.length);
        assert_memory_equal(buf_text(&out), buf_text(&g->text), out.length);
    }
    assert_int_equal(used, json_integer_value(json_object_get(g->line, "pieces_used")));
    assert_int_equal(stopped, g->matched != NULL);
    check_end(g, &s, &out);
}

static void check_bytes(const struct golden *g)
{
    struct stop_strings s;
    struct buf out = {0};
    stop_strings_init(&s, g->stops, g->n_stops);
    size_t i;
    json_t *piece;
    bool stopped = false;
    json_array_foreach(json_object_get(g->line, "pieces"), i,
                       piece) for (size_t at = 0; !stopped && at < json_string_length(piece); at++)
        stopped = stop_strings_push(&s, json_string_value(piece) + at, 1, &out);
    check_end(g, &s, &out);
}

static void test_golden(void **state)
{
    json_t *lines = json_lines_read(TEST_DATA "/sampling/stop.jsonl"), *line;
    size_t i;
    assert_int_equal(json_array_size(lines), 58);
    json_array_foreach(lines, i, line)
    {
        struct golden g;
        golden_read(&g, line);
        check_pieces(&g);
        check_bytes(&g);
        buf_clear(&g.text);
    }
    json_decref(lines);
}

static void check_cut(const char *text, const char *const *stops, size_t n, size_t step,
                      const char *shown, int matched)
{
    struct stop_strings s;
    struct buf out = {0};
    stop_strings_init(&s, stops, n);
    size_t length = strlen(text);
    for (size_t at = 0; at < length; at += step)
        if (stop_strings_push(&s, text + at, length - at < step ? length - at : step, &out))
            break;
    stop_strings_finish(&s, &out);
    assert_string_equal(buf_text(&out), shown);
    assert_int_equal(s.matched, matched);
    stop_strings_clear(&s);
    buf_clear(&out);
}

/* The one that is complete first ends the text; of two that end together, the longer. */
static void test_overlaps(void **state)
{
    static const char *const repeats[] = {"aab"}, *const inner[] = {"abcd", "bc"},
                             *const tails[] = {"c", "abc"}, *const self[] = {"abab#"};
    for (size_t step = 1; step < 8; step++) {
        check_cut("xaaaab!", repeats, 1, step, "xaa", 0);
        check_cut("xaaaa", repeats, 1, step, "xaaaa", -1);
        check_cut("xabcd", inner, 2, step, "xa", 1);
        check_cut("xabcd", tails, 2, step, "x", 1);
        check_cut("abababab#z", self, 1, step, "abab", 0);
    }
}

static void test_holds_back_only_what_it_must(void **state)
{
    static const char *const stops[] = {"</done>"};
    struct stop_strings s;
    struct buf out = {0};
    stop_strings_init(&s, stops, 1);
    assert_false(stop_strings_push(&s, "a</do", 5, &out));
    assert_string_equal(buf_text(&out), "a");
    assert_false(stop_strings_push(&s, "x<", 2, &out));
    assert_string_equal(buf_text(&out), "a</dox");
    assert_false(stop_strings_push(&s, "/done", 5, &out));
    assert_true(stop_strings_push(&s, "> rest", 6, &out));
    assert_true(stop_strings_push(&s, "more", 4, &out));
    stop_strings_finish(&s, &out);
    assert_string_equal(buf_text(&out), "a</dox");
    stop_strings_clear(&s);
    buf_clear(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_overlaps),
        cmocka_unit_test(test_holds_back_only_what_it_must),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
