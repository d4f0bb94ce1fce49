/* jinja_access.h - x.name, x[item] and x[from:to:step], as jinja2's environment resolves them. */
#ifndef PACELINE_COORDINATOR_JINJA_ACCESS_H
#define PACELINE_COORDINATOR_JINJA_ACCESS_H

#include "coordinator/jinja_run.h"

int jinja_access_attribute(struct jinja_run *r, const struct jinja_value *owner,
                           struct jinja_string name, struct jinja_value *ret);
int jinja_access_item(struct jinja_run *r, const struct jinja_value *owner,
                      const struct jinja_value *item, struct jinja_value *ret);
/* bounds: from, to, step; MISSING where left out */
int jinja_access_slice(struct jinja_run *r, const struct jinja_value *owner,
                       const struct jinja_value bounds[3], struct jinja_value *ret);

#endif
