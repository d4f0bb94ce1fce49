#include "tests/support/virtual_clock.h"

#include "base/clock.h"

static int64_t virtual_clock_us;

void virtual_clock_set(int64_t us)
{
    virtual_clock_us = us;
}

int64_t clock_now_us(void)
{
    return virtual_clock_us;
}

int64_t clock_now_ms(void)
{
    return virtual_clock_us / 1000;
}

int64_t clock_unix_s(void)
{
    return 1700000000 + virtual_clock_us / 1000000;
}
