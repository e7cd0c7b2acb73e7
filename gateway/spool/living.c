/* A hash table like the one in pending.c, of larger entries, for one use at start. */
#include "gateway/spool/living.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"

#include <stdlib.h>
#include <string.h>

enum { LIVING_START = 1024 };

static size_t slot_of(const struct living_table *table, uint64_t message_id)
{
    return (size_t)((message_id * 0x9e3779b97f4a7c15u) >> 24) & (table->capacity - 1);
}

bool living_init(struct living_table *table)
{
    *table = (struct living_table){.capacity = LIVING_START};
    table->entries = calloc(table->capacity, sizeof *table->entries);
    return table->entries != NULL;
}

void living_free(struct living_table *table)
{
    for (size_t i = 0; table->entries != NULL && i < table->capacity; i++)
        free(table->entries[i].done);
    free(table->entries);
    *table = (struct living_table){0};
}

struct living *living_find(const struct living_table *table, uint64_t message_id)
{
    size_t slot = slot_of(table, message_id);
    while (table->entries[slot].message.message_id != 0) {
        if (table->entries[slot].message.message_id == message_id)
            return &table->entries[slot];
        slot = (slot + 1) & (table->capacity - 1);
    }
    return NULL;
}

static struct living *insert(struct living_table *table, const struct living *living)
{
    size_t slot = slot_of(table, living->message.message_id);
    while (table->entries[slot].message.message_id != 0)
        slot = (slot + 1) & (table->capacity - 1);
    table->entries[slot] = *living;
    table->used++;
    return &table->entries[slot];
}

static bool grow(struct living_table *table)
{
    struct living_table bigger = {.capacity = table->capacity * 2};
    bigger.entries = calloc(bigger.capacity, sizeof *bigger.entries);
    if (bigger.entries == NULL)
        return false;
    for (size_t i = 0; i < table->capacity; i++)
        if (table->entries[i].message.message_id != 0)
            insert(&bigger, &table->entries[i]);
    free(table->entries);
    *table = bigger;
    return true;
}

struct living *living_add(struct living_table *table, uint64_t message_id)
{
    struct living *found = living_find(table, message_id);
    if (found != NULL)
        return found;
    if (table->used >= table->capacity / 2 && !grow(table))
        return NULL;
    return insert(table, &(struct living){.message = {.message_id = message_id}});
}

void living_remove(struct living_table *table, struct living *living)
{
    size_t mask = table->capacity - 1;
    size_t hole = (size_t)(living - table->entries);
    free(living->done);
    for (size_t slot = (hole + 1) & mask; table->entries[slot].message.message_id != 0;
         slot = (slot + 1) & mask) {
        size_t home = slot_of(table, table->entries[slot].message.message_id);
        if (((slot - home) & mask) >= ((slot - hole) & mask)) {
            table->entries[hole] = table->entries[slot];
            hole = slot;
        }
    }
    table->entries[hole] = (struct living){0};
    table->used--;
}

/* Makes the bitmap at least `wanted` octets. */
static bool extend_done(struct living *living, size_t wanted)
{
    if (wanted <= living->done_len)
        return true;
    uint8_t *done = realloc(living->done, wanted);
    if (done == NULL)
        return false;
    memset(done + living->done_len, 0, wanted - living->done_len);
    living->done = done;
    living->done_len = wanted;
    return true;
}

bool living_commit(struct living *living, const struct spool_message *message, bool damaged)
{
    /* A copy that is whole wins over one that is not; else the later one. */
    if (living->committed && damaged && !living->damaged)
        return true;
    uint16_t attempts = living->message.attempts;
    living->message = *message;
    living->message.attempts = attempts;
    living->committed = true;
    living->damaged = damaged;
    return living->done == NULL || extend_done(living, ((size_t)message->recipient_count + 7) / 8);
}

/* Sets a recipient's bit. Before the COMMIT is seen nobody knows how many there are. */
static bool finish_recipient(struct living *living, uint32_t recipient)
{
    size_t all = ((size_t)living->message.recipient_count + 7) / 8;
    size_t wanted = (size_t)recipient / 8 + 1;
    if (!extend_done(living, wanted < all ? all : wanted))
        return false;
    uint8_t bit = (uint8_t)(1u << recipient % 8);
    living->done_count += (living->done[recipient / 8] & bit) == 0;
    living->done[recipient / 8] |= bit;
    return true;
}

bool living_done(struct living *living, const struct record_done *done)
{
    if (done->attempts > living->message.attempts)
        living->message.attempts = done->attempts;
    if (done->outcome == RECORD_DEFERRED) {
        living->next_attempt_s = done->next_attempt_s;
        return true;
    }
    if (done->recipient == RECORD_ALL_RECIPIENTS) {
        living->finished = true;
        return true;
    }
    if (done->recipient >= LIMIT_RECIPIENTS)
        return true;
    return finish_recipient(living, done->recipient);
}

bool living_over(const struct living *living)
{
    uint32_t count = living->message.recipient_count;
    return living->committed && (living->finished || (count != 0 && living->done_count >= count));
}

static int compare(const void *left, const void *right)
{
    const struct spool_message *a = &((const struct living *)left)->message;
    const struct spool_message *b = &((const struct living *)right)->message;
    if (a->generation != b->generation)
        return a->generation < b->generation ? -1 : 1;
    return a->offset < b->offset ? -1 : a->offset > b->offset;
}

void living_sort(struct living_table *table)
{
    size_t count = 0;
    for (size_t i = 0; i < table->capacity; i++) {
        if (table->entries[i].message.message_id == 0)
            continue;
        struct living one = table->entries[i];
        table->entries[i] = (struct living){0};
        table->entries[count++] = one;
    }
    CHECK(count == table->used);
    if (count != 0)
        qsort(table->entries, count, sizeof *table->entries, compare);
}
