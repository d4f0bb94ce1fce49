/* gguf.h - the GGUF container, versions 2 and 3: from bytes to metadata and tensor descriptions.
 *
 *   magic "GGUF" · version u32 · tensors u64 · entries u64
 *   entries:  key string · type u32 · value
 *   tensors:  name string · dimensions u32 · each u64 · type u32 · offset u64
 *   padding to general.alignment (32 where absent), then the data; offsets count from there
 *
 * A string is a u64 length and its bytes; an array is a type u32, a count u64 and its elements;
 * everything is little-endian. Source: the GGUF specification (ggml-org/ggml, docs/gguf.md).
 * The bytes are foreign: nothing is believed before it was compared with what is there, and work
 * and memory stay proportional to the size of the header, whatever its counts say. */
#ifndef PACELINE_MODEL_GGUF_H
#define PACELINE_MODEL_GGUF_H

#include "base/err.h"
#include "model/weight_file.h"

#include <stddef.h>
#include <stdint.h>

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
    GGUF_TYPES
};

struct gguf_entry {
    char *key;
    enum gguf_type type;         /* of the value, or of an array's elements */
    bool is_array;               /* arrays of arrays were checked, but cannot be asked for */
    uint64_t count;              /* elements; 1 where it is no array */
    const unsigned char *values; /* numbers and booleans: in the mapping, not aligned */
    char *text;                  /* strings: NUL-terminated copies, one after another */
    size_t *starts;              /* strings: [count + 1] where each begins in text */
};

struct gguf {
    struct gguf_entry *entries; /* ascending by key, no key twice */
    size_t n_entries;
    struct tensor *tensors; /* in the file's order; the same name may come twice */
    size_t n_tensors;
};

/* Reads `size` bytes at `data`, which stay mapped for as long as *ret_gguf is used. `path` is for
 * sentences. On failure (ERR_MODEL, ERR_MEMORY) *ret_gguf is empty. */
int gguf_parse(struct gguf *ret_gguf, const unsigned char *data, size_t size, const char *path,
               struct err *err);
void gguf_clear(struct gguf *g); /* an empty one is fine */
const struct gguf_entry *gguf_find(const struct gguf *g, const char *key); /* or NULL */

/* Element `index` of an entry; false if it is of another kind or there is none. */
bool gguf_integer(const struct gguf_entry *entry, uint64_t index, int64_t *ret_value);
bool gguf_real(const struct gguf_entry *entry, uint64_t index, double *ret_value);
bool gguf_boolean(const struct gguf_entry *entry, uint64_t index, bool *ret_value);
const char *gguf_string(const struct gguf_entry *entry, uint64_t index, size_t *ret_length);

/* A name from a file, fit for a sentence: control characters become '?', long ones end in "...". */
#define GGUF_SHOWN_BYTES 68
const char *gguf_show(const char *name, size_t length, char to[GGUF_SHOWN_BYTES]);

#endif
