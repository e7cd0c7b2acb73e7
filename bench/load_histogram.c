/* See load_histogram.h. A value's step is its octave and the ten bits below its highest one. */
#include "bench/load_histogram.h"

static unsigned octave_of(uint64_t value_ns)
{
    unsigned bits = 64 - (unsigned)__builtin_clzll(value_ns | 1);
    return bits > HISTOGRAM_LINEAR_BITS + 1 ? bits - HISTOGRAM_LINEAR_BITS - 1 : 0;
}

void histogram_add(struct histogram *histogram, uint64_t value_ns)
{
    const uint64_t limit = ((uint64_t)1 << HISTOGRAM_VALUE_BITS) - 1;
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
    if (other->max_ns > histogram->max_ns)
        histogram->max_ns = other->max_ns;
    for (unsigned i = 0; i < HISTOGRAM_STEPS; i++)
        histogram->steps[i] += other->steps[i];
}

/* The highest value that falls into a step. */
static uint64_t step_limit_ns(unsigned step)
{
    const unsigned linear = 1u << HISTOGRAM_LINEAR_BITS;
    if (step < 2 * linear)
        return step;
    unsigned octave = step / linear - 1;
    return ((uint64_t)(step - octave * linear + 1) << octave) - 1;
}

uint64_t histogram_quantile_ns(const struct histogram *histogram, double quantile)
{
    if (histogram->count == 0)
        return 0;
    uint64_t rank = (uint64_t)(quantile * (double)histogram->count + 0.5);
    uint64_t seen = 0;
    rank = rank < 1 ? 1 : rank > histogram->count ? histogram->count : rank;
    for (unsigned i = 0; i < HISTOGRAM_STEPS; i++) {
        seen += histogram->steps[i];
        if (seen >= rank)
            return step_limit_ns(i) < histogram->max_ns ? step_limit_ns(i) : histogram->max_ns;
    }
    return histogram->max_ns;
}
