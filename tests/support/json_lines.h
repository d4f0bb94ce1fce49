/* json_lines.h - golden data: one JSON object a line. */
#ifndef PACELINE_TESTS_SUPPORT_JSON_LINES_H
#define PACELINE_TESTS_SUPPORT_JSON_LINES_H

#include <jansson.h>
#include <stddef.h>

/* All lines of the file as an array; a file that cannot be read fails the test. */
json_t *json_lines_read(const char *path);
/* The string at key and its length, or NULL when it is null or missing. */
const char *json_lines_text(const json_t *line, const char *key, size_t *ret_length);
/* "e4bda0" at key to bytes (malloc'd, with a NUL behind). */
char *json_lines_bytes(const json_t *line, const char *key, size_t *ret_length);

#endif
