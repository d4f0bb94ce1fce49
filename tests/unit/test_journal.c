/* The journal: what was put in comes back, in a transaction or not at all, behind a full disk too.
 */
#include "coordinator/journal.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_S = 60 };

/* What a journal handed out. */
struct taken {
    int n_calls, n_tokens;
    struct journal_call call; /* the last one; its texts are copies */
    struct journal_end end;
    char id[64], path[64], tenant[64], request_id[64], bits[64], failure[64];
    char body[256], prompts[256];
    char log[4][256];
    int64_t log_length[4];
};

static void copy(char *to, const char *from)
{
    snprintf(to, 64, "%s", from);
}

static int take_call(void *context, const struct journal_call *call, const struct journal_end *end,
                     struct err *err)
{
    struct taken *t = context;
    (void)err;
    t->n_calls++;
    t->call = *call;
    t->end = *end;
    copy(t->id, call->id);
    copy(t->path, call->path);
    copy(t->tenant, call->tenant);
    copy(t->request_id, call->request_id);
    copy(t->bits, call->bits);
    copy(t->failure, end->failure);
    assert_true(call->body_length < sizeof t->body && call->prompts_length < sizeof t->prompts);
    memcpy(t->body, call->body, call->body_length);
    memcpy(t->prompts, call->prompts, call->prompts_length);
    return 0;
}

static int take_tokens(void *context, const char *id, int choice, int64_t at, const void *data,
                       size_t length, struct err *err)
{
    struct taken *t = context;
    (void)id;
    (void)err;
    t->n_tokens++;
    assert_int_equal(at, t->log_length[choice]); /* in their order */
    memcpy(t->log[choice] + at, data, length);
    t->log_length[choice] += (int64_t)length;
    return 0;
}

static int open_journal(struct journal **j, const char *path, struct taken *t, struct err *err)
{
    memset(t, 0, sizeof *t);
    const struct journal_reader reader = {
        .context = t, .on_call = take_call, .on_tokens = take_tokens};
    return journal_open(j, path, &reader, err);
}

static struct journal *must_open(const char *path, struct taken *t)
{
    struct journal *j = NULL;
    struct err err = {0};
    if (open_journal(&j, path, t, &err) != 0)
        fail_msg("%s", err.text);
    return j;
}

static const struct journal_call example = {.id = "resp_1",
                                            .path = "/v1/responses",
                                            .tenant = "office",
                                            .request_id = "trace/1",
                                            .bits = "fp_1 f16",
                                            .body = "{\0}",
                                            .body_length = 3,
                                            .prompts = "pro\0mpts",
                                            .prompts_length = 8,
                                            .seed = INT64_MIN,
                                            .created_unix_s = 1234567890123,
                                            .n_prompts = 2,
                                            .n_choices = 3,
                                            .is_background = true};

static void wait_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static uint64_t add(struct journal *j, const struct journal_call *call)
{
    journal_add(j, call);
    return journal_hurry(j);
}

static void wait_settled(const struct journal *j, uint64_t ticket)
{
    time_t begin = time(NULL);
    while (journal_settled(j) < ticket && time(NULL) - begin < PATIENCE_S)
        wait_a_little();
    assert_true(journal_settled(j) >= ticket);
}

static void wait_state(struct journal *j, enum journal_state state, struct err *why)
{
    time_t begin = time(NULL);
    while (journal_trouble(j, why) != state && time(NULL) - begin < PATIENCE_S)
        wait_a_little();
    assert_int_equal(journal_trouble(j, why), state);
}

/* ---- a folder for each test ---- */

struct place {
    char folder[64], path[128];
};

static int open_place(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    snprintf(p->folder, sizeof p->folder, "/tmp/paceline-journal-XXXXXX");
    assert_non_null(mkdtemp(p->folder));
    snprintf(p->path, sizeof p->path, "%s/a/b/j.db", p->folder);
    *state = p;
    return 0;
}

static int close_place(void **state)
{
    struct place *p = *state;
    char command[128];
    snprintf(command, sizeof command, "rm -r '%s'", p->folder);
    assert_int_equal(system(command), 0);
    free(p);
    return 0;
}

/* ---- tests ---- */

