/* philox.c - see philox.h. */
#include "kernels/philox.h"

void philox4x32(const uint32_t counter[4], const uint32_t key[2], uint32_t ret_words[4])
{
    uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
    uint32_t key0 = key[0], key1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * a, p1 = (uint64_t)0xcd9e8d57u * c;
        a = (uint32_t)(p1 >> 32) ^ b ^ key0;
        b = (uint32_t)p1;
        c = (uint32_t)(p0 >> 32) ^ d ^ key1;
        d = (uint32_t)p0;
        key0 += 0x9e3779b9u; /* the golden ratio and sqrt 3 - 1, as fractions of 2^32 */
        key1 += 0xbb67ae85u;
    }
    ret_words[0] = a;
    ret_words[1] = b;
    ret_words[2] = c;
    ret_words[3] = d;
}

double philox_uniform(uint64_t seed, uint32_t choice, uint64_t position)
{
    const uint32_t counter[4] = {(uint32_t)position, (uint32_t)(position >> 32), choice, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words[4];
    philox4x32(counter, key, words);
    uint64_t bits = (uint64_t)words[0] << 32 | words[1];
    return (double)(bits >> 11) * 0x1p-53;
}
