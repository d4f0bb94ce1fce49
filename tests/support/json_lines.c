#include "tests/support/json_lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

json_t *json_lines_read(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f)
        fail_msg("cannot read %s", path);
    json_t *lines = json_array();
    char *line = NULL;
    size_t capacity = 0;
    ssize_t length;
    while ((length = getline(&line, &capacity, f)) > 0) {
        json_error_t error;
        json_t *value = json_loadb(line, (size_t)length, JSON_ALLOW_NUL, &error);
        if (!value)
            fail_msg("%s, line %zu: %s", path, json_array_size(lines) + 1, error.text);
        json_array_append_new(lines, value);
    }
    free(line);
    fclose(f);
    assert_true(json_array_size(lines) > 0);
    return lines;
}

const char *json_lines_text(const json_t *line, const char *key, size_t *ret_length)
{
    const json_t *value = json_object_get(line, key);
    *ret_length = json_string_length(value);
    return json_string_value(value);
}

char *json_lines_bytes(const json_t *line, const char *key, size_t *ret_length)
{
    const char *hex = json_string_value(json_object_get(line, key));
    assert_non_null(hex);
    size_t n = strlen(hex) / 2;
    char *bytes = malloc(n + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        unsigned byte;
        assert_int_equal(sscanf(hex + 2 * i, "%2x", &byte), 1);
        bytes[i] = (char)byte;
    }
    bytes[n] = '\0';
    *ret_length = n;
    return bytes;
}
