/* Settings from the command line, the environment and libconfig files. */
#include "base/conf.h"
#include "base/conf_value.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct settings {
    char *model;
    int64_t threads, memory;
    double share;
    bool verbose;
    int kv;
    char *output;
};

static const char *const kv_choices[] = {"f16", "f32", NULL};
#define FIELD(name) offsetof(struct settings, name)
static const struct conf_option options[] = {
    {.name = "model", .letter = 'm', .type = CONF_STRING, .offset = FIELD(model), .help = "m"},
    {.name = "threads-per-worker",
     .letter = 't',
     .type = CONF_INT,
     .offset = FIELD(threads),
     .initial = "4",
     .min = 1,
     .max = 1024,
     .help = "t"},
    {.name = "memory", .type = CONF_SIZE, .offset = FIELD(memory), .initial = "1GiB", .help = "b"},
    {.name = "share", .type = CONF_REAL, .offset = FIELD(share), .min = 0, .max = 1, .help = "s"},
    {.name = "verbose", .letter = 'v', .type = CONF_FLAG, .offset = FIELD(verbose), .help = "v"},
    {.name = "kv",
     .type = CONF_CHOICE,
     .offset = FIELD(kv),
     .initial = "f16",
     .choices = kv_choices,
     .help = "k"},
    {.name = "output",
     .type = CONF_STRING,
     .offset = FIELD(output),
     .help = "o",
     .command_line_only = true},
};
static const char *const groups[] = {"up", "bench", NULL};
static const struct conf_program program = {
    .name = "test",
    .synopsis = "[OPTION...] [FILE]",
    .summary = "A test.",
    .options = options,
    .n_options = sizeof options / sizeof *options,
    .max_positionals = 2,
};

/* Runs conf_read with a NULL-terminated list of arguments. */
static int read_with(const struct conf_program *p, struct settings *s, const char *const *arguments,
                     const char **positionals, int *n, enum conf_outcome *outcome, struct err *err)
{
    int argc = 0;
    while (arguments[argc])
        argc++;
    memset(s, 0, sizeof *s);
    memset(err, 0, sizeof *err);
    return conf_read(p, s, argc, (char **)arguments, positionals, n, outcome, err);
}

static void expect_error(const struct conf_program *p, const char *const *arguments, int code,
                         const char *part)
{
    struct settings s;
    struct err err;
    const char *positionals[2];
    int n;
    enum conf_outcome outcome;
    assert_int_equal(read_with(p, &s, arguments, positionals, &n, &outcome, &err), code);
    if (!strstr(err.text, part))
        fail_msg("\"%s\" lacks \"%s\"", err.text, part);
    conf_clear(p, &s);
}

#define ERROR(code, part, ...)                                                                     \
    expect_error(&program, (const char *const[]){"test", __VA_ARGS__, NULL}, code, part)

