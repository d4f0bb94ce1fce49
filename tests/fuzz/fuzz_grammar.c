/* Sources of constraints made of foreign bytes: compiled, followed along what the masks allow, each
 * mask against every token tried alone, and what a schema gave against a reader of JSON. */
#include "coordinator/constraint_parts.h"
#include "proto/token_mask.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 300, STEPS = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- bytes as decisions ---- */

struct decisions {
    const uint8_t *at, *end;
};

static unsigned decide(struct decisions *d, unsigned n)
{
    return d->at < d->end ? *d->at++ % n : 0;
}

static const char *pick(struct decisions *d, const char *const *from, unsigned n)
{
    return from[decide(d, n)];
}
#define PICK(d, list) pick(d, list, sizeof list / sizeof list[0])

/* ---- sources ---- */

static void write_regex(struct decisions *d, struct buf *out, int depth)
{
    static const char *const atoms[] = {"a", "b", "[a-m]", "[^a]", ".", "\\\\d", "é", "\\\\w"};
    static const char *const suffixes[] = {"", "", "", "*", "+", "?", "{2}", "{1,200}", "{0,3}"};
    for (unsigned n = 1 + decide(d, 3); n > 0; n--) {
        if (depth < 3 && decide(d, 3) == 0) {
            buf_puts(out, "(");
            write_regex(d, out, depth + 1);
            buf_puts(out, decide(d, 2) ? "|" : "");
            write_regex(d, out, depth + 1);
            buf_puts(out, ")");
        } else {
            buf_puts(out, PICK(d, atoms));
        }
        buf_puts(out, PICK(d, suffixes));
    }
}

static void write_schema(struct decisions *d, struct buf *out, int depth);

static void write_schemas(struct decisions *d, struct buf *out, int depth)
{
    for (unsigned n = 1 + decide(d, 3), i = 0; i < n; i++) {
        buf_puts(out, i ? "," : "");
        write_schema(d, out, depth + 1);
    }
}

static void write_object(struct decisions *d, struct buf *out, int depth)
{
    buf_puts(out, "\"type\":\"object\",\"properties\":{");
    for (unsigned n = decide(d, 4), i = 0; i < n; i++) {
        buf_printf(out, "%s\"%c\":", i ? "," : "", 'a' + i);
        write_schema(d, out, depth + 1);
    }
    buf_puts(out, "}");
    if (decide(d, 2))
        buf_printf(out, ",\"required\":[\"%c\"]", 'a' + decide(d, 4));
    if (decide(d, 2)) {
        buf_puts(out, ",\"additionalProperties\":");
        if (decide(d, 2))
            buf_puts(out, "false");
        else
            write_schema(d, out, depth + 1);
    }
}

static void write_string(struct decisions *d, struct buf *out)
{
    static const char *const bounds[] = {"", ",\"maxLength\":3", ",\"minLength\":2",
                                         ",\"minLength\":1,\"maxLength\":60"};
    buf_puts(out, "\"type\":\"string\"");
    buf_puts(out, PICK(d, bounds));
    if (decide(d, 3) == 0) {
        buf_printf(out, ",\"pattern\":\"%s", decide(d, 2) ? "^" : "");
        write_regex(d, out, 2);
        buf_puts(out, decide(d, 2) ? "$\"" : "\"");
    }
}

static void write_keywords(struct decisions *d, struct buf *out, int depth)
{
    static const char *const scalars[] = {"\"type\":[\"integer\",\"null\"]",
                                          "\"type\":\"number\",\"minimum\":-3.5,\"maximum\":20",
                                          "\"enum\":[1,\"a\",[null,{\"x\":1.5}]]",
                                          "\"type\":\"boolean\"",
                                          "\"type\":\"integer\",\"exclusiveMinimum\":7",
                                          "\"const\":\"\\u0001\\\"é\"",
                                          "\"minimum\":2",
                                          "\"type\":\"string\",\"format\":\"date\"",
                                          "\"$ref\":\"#\"",
                                          ""};
    static const char *const many[] = {"anyOf", "allOf", "oneOf"};
    switch (depth < 3 ? decide(d, 6) : 0) {
    case 1:
        write_object(d, out, depth);
        break;
    case 2:
        buf_puts(out, "\"type\":\"array\",\"items\":");
        write_schema(d, out, depth + 1);
        if (decide(d, 2))
            buf_printf(out, ",\"minItems\":%u,\"maxItems\":%u", decide(d, 3), 1 + decide(d, 4));
        break;
    case 3:
        buf_printf(out, "\"%s\":[", PICK(d, many));
        write_schemas(d, out, depth);
        buf_puts(out, "]");
        break;
    case 4:
        write_string(d, out);
        break;
    case 5:
        buf_puts(out, "\"prefixItems\":[");
        write_schemas(d, out, depth);
        buf_puts(out, "],\"type\":\"array\"");
        break;
    default:
        buf_puts(out, PICK(d, scalars));
        break;
    }
}

