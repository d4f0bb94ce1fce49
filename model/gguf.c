#include "model/gguf.h"

#include "kernels/quant.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "values are used as they lie in the file");

/* Far above any model, far below what could hurt. */
enum {
    MAX_TENSORS = 1 << 20,
    MAX_ENTRIES = 1 << 20,
    MAX_STRINGS = 1 << 24, /* in one array; vocabularies have some 250,000 */
    MAX_KEY_BYTES = 65535, /* the specification's */
    MAX_NAME_BYTES = 255,
    MAX_ARRAY_DEPTH = 4,
    MIN_ALIGNMENT = 8, /* the specification's; so data[] of F32 tensors is aligned */
    DEFAULT_ALIGNMENT = 32
};

/* Where we are in the file. `failed` sentences need the path and the place. */
struct reader {
    const unsigned char *data;
    size_t size, at;
    const char *path;
    struct err *err;
};

struct text {
    const char *bytes; /* in the mapping, not NUL-terminated */
    size_t length;
};

static const unsigned char type_bytes[GGUF_TYPES] = {
    [GGUF_U8] = 1,     [GGUF_I8] = 1,  [GGUF_U16] = 2,  [GGUF_I16] = 2,    [GGUF_U32] = 4,
    [GGUF_I32] = 4,    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_STRING] = 8, /* at least */
    [GGUF_ARRAY] = 12,                                                     /* at least */
    [GGUF_U64] = 8,    [GGUF_I64] = 8, [GGUF_F64] = 8,
};

static bool utf8_is_valid(const char *text, size_t length)
{
    const unsigned char *s = (const unsigned char *)text;
    for (size_t i = 0; i < length;) {
        size_t more = s[i] < 0x80 ? 0 : s[i] < 0xC2 ? 4 : s[i] < 0xE0 ? 1 : s[i] < 0xF0 ? 2 : 3;
        if (more == 4 || s[i] > 0xF4 || more > length - i - 1)
            return false;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xC0) != 0x80)
                return false;
        /* overlong forms, surrogates, and what lies above U+10FFFF */
        if ((s[i] == 0xE0 && s[i + 1] < 0xA0) || (s[i] == 0xED && s[i + 1] > 0x9F) ||
            (s[i] == 0xF0 && s[i + 1] < 0x90) || (s[i] == 0xF4 && s[i + 1] > 0x8F))
            return false;
        i += more + 1;
    }
    return true;
}

const char *gguf_show(const char *name, size_t length, char to[GGUF_SHOWN_BYTES])
{
    size_t shown = length;
    if (shown > GGUF_SHOWN_BYTES - 4) {
        shown = GGUF_SHOWN_BYTES - 4;
        while (shown > 0 && (name[shown] & 0xC0) == 0x80)
            shown--; /* no half characters */
    }
    bool valid = utf8_is_valid(name, shown);
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)name[i];
        to[i] = c < 0x20 || c == 0x7F || (c >= 0x80 && !valid) ? '?' : name[i];
    }
    memcpy(to + shown, shown < length ? "..." : "", shown < length ? 4 : 1);
    return to;
}

static size_t reader_left(const struct reader *r)
{
    return r->size - r->at;
}

static int reader_cut(struct reader *r, const char *what)
{
    return err_set(r->err, ERR_MODEL,
                   "%s: the file ends inside %s (at byte %zu of %zu): it is truncated or damaged; "
                   "download it again",
                   r->path, what, r->at, r->size);
}

static int read_bytes(struct reader *r, size_t count, const char *what,
                      const unsigned char **ret_bytes)
{
    if (count > reader_left(r))
        return reader_cut(r, what);
    *ret_bytes = r->data + r->at;
    r->at += count;
    return 0;
}

static int read_u32(struct reader *r, const char *what, uint32_t *ret_value)
{
    const unsigned char *bytes = NULL;
    int rc = read_bytes(r, 4, what, &bytes);
    if (rc == 0)
        memcpy(ret_value, bytes, 4);
    return rc;
}

