/* jinja_print.h - values as text: Python's str(), repr() and json.dumps(). */
#ifndef PACELINE_COORDINATOR_JINJA_PRINT_H
#define PACELINE_COORDINATOR_JINJA_PRINT_H

#include "coordinator/jinja_run.h"

/* str(v), appended; undefined prints as nothing. */
int jinja_print_value(struct jinja_run *r, struct buf *b, const struct jinja_value *v);
/* str(v) as a string that lives as long as the rendering. */
int jinja_print_string(struct jinja_run *r, const struct jinja_value *v, struct jinja_string *ret);

struct jinja_print_json {
    bool ascii, sort_keys;
    bool indented;              /* one member a line, each level moved by `indent` */
    struct jinja_string indent; /* may be empty */
    struct jinja_string comma, colon;
};
int jinja_print_json(struct jinja_run *r, struct buf *b, const struct jinja_print_json *how,
                     const struct jinja_value *v);
/* repr() of a float: the shortest digits that read back as the same number. */
void jinja_print_real(double real, char ret_text[32]);

#endif
