#include "coordinator/json_member.h"

#include <stdbool.h>
#include <string.h>

static size_t json_member_skip_space(const char *text, size_t at, size_t length)
{
    while (at < length && memchr(" \t\r\n", text[at], 4))
        at++;
    return at;
}

/* Past the string that begins at `at`. */
static size_t json_member_skip_string(const char *text, size_t at, size_t length)
{
    for (at++; at < length && text[at] != '"'; at++)
        at += text[at] == '\\';
    return at + 1;
}

/* Past the value that begins at `at`. */
static size_t json_member_skip_value(const char *text, size_t at, size_t length)
{
    int depth = 0;
    while (at < length) {
        char c = text[at];
        bool closes = c == '}' || c == ']';
        if (depth == 0 && (closes || c == ','))
            break;
        depth += (c == '{' || c == '[') - closes;
        at = c == '"' ? json_member_skip_string(text, at, length) : at + 1;
    }
    return at < length ? at : length;
}

const char *json_member_find(const char *text, size_t length, const char *name, size_t *ret_length)
{
    const char *found = NULL;
    size_t name_length = strlen(name);
    size_t at = json_member_skip_space(text, 0, length) + 1; /* past the '{' */
    while ((at = json_member_skip_space(text, at, length)) < length && text[at] == '"') {
        size_t key = at + 1;
        at = json_member_skip_string(text, at, length);
        bool is_wanted =
            at <= length && at - 1 - key == name_length && !memcmp(text + key, name, name_length);
        at = json_member_skip_space(text, at, length) + 1; /* past the ':' */
        at = json_member_skip_space(text, at, length);
        size_t end = json_member_skip_value(text, at, length), last = end;
        while (last > at && memchr(" \t\r\n", text[last - 1], 4))
            last--;
        if (is_wanted) {
            found = text + at;
            *ret_length = last - at;
        }
        at = end + 1;
    }
    return found;
}
