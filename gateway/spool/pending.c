/* A hash table with linear probing. Removal moves the followers back, so that there are no
 * tombstones and a long life does not make it slow. */
#include "gateway/spool/pending.h"

#include "gateway/base/check.h"

#include <stdlib.h>
#include <string.h>

enum { PENDING_START = 1024 };

static uint32_t slot_of(const struct pending_table *table, uint64_t message_id)
{
    return (uint32_t)((message_id * 0x9e3779b97f4a7c15u) >> 32) & (table->capacity - 1);
}

bool pending_init(struct pending_table *table)
{
    *table = (struct pending_table){.capacity = PENDING_START};
    table->entries = calloc(table->capacity, sizeof *table->entries);
    return table->entries != NULL;
}

void pending_free(struct pending_table *table)
{
    free(table->entries);
    table->entries = NULL;
}

static struct pending *insert(struct pending_table *table, const struct pending *pending)
{
    uint32_t slot = slot_of(table, pending->message_id);
    while (table->entries[slot].message_id != 0)
        slot = (slot + 1) & (table->capacity - 1);
    table->entries[slot] = *pending;
    table->used++;
    return &table->entries[slot];
}

static bool grow(struct pending_table *table)
{
    struct pending_table bigger = {.capacity = table->capacity * 2};
    bigger.entries = calloc(bigger.capacity, sizeof *bigger.entries);
    if (bigger.entries == NULL)
        return false;
    for (uint32_t i = 0; i < table->capacity; i++)
        if (table->entries[i].message_id != 0)
            insert(&bigger, &table->entries[i]);
    free(table->entries);
    table->entries = bigger.entries;
    table->capacity = bigger.capacity;
    return true;
}

struct pending *pending_begin(struct pending_table *table, uint32_t port, uint64_t message_id)
{
    struct pending *current = &table->current[port];
    if (current->message_id != 0) {
        if (table->used >= table->capacity / 2 && !grow(table))
            return NULL;
        insert(table, current);
    }
    *current = (struct pending){.message_id = message_id};
    return current;
}

struct pending *pending_find(struct pending_table *table, uint32_t port, uint64_t message_id)
{
    if (table->current[port].message_id == message_id)
        return &table->current[port];
    uint32_t slot = slot_of(table, message_id);
    while (table->entries[slot].message_id != 0) {
        if (table->entries[slot].message_id == message_id)
            return &table->entries[slot];
        slot = (slot + 1) & (table->capacity - 1);
    }
    return NULL;
}

void pending_remove(struct pending_table *table, struct pending *pending)
{
    if (pending < table->entries || pending >= table->entries + table->capacity) {
        pending->message_id = 0;
        return;
    }
    uint32_t mask = table->capacity - 1;
    uint32_t hole = (uint32_t)(pending - table->entries);
    for (uint32_t slot = (hole + 1) & mask; table->entries[slot].message_id != 0;
         slot = (slot + 1) & mask) {
        uint32_t home = slot_of(table, table->entries[slot].message_id);
        /* It may move back only if its home is not between the hole and where it is. */
        if (((slot - home) & mask) >= ((slot - hole) & mask)) {
            table->entries[hole] = table->entries[slot];
            hole = slot;
        }
    }
    table->entries[hole].message_id = 0;
    table->used--;
}

struct pending *pending_next(struct pending_table *table, uint32_t *cursor)
{
    while (*cursor < LIMIT_PORTS + table->capacity) {
        uint32_t at = (*cursor)++;
        struct pending *pending =
            at < LIMIT_PORTS ? &table->current[at] : &table->entries[at - LIMIT_PORTS];
        if (pending->message_id != 0)
            return pending;
    }
    return NULL;
}
