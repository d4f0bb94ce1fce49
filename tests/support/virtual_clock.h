/* virtual_clock.h - time that stands still until a test moves it. Linked in place of
 * base/clock.c. */
#ifndef PACELINE_TESTS_SUPPORT_VIRTUAL_CLOCK_H
#define PACELINE_TESTS_SUPPORT_VIRTUAL_CLOCK_H

#include <stdint.h>

void virtual_clock_set(int64_t us);

#endif
