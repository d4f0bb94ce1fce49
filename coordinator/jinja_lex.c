#include "coordinator/jinja_lex.h"

#include "coordinator/jinja_lex_literal.h"
#include "coordinator/jinja_text.h"

#include <string.h>

enum { MAX_NAME_BYTES = 255 };

int jinja_lex_open(struct jinja_lex *l, struct arena *arena, const char *source, size_t length,
                   struct err *err)
{
    *l = (struct jinja_lex){.arena = arena, .line = 1, .line_starting = true, .err = err};
    if (!jinja_text_is_valid((struct jinja_string){source, length}))
        return err_set(err, ERR_MODEL, "chat template: it is not valid UTF-8");
    char *copy = arena_alloc(arena, length + 1);
    if (!copy)
        return err_set(err, ERR_MEMORY, "chat template: no memory for its text");
    size_t n = 0;
    for (size_t i = 0; i < length; i++) { /* every line ends with \n */
        bool crlf = source[i] == '\r' && i + 1 < length && source[i + 1] == '\n';
        if (!crlf)
            copy[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n && copy[n - 1] == '\n')
        n--;
    copy[n] = '\0';
    l->source = copy;
    l->length = n;
    return 0;
}

static bool sees(const struct jinja_lex *l, size_t at, const char *text)
{
    size_t n = strlen(text);
    return l->length - at >= n && memcmp(l->source + at, text, n) == 0;
}

/* Moves on, counting lines. */
static void advance(struct jinja_lex *l, size_t to)
{
    if (to > l->at)
        l->line_starting = l->source[to - 1] == '\n';
    for (; l->at < to; l->at++)
        l->line += l->source[l->at] == '\n';
}

static size_t after_space(const struct jinja_lex *l, size_t at)
{
    for (size_t size; at < l->length; at += size)
        if (!jinja_text_is_space(jinja_text_decode(l->source + at, l->length - at, &size)))
            break;
    return at;
}

/* Position of the next {{, {% or {#, or the end. */
static size_t find_tag(const struct jinja_lex *l)
{
    for (size_t at = l->at; at + 1 < l->length; at++)
        if (l->source[at] == '{' &&
            (l->source[at + 1] == '{' || l->source[at + 1] == '%' || l->source[at + 1] == '#'))
            return at;
    return l->length;
}

/* What stays of the text before a tag at `tag`. */
static struct jinja_string text_before(const struct jinja_lex *l, size_t tag)
{
    struct jinja_string text = {l->source + l->at, tag - l->at};
    if (tag == l->length)
        return text;
    char sign = tag + 2 < l->length ? l->source[tag + 2] : '\0';
    if (sign == '-')
        return jinja_text_strip(text, NULL, false, true);
    if (sign == '+' || l->source[tag + 1] == '{')
        return text;
    size_t start = text.length; /* of the tag's own line */
    while (start > 0 && text.bytes[start - 1] != '\n')
        start--;
    struct jinja_string margin = {text.bytes + start, text.length - start};
    if ((start > 0 || l->line_starting) && !jinja_text_strip(margin, NULL, true, false).length)
        text.length = start;
    return text;
}

/* Past a closing sign and bracket at `at` ("%}", "#}", "}}"), with the white space that goes with
 * it; 0 if there is none. */
static size_t match_end(const struct jinja_lex *l, size_t at, const char *bracket)
{
    bool print = bracket[0] == '}';
    char sign = at < l->length ? l->source[at] : '\0';
    if (sign == '-' && sees(l, at + 1, bracket))
        return after_space(l, at + 3);
    if (sign == '+' && !print && sees(l, at + 1, bracket))
        return at + 3;
    if (!sees(l, at, bracket))
        return 0;
    return at + 2 + (!print && sees(l, at + 2, "\n"));
}

static int skip_comment(struct jinja_lex *l)
{
    size_t end = 0, start = l->at + 2;
    start += sees(l, start, "-") || sees(l, start, "+");
    for (size_t at = start; at < l->length && !end; at++)
        end = match_end(l, at, "#}");
    if (!end)
        return err_set(l->err, ERR_MODEL, "chat template, line %d: the comment has no end",
                       l->line);
    advance(l, end);
    return 0;
}

/* Leaves ret->kind at TEXT with an empty text if only a comment was read. */
static int next_text(struct jinja_lex *l, struct jinja_token *ret)
{
    size_t tag = find_tag(l);
    ret->text = text_before(l, tag);
    if (ret->text.length || tag > l->at) {
        advance(l, tag);
        return 0;
    }
    if (tag == l->length) {
        ret->kind = JINJA_TOKEN_END;
        return 0;
    }
    if (l->source[tag + 1] == '#')
        return skip_comment(l);
    bool block = l->source[tag + 1] == '%';
    ret->kind = block ? JINJA_TOKEN_BLOCK_BEGIN : JINJA_TOKEN_PRINT_BEGIN;
    l->state = block ? JINJA_LEX_BLOCK : JINJA_LEX_PRINT;
    bool sign = sees(l, tag + 2, "-") || sees(l, tag + 2, "+");
    advance(l, tag + 2 + sign);
    return 0;
}

static int bracket(struct jinja_lex *l, char c)
{
    static const char opening[] = "([{", closing[] = ")]}";
    const char *open = strchr(opening, c), *close = strchr(closing, c);
    if (open) {
        if (l->n_brackets == JINJA_LEX_MAX_BRACKETS)
            return err_set(l->err, ERR_MODEL,
                           "chat template, line %d: brackets are nested too deeply", l->line);
        l->brackets[l->n_brackets++] = closing[open - opening];
    } else if (close) {
        if (!l->n_brackets || l->brackets[l->n_brackets - 1] != c)
            return err_set(l->err, ERR_MODEL, "chat template, line %d: unexpected '%c'", l->line,
                           c);
        l->n_brackets--;
    }
    return 0;
}

static int next_operator(struct jinja_lex *l, struct jinja_token *ret)
{
    static const char *const pairs[] = {"==", "!=", ">=", "<=", "//", "**"};
    char c = l->source[l->at];
    ret->kind = JINJA_TOKEN_OPERATOR;
    ret->text = (struct jinja_string){l->source + l->at, 1};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (sees(l, l->at, pairs[i]))
            ret->text.length = 2;
    if (!c || (ret->text.length == 1 && !strchr("+-/*%~[](){}<>=.:|,;", c)))
        return err_set(l->err, ERR_MODEL, "chat template, line %d: unexpected character '%.*s'",
                       l->line, (unsigned char)c < 0x80 ? 1 : 0, &c);
    int rc = bracket(l, c);
    if (rc == 0)
        advance(l, l->at + ret->text.length);
    return rc;
}

static bool is_name(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (!first && c >= '0' && c <= '9');
}

static int next_in_tag(struct jinja_lex *l, struct jinja_token *ret)
{
    bool block = l->state == JINJA_LEX_BLOCK;
    size_t end = l->n_brackets ? 0 : match_end(l, l->at, block ? "%}" : "}}");
    if (end) {
        ret->kind = block ? JINJA_TOKEN_BLOCK_END : JINJA_TOKEN_PRINT_END;
        ret->text = jinja_value_text(block ? "%}" : "}}");
        l->state = JINJA_LEX_TEXT;
        advance(l, end);
        return 0;
    }
    char c = l->source[l->at];
    end = l->at;
    while (end < l->length && is_name(l->source[end], end == l->at))
        end++;
    if (end > l->at) {
        if (end - l->at > MAX_NAME_BYTES)
            return err_set(l->err, ERR_MODEL, "chat template, line %d: a name of %zu bytes",
                           l->line, end - l->at);
        ret->kind = JINJA_TOKEN_NAME;
        ret->text = (struct jinja_string){l->source + l->at, end - l->at};
    } else if (c == '\'' || c == '"') {
        int rc = jinja_lex_literal_string(l, ret, &end);
        if (rc < 0)
            return rc;
    } else if (c >= '0' && c <= '9') {
        int rc = jinja_lex_literal_number(l, ret, &end);
        if (rc < 0)
            return rc;
    } else {
        return next_operator(l, ret);
    }
    advance(l, end);
    return 0;
}

int jinja_lex_next(struct jinja_lex *l, struct jinja_token *ret)
{
    int rc = 0;
    do {
        *ret = (struct jinja_token){.kind = JINJA_TOKEN_TEXT};
        if (l->state == JINJA_LEX_TEXT) {
            ret->line = l->line;
            rc = next_text(l, ret);
            continue;
        }
        /* White space before the end of a tag belongs to the tag. */
        advance(l, after_space(l, l->at));
        ret->line = l->line;
        if (l->at == l->length)
            return err_set(l->err, ERR_MODEL, "chat template, line %d: the tag has no end",
                           l->line);
        return next_in_tag(l, ret);
    } while (rc == 0 && ret->kind == JINJA_TOKEN_TEXT && !ret->text.length);
    return rc;
}
