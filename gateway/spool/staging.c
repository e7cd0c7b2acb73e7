/* The producer's end of a staging ring. A record that has no room before the end of the ring goes
 * to its beginning, so every record is contiguous; the fast path is a memcpy by the caller, a
 * checksum, and a header of one cache line.
 */
#include "gateway/spool/staging_ring.h"

#include "gateway/base/limits.h"
#include "gateway/base/pages.h"

#include <stdlib.h>

enum {
    /* Cutting at a block takes at most a block and a header that did not fit before its end. Room
     * for it after every record is kept back, twice: by the record that cuts a group, then by
     * publish. */
    STAGING_TAIL = 2 * (LIMIT_BLOCK + RECORD_HEADER),
    /* Every failure mark covers a COMMIT record at least, which is longer than this. */
    STAGING_COMMIT_MIN = RECORD_HEADER,
    STAGING_WINDOW = 2 * 1024 * 1024,
};

struct staging *staging_new(uint64_t size, struct bell *bell, void (*wake)(void *user), void *user)
{
    CHECK(size >= 4 * STAGING_TAIL && (size & (size - 1)) == 0);
    struct staging *staging = aligned_alloc(alignof(struct staging), sizeof *staging);
    if (staging == NULL)
        return NULL;
    *staging = (struct staging){.size = size,
                                .bell = bell,
                                .wake = wake,
                                .wake_user = user,
                                .mark_count = (uint32_t)(size / STAGING_COMMIT_MIN),
                                .room_end = size,
                                .jump_from = UINT64_MAX,
                                .reserved = SIZE_MAX};
    /* Untouched pages cost nothing, and marks are rare. */
    staging->marks = calloc(staging->mark_count, sizeof *staging->marks);
    staging->memory = pages_map(size + LIMIT_BLOCK);
    if (staging->memory == NULL || staging->marks == NULL) {
        staging_free(staging);
        return NULL;
    }
    return staging;
}

void staging_free(struct staging *staging)
{
    if (staging == NULL)
        return;
    pages_unmap(staging->memory, staging->size + LIMIT_BLOCK);
    free(staging->marks);
    free(staging);
}

/* Lays down a PAD record up to the next block boundary; nothing when the head stands on one. */
static void cut(struct staging *staging)
{
    uint64_t gap = -staging->head & (LIMIT_BLOCK - 1);
    if (gap != 0) {
        if (gap < RECORD_HEADER)
            gap += LIMIT_BLOCK;
        struct record *pad = (struct record *)staging_at(staging, staging->head);
        *pad = (struct record){.magic = RECORD_MAGIC,
                               .kind = RECORD_PAD,
                               .payload_len = (uint32_t)(gap - RECORD_HEADER)};
        staging->head += gap;
    }
    staging->boundary = staging->head;
}

/* The end of what the producer may write over, as of now. */
static uint64_t room_end(const struct staging *staging)
{
    uint64_t settled = atomic_load_explicit(&staging->settled, memory_order_acquire);
    return staging_after_jump(staging, settled) + staging->size;
}

static uint64_t offset_of(const struct staging *staging, uint64_t position)
{
    return position & (staging->size - 1);
}

/* The writer knows one jump at a time: the next may come when it has passed the last. */
static bool can_jump(const struct staging *staging)
{
    return atomic_load_explicit(&staging->taken, memory_order_acquire) >= staging->jumped_to;
}

size_t staging_room(const struct staging *staging)
{
    uint64_t here = room_end(staging) - staging->head;
    if (here >= staging->size)
        return staging->size - STAGING_TAIL; /* empty: it can begin again at once */
    uint64_t before_end = staging->size - offset_of(staging, staging->head);
    uint64_t room = here < before_end ? here : before_end;
    if (here > 2 * before_end && can_jump(staging))
        room = here - before_end;
    return room > STAGING_TAIL ? room - STAGING_TAIL : 0;
}

/* Goes on at the beginning of the ring if `need` octets have room there. */
static bool jump(struct staging *staging, uint64_t need)
{
    uint64_t next = (staging->head | (staging->size - 1)) + 1;
    uint64_t end = room_end(staging);
    bool empty = end - staging->head >= staging->size;
    if (!can_jump(staging) || (!empty && next + need > end))
        return false;
    cut(staging);
    if (staging->boundary != next) {
        atomic_store_explicit(&staging->jump_to, next, memory_order_relaxed);
        atomic_store_explicit(&staging->jump_from, staging->boundary, memory_order_release);
        staging->jumped_to = staging->head = staging->boundary = next;
    }
    staging->room_end = room_end(staging);
    return next + need <= staging->room_end;
}

uint8_t *staging_reserve(struct staging *staging, size_t payload_max)
{
    uint64_t need = record_size(payload_max) + STAGING_TAIL;
    CHECK(record_size(payload_max) <= LIMIT_RECORD);
    /* The ring is large for bursts; as long as a small part of it does, that part stays in the
     * cache. */
    if (offset_of(staging, staging->head) >= STAGING_WINDOW)
        (void)jump(staging, STAGING_WINDOW / 2);
    if (offset_of(staging, staging->head) + need > staging->size && !jump(staging, need))
        return NULL;
    uint64_t end = staging->head + need;
    if (end > staging->room_end) {
        staging->room_end = room_end(staging);
        if (end > staging->room_end)
            return NULL;
    }
    /* Readers of the hot cache look at this after they have copied, so it must be visible before
     * the memory changes. An exchange is a full barrier; far steps make it rare. */
    if (end > staging->overwriting) {
        staging->overwriting = end + LIMIT_GROUP;
        atomic_exchange(&staging->overwritten, staging->overwriting);
    }
    staging->reserved = payload_max;
    return staging_at(staging, staging->head + RECORD_HEADER);
}

