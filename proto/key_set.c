#include "proto/key_set.h"

#include <stdlib.h>
#include <string.h>

void key_set_init(struct key_set *s)
{
    *s = (struct key_set){.n = 0};
    pthread_mutex_init(&s->lock, NULL);
}

void key_set_clear(struct key_set *s)
{
    free(s->keys);
    s->keys = NULL;
    s->n = 0;
    pthread_mutex_destroy(&s->lock);
}

int key_set_replace(struct key_set *s, const unsigned char (*keys)[KEYS_BYTES], size_t n,
                    struct err *err)
{
    unsigned char(*copy)[KEYS_BYTES] = calloc(n + 1, KEYS_BYTES);
    if (!copy)
        return err_set(err, ERR_MEMORY, "no memory for the keys of %zu workers", n);
    if (n)
        memcpy(copy, keys, n * KEYS_BYTES);
    pthread_mutex_lock(&s->lock);
    void *before = s->keys;
    s->keys = copy;
    s->n = n;
    pthread_mutex_unlock(&s->lock);
    free(before);
    return 0;
}

bool key_set_has(struct key_set *s, const unsigned char key[KEYS_BYTES])
{
    bool has = false;
    pthread_mutex_lock(&s->lock);
    for (size_t i = 0; i < s->n && !has; i++)
        has = keys_are_equal(s->keys[i], key);
    pthread_mutex_unlock(&s->lock);
    return has;
}
