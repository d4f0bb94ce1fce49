/* hours.h - times of the week, as people write them: "mon-fri 18:00-08:00, sat-sun". */
#ifndef PACELINE_WORKER_HOURS_H
#define PACELINE_WORKER_HOURS_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define HOURS_MINUTES (7 * 24 * 60)

struct hours {
    uint64_t minutes[(HOURS_MINUTES + 63) / 64]; /* bit i: minute i of the week, Monday first */
};

/* Parts separated by commas: DAYS, HH:MM-HH:MM, or both; DAYS is mon or mon-fri, a time that ends
 * before it begins goes on into the next day. ERR_CONFIG says what is wrong. */
int hours_read(struct hours *ret_hours, const char *text, struct err *err);
/* day: 0 is Monday; minute of that day */
bool hours_contain(const struct hours *h, int day, int minute);

#endif
