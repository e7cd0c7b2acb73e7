/* See load/histogram.h. A value's step is its octave and the ten bits below its highest one. */
#include "bench/load/histogram.h"

#include <math.h>

static unsigned octave_of(uint64_t value_ns)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value_ns | 1);
    return bits > HISTOGRAM_LINEAR_BITS + 1 ? bits - HISTOGRAM_LINEAR_BITS - 1 : 0;
}

/* The highest value that falls into a step. */
static uint64_t step_limit_ns(uint32_t step)
{
    const uint32_t linear = 1u << HISTOGRAM_LINEAR_BITS;
    if (step < 2 * linear)
        return step;
    unsigned octave = step / linear - 1;
    return ((uint64_t)(step - octave * linear + 1) << octave) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value_ns)
{
    const uint64_t limit = ((uint64_t)1 << HISTOGRAM_VALUE_BITS) - 1;
    histogram->sum_ns += value_ns;
    if (value_ns > histogram->max_ns)
        histogram->max_ns = value_ns;
    if (value_ns > limit)
        value_ns = limit;
    unsigned octave = octave_of(value_ns);
    histogram->steps[((uint64_t)octave << HISTOGRAM_LINEAR_BITS) + (value_ns >> octave)]++;
    histogram->count++;
}

void histogram_merge(struct histogram *histogram, const struct histogram *other)
{
    histogram->count += other->count;
    histogram->sum_ns += other->sum_ns;
    if (other->max_ns > histogram->max_ns)
        histogram->max_ns = other->max_ns;
    for (unsigned i = 0; i < HISTOGRAM_STEPS; i++)
        histogram->steps[i] += other->steps[i];
}

/* How many values must not exceed the quantile. The product is a little too large as often as too
 * small: what is less than a millionth of a value above a whole number is that number. */
static uint64_t rank_of(double quantile, uint64_t count)
{
    double rank = ceil(quantile * (double)count - 1e-6);
    return rank < 1 ? 1 : rank > (double)count ? count : (uint64_t)rank;
}

uint64_t histogram_quantile_ns(const struct histogram *histogram, double quantile)
{
    if (histogram->count == 0)
        return 0;
    uint64_t rank = rank_of(quantile, histogram->count), seen = 0;
    for (uint32_t i = 0; i < HISTOGRAM_STEPS; i++) {
        seen += histogram->steps[i];
        if (seen >= rank)
            return step_limit_ns(i) < histogram->max_ns ? step_limit_ns(i) : histogram->max_ns;
    }
    return histogram->max_ns;
}

double histogram_mean_ns(const struct histogram *histogram)
{
    return histogram->count > 0 ? (double)histogram->sum_ns / (double)histogram->count : 0;
}

bool histogram_next(const struct histogram *histogram, uint32_t *cursor, uint64_t *upper_ns,
                    uint64_t *count)
{
    for (uint32_t i = *cursor; i < HISTOGRAM_STEPS; i++) {
        if (histogram->steps[i] == 0)
            continue;
        *upper_ns = step_limit_ns(i);
        *count = histogram->steps[i];
        *cursor = i + 1;
        return true;
    }
    return false;
}
