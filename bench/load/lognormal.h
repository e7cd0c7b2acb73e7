/* Sizes from a lognormal distribution, which is what sizes of mail look like. */
#ifndef BENCH_LOAD_LOGNORMAL_H
#define BENCH_LOAD_LOGNORMAL_H

#include <stddef.h>
#include <stdint.h>

/* lognormal_size returns the size that stands for the `index`-th of `count` equally likely parts of
 * the distribution: its quantile in the middle of the part, at most `max`. sigma is that of the
 * natural logarithm. */
size_t lognormal_size(double median, double sigma, size_t max, uint32_t index, uint32_t count);

/* normal_quantile is the inverse of the standard normal distribution, for `share` from 1e-10 to
 * 1 - 1e-10, to seven digits. */
double normal_quantile(double share);

#endif
