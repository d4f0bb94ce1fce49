#include "base/conf.h"

#include "base/conf_value.h"
#include "base/version.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <libconfig.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the command line said, before anything is applied: it has the last word, but names the
 * file that must be read first. */
struct command_line {
    const char **texts; /* one for each option; NULL: not given */
    const char *config; /* --config FILE */
    bool print_config;
    bool answered; /* --help or --version */
};

static char conf_key_char(char c)
{
    return c == '-' ? '_' : c;
}

static bool conf_key_matches(const char *name, const char *key)
{
    while (*name && conf_key_char(*name) == *key)
        name++, key++;
    return !*name && !*key;
}

static void conf_key(const char *name, char *ret_key, size_t size)
{
    size_t i = 0;
    for (; name[i] && i + 1 < size; i++)
        ret_key[i] = conf_key_char(name[i]);
    ret_key[i] = '\0';
}

/* ---- help ---- */

static void conf_print_option(char letter, const char *name, const char *value, const char *help,
                              const char *initial)
{
    char left[80];
    snprintf(left, sizeof left, "  %c%c%s --%s%s%s", letter ? '-' : ' ', letter ? letter : ' ',
             letter ? "," : " ", name, value ? " " : "", value ? value : "");
    printf(strlen(left) < 30 ? "%-30s" : "%s\n                              ", left);
    fputs(help, stdout);
    if (initial)
        printf(" (default %s)", initial);
    putchar('\n');
}

static void conf_print_help(const struct conf_program *program)
{
    printf("Usage: %s %s\n\n%s\n\nOptions:\n", program->name, program->synopsis, program->summary);
    bool configurable = false, short_help = true, short_version = true;
    for (size_t i = 0; i < program->n_options; i++) {
        const struct conf_option *o = &program->options[i];
        bool flag = o->type == CONF_FLAG;
        conf_print_option(o->letter, o->name,
                          flag       ? NULL
                          : o->value ? o->value
                                     : "VALUE",
                          o->help,
                          flag && o->initial && !strcmp(o->initial, "false") ? NULL : o->initial);
        configurable |= !o->command_line_only;
        short_help &= o->letter != 'h';
        short_version &= o->letter != 'V';
    }
    if (configurable) {
        conf_print_option(0, "config", "FILE", "read settings from FILE", program->file);
        conf_print_option(0, "print-config", NULL, "print the settings in force as such a file",
                          NULL);
    }
    conf_print_option(short_help ? 'h' : 0, "help", NULL, "this help", NULL);
    conf_print_option(short_version ? 'V' : 0, "version", NULL, "the version", NULL);
    if (program->epilogue)
        printf("\n%s\n", program->epilogue);
}

static void conf_print_settings(const struct conf_program *program, const void *settings)
{
    const char *indent = program->group ? "    " : "";
    if (program->group)
        printf("%s:\n{\n", program->group);
    for (size_t i = 0; i < program->n_options; i++) {
        const struct conf_option *o = &program->options[i];
        if (o->command_line_only)
            continue;
        char key[64];
        conf_key(o->name, key, sizeof key);
        printf("%s# %s\n", indent, o->help);
        if (o->type == CONF_STRING && !*(char *const *)((const char *)settings + o->offset)) {
            printf("%s# %s = \"\";\n", indent, key);
            continue;
        }
        printf("%s%s = ", indent, key);
        conf_value_print(o, settings, stdout);
        puts(";");
    }
    if (program->group)
        puts("};");
}

/* ---- command line ---- */

static const struct conf_option *conf_find_letter(const struct conf_program *program, char letter)
{
    for (size_t i = 0; i < program->n_options; i++)
        if (program->options[i].letter && program->options[i].letter == letter)
            return &program->options[i];
    return NULL;
}

static const struct conf_option *conf_find_flag(const struct conf_program *program,
                                                const char *name, size_t length)
{
    for (size_t i = 0; i < program->n_options; i++)
        if (strlen(program->options[i].name) == length &&
            !strncmp(program->options[i].name, name, length))
            return &program->options[i];
    return NULL;
}

