/* temperature.h - how hot the machine's processors are, where the kernel tells. */
#ifndef PACELINE_WORKER_TEMPERATURE_H
#define PACELINE_WORKER_TEMPERATURE_H

#include <stdint.h>

/* The hottest sensor of processors below `sys` ("/sys/class"), in millikelvin; 0: none is there.
 * Drivers of processors (hwmon) are asked first, thermal zones where there is none. */
uint32_t temperature_read(const char *sys);

#endif