uint64_t staging_append(struct staging *staging, enum record_kind kind, uint64_t message_id,
                        uint32_t part, size_t payload_len)
{
    CHECK(staging->reserved != SIZE_MAX && payload_len <= staging->reserved);
    CHECK(kind != RECORD_BODY || payload_len <= LIMIT_PIECE);
    uint8_t *at = staging_at(staging, staging->head);
    uint8_t *payload = at + RECORD_HEADER;
    size_t size = record_size(payload_len);
    if (size != RECORD_HEADER + payload_len)
        memset(payload + payload_len, 0, size - RECORD_HEADER - payload_len);
    *(struct record *)at = (struct record){.magic = RECORD_MAGIC,
                                           .kind = (uint8_t)kind,
                                           .payload_len = (uint32_t)payload_len,
                                           .payload_crc = crc32c(0, payload, payload_len),
                                           .message_id = message_id,
                                           .part = part};
    staging->head += size;
    staging->reserved = SIZE_MAX;
    staging->eager |= kind == RECORD_DONE;
    uint64_t end = staging->head;
    if (staging->head - staging->boundary >= LIMIT_GROUP)
        cut(staging);
    return end;
}

void staging_publish(struct staging *staging, bool urgent)
{
    uint64_t before = staging->shown;
    if (urgent || staging->eager)
        cut(staging);
    staging->eager = false;
    staging->shown = staging->boundary;
    if (urgent) {
        uint64_t taken = atomic_load_explicit(&staging->taken, memory_order_relaxed);
        if (staging_after_jump(staging, taken) == staging->shown)
            return;
        atomic_store_explicit(&staging->urgent, staging->shown, memory_order_relaxed);
        atomic_store_explicit(&staging->published, staging->shown, memory_order_release);
        bell_ring(staging->bell);
        return;
    }
    if (staging->shown == before)
        return;
    /* The writer may be dozing over what was shown before: only the first, and what makes the group
     * full, are worth waking it. Sequentially consistent on both sides, or it might sleep on what
     * it has not seen. */
    atomic_store(&staging->published, staging->shown);
    uint64_t taken = staging_after_jump(staging, atomic_load(&staging->taken));
    if (taken >= before || staging->shown - taken >= LIMIT_GROUP)
        bell_ring(staging->bell);
}

bool staging_unpublished(const struct staging *staging)
{
    return staging->head != staging->shown;
}

uint64_t staging_settled(const struct staging *staging)
{
    return atomic_load_explicit(&staging->settled, memory_order_acquire);
}

enum staging_outcome staging_outcome(struct staging *staging, uint64_t position)
{
    if (position > atomic_load_explicit(&staging->settled, memory_order_acquire))
        return STAGING_WAITING;
    uint32_t head = atomic_load_explicit(&staging->mark_head, memory_order_acquire);
    while (staging->mark_asked != head) {
        const struct staging_mark *mark =
            &staging->marks[staging->mark_asked & (staging->mark_count - 1)];
        if (position <= mark->begin)
            return STAGING_DURABLE;
        if (position <= mark->end)
            return mark->outcome;
        staging->mark_asked++;
    }
    return STAGING_DURABLE;
}

void staging_acknowledge(struct staging *staging, uint64_t settled)
{
    uint32_t head = atomic_load_explicit(&staging->mark_head, memory_order_acquire);
    while (staging->mark_asked != head &&
           staging->marks[staging->mark_asked & (staging->mark_count - 1)].end <= settled)
        staging->mark_asked++;
    atomic_store_explicit(&staging->mark_tail, staging->mark_asked, memory_order_release);
}

void staging_set_sleeping(struct staging *staging, bool sleeping)
{
    /* Sequentially consistent, as the store of `settled` is: either the producer sees the new
     * settled, or the writer sees that it sleeps. */
    if (sleeping || atomic_load_explicit(&staging->sleeping, memory_order_relaxed))
        atomic_store(&staging->sleeping, sleeping);
}

struct staging_stretch staging_shown(const struct staging *staging)
{
    uint64_t taken = atomic_load_explicit(&staging->taken, memory_order_relaxed);
    /* Sequentially consistent: staging_publish depends on it. */
    uint64_t end = atomic_load(&staging->published);
    uint64_t from = atomic_load_explicit(&staging->jump_from, memory_order_relaxed);
    uint64_t begin = staging_after_jump(staging, taken);
    if (begin >= end)
        return (struct staging_stretch){taken, taken};
    if (begin < from && from < end)
        end = from;
    return (struct staging_stretch){begin, end};
}

void staging_mark(struct staging *staging, uint64_t begin, uint64_t end,
                  enum staging_outcome outcome)
{
    uint32_t head = atomic_load_explicit(&staging->mark_head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&staging->mark_tail, memory_order_acquire);
    CHECK(begin < end && head - tail < staging->mark_count);
    staging->marks[head & (staging->mark_count - 1)] = (struct staging_mark){begin, end, outcome};
    atomic_store_explicit(&staging->mark_head, head + 1, memory_order_release);
}

void staging_settle(struct staging *staging, uint64_t position)
{
    atomic_store(&staging->settled, position);
    if (atomic_load(&staging->sleeping) && atomic_exchange(&staging->sleeping, false) &&
        staging->wake != NULL)
        staging->wake(staging->wake_user);
}
