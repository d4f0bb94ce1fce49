#include "base/conf_value.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void *conf_field(const struct conf_option *option, void *settings)
{
    return (char *)settings + option->offset;
}

bool conf_value_size(const char *text, int64_t *ret_bytes)
{
    static const char letters[] = "KMGT";
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    char *end;
    long long whole = strtoll(text, &end, 10);
    if (errno)
        return false;
    double fraction = 0, place = 0.1;
    if (*end == '.') {
        for (end++; isdigit((unsigned char)*end); end++, place /= 10)
            fraction += place * (*end - '0');
    }
    while (*end == ' ')
        end++;
    int64_t unit = 1;
    const char *found = *end ? strchr(letters, toupper((unsigned char)*end)) : NULL;
    if (found) {
        end++;
        int64_t base = !strcasecmp(end, "B") ? 1000 : 1024;
        if (*end && strcasecmp(end, "B") && strcasecmp(end, "iB"))
            return false;
        for (const char *p = letters; p <= found; p++)
            unit *= base;
    } else if (*end && strcasecmp(end, "B")) {
        return false;
    }
    if (whole > INT64_MAX / unit - 1)
        return false;
    *ret_bytes = (int64_t)whole * unit + (int64_t)(fraction * (double)unit);
    return true;
}

static bool conf_in_range(const struct conf_option *option, double value)
{
    if (option->min == 0 && option->max == 0)
        return true;
    return value >= option->min && value <= option->max;
}

static int conf_refuse(const struct conf_option *option, const char *text, const char *where,
                       int code, struct err *err)
{
    static const char *const kinds[] = {
        [CONF_FLAG] = "true or false",
        [CONF_INT] = "a whole number",
        [CONF_REAL] = "a number",
        [CONF_SIZE] = "a size such as 512MiB or 8G",
    };
    char valid[256] = "";
    if (option->type == CONF_CHOICE) {
        size_t used = 0;
        for (int i = 0; option->choices[i] && used < sizeof valid; i++)
            used += (size_t)snprintf(valid + used, sizeof valid - used, "%s%s",
                                     i ? ", " : "one of: ", option->choices[i]);
    } else if (option->min == 0 && option->max == 0) {
        snprintf(valid, sizeof valid, "%s", kinds[option->type]);
    } else {
        snprintf(valid, sizeof valid, "%s from %.15g to %.15g", kinds[option->type], option->min,
                 option->max);
    }
    return err_set_param(err, code, option->name, "%s: \"%.80s\" is not valid; it must be %s",
                         where, text, valid);
}

/* true when text is one number without anything after it. */
static bool conf_value_integer(const char *text, int64_t *ret_value)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text))
        return false;
    *ret_value = value;
    return true;
}

static bool conf_value_real(const char *text, double *ret_value)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || isspace((unsigned char)*text))
        return false;
    *ret_value = value;
    return true;
}

static bool conf_value_bool(const char *text, bool *ret_value)
{
    static const char *const yes[] = {"true", "1", "yes", "on"};
    static const char *const no[] = {"false", "0", "no", "off"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        if (!strcasecmp(text, yes[i]) || !strcasecmp(text, no[i])) {
            *ret_value = !strcasecmp(text, yes[i]);
            return true;
        }
    }
    return false;
}

static int conf_store_string(const struct conf_option *option, void *settings, const char *text,
                             const char *where, int code, struct err *err)
{
    struct err why = {0};
    if (option->check && option->check(text, &why) != 0)
        return err_set_param(err, code, option->name, "%s: %s", where, why.text);
    char *copy = strdup(text);
    if (!copy)
        return err_set_param(err, ERR_MEMORY, option->name, "%s: no memory for its value", where);
    char **field = conf_field(option, settings);
    free(*field);
    *field = copy;
    return 0;
}

int conf_value_store(const struct conf_option *option, void *settings, const char *text,
                     const char *where, int code, struct err *err)
{
    void *field = conf_field(option, settings);
    int64_t whole;
    double real;
    bool flag;
    switch (option->type) {
    case CONF_FLAG:
        if (!conf_value_bool(text, &flag))
            break;
        *(bool *)field = flag;
        return 0;
    case CONF_INT:
        if (!conf_value_integer(text, &whole) || !conf_in_range(option, (double)whole))
            break;
        *(int64_t *)field = whole;
        return 0;
    case CONF_REAL:
        if (!conf_value_real(text, &real) || !conf_in_range(option, real))
            break;
        *(double *)field = real;
        return 0;
    case CONF_SIZE:
        if (!conf_value_size(text, &whole) || !conf_in_range(option, (double)whole))
            break;
        *(int64_t *)field = whole;
        return 0;
    case CONF_STRING:
        return conf_store_string(option, settings, text, where, code, err);
    case CONF_CHOICE:
        for (int i = 0; option->choices[i]; i++) {
            if (!strcmp(text, option->choices[i])) {
                *(int *)field = i;
                return 0;
            }
        }
        break;
    }
    return conf_refuse(option, text, where, code, err);
}

static void conf_print_string(const char *text, FILE *out)
{
    fputc('"', out);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(out, "\\%c", *p);
        else if (*p < 0x20 || *p == 0x7f)
            fprintf(out, "\\x%02x", *p);
        else
            fputc(*p, out);
    }
    fputc('"', out);
}

bool conf_value_print(const struct conf_option *option, const void *settings, FILE *out)
{
    const void *field = (const char *)settings + option->offset;
    switch (option->type) {
    case CONF_FLAG:
        fputs(*(const bool *)field ? "true" : "false", out);
        return true;
    case CONF_INT:
    case CONF_SIZE: {
        int64_t whole = *(const int64_t *)field;
        fprintf(out, "%" PRId64 "%s", whole, whole > INT32_MAX || whole < INT32_MIN ? "L" : "");
        return true;
    }
    case CONF_REAL: {
        /* libconfig tells numbers with a fraction from whole ones by their look. */
        char text[40];
        snprintf(text, sizeof text, "%.17g", *(const double *)field);
        fprintf(out, "%s%s", text, strpbrk(text, ".e") ? "" : ".0");
        return true;
    }
    case CONF_STRING: {
        const char *text = *(char *const *)field;
        if (!text)
            return false;
        conf_print_string(text, out);
        return true;
    }
    case CONF_CHOICE:
        conf_print_string(option->choices[*(const int *)field], out);
        return true;
    }
    return false;
}