/* The known option that shares the longest beginning with a mistyped one. */
static const char *conf_nearest(const struct conf_program *program, const char *name)
{
    const char *best = NULL;
    size_t best_length = 1;
    for (size_t i = 0; i < program->n_options; i++) {
        size_t n = 0;
        while (name[n] && name[n] == program->options[i].name[n])
            n++;
        if (n > best_length) {
            best = program->options[i].name;
            best_length = n;
        }
    }
    return best;
}

static int conf_unknown_flag(const struct conf_program *program, const char *argument,
                             struct err *err)
{
    const char *name = argument + strspn(argument, "-");
    const char *near = conf_nearest(program, name);
    if (near)
        return err_set(err, ERR_USAGE, "unknown option %.60s; did you mean --%s? See %s --help",
                       argument, near, program->name);
    return err_set(err, ERR_USAGE, "unknown option %.60s; see %s --help", argument, program->name);
}

/* A "--name" argument, with its value if it takes one. */
static int conf_read_long(const struct conf_program *program, struct command_line *line, int argc,
                          char **argv, int *i, struct err *err)
{
    const char *argument = argv[*i], *name = argument + 2;
    size_t length = strcspn(name, "=");
    const char *value = name[length] ? name + length + 1 : NULL;
    const struct conf_option *o = conf_find_flag(program, name, length);
    bool is_config = !o && length == 6 && !strncmp(name, "config", 6);

    if (!o && !is_config && !value) {
        if (!strcmp(name, "help") || !strcmp(name, "version")) {
            if (*name == 'h')
                conf_print_help(program);
            else
                printf("%s %s\n", program->name, PACELINE_VERSION);
            line->answered = true;
            return 0;
        }
        if (!strcmp(name, "print-config")) {
            line->print_config = true;
            return 0;
        }
        const struct conf_option *off =
            strncmp(name, "no-", 3) ? NULL : conf_find_flag(program, name + 3, length - 3);
        if (off && off->type == CONF_FLAG) {
            line->texts[off - program->options] = "false";
            return 0;
        }
    }
    if (!o && !is_config)
        return conf_unknown_flag(program, argument, err);
    if (o && o->type == CONF_FLAG) {
        if (value)
            return err_set_param(err, ERR_USAGE, o->name,
                                 "--%s takes no value; --no-%s turns it off", o->name, o->name);
        line->texts[o - program->options] = "true";
        return 0;
    }
    if (!value) {
        if (*i + 1 >= argc)
            return err_set(err, ERR_USAGE, "%s needs a value: %s", argument,
                           o && o->value ? o->value : "FILE");
        value = argv[++*i];
    }
    if (o)
        line->texts[o - program->options] = value;
    else
        line->config = value;
    return 0;
}

/* A "-x" argument: letters of flags together, or one letter and its value. */
static int conf_read_short(const struct conf_program *program, struct command_line *line, int argc,
                           char **argv, int *i, struct err *err)
{
    for (const char *p = argv[*i] + 1; *p; p++) {
        const struct conf_option *o = conf_find_letter(program, *p);
        if (!o && *p == 'h') {
            conf_print_help(program);
            line->answered = true;
            return 0;
        }
        if (!o && *p == 'V') {
            printf("%s %s\n", program->name, PACELINE_VERSION);
            line->answered = true;
            return 0;
        }
        if (!o)
            return err_set(err, ERR_USAGE, "unknown option -%c; see %s --help",
                           isprint((unsigned char)*p) ? *p : '?', program->name);
        if (o->type == CONF_FLAG) {
            line->texts[o - program->options] = "true";
            continue;
        }
        const char *value = p[1] ? p + 1 + (p[1] == '=') : NULL;
        if (!value && *i + 1 >= argc)
            return err_set(err, ERR_USAGE, "-%c needs a value: %s", o->letter,
                           o->value ? o->value : "VALUE");
        line->texts[o - program->options] = value ? value : argv[++*i];
        return 0;
    }
    return 0;
}

