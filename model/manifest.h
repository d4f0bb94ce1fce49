/* manifest.h - what a model file contains, as SHA-256 of each chunk of each tensor, one digest of
 * each tensor over those of its chunks, and one root digest.
 *
 * The coordinator computes it once and keeps it under $PACELINE_HOME/manifests (keyed by path,
 * size, inode and time of change); a worker verifies its tensors by it, chunk by chunk, wherever
 * they come from. */
#ifndef PACELINE_MODEL_MANIFEST_H
#define PACELINE_MODEL_MANIFEST_H

#include "model/model_config.h"
#include "model/weight_file.h"

#define DIGEST_BYTES 32
/* A tensor's last chunk is what is left. */
#define MANIFEST_CHUNK_BYTES ((size_t)4 << 20)

struct manifest {
    size_t n_tensors;                       /* in the file's order */
    unsigned char (*digests)[DIGEST_BYTES]; /* [n_tensors] */
    size_t *first_chunks;                   /* [n_tensors + 1]: where a tensor's chunks begin */
    unsigned char (*chunks)[DIGEST_BYTES];  /* of all tensors, one after the other */
    unsigned char root[DIGEST_BYTES];       /* over names, types, shapes and digests */
    struct err not_kept; /* why the next start has to hash again; code 0: it has not */
};

/* A cache that cannot be written is no failure: not_kept says why. progress (may be NULL) is called
 * from one thread now and then with bytes done so far; once it gives false, the rest is given up:
 * ERR_CANCELLED. cache_dir: NULL for no cache. Uses OpenMP threads. */
int manifest_compute(struct manifest *ret_manifest, const struct weight_file *f,
                     const char *cache_dir, bool (*progress)(void *context, int64_t bytes_done),
                     void *context, struct err *err);
void manifest_clear(struct manifest *m);
/* Chunks of so many bytes: 0 of none. */
size_t manifest_chunk_count(size_t bytes);
/* Bytes of a chunk that the tensor has. */
size_t manifest_chunk_bytes(size_t bytes, size_t chunk);
void manifest_digest_chunk(const void *data, size_t bytes, unsigned char ret_digest[DIGEST_BYTES]);
/* A tensor's digest: SHA-256 over the line "paceline tensor 1\n", its bytes as u64 (little-endian)
 * and the digests of its chunks. So who knows it can verify a list of chunks, and with the list
 * each chunk by itself, in any order. */
void manifest_digest_chunks(uint64_t bytes, const void *digests, size_t n_chunks,
                            unsigned char ret_digest[DIGEST_BYTES]);
void manifest_digest_tensor(const struct tensor *t, unsigned char ret_digest[DIGEST_BYTES]);
/* Of everything in the metadata that reaches a result: shapes, epsilon, rotary base, scaling.
 * Equal tensors under another configuration are another model. */
void manifest_digest_config(const struct model_config *c, unsigned char ret_digest[DIGEST_BYTES]);
/* "fp_" and 12 digits: weights, configuration and numerics together. */
void manifest_fingerprint(const struct manifest *m, const struct model_config *c, char to[16]);
void manifest_hex(const unsigned char digest[DIGEST_BYTES], char to[2 * DIGEST_BYTES + 1]);

#endif
