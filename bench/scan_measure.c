/* Turns and the clock: see scan_measure.h. */
#include "bench/scan_measure.h"

#include "gateway/base/clock.h"

#include <stdlib.h>

static double rate_of(const struct measure *measure, double seconds)
{
    uint64_t begin_us = clock_monotonic_us();
    uint64_t passed_us = 0, units = 0;
    while ((double)passed_us <= seconds * 1e6) {
        units += measure->run(measure->user);
        passed_us = clock_monotonic_us() - begin_us;
    }
    return (double)units * 1e6 / (double)passed_us;
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return left < right ? -1 : left > right;
}

static void sum_up(struct measure *measure, uint32_t turns)
{
    double *rates = measure->rates;
    qsort(rates, turns, sizeof(*rates), compare);
    measure->worst = rates[0];
    measure->best = rates[turns - 1];
    measure->median = (rates[(turns - 1) / 2] + rates[turns / 2]) / 2;
}

void measure_all(struct measure *measures, size_t count, const struct measure_options *options)
{
    for (uint32_t turn = 0; turn < options->turns; turn++) {
        for (size_t i = 0; i < count; i++) {
            struct measure *measure = &measures[(turn + i) % count];
            (void)rate_of(measure, options->seconds / 5);
            measure->rates[turn] = rate_of(measure, options->seconds);
        }
    }
    for (size_t i = 0; i < count; i++)
        sum_up(&measures[i], options->turns);
}
