#include "coordinator/jinja_macro.h"

#include "coordinator/jinja_execute.h"
#include "coordinator/jinja_expression.h"

int jinja_macro_define(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_macro *macro;
    int rc = jinja_run_alloc(r, 1, sizeof *macro, &macro);
    if (rc < 0)
        return rc;
    *macro = (struct jinja_macro){n, r->scope};
    struct jinja_value v = {.kind = JINJA_MACRO, .macro = macro};
    return jinja_run_set(r, n->name, &v);
}

static int misfit(struct jinja_run *r, const struct jinja_node *macro, const char *what,
                  struct jinja_string name)
{
    return jinja_run_fail(r, "the macro '%.*s' %s%.*s",
                          macro->name.length > 80 ? 80 : (int)macro->name.length, macro->name.bytes,
                          what, name.length > 80 ? 80 : (int)name.length,
                          name.length ? name.bytes : "");
}

/* Puts the call's arguments, evaluated in the caller's scope, into `own`. */
static int pass(struct jinja_run *r, const struct jinja_node *macro, const struct jinja_node *call,
                struct jinja_scope *own)
{
    struct jinja_scope *caller = r->scope;
    const struct jinja_node *next = macro->items;
    int rc = 0;
    for (const struct jinja_node *arg = call->items; rc == 0 && arg; arg = arg->next) {
        const struct jinja_node *parameter = next;
        if (arg->name.length)
            for (parameter = macro->items;
                 parameter && !jinja_value_same(parameter->name, arg->name);)
                parameter = parameter->next;
        else if (next)
            next = next->next;
        if (!parameter)
            return arg->name.length
                       ? misfit(r, macro, "takes no keyword argument ", arg->name)
                       : misfit(r, macro, "takes fewer arguments", (struct jinja_string){NULL, 0});
        struct jinja_value value, known = {0};
        rc = jinja_expression_value(r, arg->a, &value);
        r->scope = own;
        for (const struct jinja_variable *v = own->variables; v; v = v->next)
            if (jinja_value_same(v->name, parameter->name))
                known = v->value;
        if (rc == 0 && known.kind != JINJA_MISSING)
            rc = misfit(r, macro, "got two values for ", parameter->name);
        if (rc == 0)
            rc = jinja_run_set(r, parameter->name, &value);
        r->scope = caller;
    }
    return rc;
}

/* Parameters that were not given: their default, evaluated inside, or undefined. */
static int complete(struct jinja_run *r, const struct jinja_node *macro)
{
    struct jinja_scope *own = r->scope;
    int rc = 0;
    for (const struct jinja_node *p = macro->items; rc == 0 && p; p = p->next) {
        const struct jinja_variable *v = own->variables;
        while (v && !jinja_value_same(v->name, p->name))
            v = v->next;
        if (v)
            continue;
        struct jinja_value value;
        rc = p->a ? jinja_expression_value(r, p->a, &value)
                  : jinja_value_undefined(r, NULL, p->name, &value);
        if (rc == 0)
            rc = jinja_run_set(r, p->name, &value);
    }
    return rc;
}

int jinja_macro_call(struct jinja_run *r, const struct jinja_macro *macro,
                     const struct jinja_node *call, struct jinja_value *ret)
{
    struct jinja_scope *caller = r->scope, *own;
    int line = r->line;
    int rc = jinja_run_push_scope(r, macro->scope);
    if (rc < 0)
        return rc;
    own = r->scope;
    r->scope = caller;
    rc = pass(r, macro->node, call, own);
    r->scope = own;
    if (rc == 0)
        rc = complete(r, macro->node);
    if (rc == 0)
        rc = jinja_execute_capture(r, macro->node->body, ret);
    r->scope = caller;
    if (rc == 0)
        r->line = line;
    return rc;
}
