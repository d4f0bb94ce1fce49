#include "coordinator/tokenizer.h"

#include "coordinator/bpe.h"
#include "coordinator/bpe_alphabet.h"
#include "coordinator/bpe_index.h"
#include "coordinator/bpe_normalize.h"
#include "coordinator/bpe_special.h"
#include "coordinator/bpe_split.h"
#include "coordinator/bpe_utf8.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TOKENS     (1u << 24)
#define MAX_VOCABULARY (1u << 30) /* bytes of all tokens */
#define MAX_TEXT       (1u << 28) /* bytes of one text */

struct tokenizer {
    size_t n_tokens;
    char *text;           /* the tokens' bytes, each followed by a NUL */
    uint32_t *starts;     /* [n_tokens + 1], in text */
    unsigned char *kinds; /* [n_tokens], enum token_kind */
    size_t longest;       /* bytes of one token */
    uint32_t byte_ids[256];
    struct bpe *bpe;
    struct bpe_split *split;
    struct bpe_special special;
    uint32_t end_ids[6];
    size_t n_end_ids;
};

/* ---- the vocabulary ---- */

static size_t source_length(const struct tokenizer_source *s, size_t i)
{
    return s->lengths ? s->lengths[i] : strlen(s->tokens[i]);
}

static enum token_kind source_kind(const struct tokenizer_source *s, size_t i)
{
    return s->kinds ? s->kinds[i] : TOKEN_NORMAL;
}

static int check_token(const struct tokenizer_source *s, size_t i, size_t *total, struct err *err)
{
    size_t length = source_length(s, i);
    enum token_kind kind = source_kind(s, i);
    if (length >= MAX_VOCABULARY - *total)
        return err_set_param(err, ERR_MODEL, "tokens", "the vocabulary is larger than 1 GiB");
    *total += length + 1;
    if (kind != TOKEN_UNUSED && !length)
        return err_set_param(err, ERR_MODEL, "tokens", "token %zu is empty", i);
    if (bpe_utf8_valid_length(s->tokens[i], length) != length)
        return err_set_param(err, ERR_MODEL, "tokens", "token %zu is not valid UTF-8", i);
    if (kind == TOKEN_BYTE && bpe_alphabet_hex_byte(s->tokens[i], length) < 0)
        return err_set_param(err, ERR_MODEL, "tokens",
                             "token %zu is marked as a byte but is not of the form <0x0A>", i);
    return 0;
}

static int check_end(const char *key, int64_t id, size_t n_tokens, struct err *err)
{
    if (id >= -1 && id < (int64_t)n_tokens)
        return 0;
    return err_set_param(err, ERR_MODEL, key, "%lld is not the id of one of the %zu tokens",
                         (long long)id, n_tokens);
}

static int check_source(const struct tokenizer_source *s, struct err *err)
{
    if (!s->n_tokens || s->n_tokens > MAX_TOKENS)
        return err_set_param(err, ERR_MODEL, "tokens", "a vocabulary cannot have %zu tokens",
                             s->n_tokens);
    size_t total = 0;
    int rc = 0;
    for (size_t i = 0; i < s->n_tokens && rc == 0; i++)
        rc = check_token(s, i, &total, err);
    if (rc == 0)
        rc = check_end("eos_token_id", s->end_of_text, s->n_tokens, err);
    if (rc == 0)
        rc = check_end("bos_token_id", s->begin_of_text, s->n_tokens, err);
    return rc;
}

