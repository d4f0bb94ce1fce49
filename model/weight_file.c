#include "model/weight_file.h"

#include "kernels/quant.h"
#include "model/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_PARTS = 4096 };

struct part {
    struct weight_part about; /* about.path is ours */
    unsigned char *data;
    size_t size;
    struct gguf gguf;
};

struct weight_file {
    struct part *parts;
    size_t n_parts;
    const struct tensor **tensors; /* of all parts, in order */
    const struct tensor **by_name; /* the same, sorted */
    size_t n_tensors;
    int64_t bytes;
    struct weight_hooks hooks; /* of one that is put together; provide NULL: mapped */
};

/* NAME-00002-of-00003.gguf: position of the digits, and what they say. */
struct set_name {
    size_t stem_length; /* of "…/NAME" */
    int number, count;  /* 1-based */
};

#define SET_SUFFIX_LENGTH 20

static bool set_name_parse(const char *path, struct set_name *ret_name)
{
    size_t length = strlen(path);
    if (length <= SET_SUFFIX_LENGTH)
        return false;
    const char *suffix = path + length - SET_SUFFIX_LENGTH;
    static const char shape[] = "-#####-of-#####.gguf";
    int numbers[2] = {0, 0};
    for (int i = 0; i < SET_SUFFIX_LENGTH; i++) {
        if (shape[i] != '#') {
            if (suffix[i] != shape[i])
                return false;
            continue;
        }
        if (suffix[i] < '0' || suffix[i] > '9')
            return false;
        int *number = &numbers[i > 6];
        *number = *number * 10 + (suffix[i] - '0');
    }
    ret_name->stem_length = length - SET_SUFFIX_LENGTH;
    ret_name->number = numbers[0];
    ret_name->count = numbers[1];
    return numbers[0] >= 1 && numbers[0] <= numbers[1];
}

/* to: a copy of path, whose number becomes another. */
static void set_name_of_part(const char *path, const struct set_name *name, int number, char *to)
{
    strcpy(to, path);
    for (int digit = 5; digit >= 1; digit--, number /= 10)
        to[name->stem_length + (size_t)digit] = (char)('0' + number % 10);
}

static int part_map(struct part *part, const char *path, struct err *err)
{
    /* O_NONBLOCK: a FIFO must not keep us waiting for a writer */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s: cannot open the model file: %s", path, strerror(errno));
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st) < 0)
        rc = err_set(err, ERR_IO, "%s: cannot examine the model file: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode))
        rc = err_set(err, ERR_MODEL, "%s: %s, not a file; name a model file (.gguf)", path,
                     S_ISDIR(st.st_mode) ? "a directory" : "a device or pipe");
    else if (st.st_size == 0)
        rc = err_set(err, ERR_MODEL, "%s: the file is empty; download it again", path);
    if (rc == 0) {
        /* Shared: pages belong to the page cache alone, for all processes on this machine. Normal
         * readahead: a load reads tensor by tensor, and prefetch says so in time; the embedding
         * is read row by row afterwards. */
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED)
            rc =
                err_set(err, errno == ENOMEM ? ERR_MEMORY : ERR_IO, "%s: cannot map %lld bytes: %s",
                        path, (long long)st.st_size, strerror(errno));
        else
            part->data = data;
    }
    close(fd); /* the mapping stays */
    if (rc < 0)
        return rc;
    part->size = (size_t)st.st_size;
    part->about = (struct weight_part){.bytes = st.st_size,
                                       .device = st.st_dev,
                                       .inode = st.st_ino,
                                       .changed_s = st.st_ctim.tv_sec,
                                       .changed_ns = st.st_ctim.tv_nsec};
    part->about.path = strdup(path);
    if (!part->about.path)
        return err_set(err, ERR_MEMORY, "%s: no memory for its index", path);
    return 0;
}

static int part_open(struct part *part, const char *path, struct err *err)
{
    int rc = part_map(part, path, err);
    if (rc == 0)
        rc = gguf_parse(&part->gguf, part->data, part->size, path, err);
    return rc;
}

static void part_close(struct part *part)
{
    gguf_clear(&part->gguf);
    if (part->data)
        munmap(part->data, part->size);
    free((char *)part->about.path);
    *part = (struct part){0};
}

static bool part_integer(const struct part *part, const char *key, int64_t *ret_value)
{
    const struct gguf_entry *entry = gguf_find(&part->gguf, key);
    return entry && !entry->is_array && gguf_integer(entry, 0, ret_value);
}

