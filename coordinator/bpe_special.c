#include "coordinator/bpe_special.h"

#include <stdlib.h>
#include <string.h>

static int bpe_special_compare(const void *left, const void *right)
{
    const struct bpe_special_token *a = left, *b = right;
    int order = memcmp(a->text, b->text, a->length < b->length ? a->length : b->length);
    return order ? order : (a->length > b->length) - (a->length < b->length);
}

void bpe_special_init(struct bpe_special *s, struct bpe_special_token *tokens, size_t n)
{
    *s = (struct bpe_special){.tokens = tokens, .n = n};
    if (n)
        qsort(tokens, n, sizeof *tokens, bpe_special_compare);
    size_t at = 0;
    for (int c = 0; c < 256; c++) {
        s->first[c] = at;
        while (at < n && (unsigned char)tokens[at].text[0] == c)
            at++;
    }
    s->first[256] = at;
}

void bpe_special_clear(struct bpe_special *s)
{
    free(s->tokens);
    *s = (struct bpe_special){0};
}

/* First of tokens[low..high), which agree up to `depth`, whose byte there is at least c. One that
 * ends before sorts first. */
static size_t bpe_special_bound(const struct bpe_special *s, size_t low, size_t high, size_t depth,
                                int c)
{
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct bpe_special_token *t = &s->tokens[middle];
        if (t->length <= depth || (unsigned char)t->text[depth] < c)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Walks the sorted list as if it were a trie: byte by byte the range of tokens that still agree
 * narrows, so a vocabulary with many special tokens costs no more per place than a long one. */
const struct bpe_special_token *bpe_special_match(const struct bpe_special *s, const char *text,
                                                  size_t length, bool without_control)
{
    if (!length)
        return NULL;
    const struct bpe_special_token *longest = NULL;
    unsigned char c = (unsigned char)text[0];
    size_t low = s->first[c], high = s->first[c + 1];
    for (size_t depth = 1; low < high; depth++) {
        const struct bpe_special_token *t = &s->tokens[low];
        if (t->length == depth && !(without_control && t->is_control))
            longest = t;
        if (depth == length)
            break;
        c = (unsigned char)text[depth];
        low = bpe_special_bound(s, low, high, depth, c);
        high = bpe_special_bound(s, low, high, depth, c + 1);
    }
    return longest;
}

const struct bpe_special_token *bpe_special_find(const struct bpe_special *s, const char *text,
                                                 size_t length)
{
    const struct bpe_special_token wanted = {.text = text, .length = length};
    if (!s->n)
        return NULL;
    return bsearch(&wanted, s->tokens, s->n, sizeof *s->tokens, bpe_special_compare);
}
