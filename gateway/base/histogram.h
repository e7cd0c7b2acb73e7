/* Counts of durations by size, for Prometheus and for percentiles: two buckets an octave from 16
 * microseconds to 2 minutes. One thread adds, any thread reads. */
#ifndef GATEWAY_BASE_HISTOGRAM_H
#define GATEWAY_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum { HISTOGRAM_BUCKETS = 47 /* the last one has no upper bound */ };

struct histogram {
    _Atomic uint64_t counts[HISTOGRAM_BUCKETS];
    _Atomic uint64_t sum_us;
};

struct histogram_snapshot {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t sum_us;
    uint64_t count;
};

/* histogram_add counts one duration. The owner's thread. */
void histogram_add(struct histogram *histogram, uint64_t us);

/* histogram_collect adds what is in `histogram` to `out` (zeroed by the caller before the first).
 */
void histogram_collect(const struct histogram *histogram, struct histogram_snapshot *out);

/* histogram_bound_us returns the upper bound, inclusive, of a bucket; UINT64_MAX: of the last. */
uint64_t histogram_bound_us(uint32_t bucket);

/* histogram_quantile_us estimates the value below which the part `q` (0..1) lies: within a bucket
 * by straight line; 0 when it is empty. */
uint64_t histogram_quantile_us(const struct histogram_snapshot *snapshot, double q);

#endif
