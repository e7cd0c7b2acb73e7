/* How much a user may send: messages and recipients an hour. Shared by all workers, as
 * policy/meter.h. */
#ifndef GATEWAY_POLICY_QUOTAS_H
#define GATEWAY_POLICY_QUOTAS_H

#include "gateway/policy/meter.h"
#include "parser/bytes.h"

enum quota { QUOTA_MESSAGES = 0, QUOTA_RECIPIENTS = 1, QUOTA_COUNT };

struct quotas;

/* quotas_new: cells as meter_new. */
struct quotas *quotas_new(uint32_t cells) __attribute__((warn_unused_result));
void quotas_free(struct quotas *quotas);

/* quotas_take counts one message or recipient of a user, unless it is one too many; `per_hour` 0:
 * no limit. A user's name counts in any case of ASCII letters. quotas_give takes one back (a
 * transaction that came to nothing). Any thread. */
bool quotas_take(struct quotas *quotas, enum quota quota, uint32_t per_hour, struct bytes user,
                 uint64_t now_us) __attribute__((warn_unused_result));
void quotas_give(struct quotas *quotas, enum quota quota, uint32_t per_hour, struct bytes user,
                 uint64_t now_us);

#endif
