/* Entries lie in chunks and are named by index. New messages form a list, first come first out, at
 * no cost; only what failed goes through the heap, which is ordered by the time of the next
 * attempt. */
#include "gateway/deliver/queue.h"

#include <stdlib.h>

#include "gateway/base/check.h"

enum {
    CHUNK_ENTRIES = 16384,
    CHUNKS_MAX = 16384, /* 268 million messages: the disk is full long before */
    FEW = 64,           /* recipients whose marks fit in the entry */
};

static_assert(sizeof(struct queue_entry) == 104, "the header says so");

struct wait {
    uint64_t due_us;
    uint32_t index;
};

struct queue {
    uint64_t retry_min_us, retry_max_us;
    uint64_t random;
    uint32_t chunk_count;
    uint32_t free_first; /* index + 1, as in the lists below; 0: none */
    uint32_t fresh;      /* entries from here on were never used */
    uint32_t ready_first, ready_last;
    size_t count, held;
    struct wait *heap; /* children of i: 4i + 1 to 4i + 4 */
    size_t heap_count, heap_capacity;
    struct queue_entry *chunks[CHUNKS_MAX];
};

static struct queue_entry *entry_at(const struct queue *queue, uint32_t index);
static void push_ready(struct queue *queue, struct queue_entry *entry);
static struct queue_entry *pop_ready(struct queue *queue);
static void heap_push(struct queue *queue, struct wait wait);
static void heap_pop(struct queue *queue);

struct queue *queue_new(const struct queue_options *options)
{
    CHECK(options->retry_min_us > 0 && options->retry_max_us >= options->retry_min_us);
    struct queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return NULL;
    queue->retry_min_us = options->retry_min_us;
    queue->retry_max_us = options->retry_max_us;
    queue->random = options->seed;
    return queue;
}

void queue_free(struct queue *queue)
{
    if (queue == NULL)
        return;
    for (size_t i = 0; i < queue_slots(queue); i++) {
        struct queue_entry *entry = queue_at(queue, i);
        if (entry != NULL && entry->message.recipient_count > FEW)
            free(entry->done.many);
    }
    for (uint32_t i = 0; i < queue->chunk_count; i++)
        free(queue->chunks[i]);
    free(queue->heap);
    free(queue);
}

bool queue_reserve(struct queue *queue, size_t count)
{
    /* Room on the free list is left out of account: it is enough to be sure. */
    while ((size_t)queue->chunk_count * CHUNK_ENTRIES - queue->fresh < count) {
        if (queue->chunk_count == CHUNKS_MAX)
            return false;
        size_t entries = ((size_t)queue->chunk_count + 1) * CHUNK_ENTRIES;
        if (queue->heap_capacity < entries) {
            size_t capacity = queue->heap_capacity == 0 ? entries : queue->heap_capacity * 2;
            struct wait *heap = realloc(queue->heap, capacity * sizeof *heap);
            if (heap == NULL)
                return false;
            queue->heap = heap;
            queue->heap_capacity = capacity;
        }
        struct queue_entry *chunk = malloc(CHUNK_ENTRIES * sizeof *chunk);
        if (chunk == NULL)
            return false;
        queue->chunks[queue->chunk_count++] = chunk;
    }
    return true;
}

struct queue_entry *queue_add(struct queue *queue, const struct spool_message *message,
                              uint64_t now_us, uint64_t due_us)
{
    struct queue_entry *entry;

    if (queue->free_first != 0) {
        entry = entry_at(queue, queue->free_first - 1);
        queue->free_first = entry->next;
    } else {
        CHECK(queue->fresh < (size_t)queue->chunk_count * CHUNK_ENTRIES);
        entry = entry_at(queue, queue->fresh);
        entry->index = queue->fresh++;
    }
    entry->message = *message;
    entry->due_us = due_us;
    entry->queued_us = now_us;
    if (message->recipient_count > FEW)
        entry->done.many = NULL;
    else
        entry->done.few = 0;
    entry->open_count = message->recipient_count;
    entry->moving = entry->unseen = false;
    entry->state = QUEUE_TAKEN;
    queue->count++;
    if (due_us <= now_us)
        push_ready(queue, entry);
    else
        queue_wait(queue, entry, due_us);
    return entry;
}

struct queue_entry *queue_take(struct queue *queue, uint64_t now_us)
{
    struct queue_entry *entry;
    bool late = queue->heap_count > 0 && queue->heap[0].due_us <= now_us;

    if (queue->ready_first != 0) {
        const struct queue_entry *ready = entry_at(queue, queue->ready_first - 1);
        late = late && queue->heap[0].due_us < ready->due_us;
    } else if (!late) {
        return NULL;
    }
    if (late) {
        entry = entry_at(queue, queue->heap[0].index);
        CHECK(entry->state == QUEUE_WAITING);
        heap_pop(queue);
    } else {
        entry = pop_ready(queue);
        CHECK(entry->state == QUEUE_READY);
    }
    entry->state = QUEUE_TAKEN;
    return entry;
}

void queue_wait(struct queue *queue, struct queue_entry *entry, uint64_t due_us)
{
    CHECK(entry->state == QUEUE_TAKEN);
    entry->state = QUEUE_WAITING;
    entry->due_us = due_us;
    heap_push(queue, (struct wait){due_us, entry->index});
}

void queue_hold(struct queue *queue, struct queue_entry *entry)
{
    CHECK(entry->state == QUEUE_TAKEN);
    entry->state = QUEUE_HELD;
    queue->held++;
}

