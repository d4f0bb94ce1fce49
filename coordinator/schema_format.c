#include "coordinator/schema_parts.h"

#include <string.h>

/* Readers such as Python's have no year 0. */
#define YEAR     "(000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
#define LEAP_TWO "(0[48]|[2468][048]|[13579][26])"
#define DAYS_28  YEAR "-02-(0[1-9]|1[0-9]|2[0-8])"
#define DAYS_29  "([0-9]{2}" LEAP_TWO "|" LEAP_TWO "00)-02-29"
#define DAYS_30  YEAR "-(0[469]|11)-(0[1-9]|[12][0-9]|30)"
#define DAYS_31  YEAR "-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
#define DATE     "(" DAYS_28 "|" DAYS_29 "|" DAYS_30 "|" DAYS_31 ")"
#define TIME                                                                                       \
    "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]" \
    ")"
#define BYTE  "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HEX   "[0-9A-Fa-f]"

/* Each accepts less than the format's definition, where that makes it simple; never more. */
static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", "^" DATE "$"},
    {"time", "^" TIME "$"},
    {"date-time", "^" DATE "T" TIME "$"},
    {"duration", "^P([0-9]{1,6}W|([0-9]{1,6}D)(T([0-9]{1,6}H)?[0-9]{1,6}M)?|T[0-9]{1,6}[HMS])$"},
    {"uuid", "^" HEX "{8}-" HEX "{4}-" HEX "{4}-" HEX "{4}-" HEX "{12}$"},
    {"ipv4", "^" BYTE "(\\." BYTE "){3}$"},
    {"ipv6", "^(" HEX "{1,4}:){7}" HEX "{1,4}$|^(" HEX "{1,4}:){1,6}(:" HEX "{1,4})$|^::1?$"},
    {"hostname", "^" LABEL "(\\." LABEL "){0,3}$"},
    {"email", "^[A-Za-z0-9_+-]+(\\.[A-Za-z0-9_+-]+)*@" LABEL "(\\." LABEL "){0,3}$"},
    {"uri", "^https?://" LABEL "(\\." LABEL "){0,3}(:[1-9][0-9]{0,3})?(/[A-Za-z0-9._~-]*)*"
            "(\\?[A-Za-z0-9._~=&-]*)?(#[A-Za-z0-9._~-]*)?$"},
};

const char *schema_format_pattern(const char *format)
{
    for (size_t i = 0; format && i < sizeof formats / sizeof formats[0]; i++)
        if (strcmp(formats[i].name, format) == 0)
            return formats[i].pattern;
    return NULL;
}
