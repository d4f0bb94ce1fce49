/* json_body.h - a client's JSON: read within limits, and its fields taken with their types and
 * ranges checked. A field that is absent or null leaves the value as it was. Every failure is
 * ERR_INPUT and names the parameter, what it was and what it may be. */
#ifndef PACELINE_COORDINATOR_JSON_BODY_H
#define PACELINE_COORDINATOR_JSON_BODY_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JSON_BODY_DEPTH      64
#define JSON_BODY_CONTAINERS 100000  /* objects and arrays */
#define JSON_BODY_COMMAS     2000000 /* between values */

/* Of texts that are held together; zeroed: none yet. */
struct json_body_counts {
    size_t containers, commas;
};

/* *ret_body: an object. The failure has line and column. */
int json_body_read(json_t **ret_body, const char *text, size_t length, struct err *err);
/* The same of one more text that is held beside others: the limits are of them all. */
int json_body_read_beside(json_t **ret_body, struct json_body_counts *counts, const char *text,
                          size_t length, struct err *err);

/* The field, or NULL when it is absent or null. */
json_t *json_body_field(const json_t *body, const char *name);
int json_body_integer(const json_t *body, const char *name, int64_t low, int64_t high,
                      int64_t *value, struct err *err);
int json_body_real(const json_t *body, const char *name, double low, double high, double *value,
                   struct err *err);
int json_body_flag(const json_t *body, const char *name, bool *value, struct err *err);
/* Borrowed from body; NULL stays when it is absent. */
int json_body_string(const json_t *body, const char *name, const char **value, size_t *length,
                     struct err *err);
int json_body_object(const json_t *body, const char *name, json_t **value, struct err *err);
int json_body_array(const json_t *body, const char *name, json_t **value, struct err *err);
/* An array of token ids below `vocabulary`, at most `most` of them; *ret_ids: malloc'd. `name` is
 * what the sentence calls it. */
int json_body_ids(const json_t *array, const char *name, int64_t vocabulary, size_t most,
                  uint32_t **ret_ids, size_t *ret_count, struct err *err);

#endif
