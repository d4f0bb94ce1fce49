#include "cli/checksum.h"

#include "cli/stop_signal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int checksum_run(int fd, const char *path, EVP_MD_CTX *hash,
                        void (*on_progress)(void *context, int64_t bytes), void *context,
                        struct err *err)
{
    enum { CHUNK = 1 << 20 };
    unsigned char *chunk = malloc(CHUNK);
    if (!chunk)
        return err_set(err, ERR_MEMORY, "%s: no memory to check it", path);
    int rc = 0;
    int64_t total = 0;
    for (;;) {
        ssize_t n = read(fd, chunk, CHUNK);
        if (n < 0 && errno == EINTR && !stop_signal_is_raised())
            continue;
        if (n < 0 || stop_signal_is_raised())
            rc = n < 0 && errno != EINTR ? err_set(err, ERR_IO, "%s: %s", path, strerror(errno))
                                         : err_set(err, ERR_CANCELLED, "stopped");
        else if (n > 0 && EVP_DigestUpdate(hash, chunk, (size_t)n) != 1)
            rc = err_set(err, ERR_INTERNAL, "%s: SHA-256 failed", path);
        if (rc < 0 || n == 0)
            break;
        total += n;
        if (on_progress)
            on_progress(context, total);
    }
    free(chunk);
    return rc;
}

int checksum_file(const char *path, void (*on_progress)(void *context, int64_t bytes),
                  void *context, char ret_text[CHECKSUM_TEXT], struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, ERR_IO, "%s: %s", path, strerror(errno));
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    unsigned char digest[EVP_MAX_MD_SIZE];
    int rc = 0;
    if (!hash || EVP_DigestInit_ex(hash, EVP_sha256(), NULL) != 1)
        rc = err_set(err, ERR_INTERNAL, "%s: SHA-256 is not available", path);
    if (rc == 0)
        rc = checksum_run(fd, path, hash, on_progress, context, err);
    if (rc == 0 && EVP_DigestFinal_ex(hash, digest, NULL) != 1)
        rc = err_set(err, ERR_INTERNAL, "%s: SHA-256 failed", path);
    for (int i = 0; rc == 0 && i < 32; i++)
        snprintf(ret_text + 2 * i, 3, "%02x", digest[i]);
    EVP_MD_CTX_free(hash);
    close(fd);
    return rc;
}
