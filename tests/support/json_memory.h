/* json_memory.h - what JSON values take while something runs. */
#ifndef PACELINE_TESTS_JSON_MEMORY_H
#define PACELINE_TESTS_JSON_MEMORY_H

#include <stdint.h>

void json_memory_begin(void);
/* The most bytes that there were at once. */
int64_t json_memory_end(void);

#endif