static void test_it_comes_back(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct journal *j = must_open(p->path, &t);
    assert_int_equal(t.n_calls, 0);
    journal_add(j, &example);
    journal_add_tokens(j, "resp_1", 0, 0, "abcd", 4);
    journal_add_tokens(j, "resp_1", 3, 0, "x\0z", 3);
    journal_add_tokens(j, "resp_1", 0, 4, "ef", 2);
    journal_close(j);
    j = must_open(p->path, &t);
    assert_int_equal(t.n_calls, 1);
    assert_int_equal(t.n_tokens, 3);
    assert_string_equal(t.id, "resp_1");
    assert_string_equal(t.path, "/v1/responses");
    assert_string_equal(t.tenant, "office");
    assert_string_equal(t.request_id, "trace/1");
    assert_string_equal(t.bits, "fp_1 f16");
    assert_int_equal(t.call.body_length, 3);
    assert_memory_equal(t.body, "{\0}", 3);
    assert_int_equal(t.call.prompts_length, 8);
    assert_memory_equal(t.prompts, "pro\0mpts", 8);
    assert_true(t.call.seed == INT64_MIN);
    assert_int_equal(t.call.created_unix_s, 1234567890123);
    assert_int_equal(t.call.n_prompts, 2);
    assert_int_equal(t.call.n_choices, 3);
    assert_true(t.call.is_background && !t.call.is_kept && !t.call.with_records);
    assert_int_equal(t.end.outcome, 0);
    assert_memory_equal(t.log[0], "abcdef", 6);
    assert_memory_equal(t.log[3], "x\0z", 3);
    journal_close(j);
}

static void test_an_end_and_a_removal(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct journal *j = must_open(p->path, &t);
    struct journal_call second = example;
    second.id = "resp_2";
    journal_add(j, &example);
    journal_add(j, &second);
    journal_add_tokens(j, "resp_1", 0, 0, "abcd", 4);
    journal_end(j, "resp_2",
                &(struct journal_end){.outcome = 2,
                                      .n_cached = 64,
                                      .failure_code = -7,
                                      .failure = "no",
                                      .finished_unix_s = 99});
    journal_remove(j, "resp_1");
    journal_close(j);
    j = must_open(p->path, &t);
    assert_int_equal(t.n_calls, 1);
    assert_int_equal(t.n_tokens, 0);
    assert_string_equal(t.id, "resp_2");
    assert_int_equal(t.end.outcome, 2);
    assert_int_equal(t.end.n_cached, 64);
    assert_int_equal(t.end.failure_code, -7);
    assert_string_equal(t.failure, "no");
    assert_int_equal(t.end.finished_unix_s, 99);
    journal_close(j);
}

/* Opening the file counts nothing: only what is noted. */
static void test_restarts_are_counted(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct journal *j = must_open(p->path, &t);
    journal_add(j, &example);
    journal_close(j);
    for (int i = 0; i < 3; i++) {
        j = must_open(p->path, &t);
        assert_int_equal(t.call.n_restarts, 0);
        journal_close(j);
    }
    for (int n = 2; n >= 0; n -= 2) {
        j = must_open(p->path, &t);
        journal_restarts(j, "resp_1", n);
        journal_close(j);
        j = must_open(p->path, &t);
        assert_int_equal(t.call.n_restarts, n);
        journal_close(j);
    }
}

/* A copy of the file, as a machine sees it after the process was killed. */
static void snapshot(const struct place *p, const char *to)
{
    char command[512];
    snprintf(command, sizeof command,
             "cp '%s' '%s' && { [ ! -e '%s-wal' ] || cp '%s-wal' '%s-wal'; }", p->path, to, p->path,
             p->path, to);
    assert_int_equal(system(command), 0);
}

/* What has settled is there, whenever the process ends. */
static void test_settled_survives_a_kill(void **state)
{
    struct place *p = *state;
    struct taken t;
    char to[160];
    struct journal *j = must_open(p->path, &t);
    assert_int_equal(journal_settled(j), 0);
    for (int i = 1; i <= 5; i++) {
        char id[16];
        struct journal_call call = example;
        snprintf(id, sizeof id, "resp_%d", i);
        call.id = id;
        uint64_t ticket = add(j, &call);
        assert_int_equal(ticket, i);
        wait_settled(j, ticket);
        snprintf(to, sizeof to, "%s/copy-%d.db", p->folder, i);
        snapshot(p, to);
    }
    journal_close(j);
    for (int i = 1; i <= 5; i++) {
        snprintf(to, sizeof to, "%s/copy-%d.db", p->folder, i);
        j = must_open(to, &t);
        assert_int_equal(t.n_calls, i);
        journal_close(j);
    }
}

