/* A link: a connection of a destination, from the first attempt to make it on. Private to
 * destination. */
#ifndef GATEWAY_DELIVER_DESTINATION_LINK_H
#define GATEWAY_DELIVER_DESTINATION_LINK_H

#include "gateway/deliver/destination.h"

struct destination;

enum link_state {
    LINK_FREE = 0,
    LINK_CONNECTING = 1,
    LINK_IDLE = 2,
    LINK_BUSY = 3,
    LINK_ENDING = 4, /* given up by us: `closed` is to come */
    LINK_STATES = 5,
};

enum link_heard { HEARD_IDLE = 1, HEARD_CLOSED = 2 };

enum connected {
    CONNECTED_BEGUN = 0,
    CONNECTED_NO_HOST = 1, /* each has been tried */
    CONNECTED_SHORT = 2,   /* we lack a descriptor, a slot or memory */
};

/* A connection, or the attempt to get one: one host after another. */
struct link {
    struct destination *destination;
    struct client *client;
    struct list_node node;     /* of the destination's links */
    struct list_node idle;     /* IDLE: of the destination's idle ones, longest idle first */
    struct list_node idle_all; /* IDLE: the same of all */
    struct list_node event;    /* has heard something */
    struct delivery *delivery; /* BUSY, until it is `delivered` */
    void (*delivered)(struct delivery *delivery); /* its owner's */
    uint64_t idle_us;                             /* IDLE: since when */
    uint32_t slot;
    uint32_t tried; /* hosts that failed, a bit for each */
    uint32_t host;
    uint32_t host_failures;          /* when it was picked */
    struct sockaddr_storage address; /* of the host: indexes change when the DNS is asked again */
    uint32_t used;                   /* deliveries */
    uint8_t state;                   /* enum link_state */
    uint8_t heard;                   /* bits of enum link_heard */
    bool picked;                     /* `host` is chosen already */
    bool anyway;                     /* hosts that are said to be dead are tried, too */
    bool clear;                      /* without TLS, since the handshake failed */
    bool spread;     /* made to give a further host its share: its failure is nobody's */
    bool good;       /* its last delivery got an answer that counts */
    bool tls_failed; /* a handshake: it may be tried without */
    bool prompt;     /* its last delivery was given as soon as it was idle */
    bool stalled;    /* broken off by us, since others waited for its place */
    bool has_why;
    struct verdict why; /* what failed last */
};

struct link *link_new(struct destination *destination);
enum connected link_connect(struct link *link); /* to the next host */
void link_try_next(struct link *link);          /* the attempt with one host has failed */
void link_set_state(struct link *link, enum link_state state);
void link_set_why(struct link *link, const char *text);
void link_blame(struct link *link);
void link_praise(struct link *link);
struct link *link_choose(struct destination *destination); /* an idle one that lives, or NULL */
bool link_has_rested(const struct link *link);             /* idle for more than a moment */
void link_learn(struct link *link, uint32_t used); /* the server has ended it after so many */
bool link_is_worn(struct link *link);              /* more would be too many */
void link_give(struct link *link, struct delivery *delivery);
void link_spread(struct destination *destination);
bool link_is_surplus(const struct link *link);
void link_renew(struct destination *destination); /* ends an idle one, for a fresh one */
void link_prune(struct destination *destination); /* ends what was idle for too long */
void link_end(struct link *link);                 /* `closed` follows */
void link_free(struct link *link);

#endif
