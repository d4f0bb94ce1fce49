#include "coordinator/bpe_split.h"

#include <stdlib.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* The published pattern is
 *   (?i:'s|'t|'re|'ve|'m|'ll|'d) | [^\r\n\p{L}\p{N}]?\p{L}+ | \p{N} | ?[^\s\p{L}\p{N}]+[\r\n]*
 *   | \s*[\r\n]+ | \s+(?!\S) | \s+
 * Written here so that it matches the same and never tries twice: repetitions are possessive where
 * what follows cannot begin with what they take, and \s*[\r\n]+ runs from line end to line end.
 * Work per word is then linear in its length, and no text can make PCRE2 pile up state.
 * White space is spelled out, since PCRE2's \s has one more character (U+180E) than the property
 * White_Space that the model's own tokenizer goes by. */
#define BLANK                                                                                      \
    "\\t\\x0b\\x0c \\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}" \
    "\\x{3000}"
#define SPACE        BLANK "\\r\\n"
#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES       "(?:[" BLANK "]*+[\\r\\n]++)++|[" SPACE "]+(?![^" SPACE "])|[" SPACE "]++"

static const char qwen2_pattern[] = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++"
                                                 "|\\p{N}"
                                                 "| ?+[^" SPACE "\\p{L}\\p{N}]++[\\r\\n]*+"
                                                 "|" SPACES;
/* Here the optional character may be a mark that is the whole word, so it can be given back. */
static const char qwen35_pattern[] = CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]++"
                                                  "|\\p{N}"
                                                  "| ?+[^" SPACE "\\p{L}\\p{M}\\p{N}]++[\\r\\n]*+"
                                                  "|" SPACES;

#define DEPTH_LIMIT    100  /* nested matches; the patterns need fewer than ten */
#define HEAP_LIMIT_KIB 1024 /* for the interpreter's backtracking points */

struct bpe_split {
    pcre2_code *code;
};

struct bpe_split_run {
    const struct bpe_split *split;
    pcre2_match_data *data;
    pcre2_match_context *context;
};

int bpe_split_new(struct bpe_split **ret_split, enum bpe_split_pattern pattern, bool use_jit,
                  struct err *err)
{
    const char *text = pattern == BPE_SPLIT_QWEN35 ? qwen35_pattern : qwen2_pattern;
    struct bpe_split *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ERR_MEMORY, "no memory for the tokenizer's pattern");
    int code;
    PCRE2_SIZE at;
    s->code = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                            PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &code, &at, NULL);
    if (!s->code) {
        bpe_split_free(s);
        return err_set(err, ERR_INTERNAL, "PCRE2 refuses the tokenizer's pattern (error %d at %zu)",
                       code, (size_t)at);
    }
    if (use_jit) /* where it fails (no JIT on this machine, or forbidden) matching interprets */
        (void)pcre2_jit_compile(s->code, PCRE2_JIT_COMPLETE);
    *ret_split = s;
    return 0;
}

void bpe_split_free(struct bpe_split *s)
{
    if (!s)
        return;
    pcre2_code_free(s->code);
    free(s);
}

int bpe_split_run_new(struct bpe_split_run **ret_run, const struct bpe_split *s, struct err *err)
{
    struct bpe_split_run *r = calloc(1, sizeof *r);
    if (r) {
        r->split = s;
        r->data = pcre2_match_data_create(1, NULL);
        r->context = pcre2_match_context_create(NULL);
    }
    if (!r || !r->data || !r->context) {
        bpe_split_run_free(r);
        return err_set(err, ERR_MEMORY, "no memory to split a text into words");
    }
    pcre2_set_depth_limit(r->context, DEPTH_LIMIT);
    pcre2_set_heap_limit(r->context, HEAP_LIMIT_KIB);
    *ret_run = r;
    return 0;
}

void bpe_split_run_free(struct bpe_split_run *r)
{
    if (!r)
        return;
    pcre2_match_data_free(r->data);
    pcre2_match_context_free(r->context);
    free(r);
}

int bpe_split_next(struct bpe_split_run *r, const char *text, size_t length, size_t at,
                   size_t *ret_end, struct err *err)
{
    /* A few steps per byte at most: a limit that only a pattern gone wrong can meet. */
    size_t steps = 1000 + 4 * (length - at);
    pcre2_set_match_limit(r->context, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    int rc = pcre2_match(r->split->code, (PCRE2_SPTR)text, length, at, PCRE2_NO_UTF_CHECK, r->data,
                         r->context);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(r->split->code, (PCRE2_SPTR)text, length, at,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, r->data, r->context);
    size_t end = rc > 0 ? pcre2_get_ovector_pointer(r->data)[1] : at;
    if (end <= at)
        return err_set(err, ERR_INTERNAL, "the tokenizer's pattern fails at byte %zu (PCRE2: %d)",
                       at, rc);
    *ret_end = end;
    return 0;
}
