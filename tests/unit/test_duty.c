/* When a worker takes part: hours as people write them, an owner who comes and goes, logind. */
#include "worker/duty.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MON, TUE, WED, THU, FRI, SAT, SUN };

static bool contains(const char *text, int day, int hour, int minute)
{
    struct hours h;
    struct err err;
    assert_int_equal(hours_read(&h, text, &err), 0);
    return hours_contain(&h, day, 60 * hour + minute);
}

static void hours_are_read_as_meant(void **state)
{
    (void)state;
    const char *nights = "mon-fri 18:00-08:00, sat-sun";
    assert_false(contains(nights, MON, 7, 59)); /* Sunday's hours end with its day */
    assert_false(contains(nights, MON, 17, 59));
    assert_true(contains(nights, MON, 18, 0));
    assert_true(contains(nights, TUE, 7, 59));
    assert_false(contains(nights, TUE, 8, 0));
    assert_true(contains(nights, SAT, 7, 0));
    assert_true(contains(nights, SUN, 23, 59));
    assert_true(contains("22:00-06:00", SUN, 23, 0));
    assert_true(contains("22:00-06:00", MON, 5, 59)); /* of Sunday, over the week's end */
    assert_false(contains("22:00-06:00", MON, 6, 0));
    assert_true(contains("00:00-24:00", WED, 23, 59));
    assert_true(contains("sat-mon", SUN, 12, 0)); /* round the week's end */
    assert_true(contains("sat-mon", MON, 12, 0));
    assert_false(contains("sat-mon", TUE, 0, 0));
    assert_true(contains("fri 12:00-12:00", SAT, 11, 59)); /* a whole day */
    const char *const wrong[] = {"",
                                 "monday",
                                 "mon-",
                                 "18:00",
                                 "18:00-",
                                 "8:00-9:00",
                                 "24:01-08:00",
                                 "12:60-13:00",
                                 "mon 18:00-08:00 sat",
                                 "mon,",
                                 "always"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct hours h;
        struct err err;
        assert_int_equal(hours_read(&h, wrong[i], &err), ERR_CONFIG);
        assert_non_null(strstr(err.text, "mon-fri"));
    }
}

static const struct duty_rules idle = {.only_idle = true, .idle_load = 0.2, .idle_after_ms = 10000};

static bool judge(struct duty_state *s, int64_t now_ms, double load, enum owner_word session,
                  enum owner_word probe)
{
    struct owner_sample sample = {load, session, probe};
    return duty_judge(s, &idle, &sample, MON, 0, now_ms);
}

static void an_owner_comes_and_goes(void **state)
{
    (void)state;
    struct duty_state s = {0};
    assert_false(judge(&s, 1000, 0, OWNER_UNKNOWN, OWNER_UNKNOWN)); /* nobody knows since when */
    assert_false(judge(&s, 10999, 0.2, OWNER_UNKNOWN, OWNER_UNKNOWN));
    assert_true(judge(&s, 11000, 0.2, OWNER_UNKNOWN, OWNER_UNKNOWN));
    assert_true(judge(&s, 12000, 0.9, OWNER_UNKNOWN, OWNER_UNKNOWN)); /* for a moment */
    assert_true(judge(&s, 12250, 0.1, OWNER_UNKNOWN, OWNER_UNKNOWN));
    assert_true(judge(&s, 12500, 0.9, OWNER_UNKNOWN, OWNER_UNKNOWN));
    assert_false(judge(&s, 13250, 0.9, OWNER_UNKNOWN, OWNER_UNKNOWN)); /* somebody works */
    assert_non_null(strstr(s.why, "other programs"));
    assert_false(judge(&s, 23249, 0, OWNER_UNKNOWN, OWNER_UNKNOWN));
    assert_true(judge(&s, 23250, 0, OWNER_IS_AWAY, OWNER_IS_AWAY));
    assert_non_null(strstr(s.why, "away"));
    assert_false(judge(&s, 23500, 0, OWNER_IS_THERE, OWNER_IS_AWAY)); /* at once */
    assert_true(judge(&s, 33500, 0, OWNER_IS_AWAY, OWNER_IS_AWAY));
    assert_false(judge(&s, 33750, 0, OWNER_IS_AWAY, OWNER_IS_THERE));
    assert_false(judge(&s, 34000, 0.9, OWNER_IS_AWAY, OWNER_IS_AWAY)); /* a moment counts now */
    assert_false(judge(&s, 43999, 0, OWNER_IS_AWAY, OWNER_IS_AWAY));
    assert_true(judge(&s, 44000, 0, OWNER_IS_AWAY, OWNER_IS_AWAY));
}

static void hours_and_owner_together(void **state)
{
    (void)state;
    struct duty_state s = {0};
    struct err err;
    struct duty_rules rules = idle;
    struct owner_sample away = {0, OWNER_IS_AWAY, OWNER_IS_AWAY};
    rules.has_hours = true;
    rules.idle_after_ms = 0;
    assert_int_equal(hours_read(&rules.hours, "18:00-08:00", &err), 0);
    assert_true(duty_judge(&s, &rules, &away, MON, 18 * 60, 1));
    assert_false(duty_judge(&s, &rules, &away, MON, 8 * 60, 2));
    assert_non_null(strstr(s.why, "hours"));
    rules.only_idle = false;
    assert_true(duty_judge(&s, &rules, NULL, MON, 7 * 60, 3));
}

