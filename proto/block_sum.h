/* block_sum.h - a checksum of bytes that may be damaged by chance: XXH3 of 64 bits, the same on
 * every machine, several times as fast as memory. It proves nothing against an enemy. */
#ifndef PACELINE_PROTO_BLOCK_SUM_H
#define PACELINE_PROTO_BLOCK_SUM_H

#include <stddef.h>
#include <stdint.h>

enum { BLOCK_SUM_BYTES = 8 };

uint64_t block_sum(const void *bytes, size_t size);
/* In the byte order of the wire. */
void block_sum_write(uint64_t sum, unsigned char to[BLOCK_SUM_BYTES]);
uint64_t block_sum_read(const unsigned char from[BLOCK_SUM_BYTES]);

/* The same in pieces. */
struct block_summer;
struct block_summer *block_summer_new(void); /* NULL: no memory */
void block_summer_free(struct block_summer *s);
void block_summer_begin(struct block_summer *s);
void block_summer_add(struct block_summer *s, const void *bytes, size_t size);
uint64_t block_summer_end(const struct block_summer *s);

#endif
