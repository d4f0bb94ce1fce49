/* jinja_split.h - str.split() and its relatives. */
#ifndef PACELINE_COORDINATOR_JINJA_SPLIT_H
#define PACELINE_COORDINATOR_JINJA_SPLIT_H

#include "coordinator/jinja_run.h"

/* separator NULL: runs of white space. most < 0: no limit. */
int jinja_split_string(struct jinja_run *r, struct jinja_string s,
                       const struct jinja_string *separator, int64_t most, bool from_right,
                       struct jinja_value *ret);
int jinja_split_lines(struct jinja_run *r, struct jinja_string s, bool keep_ends,
                      struct jinja_value *ret);
int jinja_split_replace(struct jinja_run *r, struct jinja_string s, struct jinja_string from,
                        struct jinja_string to, int64_t most, struct jinja_value *ret);

#endif
