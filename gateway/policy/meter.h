/* Leaky buckets by key: one atomic word for each (GCRA), any number of threads, bounded memory;
 * when too many keys come, those that were used longest ago are forgotten first. A limit of N an
 * interval lets N through at once, and then one each interval / N. What rates, attempts and quotas
 * are made of. */
#ifndef GATEWAY_POLICY_METER_H
#define GATEWAY_POLICY_METER_H

#include <stdbool.h>
#include <stdint.h>

struct meter;

struct meter_limit {
    uint32_t count; /* 0: no limit */
    uint32_t interval_s;
};

/* meter_new makes room for about `cells` keys (8 octets each). Owned; NULL: no memory. */
struct meter *meter_new(uint32_t cells) __attribute__((warn_unused_result));
void meter_free(struct meter *meter);

/* meter_take counts `amount` for a key at `now_us` (monotonic), unless that would be too many; then
 * nothing is counted and it returns false. An amount above the limit fits into an empty bucket
 * never. */
bool meter_take(struct meter *meter, uint64_t key, const struct meter_limit *limit, uint32_t amount,
                uint64_t now_us) __attribute__((warn_unused_result));

/* meter_give takes back what meter_take has counted. */
void meter_give(struct meter *meter, uint64_t key, const struct meter_limit *limit, uint32_t amount,
                uint64_t now_us);

/* meter_has_room tells whether meter_take would let `amount` through, and counts nothing. */
bool meter_has_room(const struct meter *meter, uint64_t key, const struct meter_limit *limit,
                    uint32_t amount, uint64_t now_us);

#endif
