/* jinja_run.h - one rendering: its memory, its output, its names, and what it may still do. */
#ifndef PACELINE_COORDINATOR_JINJA_RUN_H
#define PACELINE_COORDINATOR_JINJA_RUN_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "coordinator/jinja_value.h"

struct jinja_variable {
    struct jinja_string name;
    struct jinja_value value;
    struct jinja_variable *next;
};

struct jinja_scope {
    struct jinja_scope *parent;
    struct jinja_variable *variables;
};

enum jinja_flow { JINJA_GO_ON, JINJA_BREAK, JINJA_CONTINUE };

struct jinja_run {
    struct arena arena;
    struct buf *out; /* where text goes now: the prompt, or what a macro captures */
    struct jinja_scope *scope;
    uint64_t steps; /* done so far */
    int depth;      /* of expressions, statements, macro calls and nested values together */
    int line;       /* of the template */
    enum jinja_flow flow;
    struct err *err;
};

enum {
    JINJA_RUN_MAX_DEPTH = 800,
    JINJA_RUN_MAX_STEPS = 10 * 1000 * 1000,
    JINJA_RUN_MAX_OUTPUT = 64 * 1024 * 1024,
    JINJA_RUN_MAX_MEMORY = 256 * 1024 * 1024
};

/* Sets ERR_INPUT with the line of the template before the sentence; returns it. */
int jinja_run_fail(struct jinja_run *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
int jinja_run_no_memory(struct jinja_run *r);
/* One step, and more for work that grows with `size` (elements or bytes / 64). */
int jinja_run_charge(struct jinja_run *r, size_t size);
/* Around everything that calls itself. leave() only after an enter() that returned 0. */
int jinja_run_enter(struct jinja_run *r);
void jinja_run_leave(struct jinja_run *r);
int jinja_run_alloc(struct jinja_run *r, size_t count, size_t size, void *ret_pointer);
/* Appends to a buffer of this rendering, within the limits. */
int jinja_run_append(struct jinja_run *r, struct buf *b, const char *bytes, size_t length);
int jinja_run_puts(struct jinja_run *r, struct buf *b, const char *text);
/* Moves what a buffer holds into the arena and clears the buffer, on failure too. */
int jinja_run_keep(struct jinja_run *r, struct buf *b, struct jinja_value *ret);

int jinja_run_push_scope(struct jinja_run *r, struct jinja_scope *parent);
int jinja_run_set(struct jinja_run *r, struct jinja_string name, const struct jinja_value *value);
/* *ret: MISSING if no scope has the name. */
int jinja_run_lookup(struct jinja_run *r, struct jinja_string name, struct jinja_value *ret);

#endif
