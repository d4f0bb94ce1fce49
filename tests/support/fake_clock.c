#include "tests/support/fake_clock.h"

#include "base/clock.h"

#include <time.h>

static int64_t fake_clock_offset_us;

void fake_clock_advance(int64_t ms)
{
    fake_clock_offset_us += ms * 1000;
}

int64_t clock_now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000 + fake_clock_offset_us;
}

int64_t clock_now_ms(void)
{
    return clock_now_us() / 1000;
}

int64_t clock_unix_s(void)
{
    return (int64_t)time(NULL) + fake_clock_offset_us / 1000000;
}
