/* jinja_value.h - the values of a template: Python's, as far as chat templates see them.
 *
 * A value is small and copied freely; what it points to lives in the rendering's arena, in the
 * template's, or in the caller's JSON, and never changes, except a namespace's fields. */
#ifndef PACELINE_COORDINATOR_JINJA_VALUE_H
#define PACELINE_COORDINATOR_JINJA_VALUE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct jinja_run;

enum jinja_kind {
    JINJA_MISSING, /* no value at all: an argument that was not given, a name that is not there */
    JINJA_UNDEFINED,
    JINJA_NONE,
    JINJA_BOOL,
    JINJA_INT,
    JINJA_FLOAT,
    JINJA_STRING,
    JINJA_LIST,
    JINJA_TUPLE,
    JINJA_VIEW,     /* keys(), values(), items(): has a length, but no positions */
    JINJA_ITERATOR, /* what generating filters give: walked once */
    JINJA_DICT,
    JINJA_NAMESPACE,
    JINJA_LOOP,
    JINJA_MACRO,
    JINJA_FUNCTION,
    JINJA_METHOD /* an attribute that is a method, not called */
};

/* UTF-8, not NUL-terminated; may contain NUL. */
struct jinja_string {
    const char *bytes;
    size_t length;
};

struct jinja_list;
struct jinja_dict;
struct jinja_loop;
struct jinja_macro;

/* Why a value is undefined, for the sentence when somebody uses it. */
struct jinja_hint {
    const char *owner; /* type name of the object that lacks it; NULL: a plain name */
    struct jinja_string name;
    int64_t element;
    bool is_element;
};

struct jinja_value {
    enum jinja_kind kind;
    union {
        bool truth;
        int64_t integer;
        double real;
        struct jinja_string string; /* also a function's or method's name */
        struct jinja_list *list;
        struct jinja_dict *dict; /* also a namespace */
        struct jinja_loop *loop;
        const struct jinja_macro *macro;
        const struct jinja_hint *hint;
    };
};

struct jinja_list {
    size_t count;
    bool spent; /* an iterator that was walked */
    struct jinja_value *items;
};

struct jinja_pair {
    struct jinja_value key, value;
};

struct jinja_dict { /* in order of insertion */
    size_t count, capacity;
    struct jinja_pair *pairs;
};

struct jinja_loop {
    const struct jinja_list *list;
    size_t index; /* from 0 */
};

struct jinja_string jinja_value_text(const char *text); /* of a C string */
bool jinja_value_same(struct jinja_string a, struct jinja_string b);
bool jinja_value_is(struct jinja_string a, const char *text);

struct jinja_value jinja_value_none(void);
struct jinja_value jinja_value_bool(bool truth);
struct jinja_value jinja_value_int(int64_t integer);
struct jinja_value jinja_value_real(double real);
struct jinja_value jinja_value_string(const char *bytes, size_t length);
/* These take memory; 0 or an error that is set in the run. */
int jinja_value_list(struct jinja_run *r, enum jinja_kind kind, size_t count,
                     struct jinja_value *ret);
int jinja_value_dict(struct jinja_run *r, enum jinja_kind kind, struct jinja_value *ret);
/* Replaces a key that is there. Keys: whatever is hashable in Python. */
int jinja_value_put(struct jinja_run *r, struct jinja_dict *d, const struct jinja_value *key,
                    const struct jinja_value *value);
int jinja_value_undefined(struct jinja_run *r, const struct jinja_value *owner,
                          struct jinja_string name, struct jinja_value *ret);
int jinja_value_from_json(struct jinja_run *r, const json_t *json, struct jinja_value *ret);

/* Python's names: "str", "NoneType" … */
const char *jinja_value_type(const struct jinja_value *v);
bool jinja_value_truth(const struct jinja_value *v);
bool jinja_value_is_number(const struct jinja_value *v); /* bool included, as in Python */
double jinja_value_to_real(const struct jinja_value *v); /* of a number */
/* The int in it (a bool is one): false if there is none. */
bool jinja_value_to_int(const struct jinja_value *v, int64_t *ret);
/* *ret: MISSING if the key is not there. */
int jinja_value_get(struct jinja_run *r, const struct jinja_dict *d, const struct jinja_value *key,
                    struct jinja_value *ret);
int jinja_value_equal(struct jinja_run *r, const struct jinja_value *a, const struct jinja_value *b,
                      bool *ret);
/* a < b: *ret < 0, equal: 0. Fails for what Python cannot order; `sign` is for that sentence. */
int jinja_value_compare(struct jinja_run *r, const struct jinja_value *a,
                        const struct jinja_value *b, const char *sign, int *ret);
/* What a for loop would walk through; borrowed where possible, so not to be changed. */
int jinja_value_items(struct jinja_run *r, const struct jinja_value *v, struct jinja_list **ret);
/* len(v) */
int jinja_value_length(struct jinja_run *r, const struct jinja_value *v, int64_t *ret);
/* An undefined value was used: sets the error that says which. */
int jinja_value_refuse(struct jinja_run *r, const struct jinja_value *undefined);

#endif