/* What a part says of the set it belongs to must be what its name says. */
static int part_check_split(const struct part *part, int number, int count, struct err *err)
{
    int64_t no, of;
    const char *path = part->about.path;
    if (!part_integer(part, "split.no", &no) || !part_integer(part, "split.count", &of))
        return err_set(err, ERR_MODEL,
                       "%s: named part %d of %d, but without split.no and split.count inside; give "
                       "the file another name if it is a whole model",
                       path, number, count);
    if (no != number - 1 || of != count)
        return err_set(err, ERR_MODEL,
                       "%s: named part %d of %d, but inside it is part %lld of %lld: restore the "
                       "original names",
                       path, number, count, (long long)no + 1, (long long)of);
    return 0;
}

/* Opens the other parts around the one that is open already. */
static int open_set(struct weight_file *f, const char *path, const struct set_name *name,
                    struct err *err)
{
    if (name->count > MAX_PARTS)
        return err_set(err, ERR_MODEL, "%s: a set of %d files; at most %d are opened", path,
                       name->count, (int)MAX_PARTS);
    struct part *parts = calloc((size_t)name->count, sizeof *parts);
    char *other = malloc(strlen(path) + 1);
    if (!parts || !other) {
        free(parts);
        free(other);
        return err_set(err, ERR_MEMORY, "%s: no memory for its index", path);
    }
    parts[name->number - 1] = f->parts[0];
    free(f->parts);
    f->parts = parts;
    f->n_parts = (size_t)name->count;
    int rc = 0;
    for (int number = 1; rc == 0 && number <= name->count; number++) {
        struct part *part = &parts[number - 1];
        set_name_of_part(path, name, number, other);
        if (number != name->number)
            rc = part_open(part, other, err);
        if (rc == ERR_IO && access(other, F_OK) < 0)
            rc = err_set(err, ERR_MODEL, "%s: part %d of %d is missing: download it, too", other,
                         number, name->count);
        if (rc == 0)
            rc = part_check_split(part, number, name->count, err);
    }
    free(other);
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp((*(const struct tensor *const *)a)->name,
                  (*(const struct tensor *const *)b)->name);
}

static int index_tensors(struct weight_file *f, struct err *err)
{
    size_t n = 0, at = 0;
    for (size_t p = 0; p < f->n_parts; p++) {
        n += f->parts[p].gguf.n_tensors;
        f->bytes += f->parts[p].about.bytes;
    }
    f->tensors = calloc(n + 1, sizeof *f->tensors);
    f->by_name = calloc(n + 1, sizeof *f->by_name);
    if (!f->tensors || !f->by_name)
        return err_set(err, ERR_MEMORY, "%s: no memory for its index", weight_file_path(f));
    for (size_t p = 0; p < f->n_parts; p++)
        for (size_t i = 0; i < f->parts[p].gguf.n_tensors; i++)
            f->tensors[at++] = &f->parts[p].gguf.tensors[i];
    memcpy(f->by_name, f->tensors, n * sizeof *f->tensors);
    qsort(f->by_name, n, sizeof *f->by_name, compare_names);
    f->n_tensors = n;
    for (size_t i = 1; i < n; i++) {
        const char *name = f->by_name[i]->name;
        char shown[GGUF_SHOWN_BYTES];
        if (strcmp(f->by_name[i - 1]->name, name) == 0)
            return err_set(err, ERR_MODEL, "%s: tensor '%s' is there twice: the file is damaged",
                           weight_file_path(f), gguf_show(name, strlen(name), shown));
    }
    int64_t expected;
    if (weight_file_integer(f, "split.tensors.count", &expected) && f->n_parts > 1 &&
        expected != (int64_t)n)
        return err_set(err, ERR_MODEL,
                       "%s: the set should hold %lld tensors, its %zu parts hold %zu: parts of "
                       "different sets; download them again",
                       weight_file_path(f), (long long)expected, f->n_parts, n);
    return 0;
}

static int open_parts(struct weight_file *f, const char *path, struct err *err)
{
    f->parts = calloc(1, sizeof *f->parts);
    if (!f->parts)
        return err_set(err, ERR_MEMORY, "%s: no memory for its index", path);
    f->n_parts = 1;
    int rc = part_open(&f->parts[0], path, err);
    if (rc < 0)
        return rc;
    struct set_name name = {0};
    int64_t count = 1;
    bool is_named = set_name_parse(path, &name);
    part_integer(&f->parts[0], "split.count", &count);
    if (is_named && (name.count > 1 || count > 1))
        return open_set(f, path, &name, err);
    if (count > 1)
        return err_set(
            err, ERR_MODEL,
            "%s: one of %lld parts, but its name does not end in -0000N-of-0000M.gguf, so "
            "the others cannot be found: restore the original names",
            path, (long long)count);
    return 0;
}

