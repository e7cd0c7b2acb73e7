/* What is to be delivered when, and where to: every living message of the spool that still has
 * recipients to reach, and its consignments. A consignment is the part of a message that goes to
 * one destination; it has its own schedule, so what waits for one destination never delays another.
 * A pure data structure: no I/O, no thread, no clock of its own. Times are microseconds of the
 * caller's monotonic clock.
 *
 * Memory: at most 256 octets for a message with one destination, all told (static_assert and a
 * test), in chunks that are reused and never moved. */
#ifndef GATEWAY_DELIVER_QUEUE_H
#define GATEWAY_DELIVER_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "gateway/deliver/line.h"
#include "gateway/spool/message.h"

struct queue_message;

enum consignment_state {
    CONSIGNMENT_FREE = 0,
    CONSIGNMENT_READY = 1,   /* due now: in order of arrival, or in that of becoming due again */
    CONSIGNMENT_WAITING = 2, /* due at a time */
    CONSIGNMENT_TAKEN = 3,   /* the caller works on it */
    CONSIGNMENT_LINED = 4,   /* stands in the line of its destination */
    CONSIGNMENT_HELD = 5,    /* by the operator, or for want of a better idea */
};

enum { QUEUE_UNSORTED = 0 /* destination 0: its recipients have not been looked at */ };

/* Owned by the queue; valid until consignment_drop. The caller reads all, and writes from
 * `destination` on. */
struct consignment {
    struct queue_message *message;
    struct consignment *sibling;         /* next of the same message; NULL: the last */
    struct consignment *sibling_before;  /* private */
    struct consignment *next, *previous; /* on its list: of the ready, or a line */
    uint64_t due_us;                     /* WAITING */
    uint32_t heap_place;                 /* private */
    uint32_t destination;                /* index of its destination; QUEUE_UNSORTED: not known */
    uint32_t first;                      /* index of its first recipient in the envelope */
    uint32_t recipient_count;            /* open ones, when it was sorted; 0: unsorted */
    uint16_t attempts;                   /* that have failed */
    uint16_t reason;                     /* why the last one did (deliver/reasons.h); 0: none yet */
    uint8_t state;                       /* enum consignment_state */
    uint8_t rank;                        /* private: of its message's priority */
    bool resort : 1; /* routes have changed: to be sorted again when it comes back */
    bool fresh : 1;  /* arrived, and was never put back since */
    bool late : 1;   /* its time of DELIVERBY is over, and its sender hears of it */
};

/* Owned by the queue; valid until its last consignment is dropped. */
struct queue_message {
    struct spool_message spool; /* `attempts` is what recovery saw, or the highest since */
    union {
        uint64_t few;   /* a bit for each finished recipient of up to 64 */
        uint64_t *many; /* the same for more; owned; NULL while none is */
    } done;
    struct consignment *consignments;
    uint32_t open_count; /* recipients not finished */
    uint32_t index;      /* of its slot, for queue_at */
    uint32_t queued_s;   /* monotonic seconds: when it came */
    bool moving;         /* being copied to a younger segment */
    bool unseen;         /* see deliver/sorter.h: its recipients must be looked at */
    uint8_t by_mode;     /* enum envelope_by_mode, and */
    uint32_t by_s;       /* DELIVERBY, wall; 0: none, or it was not sorted yet */
    bool warned;         /* a delayed notification was sent (or is not wanted) */
};

struct queue_options {
    const uint32_t
        *schedule_s; /* waits after failed attempt 1, 2, ...; copied; the last one repeats */
    uint32_t schedule_count; /* 1..QUEUE_SCHEDULE_MAX */
    uint64_t seed;           /* of the jitter */
};

enum { QUEUE_SCHEDULE_MAX = 32 };

struct queue;

/* queue_new returns an empty queue, owned; NULL: no memory. */
struct queue *queue_new(const struct queue_options *options);
void queue_free(struct queue *queue);

