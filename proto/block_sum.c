#include "proto/block_sum.h"

#include <xxhash.h>

uint64_t block_sum(const void *bytes, size_t size)
{
    return XXH3_64bits(bytes, size);
}

void block_sum_write(uint64_t sum, unsigned char to[BLOCK_SUM_BYTES])
{
    for (int i = 0; i < BLOCK_SUM_BYTES; i++)
        to[i] = (unsigned char)(sum >> 8 * i);
}

uint64_t block_sum_read(const unsigned char from[BLOCK_SUM_BYTES])
{
    uint64_t sum = 0;
    for (int i = 0; i < BLOCK_SUM_BYTES; i++)
        sum |= (uint64_t)from[i] << 8 * i;
    return sum;
}

/* The library's own type is the state; only this file knows it. */
struct block_summer *block_summer_new(void)
{
    return (struct block_summer *)XXH3_createState();
}

void block_summer_free(struct block_summer *s)
{
    XXH3_freeState((XXH3_state_t *)s);
}

void block_summer_begin(struct block_summer *s)
{
    XXH3_64bits_reset((XXH3_state_t *)s);
}

void block_summer_add(struct block_summer *s, const void *bytes, size_t size)
{
    XXH3_64bits_update((XXH3_state_t *)s, bytes, size);
}

uint64_t block_summer_end(const struct block_summer *s)
{
    return XXH3_64bits_digest((const XXH3_state_t *)s);
}
