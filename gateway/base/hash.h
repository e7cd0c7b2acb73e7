/* A keyed hash for tables whose keys strangers choose: who does not know the seed can't make keys
 * that fall together. Not for anything that leaves the process. */
#ifndef GATEWAY_BASE_HASH_H
#define GATEWAY_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* hash_keyed hashes `len` octets within a `scope` (equal keys of different scopes differ), under a
 * random seed. wyhash's way: multiply 64 by 64 bits, fold, eight octets a step. */
static inline uint64_t hash_keyed(const uint64_t seed[2], uint64_t scope, const void *data,
                                  size_t len)
{
    const uint64_t prime = 0xa0761d6478bd642fu;
    const uint8_t *at = data;
    uint64_t state = hash_mix(seed[0] ^ scope, seed[1] ^ prime);
    for (size_t i = 0; i < len; i += 8) {
        uint64_t word = 0;
        memcpy(&word, at + i, len - i < 8 ? len - i : 8);
        state = hash_mix(state ^ word, seed[1] ^ prime);
    }
    return hash_mix(state ^ len, prime);
}

#endif
