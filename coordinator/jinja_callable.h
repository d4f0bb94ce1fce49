/* jinja_callable.h - what templates can call by name. The tables are fixed, so a name that is in
 * none of them is refused when the template is read. */
#ifndef PACELINE_COORDINATOR_JINJA_CALLABLE_H
#define PACELINE_COORDINATOR_JINJA_CALLABLE_H

#include "coordinator/jinja_run.h"

enum { JINJA_MAX_PARAMS = 4 };

/* args: JINJA_MAX_PARAMS values in the order of `params`; MISSING where nothing was given. */
typedef int jinja_call(struct jinja_run *r, const struct jinja_value *subject,
                       const struct jinja_value *args, struct jinja_value *ret);

struct jinja_callable {
    const char *name;
    jinja_call *call; /* subject: what is filtered, tested, or has the method; NULL: a function */
    int n_required;
    const char *params[JINJA_MAX_PARAMS];
    bool by_name;                 /* any named arguments, which arrive as one dict in args[0] */
    int test_param, filter_param; /* 1 + index of the parameter that names a test (a filter) */
};

/* NULL: there is none of that name. */
const struct jinja_callable *jinja_filters_find(struct jinja_string name);
const struct jinja_callable *jinja_tests_find(struct jinja_string name);
const struct jinja_callable *jinja_functions_find(struct jinja_string name);
/* receiver MISSING: whether any type has it. */
const struct jinja_callable *jinja_methods_find(enum jinja_kind receiver, struct jinja_string name);
/* Whether x.name gives a Python method for a value of this kind, callable here or not. */
bool jinja_methods_hide(enum jinja_kind receiver, struct jinja_string name);

#endif
