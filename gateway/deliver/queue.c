/* Messages and consignments lie in chunks that never move, so pointers to them hold. What came new
 * forms a list, first come first out, at no cost; only what waits for a time goes through the heap.
 * A consignment knows its place in the heap, so that it can be taken out of the middle. */
#include "gateway/deliver/queue.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/deliver/deadlines.h"

enum {
    CHUNK_ENTRIES = 16384,
    CHUNKS_MAX = 16384, /* 268 million messages: the disk is full long before */
    FEW = 64,           /* recipients whose marks fit in the message */
    HEAP_FIRST = CHUNK_ENTRIES,
    QUEUE_MESSAGE_MAX = 256, /* octets for a message with one destination; see queue.h */
};

struct wait {
    uint64_t due_us;
    struct consignment *consignment;
};

/* The heap grows by a quarter, so 5/4 of an entry is the most that one consignment can cost; a
 * message with a time by which it is to be delivered may have two entries among the deadlines. */
static_assert(sizeof(struct queue_message) + sizeof(struct consignment) +
                      sizeof(struct wait) * 5 / 4 + 2 + 2 * sizeof(struct deadline) <=
                  QUEUE_MESSAGE_MAX,
              "the header says so");

/* Entries of one size, in chunks. Those that were given back are on a list of the queue's. */
struct store {
    size_t size; /* of an entry */
    uint32_t free_count;
    uint32_t fresh; /* entries from here on were never used */
    uint32_t chunk_count;
    uint8_t *chunks[CHUNKS_MAX];
};

struct queue {
    uint32_t schedule_s[QUEUE_SCHEDULE_MAX];
    uint32_t schedule_count;
    uint64_t random;
    uint64_t now_us; /* the latest that was told */
    size_t count, held;
    struct line fresh; /* arrived, and never taken since */
    struct line ready; /* due again */
    bool fresh_had;    /* the last one that was taken was fresh */
    struct wait *heap; /* children of i: 4i + 1 to 4i + 4 */
    size_t heap_count, heap_capacity;
    struct store messages, consignments;
    uint32_t message_free;                /* index + 1, linked by open_count; 0: none */
    struct consignment *consignment_free; /* linked by next */
};

static bool store_reserve(struct store *store, size_t count);
static void *store_fresh(struct store *store);
static void *store_at(const struct store *store, uint32_t index);
static struct queue_message *take_message(struct queue *queue);
static struct consignment *take_consignment(struct queue *queue);
static bool heap_reserve(struct queue *queue, size_t count);
static void heap_push(struct queue *queue, struct wait wait);
static void heap_remove(struct queue *queue, size_t place);

struct queue *queue_new(const struct queue_options *options)
{
    struct queue *queue = calloc(1, sizeof *queue);
    if (queue == NULL)
        return NULL;
    queue_configure(queue, options->schedule_s, options->schedule_count);
    queue->random = options->seed;
    queue->messages.size = sizeof(struct queue_message);
    queue->consignments.size = sizeof(struct consignment);
    return queue;
}

void queue_free(struct queue *queue)
{
    if (queue == NULL)
        return;
    for (size_t i = 0; i < queue_slots(queue); i++) {
        struct queue_message *message = queue_at(queue, i);
        if (message != NULL && message->spool.recipient_count > FEW)
            free(message->done.many);
    }
    for (uint32_t i = 0; i < queue->messages.chunk_count; i++)
        free(queue->messages.chunks[i]);
    for (uint32_t i = 0; i < queue->consignments.chunk_count; i++)
        free(queue->consignments.chunks[i]);
    free(queue->heap);
    free(queue);
}

bool queue_reserve(struct queue *queue, size_t count)
{
    return store_reserve(&queue->messages, count) && store_reserve(&queue->consignments, count) &&
           heap_reserve(queue, count);
}

bool queue_reserve_consignments(struct queue *queue, size_t count)
{
    size_t used = queue->consignments.fresh - queue->consignments.free_count;
    CHECK(used >= queue->count);
    return (count == 0 || used - queue->count + count <= QUEUE_EXTRA_MAX) &&
           store_reserve(&queue->consignments, count) && heap_reserve(queue, count);
}

/* Makes a TAKEN consignment of `message`, behind `before` (NULL: its first). */
static struct consignment *add_consignment(struct queue *queue, struct queue_message *message,
                                           struct consignment *before)
{
    struct consignment *consignment = take_consignment(queue);