/* Copies the tokens as the bytes that they stand for. Unused ones stand for none. */
static int copy_tokens(struct tokenizer *t, const struct tokenizer_source *s, struct err *err)
{
    size_t total = 0, at = 0;
    for (size_t i = 0; i < s->n_tokens; i++)
        total += source_length(s, i) + 1;
    t->n_tokens = s->n_tokens;
    t->text = malloc(total);
    t->starts = malloc((s->n_tokens + 1) * sizeof *t->starts);
    t->kinds = malloc(s->n_tokens);
    if (!t->text || !t->starts || !t->kinds)
        return err_set(err, ERR_MEMORY, "no memory for a vocabulary of %zu tokens", s->n_tokens);
    memset(t->byte_ids, 0xFF, sizeof t->byte_ids);
    for (size_t i = 0; i < s->n_tokens; i++) {
        const char *token = s->tokens[i];
        size_t length = source_length(s, i), n = length;
        enum token_kind kind = source_kind(s, i);
        t->starts[i] = (uint32_t)at;
        t->kinds[i] = (unsigned char)kind;
        if (kind == TOKEN_NORMAL) {
            n = bpe_alphabet_decode(token, length, t->text + at);
        } else if (kind == TOKEN_BYTE) {
            n = 1;
            t->text[at] = (char)bpe_alphabet_hex_byte(token, length);
        } else if (kind == TOKEN_UNUSED) {
            n = 0;
        } else {
            memcpy(t->text + at, token, length);
        }
        if (n == 1 && (kind == TOKEN_NORMAL || kind == TOKEN_BYTE))
            t->byte_ids[(unsigned char)t->text[at]] = (uint32_t)i;
        if (n > t->longest)
            t->longest = n;
        t->text[at + n] = '\0';
        at += n + 1;
    }
    t->starts[s->n_tokens] = (uint32_t)at;
    return 0;
}

static int index_tokens(struct bpe_index *x, const struct tokenizer_source *s, struct err *err)
{
    int rc = bpe_index_init(x, s->n_tokens, err);
    for (size_t i = 0; i < s->n_tokens && rc == 0; i++) {
        if (source_kind(s, i) == TOKEN_UNUSED)
            continue;
        size_t length = source_length(s, i);
        uint32_t before = bpe_index_add(x, s->tokens[i], length, (uint32_t)i);
        char shown[BPE_UTF8_SHOWN];
        if (before != BPE_NO_ID)
            rc = err_set_param(err, ERR_MODEL, "tokens", "token %zu (\"%s\") repeats token %u", i,
                               bpe_utf8_show(s->tokens[i], length, shown), before);
    }
    return rc;
}

/* "left right": a space cannot be part of a token, as the byte alphabet writes it U+0120. */
static int read_merge(struct bpe_rule *ret_rule, const struct bpe_index *x, const char *merge,
                      size_t rank, struct err *err)
{
    size_t length = strlen(merge);
    const char *space = memchr(merge, ' ', length);
    char shown[BPE_UTF8_SHOWN];
    bpe_utf8_show(merge, length, shown);
    if (!space || space == merge || !space[1] || strchr(space + 1, ' '))
        return err_set_param(err, ERR_MODEL, "merges",
                             "merge %zu (\"%s\") is not two tokens with a space between them", rank,
                             shown);
    size_t left = (size_t)(space - merge), right = length - left - 1;
    ret_rule->left = bpe_index_find(x, merge, left, "", 0);
    ret_rule->right = bpe_index_find(x, space + 1, right, "", 0);
    ret_rule->result = bpe_index_find(x, merge, left, space + 1, right);
    if (ret_rule->left == BPE_NO_ID || ret_rule->right == BPE_NO_ID)
        return err_set_param(err, ERR_MODEL, "merges",
                             "merge %zu (\"%s\") has a part that is not in the vocabulary", rank,
                             shown);
    if (ret_rule->result == BPE_NO_ID)
        return err_set_param(err, ERR_MODEL, "merges",
                             "the result of merge %zu (\"%s\") is not in the vocabulary", rank,
                             shown);
    return 0;
}

static int read_merges(struct tokenizer *t, const struct tokenizer_source *s, struct err *err)
{
    struct bpe_index index = {0};
    struct bpe_rule *rules = NULL;
    int rc = index_tokens(&index, s, err);
    if (rc == 0 && s->n_merges > MAX_TOKENS)
        rc = err_set_param(err, ERR_MODEL, "merges", "%zu merges are more than any model has",
                           s->n_merges);
    if (rc == 0) {
        rules = malloc((s->n_merges + 1) * sizeof *rules);
        if (!rules)
            rc = err_set(err, ERR_MEMORY, "no memory for %zu merges", s->n_merges);
    }
    for (size_t i = 0; i < s->n_merges && rc == 0; i++)
        rc = read_merge(&rules[i], &index, s->merges[i], i, err);
    if (rc == 0)
        rc = bpe_new(&t->bpe, rules, s->n_merges, err);
    free(rules);
    bpe_index_clear(&index);
    return rc;
}

