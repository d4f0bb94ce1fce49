/* weight_file.h - a model file: named tensors and metadata, mapped read-only.
 *
 * The container is GGUF v2 or v3 (gguf.c), one file or a split set named -00001-of-0000N.gguf;
 * safetensors will stand beside it. Every count, length and offset is checked before it is used. */
#ifndef PACELINE_MODEL_WEIGHT_FILE_H
#define PACELINE_MODEL_WEIGHT_FILE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TENSOR_DIMENSIONS 4

struct tensor {
    const char *name;
    int type; /* enum tensor_type of kernels/quant.h, always supported */
    int n_dims;
    int64_t
        dims[TENSOR_DIMENSIONS]; /* dims[0] = elements of a row (GGUF's order); unused ones: 1 */
    const void *data;            /* in the mapping; borrowed from the file */
    size_t bytes;
};

struct weight_file;
/* On failure (ERR_MODEL, ERR_IO, ERR_MEMORY) *ret_file is untouched and the sentence names path,
 * what is wrong and where. Naming any part of a split set opens all of it. Of a set, metadata is
 * the first part's. */
int weight_file_open(struct weight_file **ret_file, const char *path, struct err *err);
void weight_file_close(struct weight_file *f);             /* NULL is fine */
const char *weight_file_path(const struct weight_file *f); /* of a set: its first part */
int64_t weight_file_bytes(const struct weight_file *f);    /* of all parts */

/* The files that it consists of, one or the whole set: what a cache is keyed by. */
struct weight_part {
    const char *path;
    int64_t bytes;
    uint64_t device, inode;
    int64_t changed_s, changed_ns; /* ctime when it was opened */
};
size_t weight_file_part_count(const struct weight_file *f);
const struct weight_part *weight_file_part(const struct weight_file *f, size_t index);

size_t weight_file_tensor_count(const struct weight_file *f);
const struct tensor *weight_file_tensor(const struct weight_file *f, size_t index);
const struct tensor *weight_file_find(const struct weight_file *f, const char *name); /* or NULL */
/* Tells the kernel that this tensor's pages can go (after repacking), or will be read soon. */
void weight_file_release(const struct weight_file *f, const struct tensor *t);
void weight_file_prefetch(const struct weight_file *f, const struct tensor *t);

/* A "file" that is put together: its tensors are known, their bytes come later, from wherever the
 * hooks get them. It has no metadata. */
struct weight_hooks {
    /* Makes a tensor's bytes present, verified, and tells where; may take long. Called by several
     * threads, for different tensors. The bytes stay until close(), or release() if that drops
     * them. */
    int (*provide)(void *context, size_t index, const void **ret_data, struct err *err);
    void (*release)(void *context, size_t index);
    void (*close)(void *context);
    void *context;
};
/* title: what weight_file_path() gives, for sentences. Tensors are copied, with their names; data
 * is NULL until weight_file_provide(). Refuses (ERR_MODEL) unknown types, sizes that are not those
 * of type and dimensions, and names that come twice. On success hooks.close is called when it is
 * closed; on failure it is not. */
int weight_file_assemble(struct weight_file **ret_file, const char *title,
                         const struct tensor *tensors, size_t n_tensors,
                         const struct weight_hooks *hooks, struct err *err);
/* Before t->data is read: of a mapped file, as weight_file_prefetch(). */
int weight_file_provide(const struct weight_file *f, const struct tensor *t, struct err *err);
bool weight_file_verifies(const struct weight_file *f); /* what it provides is verified */

/* Metadata. false / NULL: no such key, or of another type (integers of any width convert when the
 * value fits). Strings are UTF-8, NUL-terminated copies owned by the file; they may hold NUL bytes
 * inside only if ret_length tells. */
bool weight_file_has(const struct weight_file *f, const char *key);
const char *weight_file_string(const struct weight_file *f, const char *key, size_t *ret_length);
bool weight_file_integer(const struct weight_file *f, const char *key, int64_t *ret_value);
bool weight_file_real(const struct weight_file *f, const char *key, double *ret_value);
bool weight_file_boolean(const struct weight_file *f, const char *key, bool *ret_value);
/* Arrays: number of elements, or -1; then elements one by one. */
int64_t weight_file_array_count(const struct weight_file *f, const char *key);
const char *weight_file_array_string(const struct weight_file *f, const char *key, int64_t index,
                                     size_t *ret_length);
bool weight_file_array_integer(const struct weight_file *f, const char *key, int64_t index,
                               int64_t *ret_value);
bool weight_file_array_real(const struct weight_file *f, const char *key, int64_t index,
                            double *ret_value);

#endif