static int conf_read_arguments(const struct conf_program *program, struct command_line *line,
                               int argc, char **argv, const char **ret_positionals,
                               int *ret_n_positionals, struct err *err)
{
    int n = 0;
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        const char *argument = argv[i];
        int rc = 0;
        if (options_end || argument[0] != '-' || !argument[1]) {
            if (n == program->max_positionals)
                return err_set(err, ERR_USAGE, "unexpected argument \"%.80s\"; usage: %s %s",
                               argument, program->name, program->synopsis);
            ret_positionals[n++] = argument;
        } else if (!strcmp(argument, "--")) {
            options_end = true;
        } else if (argument[1] == '-') {
            rc = conf_read_long(program, line, argc, argv, &i, err);
        } else {
            rc = conf_read_short(program, line, argc, argv, &i, err);
        }
        if (rc < 0 || line->answered)
            return rc;
    }
    if (n < program->min_positionals && !line->print_config)
        return err_set(err, ERR_USAGE, "an argument is missing; usage: %s %s", program->name,
                       program->synopsis);
    *ret_n_positionals = n;
    return 0;
}

/* ---- configuration file ---- */

/* The setting as text, when its type in the file suits the option. */
static bool conf_setting_text(const struct conf_option *o, const config_setting_t *setting,
                              char *number, size_t size, const char **ret_text)
{
    int type = config_setting_type(setting);
    bool whole = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;
    *ret_text = number;
    if (type == CONFIG_TYPE_STRING) {
        *ret_text = config_setting_get_string(setting);
        return o->type == CONF_STRING || o->type == CONF_CHOICE || o->type == CONF_SIZE;
    }
    if (type == CONFIG_TYPE_BOOL) {
        snprintf(number, size, "%s", config_setting_get_bool(setting) ? "true" : "false");
        return o->type == CONF_FLAG;
    }
    if (whole) {
        snprintf(number, size, "%lld", (long long)config_setting_get_int64(setting));
        return o->type == CONF_INT || o->type == CONF_REAL || o->type == CONF_SIZE;
    }
    if (type == CONFIG_TYPE_FLOAT) {
        snprintf(number, size, "%.17g", config_setting_get_float(setting));
        return o->type == CONF_REAL;
    }
    return false;
}

static int conf_unknown_key(const struct conf_program *program, const char *path,
                            const config_setting_t *setting, struct err *err)
{
    char valid[352] = "";
    size_t used = 0;
    for (size_t i = 0; i < program->n_options; i++) {
        const struct conf_option *o = &program->options[i];
        if (o->command_line_only || used + strlen(o->name) + 3 > sizeof valid)
            continue;
        char key[64];
        conf_key(o->name, key, sizeof key);
        used += (size_t)snprintf(valid + used, sizeof valid - used, "%s%s", used ? ", " : "", key);
    }
    const char *name = config_setting_name(setting);
    return err_set_param(err, ERR_CONFIG, name ? name : "",
                         "%s:%d: unknown key \"%.40s\"; valid: %s", path,
                         config_setting_source_line(setting), name ? name : "", valid);
}

static int conf_apply_setting(const struct conf_program *program, void *settings, const char *path,
                              const config_setting_t *setting, struct err *err)
{
    static const char *const kinds[] = {
        [CONF_FLAG] = "true or false",
        [CONF_INT] = "a whole number",
        [CONF_REAL] = "a number",
        [CONF_SIZE] = "a whole number or a \"size\"",
        [CONF_STRING] = "a \"text\" in quotes",
        [CONF_CHOICE] = "a \"word\" in quotes",
    };
    const char *name = config_setting_name(setting);
    const struct conf_option *o = NULL;
    for (size_t i = 0; i < program->n_options && !o; i++)
        if (name && !program->options[i].command_line_only &&
            conf_key_matches(program->options[i].name, name))
            o = &program->options[i];
    if (!o)
        return conf_unknown_key(program, path, setting, err);
    char where[256], number[40];
    const char *text;
    snprintf(where, sizeof where, "%.180s:%d: %s", path, config_setting_source_line(setting), name);
    if (!conf_setting_text(o, setting, number, sizeof number, &text))
        return err_set_param(err, ERR_CONFIG, o->name, "%s: must be %s", where, kinds[o->type]);
    return conf_value_store(o, settings, text, where, ERR_CONFIG, err);
}

