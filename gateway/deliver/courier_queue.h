/* The queue as ringmxctl sees it, and what it can do to it. Each call is an errand to the courier's
 * thread, and waits for its next turn; any thread, one call at a time for each thread; not after
 * courier_stop (-ESHUTDOWN). */
#ifndef GATEWAY_DELIVER_COURIER_QUEUE_H
#define GATEWAY_DELIVER_COURIER_QUEUE_H

#include "gateway/deliver/courier.h"
#include "gateway/deliver/ledger.h"

enum {
    COURIER_NAME_MAX = 320,
    COURIER_ORDERS_MAX = 1024,
    COURIER_MARKS_SIZE = (LIMIT_RECIPIENTS + 63) / 64 * 8, /* octets */
};

/* A consignment, as ringmxctl shows it. */
struct courier_row {
    struct spool_message message;
    uint64_t place;    /* of the message in the queue: for struct courier_order */
    uint64_t finished; /* a bit for each finished recipient of up to 64; else 0: see below */
    uint32_t first, recipient_count; /* as in struct consignment; 0, 0: all open ones */
    uint32_t open_count;             /* of the message */
    uint8_t state;                   /* enum consignment_state */
    uint16_t attempts;
    uint64_t next_s;                    /* wall; 0: at once, or when its destination is back */
    char destination[COURIER_NAME_MAX]; /* "": not sorted yet; "maildir" */
    char reason[REASON_TEXT_MAX];
};

/* courier_list copies up to `count` rows from *cursor on (0 at first) and moves *cursor;
 * UINT64_MAX: the end. Returns how many, or -ESHUTDOWN. What comes or goes meanwhile may be missed.
 * A bounded part of the queue is looked at in one call: 0 rows are not the end. */
int courier_list(struct courier *courier, uint64_t *cursor, struct courier_row *rows,
                 uint32_t count);

/* courier_marks gives the marks of the finished recipients of a row with more than 64 (recipient i:
 * octet i / 8, bit i % 8), and brings its counts up to date with them. 0, -ENOENT: it is gone
 * meanwhile, -ESHUTDOWN. */
int courier_marks(struct courier *courier, struct courier_row *row,
                  uint8_t marks[COURIER_MARKS_SIZE]);

struct courier_destination {
    char name[COURIER_NAME_MAX], reason[REASON_TEXT_MAX];
    uint8_t state; /* enum destination_state */
    uint32_t queued, connections, busy;
    uint64_t delivered, deferred, refused, retry_s;
};

int courier_destinations(struct courier *courier, uint64_t *cursor,
                         struct courier_destination *rows, uint32_t count);

enum courier_action {
    COURIER_RETRY = 0,   /* due now; a dead destination is tried again */
    COURIER_HOLD = 1,    /* until released; survives a restart */
    COURIER_RELEASE = 2, /* due now, if held */
    COURIER_REMOVE = 3,  /* given up without a bounce */
};

/* courier_act acts on the consignments of a message that contain one of `recipients` (indexes,
 * ascending; NULL: all). COURIER_REMOVE finishes those recipients only, not their neighbours. It
 * goes through the queue to find the message. Returns how many recipients it concerned, -ENOENT: no
 * such message, -EBUSY: it is under way right now, -EAGAIN: nothing was done, since too many
 * outcomes wait for the disk, -ENOMEM, -ESHUTDOWN. */
int courier_act(struct courier *courier, enum courier_action action, uint64_t message_id,
                const uint32_t *recipients, uint32_t recipient_count);

/* One consignment to act on, as a row named it. */
struct courier_order {
    uint64_t message_id, place;
    uint32_t first;
    uint32_t recipient_count;
    const uint32_t *recipients; /* COURIER_REMOVE: those only, ascending; NULL: all; borrowed */
    int result;                 /* as courier_act returns it */
};

/* courier_act_many acts on up to COURIER_ORDERS_MAX consignments in one turn. 0, or -ESHUTDOWN. */
int courier_act_many(struct courier *courier, enum courier_action action,
                     struct courier_order *orders, uint32_t count);

/* courier_written tells whether all that was done before the first call with this mark (zero then)
 * is durable: 1, or 0: not yet. -ESHUTDOWN. */
struct courier_mark {
    struct ledger_mark ledger;
    bool set;
};

int courier_written(struct courier *courier, struct courier_mark *mark);

#endif
