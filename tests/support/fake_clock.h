/* fake_clock.h - the real clock, which a test can move forward. Linked in place of base/clock.c. */
#ifndef PACELINE_TESTS_SUPPORT_FAKE_CLOCK_H
#define PACELINE_TESTS_SUPPORT_FAKE_CLOCK_H

#include <stdint.h>

void fake_clock_advance(int64_t ms);

#endif