static bool conf_group_is_known(const struct conf_program *program, const char *name)
{
    if (!strcmp(name, program->group))
        return true;
    for (size_t i = 0; program->groups && program->groups[i]; i++)
        if (!strcmp(name, program->groups[i]))
            return true;
    return false;
}

/* Where the file has groups, everything on top must be a known one. */
static int conf_check_groups(const struct conf_program *program, const char *path,
                             const config_setting_t *root, struct err *err)
{
    for (int i = 0; i < config_setting_length(root); i++) {
        const config_setting_t *top = config_setting_get_elem(root, (unsigned)i);
        const char *name = config_setting_name(top);
        if (config_setting_is_group(top) && conf_group_is_known(program, name))
            continue;
        char valid[256];
        size_t used = (size_t)snprintf(valid, sizeof valid, "%s", program->group);
        for (size_t g = 0; program->groups && program->groups[g] && used < sizeof valid; g++)
            if (strcmp(program->groups[g], program->group))
                used +=
                    (size_t)snprintf(valid + used, sizeof valid - used, ", %s", program->groups[g]);
        return err_set_param(err, ERR_CONFIG, name,
                             "%s:%d: \"%.40s\" is not a known group; valid groups: %s", path,
                             config_setting_source_line(top), name, valid);
    }
    return 0;
}

