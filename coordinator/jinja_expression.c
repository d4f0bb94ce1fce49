#include "coordinator/jinja_expression.h"

#include "coordinator/jinja_access.h"
#include "coordinator/jinja_macro.h"
#include "coordinator/jinja_operators.h"
#include "coordinator/jinja_print.h"

int jinja_expression_truth(struct jinja_run *r, const struct jinja_node *n, bool *ret)
{
    struct jinja_value v = {0};
    int rc = jinja_expression_value(r, n, &v);
    *ret = rc == 0 && jinja_value_truth(&v);
    return rc;
}

static int name_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    int rc = jinja_run_lookup(r, n->name, ret);
    if (rc < 0 || ret->kind != JINJA_MISSING)
        return rc;
    if (jinja_functions_find(n->name)) {
        *ret = (struct jinja_value){.kind = JINJA_FUNCTION, .string = n->name};
        return 0;
    }
    return jinja_value_undefined(r, NULL, n->name, ret);
}

static int list_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    size_t count = 0, i = 0;
    for (const struct jinja_node *item = n->items; item; item = item->next)
        count++;
    enum jinja_kind kind = n->kind == JINJA_NODE_LIST ? JINJA_LIST : JINJA_TUPLE;
    int rc = jinja_value_list(r, kind, count, ret);
    for (const struct jinja_node *item = n->items; rc == 0 && item; item = item->next)
        rc = jinja_expression_value(r, item->a, &ret->list->items[i++]);
    return rc;
}

static int dict_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    int rc = jinja_value_dict(r, JINJA_DICT, ret);
    for (const struct jinja_node *pair = n->items; rc == 0 && pair; pair = pair->next) {
        struct jinja_value key, value;
        rc = jinja_expression_value(r, pair->a, &key);
        if (rc == 0)
            rc = jinja_expression_value(r, pair->b, &value);
        if (rc == 0)
            rc = jinja_value_put(r, ret->dict, &key, &value);
    }
    return rc;
}

static int access_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    struct jinja_value owner, item = {0};
    int rc = jinja_expression_value(r, n->a, &owner);
    if (rc == 0 && n->kind == JINJA_NODE_ITEM)
        rc = jinja_expression_value(r, n->b, &item);
    if (rc < 0)
        return rc;
    r->line = n->line;
    if (n->kind == JINJA_NODE_ATTRIBUTE)
        return jinja_access_attribute(r, &owner, n->name, ret);
    return jinja_access_item(r, &owner, &item, ret);
}

static int slice_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    struct jinja_value owner, bounds[3] = {{0}};
    const struct jinja_node *nodes[3] = {n->b, n->c, n->d};
    int rc = jinja_expression_value(r, n->a, &owner);
    for (int i = 0; rc == 0 && i < 3; i++)
        if (nodes[i])
            rc = jinja_expression_value(r, nodes[i], &bounds[i]);
    if (rc < 0)
        return rc;
    r->line = n->line;
    return jinja_access_slice(r, &owner, bounds, ret);
}

/* The arguments that a callable of ours takes, evaluated. */
static int arguments(struct jinja_run *r, const struct jinja_node *n,
                     struct jinja_value args[JINJA_MAX_PARAMS])
{
    int rc = 0;
    for (int i = 0; rc == 0 && i < JINJA_MAX_PARAMS; i++)
        if (n->bound[i])
            rc = jinja_expression_value(r, n->bound[i], &args[i]);
    if (rc < 0 || !n->callable->by_name)
        return rc;
    rc = jinja_value_dict(r, JINJA_DICT, &args[0]);
    for (const struct jinja_node *arg = n->items; rc == 0 && arg; arg = arg->next) {
        struct jinja_value key = jinja_value_string(arg->name.bytes, arg->name.length), value;
        rc = jinja_expression_value(r, arg->a, &value);
        if (rc == 0)
            rc = jinja_value_put(r, args[0].dict, &key, &value);
    }
    return rc;
}

static int call_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    struct jinja_value args[JINJA_MAX_PARAMS] = {{0}}, macro;
    int rc = jinja_run_lookup(r, n->name, &macro);
    if (rc < 0)
        return rc;
    if (macro.kind == JINJA_MACRO)
        return jinja_macro_call(r, macro.macro, n, ret);
    if (macro.kind != JINJA_MISSING && macro.kind != JINJA_FUNCTION)
        return jinja_run_fail(r, "'%s' object is not callable", jinja_value_type(&macro));
    const struct jinja_callable *callable = n->callable;
    if (!callable || (macro.kind == JINJA_FUNCTION && !jinja_value_same(macro.string, n->name)))
        return jinja_run_fail(r, "'%.*s' is undefined here",
                              n->name.length > 80 ? 80 : (int)n->name.length, n->name.bytes);
    rc = arguments(r, n, args);
    r->line = n->line;
    return rc < 0 ? rc : callable->call(r, NULL, args, ret);
}

