#include "worker/hours.h"

#include <string.h>

#define DAY_MINUTES (24 * 60)

static const char *const hours_days[] = {"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

static const char *hours_skip(const char *p)
{
    return p + strspn(p, " \t");
}

/* NULL: no day stands there. */
static const char *hours_day(const char *p, int *ret_day)
{
    for (int i = 0; i < 7; i++)
        if (strncmp(p, hours_days[i], 3) == 0) {
            *ret_day = i;
            return p + 3;
        }
    return NULL;
}

/* HH:MM, 24:00 at most; NULL: no time stands there. */
static const char *hours_time(const char *p, int *ret_minute)
{
    if (strspn(p, "0123456789") != 2 || p[2] != ':' || strspn(p + 3, "0123456789") != 2)
        return NULL;
    int hour = 10 * (p[0] - '0') + p[1] - '0', minute = 10 * (p[3] - '0') + p[4] - '0';
    if (minute > 59 || hour * 60 + minute > DAY_MINUTES)
        return NULL;
    *ret_minute = hour * 60 + minute;
    return p + 5;
}

static void hours_add(struct hours *h, int day, int from, int to)
{
    if (to <= from)
        to += DAY_MINUTES;
    for (int i = from; i < to; i++) {
        int minute = (day * DAY_MINUTES + i) % HOURS_MINUTES;
        h->minutes[minute / 64] |= UINT64_C(1) << minute % 64;
    }
}

/* One part; NULL: it cannot be read. */
static const char *hours_part(struct hours *h, const char *p)
{
    int first = 0, last = 6, from = 0, to = DAY_MINUTES;
    const char *after = hours_day(p, &first);
    if (after) {
        last = first;
        if (*after == '-' && !(after = hours_day(after + 1, &last)))
            return NULL;
        p = hours_skip(after);
    }
    bool has_time = *p >= '0' && *p <= '9';
    if (has_time) {
        p = hours_time(p, &from);
        if (!p || *p != '-' || !(p = hours_time(p + 1, &to)))
            return NULL;
    }
    if (!after && !has_time)
        return NULL;
    for (int day = first;; day = (day + 1) % 7) {
        hours_add(h, day, from, to);
        if (day == last)
            break;
    }
    return hours_skip(p);
}

int hours_read(struct hours *ret_hours, const char *text, struct err *err)
{
    struct hours h = {{0}};
    const char *p = hours_skip(text);
    for (;;) {
        const char *part = p;
        p = hours_part(&h, p);
        if (!p || (*p && *p != ','))
            return err_set(err, ERR_CONFIG,
                           "hours: \"%.40s\" cannot be read: write them as mon-fri 18:00-08:00, "
                           "sat-sun",
                           part);
        if (!*p)
            break;
        p = hours_skip(p + 1);
    }
    *ret_hours = h;
    return 0;
}

bool hours_contain(const struct hours *h, int day, int minute)
{
    int at = (day * DAY_MINUTES + minute) % HOURS_MINUTES;
    return h->minutes[at / 64] >> at % 64 & 1;
}
