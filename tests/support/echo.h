/* A server on struct worker for tests: it lives in a thread of its own and gives back what it gets.
 * Some octets are commands to it:
 *
 *     q  says "bye\n" and ends in order        a  aborts
 *     p  pauses until echo_resume              d  sets a deadline of ECHO_DEADLINE_MS
 *     f  sends for ever, as fast as the peer reads
 *     s  says "go\n" and begins TLS, if it has a context
 *
 * When it has ended, everything it took must have come home: echo_stop tells. */
#ifndef TESTS_SUPPORT_ECHO_H
#define TESTS_SUPPORT_ECHO_H

#include "gateway/io/worker.h"

#include <pthread.h>

enum { ECHO_DEADLINE_MS = 400 };

struct echo_options {
    bool baseline;
    uint32_t streams_max;     /* 0: 2048 */
    uint32_t buffer_count;    /* 0: 64 */
    uint32_t buffer_size;     /* 0: 4096 */
    uint32_t blocks_max;      /* 0: two for each stream */
    bool plain;               /* no octet is a command */
    struct tls_context *tls;  /* borrowed; NULL: no TLS */
    bool tls_first;           /* it begins with the connection, not with a command */
    char when_secured;        /* the command to carry out inside `secured`; 0: none */
    uint32_t shake_ms_max;    /* deadline of a handshake; 0: none */
    uint32_t shy;             /* takes odd parts and pauses now and then: a seed; 0: it does not */
    struct helpers *helpers;  /* borrowed; NULL: none */
    const _Atomic bool *busy; /* so long two helpers are kept from anything else; NULL: no */
};

/* What the server's thread tells the others. */
struct echo_counts {
    _Atomic uint32_t opened, closed, refused, timed_out, late_callbacks;
    _Atomic uint32_t secured, insecure; /* handshakes done; streams closed with -EPROTO */
    _Atomic uint32_t slots;             /* in use, at the last echo_look */
    _Atomic uint32_t jobs;              /* with helpers, at the last echo_look */
    _Atomic int last_error;             /* of closed */
    _Atomic uint32_t paused;            /* streams that have parked themselves */
    _Atomic uint32_t unreceived; /* streams without a receive request, at the last echo_look */
    _Atomic uint32_t held;       /* buffers held by streams, at the last echo_look */
    _Atomic uint32_t given;      /* buffers that no stream holds, at the last echo_look */
    _Atomic uint64_t starvations;
    _Atomic uint64_t notes; /* calls of noted */
    _Atomic uint64_t turns;
};

struct echo {
    struct worker worker;
    struct echo_options options;
    struct echo_counts counts;
    union address_any address; /* where it listens */
    int listener;
    uint32_t shy_count; /* streams that pause because they are shy; the server's thread only */
    _Atomic int ready;
    _Atomic uint64_t pinged, ponged; /* echo_ping: asked and answered */
    int result;                      /* of worker_run */
    char leaks[256];                 /* what did not come home; empty: nothing */
    pthread_t thread;
};

/* echo_start starts one on a free loopback port; owned. It aborts the program when that fails. */
struct echo *echo_start(const struct echo_options *options);

/* echo_stop lets the server end when its last connection is gone, frees it, and returns what did
 * not come home, as a static text; "" when all is well. */
const char *echo_stop(struct echo *echo);

/* From any thread: let all paused streams go on; abort all streams; accept no more, and again; fill
 * in the counts that say so; and wake the server until it answers (false: it did not within 5 s).
 */
void echo_resume(struct echo *echo);
void echo_abort(struct echo *echo);
void echo_stop_accepting(struct echo *echo);
void echo_accept_again(struct echo *echo);
void echo_look(struct echo *echo);
bool echo_ping(struct echo *echo);

/* echo_wait waits until *count is `wanted` at least, 5 s at most. False: it is not. */
bool echo_wait(const _Atomic uint32_t *count, uint32_t wanted);

/* A client's end: echo_connect returns a connected descriptor, whose blocking calls end after 5 s
 * (socket_read of descriptors.h reads from it). */
int echo_connect(const struct echo *echo);
void echo_send(int descriptor, const void *data, size_t len);

#endif
