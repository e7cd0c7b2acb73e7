/* Destinations: everything that is known and waits for one next hop: the line of consignments, the
 * connections and how many there may be, whether it is alive. A destination is a route's text (and
 * for mx: the recipient's domain), so all mail that goes the same way shares connections, and
 * nothing else shares anything: a slow or dead destination never delays another.
 *
 * docs/delivery.md, "Destinations", has the states and the rules of fairness. The courier's thread.
 */
#ifndef GATEWAY_DELIVER_DESTINATION_H
#define GATEWAY_DELIVER_DESTINATION_H

#include "gateway/deliver/client.h"
#include "gateway/deliver/exchange.h"
#include "gateway/deliver/queue.h"
#include "gateway/deliver/reasons.h"

struct destinations;

/* How the courier serves its destinations. Called from destinations_turn or the worker's turn. */
struct destinations_callbacks {
    /* A client is free for this consignment (TAKEN now): make a delivery of it. NULL: the courier
     * has settled it otherwise (nothing left to do, expired, spool error); the next one's turn. */
    struct delivery *(*load)(void *user, struct consignment *consignment);
    /* The destination can't be reached: this consignment, first in line, was the attempt. The
     * courier settles it (attempt counted, put back, bounced). Also for each one in line when the
     * destination is REFUSED as a whole (no such domain, null MX, loop). */
    void (*unreachable)(void *user, struct consignment *consignment, const struct verdict *why);
    /* Is this one too old to go on waiting in line? Asked of all in line when a destination fails
     * again. Only a question: it is LINED. True: it is taken out, and the courier has it by
     * `unreachable` (TAKEN then) and settles it. */
    bool (*overdue)(void *user, struct consignment *consignment, const struct verdict *why);
};

enum {
    DESTINATIONS_REMEMBERED = 16384, /* at rest */
    DESTINATIONS_MAX = 1 << 18,      /* all; those that the configuration names come on top */
    DESTINATIONS_SEARCHES = 1024,    /* whose hosts are being found out at a time */
    DESTINATIONS_HOSTS = 1 << 17,    /* of all, that are known */
    DESTINATION_OCTETS = 1424,       /* one at most, without hosts: the memory contract */
};

struct destinations_options {
    const struct client_setup *client;     /* borrowed; its callbacks are set by destinations_new */
    const struct exchange_setup *exchange; /* borrowed */
    struct queue *queue;                   /* borrowed */
    struct reasons *reasons;               /* borrowed */
    struct destinations_callbacks callbacks;
    void *user;
    uint32_t connections_max;          /* of all destinations together; 0: 1000 */
    uint32_t destinations_max;         /* kept in memory when at rest;
                                          0: DESTINATIONS_REMEMBERED */
    uint32_t living_max;               /* 0: DESTINATIONS_MAX */
    uint32_t searches_max;             /* 0: DESTINATIONS_SEARCHES */
    uint32_t hosts_max;                /* 0: DESTINATIONS_HOSTS */
    uint32_t idle_s;                   /* an idle connection is kept for so long; 0: 10 */
    uint32_t reuse_max;                /* deliveries over one connection; 0: 1000 */
    uint32_t retry_min_s, retry_max_s; /* a dead destination is tried again; 0: 60, 3600 */
};

struct destinations *destinations_new(const struct destinations_options *options)
    __attribute__((warn_unused_result));

/* destinations_configure changes how long idle connections are kept, the longest wait for a dead
 * destination, and the time-outs of connections, those that are open included. */
void destinations_configure(struct destinations *destinations, uint32_t idle_s,
                            uint32_t retry_max_s, const struct client_timeouts *timeouts);

/* destinations_free: all clients have closed, all lines are empty. */
void destinations_free(struct destinations *destinations);

/* destination_name writes the name of the destination of `route` for recipients in `domain`, as
 * snapshots have it, cut to fit `size` with its NUL; returns the length of all of it. Pure. */
size_t destination_name(const struct route *route, struct bytes domain, char *out, size_t size);

/* destinations_find returns the index (from 1) of the destination of `route` for recipients in
 * `domain`, and makes it when it is new. 0: no memory, or too many. The index stays the same as
 * long as something stands in its line or is under way for it, and 10 s longer; after that it may
 * mean another destination. */
uint32_t destinations_find(struct destinations *destinations, const struct route *route,
                           struct bytes domain);

/* destinations_line puts a TAKEN consignment in the line of the destination that it names. */
void destinations_line(struct destinations *destinations, struct consignment *consignment);

/* destinations_deliver finds a client for a delivery that somebody waits for: it goes before all
 * consignments (but not beyond the number of connections); stepwise ones take turns with them, and
 * leave a quarter of the connections, at least one of several, to them. When the destination is
 * known to be dead, or no connection comes to be, its recipients get DEFERRED or REFUSED and
 * `delivered` is called. destinations_cancel gives it up, wherever it is: `delivered` follows. */
void destinations_deliver(struct destinations *destinations, uint32_t index,
                          struct delivery *delivery);
void destinations_cancel(struct destinations *destinations, struct delivery *delivery);

/* destinations_crowded: somebody, or the line, waits for a connection that another must give back
 * first. */
bool destinations_crowded(const struct destinations *destinations, uint32_t index);

/* destinations_turn opens connections and hands out work, a bounded amount of each; call in every
 * turn_end. destinations_next_us: when it wants the next turn. */
void destinations_turn(struct destinations *destinations, uint64_t now_us);
uint64_t destinations_next_us(const struct destinations *destinations);

/* destinations_retry makes a dead destination (0: all of them) be tried at once. */
void destinations_retry(struct destinations *destinations, uint32_t index, uint64_t now_us);

/* destinations_empty takes everything out of all lines, one at a time: the next consignment, TAKEN,
 * or NULL when there is none. For a reload, which sorts anew. */
struct consignment *destinations_empty(struct destinations *destinations);

/* destinations_leave takes a LINED one out of its line, TAKEN (ringmxctl). */
void destinations_leave(struct destinations *destinations, struct consignment *consignment);

/* destinations_stop opens nothing any more, ends idle clients, and lets deliveries under way
 * finish; with `now` ends all. destinations_at_rest: no client is left. What stands in line stays
 * there. */
void destinations_stop(struct destinations *destinations, bool now);
bool destinations_at_rest(const struct destinations *destinations);

enum destination_state {
    DESTINATION_IDLE = 0, /* nothing to do */
    DESTINATION_BUSY = 1,
    DESTINATION_DEAD = 2, /* tried again at retry_us */
};

struct destination_snapshot {
    const char *name; /* "mx:example.net", "lmtp:unix:/run/lmtp"; borrowed */
    enum destination_state state;
    uint32_t lined, connections, busy;     /* now */
    uint64_t delivered, deferred, refused; /* recipients since it is in memory */
    uint64_t retry_us;
    const char *reason; /* why it is dead, or what failed last; "": nothing has */
};

/* What has become of connecting, since the start. */
struct destinations_counters {
    uint64_t begun;   /* connections */
    uint64_t greeted; /* of these, that came to where mail can be given */
    uint64_t failed;  /* of these, that did not */
};

/* destinations_counters returns what they are now; borrowed. */
const struct destinations_counters *destinations_counters(const struct destinations *destinations);

/* destinations_snapshot reads one; false: there is none with this index (they go up to
 * destinations_count). */
bool destinations_snapshot(const struct destinations *destinations, uint32_t index,
                           struct destination_snapshot *out);
uint32_t destinations_count(const struct destinations *destinations);

#endif