void queue_remove(struct queue *queue, struct queue_entry *entry)
{
    CHECK(entry->state == QUEUE_TAKEN);
    if (entry->message.recipient_count > FEW)
        free(entry->done.many);
    entry->state = QUEUE_FREE;
    entry->next = queue->free_first;
    queue->free_first = entry->index + 1;
    queue->count--;
}

uint64_t queue_delay_us(struct queue *queue, uint32_t attempts)
{
    uint64_t delay = queue->retry_min_us;
    for (uint32_t i = 1; i < attempts && delay < queue->retry_max_us; i++)
        delay *= 2;
    if (delay > queue->retry_max_us)
        delay = queue->retry_max_us;
    /* splitmix64 */
    uint64_t random = queue->random += 0x9e3779b97f4a7c15;
    random = (random ^ random >> 30) * 0xbf58476d1ce4e5b9;
    random = (random ^ random >> 27) * 0x94d049bb133111eb;
    random ^= random >> 31;
    return delay + random % (delay / 4 + 1);
}

void queue_finish(struct queue_entry *entry, uint32_t recipient)
{
    uint64_t bit = 1ull << recipient % 64;

    CHECK(recipient < entry->message.recipient_count);
    if (queue_finished(entry, recipient))
        return;
    if (entry->message.recipient_count <= FEW) {
        entry->done.few |= bit;
    } else {
        if (entry->done.many == NULL)
            entry->done.many = calloc((entry->message.recipient_count + 63) / 64, sizeof(uint64_t));
        if (entry->done.many == NULL)
            return;
        entry->done.many[recipient / 64] |= bit;
    }
    entry->open_count--;
}

bool queue_finished(const struct queue_entry *entry, uint32_t recipient)
{
    CHECK(recipient < entry->message.recipient_count);
    if (entry->message.recipient_count <= FEW)
        return (entry->done.few >> recipient & 1) != 0;
    return entry->done.many != NULL &&
           (entry->done.many[recipient / 64] >> recipient % 64 & 1) != 0;
}

const uint8_t *queue_finished_map(const struct queue_entry *entry)
{
    /* 64-bit words are such a bitmap as they stand, on the little-endian machines that the spool is
     * for. */
    if (entry->open_count == entry->message.recipient_count)
        return NULL;
    return entry->message.recipient_count <= FEW ? (const uint8_t *)&entry->done.few
                                                 : (const uint8_t *)entry->done.many;
}

void queue_flush(struct queue *queue, uint64_t now_us)
{
    /* All equal is a heap, too. */
    for (size_t i = 0; i < queue->heap_count; i++) {
        queue->heap[i].due_us = now_us;
        entry_at(queue, queue->heap[i].index)->due_us = now_us;
    }
    for (uint32_t i = 0; i < queue->fresh && queue->held > 0; i++) {
        struct queue_entry *entry = entry_at(queue, i);
        if (entry->state != QUEUE_HELD)
            continue;
        queue->held--;
        entry->due_us = now_us;
        push_ready(queue, entry);
    }
}

uint64_t queue_next_us(const struct queue *queue)
{
    if (queue->ready_first != 0)
        return 0;
    return queue->heap_count > 0 ? queue->heap[0].due_us : UINT64_MAX;
}

struct queue_entry *queue_at(const struct queue *queue, size_t index)
{
    CHECK(index < queue->fresh);
    struct queue_entry *entry = entry_at(queue, (uint32_t)index);
    return entry->state == QUEUE_FREE ? NULL : entry;
}

size_t queue_slots(const struct queue *queue)
{
    return queue->fresh;
}

size_t queue_count(const struct queue *queue)
{
    return queue->count;
}

size_t queue_held(const struct queue *queue)
{
    return queue->held;
}

size_t queue_memory(const struct queue *queue)
{
    return sizeof *queue + (size_t)queue->chunk_count * CHUNK_ENTRIES * sizeof(struct queue_entry) +
           queue->heap_capacity * sizeof(struct wait);
}

static struct queue_entry *entry_at(const struct queue *queue, uint32_t index)
{
    return &queue->chunks[index / CHUNK_ENTRIES][index % CHUNK_ENTRIES];
}

static void push_ready(struct queue *queue, struct queue_entry *entry)
{
    entry->state = QUEUE_READY;
    entry->next = 0;
    if (queue->ready_first == 0)
        queue->ready_first = entry->index + 1;
    else
        entry_at(queue, queue->ready_last - 1)->next = entry->index + 1;
    queue->ready_last = entry->index + 1;
}

static struct queue_entry *pop_ready(struct queue *queue)
{
    struct queue_entry *entry = entry_at(queue, queue->ready_first - 1);
    queue->ready_first = entry->next;
    return entry;
}

static void heap_push(struct queue *queue, struct wait wait)
{
    CHECK(queue->heap_count < queue->heap_capacity);
    size_t at = queue->heap_count++;
    while (at > 0 && queue->heap[(at - 1) / 4].due_us > wait.due_us) {
        queue->heap[at] = queue->heap[(at - 1) / 4];
        at = (at - 1) / 4;
    }
    queue->heap[at] = wait;
}

/* Takes the first out; the last fills the gap and sinks to its place. */
static void heap_pop(struct queue *queue)
{
    struct wait last = queue->heap[--queue->heap_count];
    size_t at = 0;

    for (;;) {
        size_t least = 4 * at + 1;
        if (least >= queue->heap_count)
            break;
        size_t end = least + 4 < queue->heap_count ? least + 4 : queue->heap_count;
        for (size_t child = least + 1; child < end; child++)
            if (queue->heap[child].due_us < queue->heap[least].due_us)
                least = child;
        if (queue->heap[least].due_us >= last.due_us)
            break;
        queue->heap[at] = queue->heap[least];
        at = least;
    }
    queue->heap[at] = last;
}
