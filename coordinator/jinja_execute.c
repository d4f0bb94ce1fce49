#include "coordinator/jinja_execute.h"

#include "coordinator/jinja_expression.h"
#include "coordinator/jinja_macro.h"
#include "coordinator/jinja_print.h"

static int assign_field(struct jinja_run *r, const struct jinja_node *target,
                        const struct jinja_value *value)
{
    struct jinja_value owner;
    int rc = jinja_expression_value(r, target->a, &owner);
    if (rc < 0)
        return rc;
    if (owner.kind != JINJA_NAMESPACE)
        return jinja_run_fail(r, "cannot assign an attribute of something else than a namespace");
    struct jinja_value key = jinja_value_string(target->name.bytes, target->name.length);
    return jinja_value_put(r, owner.dict, &key, value);
}

static int assign(struct jinja_run *r, const struct jinja_node *target,
                  const struct jinja_value *value)
{
    if (target->kind == JINJA_NODE_NAME)
        return jinja_run_set(r, target->name, value);
    if (target->kind == JINJA_NODE_ATTRIBUTE)
        return assign_field(r, target, value);
    struct jinja_list *list;
    int rc = jinja_value_items(r, value, &list);
    size_t wanted = 0, i = 0;
    for (const struct jinja_node *t = target->items; t; t = t->next)
        wanted++;
    if (rc == 0 && list->count != wanted)
        rc = jinja_run_fail(r, "%zu names cannot take %zu values", wanted, list->count);
    for (const struct jinja_node *t = target->items; rc == 0 && t; t = t->next)
        rc = assign(r, t, &list->items[i++]);
    return rc;
}

static int run_if(struct jinja_run *r, const struct jinja_node *n)
{
    for (const struct jinja_node *branch = n->items; branch; branch = branch->next) {
        bool truth = true;
        int rc = branch->a ? jinja_expression_truth(r, branch->a, &truth) : 0;
        if (rc < 0)
            return rc;
        if (truth)
            return jinja_execute_body(r, branch->body);
    }
    return 0;
}

/* for … in … if: the items that pass. `loop` does not exist yet for the condition. */
static int select_items(struct jinja_run *r, const struct jinja_node *n, struct jinja_list **list)
{
    struct jinja_scope *outer = r->scope;
    struct jinja_value kept;
    size_t count = 0;
    int rc = jinja_value_list(r, JINJA_LIST, (*list)->count, &kept);
    for (size_t i = 0; rc == 0 && i < (*list)->count; i++) {
        bool truth;
        rc = jinja_run_push_scope(r, outer);
        if (rc == 0)
            rc = assign(r, n->a, &(*list)->items[i]);
        if (rc == 0)
            rc = jinja_expression_truth(r, n->c, &truth);
        if (rc == 0 && truth)
            kept.list->items[count++] = (*list)->items[i];
    }
    r->scope = outer;
    if (rc == 0) {
        kept.list->count = count;
        *list = kept.list;
    }
    return rc;
}

static int run_loop(struct jinja_run *r, const struct jinja_node *n, const struct jinja_list *list)
{
    struct jinja_scope *outer = r->scope;
    struct jinja_loop *loop;
    int rc = jinja_run_alloc(r, 1, sizeof *loop, &loop);
    if (rc < 0)
        return rc;
    *loop = (struct jinja_loop){.list = list};
    struct jinja_value value = {.kind = JINJA_LOOP, .loop = loop};
    for (size_t i = 0; rc == 0 && r->flow != JINJA_BREAK && i < list->count; i++) {
        loop->index = i;
        r->flow = JINJA_GO_ON;
        rc = jinja_run_push_scope(r, outer);
        if (rc == 0)
            rc = jinja_run_set(r, jinja_value_text("loop"), &value);
        if (rc == 0)
            rc = assign(r, n->a, &list->items[i]);
        if (rc == 0)
            rc = jinja_execute_body(r, n->body);
    }
    r->flow = JINJA_GO_ON;
    r->scope = outer;
    return rc;
}

static int run_for(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value over;
    struct jinja_list *list;
    int rc = jinja_expression_value(r, n->b, &over);
    if (rc == 0)
        rc = jinja_value_items(r, &over, &list);
    if (rc == 0 && n->c)
        rc = select_items(r, n, &list);
    if (rc < 0)
        return rc;
    if (list->count)
        return run_loop(r, n, list);
    struct jinja_scope *outer = r->scope;
    rc = jinja_run_push_scope(r, outer);
    if (rc == 0)
        rc = jinja_execute_body(r, n->orelse);
    r->scope = outer;
    return rc;
}

static int run_set(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value value;
    int rc;
    if (n->kind == JINJA_NODE_SET) {
        rc = jinja_expression_value(r, n->b, &value);
    } else {
        struct jinja_scope *outer = r->scope;
        rc = jinja_run_push_scope(r, outer);
        if (rc == 0)
            rc = jinja_execute_capture(r, n->body, &value);
        r->scope = outer;
    }
    r->line = n->line;
    return rc < 0 ? rc : assign(r, n->a, &value);
}

static int run_print(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_value value;
    int rc = jinja_expression_value(r, n->a, &value);
    return rc < 0 ? rc : jinja_print_value(r, r->out, &value);
}

static int run_generation(struct jinja_run *r, const struct jinja_node *n)
{
    struct jinja_scope *outer = r->scope;
    int rc = jinja_run_push_scope(r, outer);
    if (rc == 0)
        rc = jinja_execute_body(r, n->body);
    r->scope = outer;
    return rc;
}

static int dispatch(struct jinja_run *r, const struct jinja_node *n)
{
    switch (n->kind) {
    case JINJA_NODE_TEXT:
        return jinja_run_append(r, r->out, n->constant.string.bytes, n->constant.string.length);
    case JINJA_NODE_PRINT:
        return run_print(r, n);
    case JINJA_NODE_IF:
        return run_if(r, n);
    case JINJA_NODE_FOR:
        return run_for(r, n);
    case JINJA_NODE_SET:
    case JINJA_NODE_SET_BLOCK:
        return run_set(r, n);
    case JINJA_NODE_MACRO:
        return jinja_macro_define(r, n);
    case JINJA_NODE_GENERATION:
        return run_generation(r, n);
    case JINJA_NODE_BREAK:
    case JINJA_NODE_CONTINUE:
        r->flow = n->kind == JINJA_NODE_BREAK ? JINJA_BREAK : JINJA_CONTINUE;
        return 0;
    default:
        return err_set(r->err, ERR_INTERNAL, "chat template, line %d: a value as a statement",
                       n->line);
    }
}

int jinja_execute_body(struct jinja_run *r, const struct jinja_node *body)
{
    int rc = jinja_run_enter(r);
    if (rc < 0)
        return rc;
    for (const struct jinja_node *n = body; rc == 0 && n && r->flow == JINJA_GO_ON; n = n->next) {
        r->line = n->line;
        rc = dispatch(r, n);
    }
    jinja_run_leave(r);
    return rc;
}

int jinja_execute_capture(struct jinja_run *r, const struct jinja_node *body,
                          struct jinja_value *ret)
{
    struct buf *outside = r->out, inside;
    buf_init(&inside);
    r->out = &inside;
    int rc = jinja_execute_body(r, body);
    r->out = outside;
    if (rc == 0)
        rc = jinja_run_keep(r, &inside, ret);
    buf_clear(&inside);
    return rc;
}
