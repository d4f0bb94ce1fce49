#include "model_set.h"

#include "kernels/quant.h"

#include <dirent.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const char *model_set_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static bool model_set_type_is_supported(const char *name)
{
    for (int type = 0; type < 64; type++)
        if (quant_type_is_supported(type) && strcmp(quant_type_name(type), name) == 0)
            return true;
    return false;
}

/* false when a type is unknown to the kernels. */
static bool model_set_check_types(const json_t *types, bool *ret_is_float)
{
    size_t index;
    json_t *type;
    *ret_is_float = true;
    json_array_foreach(types, index, type)
    {
        const char *name = json_string_value(type);
        if (!name || !model_set_type_is_supported(name))
            return false;
        if (name[0] != 'F' && name[0] != 'B') /* F32, F16, BF16 */
            *ret_is_float = false;
    }
    return true;
}

/* Adds one file, if it is there. */
static size_t model_set_add(struct model_entry *to, size_t n, const char *folder,
                            const json_t *model, const json_t *about, const char *file)
{
    struct model_entry e = {.name = ""};
    if (n == MODEL_SET_SIZE || !model_set_check_types(json_object_get(about, "types"), &e.is_float))
        return n;
    snprintf(e.name, sizeof e.name, "%s %s%s", model_set_text(model, "name"),
             model_set_text(about, "kind"), strstr(file, "split") ? " in parts" : "");
    snprintf(e.path, sizeof e.path, "%s/%s", folder, file);
    snprintf(e.golden, sizeof e.golden, "%s/%s", folder, model_set_text(about, "golden"));
    if (access(e.path, R_OK) != 0)
        return n;
    to[n] = e;
    return n + 1;
}

static size_t model_set_read_model(struct model_entry *to, size_t n, const char *folder)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/model.json", folder);
    json_t *model = json_load_file(path, 0, NULL);
    if (!model)
        return n;
    const char *arch = model_set_text(model, "arch");
    const char *split = json_string_value(json_array_get(json_object_get(model, "gguf_split"), 0));
    size_t index;
    json_t *about;
    if (strcmp(arch, "qwen2") == 0 || strcmp(arch, "qwen3") == 0)
        json_array_foreach(json_object_get(model, "gguf"), index, about)
        {
            const char *kind = model_set_text(about, "kind");
            n = model_set_add(to, n, folder, model, about, model_set_text(about, "file"));
            if (split && strstr(split, kind))
                n = model_set_add(to, n, folder, model, about, split);
        }
    json_decref(model);
    return n;
}

static int model_set_compare(const void *a, const void *b)
{
    return strcmp(((const struct model_entry *)a)->name, ((const struct model_entry *)b)->name);
}

size_t model_set_read(struct model_entry to[MODEL_SET_SIZE])
{
    const char *oracle = getenv("PACELINE_ORACLE");
    char root[512];
    snprintf(root, sizeof root, "%s/models", oracle && *oracle ? oracle : TEST_DATA);
    DIR *d = opendir(root);
    if (!d)
        fail_msg("%s is not there", root);
    size_t n = 0;
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        char folder[900];
        snprintf(folder, sizeof folder, "%s/%s", root, e->d_name);
        if (e->d_name[0] != '.')
            n = model_set_read_model(to, n, folder);
    }
    closedir(d);
    qsort(to, n, sizeof *to, model_set_compare);
    if (n < 12)
        fail_msg("%s holds %zu usable models only", root, n);
    return n;
}
