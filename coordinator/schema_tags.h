/* schema_tags.h - the arguments of a call in tags, as Qwen3-Coder writes them:
 *     <parameter=name>
 *     value
 *     </parameter>
 * A value is a string as it stands there, or JSON of another type that the parameter may have. What
 * is written (schema_read_tags(), in schema.h) and how it is read follow from the same types.
 *
 * Written are the parameters of `properties`, in their order; strings in which no tag ends; where
 * a number, an object or an array may stand too, strings that begin like none. */
#ifndef PACELINE_COORDINATOR_SCHEMA_TAGS_H
#define PACELINE_COORDINATOR_SCHEMA_TAGS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Types (of enum schema_type) that a parameter may have as far as its schema names them. root: the
 * schema of all arguments; schema: NULL: the parameter is not known. */
unsigned schema_tags_types(const json_t *root, const json_t *schema);
/* Whether a text is read as a string, and not as JSON of another of these types, or as a word that
 * Python spells otherwise: then *ret_word is the one of JSON, else NULL. */
bool schema_tags_is_string(const char *text, size_t length, unsigned types, const char **ret_word);
#endif