static void write_schema(struct decisions *d, struct buf *out, int depth)
{
    buf_puts(out, "{");
    write_keywords(d, out, depth);
    buf_puts(out, "}");
}

static void write_alternative(struct decisions *d, struct buf *out)
{
    static const char *const atoms[] = {"a",     "b",        "c",     "\"x\"", "\"(\"",
                                        "[a-z]", "(a | b)*", "[^\"]", "c?",    "\"é\"{2,3}"};
    for (unsigned n = decide(d, 4); n > 0; n--)
        buf_printf(out, " %s", PICK(d, atoms));
}

static void write_grammar(struct decisions *d, struct buf *out)
{
    static const char *const rules[] = {"root", "a", "b", "c"};
    for (size_t i = 0; i < 4; i++) {
        buf_printf(out, "%s ::=", rules[i]);
        write_alternative(d, out);
        for (unsigned n = decide(d, 3); n > 0; n--) {
            buf_puts(out, " |");
            write_alternative(d, out);
        }
        buf_puts(out, i == 0 ? " | \"end\"\n" : " | \"y\"\n");
    }
}

/* ---- a small vocabulary: every byte, and what usually comes together ---- */

static const char *const pieces[] = {"\",",    "\":", "\"}",   "{\"", "true", "null", "ab",
                                     "aaaa",   "12",  "0.5",   "]}",  "],",   "[[",   "\\u00",
                                     "abcdef", "\"a", "\"b\"", "end", "xx",   "-0",   "(("};
enum { N_PIECES = sizeof pieces / sizeof pieces[0], N_IDS = 256 + N_PIECES + 1 };

static struct tokenizer *make_tokenizer(void)
{
    static char bytes[256][8];
    const char *tokens[N_IDS];
    enum token_kind kinds[N_IDS] = {0};
    struct tokenizer *t = NULL;
    struct err err;
    for (int i = 0; i < 256; i++) {
        snprintf(bytes[i], sizeof bytes[i], "<0x%02X>", (unsigned)i);
        tokens[i] = bytes[i];
        kinds[i] = TOKEN_BYTE;
    }
    for (int i = 0; i < N_PIECES; i++)
        tokens[256 + i] = pieces[i];
    tokens[N_IDS - 1] = "<end>";
    kinds[N_IDS - 1] = TOKEN_CONTROL;
    const struct tokenizer_source source = {.n_tokens = N_IDS,
                                            .tokens = tokens,
                                            .kinds = kinds,
                                            .end_of_text = N_IDS - 1,
                                            .begin_of_text = -1};
    if (tokenizer_new(&t, &source, &err) != 0) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return t;
}

/* ---- following ---- */

static bool may_come(const struct tokenizer *t, struct grammar_matcher *m, uint32_t token)
{
    size_t length, at = 0;
    const char *bytes = tokenizer_piece(t, token, &length);
    if (token == N_IDS - 1)
        return grammar_matcher_now(m)->is_end;
    while (at < length && grammar_matcher_push(m, (unsigned char)bytes[at]))
        at++;
    grammar_matcher_pop(m, 0);
    return at == length;
}

/* Where the mask and the tokens themselves disagree. */
static void check_mask(const struct tokenizer *t, struct grammar_matcher *m, const float *masked,
                       const struct buf *text, const char *source)
{
    grammar_matcher_allow(m, UINT32_MAX);
    for (uint32_t i = 0; i < N_IDS; i++) {
        bool comes = may_come(t, m, i);
        if (m->failed) /* too many ways to read it */
            return;
        if (isfinite(masked[i]) == comes)
            continue;
        fprintf(stderr, "token %u is %s behind", i, isfinite(masked[i]) ? "allowed" : "forbidden");
        for (size_t k = 0; k < text->length; k++)
            fprintf(stderr, " %02x", (unsigned char)text->data[k]);
        fprintf(stderr, ": %s\n", source);
        abort();
    }
}

