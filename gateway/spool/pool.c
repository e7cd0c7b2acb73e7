/* Segments by generation, in a ring of pointers that readers follow without a lock. Only the oldest
 * segment ever leaves, so that no record outlives an older one (docs/spool.md, "Recycling"). */
#include "gateway/spool/pool.h"

#include "gateway/base/bell.h"
#include "gateway/base/check.h"

#include <stdlib.h>
#include <string.h>

enum {
    PINNED_SEGMENTS = 3, /* relocating gives back so many segments at least, */
    PINNED_GAIN = 3,     /* and so many octets for each one that it copies */
};

static _Atomic(struct segment *) *slot_of(const struct pool *pool, uint64_t generation)
{
    return &pool->segments[generation & (POOL_SEGMENTS - 1)];
}

bool pool_init(struct pool *pool, uint64_t segment_size, uint32_t ready_wanted,
               struct bell *preparer)
{
    CHECK(ready_wanted >= 1 && ready_wanted < POOL_READY);
    *pool = (struct pool){.segment_size = segment_size,
                          .ready_wanted = ready_wanted,
                          .preparer = preparer,
                          .generation_next = 1};
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->changed, NULL);
    pool->segments = calloc(POOL_SEGMENTS, sizeof *pool->segments);
    return pool->segments != NULL;
}

void pool_free(struct pool *pool)
{
    for (uint32_t i = 0; pool->segments != NULL && i < POOL_SEGMENTS; i++)
        segment_free(atomic_load(&pool->segments[i]));
    for (uint32_t i = 0; i < pool->ready_count; i++)
        segment_free(pool->ready[i]);
    free(pool->segments);
    pthread_cond_destroy(&pool->changed);
    pthread_mutex_destroy(&pool->mutex);
}

/* queue_full: what is under way when it begins is still taken, so there may be a few more. */
static bool queue_full(const struct pool *pool)
{
    uint64_t max = atomic_load(&pool->messages_max);
    return max != 0 && atomic_load(&pool->messages) >= max;
}

/* Held lock. */
static void update_state(struct pool *pool)
{
    uint64_t room = pool->room + pool->ready_count * pool->segment_size;
    enum spool_state state = SPOOL_OPEN;
    if (pool->broken)
        state = SPOOL_BROKEN;
    else if (pool->prepare_error != 0 && room < pool->segment_size)
        state = SPOOL_FULL;
    else if (queue_full(pool))
        state = SPOOL_QUEUE_FULL;
    atomic_store_explicit(&pool->state, state, memory_order_relaxed);
}

/* Held lock. */
static bool add_used(struct pool *pool, struct segment *segment)
{
    uint64_t generation = segment->generation;
    CHECK(generation > pool->newest);
    if (pool->newest != 0 && generation - pool->oldest >= POOL_SEGMENTS)
        return false;
    if (pool->newest == 0)
        pool->oldest = generation;
    pool->newest = generation;
    if (generation >= pool->generation_next)
        pool->generation_next = generation + 1;
    pool->used_count++;
    pool->poisoned_count += atomic_load(&segment->poisoned);
    atomic_store_explicit(slot_of(pool, generation), segment, memory_order_release);
    return true;
}

bool pool_add(struct pool *pool, struct segment *segment)
{
    pthread_mutex_lock(&pool->mutex);
    bool added = add_used(pool, segment);
    pthread_mutex_unlock(&pool->mutex);
    return added;
}

