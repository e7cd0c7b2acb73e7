/* How much a user may send: messages and recipients an hour. So many at once, and then one each
 * 3600/N seconds (policy/meter.h). Shared by all workers; atomic words, bounded memory. */
#ifndef GATEWAY_POLICY_QUOTAS_H
#define GATEWAY_POLICY_QUOTAS_H

#include "parser/bytes.h"

enum quota { QUOTA_MESSAGES = 0, QUOTA_RECIPIENTS = 1, QUOTA_COUNT };

struct quotas;

/* quotas_new makes room for about `cells` pairs of user and quota (quotas_octets). Owned; NULL: no
 * memory. */
struct quotas *quotas_new(uint32_t cells) __attribute__((warn_unused_result));
void quotas_free(struct quotas *quotas);
uint64_t quotas_octets(uint32_t cells);

/* quotas_take counts one message or recipient of a user at `now_us` (monotonic), unless it is one
 * too many; `per_hour` 0: no limit. A user's name counts in any case of ASCII letters. quotas_give
 * takes one back (a transaction that came to nothing). Any thread. */
bool quotas_take(struct quotas *quotas, enum quota quota, uint32_t per_hour, struct bytes user,
                 uint64_t now_us) __attribute__((warn_unused_result));
void quotas_give(struct quotas *quotas, enum quota quota, uint32_t per_hour, struct bytes user,
                 uint64_t now_us);

#endif
