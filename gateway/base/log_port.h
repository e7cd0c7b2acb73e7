/* What log.c (rings and the thread that empties them) and log_line.c (the text of lines) share.
 * Private to both.
 *
 * A port is a ring of octets with one producer, its thread, and one consumer, the log thread.
 * Positions only grow. A line is formatted in place and may run over the end of the ring into a
 * margin; log_end then copies what lies there to the front, so that the ring reads as one. */
#ifndef GATEWAY_BASE_LOG_PORT_H
#define GATEWAY_BASE_LOG_PORT_H

#include <pthread.h>
#include <stdalign.h>
#include <stdatomic.h>

#include "gateway/base/bell.h"
#include "gateway/base/log.h"

enum {
    LOG_RING_SIZE = 1 << 20,
    LOG_LINE_MAX = 1 << 14, /* octets of one line; keys that find no room are left out */
    LOG_VALUE_MAX = 512,    /* octets of one value before escaping */
    LOG_TIME_LEN = 24,      /* 2026-11-21T20:25:15.123Z */
    LOG_PORTS_MAX = 128,
};

struct log_port {
    /* Of the producer. */
    alignas(64) _Atomic uint64_t head; /* end of what was handed over */
    uint64_t tail_seen;                /* the tail as last looked at: never ahead of it */
    _Atomic uint64_t dropped;
    struct log *log;
    char *ring; /* LOG_RING_SIZE + LOG_LINE_MAX octets */
    const char *name;
    int64_t time_s; /* of `time` */
    int64_t time_ms;
    enum log_format format; /* of the line under construction: the log's may change meanwhile */
    bool open;              /* a line is under construction */
    char time[LOG_TIME_LEN];

    /* Of the log thread. */
    alignas(64) _Atomic uint64_t tail; /* start of what was not written yet */
    uint64_t taken;                    /* end of what the batch in hand has of it */
};

/* log_mode is level and format in one word, so that a line sees both of the same moment. */
static inline uint32_t log_mode(enum log_level level, enum log_format format)
{
    return (uint32_t)level | (uint32_t)format << 8;
}

struct log {
    _Atomic uint32_t mode;
    _Atomic uint32_t port_count;
    struct log_port *ports[LOG_PORTS_MAX]; /* the first is the log thread's own */
    struct bell bell;
    _Atomic bool stopping;
    _Atomic uint64_t lost; /* lines that the descriptor did not take */
    pthread_mutex_t mutex; /* for making ports */
    pthread_t thread;

    /* Of the log thread. */
    alignas(64) int descriptor;
    bool torn;         /* the last write ended inside a line */
    bool failing;      /* the last batch was not taken */
    uint64_t reported; /* lines whose loss was told */
};

#endif
