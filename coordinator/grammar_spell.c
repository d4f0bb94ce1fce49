#include "coordinator/grammar_nfa.h"
#include "coordinator/grammar_utf8.h"

#include <stdlib.h>
#include <string.h>

/* Characters as bytes. A state whose only ways on are known (one range of bytes to one state, or
 * some escapes to one state) is made once and used wherever it is needed: automata with many
 * arrows to the same state, such as "any name but these", stay small. */

struct grammar_shared {
    uint32_t to, state;
    uint64_t ways; /* a range of bytes, or ESCAPES and which characters */
};

#define ESCAPES      ((uint64_t)1 << 63)
#define ESCAPED_MARK ((uint64_t)1 << 32) /* for '"'; the next bit is for '\\' */

static uint32_t shared_slot(const struct grammar_nfa *n, uint64_t ways, uint32_t to)
{
    uint64_t hash = (ways ^ (uint64_t)to << 20) * 0x9E3779B97F4A7C15u;
    uint32_t at = (uint32_t)(hash >> 32) & (n->shared_capacity - 1);
    while (n->shared[at].ways && (n->shared[at].ways != ways || n->shared[at].to != to))
        at = (at + 1) & (n->shared_capacity - 1);
    return at;
}

static bool shared_grow(struct grammar_nfa *n)
{
    const uint32_t before = n->shared_capacity;
    struct grammar_shared *old = n->shared;
    if (2 * (n->n_shared + 1) <= before)
        return true;
    n->shared_capacity = before ? 2 * before : 256;
    n->shared = calloc(n->shared_capacity, sizeof *n->shared);
    if (!n->shared) {
        n->shared = old;
        n->shared_capacity = before;
        n->has_no_memory = true;
        return false;
    }
    for (uint32_t i = 0; i < before; i++)
        if (old[i].ways)
            n->shared[shared_slot(n, old[i].ways, old[i].to)] = old[i];
    free(old);
    return true;
}

/* The state with these ways. *ret_is_new: they are still to be made. */
static uint32_t shared_state(struct grammar_nfa *n, uint64_t ways, uint32_t to, bool *ret_is_new)
{
    *ret_is_new = false;
    if (!shared_grow(n))
        return 0;
    uint32_t at = shared_slot(n, ways, to);
    if (n->shared[at].ways)
        return n->shared[at].state;
    *ret_is_new = true;
    n->shared[at] = (struct grammar_shared){to, grammar_nfa_state(n), ways};
    n->n_shared++;
    return n->shared[at].state;
}

static uint32_t state_before(struct grammar_nfa *n, unsigned char low, unsigned char high,
                             uint32_t to)
{
    bool is_new;
    uint32_t state = shared_state(n, (uint64_t)1 << 62 | (uint64_t)low << 8 | high, to, &is_new);
    if (is_new)
        grammar_nfa_edge(n, GRAMMAR_EDGE_SYMBOL, state, low, high, to);
    return state;
}

static void spell_range(struct grammar_nfa *n, uint32_t low, uint32_t high, uint32_t from,
                        uint32_t to)
{
    struct grammar_utf8_bytes parts[GRAMMAR_UTF8_SPLITS];
    size_t count = grammar_utf8_split(low, high, parts);
    for (size_t i = 0; i < count; i++) {
        uint32_t after = to;
        for (size_t k = parts[i].length; k-- > 1;)
            after = state_before(n, parts[i].low[k], parts[i].high[k], after);
        grammar_nfa_edge(n, GRAMMAR_EDGE_SYMBOL, from, parts[i].low[0], parts[i].high[0], after);
    }
}

/* ---- inside a JSON string ---- */

static void spell_byte(struct grammar_nfa *n, unsigned char byte, uint32_t from, uint32_t to)
{
    grammar_nfa_edge(n, GRAMMAR_EDGE_SYMBOL, from, byte, byte, to);
}

/* \u00XY, in small or capital letters */
static void spell_hex(struct grammar_nfa *n, uint32_t character, uint32_t backslash, uint32_t to)
{
    static const char small[] = "0123456789abcdef", capital[] = "0123456789ABCDEF";
    const char *digits[] = {small, capital};
    for (int i = 0; i < (character % 16 < 10 ? 1 : 2); i++) {
        unsigned char last = (unsigned char)digits[i][character % 16];
        uint32_t at = state_before(n, last, last, to);
        unsigned char third = character < 16 ? '0' : '1';
        at = state_before(n, third, third, at);
        at = state_before(n, '0', '0', at);
        spell_byte(n, 'u', backslash, state_before(n, '0', '0', at));
    }
}

static void spell_escape(struct grammar_nfa *n, uint32_t character, uint32_t backslash, uint32_t to)
{
    static const char escaped[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *found = character ? strchr(escaped, (int)character) : NULL;
    if (found)
        spell_byte(n, (unsigned char)letters[found - escaped], backslash, to);
    else
        spell_hex(n, character, backslash, to);
}

/* Quote, backslash and control characters are escaped, and nothing else is, so that a text has few
 * spellings. */
static void spell_escapes(struct grammar_nfa *n, const struct grammar_charset *set, uint32_t from,
                          uint32_t to)
{
    uint64_t ways = 0;
    for (uint32_t c = 0; c < 0x20; c++)
        ways |= grammar_charset_has(set, c) ? (uint64_t)1 << c : 0;
    ways |= grammar_charset_has(set, '"') ? ESCAPED_MARK : 0;
    ways |= grammar_charset_has(set, '\\') ? ESCAPED_MARK << 1 : 0;
    if (!ways)
        return;
    bool is_new;
    uint32_t backslash = shared_state(n, ESCAPES | ways, to, &is_new);
    spell_byte(n, '\\', from, backslash);
    for (uint32_t c = 0; is_new && c < 0x20; c++)
        if (ways >> c & 1)
            spell_escape(n, c, backslash, to);
    if (is_new && ways & ESCAPED_MARK)
        spell_escape(n, '"', backslash, to);
    if (is_new && ways & ESCAPED_MARK << 1)
        spell_escape(n, '\\', backslash, to);
}

static void spell_json(struct grammar_nfa *n, const struct grammar_charset *set, uint32_t from,
                       uint32_t to)
{
    static const struct grammar_range plain[] = {
        {0x20, '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, GRAMMAR_LAST_CHARACTER}};
    spell_escapes(n, set, from, to);
    for (size_t i = 0; i < set->n; i++) {
        for (size_t k = 0; k < 3; k++) {
            uint32_t low = set->ranges[i].low, high = set->ranges[i].high;
            low = low > plain[k].low ? low : plain[k].low;
            high = high < plain[k].high ? high : plain[k].high;
            if (low <= high)
                spell_range(n, low, high, from, to);
        }
    }
}

void grammar_nfa_spell(struct grammar_nfa *n, const struct grammar_charset *set,
                       enum grammar_spelling spelling, uint32_t from, uint32_t to)
{
    if (spelling == GRAMMAR_JSON && !n->in_characters) {
        spell_json(n, set, from, to);
        return;
    }
    for (size_t i = 0; i < set->n; i++) {
        uint32_t low = set->ranges[i].low, high = set->ranges[i].high;
        if (n->in_characters)
            grammar_nfa_edge(n, GRAMMAR_EDGE_SYMBOL, from, low, high, to);
        else
            spell_range(n, low, high, from, to);
    }
}
