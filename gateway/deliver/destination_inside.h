/* What the files of destination share. Private to them.
 *
 * destination_table: names, indexes, who is forgotten, who wakes when
 * destination_line: a destination's step: hands out work, refuses, fails; dead and alive again
 * destination_links: limits of links, whose turn it is to have one, what links have heard
 * destination_link: one link: which host, which delivery
 *
 * Clients' callbacks only note what they have heard; it is dealt with in the next turn, which knows
 * the time. So no callback of the courier comes from within another's. */
#ifndef GATEWAY_DELIVER_DESTINATION_INSIDE_H
#define GATEWAY_DELIVER_DESTINATION_INSIDE_H

#include "gateway/base/list.h"
#include "gateway/base/slots.h"
#include "gateway/deliver/destination_link.h"

enum { PLACE_NONE = 0x7fffffff };

struct destination {
    struct destinations *home;
    char *name;
    uint64_t hash;
    uint32_t index;
    uint32_t chain;        /* next in its bucket */
    struct list_node node; /* active or resting */
    struct list_node opener;
    struct list_node searcher; /* waits for its turn to ask for its hosts */
    uint64_t wake_us;
    uint32_t wake_place;   /* in the heap; PLACE_NONE: not */
    uint32_t limit;        /* of connections */
    uint32_t interval_us;  /* between messages; 0: any */
    bool clear_allowed;    /* opportunistic TLS may fail */
    bool spreads;          /* several hosts with weights */
    bool active, resting;  /* which list `node` is on */
    bool asking, answered; /* a question for the hosts is under way, or waits; was answered */
    bool configured;       /* no stranger can choose it */
    bool search_class;     /* of a question: proven or configured */
    bool proven;           /* has completed a delivery, and not long ago if links are busy */
    bool dead, refused;
    struct exchange *exchange;
    uint32_t host_count; /* its part of home->host_count */
    struct line line;
    struct consignment *walk; /* the next to be asked for its age */
    uint32_t walk_left;
    uint64_t peek_us;    /* dead: when the head of the line is asked next */
    struct list waiting; /* deliveries */
    struct list links, idle;
    uint32_t counts[LINK_STATES]; /* of links */
    uint32_t steps;               /* links with stepwise deliveries: in step with those who wait */
    bool line_next;               /* the line's turn, when a stepwise delivery waits, too */
    uint32_t window, ceiling;
    uint64_t ceiling_us;  /* `ceiling` holds until then */
    uint64_t fresh_us;    /* the hosts are known until then */
    uint64_t rest_us;     /* at rest since */
    uint64_t done_us;     /* a delivery was completed last, or links are busy since */
    uint64_t retry_us;    /* dead: until then */
    uint64_t send_us;     /* interval_us: no message before */
    uint32_t failures;    /* in a row */
    uint32_t breaks;      /* in a row */
    uint32_t reuse_limit; /* deliveries that its servers allow on a connection; 0: not known */
    uint32_t reuse_ends;  /* connections that have come to that */
    uint8_t denied;       /* kind of the answer that is in `why`; OPEN: there are hosts */
    struct verdict *why;  /* of dead, refused, an answer; owned; NULL: no memory for it, or none */
    uint16_t reason;
    uint64_t delivered, deferred, refusals; /* recipients */
};

struct destinations {
    struct destinations_options options;
    struct destinations_counters counters;
    struct client_setup setup;
    struct client_callbacks callbacks;
    uint64_t seed[2];
    uint64_t now_us;            /* of this turn, or the last */
    struct destination **table; /* by index; [0] is not used */
    uint32_t *free_indexes;
    struct destination **wakes; /* a binary heap */
    uint32_t *buckets;          /* index of the first; 0: none */
    uint32_t table_count, table_capacity, free_count, wake_count, bucket_count;
    uint32_t living_count;
    struct list active, resting;
    struct list found;        /* at rest, and asked for since the last turn */
    struct list openers[2];   /* who wants a connection: [1] is proven */
    struct list searchers[2]; /* who waits to ask for its hosts; by search_class */
    struct list idle;         /* links of all, longest idle first */
    struct list events;       /* links */
    struct list cancelled;    /* deliveries */
    struct slots links;
    uint32_t resting_count, opener_counts[2];
    uint32_t search_counts[2]; /* questions under way */
    uint32_t host_count;       /* that all know */
    uint32_t unproven_links;   /* of destinations that are not proven */
    uint32_t ending_links;
    uint32_t linked_count;  /* destinations that have links */
    uint64_t lined_count;   /* consignments */
    uint64_t waiting_count; /* deliveries, the cancelled ones included */
    uint64_t pause_us;      /* nothing is opened before */
    uint64_t break_us;      /* links that stall are looked for then; 0: nobody lacks room */
    uint32_t empty_at;
    uint32_t calls_left; /* of this turn */
    uint8_t opener_turn, searcher_turn;
    bool more_opens; /* the next turn is to come at once */
    bool stopping;
};

/* destination_table.c */
struct destination *destination_at(const struct destinations *home, uint32_t index);
void destination_activate(struct destination *destination);
void destination_rest(struct destination *destination); /* if it is */
void destination_wake_at(struct destination *destination, uint64_t when_us);
void destinations_wake(struct destinations *home);   /* those whose time has come */
void destinations_forget(struct destinations *home); /* those at rest that are too many */
void destination_free(struct destination *destination);
void destination_count_hosts(struct destination *destination);
void destination_lighten(struct destination *destination); /* if hosts are too many */

/* destination_line.c */
void destination_step(struct destination *destination);
void destination_found(void *user, const struct verdict *why);
void destination_heard(struct destination *destination); /* what destination_found left */
void destination_failed(struct destination *destination, const struct verdict *why, bool charge);
void destination_alive(struct destination *destination);
void destination_note(struct destination *destination, const struct verdict *why);
bool destination_dead_now(const struct destination *destination);
bool destination_has_work(const struct destination *destination);
void delivery_again(struct destination *destination, struct delivery *delivery);
void delivery_fail(struct destination *destination, struct delivery *delivery,
                   const struct verdict *why);

/* destination_links.c */
bool links_may_grow(const struct destination *destination);
bool links_wants(const struct destination *destination); /* one more link */
bool links_must_renew(const struct destination *destination);
bool links_has_room(const struct destinations *home, bool proven);
uint32_t links_waiting(const struct destinations *home); /* openers that lack only room */
uint32_t links_allowed(const struct destination *destination);
uint32_t links_working(const struct destination *destination); /* that may be BUSY */
uint32_t links_steps(const struct destination *destination);   /* stepwise ones that may be */
void links_join(struct destination *destination);              /* those who want one */
void links_leave(struct destination *destination);
void links_open(struct destinations *home);             /* for those who want one */
bool links_may_search(const struct destinations *home); /* somebody waits, and may ask */
void links_events(struct destinations *home);           /* what links have heard */
void links_stop(struct destinations *home, bool now);
void links_proven(struct destination *destination, bool proven);
void links_doubt(struct destination *destination);  /* if it was proven too long ago */
void links_idle(void *user, struct client *client); /* client_callbacks */
void links_closed(void *user, struct client *client, const struct verdict *why);

static inline uint32_t destination_links(const struct destination *destination)
{
    const uint32_t *counts = destination->counts;
    return counts[LINK_CONNECTING] + counts[LINK_IDLE] + counts[LINK_BUSY];
}

#endif