static int read_u64(struct reader *r, const char *what, uint64_t *ret_value)
{
    const unsigned char *bytes = NULL;
    int rc = read_bytes(r, 8, what, &bytes);
    if (rc == 0)
        memcpy(ret_value, bytes, 8);
    return rc;
}

static int read_text(struct reader *r, const char *what, struct text *ret_text)
{
    size_t start = r->at;
    uint64_t length = 0;
    int rc = read_u64(r, what, &length);
    if (rc != 0)
        return rc;
    if (length > reader_left(r))
        return err_set(
            r->err, ERR_MODEL,
            "%s: %s at byte %zu claims %llu bytes, but the file has only %zu more: it is "
            "truncated or damaged; download it again",
            r->path, what, start, (unsigned long long)length, reader_left(r));
    ret_text->bytes = (const char *)r->data + r->at;
    ret_text->length = (size_t)length;
    r->at += (size_t)length;
    return 0;
}

/* A key or a tensor's name: they become C strings, so they hold no NUL. */
static int read_name(struct reader *r, const char *what, size_t max_bytes, char **ret_name)
{
    size_t start = r->at;
    struct text name = {0};
    int rc = read_text(r, what, &name);
    if (rc != 0)
        return rc;
    if (name.length == 0 || name.length > max_bytes)
        return err_set(r->err, ERR_MODEL, "%s: %s at byte %zu has %zu bytes; 1 to %zu are allowed",
                       r->path, what, start, name.length, max_bytes);
    if (memchr(name.bytes, '\0', name.length) || !utf8_is_valid(name.bytes, name.length))
        return err_set(r->err, ERR_MODEL,
                       "%s: %s at byte %zu is not UTF-8 text: the file is damaged", r->path, what,
                       start);
    char *copy = malloc(name.length + 1);
    if (!copy)
        return err_set(r->err, ERR_MEMORY, "%s: no memory for its index", r->path);
    memcpy(copy, name.bytes, name.length);
    copy[name.length] = '\0';
    *ret_name = copy;
    return 0;
}

static int read_type(struct reader *r, const char *key, enum gguf_type *ret_type)
{
    size_t start = r->at;
    uint32_t type = 0;
    int rc = read_u32(r, "the type of a metadata value", &type);
    if (rc != 0)
        return rc;
    char shown[GGUF_SHOWN_BYTES];
    if (type >= GGUF_TYPES)
        return err_set(r->err, ERR_MODEL,
                       "%s: metadata key '%s' (byte %zu) has value type %u, which GGUF does not "
                       "define: the file is damaged",
                       r->path, gguf_show(key, strlen(key), shown), start, (unsigned)type);
    *ret_type = (enum gguf_type)type;
    return 0;
}

/* Copies `count` strings into one block, so that each has its NUL. Every one takes at least eight
 * bytes of the file, which bounds the table of starts. */
static int read_strings(struct reader *r, struct gguf_entry *entry)
{
    size_t count = (size_t)entry->count, first = r->at, total = 0;
    char shown[GGUF_SHOWN_BYTES];
    gguf_show(entry->key, strlen(entry->key), shown);
    if (count > MAX_STRINGS)
        return err_set(r->err, ERR_MODEL,
                       "%s: metadata key '%s' has %zu strings; at most %d are read", r->path, shown,
                       count, (int)MAX_STRINGS);
    for (size_t i = 0; i < count; i++) {
        struct text text = {0};
        int rc = read_text(r, "a metadata string", &text);
        if (rc != 0)
            return rc;
        if (!utf8_is_valid(text.bytes, text.length))
            return err_set(r->err, ERR_MODEL,
                           "%s: metadata key '%s': string %zu is not UTF-8: the file is damaged",
                           r->path, shown, i);
        total += text.length + 1;
    }
    entry->text = malloc(total + 1);
    entry->starts = malloc((count + 1) * sizeof *entry->starts);
    if (!entry->text || !entry->starts)
        return err_set(r->err, ERR_MEMORY, "%s: no memory for the strings of '%s'", r->path, shown);
    r->at = first;
    size_t to = 0;
    for (size_t i = 0; i < count; i++) {
        struct text text = {0};
        int rc = read_text(r, "a metadata string", &text);
        if (rc != 0)
            return rc;
        entry->starts[i] = to;
        memcpy(entry->text + to, text.bytes, text.length);
        to += text.length;
        entry->text[to++] = '\0';
    }
    entry->starts[count] = to;
    return 0;
}

