/* How long whoever is lost again and again is kept out. */
#include "coordinator/losses.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#define MINUTE 60000

/* Seconds that it is kept out at that moment. */
static int kept_out(const struct losses *l, const char *who, int64_t now_ms)
{
    int n;
    int64_t until_ms = losses_until(l, who, now_ms, &n);
    assert_true((n > 0) == (until_ms > now_ms));
    return until_ms ? (int)((until_ms - now_ms) / 1000) : 0;
}

static void periods_grow(void **state)
{
    static const int seconds[] = {0, 5, 10, 20, 40, 80, 160, 300, 300, 300};
    static struct losses l;
    int64_t now_ms = 1000;
    (void)state;
    assert_int_equal(kept_out(&l, "desk", now_ms), 0);
    for (size_t i = 0; i < sizeof seconds / sizeof seconds[0]; i++) {
        losses_note(&l, "desk", now_ms);
        assert_int_equal(kept_out(&l, "desk", now_ms), seconds[i]);
        assert_int_equal(kept_out(&l, "attic", now_ms), 0);
        now_ms += seconds[i] * 1000;
        assert_int_equal(kept_out(&l, "desk", now_ms), 0);
        now_ms += 9 * MINUTE; /* it was there for less than ten */
    }
}

static void who_stays_begins_anew(void **state)
{
    static struct losses l;
    (void)state;
    losses_note(&l, "desk", 0);
    losses_note(&l, "desk", MINUTE);
    losses_note(&l, "desk", 2 * MINUTE);
    assert_int_equal(kept_out(&l, "desk", 2 * MINUTE), 10);
    losses_note(&l, "desk", 2 * MINUTE + 10000 + 10 * MINUTE + 1);
    assert_int_equal(kept_out(&l, "desk", 13 * MINUTE), 0);
    losses_note(&l, "desk", 14 * MINUTE);
    assert_int_equal(kept_out(&l, "desk", 14 * MINUTE), 5);
}

static void the_oldest_losses_are_forgotten(void **state)
{
    static struct losses l;
    char who[16];
    (void)state;
    for (int i = 0; i < LOSSES_MOST + 10; i++) {
        snprintf(who, sizeof who, "desk-%d", i);
        losses_note(&l, who, i);
    }
    assert_int_equal(l.n, LOSSES_MOST);
    losses_note(&l, "desk-20", 1000);
    assert_int_equal(kept_out(&l, "desk-20", 1000), 5);
    losses_note(&l, "desk-3", 1000); /* nobody remembers the first */
    assert_int_equal(kept_out(&l, "desk-3", 1000), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(periods_grow),
        cmocka_unit_test(who_stays_begins_anew),
        cmocka_unit_test(the_oldest_losses_are_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
