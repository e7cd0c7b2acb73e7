/* What became of recipients: the log line, the counters, the note in the ledger, the notification
 * to the sender, and where the consignment goes from here: out of the queue, back into it, or on
 * hold. Nobody else takes consignments out of the queue. The courier's thread. */
#ifndef GATEWAY_DELIVER_OUTCOME_H
#define GATEWAY_DELIVER_OUTCOME_H

#include "gateway/base/log.h"
#include "gateway/deliver/consign.h"
#include "gateway/deliver/courier.h"
#include "gateway/deliver/ledger.h"
#include "gateway/deliver/notify.h"
#include "gateway/deliver/store.h"

/* How a consignment was dealt with. */
enum outcome_way {
    OUTCOME_REMOTE = 0,   /* by a next hop */
    OUTCOME_STORED = 1,   /* in Maildirs */
    OUTCOME_DISCARD = 2,  /* thrown away */
    OUTCOME_HOMELESS = 3, /* it has no route: held in the end, not given up */
};

/* All borrowed for the life of the thing; what `rules` points to may change between calls. */
struct outcome_options {
    const struct worker *worker; /* the clocks */
    struct log_port *log;
    struct queue *queue;
    struct reasons *reasons;
    uint16_t operator_reason; /* why the operator holds something: a note of `reasons` */
    struct ledger *ledger;
    struct notify *notify;
    struct consigns *consigns;
    const struct courier_rules *rules;
};

struct outcome_counters {
    uint64_t delivered; /* recipients */
    uint64_t deferred;  /* recipients, once for each attempt that failed */
    uint64_t refused;   /* recipients given up: 5xx, or too old */
    bool told;          /* a notification was asked for */
};

struct outcome;

struct outcome *outcome_new(const struct outcome_options *options)
    __attribute__((warn_unused_result));
void outcome_free(struct outcome *outcome);

/* outcome_room tells whether new work may be begun: false while the ledger is full of outcomes that
 * the spool does not take. */
bool outcome_room(const struct outcome *outcome);

/* outcome_discard ends a message that nobody has read: all its recipients are discarded. `unsorted`
 * is TAKEN, and goes, as in all that follows. */
void outcome_discard(struct outcome *outcome, struct consignment *unsorted);

/* outcome_delivery takes an opened consignment whose recipients all have a final verdict, and
 * closes it. `target` is for the log. */
void outcome_delivery(struct outcome *outcome, struct consign *consign, enum outcome_way way,
                      const char *target);

/* outcome_failed: the same verdict for all recipients of a consignment, which is opened for it. */
void outcome_failed(struct outcome *outcome, struct consignment *consignment, enum outcome_way way,
                    const char *target, const struct verdict *why);

/* outcome_unreadable: the spool can't give the message. */
void outcome_unreadable(struct outcome *outcome, struct consignment *consignment, int error);

/* outcome_stored takes what the store reports. */
void outcome_stored(struct outcome *outcome, const struct store_report *report);

/* outcome_returned gives up a consignment whose message was to be returned when its time is over
 * (DELIVERBY, "R"), if it is. False: it is not, and nothing has happened. */
bool outcome_returned(struct outcome *outcome, struct consignment *consignment,
                      enum outcome_way way) __attribute__((warn_unused_result));

/* outcome_late tells the sender that the time is over ("N"); no attempt is counted, and the
 * consignment waits for `delay_us` then. consignment->late stays false if nobody could be told now.
 */
void outcome_late(struct outcome *outcome, struct consignment *consignment, uint64_t delay_us);

/* outcome_put_off tries again later without an attempt being counted. */
void outcome_put_off(struct outcome *outcome, struct consignment *consignment, uint64_t delay_us);

/* outcome_hold puts a consignment on the operator's hold; outcome_release makes one that was held
 * due; outcome_held_by_operator asks. */
void outcome_hold(struct outcome *outcome, struct consignment *consignment);
void outcome_release(struct outcome *outcome, struct consignment *consignment);
bool outcome_held_by_operator(const struct outcome *outcome, const struct consignment *consignment);

/* outcome_remove gives recipients up without a notification: those of `recipients`
 * (ascending; NULL: all). What is left of the consignment goes back to `state`: READY, HELD, or
 * WAITING until the time that it had. Returns how many, or -errno: it could not be opened, and has
 * gone back. */
int outcome_remove(struct outcome *outcome, struct consignment *consignment,
                   const uint32_t *recipients, uint32_t recipient_count,
                   enum consignment_state state);

/* outcome_interrupt: we are about to break off what is under way ourselves; what fails from now on
 * does not count as an attempt. */
void outcome_interrupt(struct outcome *outcome);

/* outcome_overdue: is the lifetime of its message over? */
bool outcome_overdue(const struct outcome *outcome, const struct consignment *consignment);

/* outcome_next_s returns when the message is due again, as DONE records say it (wall time):
 * LEDGER_HELD_S when the operator holds any of it. */
uint64_t outcome_next_s(const struct outcome *outcome, const struct queue_message *message);

/* outcome_sole tells whether a consignment is the only one of its message. */
bool outcome_sole(const struct consignment *consignment);

/* outcome_unsort forgets how a consignment was sorted; it must be the only one of its message. */
void outcome_unsort(struct outcome *outcome, struct consignment *consignment);

/* outcome_forget drops one of several consignments of a message: its recipients belong to another
 * now. */
void outcome_forget(struct outcome *outcome, struct consignment *consignment);

struct outcome_counters outcome_counters(const struct outcome *outcome);

#endif