int weight_file_open(struct weight_file **ret_file, const char *path, struct err *err)
{
    struct weight_file *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, ERR_MEMORY, "%s: no memory for its index", path);
    int rc = open_parts(f, path, err);
    if (rc == 0)
        rc = index_tensors(f, err);
    if (rc == 0) {
        *ret_file = f;
        f = NULL;
    }
    weight_file_close(f);
    return rc;
}

void weight_file_close(struct weight_file *f)
{
    if (!f)
        return;
    if (f->hooks.close)
        f->hooks.close(f->hooks.context);
    for (size_t p = 0; p < f->n_parts; p++)
        part_close(&f->parts[p]);
    free(f->parts);
    free(f->tensors);
    free(f->by_name);
    free(f);
}

const char *weight_file_path(const struct weight_file *f)
{
    return f->parts[0].about.path;
}

int64_t weight_file_bytes(const struct weight_file *f)
{
    return f->bytes;
}

size_t weight_file_part_count(const struct weight_file *f)
{
    return f->n_parts;
}

const struct weight_part *weight_file_part(const struct weight_file *f, size_t index)
{
    return index < f->n_parts ? &f->parts[index].about : NULL;
}

size_t weight_file_tensor_count(const struct weight_file *f)
{
    return f->n_tensors;
}

const struct tensor *weight_file_tensor(const struct weight_file *f, size_t index)
{
    return index < f->n_tensors ? f->tensors[index] : NULL;
}

const struct tensor *weight_file_find(const struct weight_file *f, const char *name)
{
    struct tensor wanted = {.name = name};
    const struct tensor *key = &wanted;
    const struct tensor **found =
        bsearch(&key, f->by_name, f->n_tensors, sizeof *f->by_name, compare_names);
    return found ? *found : NULL;
}

static size_t index_of(const struct weight_file *f, const struct tensor *t)
{
    return (size_t)(t - f->parts[0].gguf.tensors);
}

void weight_file_release(const struct weight_file *f, const struct tensor *t)
{
    if (f->hooks.provide) {
        f->hooks.release(f->hooks.context, index_of(f, t));
        return;
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)t->data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)t->data + t->bytes) / page * page;
    /* whole pages only: those at the edges hold parts of other tensors */
    if (end > begin)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

void weight_file_prefetch(const struct weight_file *f, const struct tensor *t)
{
    (void)f;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = (uintptr_t)t->data / page * page;
    madvise((void *)begin, (uintptr_t)t->data + t->bytes - begin, MADV_WILLNEED);
}

int weight_file_provide(const struct weight_file *f, const struct tensor *t, struct err *err)
{
    if (!f->hooks.provide) {
        weight_file_prefetch(f, t);
        return 0;
    }
    size_t index = index_of(f, t);
    const void *data;
    int rc = f->hooks.provide(f->hooks.context, index, &data, err);
    if (rc == 0)
        f->parts[0].gguf.tensors[index].data = data; /* ours: *t is const for others */
    return rc;
}

bool weight_file_verifies(const struct weight_file *f)
{
    return f->hooks.provide != NULL;
}

/* Elements in a row, rows and bytes, none of which may wrap. */
static bool tensor_is_sound(const struct tensor *t)
{
    if (!quant_type_is_supported(t->type) || t->n_dims < 1 || t->n_dims > TENSOR_DIMENSIONS)
        return false;
    size_t rows = 1;
    for (int i = 0; i < TENSOR_DIMENSIONS; i++)
        if (t->dims[i] < 1 || t->dims[i] > INT32_MAX ||
            (i > 0 && __builtin_mul_overflow(rows, (size_t)t->dims[i], &rows)))
            return false;
    size_t bytes;
    return t->dims[0] % quant_block_elements(t->type) == 0 &&
           !__builtin_mul_overflow(rows, quant_row_bytes(t->type, t->dims[0]), &bytes) &&
           bytes == t->bytes;
}

