#include "proto/invite.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX          "paceline1:"
#define MAX_DURATION_S  (365 * 86400)
#define MAX_UNIX_DIGITS 12

/* Cuts the last field off [text, text + *length); its length, or -1: there is no colon. */
static int invite_last(const char *text, size_t *length, const char **ret_field)
{
    size_t end = *length;
    while (*length && text[*length - 1] != ':')
        --*length;
    if (!*length)
        return -1;
    *ret_field = text + *length;
    return (int)(end - (*length)--);
}

static bool invite_number(const char *field, int length, int most_digits, int64_t *ret_number)
{
    if (length < 1 || length > most_digits || (int)strspn(field, "0123456789") < length)
        return false;
    *ret_number = strtoll(field, NULL, 10);
    return true;
}

static int invite_refuse(struct err *err, const char *why)
{
    return err_set(err, ERR_USAGE,
                   "this is not a line of \"paceline invite\" (%s): copy all of it, from \"%s\" on",
                   why, PREFIX);
}

int invite_parse(const char *line, struct invite *ret_invite, struct err *err)
{
    struct invite i = {0};
    const char *text = line + strspn(line, " \t\r\n"), *field;
    if (strncmp(text, PREFIX, strlen(PREFIX)) != 0)
        return invite_refuse(err, "it begins differently");
    text += strlen(PREFIX);
    size_t length = strlen(text);
    while (length && strchr(" \t\r\n", text[length - 1]))
        length--;
    int64_t number;
    int n = invite_last(text, &length, &field);
    if (n < 0 || !invite_number(field, n, MAX_UNIX_DIGITS, &i.expires_s))
        return invite_refuse(err, "its end is missing");
    unsigned char token[KEYS_BYTES];
    n = invite_last(text, &length, &field);
    if (n < 0 || !keys_parse(field, (size_t)n, token))
        return invite_refuse(err, "its token is not one");
    n = invite_last(text, &length, &field);
    if (n < 0 || !keys_parse(field, (size_t)n, i.coordinator_key))
        return invite_refuse(err, "its key is not one");
    n = invite_last(text, &length, &field);
    if (n < 0 || !invite_number(field, n, 5, &number) || number < 1 || number > 65535)
        return invite_refuse(err, "it names no port");
    if (!length || length >= sizeof i.host || strcspn(text, " \t\r\n/") < length)
        return invite_refuse(err, "it names no address");
    i.port = (int)number;
    memcpy(i.host, text, length);
    int rc = keys_derive(token, &i.token, err);
    if (rc == 0)
        *ret_invite = i;
    return rc;
}

void invite_format(const struct invite *i, char to[INVITE_LINE])
{
    char key[KEYS_TEXT_BYTES], token[KEYS_TEXT_BYTES];
    keys_format(i->coordinator_key, key);
    keys_format(i->token.secret_key, token);
    snprintf(to, INVITE_LINE, PREFIX "%s:%d:%s:%s:%" PRId64, i->host, i->port, key, token,
             i->expires_s);
}

int invite_duration(const char *text, int64_t *ret_seconds, struct err *err)
{
    static const struct {
        char letter;
        int64_t seconds;
    } units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
    const size_t digits = strspn(text, "0123456789");
    const int64_t number = digits && digits <= 8 ? strtoll(text, NULL, 10) : 0;
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (text[digits] != units[i].letter || text[digits + 1])
            continue;
        if (number < 1 || number * units[i].seconds > MAX_DURATION_S)
            break;
        *ret_seconds = number * units[i].seconds;
        return 0;
    }
    return err_set(err, ERR_USAGE, "\"%.40s\" is no time of at most a year: say 90s, 30m, 1h or 7d",
                   text);
}