static int collect_specials(struct tokenizer *t, struct err *err)
{
    size_t n = 0, at = 0;
    for (size_t i = 0; i < t->n_tokens; i++)
        n += t->kinds[i] == TOKEN_CONTROL || t->kinds[i] == TOKEN_USER_DEFINED;
    struct bpe_special_token *tokens = calloc(n + 1, sizeof *tokens);
    if (!tokens)
        return err_set(err, ERR_MEMORY, "no memory for %zu special tokens", n);
    for (size_t i = 0; i < t->n_tokens; i++) {
        bool is_control = t->kinds[i] == TOKEN_CONTROL;
        if (!is_control && t->kinds[i] != TOKEN_USER_DEFINED)
            continue;
        struct bpe_special_token *s = &tokens[at++];
        s->id = (uint32_t)i;
        s->is_control = is_control;
        s->text = tokenizer_piece(t, s->id, &s->length);
    }
    bpe_special_init(&t->special, tokens, n);
    return 0;
}

/* What a model that fills in a text writes when the part is done, or the file. */
static const char *const fill_ends[] = {"<|fim_pad|>", "<|file_sep|>", "<|repo_name|>"};

static void add_end_id(struct tokenizer *t, int64_t id)
{
    for (size_t i = 0; i < t->n_end_ids; i++)
        if (t->end_ids[i] == id)
            return;
    if (id >= 0)
        t->end_ids[t->n_end_ids++] = (uint32_t)id;
}

static int choose_pattern(const char *pre, enum bpe_split_pattern *ret_pattern, struct err *err)
{
    char shown[BPE_UTF8_SHOWN];
    if (!pre || !strcmp(pre, "qwen2"))
        *ret_pattern = BPE_SPLIT_QWEN2;
    else if (!strcmp(pre, "qwen35"))
        *ret_pattern = BPE_SPLIT_QWEN35;
    else
        return err_set_param(err, ERR_MODEL, "pre",
                             "the pre-tokenizer \"%s\" is not known; \"qwen2\" and \"qwen35\" are",
                             bpe_utf8_show(pre, strlen(pre), shown));
    return 0;
}

int tokenizer_new(struct tokenizer **ret_tokenizer, const struct tokenizer_source *source,
                  struct err *err)
{
    enum bpe_split_pattern pattern = BPE_SPLIT_QWEN2;
    int rc = choose_pattern(source->pre, &pattern, err);
    if (rc == 0)
        rc = check_source(source, err);
    if (rc != 0)
        return rc;
    struct tokenizer *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ERR_MEMORY, "no memory for a tokenizer");
    rc = copy_tokens(t, source, err);
    if (rc == 0)
        rc = read_merges(t, source, err);
    if (rc == 0)
        rc = collect_specials(t, err);
    if (rc == 0)
        rc = bpe_split_new(&t->split, pattern, true, err);
    if (rc == 0) {
        add_end_id(t, source->end_of_text);
        add_end_id(t, tokenizer_find(t, "<|im_end|>"));
        add_end_id(t, tokenizer_find(t, "<|endoftext|>"));
        for (size_t i = 0; i < sizeof fill_ends / sizeof fill_ends[0]; i++)
            add_end_id(t, tokenizer_find(t, fill_ends[i]));
        *ret_tokenizer = t;
        t = NULL;
    }
    tokenizer_free(t);
    return rc;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    free(t->text);
    free(t->starts);
    free(t->kinds);
    bpe_free(t->bpe);
    bpe_split_free(t->split);
    bpe_special_clear(&t->special);
    free(t);
}

/* ---- from a model file ---- */

#define KEY(name) "tokenizer.ggml." name

/* What the source points to while a file is read. */
struct file_vocabulary {
    const char **tokens, **merges;
    size_t *lengths;
    enum token_kind *kinds;
};

static void file_vocabulary_clear(struct file_vocabulary *v)
{
    free(v->tokens);
    free(v->merges);
    free(v->lengths);
    free(v->kinds);
}

