/* The courier: the thread that takes durable messages from the spool, delivers them, and writes
 * down what became of them. It is a worker (io/worker) without listeners: connections to next hops
 * and questions to the DNS are on its ring, Maildirs are written by helper threads, so nothing
 * halts its turn. docs/delivery.md says what a delivery goes through and what a crash at any point
 * means. */
#ifndef GATEWAY_DELIVER_COURIER_H
#define GATEWAY_DELIVER_COURIER_H

#include "gateway/base/log.h"
#include "gateway/deliver/callahead.h"
#include "gateway/deliver/client.h"
#include "gateway/deliver/destination.h"
#include "gateway/deliver/passage.h"
#include "gateway/deliver/queue.h"
#include "gateway/deliver/reasons.h"
#include "gateway/deliver/route.h"
#include "gateway/io/dns.h"
#include "gateway/policy/directory.h"
#include "gateway/policy/hop.h"
#include "gateway/policy/srs.h"
#include "gateway/spool/spool.h"

/* What a reload can change. Borrowed until courier_configure gives another and returns. */
struct courier_rules {
    const struct routes *routes;
    const struct directory *directory; /* whom a sender of ours stands for, for notifications */
    const struct srs *srs;             /* NULL: forwarded mail keeps its reverse-path */
    uint32_t lifetime_s;               /* then an undeliverable message is bounced */
    uint32_t warn_after_s;             /* a delayed notification after so long, once; 0: none */
    uint32_t bounce_original_max;      /* octets of an original that goes back whole */
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

/* courier_configure swaps the rules; returns when the old ones are no longer used. Of the other
 * options it takes over the schedule, idle_s, timeouts and hop_cache_s, unless schedule_count is 0;
 * the rest can't change. What waits for a
 * retry, or is on hold for want of a route, gets one attempt; what is under way ends as it began,
 * and with the same routes what stands in a line stays there. One thread at a time. */
void courier_configure(struct courier *courier, const struct courier_options *options);

/* courier_stop: nothing new is begun, deliveries under way get up to 10 seconds, the outcomes are
 * made durable (10 seconds more), the thread ends; what is queued stays in the spool. After the
 * workers that receive, before spool_stop. False: a write hangs; its thread has the spool. */
bool courier_stop(struct courier *courier);
void courier_free(struct courier *courier);

/* courier_broken: its ring broke. All that is asked of it is refused, but for questions to next
 * hops that were under way: they never come back. Any thread. */
bool courier_broken(const struct courier *courier);

/* courier_hop is where receiving workers send their questions; borrowed. From courier_start on. */
const struct hop *courier_hop(struct courier *courier);

/* What there is now, and counters since the start. */
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
    struct destinations_counters connecting;
    struct passages_counters passages;     /* docs/through.md */
    struct callaheads_counters callaheads; /* docs/through.md */
    struct dns_snapshot dns;
};

/* courier_snapshot reads them as they were at the end of the courier's last turn; any thread, any
 * time. */
void courier_snapshot(const struct courier *courier, struct courier_snapshot *out);

#endif