static void the_probe_is_asked(void **state)
{
    (void)state;
    struct owner *o;
    struct owner_sample sample;
    struct err err;
    const struct {
        const char *command;
        enum owner_word word;
    } probes[] = {{"true", OWNER_IS_AWAY},        {"exit 3", OWNER_IS_THERE},
                  {"kill -9 $$", OWNER_IS_THERE}, {"sleep 30 & sleep 30", OWNER_UNKNOWN},
                  {NULL, OWNER_UNKNOWN},          {"no-such-command 2>/dev/null", OWNER_IS_THERE}};
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        assert_int_equal(owner_open(&o, probes[i].command, &err), 0);
        owner_look(o, &sample);
        owner_look(o, &sample);
        assert_int_equal(sample.probe, probes[i].word);
        assert_true(sample.others_load >= 0 && sample.others_load <= 1.01);
        owner_close(o);
    }
    owner_close(NULL);
}

static void a_probe_without_an_exit_code_is_not_believed(void **state)
{
    (void)state;
    struct owner *o;
    struct owner_sample sample;
    struct err err;
    signal(SIGCHLD, SIG_IGN);
    assert_int_equal(owner_open(&o, "exit 3", &err), 0);
    owner_look(o, &sample);
    signal(SIGCHLD, SIG_DFL);
    owner_close(o);
    assert_int_equal(sample.probe, OWNER_UNKNOWN);
}

#ifdef HAVE_SYSTEMD
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

/* A bus with a logind on it that says what it is told to. */
struct fake_logind {
    char address[256];
    pid_t daemon;
    pthread_t thread;
    atomic_bool ready, stop;
    atomic_int is_idle;
};

static int fake_idle_hint(sd_bus *bus, const char *path, const char *interface,
                          const char *property, sd_bus_message *reply, void *userdata,
                          sd_bus_error *error)
{
    struct fake_logind *f = userdata;
    (void)bus, (void)path, (void)interface, (void)property, (void)error;
    return sd_bus_message_append(reply, "b", atomic_load(&f->is_idle));
}

static const sd_bus_vtable fake_table[] = {SD_BUS_VTABLE_START(0),
                                           SD_BUS_PROPERTY("IdleHint", "b", fake_idle_hint, 0, 0),
                                           SD_BUS_VTABLE_END};

static void *fake_main(void *argument)
{
    struct fake_logind *f = argument;
    sd_bus *bus = NULL;
    int rc = sd_bus_open_system(&bus);
    if (rc >= 0)
        rc = sd_bus_add_object_vtable(bus, NULL, "/org/freedesktop/login1",
                                      "org.freedesktop.login1.Manager", fake_table, f);
    if (rc >= 0)
        rc = sd_bus_request_name(bus, "org.freedesktop.login1", 0);
    atomic_store(&f->ready, rc >= 0);
    while (rc >= 0 && !atomic_load(&f->stop)) {
        rc = sd_bus_process(bus, NULL);
        if (rc == 0)
            rc = sd_bus_wait(bus, 20000);
    }
    sd_bus_flush_close_unref(bus);
    return NULL;
}

static bool fake_start(struct fake_logind *f)
{
    int out[2];
    if (pipe(out) != 0)
        return false;
    f->daemon = fork();
    if (f->daemon == 0) {
        dup2(out[1], 1);
        execlp("dbus-daemon", "dbus-daemon", "--session", "--nofork", "--print-address", NULL);
        _exit(127);
    }
    close(out[1]);
    ssize_t n = read(out[0], f->address, sizeof f->address - 1);
    close(out[0]);
    if (n <= 0) {
        waitpid(f->daemon, NULL, 0);
        return false;
    }
    f->address[strcspn(f->address, "\n")] = '\0';
    setenv("DBUS_SYSTEM_BUS_ADDRESS", f->address, 1);
    pthread_create(&f->thread, NULL, fake_main, f);
    for (int i = 0; i < 500 && !atomic_load(&f->ready); i++)
        poll(NULL, 0, 10);
    return true;
}

static void fake_end(struct fake_logind *f)
{
    atomic_store(&f->stop, true);
    pthread_join(f->thread, NULL);
    kill(f->daemon, SIGTERM);
    waitpid(f->daemon, NULL, 0);
}

static void logind_is_asked(void **state)
{
    (void)state;
    static struct fake_logind f, restarted;
    struct owner *o;
    struct owner_sample sample;
    struct err err;
    if (!fake_start(&f)) {
        print_message("no dbus-daemon here: skipped\n");
        skip();
    }
    assert_true(atomic_load(&f.ready));
    assert_int_equal(owner_open(&o, NULL, &err), 0);
    owner_look(o, &sample);
    assert_int_equal(sample.session, OWNER_IS_THERE);
    atomic_store(&f.is_idle, 1);
    poll(NULL, 0, 600); /* it is not asked all the time */
    owner_look(o, &sample);
    assert_int_equal(sample.session, OWNER_IS_AWAY);
    fake_end(&f);
    poll(NULL, 0, 600);
    owner_look(o, &sample);
    assert_int_equal(sample.session, OWNER_UNKNOWN); /* gone: the rest decides */
    assert_true(fake_start(&restarted) && atomic_load(&restarted.ready));
    poll(NULL, 0, 600);
    owner_look(o, &sample);
    fake_end(&restarted); /* whatever it said: no daemon stays */
    owner_close(o);
    assert_int_equal(sample.session, OWNER_IS_THERE);
}
#endif

int main(void)
{
    setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hours_are_read_as_meant),
        cmocka_unit_test(an_owner_comes_and_goes),
        cmocka_unit_test(hours_and_owner_together),
        cmocka_unit_test(the_probe_is_asked),
        cmocka_unit_test(a_probe_without_an_exit_code_is_not_believed),
#ifdef HAVE_SYSTEMD
        cmocka_unit_test(logind_is_asked),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
