/* The admin address: /healthz, /readyz, /metrics, the status page at / and its data, by
 * libmicrohttpd (whose only user this is), on threads of its own at low priority. And the
 * agent-check of HAProxy. Read only: nothing that anybody asks here changes anything.
 * docs/operation.md. */
#ifndef GATEWAY_ADMIN_HTTP_H
#define GATEWAY_ADMIN_HTTP_H

#include "gateway/admin/metrics.h"

struct http;

struct http_options {
    union address_any address; /* family AF_UNSPEC: none */
    union address_any agent;   /* of the agent-check; AF_UNSPEC: none */
    int address_descriptor; /* a socket that listens there already (owned from here on); -1: none */
    int agent_descriptor;
    const struct health *health; /* borrowed, as is the log */
    struct log *log;
};

/* http_start begins to answer, as not ready, before there is anything to tell: /metrics and the
 * page come with http_sources. NULL: `error` has a sentence. */
struct http *http_start(const struct http_options *options, char *error, size_t error_size)
    __attribute__((warn_unused_result));

/* http_sources gives the sources, borrowed until http_stop, or until NULL is given instead: nobody
 * looks at the old ones when it returns. */
void http_sources(struct http *http, const struct metrics_sources *sources);

/* http_limits changes two of the figures in `sources`, which it may be looking at. */
void http_limits(struct http *http, struct metrics_sources *sources, uint32_t connections_max,
                 uint64_t memory_max);

/* http_stop answers what is under way, in a moment, and ends all connections and threads. NULL is
 * allowed. */
void http_stop(struct http *http);

#endif
