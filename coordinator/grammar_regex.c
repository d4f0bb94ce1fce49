#include "coordinator/grammar_regex.h"

#include "coordinator/grammar_utf8.h"

#include <string.h>

#define MOST_DEPTH   100
#define MOST_REPEATS 1000000

struct regex {
    struct grammar_builder *builder;
    const struct grammar_regex *source;
    const unsigned char *text;
    size_t at, end; /* bytes */
    int depth;
    struct err *err;
    /* Stand for ^ and $ until regex_bind(), known by their addresses. */
    const struct grammar_expr *begin, *finish;
};

static size_t regex_position(const struct regex *r, size_t at)
{
    size_t n = 1;
    for (size_t i = 0; i < at; i++)
        n += (r->text[i] & 0xC0) != 0x80;
    return n;
}

static int regex_fail(const struct regex *r, size_t at, const char *what)
{
    return err_set(r->err, ERR_INPUT, "%s, at character %zu", what, regex_position(r, at));
}

static int regex_no_memory(const struct regex *r)
{
    r->builder->failed = true;
    return err_set(r->err, ERR_INPUT, "it is too large: there is no memory for it");
}

static bool regex_has(const struct regex *r, const char *text)
{
    size_t n = strlen(text);
    return r->end - r->at >= n && memcmp(r->text + r->at, text, n) == 0;
}

static bool regex_skip(struct regex *r, const char *text)
{
    if (!regex_has(r, text))
        return false;
    r->at += strlen(text);
    return true;
}

/* ---- characters ---- */