bool pool_add_ready(struct pool *pool, struct segment *segment)
{
    pthread_mutex_lock(&pool->mutex);
    bool fits = pool->ready_count < POOL_READY;
    if (fits) {
        pool->ready[pool->ready_count++] = segment;
        if (segment->generation >= pool->generation_next)
            pool->generation_next = segment->generation + 1;
        pthread_cond_broadcast(&pool->changed);
        update_state(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return fits;
}

struct segment *pool_take(struct pool *pool, bool wait)
{
    struct segment *segment = NULL;
    pthread_mutex_lock(&pool->mutex);
    while (wait && pool->ready_count == 0 && pool->prepare_error == 0 && !pool->stopping) {
        bell_ring(pool->preparer);
        pthread_cond_wait(&pool->changed, &pool->mutex);
    }
    if (pool->ready_count != 0 && add_used(pool, pool->ready[0])) {
        segment = pool->ready[0];
        pool->ready_count--;
        memmove(pool->ready, pool->ready + 1, pool->ready_count * sizeof *pool->ready);
    }
    pthread_mutex_unlock(&pool->mutex);
    bell_ring(pool->preparer);
    return segment;
}

struct segment *pool_peek_ready(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    struct segment *segment = pool->ready_count != 0 ? pool->ready[0] : NULL;
    pthread_mutex_unlock(&pool->mutex);
    return segment;
}

uint64_t pool_generation(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    uint64_t generation = pool->generation_next++;
    pthread_mutex_unlock(&pool->mutex);
    return generation;
}

void pool_generations_from(struct pool *pool, uint64_t generation)
{
    pthread_mutex_lock(&pool->mutex);
    if (generation > pool->generation_next)
        pool->generation_next = generation;
    pthread_mutex_unlock(&pool->mutex);
}

int pool_prepared(struct pool *pool, int error)
{
    pthread_mutex_lock(&pool->mutex);
    int before = pool->prepare_error;
    pool->prepare_error = error;
    pthread_cond_broadcast(&pool->changed);
    update_state(pool);
    pthread_mutex_unlock(&pool->mutex);
    return before;
}

bool pool_wanting(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    bool wanting = pool->ready_count < pool->ready_wanted && !pool->stopping;
    pthread_mutex_unlock(&pool->mutex);
    return wanting;
}

bool pool_keeps(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    bool keeps = pool->ready_count < pool->ready_wanted + POOL_RESERVE && !pool->stopping;
    pthread_mutex_unlock(&pool->mutex);
    return keeps;
}

struct segment *pool_take_dead(struct pool *pool)
{
    struct segment *dead = NULL;
    pthread_mutex_lock(&pool->mutex);
    /* Bounded by POOL_SEGMENTS: generations that were never used leave holes. */
    while (pool->newest != 0 && pool->oldest < pool->newest &&
           atomic_load(slot_of(pool, pool->oldest)) == NULL)
        pool->oldest++;
    struct segment *oldest = pool->newest == 0 ? NULL : atomic_load(slot_of(pool, pool->oldest));
    /* `closed` is set after the last message was counted, and acquires that. */
    if (oldest != NULL && atomic_load(&oldest->closed) && atomic_load(&oldest->live) == 0) {
        dead = oldest;
        atomic_store(slot_of(pool, pool->oldest), NULL);
        pool->used_count--;
        pool->poisoned_count -= atomic_load(&dead->poisoned);
    }
    pthread_mutex_unlock(&pool->mutex);
    return dead;
}

struct segment *pool_next_poisoned(struct pool *pool)
{
    struct segment *found = NULL;
    pthread_mutex_lock(&pool->mutex);
    for (uint64_t generation = pool->oldest;
         pool->poisoned_count != 0 && found == NULL && generation <= pool->newest; generation++) {
        struct segment *segment = atomic_load(slot_of(pool, generation));
        if (segment != NULL && atomic_load(&segment->poisoned) && !segment->renamed)
            found = segment;
    }
    pthread_mutex_unlock(&pool->mutex);
    return found;
}

struct segment *pool_find(const struct pool *pool, uint64_t generation)
{
    struct segment *segment = atomic_load_explicit(slot_of(pool, generation), memory_order_acquire);
    return segment != NULL && segment->generation == generation ? segment : NULL;
}

struct segment *pool_borrow(struct pool *pool, uint64_t generation)
{
    pthread_mutex_lock(&pool->mutex); /* pool_take_dead looks at `live` with it */
    struct segment *segment = pool_find(pool, generation);
    if (segment != NULL)
        atomic_fetch_add_explicit(&segment->live, 1, memory_order_relaxed);
    pthread_mutex_unlock(&pool->mutex);
    return segment;
}

void pool_hold(struct pool *pool, uint64_t generation, uint64_t count, uint64_t octets)
{
    struct segment *segment = pool_find(pool, generation);
    CHECK(segment != NULL);
    atomic_fetch_add_explicit(&segment->live, count, memory_order_relaxed);
    atomic_fetch_add_explicit(&segment->live_octets, octets, memory_order_relaxed);
}

void pool_release(struct pool *pool, uint64_t generation, uint64_t octets)
{
    struct segment *segment = pool_find(pool, generation);
    CHECK(segment != NULL);
    bool closed = atomic_load_explicit(&segment->closed, memory_order_relaxed);
    atomic_fetch_sub_explicit(&segment->live_octets, octets, memory_order_relaxed);
    /* Nothing of the segment may be touched after its last message has gone. */
    uint64_t before = atomic_fetch_sub(&segment->live, 1);
    CHECK(before != 0);
    if (before == 1 && closed)
        bell_ring(pool->preparer);
}

static void queue_changed(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    update_state(pool);
    pthread_mutex_unlock(&pool->mutex);
}

/* Whoever takes the count over the bound, or back, says so; under the lock both look at it again,
 * so the last one is right. */
void pool_messages_add(struct pool *pool, uint64_t count)
{
    uint64_t before = atomic_fetch_add(&pool->messages, count);
    uint64_t max = atomic_load(&pool->messages_max);
    if (before < max && before + count >= max)
        queue_changed(pool);
}

void pool_messages_remove(struct pool *pool)
{
    uint64_t before = atomic_fetch_sub(&pool->messages, 1);
    CHECK(before != 0);
    if (before == atomic_load(&pool->messages_max))
        queue_changed(pool);
}

void pool_messages_bound(struct pool *pool, uint64_t messages_max)
{
    atomic_store(&pool->messages_max, messages_max);
    queue_changed(pool);
}

void pool_close(struct pool *pool, struct segment *segment)
{
    atomic_store(&segment->closed, true);
    /* Its messages may have gone already, with nobody to tell the preparer. */
    bell_ring(pool->preparer);
}

void pool_poison(struct pool *pool, struct segment *segment, uint64_t trusted_end)
{
    pthread_mutex_lock(&pool->mutex);
    segment->trusted_end = trusted_end;
    atomic_store(&segment->poisoned, true);
    atomic_store(&segment->closed, true);
    pool->poisoned_count++;
    pthread_mutex_unlock(&pool->mutex);
    bell_ring(pool->preparer);
}

void pool_report(struct pool *pool, uint64_t room, bool broken)
{
    pthread_mutex_lock(&pool->mutex);
    pool->room = room;
    pool->broken = broken;
    update_state(pool);
    pthread_mutex_unlock(&pool->mutex);
}

/* Held lock. Adds up the oldest segments, until giving them all back is worth copying what lives in
 * them; then those behind that are worth it each for itself. */
static uint64_t pinned_below(const struct pool *pool)
{
    uint64_t living = 0, dead = 0, below = 0;
    for (uint64_t generation = pool->oldest; generation <= pool->newest; generation++) {
        struct segment *segment = atomic_load(slot_of(pool, generation));
        if (segment == NULL)
            continue;
        if (!atomic_load(&segment->closed))
            break;
        uint64_t here = atomic_load(&segment->live_octets);
        if (here > segment->size)
            here = segment->size;
        if (living == 0 && here == 0 && atomic_load(&segment->live) == 0)
            continue; /* it goes anyway */
        if (below != 0 && segment->size - here < here * PINNED_GAIN)
            break;
        living += here;
        dead += segment->size - here;
        if (dead >= PINNED_SEGMENTS * pool->segment_size && dead >= living * PINNED_GAIN)
            below = generation + 1;
    }
    return living == 0 ? 0 : below;
}

uint64_t pool_pinned(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    uint64_t below = pool->newest == 0 ? 0 : pinned_below(pool);
    pthread_mutex_unlock(&pool->mutex);
    return below;
}

void pool_stop(struct pool *pool)
{
    pthread_mutex_lock(&pool->mutex);
    pool->stopping = true;
    pthread_cond_broadcast(&pool->changed);
    pthread_mutex_unlock(&pool->mutex);
}
