/* All segments of a spool: those in use, found by generation, and the prepared ones that wait.
 * Counts what lives in each, says which may be recycled, and knows whether the spool takes mail.
 * Shared by the writer, the preparer and everybody who reads or releases; counting and finding take
 * no lock. */
#ifndef GATEWAY_SPOOL_POOL_H
#define GATEWAY_SPOOL_POOL_H

#include "gateway/spool/segment.h"

#include <pthread.h>

enum {
    POOL_SEGMENTS = 65536, /* generations from the oldest to the newest; 4 TiB of 64 MiB segments */
    POOL_READY = 16,       /* prepared segments at most */
    POOL_RESERVE = 2,      /* recycled ones that are kept beyond what is asked for */
};

enum spool_state {
    SPOOL_OPEN = 0,       /* takes mail */
    SPOOL_FULL = 1,       /* no room: MAIL is answered 452 4.3.1 */
    SPOOL_QUEUE_FULL = 3, /* so many messages live as may: MAIL is answered 452 4.3.1 */
    SPOOL_BROKEN = 2, /* two sync errors in a row: MAIL is answered 451 4.3.0; tried every second */
};

struct pool {
    uint64_t segment_size;
    uint32_t ready_wanted;
    struct bell *preparer;               /* rung when there is something to prepare or recycle */
    _Atomic(struct segment *) *segments; /* in use, by generation modulo POOL_SEGMENTS */
    _Atomic enum spool_state state;
    _Atomic uint64_t messages;     /* that live */
    _Atomic uint64_t messages_max; /* at so many SPOOL_QUEUE_FULL begins; 0: never */

    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t changed;
    struct segment *ready[POOL_READY]; /* the first is next */
    uint32_t ready_count;
    uint32_t used_count, poisoned_count;
    uint64_t oldest, newest; /* generations in use lie in [oldest, newest]; newest 0: none */
    uint64_t generation_next;
    int prepare_error; /* errno of the last attempt to prepare a segment; 0: it worked */
    uint64_t room;     /* octets left in the active segment */
    bool broken;
    bool stopping; /* nobody prepares any more */
};

/* pool_init and pool_free begin and end a pool; pool_free frees all segments. False: no memory. */
bool pool_init(struct pool *pool, uint64_t segment_size, uint32_t ready_wanted,
               struct bell *preparer) __attribute__((warn_unused_result));
void pool_free(struct pool *pool);

/* pool_add takes a segment into use; generations ascend. pool_add_ready takes a prepared one.
 * False: no room, and the caller keeps it. */
bool pool_add(struct pool *pool, struct segment *segment) __attribute__((warn_unused_result));
bool pool_add_ready(struct pool *pool, struct segment *segment) __attribute__((warn_unused_result));

/* pool_take returns the next prepared segment, now in use and borrowed; waits while one is being
 * prepared, unless `wait` is false. NULL: none can be had. The writer's. */
struct segment *pool_take(struct pool *pool, bool wait);

/* pool_peek_ready returns the segment that pool_take would, which stays where it is; NULL: none. */
struct segment *pool_peek_ready(struct pool *pool);

/* pool_generation returns a generation that was never used. */
uint64_t pool_generation(struct pool *pool);

/* pool_generations_from lets pool_generation begin at `generation` at least. */
void pool_generations_from(struct pool *pool, uint64_t generation);

/* pool_prepared tells the outcome of an attempt to prepare a segment (0 or an errno). Returns the
 * one before. */
int pool_prepared(struct pool *pool, int error);

/* pool_wanting is true when a segment should be prepared. */
bool pool_wanting(struct pool *pool);

/* pool_keeps is true when a dead segment should become ready again instead of being deleted. That
 * is more than pool_wanting asks for: a busy writer takes a segment a little before an old one
 * dies, and without a reserve each one would be deleted just after a new one was written full of
 * zeros. */
bool pool_keeps(struct pool *pool);

/* pool_take_dead takes the oldest segment out of use and returns it, owned, when nothing in it
 * lives; else NULL. */
struct segment *pool_take_dead(struct pool *pool);

/* pool_next_poisoned returns a poisoned segment whose file does not say so yet, or NULL. The
 * preparer's. */
struct segment *pool_next_poisoned(struct pool *pool);

/* pool_find returns the segment in use with this generation, or NULL. It stays while a message that
 * the caller has not released lies in it. */
struct segment *pool_find(const struct pool *pool, uint64_t generation);

/* pool_borrow is pool_find for who has no message there: the segment stays until pool_release. */
struct segment *pool_borrow(struct pool *pool, uint64_t generation);

/* pool_hold counts `count` more messages, that take `octets`, which live in a segment;
 * pool_release one less. */
void pool_hold(struct pool *pool, uint64_t generation, uint64_t count, uint64_t octets);
void pool_release(struct pool *pool, uint64_t generation, uint64_t octets);

/* pool_messages_add counts messages that have begun to live, pool_messages_remove one that has
 * ended. pool_messages_bound sets how many may live; those beyond it stay. */
void pool_messages_add(struct pool *pool, uint64_t count);
void pool_messages_remove(struct pool *pool);
void pool_messages_bound(struct pool *pool, uint64_t messages_max);

/* pool_close says that a segment is full: it may die from now on. */
void pool_close(struct pool *pool, struct segment *segment);

/* pool_poison closes a segment for ever: what lies from `trusted_end` on is not believed. */
void pool_poison(struct pool *pool, struct segment *segment, uint64_t trusted_end);

/* pool_report is the writer's word on how it goes: the room that is left in the active segment, and
 * whether writing is broken. Sets the state. */
void pool_report(struct pool *pool, uint64_t room, bool broken);

/* pool_pinned: see spool_pinned. */
uint64_t pool_pinned(struct pool *pool);

/* pool_stop lets nobody wait for a prepared segment any more. */
void pool_stop(struct pool *pool);

#endif
