/* jinja_select.h - filters that apply an attribute, a filter or a test to each item. */
#ifndef PACELINE_COORDINATOR_JINJA_SELECT_H
#define PACELINE_COORDINATOR_JINJA_SELECT_H

#include "coordinator/jinja_callable.h"

/* item.a.b or item.0, as the text "a.b" or a number says. */
int jinja_select_attribute(struct jinja_run *r, const struct jinja_value *item,
                           const struct jinja_value *path, struct jinja_value *ret);

jinja_call jinja_select_map, jinja_select_by_value, jinja_select_not_by_value,
    jinja_select_by_attribute, jinja_select_not_by_attribute;

#endif
