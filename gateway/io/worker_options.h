/* What a worker is made with, and what it calls. */
#ifndef GATEWAY_IO_WORKER_OPTIONS_H
#define GATEWAY_IO_WORKER_OPTIONS_H

#include "gateway/io/helpers.h"
#include "gateway/io/listener.h"
#include "gateway/io/stream.h"

/* Called once a turn, in this order. All must be there, but for next_us, and for `accepted` in a
 * worker without listeners. */
struct worker_hooks {
    /* A connection was accepted; true: take it (a stream is made and `opened` follows), false: the
     * hook has answered, the worker closes the descriptor. */
    bool (*accepted)(void *user, int descriptor, const union address_any *peer);
    /* The address of the stream being opened, just before `opened`; the owner keeps what it needs.
     */
    /* All completions of the turn are dispatched. */
    void (*turn_end)(void *user);
    /* About to sleep: false when something has come up meanwhile. Followed by awake() if it
     * returned true. */
    bool (*falling_asleep)(void *user);
    void (*awake)(void *user);
    /* worker_note was called with these bits. */
    void (*noted)(void *user, uint32_t notes);
    /* When turn_end is to be called next (monotonic microseconds; UINT64_MAX: any time). Asked
     * before each sleep, which ends then, some tens of microseconds late. NULL: any time. */
    uint64_t (*next_us)(void *user);
};

enum { WORKER_SOCKETS_MAX = 2048 };

struct worker_options {
    uint32_t index;
    int cpu;              /* pin there; -1: no */
    uint32_t streams_max; /* slots */
    uint32_t blocks_max;  /* 4 KiB each */
    uint32_t buffer_count;
    uint32_t buffer_size;
    size_t owner_size;    /* octets behind each stream */
    bool baseline;        /* only what Linux 6.1 has */
    bool spin;            /* look for completions without ever sleeping */
    const int *listeners; /* listening descriptors; borrowed until worker_listening is false */
    uint32_t listener_count;
    const uint8_t *listener_of; /* which listener each of them is of, when one has several; borrowed
                                   like them; NULL: one each, in order */
    uint32_t silent_listeners;  /* bit per listener: nothing may be said in clear, not even 421 */
    struct helpers *helpers; /* for private-key operations; borrowed; NULL: this thread does them */
    uint32_t records_max;    /* streams that may each hold an unfinished TLS record; 0: no TLS */
    struct stream_callbacks callbacks;
    struct worker_hooks hooks;
    void *user; /* for hooks */
};

#endif
