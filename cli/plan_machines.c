#include "cli/plan_machines.h"

#include "cli/paths.h"

#include <jansson.h>
#include <libconfig.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a file ---- */

static int machines_fault(const config_setting_t *at, const char *path, const char *words,
                          struct err *err)
{
    return err_set(err, ERR_CONFIG, "%s:%u: %s", path, (unsigned)config_setting_source_line(at),
                   words);
}

static bool machines_know_key(const char *name)
{
    for (int f = 0; f < PLAN_FIGURES; f++)
        if (strcmp(name, plan_figure_rules[f].name) == 0)
            return true;
    return strcmp(name, "name") == 0;
}

static int machines_check_keys(const config_setting_t *group, const char *path, struct err *err)
{
    for (int i = 0; i < config_setting_length(group); i++) {
        const config_setting_t *member = config_setting_get_elem(group, (unsigned)i);
        const char *name = config_setting_name(member);
        if (!machines_know_key(name)) {
            char words[200];
            snprintf(words, sizeof words,
                     "unknown key \"%.40s\"; known are name, count, memory_gib, read_gb_per_s, "
                     "int8_gops, link_mbit_per_s, link_ms, threads",
                     name);
            return machines_fault(member, path, words, err);
        }
    }
    return 0;
}

static int machines_figure(const config_setting_t *group, const char *path, enum plan_figure f,
                           double *ret_value, struct err *err)
{
    const struct plan_figure_rule *rule = &plan_figure_rules[f];
    const config_setting_t *s = config_setting_get_member(group, rule->name);
    char words[160];
    if (!s) {
        *ret_value = rule->initial;
        snprintf(words, sizeof words, "the key \"%s\" is missing", rule->name);
        return isnan(rule->initial) ? machines_fault(group, path, words, err) : 0;
    }
    int type = config_setting_type(s);
    double value = type == CONFIG_TYPE_INT     ? config_setting_get_int(s)
                   : type == CONFIG_TYPE_INT64 ? (double)config_setting_get_int64(s)
                   : type == CONFIG_TYPE_FLOAT ? config_setting_get_float(s)
                                               : NAN;
    if (!plan_figure_fits(f, value)) {
        snprintf(words, sizeof words, "%s must be %s from %g to %g", rule->name,
                 rule->is_whole ? "an integer" : "a number", rule->least, rule->most);
        return machines_fault(s, path, words, err);
    }
    *ret_value = value;
    return 0;
}

static int machines_read_kind(struct plan_machine_kind *k, const config_setting_t *group,
                              const char *path, int number, struct err *err)
{
    const char *name = NULL;
    double figures[PLAN_FIGURES];
    int rc = config_setting_is_group(group)
                 ? machines_check_keys(group, path, err)
                 : machines_fault(group, path, "workers are groups in braces: { … }", err);
    for (int f = 0; rc == 0 && f < PLAN_FIGURES; f++)
        rc = machines_figure(group, path, (enum plan_figure)f, &figures[f], err);
    if (rc != 0)
        return rc;
    config_setting_lookup_string(group, "name", &name);
    plan_machine_describe(k, name, number, figures);
    return 0;
}

int plan_machines_read(struct plan_machines *ret_machines, const char *path, struct err *err)
{
    config_t c;
    *ret_machines = (struct plan_machines){0};
    config_init(&c);
    int rc = 0;
    if (!config_read_file(&c, path))
        rc = config_error_type(&c) == CONFIG_ERR_FILE_IO
                 ? err_set(err, ERR_CONFIG, "%s: it cannot be read", path)
                 : err_set(err, ERR_CONFIG, "%s:%d: %s", path, config_error_line(&c),
                           config_error_text(&c));
    const config_setting_t *list = rc == 0 ? config_lookup(&c, "workers") : NULL;
    int n = list ? config_setting_length(list) : 0;
    if (rc == 0 && (!list || !(config_setting_is_list(list) || config_setting_is_array(list)) ||
                    n < 1 || n > PLAN_MACHINE_KINDS))
        rc = err_set(
            err, ERR_CONFIG,
            "%s: it needs workers = ( { name = …; memory_gib = …; … }, … ), 1 to %d of them", path,
            PLAN_MACHINE_KINDS);
    for (int i = 0; rc == 0 && i < n; i++)
        rc = machines_read_kind(&ret_machines->kinds[ret_machines->n_kinds++],
                                config_setting_get_elem(list, (unsigned)i), path, i + 1, err);
    if (rc == 0 && plan_machines_count(ret_machines) > PLAN_MACHINES)
        rc = err_set(err, ERR_CONFIG, "%s: more than %d machines", path, PLAN_MACHINES);
    config_destroy(&c);
    return rc;
}

/* ---- this machine ---- */

static int machines_take(struct plan_machine_kind *k, const json_t *answer, struct err *err)
{
    const json_t *seconds = json_object_get(answer, "seconds");
    *k = (struct plan_machine_kind){
        .name = "this machine",
        .count = 1,
        .memory_bytes = json_number_value(json_object_get(answer, "memory_bytes")),
        .read_bytes = json_number_value(json_object_get(answer, "read_bytes_per_s")),
        .int8_ops = json_number_value(json_object_get(answer, "int8_ops_per_s")),
        .threads = (int)json_integer_value(json_object_get(answer, "threads")),
        .is_measured = true};
    k->speed.attend_s = json_number_value(json_object_get(answer, "attend_s"));
    k->speed.attend_many_s = json_number_value(json_object_get(answer, "attend_many_s"));
    if (json_array_size(seconds) != (PLAN_KINDS + 1) * PLAN_POINTS || !(k->memory_bytes > 0) ||
        !(k->read_bytes > 0) || !(k->int8_ops > 0) || k->threads < 1)
        return err_set(err, ERR_INTERNAL,
                       "paceline-worker --measure does not say what it measured");
    for (int i = 0; i < (PLAN_KINDS + 1) * PLAN_POINTS; i++)
        k->speed.seconds[i / PLAN_POINTS][i % PLAN_POINTS] =
            json_number_value(json_array_get(seconds, (size_t)i));
    return 0;
}

int plan_machines_measure(struct plan_machines *ret_machines, const char *model, const char *mix,
                          struct err *err)
{
    char *program = NULL, *command = NULL;
    *ret_machines = (struct plan_machines){.n_kinds = 1};
    int rc = paths_program(&program, "paceline-worker", err);
    /* Quoted, and what it quotes holds no quote. */
    if (rc == 0 && (strchr(program, '\'') || strchr(model, '\'')))
        rc = err_set(err, ERR_USAGE, "names with quotes are not supported here: %s", model);
    if (rc == 0)
        rc = paths_format(&command, err,
                          "'%s' --config /dev/null --measure '%s' --measure-quant '%s'", program,
                          model, mix);
    FILE *out = rc == 0 ? popen(command, "re") : NULL;
    if (rc == 0 && !out)
        rc = err_set(err, ERR_IO, "%s cannot be started", program);
    if (out) {
        json_error_t where;
        json_t *answer = json_loadf(out, 0, &where);
        int status = pclose(out);
        if (!answer || status != 0)
            rc = err_set(err, ERR_INTERNAL, "paceline-worker --measure failed");
        else
            rc = machines_take(&ret_machines->kinds[0], answer, err);
        json_decref(answer);
    }
    free(program);
    free(command);
    return rc;
}