    int priority = message->spool.priority;
    *consignment = (struct consignment){.message = message, .state = CONSIGNMENT_TAKEN};
    consignment->rank = priority > 0 ? 0 : priority == 0 ? 1 : 2;
    consignment->sibling_before = before;
    struct consignment **link = before == NULL ? &message->consignments : &before->sibling;
    consignment->sibling = *link;
    if (consignment->sibling != NULL)
        consignment->sibling->sibling_before = consignment;
    *link = consignment;
    return consignment;
}

struct queue_message *queue_add(struct queue *queue, const struct spool_message *message,
                                uint64_t now_us, uint64_t due_us)
{
    struct queue_message *added = take_message(queue);

    *added = (struct queue_message){
        .spool = *message,
        .open_count = message->recipient_count,
        .index = added->index,
        .queued_s = (uint32_t)(now_us / 1000000),
    };
    queue->count++;
    if (now_us > queue->now_us)
        queue->now_us = now_us;
    struct consignment *consignment = add_consignment(queue, added, NULL);
    if (due_us > now_us) {
        consignment_wait(queue, consignment, due_us);
    } else {
        consignment->due_us = due_us;
        consignment->fresh = true;
        line_join(&queue->fresh, consignment, CONSIGNMENT_READY);
    }
    return added;
}

struct consignment *queue_take(struct queue *queue, uint64_t now_us)
{
    struct consignment *consignment = line_next(&queue->ready);
    struct line *line = &queue->ready;
    bool late = queue->heap_count > 0 && queue->heap[0].due_us <= now_us;

    if (now_us > queue->now_us)
        queue->now_us = now_us;
    if (late && (consignment == NULL || queue->heap[0].due_us < consignment->due_us)) {
        consignment = queue->heap[0].consignment;
        line = NULL;
    }
    queue->fresh_had = queue->fresh.first != NULL && (consignment == NULL || !queue->fresh_had);
    if (queue->fresh_had) {
        consignment = line_next(&queue->fresh);
        line = &queue->fresh;
    }
    if (consignment == NULL)
        return NULL;
    if (line != NULL)
        line_count_turn(line, consignment);
    consignment_grab(queue, consignment);
    return consignment;
}

struct consignment *queue_split(struct queue *queue, struct consignment *taken)
{
    CHECK(taken->state == CONSIGNMENT_TAKEN);
    return add_consignment(queue, taken->message, taken);
}

void consignment_wait(struct queue *queue, struct consignment *taken, uint64_t due_us)
{
    CHECK(taken->state == CONSIGNMENT_TAKEN);
    taken->state = CONSIGNMENT_WAITING;
    taken->fresh = false;
    taken->due_us = due_us;
    heap_push(queue, (struct wait){due_us, taken});
}

void consignment_hold(struct queue *queue, struct consignment *taken)
{
    CHECK(taken->state == CONSIGNMENT_TAKEN);
    taken->state = CONSIGNMENT_HELD;
    taken->fresh = false;
    queue->held++;
}

void consignment_ready(struct queue *queue, struct consignment *taken)
{
    CHECK(taken->state == CONSIGNMENT_TAKEN);
    taken->fresh = false;
    taken->due_us = queue->now_us;
    line_join(&queue->ready, taken, CONSIGNMENT_READY);
}

bool consignment_drop(struct queue *queue, struct consignment *taken)
{
    struct queue_message *message = taken->message;

    CHECK(taken->state == CONSIGNMENT_TAKEN);
    if (taken->sibling != NULL)
        taken->sibling->sibling_before = taken->sibling_before;
    if (taken->sibling_before != NULL)
        taken->sibling_before->sibling = taken->sibling;
    else
        message->consignments = taken->sibling;
    taken->state = CONSIGNMENT_FREE;
    taken->next = queue->consignment_free;
    queue->consignment_free = taken;
    queue->consignments.free_count++;
    if (message->consignments != NULL)
        return false;
    if (message->spool.recipient_count > FEW)
        free(message->done.many);
    message->open_count = queue->message_free;
    queue->message_free = message->index + 1;
    queue->messages.free_count++;
    queue->count--;
    return true;
}

