/* The per-core turn: wait for completions, dispatch them (the one switch), let the owner act, send
 * what was collected, settle the dead. A worker is made, run and freed inside its own thread;
 * worker_wake and worker_note are for other threads. */
#ifndef GATEWAY_IO_WORKER_H
#define GATEWAY_IO_WORKER_H

#include "gateway/base/blocks.h"
#include "gateway/base/counter.h"
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
#include "gateway/io/worker_options.h"

#include <stdatomic.h>
#include <time.h>

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
    _Atomic bool listening;                          /* accept requests may still complete */
    uint64_t accepts_armed[WORKER_SOCKETS_MAX / 64]; /* bit per socket */
    uint32_t accepts_armed_count;
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
    clockid_t cpu_clock;     /* of the thread; see worker_cpu_us */

    /* For any thread to read: counted by this one, and what was so at the end of its last turn. */
    _Atomic uint64_t turns, completions, starvations;
    _Atomic uint64_t shortages; /* times that accept found no descriptor */
    _Atomic uint64_t overflows; /* completions that did not fit into the ring's queue */
    _Atomic uint32_t slots_used, blocks_used, buffers_given;
};

/* worker_init makes ring, buffers and slots for the calling thread. 0, or -errno with `what` (a
 * constant) naming the step. The memory of `worker` is the caller's; worker_cleanup gives the rest
 * back. */
int worker_init(struct worker *worker, const struct worker_options *options, const char **what);
void worker_cleanup(struct worker *worker);

/* worker_locked_octets tells what a worker without CAP_IPC_LOCK needs of RLIMIT_MEMLOCK. */
uint64_t worker_locked_octets(void);

/* worker_run turns until worker_stop, then until every stream is gone. 0, or -errno when the ring
 * broke. */
int worker_run(struct worker *worker);

/* worker_stop_accepting takes back the accept requests. The sockets listen on: they may be another
 * process's, too, and who connects waits in the kernel until somebody accepts, or the last of their
 * descriptors is closed. A connection that a request has completed meanwhile is still served.
 * worker_accept_again goes on. worker_stop stops accepting, and ends worker_run when the last
 * stream is gone. Worker's thread only. */
void worker_stop_accepting(struct worker *worker);
void worker_accept_again(struct worker *worker);
void worker_stop(struct worker *worker);

/* worker_listening: accept requests are out, or may be. False for good after worker_stop, or when
 * worker_run has returned. Any thread. */
bool worker_listening(const struct worker *worker);

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

/* worker_cpu_us returns the CPU time that the worker's thread has used; 0: it does not run. Any
 * thread, as long as the memory of `worker` is there. */
uint64_t worker_cpu_us(const struct worker *worker);

/* worker_wake makes a sleeping worker turn; worker_note also brings it `bits`. Any thread, once
 * worker_init has returned. */
void worker_wake(struct worker *worker);
void worker_note(struct worker *worker, uint32_t bits);

/* worker_unnote takes back those of `bits` that the worker has not heard yet. Any thread. */
void worker_unnote(struct worker *worker, uint32_t bits);

#endif
