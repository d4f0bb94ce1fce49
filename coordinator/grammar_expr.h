/* grammar_expr.h - a grammar as a tree: what regex, EBNF and JSON schemas are turned into, and what
 * grammar_compile.c makes automata of. Rules may call each other, and themselves.
 *
 * A builder remembers that memory ran out, as a buf does: constructors never return NULL, and
 * whoever finishes the grammar asks once. All of it lives in the builder's arena. */
#ifndef PACELINE_COORDINATOR_GRAMMAR_EXPR_H
#define PACELINE_COORDINATOR_GRAMMAR_EXPR_H

#include "base/arena.h"
#include "coordinator/grammar_charset.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GRAMMAR_UNBOUNDED UINT32_MAX
/* What all automata of a source may cost to make, and once more the grammar of it: edges that are
 * looked at, some ten nanoseconds each. */
#define GRAMMAR_MOST_WORK ((uint64_t)4 << 20)

enum grammar_kind {
    GRAMMAR_NEVER, /* matches nothing */
    GRAMMAR_TEXT,  /* these bytes; none: the empty text */
    GRAMMAR_CLASS, /* one character of a set */
    GRAMMAR_SEQUENCE,
    GRAMMAR_CHOICE,
    GRAMMAR_REPEAT,
    GRAMMAR_CALL,     /* a rule */
    GRAMMAR_GRAPH,    /* nodes, and expressions that lead from one to another */
    GRAMMAR_AUTOMATON /* a deterministic automaton over characters */
};

/* How a character is written: as it is, or as inside a JSON string. */
enum grammar_spelling { GRAMMAR_PLAIN, GRAMMAR_JSON };

struct grammar_automaton;
struct grammar_expr;

struct grammar_graph_edge {
    uint32_t from, to;
    const struct grammar_expr *expr;
};

struct grammar_expr {
    enum grammar_kind kind;
    enum grammar_spelling spelling; /* CLASS, AUTOMATON */
    uint32_t size;                  /* about how many states it takes */
    union {
        struct {
            const unsigned char *bytes;
            size_t length;
        } text;
        struct grammar_charset set; /* sorted */
        struct {
            const struct grammar_expr **items;
            size_t n;
        } list; /* SEQUENCE, CHOICE */
        struct {
            const struct grammar_expr *item;
            uint32_t min, max; /* GRAMMAR_UNBOUNDED */
        } repeat;
        uint32_t rule;
        struct {
            uint32_t n_nodes, end; /* from node 0 */
            struct grammar_graph_edge *edges;
            size_t n_edges, capacity;
        } graph;
        const struct grammar_automaton *automaton;
    };
};

struct grammar_rule {
    const struct grammar_expr *expr; /* NULL until it is defined */
    bool is_shared;                  /* always called, never written out where it is used */
};

struct grammar_builder {
    struct arena arena;
    struct grammar_rule *rules; /* [n_rules] */
    size_t n_rules, capacity;
    uint32_t start;              /* rule where the text begins; 0 at first */
    bool failed;                 /* memory, or a limit of it */
    uint64_t work;               /* of all its automata, see GRAMMAR_MOST_WORK; */
    size_t n_values;             /* values of schemas that were looked at */
    struct grammar_expr nothing; /* what a constructor gives then, where it is written to */
};

/* Expressions one after the other; zeroed: none. */
struct grammar_list {
    const struct grammar_expr **items; /* [n] */
    size_t n, capacity;
};

void grammar_builder_init(struct grammar_builder *b);
void grammar_builder_clear(struct grammar_builder *b);
/* A rule without a definition. */
uint32_t grammar_builder_rule(struct grammar_builder *b);

void grammar_list_add(struct grammar_builder *b, struct grammar_list *l,
                      const struct grammar_expr *e);
const struct grammar_expr *grammar_never(void);
const struct grammar_expr *grammar_empty(void);
/* The bytes are copied. */
const struct grammar_expr *grammar_text(struct grammar_builder *b, const char *bytes,
                                        size_t length);
/* The set is sorted, and borrowed from the arena. */
const struct grammar_expr *grammar_class(struct grammar_builder *b,
                                         const struct grammar_charset *set,
                                         enum grammar_spelling spelling);
/* One character, of low … high. */
const struct grammar_expr *grammar_range(struct grammar_builder *b, uint32_t low, uint32_t high,
                                         enum grammar_spelling spelling);
/* items: [n], copied. */
const struct grammar_expr *grammar_sequence(struct grammar_builder *b,
                                            const struct grammar_expr *const *items, size_t n);
const struct grammar_expr *grammar_choice(struct grammar_builder *b,
                                          const struct grammar_expr *const *items, size_t n);
#define GRAMMAR_SEQUENCE_OF(b, ...)                                                                \
    grammar_sequence(b, (const struct grammar_expr *[]){__VA_ARGS__},                              \
                     sizeof((const struct grammar_expr *[]){__VA_ARGS__}) / sizeof(void *))
#define GRAMMAR_CHOICE_OF(b, ...)                                                                  \
    grammar_choice(b, (const struct grammar_expr *[]){__VA_ARGS__},                                \
                   sizeof((const struct grammar_expr *[]){__VA_ARGS__}) / sizeof(void *))
const struct grammar_expr *grammar_repeat(struct grammar_builder *b,
                                          const struct grammar_expr *item, uint32_t min,
                                          uint32_t max);
const struct grammar_expr *grammar_optional(struct grammar_builder *b,
                                            const struct grammar_expr *item);
const struct grammar_expr *grammar_call(struct grammar_builder *b, uint32_t rule);
const struct grammar_expr *grammar_from_automaton(struct grammar_builder *b,
                                                  const struct grammar_automaton *automaton,
                                                  enum grammar_spelling spelling);
/* A graph without edges, from node 0 to node `end`; edges are added before it is used. */
struct grammar_expr *grammar_graph(struct grammar_builder *b, uint32_t n_nodes, uint32_t end);
void grammar_graph_add(struct grammar_builder *b, struct grammar_expr *graph, uint32_t from,
                       const struct grammar_expr *expr, uint32_t to);

#endif
