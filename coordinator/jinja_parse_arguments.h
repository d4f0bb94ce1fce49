/* jinja_parse_arguments.h - the arguments of calls, filters and tests, matched with parameters. */
#ifndef PACELINE_COORDINATOR_JINJA_PARSE_ARGUMENTS_H
#define PACELINE_COORDINATOR_JINJA_PARSE_ARGUMENTS_H

#include "coordinator/jinja_parser.h"

/* Reads (…) into n->items. */
int jinja_parse_arguments(struct jinja_parser *p, struct jinja_node *n);
/* Matches n->items with the parameters of n->callable; what: "filter", for the error's sentence. */
int jinja_parse_arguments_bind(struct jinja_parser *p, struct jinja_node *n, const char *what);

#endif
