/* Two buckets an octave: see histogram.h. The bounds are 2^k and 1.5 * 2^k, so that the bucket of a
 * value is in its first two binary digits. */
#include "gateway/base/histogram.h"

#include "gateway/base/counter.h"

enum {
    FIRST_SHIFT = 4, /* the first bound is 2^4 */
    BOUNDED = HISTOGRAM_BUCKETS - 1,
};

static uint32_t bucket_of(uint64_t us)
{
    if (us <= 1u << FIRST_SHIFT)
        return 0;
    uint64_t below = us - 1; /* bounds belong to the bucket that they end */
    uint32_t exponent = 63u - (uint32_t)__builtin_clzll(below);
    uint32_t half = (uint32_t)(below >> (exponent - 1)) & 1;
    uint32_t bucket = (exponent - FIRST_SHIFT) * 2 + half + 1;
    return bucket < BOUNDED ? bucket : BOUNDED;
}

void histogram_add(struct histogram *histogram, uint64_t us)
{
    counter_add(&histogram->counts[bucket_of(us)], 1);
    counter_add(&histogram->sum_us, us);
}

void histogram_collect(const struct histogram *histogram, struct histogram_snapshot *out)
{
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t count = counter_read(&histogram->counts[i]);
        out->counts[i] += count;
        out->count += count;
    }
    out->sum_us += counter_read(&histogram->sum_us);
}

uint64_t histogram_bound_us(uint32_t bucket)
{
    if (bucket >= BOUNDED)
        return UINT64_MAX;
    uint64_t octave = (uint64_t)1 << (FIRST_SHIFT + bucket / 2);
    return bucket % 2 == 0 ? octave : octave + octave / 2;
}

uint64_t histogram_quantile_us(const struct histogram_snapshot *snapshot, double q)
{
    double rank = q * (double)snapshot->count, before = 0;
    uint64_t low_us = 0;
    if (snapshot->count == 0)
        return 0;
    for (uint32_t i = 0; i < BOUNDED; i++) {
        double here = (double)snapshot->counts[i];
        uint64_t high_us = histogram_bound_us(i);
        if (here > 0 && before + here >= rank) {
            double part = rank > before ? (rank - before) / here : 0;
            return low_us + (uint64_t)(part * (double)(high_us - low_us));
        }
        before += here;
        low_us = high_us;
    }
    return low_us; /* in the last one, whose values are only known to be larger */
}
