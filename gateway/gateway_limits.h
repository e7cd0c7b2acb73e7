/* What the system allows a process: raised at the start as far as we may, and tried before another
 * process has to end for us. */
#ifndef GATEWAY_GATEWAY_LIMITS_H
#define GATEWAY_GATEWAY_LIMITS_H

#include "gateway/gateway_inside.h"

/* gateway_limits_raise raises RLIMIT_NOFILE to what the configuration can need, and RLIMIT_MEMLOCK
 * as far as it goes: rings count as locked memory when we are not root. Before privileges are
 * dropped. */
void gateway_limits_raise(struct gateway *gateway);

/* gateway_limits_hint writes to `out` what helps against the error (-errno) of a worker that could
 * not start, in parentheses, or nothing. */
void gateway_limits_hint(const struct gateway *gateway, int error, char *out, size_t out_size);

/* gateway_limits_rehearse tries what would fail after the process before has gone: memory for all
 * workers, the files of the spool, the folder of the control socket. False: it was logged why
 * not. */
bool gateway_limits_rehearse(struct gateway *gateway) __attribute__((warn_unused_result));

#endif
