/* Everything that the gateway counts, as text for Prometheus (exposition format 0.0.4).
 * docs/metrics.md has each name. */
#ifndef GATEWAY_ADMIN_METRICS_H
#define GATEWAY_ADMIN_METRICS_H

#include "gateway/admin/expiries.h"
#include "gateway/admin/health.h"
#include "gateway/admin/queue_census.h"
#include "gateway/base/log.h"
#include "gateway/deliver/courier.h"
#include "gateway/io/helpers.h"
#include "gateway/io/worker.h"
#include "gateway/receive/admission.h"
#include "gateway/receive/counters.h"

/* What one worker shows. */
struct metrics_worker {
    const struct server_counters *counters;
    const struct worker *worker; /* its atomic counters */
};

/* Where the figures come from; all borrowed, all readable at any time by any thread. */
struct metrics_sources {
    struct metrics_worker workers[LIMIT_WORKERS];
    uint32_t worker_count;
    struct spool *spool;
    struct courier *courier;
    const struct admission *admission;
    const struct helpers *helpers; /* NULL: none */
    const struct log *log;
    const struct health *health;
    struct queue_census *census; /* NULL: none */
    struct expiries *expiries;   /* of certificates; NULL: none */
    const char *version;
    uint64_t started_s; /* Unix time */
    uint32_t connections_max;
    uint64_t memory_max; /* octets: the memory contract; 0: not known */
};

/* metrics_text returns the text, owned, with its length; NULL: no memory. Any one thread. */
char *metrics_text(const struct metrics_sources *sources, size_t *len)
    __attribute__((warn_unused_result));

#endif
