/* What is due when: every living message of the spool that still has recipients to reach, with its
 * retry schedule. A pure data structure: no I/O, no thread, no clock of its own. Times are
 * microseconds of the caller's monotonic clock.
 *
 * Memory: 104 octets a message, plus 16 while it waits for a retry, in chunks that are reused and
 * never moved. */
#ifndef GATEWAY_DELIVER_QUEUE_H
#define GATEWAY_DELIVER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/spool/message.h"

enum queue_state {
    QUEUE_FREE = 0,
    QUEUE_READY = 1,   /* due since it came, in order of arrival */
    QUEUE_WAITING = 2, /* due at a time */
    QUEUE_TAKEN = 3,   /* the caller works on it */
    QUEUE_HELD = 4,    /* given up; only queue_flush makes it due again */
};

/* Owned by the queue; pointers to it stay valid until queue_remove. The caller reads all, and
 * writes `message`, `queued_us` and the last two. */
struct queue_entry {
    struct spool_message message; /* `attempts` counts on here */
    uint64_t due_us;
    uint64_t queued_us; /* when it came */
    union {
        uint64_t few;   /* a bit for each finished recipient of up to 64 */
        uint64_t *many; /* the same for more; owned; NULL while none is */
    } done;
    uint32_t open_count; /* recipients not finished */
    uint32_t index;      /* of this entry */
    uint32_t next;       /* index + 1 of the next on the same list; 0: the last */
    uint8_t state;       /* enum queue_state */
    bool moving;         /* being copied to a younger segment */
    bool unseen; /* its recipients must be looked at: queued under a table of routes that cannot be
                    relied on */
};

struct queue_options {
    uint64_t retry_min_us; /* first retry; doubles up to */
    uint64_t retry_max_us;
    uint64_t seed; /* of the jitter */
};

struct queue;

/* queue_new returns an empty queue, owned; NULL: no memory. */
struct queue *queue_new(const struct queue_options *options);
void queue_free(struct queue *queue);

/* queue_reserve makes sure that `count` more messages can be added. False: no memory. */
bool queue_reserve(struct queue *queue, size_t count) __attribute__((warn_unused_result));

/* queue_add copies a message into reserved room: due now when `due_us` <= `now_us`, else then. */
struct queue_entry *queue_add(struct queue *queue, const struct spool_message *message,
                              uint64_t now_us, uint64_t due_us);

/* queue_take hands out the message that has been due the longest, or NULL. It is the caller's until
 * one of the next four. */
struct queue_entry *queue_take(struct queue *queue, uint64_t now_us);

/* queue_wait puts a taken message back until `due_us`. */
void queue_wait(struct queue *queue, struct queue_entry *entry, uint64_t due_us);

/* queue_hold keeps a taken message without a time. */
void queue_hold(struct queue *queue, struct queue_entry *entry);

/* queue_remove forgets a taken message. */
void queue_remove(struct queue *queue, struct queue_entry *entry);

/* queue_delay_us says how long to wait after attempt number `attempts` (from 1) has failed:
 * retry_min doubled with each, at most retry_max, and up to a quarter more by chance, so that what
 * failed together does not come back together. */
uint64_t queue_delay_us(struct queue *queue, uint32_t attempts);

/* queue_finish marks a recipient as finished (again: no change). Without memory for the mark it
 * stays open, which means a second delivery, never a lost one. queue_finished asks. */
void queue_finish(struct queue_entry *entry, uint32_t recipient);
bool queue_finished(const struct queue_entry *entry, uint32_t recipient);

/* queue_finished_map returns all marks as a bitmap (recipient i: octet i / 8, bit i % 8), borrowed,
 * or NULL when there are none. */
const uint8_t *queue_finished_map(const struct queue_entry *entry);

/* queue_flush makes everything due: what waits and what is held. */
void queue_flush(struct queue *queue, uint64_t now_us);

/* queue_next_us returns when the next message is due: 0 when one is now by arrival, UINT64_MAX when
 * none ever is. */
uint64_t queue_next_us(const struct queue *queue);

/* queue_at walks: the entry in slot `index` < queue_slots, or NULL when that is free. */
struct queue_entry *queue_at(const struct queue *queue, size_t index);
size_t queue_slots(const struct queue *queue);

size_t queue_count(const struct queue *queue); /* all, held ones included */
size_t queue_held(const struct queue *queue);
size_t queue_memory(
    const struct queue *queue); /* octets allocated, without the marks of many recipients */

#endif
