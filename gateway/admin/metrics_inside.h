/* The parts of metrics_text, by area. Each writes whole families. */
#ifndef GATEWAY_ADMIN_METRICS_INSIDE_H
#define GATEWAY_ADMIN_METRICS_INSIDE_H

#include "gateway/admin/exposition.h"
#include "gateway/admin/metrics.h"

void metrics_receive(struct exposition *out, const struct metrics_sources *sources);
void metrics_tls(struct exposition *out, const struct metrics_sources *sources);
void metrics_workers(struct exposition *out, const struct metrics_sources *sources);
void metrics_logins(struct exposition *out, const struct metrics_sources *sources);
void metrics_redis(struct exposition *out, const struct metrics_sources *sources);
void metrics_spool(struct exposition *out, const struct metrics_sources *sources);
void metrics_deliver(struct exposition *out, const struct metrics_sources *sources);
void metrics_queue(struct exposition *out, const struct metrics_sources *sources);
void metrics_process(struct exposition *out, const struct metrics_sources *sources);

#endif
