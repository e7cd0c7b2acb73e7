/* What is known of triplets and networks: see greylist.h. Two tables of buckets, a cache line each.
 * A cell is one word: 32 bits of the key's hash, and a time in seconds. So a cell is read and
 * changed as a whole, and who loses a race has looked at a table that was as good. */
#include "gateway/policy/greylist.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/hash.h"
#include "gateway/base/pages.h"
#include "gateway/policy/networks.h"
#include "tls/crypto.h"

enum {
    BUCKET_CELLS = 8,
    SPREAD_BUCKETS = GREYLIST_SPREAD / BUCKET_CELLS,
    BUCKETS_MIN = 16,
    REFRESH_S_MAX = 3600, /* a known network's last time is at most so old */
    REFRESH_PART = 16,    /* or this part of `keep` */
    KEY_OCTETS_MAX = 2048,
};

struct bucket {
    _Alignas(64) _Atomic uint64_t cells[BUCKET_CELLS]; /* 0: free */
};

struct greylist {
    uint64_t seed[2];
    struct bucket *triplets, *networks;
    uint32_t triplet_mask, network_mask; /* buckets less one */
};

/* --- keys --- */

static size_t put_network(const union address_any *peer, uint8_t out[16])
{
    (void)networks_mask(peer, 24, 64, out);
    return 16;
}

static uint64_t digest(const uint8_t *octets, size_t len)
{
    uint8_t hash[CRYPTO_SHA256_LEN];
    uint64_t key;
    crypto_sha256(octets, len, hash);
    memcpy(&key, hash, sizeof(key));
    return key == 0 ? 1 : key;
}

/* put_folded writes text in lower case, and where it ends; what has no room is left out (no path is
 * so long). */
static size_t put_folded(uint8_t *out, size_t at, struct bytes text)
{
    for (size_t i = 0; i < text.len && at + 1 < KEY_OCTETS_MAX; i++)
        out[at++] = byte_lower(text.data[i]);
    out[at++] = 0;
    return at;
}

uint64_t greylist_key(uint64_t secret, const union address_any *peer, struct bytes reverse_path,
                      struct bytes mailbox)
{
    uint8_t octets[KEY_OCTETS_MAX + 1];
    memcpy(octets, &secret, sizeof(secret));
    size_t at = sizeof(secret) + put_network(peer, octets + sizeof(secret));
    at = put_folded(octets, at, reverse_path);
    at = put_folded(octets, at, mailbox);
    return digest(octets, at);
}

uint64_t greylist_network_key(uint64_t secret, const union address_any *peer)
{
    uint8_t octets[sizeof(secret) + 16];
    memcpy(octets, &secret, sizeof(secret));
    return digest(octets, sizeof(secret) + put_network(peer, octets + sizeof(secret)));
}

/* --- cells --- */

static uint64_t hash_of(const struct greylist *greylist, uint64_t key)
{
    return hash_keyed(greylist->seed, 0, &key, sizeof(key));
}

static uint64_t cell_make(uint64_t hash, uint64_t time_s)
{
    return hash << 32 | (uint32_t)time_s;
}

static uint64_t cell_time(uint64_t cell)
{
    return (uint32_t)cell;
}

static struct bucket *network_bucket(const struct greylist *greylist, uint64_t hash)
{
    return &greylist->networks[hash >> 32 & greylist->network_mask];
}

/* triplet_bucket: those of one network lie in SPREAD_BUCKETS. */
static struct bucket *triplet_bucket(const struct greylist *greylist, uint64_t network_hash,
                                     uint64_t hash)
{
    uint64_t place = (network_hash >> 32) + (hash >> 32) % SPREAD_BUCKETS;
    return &greylist->triplets[place & greylist->triplet_mask];
}

/* find returns the cell of this hash, with its word in *word; NULL: there is none. */
static _Atomic uint64_t *find(struct bucket *bucket, uint64_t hash, uint64_t *word)
{
    for (int i = 0; i < BUCKET_CELLS; i++) {
        *word = atomic_load_explicit(&bucket->cells[i], memory_order_relaxed);
        if (*word != 0 && *word >> 32 == (uint32_t)hash)
            return &bucket->cells[i];
    }
    return NULL;
}

/* set changes a cell, unless somebody else just has: then what he wrote is as good. */
static bool set(_Atomic uint64_t *cell, uint64_t was, uint64_t word)
{
    return atomic_compare_exchange_strong_explicit(cell, &was, word, memory_order_relaxed,
                                                   memory_order_relaxed);
}

/* note puts a hash that is not there in the place of the oldest. Two threads may note the same one
 * at the same time; then the first of both counts. */
static void note(struct bucket *bucket, uint64_t hash, uint64_t time_s)
{
    for (int tries = 0; tries < BUCKET_CELLS; tries++) {
        _Atomic uint64_t *oldest = &bucket->cells[0];
        uint64_t word = atomic_load_explicit(oldest, memory_order_relaxed);
        for (int i = 1; i < BUCKET_CELLS; i++) {
            uint64_t other = atomic_load_explicit(&bucket->cells[i], memory_order_relaxed);
            if (cell_time(other) < cell_time(word)) {
                oldest = &bucket->cells[i];
                word = other;
            }
        }
        if (set(oldest, word, cell_make(hash, time_s)))
            return;
    }
}

