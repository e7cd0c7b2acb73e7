/* Which way of making a write durable is faster depends on the device: on one with a protected
 * cache a synchronous write, on one without perhaps a flush. Measured once at start. */
#ifndef GATEWAY_SPOOL_PROBE_H
#define GATEWAY_SPOOL_PROBE_H

#include "gateway/base/log.h"
#include "gateway/spool/segment.h"

/* probe_sync writes zeros into the last blocks of a prepared segment both ways, logs the figures
 * and returns the faster way. `segment` may be NULL (nothing could be prepared): then
 * SPOOL_SYNC_DSYNC. */
enum spool_sync probe_sync(const struct volume *volume, const struct segment *segment,
                           struct log_port *log);

#endif
