/* One thread of the sink: a worker, its sessions, its end of the log, its counters. Threads share
 * nothing but the options, the choices of faults and the certificate. */
#ifndef BENCH_SINK_SERVER_H
#define BENCH_SINK_SERVER_H

#include "bench/sink_alarm.h"
#include "bench/sink_log.h"
#include "bench/sink_options.h"
#include "gateway/io/worker.h"

struct sink_session;
struct tls_context;

enum { SINK_GREETING_MAX = 300 };

enum sink_note {
    SINK_NOTE_ALARM = 1 << 0, /* a delay is over */
    SINK_NOTE_DRAIN = 1 << 1, /* accept no more, end what is idle, finish what is in flight */
    SINK_NOTE_ABORT = 1 << 2, /* end everything now */
};

struct sink_counters {
    uint64_t connections;
    uint64_t messages, recipients, octets; /* accepted */
    uint64_t torn;                         /* their X-Load-Sum is not that of their body */
    uint64_t tls, tls_failed;              /* handshakes */
    uint64_t faults[SINK_PHASE_COUNT][SINK_FAULT_COUNT];
    uint64_t delayed[SINK_PHASE_COUNT];
};

struct sink_server {
    struct worker worker;
    const struct sink_options *options;
    struct tls_context *tls; /* owned by the caller; NULL: no TLS */
    struct sink_log log;
    struct sink_alarm alarm;
    struct blocks lines;                   /* for unfinished command lines */
    struct list delayed[SINK_PHASE_COUNT]; /* sessions whose reply waits, in the order of time */
    bool delays;                           /* the options have some */
    bool draining;
    uint32_t index;
    uint64_t numbers; /* of messages, given so far */
    struct sink_counters counters;
    uint16_t greeting_len, ehlo_len[2];
    char greeting[SINK_GREETING_MAX];
    char ehlo[2][SINK_EHLO_MAX]; /* in clear, inside TLS */
    int listeners[SINK_LISTENERS_MAX];
};

/* sink_server_run serves in the calling thread until it is told to end. The caller's zeroed memory
 * has options, tls, index and listeners set; it stays readable afterwards. *ready becomes 1, or
 * -errno with *what naming the step. Returns 0, or -errno. */
int sink_server_run(struct sink_server *server, int log_descriptor, _Atomic int *ready,
                    const char **what);

/* sink_server_delay lets sink_session_delayed be called in `delay_us`. */
void sink_server_delay(struct sink_server *server, struct sink_session *session, uint64_t delay_us);

/* sink_server_number returns the number of a message: unique among threads. */
uint64_t sink_server_number(struct sink_server *server);

#endif