static int hex_value(unsigned char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* n hexadecimal digits, or with n = 0 as many as come before a '}'. */
static int regex_read_hex(struct regex *r, size_t n, uint32_t *ret_character)
{
    size_t first = r->at, count = 0;
    uint32_t c = 0;
    while (r->at < r->end && (n == 0 || count < n) && hex_value(r->text[r->at]) >= 0 &&
           c <= GRAMMAR_LAST_CHARACTER) {
        c = c * 16 + (uint32_t)hex_value(r->text[r->at++]);
        count++;
    }
    if (count == 0 || (n && count != n) || c > GRAMMAR_LAST_CHARACTER ||
        (n == 0 && !regex_skip(r, "}")))
        return regex_fail(r, first, "hexadecimal digits are missing");
    *ret_character = c;
    return 0;
}

/* \uD83D\uDE00 is one character. */
static int regex_read_utf16(struct regex *r, size_t at, uint32_t *character)
{
    int rc = regex_skip(r, "{") ? regex_read_hex(r, 0, character) : regex_read_hex(r, 4, character);
    if (rc != 0 || *character < 0xD800 || *character > 0xDFFF)
        return rc;
    uint32_t low = 0;
    if (*character > 0xDBFF || !regex_skip(r, "\\u"))
        return regex_fail(r, at, "half a surrogate pair is no character");
    rc = regex_read_hex(r, 4, &low);
    if (rc == 0 && (low < 0xDC00 || low > 0xDFFF))
        rc = regex_fail(r, at, "half a surrogate pair is no character");
    *character = 0x10000 + ((*character - 0xD800) << 10) + (low - 0xDC00);
    return rc;
}

/* After a backslash: a class (*ret_set), or one character. */
static int regex_read_escape(struct regex *r, struct grammar_charset *ret_set, bool *ret_is_class,
                             uint32_t *ret_character)
{
    static const char letters[] = "nrtfv0", controls[] = "\n\r\t\f\v\0";
    size_t at = r->at - 1;
    if (r->at == r->end)
        return regex_fail(r, at, "a backslash stands at the end");
    unsigned char c = r->text[r->at];
    *ret_is_class = grammar_regex_class(&r->builder->arena, (char)c, ret_set);
    if (*ret_is_class) {
        r->at++;
        return ret_set->n ? 0 : regex_no_memory(r);
    }
    const char *letter = c ? strchr(letters, c) : NULL;
    bool more_digits = c == '0' && r->at + 1 < r->end && hex_value(r->text[r->at + 1]) >= 0 &&
                       r->text[r->at + 1] <= '9';
    if (letter && !more_digits) {
        r->at++;
        *ret_character = (unsigned char)controls[letter - letters];
        return 0;
    }
    if (c == 'x' || c == 'u') {
        r->at++;
        return c == 'x' ? regex_read_hex(r, 2, ret_character)
                        : regex_read_utf16(r, at, ret_character);
    }
    if (c >= '0' && c <= '9')
        return regex_fail(r, at, "back references are not supported");
    if (c == 'p' || c == 'P')
        return regex_fail(r, at, "Unicode properties are not supported");
    if (c == 'b' || c == 'B')
        return regex_fail(r, at, "word boundaries are not supported");
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'))
        return regex_fail(r, at, "an escape that is not supported");
    r->at += grammar_utf8_decode(r->text + r->at, r->end - r->at, ret_character);
    return 0;
}

/* ---- sets ---- */

/* One element of [...]: a class is added to `set`, a character is told. */
static int regex_read_member(struct regex *r, struct grammar_charset *set, bool *ret_is_class,
                             uint32_t *ret_character)
{
    struct grammar_charset class = {0};
    *ret_is_class = false;
    if (!regex_skip(r, "\\")) {
        r->at += grammar_utf8_decode(r->text + r->at, r->end - r->at, ret_character);
        return 0;
    }
    if (regex_skip(r, "b")) {
        *ret_character = '\b';
        return 0;
    }
    int rc = regex_read_escape(r, &class, ret_is_class, ret_character);
    if (rc == 0 && *ret_is_class && !grammar_charset_add_all(set, &r->builder->arena, &class))
        rc = regex_no_memory(r);
    return rc;
}

static int regex_read_members(struct regex *r, struct grammar_charset *set)
{
    while (r->at < r->end && !regex_has(r, "]")) {
        size_t at = r->at;
        bool is_class, is_class_too;
        uint32_t low = 0, high;
        int rc = regex_read_member(r, set, &is_class, &low);
        high = low;
        if (rc == 0 && regex_has(r, "-") && r->at + 1 < r->end && r->text[r->at + 1] != ']') {
            r->at++;
            rc = regex_read_member(r, set, &is_class_too, &high);
            if (rc == 0 && (is_class || is_class_too || high < low))
                rc = regex_fail(r, at, "this range is upside down, or one of its ends is a class");
        }
        if (rc == 0 && !is_class && !grammar_charset_add(set, &r->builder->arena, low, high))
            rc = regex_no_memory(r);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int regex_read_set(struct regex *r, const struct grammar_expr **ret_expr)
{
    size_t at = r->at - 1;
    struct grammar_charset set = {0};
    struct arena *a = &r->builder->arena;
    bool is_negated = regex_skip(r, "^");
    int rc = regex_read_members(r, &set);
    if (rc == 0 && !regex_skip(r, "]"))
        rc = regex_fail(r, at, "this '[' is never closed");
    if (rc == 0 && (!grammar_charset_sort(&set, a) ||
                    (is_negated && !grammar_charset_complement(&set, a, &set))))
        rc = regex_no_memory(r);
    if (rc == 0 && set.n == 0)
        rc = regex_fail(r, at, "this set has no characters");
    if (rc == 0)
        *ret_expr = grammar_class(r->builder, &set, r->source->spelling);
    return rc;
}

/* Any character but a line's end. */
static int regex_dot(struct regex *r, const struct grammar_expr **ret_expr)
{
    struct grammar_charset set = {0};
    struct arena *a = &r->builder->arena;
    if (!grammar_charset_add(&set, a, '\n', '\n') || !grammar_charset_add(&set, a, '\r', '\r') ||
        !grammar_charset_add(&set, a, 0x2028, 0x2029) || !grammar_charset_sort(&set, a) ||
        !grammar_charset_complement(&set, a, &set))
        return regex_no_memory(r);
    *ret_expr = grammar_class(r->builder, &set, r->source->spelling);
    return 0;
}

/* ---- the tree ---- */

static int regex_read_choice(struct regex *r, const struct grammar_expr **ret_expr);

/* Groups differ only in what they remember. */
static int regex_skip_group_head(struct regex *r, size_t at)
{
    if (!regex_skip(r, "?"))
        return 0;
    if (regex_skip(r, ":"))
        return 0;
    if (regex_has(r, "=") || regex_has(r, "!") || regex_has(r, "<=") || regex_has(r, "<!"))
        return regex_fail(r, at, "look-around is not supported");
    regex_skip(r, "P");
    if (!regex_skip(r, "<"))
        return regex_fail(r, at, "a group of a kind that is not supported");
    while (r->at < r->end && r->text[r->at] != '>' && r->text[r->at] != ')')
        r->at++;
    return regex_skip(r, ">") ? 0 : regex_fail(r, at, "the name of a group has no end");
}

static int regex_read_group(struct regex *r, const struct grammar_expr **ret_expr)
{
    size_t at = r->at - 1;
    if (r->depth >= MOST_DEPTH)
        return regex_fail(r, at, "groups are nested too deeply");
    int rc = regex_skip_group_head(r, at);
    r->depth++;
    if (rc == 0)
        rc = regex_read_choice(r, ret_expr);
    r->depth--;
    if (rc == 0 && !regex_skip(r, ")"))
        rc = regex_fail(r, at, "this '(' is never closed");
    return rc;
}

static int regex_read_atom(struct regex *r, const struct grammar_expr **ret_expr)
{
    size_t at = r->at;
    struct grammar_charset set = {0};
    bool is_class = false;
    uint32_t c = 0;
    if (regex_skip(r, "("))
        return regex_read_group(r, ret_expr);
    if (regex_skip(r, "["))
        return regex_read_set(r, ret_expr);
    if (regex_skip(r, "."))
        return regex_dot(r, ret_expr);
    if (regex_skip(r, "^") || regex_skip(r, "\\A")) {
        *ret_expr = r->begin;
        return 0;
    }
    if (regex_skip(r, "$") || regex_skip(r, "\\Z") || regex_skip(r, "\\z")) {
        *ret_expr = r->finish;
        return 0;
    }
    if (regex_has(r, "*") || regex_has(r, "+") || regex_has(r, "?"))
        return regex_fail(r, at, "there is nothing to repeat");
    if (regex_skip(r, "\\")) {
        int rc = regex_read_escape(r, &set, &is_class, &c);
        if (rc != 0)
            return rc;
    } else {
        r->at += grammar_utf8_decode(r->text + at, r->end - at, &c);
    }
    *ret_expr = is_class ? grammar_class(r->builder, &set, r->source->spelling)
                         : grammar_range(r->builder, c, c, r->source->spelling);
    return 0;
}

static bool regex_read_number(struct regex *r, uint32_t *ret_number)
{
    size_t first = r->at;
    uint32_t n = 0;
    while (r->at < r->end && r->text[r->at] >= '0' && r->text[r->at] <= '9') {
        n = n > MOST_REPEATS ? n : n * 10 + (r->text[r->at] - '0');
        r->at++;
    }
    *ret_number = n;
    return r->at > first;
}

/* {n}, {n,} or {n,m}; anything else after a '{' is text. */
static bool regex_read_bounds(struct regex *r, uint32_t *ret_min, uint32_t *ret_max)
{
    size_t first = r->at;
    if (regex_skip(r, "{") && regex_read_number(r, ret_min)) {
        *ret_max = *ret_min;
        if (regex_skip(r, ",") && !regex_read_number(r, ret_max))
            *ret_max = GRAMMAR_UNBOUNDED;
        if (regex_skip(r, "}"))
            return true;
    }
    r->at = first;
    return false;
}

static int regex_read_repeat(struct regex *r, const struct grammar_expr **expr)
{
    size_t at = r->at;
    uint32_t min = 0, max = GRAMMAR_UNBOUNDED;
    for (int n = 0; r->at < r->end; n++) {
        if (regex_skip(r, "*")) {
            min = 0;
            max = GRAMMAR_UNBOUNDED;
        } else if (regex_skip(r, "+")) {
            min = 1;
            max = GRAMMAR_UNBOUNDED;
        } else if (regex_skip(r, "?")) {
            min = 0;
            max = 1;
        } else if (!regex_read_bounds(r, &min, &max)) {
            return 0;
        }
        if (n > 0)
            return regex_fail(r, at, "a repetition cannot be repeated without a group");
        if (*expr == r->begin || *expr == r->finish)
            return regex_fail(r, at, "an anchor cannot be repeated");
        if (max != GRAMMAR_UNBOUNDED && (max < min || max > MOST_REPEATS))
            return regex_fail(r, at, "bounds of a repetition that are too large, or upside down");
        if (min > MOST_REPEATS)
            return regex_fail(r, at, "bounds of a repetition that are too large");
        regex_skip(r, "?"); /* as few as possible: the texts are the same */
        *expr = grammar_repeat(r->builder, *expr, min, max);
    }
    return 0;
}

static int regex_read_sequence(struct regex *r, const struct grammar_expr **ret_expr)
{
    struct grammar_list list = {0};
    while (r->at < r->end && !regex_has(r, "|") && !regex_has(r, ")")) {
        const struct grammar_expr *atom = NULL;
        int rc = regex_read_atom(r, &atom);
        if (rc == 0)
            rc = regex_read_repeat(r, &atom);
        if (rc != 0)
            return rc;
        grammar_list_add(r->builder, &list, atom);
    }
    *ret_expr = grammar_sequence(r->builder, list.items, list.n);
    return 0;
}

static int regex_read_choice(struct regex *r, const struct grammar_expr **ret_expr)
{
    struct grammar_list list = {0};
    do {
        const struct grammar_expr *sequence = NULL;
        int rc = regex_read_sequence(r, &sequence);
        if (rc != 0)
            return rc;
        grammar_list_add(r->builder, &list, sequence);
    } while (regex_skip(r, "|"));
    *ret_expr = grammar_choice(r->builder, list.items, list.n);
    return 0;
}

/* ---- anchors ---- */

/* What is known of a place: it is inside, or at an edge of the text where anything may come before
 * (or after), or at one where nothing may. */
enum edge { INSIDE, OPEN, CLOSED };

static bool regex_has_anchor(const struct regex *r, const struct grammar_expr *e)
{
    if (e == r->begin || e == r->finish)
        return true;
    if (e->kind == GRAMMAR_REPEAT)
        return regex_has_anchor(r, e->repeat.item);
    if (e->kind == GRAMMAR_SEQUENCE || e->kind == GRAMMAR_CHOICE)
        for (size_t i = 0; i < e->list.n; i++)
            if (regex_has_anchor(r, e->list.items[i]))
                return true;
    return false;
}

static int regex_bind(struct regex *r, const struct grammar_expr *e, enum edge left,
                      enum edge right, const struct grammar_expr **ret_expr);

static int regex_bind_sequence(struct regex *r, const struct grammar_expr *e, enum edge left,
                               enum edge right, const struct grammar_expr **ret_expr)
{
    const size_t n = e->list.n;
    size_t first = 0, past = n;
    for (; first < n && e->list.items[first] == r->begin && left != INSIDE; first++)
        left = CLOSED;
    for (; past > first && e->list.items[past - 1] == r->finish && right != INSIDE; past--)
        right = CLOSED;
    const struct grammar_expr **items = arena_array(&r->builder->arena, n, sizeof(void *));
    if (!items)
        return regex_no_memory(r);
    if (first == past)
        return regex_bind(r, grammar_empty(), left, right, ret_expr);
    for (size_t i = first; i < past; i++) {
        int rc = regex_bind(r, e->list.items[i], i == first ? left : INSIDE,
                            i + 1 == past ? right : INSIDE, &items[i - first]);
        if (rc != 0)
            return rc;
    }
    *ret_expr = grammar_sequence(r->builder, items, past - first);
    return 0;
}

/* The expression without anchors, with what may come before and after where it has none. */
static int regex_bind(struct regex *r, const struct grammar_expr *e, enum edge left,
                      enum edge right, const struct grammar_expr **ret_expr)
{
    struct grammar_builder *b = r->builder;
    if (e->kind == GRAMMAR_SEQUENCE)
        return regex_bind_sequence(r, e, left, right, ret_expr);
    if (e->kind == GRAMMAR_CHOICE) {
        const struct grammar_expr **items = arena_array(&b->arena, e->list.n, sizeof(void *));
        int rc = items ? 0 : regex_no_memory(r);
        for (size_t i = 0; rc == 0 && i < e->list.n; i++)
            rc = regex_bind(r, e->list.items[i], left, right, &items[i]);
        if (rc == 0)
            *ret_expr = grammar_choice(b, items, e->list.n);
        return rc;
    }
    if (e == r->begin && left != INSIDE)
        return regex_bind(r, grammar_empty(), CLOSED, right, ret_expr);
    if (e == r->finish && right != INSIDE)
        return regex_bind(r, grammar_empty(), left, CLOSED, ret_expr);
    if (regex_has_anchor(r, e))
        return err_set(r->err, ERR_INPUT,
                       "'^' and '$' are supported only where a match begins or ends");
    const struct grammar_expr *any = grammar_repeat(
        b, grammar_range(b, 0, GRAMMAR_LAST_CHARACTER, r->source->spelling), 0, GRAMMAR_UNBOUNDED);
    *ret_expr = GRAMMAR_SEQUENCE_OF(b, left == OPEN ? any : grammar_empty(), e,
                                    right == OPEN ? any : grammar_empty());
    return 0;
}

int grammar_regex_read(const struct grammar_expr **ret_expr, struct grammar_builder *b,
                       const struct grammar_regex *source, struct err *err)
{
    struct regex r = {.builder = b,
                      .source = source,
                      .text = (const unsigned char *)source->pattern,
                      .end = source->length,
                      .err = err};
    struct grammar_expr *anchors = arena_array(&b->arena, 2, sizeof *anchors);
    const struct grammar_expr *e = NULL;
    if (!anchors)
        return regex_no_memory(&r);
    anchors[0] = anchors[1] = *grammar_empty();
    r.begin = &anchors[0];
    r.finish = &anchors[1];
    int rc = regex_read_choice(&r, &e);
    if (rc == 0 && r.at < r.end)
        rc = regex_fail(&r, r.at, "this ')' was never opened");
    enum edge edge = source->is_search ? OPEN : CLOSED;
    return rc == 0 ? regex_bind(&r, e, edge, edge, ret_expr) : rc;
}