static int conf_apply_file(const struct conf_program *program, void *settings, const char *path,
                           const config_t *config, struct err *err)
{
    const config_setting_t *group = config_root_setting(config);
    if (program->group) {
        int rc = conf_check_groups(program, path, group, err);
        if (rc < 0)
            return rc;
        group = config_setting_get_member(group, program->group);
        if (!group)
            return 0;
    }
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *setting = config_setting_get_elem(group, (unsigned)i);
        const char *included = config_setting_source_file(setting);
        int rc = conf_apply_setting(program, settings, included ? included : path, setting, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int conf_read_file(const struct conf_program *program, void *settings, const char *path,
                          struct err *err)
{
    FILE *in = fopen(path, "re");
    if (!in)
        return err_set_param(err, ERR_CONFIG, "config", "%s: %s", path, strerror(errno));
    config_t config;
    config_init(&config);
    /* @include is relative to the file that says it, not to where the program was started. */
    char folder[4096];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 2,
             slash ? path : "./");
    config_set_include_dir(&config, folder);
    int rc = 0;
    if (config_read(&config, in) == CONFIG_TRUE) {
        rc = conf_apply_file(program, settings, path, &config, err);
    } else {
        const char *file = config_error_file(&config);
        rc = err_set_param(err, ERR_CONFIG, "config", "%s:%d: %s", file ? file : path,
                           config_error_line(&config), config_error_text(&config));
    }
    config_destroy(&config);
    fclose(in);
    return rc;
}

/* ---- all together ---- */

static int conf_apply_environment(const struct conf_program *program, void *settings,
                                  struct err *err)
{
    for (size_t i = 0; i < program->n_options; i++) {
        const struct conf_option *o = &program->options[i];
        char name[80] = "PACELINE_";
        for (size_t n = 0; o->name[n] && n + 10 < sizeof name; n++)
            name[9 + n] = (char)toupper((unsigned char)conf_key_char(o->name[n]));
        const char *text = o->command_line_only ? NULL : getenv(name);
        int rc = text ? conf_value_store(o, settings, text, name, ERR_CONFIG, err) : 0;
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int conf_apply(const struct conf_program *program, void *settings,
                      const struct command_line *line, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < program->n_options && rc == 0; i++) {
        const struct conf_option *o = &program->options[i];
        if (o->initial)
            rc = conf_value_store(o, settings, o->initial, o->name, ERR_INTERNAL, err);
        assert(rc != ERR_INTERNAL);
    }
    if (rc == 0 && line->config)
        rc = conf_read_file(program, settings, line->config, err);
    else if (rc == 0 && program->file && access(program->file, F_OK) == 0)
        rc = conf_read_file(program, settings, program->file, err);
    if (rc == 0)
        rc = conf_apply_environment(program, settings, err);
    for (size_t i = 0; i < program->n_options && rc == 0; i++) {
        const struct conf_option *o = &program->options[i];
        char where[80];
        snprintf(where, sizeof where, "--%s", o->name);
        if (line->texts[i])
            rc = conf_value_store(o, settings, line->texts[i], where, ERR_USAGE, err);
    }
    return rc;
}

int conf_read(const struct conf_program *program, void *settings, int argc, char **argv,
              const char **ret_positionals, int *ret_n_positionals, enum conf_outcome *ret_outcome,
              struct err *err)
{
    struct command_line line = {0};
    line.texts = calloc(program->n_options + 1, sizeof *line.texts);
    if (!line.texts)
        return err_set(err, ERR_MEMORY, "no memory for the command line");
    int n_positionals = 0;
    int rc = conf_read_arguments(program, &line, argc, argv, ret_positionals, &n_positionals, err);
    if (rc == 0 && !line.answered)
        rc = conf_apply(program, settings, &line, err);
    if (rc == 0 && !line.answered && line.print_config)
        conf_print_settings(program, settings);
    if (rc == 0) {
        if (ret_n_positionals)
            *ret_n_positionals = n_positionals;
        *ret_outcome = line.answered || line.print_config ? CONF_EXIT : CONF_RUN;
    }
    free(line.texts);
    return rc;
}

void conf_clear(const struct conf_program *program, void *settings)
{
    for (size_t i = 0; i < program->n_options; i++) {
        if (program->options[i].type != CONF_STRING)
            continue;
        char **field = (char **)((char *)settings + program->options[i].offset);
        free(*field);
        *field = NULL;
    }
}

int conf_endpoint(const char *text, char *ret_host, int *ret_port, struct err *err)
{
    const char *host = text, *colon = strrchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0;
    bool bracketed = length >= 2 && text[0] == '[' && colon[-1] == ']';
    if (bracketed) {
        host++;
        length -= 2;
    }
    if (!length || length > 255 || (!bracketed && memchr(host, ':', length)))
        return err_set(err, ERR_USAGE,
                       "\"%.80s\" is not HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080", text);
    char *end;
    errno = 0;
    long port = strtol(colon + 1, &end, 10);
    if (!isdigit((unsigned char)colon[1]) || *end || errno || port > 65535)
        return err_set(err, ERR_USAGE, "\"%.80s\": the port must be a number from 0 to 65535",
                       text);
    memcpy(ret_host, host, length);
    ret_host[length] = '\0';
    *ret_port = (int)port;
    return 0;
}

int conf_check_endpoint(const char *text, struct err *err)
{
    char host[256];
    int port;
    return conf_endpoint(text, host, &port, err);
}

int conf_check_numeric(const char *text, struct err *err)
{
    const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST};
    struct addrinfo *found = NULL;
    char host[256];
    int port, rc = conf_endpoint(text, host, &port, err);
    if (rc != 0 || !strcmp(host, "localhost"))
        return rc;
    if (getaddrinfo(host, NULL, &hints, &found) != 0)
        return err_set(err, ERR_USAGE, "'%.80s' is not a numeric address and a port", text);
    freeaddrinfo(found);
    return 0;
}

bool conf_host_is_loopback(const char *host)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (!strcmp(host, "localhost"))
        return true;
    if (inet_pton(AF_INET, host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}