/* queue_reserve makes sure that `count` more messages, each with a consignment, can be added;
 * queue_reserve_consignments that `count` more consignments can. False: no memory; or there would
 * be more than QUEUE_EXTRA_MAX beyond one for each message, so that messages to a thousand
 * destinations each can't take all memory. */
enum { QUEUE_EXTRA_MAX = 1 << 20 };
bool queue_reserve(struct queue *queue, size_t count) __attribute__((warn_unused_result));
bool queue_reserve_consignments(struct queue *queue, size_t count)
    __attribute__((warn_unused_result));

/* queue_add copies a message into reserved room, with one unsorted consignment: READY when `due_us`
 * <= `now_us`, else WAITING. */
struct queue_message *queue_add(struct queue *queue, const struct spool_message *message,
                                uint64_t now_us, uint64_t due_us);

/* queue_take hands out what is due, or NULL: by turns the oldest of what has just arrived
 * and highest in rank of what has just arrived (queue_add), and what has been due again the longest
 * (READY by consignment_ready, or WAITING); so new mail never stands behind a backlog that is
 * sorted anew, nor the backlog behind new mail. It is the caller's (TAKEN) until one of the
 * functions below that take a TAKEN one. */
struct consignment *queue_take(struct queue *queue, uint64_t now_us);

/* queue_split adds a TAKEN sibling, into reserved room. */
struct consignment *queue_split(struct queue *queue, struct consignment *taken);

/* For a TAKEN one: put it back until `due_us`; keep it without a time; make it READY; forget it
 * (with its message when it was the last: true then). */
void consignment_wait(struct queue *queue, struct consignment *taken, uint64_t due_us);
void consignment_hold(struct queue *queue, struct consignment *taken);
void consignment_ready(struct queue *queue, struct consignment *taken);
bool consignment_drop(struct queue *queue, struct consignment *taken);

/* consignment_grab makes a READY, WAITING or HELD one TAKEN, wherever it stands (ringmxctl). */
void consignment_grab(struct queue *queue, struct consignment *consignment);

/* queue_configure gives another schedule, for attempts that fail from now on. queue_delay_us says
 * how long to wait after attempt number `attempts` (from 1) has failed: the schedule, and up to a
 * quarter more by chance, so that what failed together does not come back together.
 * queue_delay_longest_us: the longest it can say. */
void queue_configure(struct queue *queue, const uint32_t *schedule_s, uint32_t schedule_count);
uint64_t queue_delay_us(struct queue *queue, uint32_t attempts);
uint64_t queue_delay_longest_us(const struct queue *queue);

/* queue_finish marks a recipient as finished (again: no change). Without memory for the mark it
 * stays open, which means a second delivery, never a lost one. queue_finished asks. */
void queue_finish(struct queue_message *message, uint32_t recipient);
bool queue_finished(const struct queue_message *message, uint32_t recipient);

/* queue_finished_map returns all marks as a bitmap (recipient i: octet i / 8, bit i % 8), borrowed,
 * or NULL when there are none. */
const uint8_t *queue_finished_map(const struct queue_message *message);

/* queue_flush makes everything that is WAITING due, and with `held` what is HELD, too. */
void queue_flush(struct queue *queue, uint64_t now_us, bool held);

/* queue_next_us returns when the next consignment is due: 0 when one is now by arrival, UINT64_MAX
 * when none ever is (of those READY and WAITING). */
uint64_t queue_next_us(const struct queue *queue);

/* queue_at walks: the message in slot `index` < queue_slots, or NULL when that is free. queue_find
 * looks one up by id; slow: it walks. */
struct queue_message *queue_at(const struct queue *queue, size_t index);
struct queue_message *queue_find(const struct queue *queue, uint64_t message_id);
size_t queue_slots(const struct queue *queue);

size_t queue_count(const struct queue *queue); /* messages */
size_t queue_held(const struct queue *queue);  /* consignments on hold */
size_t queue_memory(
    const struct queue *queue); /* octets allocated, without the marks of many recipients */

#endif