void consignment_grab(struct queue *queue, struct consignment *consignment)
{
    switch ((enum consignment_state)consignment->state) {
    case CONSIGNMENT_READY:
        line_part(consignment->fresh ? &queue->fresh : &queue->ready, consignment);
        break;
    case CONSIGNMENT_WAITING: heap_remove(queue, consignment->heap_place); break;
    case CONSIGNMENT_HELD: queue->held--; break;
    default: CHECK(false);
    }
    consignment->state = CONSIGNMENT_TAKEN;
}

void queue_configure(struct queue *queue, const uint32_t *schedule_s, uint32_t schedule_count)
{
    CHECK(schedule_count > 0 && schedule_count <= QUEUE_SCHEDULE_MAX);
    for (uint32_t i = 0; i < schedule_count; i++)
        queue->schedule_s[i] = schedule_s[i];
    queue->schedule_count = schedule_count;
}

uint64_t queue_delay_us(struct queue *queue, uint32_t attempts)
{
    uint32_t step = attempts == 0 ? 0 : attempts - 1;
    if (step >= queue->schedule_count)
        step = queue->schedule_count - 1;
    uint64_t delay = queue->schedule_s[step] * 1000000ull;
    /* splitmix64 */
    uint64_t random = queue->random += 0x9e3779b97f4a7c15;
    random = (random ^ random >> 30) * 0xbf58476d1ce4e5b9;
    random = (random ^ random >> 27) * 0x94d049bb133111eb;
    random ^= random >> 31;
    return delay + random % (delay / 4 + 1);
}

uint64_t queue_delay_longest_us(const struct queue *queue)
{
    uint64_t longest = 0;
    for (uint32_t i = 0; i < queue->schedule_count; i++)
        if (queue->schedule_s[i] > longest)
            longest = queue->schedule_s[i];
    return longest * 1000000 + longest * 1000000 / 4;
}

void queue_finish(struct queue_message *message, uint32_t recipient)
{
    uint32_t count = message->spool.recipient_count;

    CHECK(recipient < count);
    if (queue_finished(message, recipient))
        return;
    uint64_t bit = 1ull << recipient % 64;
    if (count <= FEW) {
        message->done.few |= bit;
    } else {
        if (message->done.many == NULL)
            message->done.many = calloc((count + 63) / 64, sizeof(uint64_t));
        if (message->done.many == NULL)
            return;
        message->done.many[recipient / 64] |= bit;
    }
    message->open_count--;
}

bool queue_finished(const struct queue_message *message, uint32_t recipient)
{
    CHECK(recipient < message->spool.recipient_count);
    if (message->spool.recipient_count <= FEW)
        return (message->done.few >> recipient & 1) != 0;
    return message->done.many != NULL &&
           (message->done.many[recipient / 64] >> recipient % 64 & 1) != 0;
}

const uint8_t *queue_finished_map(const struct queue_message *message)
{
    /* 64-bit words are such a bitmap as they stand, on the little-endian machines that the spool is
     * for. */
    if (message->open_count == message->spool.recipient_count)
        return NULL;
    return message->spool.recipient_count <= FEW ? (const uint8_t *)&message->done.few
                                                 : (const uint8_t *)message->done.many;
}

void queue_flush(struct queue *queue, uint64_t now_us, bool held)
{
    if (now_us > queue->now_us)
        queue->now_us = now_us;
    /* What is late already stays before the rest, so the heap remains one. */
    for (size_t i = 0; i < queue->heap_count; i++) {
        if (queue->heap[i].due_us <= now_us)
            continue;
        queue->heap[i].due_us = now_us;
        queue->heap[i].consignment->due_us = now_us;
    }
    for (uint32_t i = 0; held && i < queue->consignments.fresh && queue->held > 0; i++) {
        struct consignment *consignment = store_at(&queue->consignments, i);
        if (consignment->state != CONSIGNMENT_HELD)
            continue;
        consignment_grab(queue, consignment);
        consignment_ready(queue, consignment);
    }
}

uint64_t queue_next_us(const struct queue *queue)
{
    if (queue->fresh.first != NULL || queue->ready.first != NULL)
        return 0;
    return queue->heap_count > 0 ? queue->heap[0].due_us : UINT64_MAX;
}

struct queue_message *queue_at(const struct queue *queue, size_t index)
{
    CHECK(index < queue->messages.fresh);
    struct queue_message *message = store_at(&queue->messages, (uint32_t)index);
    return message->consignments == NULL ? NULL : message;
}

