/* Answers of /cluster/trace as a trace: valid JSON, in order, whatever the server says. */
#include "cli/trace_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BEGIN                                                                                      \
    "{\"now_us\":1000,\"next\":0,\"more\":false,\"lost\":0,\"epoch\":3,\"steps\":[],\"stages\":["  \
    "{\"stage\":0,\"worker\":\"a\\\"b\\u00e9\",\"layers\":[0,12]},"                                \
    "{\"stage\":1,\"worker\":\"c\",\"layers\":[12,24]}]}"
#define ANSWER(steps) "{\"now_us\":2000,\"lost\":0,\"epoch\":3,\"stages\":[],\"steps\":[" steps "]}"
#define STEP(step, epoch, sent, answered, stages)                                                  \
    "{\"step\":" step ",\"epoch\":" epoch ",\"sent_us\":" sent ",\"answered_us\":" answered        \
    ",\"rows\":5,\"decode_rows\":2,\"prefill_rows\":3,\"sequences\":3,\"stages\":[" stages "]}"

static int take(struct trace_file *t, const char *text, struct err *err)
{
    json_t *answer = json_loads(text, 0, NULL);
    assert_non_null(answer);
    int rc = trace_file_take(t, answer, err);
    json_decref(answer);
    return rc;
}

static struct trace_file *trace_begin(void)
{
    struct trace_file *t;
    struct err err;
    assert_int_equal(trace_file_new(&t, &err), 0);
    assert_int_equal(take(t, BEGIN, &err), 0);
    return t;
}

static void accept(struct trace_file *t, const char *text)
{
    struct err err;
    if (take(t, text, &err) != 0)
        fail_msg("%s: %s", text, err.text);
}

static json_t *written(struct trace_file *t, char **ret_report)
{
    char *text = NULL, *report = NULL;
    size_t size = 0;
    struct err err;
    FILE *out = open_memstream(&text, &size);
    assert_int_equal(trace_file_write(t, out, &err), 0);
    fclose(out);
    json_error_t at;
    json_t *whole = json_loadb(text, size, JSON_REJECT_DUPLICATES, &at);
    if (!whole)
        fail_msg("%s in %s", at.text, text);
    free(text);
    out = open_memstream(&report, &size);
    trace_file_report(t, out);
    fclose(out);
    if (ret_report)
        *ret_report = report;
    else
        free(report);
    return whole;
}

