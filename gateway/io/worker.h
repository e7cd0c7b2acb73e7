/* The per-core turn: wait for completions, dispatch them (the one switch), let the owner act, send
 * what was collected, settle the dead. A worker is made, run and freed inside its own thread;
 * worker_wake and worker_note are for other threads. */
#ifndef GATEWAY_IO_WORKER_H
#define GATEWAY_IO_WORKER_H

#include "gateway/base/blocks.h"
#include "gateway/base/list.h"
#include "gateway/base/slots.h"
#include "gateway/base/timer.h"
#include "gateway/io/buffers.h"
#include "gateway/io/helpers.h"
#include "gateway/io/listener.h"
#include "gateway/io/loan.h"
#include "gateway/io/post.h"
#include "gateway/io/stream.h"
#include "gateway/io/uring.h"
#include "gateway/io/watch.h"

#include <stdatomic.h>

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
    const int *listeners; /* listening descriptors; borrowed */
    uint32_t listener_count;
    uint32_t silent_listeners; /* bit per listener: nothing may be said in clear, not even 421 */
    struct helpers *helpers; /* for private-key operations; borrowed; NULL: this thread does them */
    uint32_t records_max;    /* streams that may each hold an unfinished TLS record; 0: no TLS */
    struct stream_callbacks callbacks;
    struct worker_hooks hooks;
    void *user; /* for hooks */
};

/* Where a watch has its poll request. */
struct watch_place {
    struct watch *watch; /* NULL: free */
    uint32_t generation; /* of the request */
    bool armed;          /* the kernel has it, and its answer counts */
};

struct worker {
    struct worker_options options;
    struct uring *ring;
    struct buffers buffers;
    struct blocks blocks;
    struct blocks records; /* of TLS_RECORD_MAX octets: TLS records that came in parts */
    struct slots slots;
    struct timer_wheel timers;
    struct list dirty;
    struct list starved;
    struct list streams;
    uint64_t now_us; /* monotonic, read once a turn */
    uint64_t now_wall_us;
    bool accepting;
    bool stopping;
    bool leaving;
    uint32_t accepts_armed;             /* bit per listener */
    struct timer starved_timer;         /* streams wait for buffers */
    uint64_t deaf_us;                   /* when peers that do not read are looked for next */
    struct timer accept_timer;          /* accept is tried again after descriptors ran out */
    union address_any accepted_address; /* of the connection being opened */
    uint32_t accepted_listener;         /* and the index of the listener that it came to */
    uint32_t expected;                  /* posts that are to come, jobs of helpers included */
    _Atomic(struct post *) posts;       /* that have come, newest first */
    struct watch_place watches[WATCH_MAX];
    int reserve_descriptor;      /* given up for a moment to say 421 when descriptors run out */
    int wake_descriptor;         /* eventfd */
    _Atomic int ring_descriptor; /* for MSG_RING; -1: use the eventfd */
    _Atomic uint32_t notes;
    _Atomic bool wakeable;   /* between init and cleanup */
    _Atomic uint32_t waking; /* threads inside worker_wake: cleanup waits for them */
    uint64_t turns, completions, starvations;
};

/* worker_init makes ring, buffers and slots for the calling thread. 0, or -errno with `what` (a
 * constant) naming the step. The memory of `worker` is the caller's; worker_cleanup gives the rest
 * back. */
int worker_init(struct worker *worker, const struct worker_options *options, const char **what);
void worker_cleanup(struct worker *worker);

/* worker_run turns until worker_stop, then until every stream is gone. 0, or -errno when the ring
 * broke. */
int worker_run(struct worker *worker);

/* worker_stop_accepting ends the listening: clients that come later are refused. worker_stop ends
 * worker_run when the last stream is gone. Worker's thread only. */
void worker_stop_accepting(struct worker *worker);
void worker_stop(struct worker *worker);

/* worker_leave is worker_stop, but what worker_expect announced is not waited for: its sender
 * hangs. If some has not come when worker_run returns, the worker's memory must stay as it is for
 * ever. */
void worker_leave(struct worker *worker);

/* worker_connect makes a stream that connects `descriptor` (a stream socket: TCP, bound perhaps, or
 * AF_UNIX) to
 * `address`, which stays until the owner hears `opened` or `closed` (with the reason). Returns the
 * owner's memory, zeroed, at once; the stream owns the descriptor then. NULL: no slot, and the
 * descriptor is the caller's. Until `opened` nothing can be written; a deadline may be set, and
 * stream_abort gives up. A connection that is refused or unreachable is `closed` with the -errno of
 * connect(2). Worker's thread only. */
void *worker_connect(struct worker *worker, int descriptor, const struct sockaddr *address,
                     socklen_t address_len) __attribute__((warn_unused_result));

/* worker_each_stream calls `act` for every stream, which it may end. Worker's thread only. */
void worker_each_stream(struct worker *worker,
                        void (*act)(struct worker *worker, struct stream *stream));

/* worker_wake makes a sleeping worker turn; worker_note also brings it `bits`. Any thread, once
 * worker_init has returned. */
void worker_wake(struct worker *worker);
void worker_note(struct worker *worker, uint32_t bits);

#endif
