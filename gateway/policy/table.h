/* A hash table from names to a number and flags. Keys lie one after another in one arena; a slot
 * has their place and half of their hash, so that growing reads no keys and a miss seldom does. The
 * hash is keyed with a random seed: what strangers send at RCPT can't be made to collide. A million
 * keys of 12 octets take 26 MB of arena and 16 MB of slots. */
#ifndef GATEWAY_POLICY_TABLE_H
#define GATEWAY_POLICY_TABLE_H

#include "parser/address.h"

enum { TABLE_KEY_MAX = ADDRESS_DOMAIN_LEN_MAX };

/* What a lookup is for. Keys of different scopes never meet. */
struct table_key {
    uint32_t scope;
    uint8_t len;
    uint8_t text[TABLE_KEY_MAX];
};

struct table_entry {
    uint32_t scope;
    uint32_t value; /* the user's */
    uint8_t flags;  /* the user's */
    uint8_t len;
    uint8_t text[];
};

struct table_slot {
    uint32_t place; /* of the entry in the arena + 1; 0: free */
    uint32_t hash;  /* the low half, which also says where the search begins */
};

/* Private but for slot_count. */
struct table {
    uint64_t seed[2];
    struct table_slot *slots; /* at most three quarters full; a power of two */
    uint32_t slot_count;
    uint32_t used_count;
    uint8_t *arena;
    size_t arena_len;
    size_t arena_size;
};

/* table_init makes an empty table; false: no memory. table_cleanup is legal on the zero value. */
bool table_init(struct table *table) __attribute__((warn_unused_result));
void table_cleanup(struct table *table);

/* table_key_set sets the key to `text` in lower case; false: too long. */
bool table_key_set(struct table_key *key, uint32_t scope, struct bytes text)
    __attribute__((warn_unused_result));

/* table_find returns the slot of the entry, or slot_count: there is none. */
uint32_t table_find(const struct table *table, const struct table_key *key);

/* table_insert adds a key that is not there; returns its entry, with value and flags 0, borrowed
 * until the next insert, or NULL: no memory (errno ENOMEM). */
struct table_entry *table_insert(struct table *table, const struct table_key *key);

/* table_at returns the entry of a slot; NULL: the slot is free, or is slot_count. */
struct table_entry *table_at(const struct table *table, uint32_t slot);

#endif