static int file_strings(const struct weight_file *f, const char *key, const char ***ret_strings,
                        size_t **ret_lengths, size_t *ret_n, struct err *err)
{
    int64_t n = weight_file_array_count(f, key);
    if (n < 0)
        return err_set(err, ERR_MODEL, "%s is missing or is not an array", key);
    if (n > MAX_TOKENS)
        return err_set(err, ERR_MODEL, "%s has %lld elements, more than any model has", key,
                       (long long)n);
    *ret_n = (size_t)n;
    *ret_strings = calloc((size_t)n + 1, sizeof **ret_strings);
    *ret_lengths = calloc((size_t)n + 1, sizeof **ret_lengths);
    if (!*ret_strings || !*ret_lengths)
        return err_set(err, ERR_MEMORY, "no memory for the %lld strings of %s", (long long)n, key);
    for (int64_t i = 0; i < n; i++) {
        (*ret_strings)[i] = weight_file_array_string(f, key, i, &(*ret_lengths)[i]);
        if (!(*ret_strings)[i])
            return err_set(err, ERR_MODEL, "%s: element %lld is not a string", key, (long long)i);
    }
    return 0;
}

static int file_merges(const struct weight_file *f, struct file_vocabulary *v,
                       struct tokenizer_source *s, struct err *err)
{
    size_t *lengths = NULL;
    int rc = file_strings(f, KEY("merges"), &v->merges, &lengths, &s->n_merges, err);
    for (size_t i = 0; i < s->n_merges && rc == 0; i++)
        if (strlen(v->merges[i]) != lengths[i])
            rc = err_set(err, ERR_MODEL, KEY("merges") ": merge %zu holds a NUL byte", i);
    s->merges = v->merges;
    free(lengths);
    return rc;
}

static int file_kinds(const struct weight_file *f, struct file_vocabulary *v,
                      struct tokenizer_source *s, struct err *err)
{
    /* GGUF's numbers: undefined, normal, unknown, control, user-defined, unused, byte */
    static const enum token_kind kinds[] = {TOKEN_NORMAL,  TOKEN_NORMAL,       TOKEN_CONTROL,
                                            TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED,
                                            TOKEN_BYTE};
    const char *key = KEY("token_type");
    if (!weight_file_has(f, key))
        return 0;
    int64_t n = weight_file_array_count(f, key), type;
    if (n < 0 || (size_t)n != s->n_tokens)
        return err_set(err, ERR_MODEL,
                       "%s is not an array with one number for each of the %zu tokens", key,
                       s->n_tokens);
    v->kinds = malloc((s->n_tokens + 1) * sizeof *v->kinds);
    if (!v->kinds)
        return err_set(err, ERR_MEMORY, "no memory for the kinds of %zu tokens", s->n_tokens);
    for (int64_t i = 0; i < n; i++) {
        if (!weight_file_array_integer(f, key, i, &type) || type < 0 ||
            type >= (int64_t)(sizeof kinds / sizeof *kinds))
            return err_set(err, ERR_MODEL, "%s: element %lld is not one of 0 to 6", key,
                           (long long)i);
        v->kinds[i] = kinds[type];
    }
    s->kinds = v->kinds;
    return 0;
}

static int file_id(const struct weight_file *f, const char *key, int64_t *ret_id, struct err *err)
{
    *ret_id = -1;
    if (weight_file_has(f, key) && (!weight_file_integer(f, key, ret_id) || *ret_id < 0))
        return err_set(err, ERR_MODEL, "%s is not the id of a token", key);
    return 0;
}

/* What kind of tokenizer it is. Qwen's never put a token before the text, whatever add_bos_token
 * says, so that key is not asked. */
static int file_type(const struct weight_file *f, struct tokenizer_source *s, struct err *err)
{
    char shown[BPE_UTF8_SHOWN];
    const char *model = weight_file_string(f, KEY("model"), NULL);
    if (!model)
        return err_set(err, ERR_MODEL, "%s is missing or is not a string", KEY("model"));
    if (strcmp(model, "gpt2") != 0)
        return err_set(err, ERR_MODEL, "%s is \"%s\"; only \"gpt2\", byte-level BPE, is supported",
                       KEY("model"), bpe_utf8_show(model, strlen(model), shown));
    s->pre = weight_file_string(f, KEY("pre"), NULL);
    if (!s->pre && weight_file_has(f, KEY("pre")))
        return err_set(err, ERR_MODEL, "%s is not a string", KEY("pre"));
    int rc = file_id(f, KEY("eos_token_id"), &s->end_of_text, err);
    return rc != 0 ? rc : file_id(f, KEY("bos_token_id"), &s->begin_of_text, err);
}

