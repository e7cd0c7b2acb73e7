/* What trace.c (who watches) and trace_session.c (what a worker writes) share. Private to both. */
#ifndef GATEWAY_RECEIVE_TRACE_FILTERS_H
#define GATEWAY_RECEIVE_TRACE_FILTERS_H

#include <stdalign.h>
#include <stdatomic.h>

#include "gateway/base/limits.h"
#include "gateway/receive/trace.h"

/* Immutable once it is published, but for the two fields at the end. */
struct trace_filters {
    uint64_t generation;
    uint8_t mask;                       /* a bit for each watcher */
    uint64_t since[TRACE_WATCHERS_MAX]; /* generation in which it came */
    struct trace_wish wishes[TRACE_WATCHERS_MAX];

    struct trace_wish orphan;      /* to be freed with these filters */
    struct trace_filters *retired; /* the next of those that wait to be freed */
};

/* A worker, as the thread that watches sees it. */
struct trace_place {
    alignas(64) _Atomic bool joined;
    _Atomic uint64_t seen; /* generation that it has turned to; it looks at no older one */
    void (*wake)(void *user);
    void *user;
};

struct trace {
    _Atomic(struct trace_filters *) current;
    struct trace_filters *retired;
    uint32_t retired_count;
    uint32_t worker_count;
    int ends[2];
    struct log *log; /* NULL: nobody watches */
    struct log_port *ports[LIMIT_WORKERS];
    struct trace_place places[LIMIT_WORKERS];
};

#endif