/* Walks over an array of arrays. Each inner one takes twelve bytes at least, so the walk is bounded
 * by the file; the depth is bounded because the walk recurses. */
static int skip_arrays(struct reader *r, const char *key, uint64_t count, int depth)
{
    char shown[GGUF_SHOWN_BYTES];
    if (depth > MAX_ARRAY_DEPTH)
        return err_set(r->err, ERR_MODEL, "%s: metadata key '%s' nests arrays more than %d deep",
                       r->path, gguf_show(key, strlen(key), shown), (int)MAX_ARRAY_DEPTH);
    for (uint64_t i = 0; i < count; i++) {
        enum gguf_type type = GGUF_U8;
        uint64_t inner = 0;
        int rc = read_type(r, key, &type);
        if (rc == 0)
            rc = read_u64(r, "an array", &inner);
        if (rc != 0)
            return rc;
        if (inner > reader_left(r) / type_bytes[type])
            return reader_cut(r, "an array");
        if (type == GGUF_ARRAY) {
            rc = skip_arrays(r, key, inner, depth + 1);
        } else if (type == GGUF_STRING) {
            struct text text = {0};
            for (uint64_t k = 0; rc == 0 && k < inner; k++)
                rc = read_text(r, "a metadata string", &text);
        } else {
            r->at += (size_t)inner * type_bytes[type];
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int read_value(struct reader *r, struct gguf_entry *entry)
{
    char shown[GGUF_SHOWN_BYTES];
    gguf_show(entry->key, strlen(entry->key), shown);
    int rc = read_type(r, entry->key, &entry->type);
    if (rc != 0)
        return rc;
    entry->count = 1;
    entry->is_array = entry->type == GGUF_ARRAY;
    if (entry->is_array) {
        rc = read_type(r, entry->key, &entry->type);
        if (rc == 0)
            rc = read_u64(r, "an array", &entry->count);
        if (rc != 0)
            return rc;
    }
    if (entry->count > reader_left(r) / type_bytes[entry->type])
        return err_set(r->err, ERR_MODEL,
                       "%s: metadata key '%s' claims %llu elements, more than the %zu bytes that "
                       "follow can hold: the file is truncated or damaged; download it again",
                       r->path, shown, (unsigned long long)entry->count, reader_left(r));
    if (entry->type == GGUF_STRING)
        return read_strings(r, entry);
    if (entry->type == GGUF_ARRAY)
        return skip_arrays(r, entry->key, entry->count, 2);
    entry->values = r->data + r->at;
    r->at += (size_t)entry->count * type_bytes[entry->type];
    if (entry->type == GGUF_BOOL)
        for (uint64_t i = 0; i < entry->count; i++)
            if (entry->values[i] > 1)
                return err_set(r->err, ERR_MODEL,
                               "%s: metadata key '%s' holds the boolean %d: the file is damaged",
                               r->path, shown, entry->values[i]);
    return 0;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct gguf_entry *)a)->key, ((const struct gguf_entry *)b)->key);
}

/* Makes room for one more; doubles, so that no count from the file decides an allocation. */
static bool grow(void **items, size_t n, size_t *capacity, size_t item_bytes)
{
    if (n < *capacity)
        return true;
    size_t wanted = *capacity ? 2 * *capacity : 64;
    void *larger = realloc(*items, wanted * item_bytes);
    if (!larger)
        return false;
    *items = larger;
    *capacity = wanted;
    return true;
}

