#include "coordinator/jinja_lex_literal.h"

#include "base/buf.h"
#include "coordinator/jinja_text.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* -1 if it is none of that base */
static int digit_value(char c, int base)
{
    int value = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : 99;
    return value < base ? value : -1;
}

/* Up to `most` digits from *at; *at moves behind them. */
static int read_digits(const char **at, const char *end, int base, int most, uint32_t *ret_code)
{
    int n = 0;
    uint32_t code = 0;
    for (; n < most && *at < end && digit_value(**at, base) >= 0; n++)
        code = code * (uint32_t)base + (uint32_t)digit_value(*(*at)++, base);
    *ret_code = code;
    return n;
}

/* One escape of Python's, from behind its backslash. false: it is malformed. */
static bool unescape(struct buf *b, const char **at, const char *end)
{
    static const char letters[] = "ntrabfv\\'\"", meanings[] = "\n\t\r\a\b\f\v\\'\"";
    char c = *(*at)++;
    uint32_t code;
    const char *simple = c ? strchr(letters, c) : NULL;
    if (simple) {
        buf_putc(b, meanings[simple - letters]);
    } else if (c == '\n') {
        return true; /* the line goes on */
    } else if (c >= '0' && c <= '7') {
        (*at)--;
        read_digits(at, end, 8, 3, &code);
        jinja_text_encode(b, code);
    } else if (c == 'x' || c == 'u' || c == 'U') {
        int want = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        if (read_digits(at, end, 16, want, &code) != want || code > 0x10ffff ||
            (code >= 0xd800 && code < 0xe000))
            return false;
        jinja_text_encode(b, code);
    } else if (c == 'N') {
        return false; /* characters by name */
    } else {
        buf_putc(b, '\\');
        buf_putc(b, c);
    }
    return true;
}

int jinja_lex_literal_string(struct jinja_lex *l, struct jinja_token *ret, size_t *ret_end)
{
    size_t start = l->at + 1, stop = start;
    char quote = l->source[l->at];
    while (stop < l->length && l->source[stop] != quote)
        stop += l->source[stop] == '\\' ? 2 : 1;
    if (stop >= l->length)
        return err_set(l->err, ERR_MODEL, "chat template, line %d: the string has no end", l->line);
    struct buf b;
    buf_init(&b);
    bool ok = true;
    const char *at = l->source + start, *end = l->source + stop;
    while (ok && at < end) {
        const char *slash = memchr(at, '\\', (size_t)(end - at));
        buf_append(&b, at, (size_t)((slash ? slash : end) - at));
        at = slash ? slash + 1 : end;
        if (slash)
            ok = unescape(&b, &at, end);
    }
    char *copy = arena_alloc(l->arena, b.length);
    int rc = 0;
    if (!ok)
        rc = err_set(l->err, ERR_MODEL,
                     "chat template, line %d: the string has an escape that is not supported",
                     l->line);
    else if (!copy || buf_failed(&b))
        rc = err_set(l->err, ERR_MEMORY, "chat template, line %d: no memory", l->line);
    else if (b.length)
        memcpy(copy, b.data, b.length);
    ret->kind = JINJA_TOKEN_STRING;
    ret->text = (struct jinja_string){copy, b.length};
    *ret_end = stop + 1;
    buf_clear(&b);
    return rc;
}

/* Behind digits that single underscores may separate. */
static size_t after_digits(const struct jinja_lex *l, size_t at)
{
    while (at < l->length &&
           (isdigit((unsigned char)l->source[at]) ||
            (l->source[at] == '_' && at > l->at && isdigit((unsigned char)l->source[at - 1]) &&
             at + 1 < l->length && isdigit((unsigned char)l->source[at + 1]))))
        at++;
    return at;
}

static size_t after_number(const struct jinja_lex *l, bool *ret_real)
{
    size_t at = after_digits(l, l->at), next = at;
    *ret_real = false;
    if (l->at > 0 && l->source[l->at - 1] == '.')
        return at; /* x.0.1 is x[0][1] */
    if (next < l->length && l->source[next] == '.' && after_digits(l, next + 1) > next + 1) {
        at = next = after_digits(l, next + 1);
        *ret_real = true;
    }
    if (next < l->length && (l->source[next] == 'e' || l->source[next] == 'E')) {
        next++;
        if (next < l->length && (l->source[next] == '+' || l->source[next] == '-'))
            next++;
        if (after_digits(l, next) > next) {
            at = after_digits(l, next);
            *ret_real = true;
        }
    }
    return at;
}

int jinja_lex_literal_number(struct jinja_lex *l, struct jinja_token *ret, size_t *ret_end)
{
    bool real;
    size_t end = after_number(l, &real);
    char digits[64];
    size_t n = 0;
    for (size_t i = l->at; i < end; i++)
        if (l->source[i] != '_' && n < sizeof digits - 1)
            digits[n++] = l->source[i];
    digits[n] = '\0';
    errno = 0;
    if (real)
        ret->real = strtod(digits, NULL);
    else
        ret->integer = strtoll(digits, NULL, 10);
    bool octal = !real && digits[0] == '0' && strspn(digits, "0") != n; /* not Python 3 */
    bool joined =
        end < l->length && (isalpha((unsigned char)l->source[end]) || l->source[end] == '_');
    if ((errno && !real) || octal || joined || n == sizeof digits - 1)
        return err_set(l->err, ERR_MODEL, "chat template, line %d: the number %s… is not supported",
                       l->line, digits);
    ret->text = (struct jinja_string){l->source + l->at, end - l->at};
    ret->kind = real ? JINJA_TOKEN_FLOAT : JINJA_TOKEN_INT;
    *ret_end = end;
    return 0;
}