/* Tokens are written without anybody asking. */
static void test_tokens_follow_by_themselves(void **state)
{
    struct place *p = *state;
    struct taken t = {0};
    char to[160];
    struct journal *j = must_open(p->path, &t);
    wait_settled(j, add(j, &example));
    journal_add_tokens(j, "resp_1", 0, 0, "abcd", 4);
    time_t begin = time(NULL);
    for (int i = 0; t.n_tokens == 0 && time(NULL) - begin < PATIENCE_S; i++) {
        wait_a_little();
        snprintf(to, sizeof to, "%s/copy-%d.db", p->folder, i);
        snapshot(p, to);
        journal_close(must_open(to, &t));
    }
    assert_int_equal(t.n_tokens, 1);
    journal_close(j);
}

static void test_files_are_this_users_alone(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct stat about;
    char folder[160], wal[160];
    struct journal *j = must_open(p->path, &t);
    snprintf(folder, sizeof folder, "%s/a/b", p->folder);
    snprintf(wal, sizeof wal, "%s-wal", p->path);
    wait_settled(j, add(j, &example));
    assert_int_equal(stat(folder, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0700);
    assert_int_equal(stat(p->path, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    assert_int_equal(stat(wal, &about), 0);
    assert_int_equal(about.st_mode & 0777, 0600);
    journal_close(j);
}

static void test_two_cannot_have_it(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct journal *j = must_open(p->path, &t), *other = NULL;
    struct err err = {0};
    assert_int_equal(open_journal(&other, p->path, &t, &err), ERR_IO);
    assert_non_null(strstr(err.text, "j.db"));
    assert_non_null(strstr(err.text, "locked"));
    journal_close(j);
    journal_close(must_open(p->path, &t));
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 500; i++)
        fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void test_what_is_no_journal_is_refused(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct journal *j = NULL;
    struct err err = {0};
    char path[160];
    snprintf(path, sizeof path, "%s/text", p->folder);
    write_file(path, "a letter to grandmother\n");
    assert_int_equal(open_journal(&j, path, &t, &err), ERR_IO);
    assert_non_null(strstr(err.text, "text: "));
    snprintf(path, sizeof path, "%s/text/below.db", p->folder); /* a file is no folder */
    assert_int_equal(open_journal(&j, path, &t, &err), ERR_IO);
    assert_non_null(strstr(err.text, "Not a directory"));
}

static void test_a_later_version_is_left_alone(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct journal *j = NULL;
    struct err err = {0};
    char to[160], version[4] = {0, 0, 0, 2};
    journal_close(must_open(p->path, &t));
    snprintf(to, sizeof to, "%s/copy.db", p->folder);
    snapshot(p, to);
    FILE *f = fopen(to, "r+");
    assert_non_null(f);
    assert_int_equal(fseek(f, 60, SEEK_SET), 0); /* user_version of SQLite's header */
    assert_int_equal(fwrite(version, 4, 1, f), 1);
    assert_int_equal(fclose(f), 0);
    assert_int_equal(open_journal(&j, to, &t, &err), ERR_IO);
    assert_non_null(strstr(err.text, "version 2"));
}

static void limit_files(rlim_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Nobody waits for a disk that takes nothing; what was to be written is, later. */
static void test_a_full_disk(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct err why = {0};
    char body[200];
    memset(body, 'x', sizeof body);
    struct journal *j = must_open(p->path, &t);
    struct journal_call call = example;
    call.body = body;
    call.body_length = sizeof body;
    wait_settled(j, add(j, &example));
    assert_int_equal(journal_trouble(j, &why), JOURNAL_WORKS);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(64);
    call.id = "resp_2";
    wait_settled(j, add(j, &call));
    wait_state(j, JOURNAL_WAITS, &why);
    assert_non_null(strstr(why.text, "j.db"));
    call.id = "resp_3";
    wait_settled(j, add(j, &call)); /* while it rests, too */
    journal_add_tokens(j, "resp_1", 0, 0, "abcd", 4);
    limit_files(RLIM_INFINITY);
    wait_state(j, JOURNAL_WORKS, &why);
    journal_close(j);
    j = must_open(p->path, &t);
    assert_int_equal(t.n_calls, 3);
    assert_int_equal(t.n_tokens, 1);
    journal_close(j);
}

static atomic_bool is_stalled;

int __real_journal_file_write(struct journal_file *f, const struct journal_note *first,
                              struct err *err);
int __wrap_journal_file_write(struct journal_file *f, const struct journal_note *first,
                              struct err *err);
int __wrap_journal_file_write(struct journal_file *f, const struct journal_note *first,
                              struct err *err)
{
    while (atomic_load(&is_stalled))
        wait_a_little();
    return __real_journal_file_write(f, first, err);
}

/* Nobody waits for a disk that says nothing, neither those whose changes are under way nor those
 * who come later; in the end all is written. */
static void test_a_disk_that_stalls(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct err why = {0};
    struct journal_call second = example;
    second.id = "resp_2";
    struct journal *j = must_open(p->path, &t);
    atomic_store(&is_stalled, true);
    uint64_t ticket = add(j, &example);
    assert_int_equal(journal_trouble(j, &why), JOURNAL_WORKS);
    assert_true(journal_settled(j) < ticket);
    wait_state(j, JOURNAL_WAITS, &why);
    assert_true(journal_settled(j) >= ticket);
    assert_non_null(strstr(why.text, "2 s"));
    ticket = add(j, &second);
    journal_trouble(j, &why);
    assert_true(journal_settled(j) >= ticket);
    atomic_store(&is_stalled, false);
    wait_state(j, JOURNAL_WORKS, &why);
    assert_true(journal_settled(j) >= ticket);
    journal_close(j);
    j = must_open(p->path, &t);
    assert_int_equal(t.n_calls, 2);
    journal_close(j);
}

/* Reading needs no room: what is in the file is there after a start on a full disk. */
static void test_a_start_on_a_full_disk(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct err why = {0};
    struct journal *j = must_open(p->path, &t);
    journal_add(j, &example);
    journal_add_tokens(j, "resp_1", 0, 0, "abcd", 4);
    journal_close(j);
    signal(SIGXFSZ, SIG_IGN);
    limit_files(64);
    j = must_open(p->path, &t);
    assert_int_equal(t.n_calls, 1);
    assert_int_equal(t.n_tokens, 1);
    journal_restarts(j, "resp_1", 1);
    wait_settled(j, journal_hurry(j));
    wait_state(j, JOURNAL_WAITS, &why);
    limit_files(RLIM_INFINITY);
    wait_state(j, JOURNAL_WORKS, &why);
    journal_close(j);
    j = must_open(p->path, &t);
    assert_int_equal(t.call.n_restarts, 1);
    journal_close(j);
}

/* What waits for a full disk is bounded; beyond it the journal is given up, and that is told. */
static void test_too_much_waits(void **state)
{
    struct place *p = *state;
    struct taken t;
    struct err why = {0};
    size_t length = (size_t)8 << 20;
    char *body = calloc(1, length);
    assert_non_null(body);
    struct journal *j = must_open(p->path, &t);
    struct journal_call call = example;
    call.body = body;
    call.body_length = length;
    signal(SIGXFSZ, SIG_IGN);
    limit_files(64);
    for (int i = 0; i < 9; i++)
        wait_settled(j, add(j, &call));
    wait_state(j, JOURNAL_LOST, &why);
    assert_non_null(strstr(why.text, "given up"));
    wait_settled(j, add(j, &example));
    limit_files(RLIM_INFINITY);
    journal_close(j);
    free(body);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_place, close_place)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_it_comes_back),
        TEST(test_an_end_and_a_removal),
        TEST(test_restarts_are_counted),
        TEST(test_settled_survives_a_kill),
        TEST(test_tokens_follow_by_themselves),
        TEST(test_files_are_this_users_alone),
        TEST(test_two_cannot_have_it),
        TEST(test_what_is_no_journal_is_refused),
        TEST(test_a_later_version_is_left_alone),
        TEST(test_a_full_disk),
        TEST(test_a_disk_that_stalls),
        TEST(test_a_start_on_a_full_disk),
        TEST(test_too_much_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
