/* The storage of ringmx-null: what gathers is written by a thread of its own, one batch at a time,
 * with one sync for all of it. Two batches: one gathers while the other is being written. */
#ifndef BENCH_NULL_STORE_H
#define BENCH_NULL_STORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { STORE_SEGMENT_COUNT = 4 };

enum durability {
    DURABLE_NOT,       /* keep nothing */
    DURABLE_DIRECT,    /* O_DIRECT and O_DSYNC into recycled segments written once with zeros */
    DURABLE_FDATASYNC, /* append to a growing file, one fdatasync a batch */
};

struct waiter {
    uint32_t slot, generation;
};

struct batch {
    uint8_t *bytes;
    size_t len;
    struct waiter *waiters;
    uint32_t waiter_count;
};

/* The worker fills `gather` and hands it over; from then to the bell it belongs to the writer. */
struct store {
    enum durability durability;
    const char *dir;
    struct batch batches[2];
    struct batch *gather, *in_flight;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct batch *handed; /* under the lock */
    atomic_bool durable;  /* in_flight belongs to the worker again */
    int bell;             /* an eventfd: readable when that has happened */
    int segments[STORE_SEGMENT_COUNT];
    unsigned segment;
    off_t offset;
};

/* Creates the segment files in `dir` and starts the writer, on the CPU of the caller. */
void store_start(struct store *store);

/* Whether all that one receive of up to 16 KiB can bring still fits. */
bool store_has_room(const struct store *store);

/* Copies `len` bytes of the message that `slot` is sending: the one copy on the way to the disk. */
void store_add(struct store *store, uint32_t slot, const uint8_t *bytes, size_t len);

/* Remembers who is answered when all that was added so far is durable. */
void store_wait(struct store *store, uint32_t slot, uint32_t generation);

/* Gives the writer what has gathered, if it is idle and there is something to write. */
void store_hand_over(struct store *store);

/* After the bell: what the waiters of the returned batch wait for is durable. Then store_done. NULL
 * if nothing is. */
struct batch *store_durable(struct store *store);
void store_done(struct store *store);

/* Of main: says why and exits. Zeroed memory that is never freed. */
__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);
void *map(size_t size);

#endif
