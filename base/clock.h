/* clock.h - monotonic time. */
#ifndef PACELINE_BASE_CLOCK_H
#define PACELINE_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_now_us(void); /* microseconds since an arbitrary start */
int64_t clock_now_ms(void);
int64_t clock_unix_s(void);  /* seconds since 1970, for what people and APIs see */
int64_t clock_unix_ms(void); /* and milliseconds, for numbers that nobody has had before */
double clock_thread_s(void); /* that the calling thread has had a processor */

#endif
