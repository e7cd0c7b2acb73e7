/* Recovery: from the files of a spool to its living messages and its pool of segments.
 * docs/spool.md has a table for every state that it can find. */
#ifndef GATEWAY_SPOOL_RECOVERY_H
#define GATEWAY_SPOOL_RECOVERY_H

#include "gateway/spool/spool_inside.h"

/* recovery_run reads the spool's directory: sets the volume's uuid and salt, fills the pool, counts
 * the damage, calls back for each living message, and sets the numbers that new batches and
 * messages begin with. The volume's directory and direct are set. False, with a sentence in
 * `error`, when the spool must not be used. */
bool recovery_run(struct spool *spool, spool_recovered_callback *recovered, void *user, char *error,
                  size_t error_size) __attribute__((warn_unused_result));

#endif
