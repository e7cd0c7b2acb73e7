/* Leaky buckets by key: one atomic word for each (GCRA), any number of threads, bounded memory;
 * when too many keys come, those that are paid back first are forgotten first. A limit of N an
 * interval lets N through at once, and then one each interval / N. What rates, attempts and quotas
 * are made of. Times are monotonic. */
#ifndef GATEWAY_POLICY_METER_H
#define GATEWAY_POLICY_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct meter;

struct meter_limit {
    uint32_t count; /* 0: no limit */
    uint32_t interval_s;
};

/* meter_new makes room for about `cells` keys (8 octets each, 128 MiB at most; meter_octets says
 * how many they are); no bucket is paid back later than in `ahead_s_max` seconds, at most a year:
 * no interval may be longer. Owned; NULL: no memory. */
struct meter *meter_new(uint32_t cells, uint32_t ahead_s_max) __attribute__((warn_unused_result));
void meter_free(struct meter *meter);
uint64_t meter_octets(uint32_t cells);

/* meter_key makes a key of what is counted: `len` octets within a `scope`. Who does not know our
 * memory can't find two that fall together. */
uint64_t meter_key(const struct meter *meter, uint32_t scope, const void *octets, size_t len);

/* meter_take counts `amount` for a key at `now_us`, unless that would be too many; then nothing is
 * counted and it returns false. An amount above the limit never fits. */
bool meter_take(struct meter *meter, uint64_t key, const struct meter_limit *limit, uint32_t amount,
                uint64_t now_us) __attribute__((warn_unused_result));

/* meter_give takes back what meter_take has counted, unless it was forgotten meanwhile. */
void meter_give(struct meter *meter, uint64_t key, const struct meter_limit *limit, uint32_t amount,
                uint64_t now_us);

/* meter_has_room tells whether meter_take would let `amount` through, and counts nothing. */
bool meter_has_room(const struct meter *meter, uint64_t key, const struct meter_limit *limit,
                    uint32_t amount, uint64_t now_us);

/* meter_close lets nothing through until `until_us`; from then on one each interval / N, as after
 * N. Cut to what meter_new has said. */
void meter_close(struct meter *meter, uint64_t key, const struct meter_limit *limit,
                 uint64_t now_us, uint64_t until_us);

#endif
