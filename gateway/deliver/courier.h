/* The courier: the thread that takes durable messages from the spool, delivers them, and writes
 * down what became of them. It is a worker (io/worker) without listeners: connections to next hops
 * and questions to the DNS are on its ring, Maildirs are written by helper threads, so nothing
 * halts its turn. docs/delivery.md says what a delivery goes through and what a crash at any point
 * means. */
#ifndef GATEWAY_DELIVER_COURIER_H
#define GATEWAY_DELIVER_COURIER_H

#include "gateway/base/log.h"
#include "gateway/deliver/client.h"
#include "gateway/deliver/queue.h"
#include "gateway/deliver/reasons.h"
#include "gateway/deliver/route.h"
#include "gateway/io/dns.h"
#include "gateway/policy/hop.h"
#include "gateway/policy/srs.h"
#include "gateway/spool/spool.h"

/* What a reload can change. Borrowed until courier_configure gives another and returns. */
struct courier_rules {
    const struct routes *routes;
    const struct srs *srs;        /* NULL: forwarded mail keeps its reverse-path */
    uint32_t lifetime_s;          /* then an undeliverable message is bounced */
    uint32_t warn_after_s;        /* a delayed notification after so long, once; 0: none */
    uint32_t bounce_original_max; /* octets of an original that goes back whole */
};

struct courier;

struct courier_options {
    struct log *log;      /* borrowed */
    const char *hostname; /* EHLO, Maildir file names, notifications; copied */
    struct courier_rules rules;
    uint32_t schedule_s[QUEUE_SCHEDULE_MAX]; /* waits after failed attempts */
    uint32_t schedule_count;
    uint32_t connections_max;        /* to next hops */
    uint32_t idle_s;                 /* an idle connection is kept for so long */
    uint32_t store_threads;          /* for Maildirs; 0: 2 */
    struct client_timeouts timeouts; /* zero fields: the defaults */
    struct dns_options dns;
    uint16_t smtp_port; /* of MX hosts */
    bool ipv6;
    const char *ca;       /* file with the CAs for tls_verify; NULL: the system's; copied */
    uint32_t hop_cache_s; /* callahead: how long a "yes" is believed; a "no" a sixth of it */
    bool baseline;        /* nothing newer than Linux 6.1 */
    int cpu;              /* pin the thread there; -1: no */
};

/* courier_new comes before spool_open, which calls courier_recovered. NULL: no memory. */
struct courier *courier_new(const struct courier_options *options);

/* courier_recovered queues what recovery found; its signature is spool_recovered_callback with the
 * courier as user. Before courier_start. */
void courier_recovered(void *courier, const struct spool_recovered *recovered);

/* courier_attach gives the courier its spool, which is borrowed, and makes its port; between
 * spool_open and spool_start. False: no memory. */
bool courier_attach(struct courier *courier, struct spool *spool)
    __attribute__((warn_unused_result));

/* courier_own says which addresses we listen on for SMTP, ports included and wildcards expanded: an
 * MX that leads there is us. Copied; between courier_attach and courier_start. False: no memory. */
bool courier_own(struct courier *courier, const union address_any *ours, uint32_t count)
    __attribute__((warn_unused_result));

/* courier_start starts the thread and waits until it has its ring; after spool_start. 0, or -errno
 * with *what (a constant) naming the step. */
int courier_start(struct courier *courier, const char **what) __attribute__((warn_unused_result));

/* courier_configure swaps the rules; returns when the old ones are no longer used. What waits for a
 * retry, or is on hold for want of a route, gets one attempt; what is under way ends as it began.
 * One thread at a time. */
void courier_configure(struct courier *courier, const struct courier_rules *rules);

/* courier_stop: nothing new is begun, deliveries under way get up to 10 seconds, the outcomes are
 * made durable (up to 10 seconds more), the thread ends; what is still queued stays in the spool.
 * After the workers that receive, before spool_stop. */
void courier_stop(struct courier *courier);
void courier_free(struct courier *courier);

/* courier_hop is where receiving workers send their questions; borrowed. From courier_start on. */
const struct hop *courier_hop(struct courier *courier);

/* Counters; any thread, any time. */
struct courier_snapshot {
    uint64_t queued;      /* messages now, held ones included */
    uint64_t held;        /* consignments now */
    uint64_t delivered;   /* recipients */
    uint64_t deferred;    /* recipients, once for each attempt that failed */
    uint64_t refused;     /* recipients given up: 5xx, or too old */
    uint64_t bounces;     /* notifications sent */
    uint64_t connections; /* to next hops, now */
    uint64_t
        duplicates_possible; /* what a crash now would deliver again: not durable, or in doubt */
};

void courier_snapshot(const struct courier *courier, struct courier_snapshot *out);

/* --- for gateway/admin: each call waits for the courier's next turn; any thread, one call at a
 * time for each thread; not after courier_stop (-ESHUTDOWN). --- */

enum { COURIER_NAME_MAX = 320, COURIER_ORDERS_MAX = 1024 };

/* A consignment, as ringmxctl shows it. */
struct courier_row {
    struct spool_message message;
    uint64_t place;                  /* of the message in the queue: for struct courier_order */
    uint64_t finished;               /* a bit for each finished recipient of up to 64; else 0 */
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

/* courier_act acts on the consignments of a message that contain one of `recipients` (indexes;
 * NULL: all). COURIER_REMOVE finishes those recipients only, not their neighbours. Returns how many
 * recipients it concerned, -ENOENT: no such message, -EBUSY: it is under way right now, -ENOMEM,
 * -ESHUTDOWN. */
int courier_act(struct courier *courier, enum courier_action action, uint64_t message_id,
                const uint32_t *recipients, uint32_t recipient_count);

/* One consignment to act on, as a row named it. */
struct courier_order {
    uint64_t message_id, place;
    uint32_t first;
    int result; /* as courier_act returns it */
};

/* courier_act_many acts on up to COURIER_ORDERS_MAX consignments, each with all its recipients, in
 * one turn. 0, or -ESHUTDOWN. */
int courier_act_many(struct courier *courier, enum courier_action action,
                     struct courier_order *orders, uint32_t count);

#endif