static int assemble(struct weight_file *f, const char *title, const struct tensor *tensors,
                    size_t n_tensors, struct err *err)
{
    f->parts = calloc(1, sizeof *f->parts);
    struct part *part = f->parts;
    if (!part)
        return err_set(err, ERR_MEMORY, "%s: no memory for its index", title);
    f->n_parts = 1;
    part->about.path = strdup(title);
    part->gguf.tensors = calloc(n_tensors + 1, sizeof *part->gguf.tensors);
    if (!part->about.path || !part->gguf.tensors)
        return err_set(err, ERR_MEMORY, "%s: no memory for its index", title);
    for (size_t i = 0; i < n_tensors; i++) {
        struct tensor *t = &part->gguf.tensors[i];
        char shown[GGUF_SHOWN_BYTES];
        if (!tensor_is_sound(&tensors[i]))
            return err_set(err, ERR_MODEL,
                           "%s: tensor '%s' was described with a type, shape or size that do not "
                           "go together",
                           title, gguf_show(tensors[i].name, strlen(tensors[i].name), shown));
        *t = tensors[i];
        t->data = NULL;
        t->name = strdup(tensors[i].name);
        if (!t->name)
            return err_set(err, ERR_MEMORY, "%s: no memory for its index", title);
        part->gguf.n_tensors = i + 1;
        part->about.bytes += (int64_t)t->bytes;
    }
    return index_tensors(f, err);
}

int weight_file_assemble(struct weight_file **ret_file, const char *title,
                         const struct tensor *tensors, size_t n_tensors,
                         const struct weight_hooks *hooks, struct err *err)
{
    struct weight_file *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, ERR_MEMORY, "%s: no memory for its index", title);
    int rc = assemble(f, title, tensors, n_tensors, err);
    if (rc == 0) {
        f->hooks = *hooks;
        *ret_file = f;
        f = NULL;
    }
    weight_file_close(f);
    return rc;
}

static const struct gguf_entry *find_scalar(const struct weight_file *f, const char *key)
{
    const struct gguf_entry *entry = gguf_find(&f->parts[0].gguf, key);
    return entry && !entry->is_array ? entry : NULL;
}

/* A negative index, cast to uint64_t below, is a number that no count reaches. */
static const struct gguf_entry *find_array(const struct weight_file *f, const char *key)
{
    const struct gguf_entry *entry = gguf_find(&f->parts[0].gguf, key);
    return entry && entry->is_array && entry->type != GGUF_ARRAY ? entry : NULL;
}

bool weight_file_has(const struct weight_file *f, const char *key)
{
    return gguf_find(&f->parts[0].gguf, key) != NULL;
}

const char *weight_file_string(const struct weight_file *f, const char *key, size_t *ret_length)
{
    const struct gguf_entry *entry = find_scalar(f, key);
    return entry ? gguf_string(entry, 0, ret_length) : NULL;
}

bool weight_file_integer(const struct weight_file *f, const char *key, int64_t *ret_value)
{
    const struct gguf_entry *entry = find_scalar(f, key);
    return entry && gguf_integer(entry, 0, ret_value);
}

bool weight_file_real(const struct weight_file *f, const char *key, double *ret_value)
{
    const struct gguf_entry *entry = find_scalar(f, key);
    return entry && gguf_real(entry, 0, ret_value);
}

bool weight_file_boolean(const struct weight_file *f, const char *key, bool *ret_value)
{
    const struct gguf_entry *entry = find_scalar(f, key);
    return entry && gguf_boolean(entry, 0, ret_value);
}

int64_t weight_file_array_count(const struct weight_file *f, const char *key)
{
    const struct gguf_entry *entry = find_array(f, key);
    return entry ? (int64_t)entry->count : -1;
}

const char *weight_file_array_string(const struct weight_file *f, const char *key, int64_t index,
                                     size_t *ret_length)
{
    const struct gguf_entry *entry = find_array(f, key);
    return entry ? gguf_string(entry, (uint64_t)index, ret_length) : NULL;
}

bool weight_file_array_integer(const struct weight_file *f, const char *key, int64_t index,
                               int64_t *ret_value)
{
    const struct gguf_entry *entry = find_array(f, key);
    return entry && gguf_integer(entry, (uint64_t)index, ret_value);
}

bool weight_file_array_real(const struct weight_file *f, const char *key, int64_t index,
                            double *ret_value)
{
    const struct gguf_entry *entry = find_array(f, key);
    return entry && gguf_real(entry, (uint64_t)index, ret_value);
}