/* Each id needs a row of the embedding, and each row that can be sampled a text. */
static int file_check_rows(const struct weight_file *f, size_t n_tokens, struct err *err)
{
    const struct tensor *rows = weight_file_find(f, "token_embd.weight");
    if (!rows || rows->dims[1] == (int64_t)n_tokens)
        return 0;
    return err_set(err, ERR_MODEL, "%s has %zu tokens, but token_embd.weight has %lld rows",
                   KEY("tokens"), n_tokens, (long long)rows->dims[1]);
}

int tokenizer_from_file(struct tokenizer **ret_tokenizer, const struct weight_file *f,
                        struct err *err)
{
    struct err why = {0};
    struct file_vocabulary v = {0};
    struct tokenizer_source s = {0};
    int rc = file_type(f, &s, &why);
    if (rc == 0)
        rc = file_strings(f, KEY("tokens"), &v.tokens, &v.lengths, &s.n_tokens, &why);
    if (rc == 0)
        rc = file_check_rows(f, s.n_tokens, &why);
    if (rc == 0)
        rc = file_kinds(f, &v, &s, &why);
    if (rc == 0)
        rc = file_merges(f, &v, &s, &why);
    if (rc == 0) {
        s.tokens = v.tokens;
        s.lengths = v.lengths;
        rc = tokenizer_new(ret_tokenizer, &s, &why);
        if (rc != 0 && why.param[0])
            err_prefix(&why, KEY("%s"), why.param);
    }
    file_vocabulary_clear(&v);
    if (rc != 0) {
        err_prefix(&why, "%s", weight_file_path(f));
        rc = err_set(err, rc, "%s", why.text);
    }
    return rc;
}

/* ---- text to ids ---- */

struct encoding {
    const struct tokenizer *tokenizer;
    struct bpe_split_run *run;
    struct bpe_scratch scratch;
    struct buf normalized; /* of the stretch at work */
    uint32_t *ids;
    size_t n, capacity;
};

static int encoding_reserve(struct encoding *e, size_t extra, struct err *err)
{
    if (extra <= e->capacity - e->n)
        return 0;
    size_t capacity = 2 * e->capacity > e->n + extra ? 2 * e->capacity : e->n + extra;
    uint32_t *ids = realloc(e->ids, capacity * sizeof *ids);
    if (!ids)
        return err_set(err, ERR_MEMORY, "no memory for %zu tokens", capacity);
    e->ids = ids;
    e->capacity = capacity;
    return 0;
}

static int encode_word(struct encoding *e, const char *word, size_t length, struct err *err)
{
    int rc = encoding_reserve(e, length, err);
    if (rc != 0)
        return rc;
    uint32_t *ids = e->ids + e->n;
    for (size_t i = 0; i < length; i++) {
        ids[i] = e->tokenizer->byte_ids[(unsigned char)word[i]];
        if (ids[i] == BPE_NO_ID)
            return err_set(err, ERR_INPUT,
                           "the model's vocabulary has no token for the byte 0x%02X",
                           (unsigned char)word[i]);
    }
    rc = bpe_merge(e->tokenizer->bpe, ids, &length, &e->scratch, err);
    if (rc == 0)
        e->n += length;
    return rc;
}

/* A stretch without special tokens: form C, words, tokens. */
static int encode_plain(struct encoding *e, const char *text, size_t length, struct err *err)
{
    int rc = 0;
    if (bpe_normalize_is_needed(text, length)) {
        buf_reset(&e->normalized);
        rc = bpe_normalize(text, length, &e->normalized, err);
        text = buf_text(&e->normalized);
        length = e->normalized.length;
    }
    for (size_t at = 0, end; rc == 0 && at < length; at = end) {
        rc = bpe_split_next(e->run, text, length, at, &end, err);
        if (rc == 0)
            rc = encode_word(e, text + at, end - at, err);
    }
    return rc;
}