static int64_t number(const json_t *event, const char *name)
{
    const json_t *value = json_object_get(event, name);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static char kind(const json_t *event)
{
    return json_string_value(json_object_get(event, "ph"))[0];
}

/* Ascending, none below 0, slices of one process one after the other. Returns their number. */
static int check_order(const json_t *whole)
{
    int64_t before = 0, ends[16] = {0};
    const json_t *event;
    size_t i;
    int n = 0;
    json_array_foreach(json_object_get(whole, "traceEvents"), i, event)
    {
        int64_t ts = number(event, "ts"), pid = number(event, "pid");
        assert_true(ts >= before);
        before = ts;
        assert_in_range(pid, 1, 15);
        if (kind(event) != 'X')
            continue;
        assert_true(ts >= ends[pid] && number(event, "dur") > 0);
        ends[pid] = ts + number(event, "dur");
        n++;
    }
    return n;
}

static int count(const json_t *whole, char ph)
{
    const json_t *event;
    size_t i;
    int n = 0;
    json_array_foreach(json_object_get(whole, "traceEvents"), i, event) n += kind(event) == ph;
    return n;
}

static void an_empty_trace(void **state)
{
    (void)state;
    struct trace_file *t = trace_begin();
    json_t *whole = written(t, NULL);
    assert_int_equal(check_order(whole), 0);
    const json_t *event;
    size_t i;
    int n_processes = 0, n_threads = 0;
    json_array_foreach(json_object_get(whole, "traceEvents"), i, event)
    {
        const char *name = json_string_value(json_object_get(event, "name"));
        n_processes += !strcmp(name, "process_name");
        n_threads += !strcmp(name, "thread_name");
    }
    assert_int_equal(n_processes, 3);
    assert_int_equal(n_threads, 3);
    assert_int_equal(count(whole, 'M'), 9); /* and their order */
    json_decref(whole);
    char *report;
    accept(t, ANSWER(""));
    json_decref(written(t, &report));
    assert_non_null(strstr(report, "no step came in 0.0 s: send requests while it records\n"));
    free(report);
    trace_file_free(t);
}

static void two_steps_over_two_stages(void **state)
{
    (void)state;
    struct trace_file *t = trace_begin();
    char *report;
    accept(t, ANSWER(STEP("1", "3", "1000", "1900", "[1100,300,50],[1500,300,60]")));
    accept(t, ANSWER(STEP("2", "3", "1050", "2000", "[1390,100,0],[1790,100,0]")));
    json_t *whole = written(t, &report);
    assert_int_equal(check_order(whole), 4); /* though estimates overlap by 10 us */
    assert_int_equal(count(whole, 's'), 2);
    assert_int_equal(count(whole, 'f'), 2);
    assert_int_equal(count(whole, 'b'), 2);
    assert_int_equal(count(whole, 'e'), 2);
    assert_int_equal(count(whole, 'C'), 4);
    assert_non_null(strstr(report, "  39.0 %"));          /* busy: 390 of 1000 us */
    assert_non_null(strstr(report, "61.0 %"));            /* and bubbles */
    assert_non_null(strstr(report, "0.200       0.025")); /* waits of 50 and 0 us */
    assert_non_null(strstr(report, "0.200       0.030")); /* of 60 and 0 */
    free(report);
    json_decref(whole);
    trace_file_free(t);
}

/* A stage that idles since yesterday does not wait: the second step alone counts, or none does. */
static void waits_from_before_the_step_are_none(void **state)
{
    (void)state;
    struct trace_file *t = trace_begin();
    char *report;
    accept(t,
           ANSWER(STEP("1", "3", "1000", "1900", "[1100,300,4000000000],[1500,300,501]") "," STEP(
               "2", "3", "1350", "2000", "[1440,100,40],[null,100,7]")));
    json_decref(written(t, &report));
    assert_non_null(strstr(report, "0.200       0.040"));
    assert_non_null(strstr(report, "0.200           -"));
    free(report);
    trace_file_free(t);
}

/* The name of the only slice. */
static void check_name(const char *rows, const char *decode, const char *prefill, const char *name)
{
    struct trace_file *t = trace_begin();
    char answer[512];
    snprintf(answer, sizeof answer,
             "{\"now_us\":2000,\"lost\":0,\"epoch\":3,\"stages\":[],\"steps\":[{\"step\":864,"
             "\"epoch\":3,\"sent_us\":1000,\"answered_us\":1900,\"rows\":%s,\"decode_rows\":%s,"
             "\"prefill_rows\":%s,\"sequences\":1,\"stages\":[[1100,300,0]]}]}",
             rows, decode, prefill);
    accept(t, answer);
    json_t *whole = written(t, NULL);
    const json_t *event;
    size_t i;
    int n = 0;
    json_array_foreach(json_object_get(whole, "traceEvents"), i, event)
    {
        if (!strchr("Xbe", kind(event)))
            continue;
        n++;
        assert_string_equal(json_string_value(json_object_get(event, "name")), name);
        if (kind(event) != 'e')
            assert_int_equal(number(json_object_get(event, "args"), "step"), 864);
    }
    assert_int_equal(n, 3);
    json_decref(whole);
    trace_file_free(t);
}

static void slices_say_what_is_computed(void **state)
{
    (void)state;
    check_name("8", "8", "0", "decode x8");
    check_name("64", "0", "64", "prefill 64");
    check_name("72", "8", "64", "mixed 8+64");
}

static void steps_from_before_and_without_times(void **state)
{
    (void)state;
    struct trace_file *t = trace_begin();
    accept(t, ANSWER(STEP("1", "3", "200", "1100", "[250,300,0],[900,150,0]") "," STEP(
                  "2", "2", "900", "1200",
                  "[null,300,0],[950,0,4294967295]") "," STEP("3", "9", "900", "1300",
                                                              "") "," STEP("4", "3", "1400", "1400",
                                                                           "[null,1,0],[null,1,0],["
                                                                           "1400,0,0]")));
    json_t *whole = written(t, NULL);
    assert_int_equal(check_order(whole), 4);
    assert_int_equal(count(whole, 's'), 1); /* arrows only where both ends are known */
    assert_int_equal(count(whole, 'b'), 4);
    json_decref(whole);
    trace_file_free(t);
}

static void answers_that_are_none(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "{}",
        "[]",
        "{\"now_us\":1,\"lost\":0,\"epoch\":3,\"stages\":[]}",
        "{\"now_us\":-1,\"lost\":0,\"epoch\":3,\"stages\":[],\"steps\":[]}",
        "{\"now_us\":1,\"lost\":0,\"epoch\":3,\"stages\":[1],\"steps\":[]}",
        "{\"now_us\":1,\"lost\":0,\"epoch\":3,\"stages\":[{\"worker\":\"a\"}],\"steps\":[]}",
        ANSWER("{}"),
        ANSWER(STEP("1", "3", "1000", "999", "")),
        ANSWER(STEP("1", "3", "1000", "9223372036854775807", "")),
        ANSWER(STEP("1", "3", "1000", "1100", "1")),
        ANSWER(STEP("1", "3", "1000", "1100", "[1,2]")),
        ANSWER(STEP("1", "3", "1000", "1100", "[-1,2,3]")),
        ANSWER(STEP("1", "3", "1000", "1100", "[1,4294967296,3]")),
    };
    struct trace_file *t = trace_begin();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct err err = {0};
        if (take(t, bad[i], &err) != ERR_NETWORK)
            fail_msg("%s was taken", bad[i]);
    }
    json_t *whole = written(t, NULL);
    assert_int_equal(check_order(whole), 0);
    json_decref(whole);
    trace_file_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_trace),
        cmocka_unit_test(two_steps_over_two_stages),
        cmocka_unit_test(waits_from_before_the_step_are_none),
        cmocka_unit_test(slices_say_what_is_computed),
        cmocka_unit_test(steps_from_before_and_without_times),
        cmocka_unit_test(answers_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
