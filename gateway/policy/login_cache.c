/* A table of digests, each with the time until which it holds: see login_cache.h. Four cells a
 * line; the one that ends first gives way. The two words of a cell are not written together: a cell
 * has no digest while its time is another's. */
#include "gateway/policy/login_cache.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "tls/crypto.h"

enum { PROBES = 4, CELLS_MIN = 64, CELLS_MAX = 1 << 24 };

struct cell {
    _Atomic uint64_t key;
    _Atomic uint64_t until_s;
};

struct login_cache {
    uint8_t secret[CRYPTO_SHA256_LEN];
    uint32_t line_mask;
    struct cell cells[];
};

static uint32_t cells_above(uint32_t cells)
{
    uint32_t count = CELLS_MIN;
    while (count < cells && count < CELLS_MAX)
        count *= 2;
    return count;
}

uint64_t login_cache_octets(uint32_t cells)
{
    return sizeof(struct login_cache) + (uint64_t)cells_above(cells) * sizeof(struct cell);
}

struct login_cache *login_cache_new(uint32_t cells)
{
    struct login_cache *cache = calloc(1, login_cache_octets(cells));
    if (cache == NULL)
        return NULL;
    cache->line_mask = cells_above(cells) / PROBES - 1;
    crypto_random(cache->secret, sizeof(cache->secret));
    return cache;
}

void login_cache_free(struct login_cache *cache)
{
    if (cache == NULL)
        return;
    crypto_wipe(cache->secret, sizeof(cache->secret));
    free(cache);
}

uint64_t login_cache_key(const struct login_cache *cache, struct bytes user, struct bytes password,
                         struct bytes proof)
{
    const struct bytes parts[] = {user, password, proof};
    uint8_t inner[CRYPTO_SHA256_LEN], outer[CRYPTO_SHA256_LEN];
    struct crypto_hash hash;
    uint64_t key;
    crypto_hash_begin(&hash);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        uint64_t len = parts[i].len; /* so that no part can lend to the next */
        crypto_hash_add(&hash, &len, sizeof(len));
        if (len > 0)
            crypto_hash_add(&hash, parts[i].data, len);
    }
    crypto_hash_end(&hash, inner);
    if (!crypto_hmac_sha256(cache->secret, sizeof(cache->secret), inner, sizeof(inner), outer))
        crypto_random(outer, sizeof(outer)); /* no memory: nothing is found, nothing is kept */
    memcpy(&key, outer, sizeof(key));
    crypto_wipe(&hash, sizeof(hash));
    crypto_wipe(inner, sizeof(inner));
    crypto_wipe(outer, sizeof(outer));
    return key != 0 ? key : 1;
}

/* first_cell returns the index of the first cell in which a key may be. */
static size_t first_cell(const struct login_cache *cache, uint64_t key)
{
    return (size_t)((uint32_t)key & cache->line_mask) * PROBES;
}

bool login_cache_has(const struct login_cache *cache, uint64_t key, uint64_t now_s)
{
    const struct cell *line = &cache->cells[first_cell(cache, key)];
    for (int i = 0; i < PROBES; i++) {
        if (atomic_load_explicit(&line[i].key, memory_order_acquire) != key)
            continue;
        uint64_t until_s = atomic_load_explicit(&line[i].until_s, memory_order_acquire);
        /* Who has changed the time took the digest away before. */
        return until_s > now_s && atomic_load_explicit(&line[i].key, memory_order_relaxed) == key;
    }
    return false;
}

void login_cache_put(struct login_cache *cache, uint64_t key, uint64_t until_s)
{
    struct cell *line = &cache->cells[first_cell(cache, key)], *best = NULL;
    uint64_t best_until = UINT64_MAX;
    for (int i = 0; i < PROBES; i++) {
        uint64_t until = atomic_load_explicit(&line[i].until_s, memory_order_relaxed);
        bool same = atomic_load_explicit(&line[i].key, memory_order_relaxed) == key;
        if (same || best == NULL || until < best_until) {
            best = &line[i];
            best_until = until;
        }
        if (same)
            break;
    }
    atomic_store_explicit(&best->key, 0, memory_order_relaxed);
    atomic_store_explicit(&best->until_s, until_s, memory_order_release);
    atomic_store_explicit(&best->key, key, memory_order_release);
}