static int read_entries(struct reader *r, struct gguf *g, uint64_t count)
{
    size_t capacity = 0;
    for (uint64_t i = 0; i < count; i++) {
        void *items = g->entries;
        if (!grow(&items, g->n_entries, &capacity, sizeof *g->entries))
            return err_set(r->err, ERR_MEMORY, "%s: no memory for its metadata", r->path);
        g->entries = items;
        struct gguf_entry *entry = &g->entries[g->n_entries];
        *entry = (struct gguf_entry){0};
        int rc = read_name(r, "a metadata key", MAX_KEY_BYTES, &entry->key);
        if (rc != 0)
            return rc;
        g->n_entries++; /* from here on gguf_clear() frees it */
        rc = read_value(r, entry);
        if (rc != 0)
            return rc;
    }
    if (g->n_entries)
        qsort(g->entries, g->n_entries, sizeof *g->entries, compare_keys);
    for (size_t i = 1; i < g->n_entries; i++) {
        char shown[GGUF_SHOWN_BYTES];
        const char *key = g->entries[i].key;
        if (strcmp(g->entries[i - 1].key, key) == 0)
            return err_set(r->err, ERR_MODEL,
                           "%s: metadata key '%s' appears twice: the file is damaged", r->path,
                           gguf_show(key, strlen(key), shown));
    }
    return 0;
}

static int refuse_type(struct reader *r, const char *shown, uint32_t type)
{
    const char *name = type <= INT32_MAX ? quant_type_name((int)type) : NULL;
    if (!name)
        return err_set(
            r->err, ERR_MODEL,
            "%s: tensor '%s' has type number %u, which GGUF does not define: the file is "
            "damaged or newer than this program",
            r->path, shown, (unsigned)type);
    char list[320] = "";
    size_t length = 0;
    for (int t = 0; t < 64 && length < sizeof list; t++)
        if (quant_type_is_supported(t))
            length += (size_t)snprintf(list + length, sizeof list - length, "%s%s",
                                       length ? ", " : "", quant_type_name(t));
    return err_set(
        r->err, ERR_MODEL,
        "%s: tensor '%s' is of type %s, which this version cannot compute with; choose a "
        "file with types out of: %s",
        r->path, shown, name, list);
}

/* Shape and type to bytes, without wrapping. */
static int check_tensor(struct reader *r, struct tensor *t, uint32_t type)
{
    char shown[GGUF_SHOWN_BYTES];
    gguf_show(t->name, strlen(t->name), shown);
    if (type > INT32_MAX || !quant_type_is_supported((int)type))
        return refuse_type(r, shown, type);
    t->type = (int)type;
    int64_t elements = 1;
    for (int d = 0; d < TENSOR_DIMENSIONS; d++)
        if (t->dims[d] <= 0 || __builtin_mul_overflow(elements, t->dims[d], &elements))
            return err_set(r->err, ERR_MODEL,
                           "%s: tensor '%s' has an impossible size in dimension %d: the file is "
                           "damaged",
                           r->path, shown, d);
    int64_t block = quant_block_elements(t->type);
    if (t->dims[0] % block != 0)
        return err_set(
            r->err, ERR_MODEL,
            "%s: tensor '%s' has rows of %lld elements, which blocks of %lld (%s) do not "
            "fill: the file is damaged",
            r->path, shown, (long long)t->dims[0], (long long)block, quant_type_name(t->type));
    if (__builtin_mul_overflow((size_t)(elements / block), (size_t)quant_block_bytes(t->type),
                               &t->bytes))
        return err_set(r->err, ERR_MODEL, "%s: tensor '%s' is larger than any memory: damaged",
                       r->path, shown);
    return 0;
}