/* --- verdicts --- */

enum greylist_verdict greylist_knows(struct greylist *greylist, const struct greylist_rules *rules,
                                     uint64_t network, uint64_t now_s)
{
    uint64_t word, hash = hash_of(greylist, network);
    _Atomic uint64_t *cell = find(network_bucket(greylist, hash), hash, &word);
    if (cell == NULL)
        return GREYLIST_FIRST;
    uint64_t last_s = cell_time(word);
    uint64_t silent_s = now_s > last_s ? now_s - last_s : 0;
    uint64_t refresh_s = rules->keep_s / REFRESH_PART;
    if (silent_s > rules->keep_s)
        return GREYLIST_FIRST;
    if (silent_s < (refresh_s < REFRESH_S_MAX ? refresh_s : REFRESH_S_MAX))
        return GREYLIST_KNOWN;
    return set(cell, word, cell_make(hash, now_s)) ? GREYLIST_PASSED : GREYLIST_KNOWN;
}

/* pass notes that a network has come again. */
static void pass(struct greylist *greylist, uint64_t network, uint64_t now_s)
{
    uint64_t word, hash = hash_of(greylist, network);
    struct bucket *bucket = network_bucket(greylist, hash);
    _Atomic uint64_t *cell = find(bucket, hash, &word);
    if (cell == NULL)
        note(bucket, hash, now_s);
    else
        (void)!set(cell, word, cell_make(hash, now_s));
}

enum greylist_verdict greylist_ask(struct greylist *greylist, const struct greylist_rules *rules,
                                   uint64_t triplet, uint64_t network, uint64_t now_s)
{
    enum greylist_verdict known = greylist_knows(greylist, rules, network, now_s);
    if (known != GREYLIST_FIRST)
        return known;
    uint64_t word, hash = hash_of(greylist, triplet);
    struct bucket *bucket = triplet_bucket(greylist, hash_of(greylist, network), hash);
    _Atomic uint64_t *cell = find(bucket, hash, &word);
    if (cell == NULL) {
        note(bucket, hash, now_s);
        return GREYLIST_FIRST;
    }
    uint64_t first_s = cell_time(word);
    if (first_s > now_s || now_s - first_s > rules->window_s) { /* or the clock was set back */
        (void)!set(cell, word, cell_make(hash, now_s));
        return GREYLIST_FIRST;
    }
    if (now_s - first_s < rules->delay_s)
        return GREYLIST_EARLY;
    (void)!set(cell, word, 0); /* from now on the network counts */
    pass(greylist, network, now_s);
    return GREYLIST_PASSED;
}

enum greylist_verdict greylist_learn(struct greylist *greylist, const struct greylist_rules *rules,
                                     uint64_t triplet, uint64_t network, uint64_t first_s,
                                     uint64_t now_s)
{
    if (first_s == 0) {
        pass(greylist, network, now_s);
        return GREYLIST_KNOWN;
    }
    if (first_s > now_s || now_s - first_s > rules->window_s)
        return GREYLIST_EARLY;
    uint64_t word, hash = hash_of(greylist, triplet);
    struct bucket *bucket = triplet_bucket(greylist, hash_of(greylist, network), hash);
    _Atomic uint64_t *cell = find(bucket, hash, &word);
    if (cell == NULL)
        note(bucket, hash, first_s);
    else if (cell_time(word) > first_s)
        (void)!set(cell, word, cell_make(hash, first_s));
    if (now_s - first_s < rules->delay_s)
        return GREYLIST_EARLY;
    pass(greylist, network, now_s);
    return GREYLIST_PASSED;
}

/* --- life --- */

static uint32_t bucket_mask(uint32_t cells)
{
    uint32_t count = BUCKETS_MIN;
    while ((uint64_t)count * BUCKET_CELLS < cells) /* at most 32 rounds */
        count *= 2;
    return count - 1;
}

static size_t size_of(uint32_t mask)
{
    return ((size_t)mask + 1) * sizeof(struct bucket);
}

struct greylist *greylist_new(uint32_t cells)
{
    struct greylist *greylist = calloc(1, sizeof(*greylist));
    if (greylist == NULL)
        return NULL;
    crypto_random(greylist->seed, sizeof(greylist->seed));
    greylist->triplet_mask = bucket_mask(cells);
    greylist->network_mask = bucket_mask(cells / 4);
    greylist->triplets = pages_map(size_of(greylist->triplet_mask));
    greylist->networks = pages_map(size_of(greylist->network_mask));
    if (greylist->triplets != NULL && greylist->networks != NULL)
        return greylist;
    greylist_free(greylist);
    return NULL;
}

void greylist_free(struct greylist *greylist)
{
    if (greylist == NULL)
        return;
    pages_unmap(greylist->triplets, size_of(greylist->triplet_mask));
    pages_unmap(greylist->networks, size_of(greylist->network_mask));
    free(greylist);
}