/* A file of its own for each test, removed by the caller. */
static void write_file(char *ret_path, const char *text)
{
    strcpy(ret_path, P_tmpdir "/test_conf.XXXXXX");
    int fd = mkstemp(ret_path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static void test_defaults(void **state)
{
    struct settings s;
    struct err err;
    const char *positionals[2];
    int n;
    enum conf_outcome outcome;
    const char *const arguments[] = {"test", NULL};
    assert_int_equal(read_with(&program, &s, arguments, positionals, &n, &outcome, &err), 0);
    assert_int_equal(outcome, CONF_RUN);
    assert_int_equal(n, 0);
    assert_null(s.model);
    assert_int_equal(s.threads, 4);
    assert_int_equal(s.memory, 1 << 30);
    assert_int_equal(s.kv, 0);
    assert_false(s.verbose);
    conf_clear(&program, &s);
}

static void test_command_line(void **state)
{
    struct settings s;
    struct err err;
    const char *positionals[2];
    int n;
    enum conf_outcome outcome;
    const char *const arguments[] = {"test",         "one",       "-vt8", "--kv=f32", "--share",
                                     "0.5",          "-m",        "x y",  "--memory", "1.5G",
                                     "--no-verbose", "--output=", "--",   "--two",    NULL};
    assert_int_equal(read_with(&program, &s, arguments, positionals, &n, &outcome, &err), 0);
    assert_int_equal(n, 2);
    assert_string_equal(positionals[0], "one");
    assert_string_equal(positionals[1], "--two");
    assert_int_equal(s.threads, 8);
    assert_int_equal(s.kv, 1);
    assert_true(s.share == 0.5);
    assert_string_equal(s.model, "x y");
    assert_int_equal(s.memory, (int64_t)3 << 29);
    assert_false(s.verbose);
    assert_string_equal(s.output, "");
    conf_clear(&program, &s);
}

static void test_command_line_errors(void **state)
{
    ERROR(ERR_USAGE, "did you mean --memory", "--memroy", "1");
    ERROR(ERR_USAGE, "unknown option -x", "-x");
    ERROR(ERR_USAGE, "needs a value", "--kv");
    ERROR(ERR_USAGE, "needs a value", "-t");
    ERROR(ERR_USAGE, "one of: f16, f32", "--kv", "f8");
    ERROR(ERR_USAGE, "a whole number from 1 to 1024", "-t", "0");
    ERROR(ERR_USAGE, "a whole number from 1 to 1024", "-t", "1025");
    ERROR(ERR_USAGE, "a whole number", "-t", "4x");
    ERROR(ERR_USAGE, "a whole number", "-t", "");
    ERROR(ERR_USAGE, "a whole number", "-t", "99999999999999999999");
    ERROR(ERR_USAGE, "a number from 0 to 1", "--share", "nan");
    ERROR(ERR_USAGE, "a size", "--memory", "8X");
    ERROR(ERR_USAGE, "takes no value", "--verbose=true");
    ERROR(ERR_USAGE, "unexpected argument \"c\"", "a", "b", "c");
    struct conf_program one = program;
    one.min_positionals = 1;
    expect_error(&one, (const char *const[]){"test", NULL}, ERR_USAGE, "an argument is missing");
    ERROR(ERR_CONFIG, "/nonexistent/x.cfg: No such file", "--config", "/nonexistent/x.cfg");
}

static void test_precedence(void **state)
{
    char path[64];
    write_file(path, "threads_per_worker = 5;\nmemory = 4096;\nkv = \"f32\";\nmodel = \"file\";\n");
    setenv("PACELINE_MEMORY", "2K", 1);
    setenv("PACELINE_MODEL", "environment", 1);
    setenv("PACELINE_OUTPUT", "ignored", 1);
    struct settings s;
    struct err err;
    const char *positionals[2];
    int n;
    enum conf_outcome outcome;
    const char *const arguments[] = {"test", "--model", "line", "--config", path, NULL};
    int rc = read_with(&program, &s, arguments, positionals, &n, &outcome, &err);
    assert_int_equal(rc, 0);
    assert_int_equal(s.threads, 5);
    assert_int_equal(s.memory, 2048);
    assert_int_equal(s.kv, 1);
    assert_string_equal(s.model, "line");
    assert_null(s.output);
    conf_clear(&program, &s);

    setenv("PACELINE_MEMORY", "much", 1);
    ERROR(ERR_CONFIG, "PACELINE_MEMORY: \"much\"", "--config", path);
    unsetenv("PACELINE_MEMORY");
    unsetenv("PACELINE_MODEL");
    unsetenv("PACELINE_OUTPUT");
    unlink(path);
}

static void expect_file_error(const struct conf_program *p, const char *text, const char *part)
{
    char path[64];
    write_file(path, text);
    expect_error(p, (const char *const[]){"test", "--config", path, NULL}, ERR_CONFIG, part);
    unlink(path);
}

static void test_file_errors(void **state)
{
    expect_file_error(&program, "\n\nthreads = 5;\n",
                      ":3: unknown key \"threads\"; valid: model, threads_per_worker, memory");
    expect_file_error(&program, "output = \"x\";\n", "unknown key");
    expect_file_error(&program, "threads_per_worker = \"5\";\n", ":1: threads_per_worker: must be");
    expect_file_error(&program, "threads_per_worker = 5.0;\n", "must be a whole number");
    expect_file_error(&program, "threads_per_worker = 5000;\n", "from 1 to 1024");
    expect_file_error(&program, "kv = \"f64\";\n",
                      ":1: kv: \"f64\" is not valid; it must be one of");
    expect_file_error(&program, "memory = \"lots\";\n", "a size");
    expect_file_error(&program, "verbose = 1;\n", "true or false");
    expect_file_error(&program, "kv = { a = 1; };\n", "must be");
    expect_file_error(&program, "kv = \"f16\"\n= 3", ":2: syntax error");
}

static void test_groups(void **state)
{
    struct conf_program grouped = program;
    grouped.group = "bench";
    grouped.groups = groups;
    char path[64];
    write_file(path, "up: { anything = 1; };\nbench: { memory = \"3MB\"; share = 1; };\n");
    struct settings s;
    struct err err;
    const char *positionals[2];
    int n;
    enum conf_outcome outcome;
    const char *const arguments[] = {"test", "--config", path, NULL};
    assert_int_equal(read_with(&grouped, &s, arguments, positionals, &n, &outcome, &err), 0);
    assert_int_equal(s.memory, 3000000);
    assert_true(s.share == 1);
    conf_clear(&grouped, &s);
    unlink(path);
    expect_file_error(&grouped, "\nbnech: { };\n", ":2: \"bnech\" is not a known group; valid");
    expect_file_error(&grouped, "memory = 3;\n", "not a known group");
    expect_file_error(&grouped, "bench: {\n mem = 3; };\n", ":2: unknown key \"mem\"");
}

/* What --print-config writes is a file that gives the same settings. */
static void test_print_config_round_trip(void **state)
{
    char path[64];
    write_file(path, "");
    fflush(stdout);
    int saved = dup(1);
    assert_non_null(freopen(path, "w", stdout));
    struct settings s;
    struct err err;
    const char *positionals[2];
    int n;
    enum conf_outcome outcome;
    const char *const print[] = {
        "test", "--print-config", "--share", "0.1", "-m", "a\"\\\n\xc3\xa9", "--memory",
        "8G",   "--kv",           "f32",     "-v",  NULL};
    int rc = read_with(&program, &s, print, positionals, &n, &outcome, &err);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    assert_int_equal(rc, 0);
    assert_int_equal(outcome, CONF_EXIT);
    conf_clear(&program, &s);

    const char *const again[] = {"test", "--config", path, NULL};
    rc = read_with(&program, &s, again, positionals, &n, &outcome, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(rc, 0);
    assert_true(s.share == 0.1);
    assert_string_equal(s.model, "a\"\\\n\xc3\xa9");
    assert_int_equal(s.memory, (int64_t)8 << 30);
    assert_int_equal(s.kv, 1);
    assert_true(s.verbose);
    conf_clear(&program, &s);
    unlink(path);
}

static void test_sizes(void **state)
{
    static const struct {
        const char *text;
        int64_t bytes; /* -1: refused */
    } cases[] = {
        {"0", 0},
        {"1073741824", 1 << 30},
        {"512MiB", 512 << 20},
        {"8G", (int64_t)8 << 30},
        {"8 GiB", (int64_t)8 << 30},
        {"2KB", 2000},
        {"2k", 2048},
        {"0.5T", (int64_t)1 << 39},
        {"3B", 3},
        {"", -1},
        {"-1", -1},
        {"1GG", -1},
        {"G", -1},
        {"9999999999T", -1},
        {"1 2", -1},
        {"0x10", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t bytes = -1;
        bool ok = conf_value_size(cases[i].text, &bytes);
        if (ok != (cases[i].bytes >= 0) || bytes != cases[i].bytes)
            fail_msg("\"%s\" gave %lld", cases[i].text, (long long)bytes);
    }
}

static void test_endpoints(void **state)
{
    char host[256];
    int port;
    struct err err;
    assert_int_equal(conf_endpoint("127.0.0.1:8080", host, &port, &err), 0);
    assert_string_equal(host, "127.0.0.1");
    assert_int_equal(port, 8080);
    assert_int_equal(conf_endpoint("[::1]:0", host, &port, &err), 0);
    assert_string_equal(host, "::1");
    assert_int_equal(port, 0);
    char longest[300];
    memset(longest, 'a', sizeof longest);
    strcpy(longest + 256, ":1");
    static const char *const wrong[] = {"",
                                        "host",
                                        ":80",
                                        "host:",
                                        "host:65536",
                                        "::1:8",
                                        "h:8x",
                                        "h:-1",
                                        "h: 8",
                                        "[]:1",
                                        "h:99999999999999999999"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(conf_endpoint(wrong[i], host, &port, &err), ERR_USAGE);
    assert_int_equal(conf_endpoint(longest, host, &port, &err), ERR_USAGE);

    static const char *const numeric[] = {"127.0.0.1:0", "0.0.0.0:80", "[::]:1", "localhost:9"};
    static const char *const named[] = {"foo:80", "localhost.:80", "1.2.3.4.5:6", "[::x]:1", "::1"};
    for (size_t i = 0; i < sizeof numeric / sizeof *numeric; i++)
        assert_int_equal(conf_check_numeric(numeric[i], &err), 0);
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        assert_int_equal(conf_check_numeric(named[i], &err), ERR_USAGE);

    assert_true(conf_host_is_loopback("127.0.0.1"));
    assert_true(conf_host_is_loopback("127.9.9.9"));
    assert_true(conf_host_is_loopback("::1"));
    assert_true(conf_host_is_loopback("localhost"));
    assert_false(conf_host_is_loopback("128.0.0.1"));
    assert_false(conf_host_is_loopback("0.0.0.0"));
    assert_false(conf_host_is_loopback("::"));
    assert_false(conf_host_is_loopback("127.0.0.1.example.org"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_command_line_errors),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_file_errors),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_print_config_round_trip),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_endpoints),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