/* Methods, filters and tests: all have a subject. */
static int apply_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    struct jinja_value args[JINJA_MAX_PARAMS] = {{0}}, subject;
    int rc = jinja_expression_value(r, n->a, &subject);
    if (rc == 0)
        rc = arguments(r, n, args);
    if (rc < 0)
        return rc;
    r->line = n->line;
    if (n->kind == JINJA_NODE_METHOD && jinja_methods_find(subject.kind, n->name) != n->callable) {
        struct jinja_value attribute;
        rc = jinja_access_attribute(r, &subject, n->name, &attribute);
        if (rc == 0 && attribute.kind == JINJA_UNDEFINED)
            return jinja_value_refuse(r, &attribute);
        return rc < 0 ? rc
                      : jinja_run_fail(r, "'%s' of a '%s' cannot be called", n->callable->name,
                                       jinja_value_type(&subject));
    }
    return n->callable->call(r, &subject, args, ret);
}

static int binary_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    struct jinja_value a, b;
    int rc = jinja_expression_value(r, n->a, &a);
    if (rc == 0)
        rc = jinja_expression_value(r, n->b, &b);
    if (rc < 0)
        return rc;
    r->line = n->line;
    return jinja_operators_binary(r, n->op, &a, &b, ret);
}

static int logic_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    int rc = jinja_expression_value(r, n->a, ret);
    if (rc < 0 || jinja_value_truth(ret) == (n->kind == JINJA_NODE_OR))
        return rc;
    return jinja_expression_value(r, n->b, ret);
}

static int concat_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    struct buf b;
    buf_init(&b);
    int rc = 0;
    for (const struct jinja_node *item = n->items; rc == 0 && item; item = item->next) {
        struct jinja_value v;
        rc = jinja_expression_value(r, item->a, &v);
        if (rc == 0)
            rc = jinja_print_value(r, &b, &v);
    }
    if (rc == 0)
        rc = jinja_run_keep(r, &b, ret);
    buf_clear(&b);
    return rc;
}

/* a < b < c: b is evaluated once, c only if a < b. */
static int compare_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    struct jinja_value left, right;
    bool holds = true;
    int rc = jinja_expression_value(r, n->a, &left);
    for (const struct jinja_node *part = n->items; rc == 0 && holds && part; part = part->next) {
        rc = jinja_expression_value(r, part->a, &right);
        r->line = part->line;
        if (rc == 0)
            rc = jinja_operators_compare(r, part->op, &left, &right, &holds);
        left = right;
    }
    *ret = jinja_value_bool(holds);
    return rc;
}

static int choice_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    bool truth;
    int rc = jinja_expression_truth(r, n->b, &truth);
    if (rc < 0)
        return rc;
    if (truth || n->c)
        return jinja_expression_value(r, truth ? n->a : n->c, ret);
    return jinja_value_undefined(r, NULL, jinja_value_text("the else of an inline if"), ret);
}

static int unary_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    struct jinja_value a;
    int rc = jinja_expression_value(r, n->a, &a);
    if (rc < 0)
        return rc;
    if (n->kind != JINJA_NODE_NOT)
        return jinja_operators_sign(r, n->kind == JINJA_NODE_NEGATIVE, &a, ret);
    *ret = jinja_value_bool(!jinja_value_truth(&a));
    return 0;
}

static int dispatch(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    switch (n->kind) {
    case JINJA_NODE_CONSTANT:
        *ret = n->constant;
        return 0;
    case JINJA_NODE_NAME:
        return name_value(r, n, ret);
    case JINJA_NODE_LIST:
    case JINJA_NODE_TUPLE:
        return list_value(r, n, ret);
    case JINJA_NODE_DICT:
        return dict_value(r, n, ret);
    case JINJA_NODE_ATTRIBUTE:
    case JINJA_NODE_ITEM:
        return access_value(r, n, ret);
    case JINJA_NODE_SLICE:
        return slice_value(r, n, ret);
    case JINJA_NODE_CALL:
        return call_value(r, n, ret);
    case JINJA_NODE_METHOD:
    case JINJA_NODE_FILTER:
    case JINJA_NODE_TEST:
        return apply_value(r, n, ret);
    case JINJA_NODE_NOT:
    case JINJA_NODE_NEGATIVE:
    case JINJA_NODE_POSITIVE:
        return unary_value(r, n, ret);
    case JINJA_NODE_BINARY:
        return binary_value(r, n, ret);
    case JINJA_NODE_AND:
    case JINJA_NODE_OR:
        return logic_value(r, n, ret);
    case JINJA_NODE_CONCAT:
        return concat_value(r, n, ret);
    case JINJA_NODE_COMPARE:
        return compare_value(r, n, ret);
    case JINJA_NODE_CHOICE:
        return choice_value(r, n, ret);
    default:
        return err_set(r->err, ERR_INTERNAL, "chat template, line %d: a statement as a value",
                       n->line);
    }
}

int jinja_expression_value(struct jinja_run *r, const struct jinja_node *n, struct jinja_value *ret)
{
    r->line = n->line;
    int rc = jinja_run_enter(r);
    if (rc < 0)
        return rc;
    rc = dispatch(r, n, ret);
    jinja_run_leave(r);
    return rc;
}