/* t->data stays NULL + offset until the place of the data is known. */
static int read_tensor(struct reader *r, struct tensor *t, uint64_t *ret_offset)
{
    char shown[GGUF_SHOWN_BYTES];
    gguf_show(t->name, strlen(t->name), shown);
    uint32_t n_dims = 0, type = 0;
    int rc = read_u32(r, "the description of a tensor", &n_dims);
    if (rc != 0)
        return rc;
    if (n_dims < 1 || n_dims > TENSOR_DIMENSIONS)
        return err_set(
            r->err, ERR_MODEL,
            "%s: tensor '%s' has %u dimensions; 1 to %d are allowed: the file is damaged", r->path,
            shown, (unsigned)n_dims, TENSOR_DIMENSIONS);
    t->n_dims = (int)n_dims;
    for (int d = 0; d < TENSOR_DIMENSIONS; d++) {
        uint64_t size = 1;
        if (d < t->n_dims)
            rc = read_u64(r, "the shape of a tensor", &size);
        if (rc != 0)
            return rc;
        t->dims[d] = size > INT64_MAX ? -1 : (int64_t)size; /* check_tensor() refuses -1 */
    }
    rc = read_u32(r, "the type of a tensor", &type);
    if (rc == 0)
        rc = read_u64(r, "the offset of a tensor", ret_offset);
    if (rc == 0)
        rc = check_tensor(r, t, type);
    return rc;
}

