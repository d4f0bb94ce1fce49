/* model_set.h - which model files there are to compute with, and their goldens: the selection in
 * tests/data/models, or a full set where PACELINE_ORACLE names one. */
#ifndef PACELINE_TESTS_ORACLE_MODEL_SET_H
#define PACELINE_TESTS_ORACLE_MODEL_SET_H

#include <stdbool.h>
#include <stddef.h>

struct model_entry {
    char name[80];   /* "qwen2-tied Q4_0" */
    char path[1024]; /* of the GGUF, or of the first part */
    char golden[1024];
    bool is_float; /* no quantised tensor */
};

enum { MODEL_SET_SIZE = 64 };

/* Dense models of types that the kernels compute with. Fails the test when there is none. */
size_t model_set_read(struct model_entry to[MODEL_SET_SIZE]);

#endif