struct queue_message *queue_find(const struct queue *queue, uint64_t message_id)
{
    for (uint32_t i = 0; i < queue->messages.fresh; i++) {
        struct queue_message *message = store_at(&queue->messages, i);
        if (message->spool.message_id == message_id && message->consignments != NULL)
            return message;
    }
    return NULL;
}

size_t queue_slots(const struct queue *queue)
{
    return queue->messages.fresh;
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
    const struct store *messages = &queue->messages, *consignments = &queue->consignments;
    return sizeof *queue + (size_t)messages->chunk_count * CHUNK_ENTRIES * messages->size +
           (size_t)consignments->chunk_count * CHUNK_ENTRIES * consignments->size +
           queue->heap_capacity * sizeof(struct wait);
}

/* --- chunks --- */

static bool store_reserve(struct store *store, size_t count)
{
    while ((size_t)store->chunk_count * CHUNK_ENTRIES - store->fresh + store->free_count < count) {
        if (store->chunk_count == CHUNKS_MAX)
            return false;
        uint8_t *chunk = malloc(CHUNK_ENTRIES * store->size);
        if (chunk == NULL)
            return false;
        store->chunks[store->chunk_count++] = chunk;
    }
    return true;
}

static void *store_fresh(struct store *store)
{
    CHECK(store->fresh < (size_t)store->chunk_count * CHUNK_ENTRIES);
    return store_at(store, store->fresh++);
}

static void *store_at(const struct store *store, uint32_t index)
{
    return store->chunks[index / CHUNK_ENTRIES] + index % CHUNK_ENTRIES * store->size;
}

static struct queue_message *take_message(struct queue *queue)
{
    struct queue_message *message;

    if (queue->message_free == 0) {
        message = store_fresh(&queue->messages);
        message->index = queue->messages.fresh - 1;
        return message;
    }
    message = store_at(&queue->messages, queue->message_free - 1);
    queue->message_free = message->open_count;
    queue->messages.free_count--;
    return message;
}

static struct consignment *take_consignment(struct queue *queue)
{
    struct consignment *consignment = queue->consignment_free;

    if (consignment == NULL)
        return store_fresh(&queue->consignments);
    queue->consignment_free = consignment->next;
    queue->consignments.free_count--;
    return consignment;
}

/* --- the heap --- */

/* Room for all consignments that there are and `count` more. */
static bool heap_reserve(struct queue *queue, size_t count)
{
    size_t wanted = queue->consignments.fresh - queue->consignments.free_count + count;
    if (wanted <= queue->heap_capacity)
        return true;
    size_t capacity = queue->heap_capacity + queue->heap_capacity / 4;
    if (capacity < HEAP_FIRST)
        capacity = HEAP_FIRST;
    if (capacity < wanted)
        capacity = wanted;
    struct wait *heap = realloc(queue->heap, capacity * sizeof *heap);
    if (heap == NULL)
        return false;
    queue->heap = heap;
    queue->heap_capacity = capacity;
    return true;
}

static void heap_set(struct queue *queue, size_t place, struct wait wait)
{
    queue->heap[place] = wait;
    wait.consignment->heap_place = (uint32_t)place;
}

/* Puts `wait` at `place` or, where it is due before them, in the place of those above. */
static void heap_rise(struct queue *queue, size_t place, struct wait wait)
{
    while (place > 0 && queue->heap[(place - 1) / 4].due_us > wait.due_us) {
        heap_set(queue, place, queue->heap[(place - 1) / 4]);
        place = (place - 1) / 4;
    }
    heap_set(queue, place, wait);
}

static void heap_push(struct queue *queue, struct wait wait)
{
    CHECK(queue->heap_count < queue->heap_capacity);
    heap_rise(queue, queue->heap_count++, wait);
}

/* Takes one out; the last fills the gap and goes to where it belongs. */
static void heap_remove(struct queue *queue, size_t place)
{
    struct wait last = queue->heap[--queue->heap_count];

    if (place == queue->heap_count)
        return;
    for (;;) {
        size_t least = 4 * place + 1;
        if (least >= queue->heap_count)
            break;
        size_t end = least + 4 < queue->heap_count ? least + 4 : queue->heap_count;
        for (size_t child = least + 1; child < end; child++)
            if (queue->heap[child].due_us < queue->heap[least].due_us)
                least = child;
        if (queue->heap[least].due_us >= last.due_us)
            break;
        heap_set(queue, place, queue->heap[least]);
        place = least;
    }
    heap_rise(queue, place, last);
}