static int read_tensors(struct reader *r, struct gguf *g, uint64_t count, uint64_t **ret_offsets)
{
    size_t capacity = 0, offsets_capacity = 0;
    for (uint64_t i = 0; i < count; i++) {
        void *tensors = g->tensors, *offsets = *ret_offsets;
        bool ok = grow(&tensors, g->n_tensors, &capacity, sizeof *g->tensors);
        g->tensors = tensors;
        ok = ok && grow(&offsets, g->n_tensors, &offsets_capacity, sizeof **ret_offsets);
        *ret_offsets = offsets;
        if (!ok)
            return err_set(r->err, ERR_MEMORY, "%s: no memory for its index", r->path);
        struct tensor *t = &g->tensors[g->n_tensors];
        *t = (struct tensor){0};
        char *name = NULL;
        int rc = read_name(r, "the name of a tensor", MAX_NAME_BYTES, &name);
        if (rc != 0)
            return rc;
        t->name = name;
        g->n_tensors++; /* from here on gguf_clear() frees it */
        rc = read_tensor(r, t, &(*ret_offsets)[i]);
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int read_alignment(struct reader *r, const struct gguf *g, size_t *ret_alignment)
{
    const struct gguf_entry *entry = gguf_find(g, "general.alignment");
    int64_t value = DEFAULT_ALIGNMENT;
    if (entry && (entry->is_array || !gguf_integer(entry, 0, &value)))
        return err_set(r->err, ERR_MODEL, "%s: general.alignment is not an integer: damaged",
                       r->path);
    if (value < MIN_ALIGNMENT || value > INT32_MAX || (value & (value - 1)) != 0)
        return err_set(r->err, ERR_MODEL,
                       "%s: general.alignment is %lld; it must be a power of two from %d on: the "
                       "file is damaged",
                       r->path, (long long)value, (int)MIN_ALIGNMENT);
    *ret_alignment = (size_t)value;
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a;
    const struct tensor *y = *(const struct tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

static int check_overlap(struct reader *r, const struct gguf *g)
{
    const struct tensor **sorted = malloc((g->n_tensors + 1) * sizeof *sorted);
    if (!sorted)
        return err_set(r->err, ERR_MEMORY, "%s: no memory for its index", r->path);
    for (size_t i = 0; i < g->n_tensors; i++)
        sorted[i] = &g->tensors[i];
    qsort(sorted, g->n_tensors, sizeof *sorted, compare_places);
    int rc = 0;
    for (size_t i = 1; rc == 0 && i < g->n_tensors; i++) {
        const struct tensor *a = sorted[i - 1], *b = sorted[i];
        char shown_a[GGUF_SHOWN_BYTES], shown_b[GGUF_SHOWN_BYTES];
        if ((const unsigned char *)b->data - (const unsigned char *)a->data < (ptrdiff_t)a->bytes)
            rc = err_set(r->err, ERR_MODEL,
                         "%s: tensors '%s' and '%s' share bytes: the file is damaged", r->path,
                         gguf_show(a->name, strlen(a->name), shown_a),
                         gguf_show(b->name, strlen(b->name), shown_b));
    }
    free(sorted);
    return rc;
}

/* Header done: offsets become addresses, each range checked against the file. */
static int place_tensors(struct reader *r, struct gguf *g, const uint64_t *offsets)
{
    size_t alignment = DEFAULT_ALIGNMENT;
    int rc = read_alignment(r, g, &alignment);
    if (rc != 0)
        return rc;
    uint64_t start = (r->at + alignment - 1) / alignment * alignment; /* far from wrapping */
    uint64_t needed = g->n_tensors ? start : r->at;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const struct tensor *t = &g->tensors[i];
        char shown[GGUF_SHOWN_BYTES];
        gguf_show(t->name, strlen(t->name), shown);
        uint64_t end;
        if (offsets[i] % alignment != 0)
            return err_set(r->err, ERR_MODEL,
                           "%s: tensor '%s' begins at offset %llu, not a multiple of %zu: the file "
                           "is damaged",
                           r->path, shown, (unsigned long long)offsets[i], alignment);
        if (__builtin_add_overflow(start, offsets[i], &end) ||
            __builtin_add_overflow(end, (uint64_t)t->bytes, &end) || end > INT64_MAX)
            return err_set(r->err, ERR_MODEL,
                           "%s: tensor '%s' begins at offset %llu, beyond any file: damaged",
                           r->path, shown, (unsigned long long)offsets[i]);
        needed = end > needed ? end : needed;
    }
    if (needed > r->size)
        return err_set(r->err, ERR_MODEL,
                       "%s: truncated: its tensors need %llu bytes, the file has %zu; download it "
                       "again",
                       r->path, (unsigned long long)needed, r->size);
    for (size_t i = 0; i < g->n_tensors; i++)
        g->tensors[i].data = r->data + start + offsets[i];
    return check_overlap(r, g);
}

static int read_header(struct reader *r, uint64_t *ret_n_tensors, uint64_t *ret_n_entries)
{
    const unsigned char *magic;
    uint32_t version = 0;
    if (r->size == 0)
        return err_set(r->err, ERR_MODEL, "%s: the file is empty; download it again", r->path);
    if (r->size < 4 || memcmp(r->data, "GGUF", 4) != 0)
        return err_set(r->err, ERR_MODEL,
                       "%s: not a GGUF file (its first bytes are not \"GGUF\"); a model in GGUF "
                       "format is needed",
                       r->path);
    int rc = read_bytes(r, 4, "its header", &magic);
    if (rc == 0)
        rc = read_u32(r, "its header", &version);
    if (rc != 0)
        return rc;
    if ((version & 0xFFFF) == 0 && version != 0)
        return err_set(r->err, ERR_MODEL,
                       "%s: a big-endian GGUF file; take the little-endian one, or convert it",
                       r->path);
    if (version < 2 || version > 3)
        return err_set(r->err, ERR_MODEL,
                       "%s: GGUF version %u; versions 2 and 3 are read: convert it again", r->path,
                       (unsigned)version);
    rc = read_u64(r, "its header", ret_n_tensors);
    if (rc == 0)
        rc = read_u64(r, "its header", ret_n_entries);
    if (rc != 0)
        return rc;
    if (*ret_n_tensors > MAX_TENSORS || *ret_n_entries > MAX_ENTRIES)
        return err_set(r->err, ERR_MODEL,
                       "%s: the header announces %llu tensors and %llu metadata entries, more than "
                       "the %d that any model has: the file is damaged; download it again",
                       r->path, (unsigned long long)*ret_n_tensors,
                       (unsigned long long)*ret_n_entries, (int)MAX_TENSORS);
    return 0;
}

int gguf_parse(struct gguf *ret_gguf, const unsigned char *data, size_t size, const char *path,
               struct err *err)
{
    struct reader r = {.data = data, .size = size, .path = path, .err = err};
    struct gguf g = {0};
    uint64_t n_tensors = 0, n_entries = 0, *offsets = NULL;
    int rc = read_header(&r, &n_tensors, &n_entries);
    if (rc == 0)
        rc = read_entries(&r, &g, n_entries);
    if (rc == 0)
        rc = read_tensors(&r, &g, n_tensors, &offsets);
    if (rc == 0)
        rc = place_tensors(&r, &g, offsets);
    free(offsets);
    if (rc != 0)
        gguf_clear(&g);
    *ret_gguf = g;
    return rc;
}

void gguf_clear(struct gguf *g)
{
    for (size_t i = 0; i < g->n_entries; i++) {
        free(g->entries[i].key);
        free(g->entries[i].text);
        free(g->entries[i].starts);
    }
    for (size_t i = 0; i < g->n_tensors; i++)
        free((char *)g->tensors[i].name);
    free(g->entries);
    free(g->tensors);
    *g = (struct gguf){0};
}

const struct gguf_entry *gguf_find(const struct gguf *g, const char *key)
{
    size_t low = 0, high = g->n_entries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(key, g->entries[middle].key);
        if (order == 0)
            return &g->entries[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* Copies a number out of the mapping, where nothing is aligned. */
#define VALUE_AS(type, entry, index)                                                               \
    ({                                                                                             \
        type value_;                                                                               \
        memcpy(&value_, (entry)->values + (size_t)(index) * sizeof value_, sizeof value_);         \
        value_;                                                                                    \
    })

bool gguf_integer(const struct gguf_entry *entry, uint64_t index, int64_t *ret_value)
{
    if (!entry->values || index >= entry->count)
        return false;
    switch (entry->type) {
    case GGUF_U8:
        *ret_value = VALUE_AS(uint8_t, entry, index);
        return true;
    case GGUF_I8:
        *ret_value = VALUE_AS(int8_t, entry, index);
        return true;
    case GGUF_U16:
        *ret_value = VALUE_AS(uint16_t, entry, index);
        return true;
    case GGUF_I16:
        *ret_value = VALUE_AS(int16_t, entry, index);
        return true;
    case GGUF_U32:
        *ret_value = VALUE_AS(uint32_t, entry, index);
        return true;
    case GGUF_I32:
        *ret_value = VALUE_AS(int32_t, entry, index);
        return true;
    case GGUF_I64:
        *ret_value = VALUE_AS(int64_t, entry, index);
        return true;
    case GGUF_U64: {
        uint64_t value = VALUE_AS(uint64_t, entry, index);
        if (value > INT64_MAX)
            return false;
        *ret_value = (int64_t)value;
        return true;
    }
    default:
        return false;
    }
}

bool gguf_real(const struct gguf_entry *entry, uint64_t index, double *ret_value)
{
    int64_t integer;
    if (gguf_integer(entry, index, &integer)) {
        *ret_value = (double)integer;
        return true;
    }
    if (!entry->values || index >= entry->count)
        return false;
    if (entry->type == GGUF_F32)
        *ret_value = VALUE_AS(float, entry, index);
    else if (entry->type == GGUF_F64)
        *ret_value = VALUE_AS(double, entry, index);
    else
        return false;
    return true;
}

bool gguf_boolean(const struct gguf_entry *entry, uint64_t index, bool *ret_value)
{
    if (entry->type != GGUF_BOOL || index >= entry->count)
        return false;
    *ret_value = entry->values[index] != 0;
    return true;
}

const char *gguf_string(const struct gguf_entry *entry, uint64_t index, size_t *ret_length)
{
    if (entry->type != GGUF_STRING || index >= entry->count)
        return NULL;
    const char *text = entry->text + entry->starts[index];
    size_t length = entry->starts[index + 1] - entry->starts[index] - 1;
    if (ret_length)
        *ret_length = length;
    else if (memchr(text, '\0', length))
        return NULL; /* the caller would see half of it */
    return text;
}
