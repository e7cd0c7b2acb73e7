/* Open addressing with linear probing over slots of eight octets: see table.h. */
#include "gateway/policy/table.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdlib.h>
#include <sys/random.h>

#include "gateway/base/hash.h"

enum {
    SLOTS_FIRST = 64,
    ARENA_FIRST = 4096,
    ENTRY_HEAD = offsetof(struct table_entry, text),
    ENTRY_ALIGN = alignof(struct table_entry),
};

static_assert(TABLE_KEY_MAX <= UINT8_MAX, "the length of a key fits in one octet");
static_assert((int)ADDRESS_LOCAL_LEN_MAX <= (int)TABLE_KEY_MAX, "a local part is a key");

bool table_init(struct table *table)
{
    *table = (struct table){.slot_count = SLOTS_FIRST, .arena_size = ARENA_FIRST};
    /* Without random octets (no Linux that we run on) the seed stays weak, and everything still
     * works. */
    ssize_t got = getrandom(table->seed, sizeof(table->seed), 0);
    if (got != sizeof(table->seed))
        table->seed[0] = (uint64_t)(uintptr_t)table;
    table->slots = calloc(SLOTS_FIRST, sizeof(struct table_slot));
    table->arena = malloc(ARENA_FIRST);
    if (table->slots != NULL && table->arena != NULL)
        return true;
    table_cleanup(table);
    return false;
}

void table_cleanup(struct table *table)
{
    free(table->slots);
    free(table->arena);
    *table = (struct table){.slot_count = 0};
}

bool table_key_set(struct table_key *key, uint32_t scope, struct bytes text)
{
    if (text.len > TABLE_KEY_MAX)
        return false;
    key->scope = scope;
    key->len = (uint8_t)text.len;
    for (size_t i = 0; i < text.len; i++)
        key->text[i] = byte_lower(text.data[i]);
    return true;
}

static uint32_t hash(const struct table *table, const struct table_key *key)
{
    return (uint32_t)hash_keyed(table->seed, key->scope, key->text, key->len);
}

struct table_entry *table_at(const struct table *table, uint32_t slot)
{
    if (slot >= table->slot_count || table->slots[slot].place == 0)
        return NULL;
    return (struct table_entry *)(void *)(table->arena + table->slots[slot].place - 1);
}

uint32_t table_find(const struct table *table, const struct table_key *key)
{
    uint32_t wanted = hash(table, key);
    uint32_t mask = table->slot_count - 1;
    for (uint32_t i = wanted & mask; table->slots[i].place != 0; i = (i + 1) & mask) {
        if (table->slots[i].hash != wanted)
            continue;
        const struct table_entry *entry = table_at(table, i);
        if (entry->scope == key->scope && entry->len == key->len &&
            memcmp(entry->text, key->text, key->len) == 0)
            return i;
    }
    return table->slot_count;
}

static void put(struct table_slot *slots, uint32_t slot_count, struct table_slot slot)
{
    uint32_t i = slot.hash & (slot_count - 1);
    while (slots[i].place != 0)
        i = (i + 1) & (slot_count - 1);
    slots[i] = slot;
}

static bool grow_slots(struct table *table)
{
    if (table->used_count < table->slot_count / 4 * 3)
        return true;
    uint32_t count = table->slot_count * 2;
    struct table_slot *slots = count > INT32_MAX ? NULL : calloc(count, sizeof(*slots));
    if (slots == NULL) {
        errno = ENOMEM;
        return false;
    }
    for (uint32_t i = 0; i < table->slot_count; i++)
        if (table->slots[i].place != 0)
            put(slots, count, table->slots[i]);
    free(table->slots);
    table->slots = slots;
    table->slot_count = count;
    return true;
}

/* Makes room for one entry of any length. Places are 32 bits wide. */
static bool grow_arena(struct table *table)
{
    if (table->arena_size - table->arena_len >= ENTRY_HEAD + TABLE_KEY_MAX + ENTRY_ALIGN)
        return true;
    size_t size = table->arena_size * 2;
    uint8_t *arena = size > UINT32_MAX ? NULL : realloc(table->arena, size);
    if (arena == NULL) {
        errno = ENOMEM;
        return false;
    }
    table->arena = arena;
    table->arena_size = size;
    return true;
}

struct table_entry *table_insert(struct table *table, const struct table_key *key)
{
    if (!grow_slots(table) || !grow_arena(table))
        return NULL;
    struct table_entry *entry = (struct table_entry *)(void *)(table->arena + table->arena_len);
    entry->scope = key->scope;
    entry->value = 0;
    entry->flags = 0;
    entry->len = key->len;
    memcpy(entry->text, key->text, key->len);
    put(table->slots, table->slot_count,
        (struct table_slot){(uint32_t)table->arena_len + 1, hash(table, key)});
    table->arena_len += ((size_t)ENTRY_HEAD + key->len + ENTRY_ALIGN - 1) & -(size_t)ENTRY_ALIGN;
    table->used_count++;
    return entry;
}