static int encode_text(struct encoding *e, const char *text, size_t length, bool controls_as_text,
                       struct err *err)
{
    const struct bpe_special *special = &e->tokenizer->special;
    size_t plain = 0; /* where the stretch since the last special token began */
    int rc = 0;
    for (size_t at = 0; at < length && rc == 0;) {
        const struct bpe_special_token *found =
            bpe_special_match(special, text + at, length - at, controls_as_text);
        if (!found) {
            at++;
            continue;
        }
        rc = encode_plain(e, text + plain, at - plain, err);
        if (rc == 0)
            rc = encoding_reserve(e, 1, err);
        if (rc == 0)
            e->ids[e->n++] = found->id;
        at += found->length;
        plain = at;
    }
    if (rc == 0)
        rc = encode_plain(e, text + plain, length - plain, err);
    return rc;
}

int tokenizer_encode(const struct tokenizer *t, const char *text, size_t length, unsigned flags,
                     uint32_t **ret_ids, size_t *ret_count, struct err *err)
{
    if (length > MAX_TEXT)
        return err_set(err, ERR_INPUT, "a text of %zu bytes is too long; at most 256 MiB are taken",
                       length);
    size_t valid = bpe_utf8_valid_length(text, length);
    if (valid != length)
        return err_set(err, ERR_INPUT, "the text is not valid UTF-8 at byte %zu (0x%02X)", valid,
                       (unsigned char)text[valid]);
    struct encoding e = {.tokenizer = t};
    int rc = encoding_reserve(&e, length / 4 + 16, err);
    if (rc == 0)
        rc = bpe_split_run_new(&e.run, t->split, err);
    if (rc == 0)
        rc = encode_text(&e, text, length, flags & TOKENIZER_SPECIALS_AS_TEXT, err);
    if (rc == 0) {
        *ret_ids = e.ids;
        *ret_count = e.n;
        e.ids = NULL;
    }
    free(e.ids);
    buf_clear(&e.normalized);
    bpe_scratch_clear(&e.scratch);
    bpe_split_run_free(e.run);
    return rc;
}

/* ---- questions ---- */

size_t tokenizer_longest_token(const struct tokenizer *t)
{
    return t->longest ? t->longest : 1;
}

/* Form C takes no text to less than a quarter of its bytes (U+1FBE U+0308 U+0301, seven, become
 * the two of U+0390), and leaves a byte of ASCII alone unless a mark may follow it. */
size_t tokenizer_fewest_tokens(const struct tokenizer *t, const char *text, size_t length)
{
    size_t bytes = length, longest = tokenizer_longest_token(t);
    if (bpe_normalize_is_needed(text, length)) {
        size_t plain = 0;
        for (size_t i = 0; i < length; i++)
            plain += (unsigned char)text[i] < 0x80 &&
                     (i + 1 == length || (unsigned char)text[i + 1] < 0x80);
        bytes = plain + (length - plain) / 4;
    }
    return bytes / longest + (bytes % longest != 0);
}

size_t tokenizer_size(const struct tokenizer *t)
{
    return t->n_tokens;
}

const char *tokenizer_piece(const struct tokenizer *t, uint32_t id, size_t *ret_length)
{
    if (id >= t->n_tokens) {
        *ret_length = 0;
        return "";
    }
    *ret_length = t->starts[id + 1] - t->starts[id] - 1;
    return t->text + t->starts[id];
}

bool tokenizer_is_control(const struct tokenizer *t, uint32_t id)
{
    return id < t->n_tokens && t->kinds[id] == TOKEN_CONTROL;
}

int64_t tokenizer_find(const struct tokenizer *t, const char *token)
{
    const struct bpe_special_token *found = bpe_special_find(&t->special, token, strlen(token));
    return found ? (int64_t)found->id : -1;
}

size_t tokenizer_end_ids(const struct tokenizer *t, const uint32_t **ret_ids)
{
    *ret_ids = t->end_ids;
    return t->n_end_ids;
}
