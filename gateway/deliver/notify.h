/* Notifications (deliver/bounce) on their way into the spool: an event of a delivery becomes a
 * message of its own from <> to the sender, through the courier's staging ring. It comes back
 * through spool_arrivals and is delivered like any other; here it ends when it is durable, and the
 * recipients that it speaks of may be noted as finished. What fails (no room, full disk, disk
 * error) is done again. The courier's own; nothing here blocks but reading an original. */
#ifndef GATEWAY_DELIVER_NOTIFY_H
#define GATEWAY_DELIVER_NOTIFY_H

#include "gateway/base/log.h"
#include "gateway/deliver/bounce.h"
#include "gateway/deliver/ledger.h"
#include "gateway/policy/directory.h"

enum {
    NOTIFY_EVENTS_MAX = 4096,              /* that wait for their notification, at most */
    NOTIFY_OCTETS_MAX = 16 * 1024 * 1024,  /* of memory for them, at most */
    NOTIFY_ROUND = 64,                     /* composed in one step at most */
    NOTIFY_ROUND_OCTETS = 2 * 1024 * 1024, /* likewise: then the step ends */
    NOTIFY_ROUND_US = 10 * 1000, /* likewise: originals may have to come from a slow disk */
};

struct notify;

/* All borrowed for the life of the thing. `staging` is that of `ledger`. */
struct notify_options {
    struct spool *spool;
    struct staging *staging;
    struct ledger *ledger;
    struct log_port *log;
    const char *hostname;
};

/* The end of an event: borrowed for the call. */
struct notify_told {
    void *user; /* the event's */
    enum bounce_action action;
    uint64_t message_id;     /* of the original */
    uint64_t notification;   /* its message id */
    const uint32_t *indexes; /* every recipient that the event was about, told of or not */
    uint32_t count;
};

/* What became of recipients of one message. All is copied by notify_add. The message must stay
 * where it is (neither moved nor released) until `told` is called. */
struct notify_event {
    enum bounce_action action;
    const struct spool_message *message;
    const struct envelope *envelope;   /* as the spool has it: the reverse-path before SRS */
    const struct directory *directory; /* whom that stands for, when it is ours */
    const struct delivery_recipient *recipients;
    uint32_t recipient_count;
    enum verdict_kind only;  /* the event is about those with a verdict of this kind: REFUSED, or
                                DEFERRED (too old, or delayed), or DELIVERED */
    const char *peer;        /* as in struct delivery; "": none was asked */
    uint64_t retry_until_us; /* DELAYED: wall time of the end of the lifetime */
    void *user;
    void (*told)(const struct notify_told *told); /* the notification is durable; from within
                                                     ledger_settle. May call ledger_note,
                                                     ledger_finish and notify_add */
};

enum notify_result {
    NOTIFY_TAKEN = 0,  /* `told` will be called */
    NOTIFY_NOBODY = 1, /* nobody is to be told (bounce_wanted), or the event is about no recipient:
                          finish them now. Failed and from <>: the caller logs that at level error.
                          Likewise when the reverse-path is in a domain of ours and directory_expand
                          does not take it: there is a line about that at level error already */
    NOTIFY_LATER = 2,  /* too many wait, or no memory: nothing was taken. Put the recipients off */
};

/* notify_new makes one; after spool_open. NULL: no memory. notify_free drops what is not durable,
 * without a call of `told`: those recipients are still open in the spool. The ledger must not
 * settle after that. */
struct notify *notify_new(const struct notify_options *options) __attribute__((warn_unused_result));
void notify_free(struct notify *notify);

/* notify_room returns how many more events will be taken, of few recipients each and memory
 * permitting; begin no more deliveries than that when most of them fail. */
uint32_t notify_room(const struct notify *notify);

/* notify_add takes an event, and finds out whom its reverse-path stands for: aliases and our own
 * SRS addresses are followed to their end, each address there is told; a foreign one is as it is.
 */
enum notify_result notify_add(struct notify *notify, const struct notify_event *event)
    __attribute__((warn_unused_result));

/* notify_step composes what waits, stages it and shows it to the writer (urgently); a bounded part
 * in one call. `original_max`: what goes back whole. Times: monotonic. Once in a turn, after
 * ledger_settle. */
void notify_step(struct notify *notify, uint32_t original_max, uint64_t now_us);

/* notify_next_us returns when notify_step has something to do: 0 now, UINT64_MAX never (what waits
 * for the writer wakes by the port). */
uint64_t notify_next_us(const struct notify *notify);

/* notify_open returns how many events are not durable; notify_sent how many notifications have
 * become durable. */
uint32_t notify_open(const struct notify *notify);
uint64_t notify_sent(const struct notify *notify);

#endif
