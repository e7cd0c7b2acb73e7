/* A server that the gateway asks things (Redis, Dovecot): the one connection that a worker has to
 * it, on a socket that the worker's ring watches. It connects by itself, and tries again after
 * pauses that grow. Octets leave at the end of the turn, and are wiped as they do, as are those
 * that were heard. What they mean is for those who use it. Worker's thread only; nothing here
 * blocks. */
#ifndef GATEWAY_IO_UPSTREAM_H
#define GATEWAY_IO_UPSTREAM_H

#include "gateway/io/listener.h"
#include "gateway/io/watch.h"

#include <stdatomic.h>

enum { UPSTREAM_WHY_MAX = 96 };

enum upstream_state {
    UPSTREAM_AWAY = 0, /* until pause_end_us */
    UPSTREAM_CONNECTING = 1,
    UPSTREAM_GREETING = 2, /* the owner has not called upstream_ready yet */
    UPSTREAM_READY = 3,
};

struct upstream;

struct upstream_hooks {
    /* A new connection: time to greet. False: it was put off. */
    bool (*connected)(struct upstream *upstream);
    /* What was received. False: it was put off. */
    bool (*heard)(struct upstream *upstream, const char *data, size_t len);
    /* The connection, or the attempt, is over; the state is AWAY already. */
    void (*lost)(struct upstream *upstream);
};

struct upstream_options {
    const union address_any *address; /* unless there is a path */
    const char *path;                 /* of a unix socket; NULL: none */
    uint32_t timeout_ms;              /* for connecting */
    size_t out_size;                  /* octets that the server has not taken */
};

struct upstream {
    struct watch watch; /* first: what its `ready` is given */
    struct worker *worker;
    const struct upstream_hooks *hooks;
    struct upstream_options options;
    enum upstream_state state;
    int descriptor;
    uint64_t deadline_us;  /* of connecting, and the owner's of greeting */
    uint64_t pause_end_us; /* when it is tried again */
    uint64_t pause_us;     /* the next pause */
    uint64_t ready_us;     /* since when it is ready */
    bool blocked;          /* the kernel takes no more octets now */
    size_t out_at, out_len;
    char *out;
    char why[UPSTREAM_WHY_MAX]; /* it is away; the owner may write here, too */
    /* For any thread. */
    _Atomic uint64_t connects; /* connections that were of use */
    _Atomic uint64_t failures; /* that broke, or never were */
    _Atomic bool connected;
};

/* upstream_init makes one that is not connected yet; all is borrowed, what the options point to as
 * well. False: no memory. upstream_cleanup ends the connection without a word to its owner. */
bool upstream_init(struct upstream *upstream, struct worker *worker,
                   const struct upstream_hooks *hooks, const struct upstream_options *options)
    __attribute__((warn_unused_result));
void upstream_cleanup(struct upstream *upstream);

/* upstream_ready: the server has answered the greeting. upstream_put_off ends the connection, and
 * is a failure; `format` has at most one %s, for `detail`. upstream_close ends one that is not
 * wanted any more; upstream_begin connects at once, whatever was before. */
void upstream_ready(struct upstream *upstream);
void upstream_put_off(struct upstream *upstream, const char *format, const char *detail);
void upstream_close(struct upstream *upstream);
void upstream_begin(struct upstream *upstream);

/* upstream_room tells whether `size` octets can be put now; upstream_put puts them. upstream_flush
 * sends at once; it may put off. */
bool upstream_room(struct upstream *upstream, size_t size) __attribute__((warn_unused_result));
void upstream_put(struct upstream *upstream, const void *data, size_t len);
void upstream_flush(struct upstream *upstream);

/* upstream_turn connects and gives up connecting; in every turn_end, before the owner looks at its
 * own deadlines and upstream_flush_rest sends what the turn has brought. upstream_next_us: when it
 * wants the next turn; the deadline of greeting is the owner's. */
void upstream_turn(struct upstream *upstream);
void upstream_flush_rest(struct upstream *upstream);
uint64_t upstream_next_us(const struct upstream *upstream);

#endif
