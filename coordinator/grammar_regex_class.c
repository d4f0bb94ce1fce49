#include "coordinator/grammar_regex.h"

static bool add_ranges(struct grammar_charset *s, struct arena *a,
                       const struct grammar_range *ranges, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!grammar_charset_add(s, a, ranges[i].low, ranges[i].high))
            return false;
    return grammar_charset_sort(s, a);
}

/* A space is what everybody takes for one; no space is what nobody does. */
bool grammar_regex_class(struct arena *a, char letter, struct grammar_charset *ret_set)
{
    static const struct grammar_range digits[] = {{'0', '9'}};
    static const struct grammar_range words[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
    static const struct grammar_range spaces[] = {{'\t', '\r'}, {' ', ' '}};
    static const struct grammar_range all_spaces[] = {
        {'\t', '\r'},     {0x1C, 0x20},     {0x85, 0x85},     {0xA0, 0xA0},
        {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F},
        {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
    struct grammar_charset set = {0};
    bool ok;
    if (letter == 'd' || letter == 'D')
        ok = add_ranges(&set, a, digits, 1);
    else if (letter == 'w' || letter == 'W')
        ok = add_ranges(&set, a, words, 4);
    else if (letter == 's')
        ok = add_ranges(&set, a, spaces, 2);
    else if (letter == 'S')
        ok = add_ranges(&set, a, all_spaces, sizeof all_spaces / sizeof all_spaces[0]);
    else
        return false;
    if (ok && (letter == 'D' || letter == 'W' || letter == 'S'))
        ok = grammar_charset_complement(&set, a, &set);
    *ret_set = ok ? set : (struct grammar_charset){0};
    return true;
}