/* One step. false: the text is over. */
static bool follow(struct decisions *d, const struct tokenizer *t, struct grammar_masks *k,
                   struct grammar_matcher *m, struct buf *text, const char *source)
{
    const float logits[N_IDS] = {0};
    float masked[N_IDS];
    uint32_t allowed[N_IDS], n = 0;
    struct buf out;
    struct err err;
    buf_init(&out);
    int rc = grammar_masks_write(k, m, &out, &err);
    if (rc == 0 && token_mask_check((unsigned char *)out.data, out.length, N_IDS, &err) != 0)
        abort();
    if (rc == 0)
        token_mask_apply((unsigned char *)out.data, out.length, logits, masked, N_IDS);
    buf_clear(&out);
    if (rc != 0)
        return false; /* too ambiguous */
    check_mask(t, m, masked, text, source);
    for (uint32_t i = 0; i + 1 < N_IDS; i++)
        if (isfinite(masked[i]))
            allowed[n++] = i;
    if (n == 0 || m->failed)
        return false;
    size_t length;
    const char *bytes =
        tokenizer_piece(t, allowed[(decide(d, 256) * 256 + decide(d, 256)) % n], &length);
    for (size_t i = 0; i < length; i++)
        if (!grammar_matcher_push(m, (unsigned char)bytes[i]) && !m->failed)
            abort();
    if (m->failed)
        return false;
    grammar_matcher_commit(m);
    buf_append(text, bytes, length);
    return true;
}

static void check_text(const struct grammar_matcher *m, enum constraint_kind kind,
                       const struct buf *text, const char *source)
{
    json_error_t error;
    if (kind != CONSTRAINT_SCHEMA || m->failed || !grammar_matcher_now(m)->is_end)
        return;
    json_t *value =
        json_loadb(buf_text(text), text->length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!value) {
        fprintf(stderr, "no JSON (%s): %s\nof %s\n", error.text, buf_text(text), source);
        abort();
    }
    json_decref(value);
}

static void run(struct decisions *d, struct grammar *g, enum constraint_kind kind,
                const char *source)
{
    struct tokenizer *t = make_tokenizer();
    struct grammar_vocabulary *v = NULL;
    struct grammar_masks *k = NULL;
    struct grammar_matcher m;
    struct buf text;
    struct err err;
    if (grammar_vocabulary_new(&v, t, N_IDS, &err) != 0 || grammar_masks_new(&k, g, v, &err) != 0)
        abort();
    buf_init(&text);
    if (grammar_matcher_init(&m, g)) {
        for (int i = 0; i < STEPS && follow(d, t, k, &m, &text, source); i++)
            check_text(&m, kind, &text, source);
        check_text(&m, kind, &text, source);
    }
    buf_clear(&text);
    grammar_matcher_clear(&m);
    grammar_masks_free(k);
    grammar_vocabulary_free(v);
    tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct decisions d = {data, data + size};
    struct constraint_source source = {0};
    struct grammar *g = NULL;
    struct buf text;
    struct err err = {0};
    json_t *schema = NULL;
    buf_init(&text);
    switch (decide(&d, 4)) {
    case 0:
        source.kind = CONSTRAINT_REGEX;
        write_regex(&d, &text, 0);
        break;
    case 1:
        source.kind = CONSTRAINT_GRAMMAR;
        write_grammar(&d, &text);
        break;
    default:
        source.kind = CONSTRAINT_SCHEMA;
        write_schema(&d, &text, 0);
        schema = json_loads(buf_text(&text), 0, NULL);
        if (!schema)
            abort(); /* what is written here is JSON */
        break;
    }
    source.json = schema;
    source.text = buf_text(&text);
    source.length = text.length;
    int rc = constraint_compile(&g, &source, &err);
    if (rc == 0)
        run(&d, g, source.kind, buf_text(&text));
    else if (rc != ERR_INPUT || !err.text[0])
        abort(); /* a refusal without a sentence */
    grammar_free(g);
    json_decref(schema);
    buf_clear(&text);
    return 0;
}
