/* Foreign bytes as a model file: opened, every entry and tensor looked at, the configuration read.
 */
#include "model/manifest.h"
#include "model/model_config.h"
#include "model/weight_file.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads what the reader hands out: the sanitizer sees whether it is all there. */
static void look_at(const struct weight_file *f)
{
    static const char *const keys[] = {"general.name",          "general.architecture",
                                       "general.alignment",     "tokenizer.ggml.tokens",
                                       "tokenizer.ggml.merges", "tokenizer.ggml.token_type",
                                       "qwen2.rope.freq_base",  "tokenizer.ggml.add_bos_token"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t length = 0, total = 0;
        int64_t integer;
        double real;
        bool boolean;
        const char *text = weight_file_string(f, keys[i], &length);
        if (text && text[length] != '\0')
            abort();
        weight_file_integer(f, keys[i], &integer);
        weight_file_real(f, keys[i], &real);
        weight_file_boolean(f, keys[i], &boolean);
        int64_t count = weight_file_array_count(f, keys[i]);
        for (int64_t k = 0; k <= count; k++) {
            text = weight_file_array_string(f, keys[i], k, &length);
            if (text)
                total += strlen(text) + length;
            weight_file_array_integer(f, keys[i], k, &integer);
            weight_file_array_real(f, keys[i], k, &real);
        }
        if (total == SIZE_MAX)
            abort();
    }
    for (size_t i = 0; i < weight_file_tensor_count(f); i++) {
        unsigned char digest[DIGEST_BYTES];
        const struct tensor *t = weight_file_tensor(f, i);
        manifest_digest_tensor(t, digest); /* reads every byte */
        if (weight_file_find(f, t->name) != t)
            abort();
        weight_file_release(f, t);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("model", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        perror("memfd");
        exit(1);
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct weight_file *f = NULL;
    struct model_config config;
    struct err err = {0};
    int rc = weight_file_open(&f, path, &err);
    if (rc == 0) {
        look_at(f);
        rc = model_config_read(&config, f, &err);
    }
    if (rc != 0 && (rc > 0 || err.code != rc || err.text[0] == '\0'))
        abort(); /* a refusal without a sentence */
    weight_file_close(f);
    close(fd);
    return 0;
}
