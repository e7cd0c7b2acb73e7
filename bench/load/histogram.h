/* A log-linear histogram of durations in nanoseconds: exact below 2,048 ns, above that three
 * significant digits (an error of at most 1/1,024) up to 68 s; what is longer counts as 68 s.
 * Count, sum and maximum are exact. */
#ifndef BENCH_LOAD_HISTOGRAM_H
#define BENCH_LOAD_HISTOGRAM_H

#include <stdbool.h>
#include <stdint.h>

enum {
    HISTOGRAM_LINEAR_BITS = 10, /* steps in each octave: 1,024 */
    HISTOGRAM_VALUE_BITS = 36,
    HISTOGRAM_STEPS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_LINEAR_BITS + 1) << HISTOGRAM_LINEAR_BITS,
};

/* Zeroed memory is an empty histogram. */
struct histogram {
    uint64_t count;
    uint64_t max_ns;
    uint64_t sum_ns; /* 584 years fit */
    uint64_t steps[HISTOGRAM_STEPS];
};

void histogram_add(struct histogram *histogram, uint64_t value_ns);

/* Adds all that `other` counted: percentiles are never averaged. */
void histogram_merge(struct histogram *histogram, const struct histogram *other);

/* Returns the value in ns that at least the share `quantile` (0 to 1) of the counted values do not
 * exceed, as the highest value of its step, but never above the maximum; 0 if empty. */
uint64_t histogram_quantile_ns(const struct histogram *histogram, double quantile);

/* Returns the mean of the counted values; 0 if empty. */
double histogram_mean_ns(const struct histogram *histogram);

/* Walks over the steps that are not empty, the lowest first: `*cursor` is 0 at first. `upper_ns` is
 * the highest value that falls into the step. False: there are no more. */
bool histogram_next(const struct histogram *histogram, uint32_t *cursor, uint64_t *upper_ns,
                    uint64_t *count);

#endif
