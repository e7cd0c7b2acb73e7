/* load/schedule: constant arrivals of all threads together are even, whatever their number; Poisson
 * arrivals are what they should be by mean, variance and distribution; neither drifts. */
#include "bench/load/schedule.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { ARRIVALS = 100000, THREADS_MAX = 7 };

static const uint64_t start_ns = UINT64_C(123456789012345);
static const uint64_t day_ns = UINT64_C(86400000000000);

static uint64_t nearest(uint64_t number, uint64_t rate)
{
    return (uint64_t)(((unsigned __int128)number * 2000000000 + rate) / (2 * rate));
}

/* Whoever is next takes: the whole must be the arrivals of one thread, and number n of them n /
 * rate after the start, to the nanosecond. */
static void test_constant(void **state)
{
    (void)state;
    static const uint32_t rates[] = {1, 3, 7, 999, 1000, 123457, 1000000, 3000000};
    for (uint32_t threads = 1; threads <= THREADS_MAX; threads++) {
        for (unsigned i = 0; i < sizeof rates / sizeof rates[0]; i++) {
            struct schedule schedules[THREADS_MAX];
            for (uint32_t k = 0; k < threads; k++)
                schedule_start(&schedules[k], false, rates[i], start_ns, k, threads, 1);
            for (uint64_t number = 0; number < 1000; number++) {
                struct schedule *next = &schedules[number % threads];
                uint64_t next_ns = schedule_next_ns(next);
                for (uint32_t k = 0; k < threads; k++)
                    assert_true(schedule_next_ns(&schedules[k]) >= next_ns);
                assert_int_equal(next_ns - start_ns, nearest(number, rates[i]));
                assert_int_equal(schedule_take(next), next_ns);
            }
        }
    }
}

/* After a billion arrivals and after a hundred days the next one is still where it belongs. */
static void test_constant_drift(void **state)
{
    (void)state;
    static const uint32_t rates[] = {3, 7, 999, 30011, 123457, 3000000};
    for (unsigned i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        const uint64_t jumps[] = {1000000000, rates[i] * UINT64_C(86400) * 100};
        for (unsigned k = 0; k < 2; k++) {
            struct schedule schedule;
            schedule_start(&schedule, false, rates[i], start_ns, 0, 1, 1);
            schedule.number = jumps[k] - 1;
            (void)schedule_take(&schedule);
            uint64_t expected = nearest(jumps[k], rates[i]);
            assert_int_equal(schedule_next_ns(&schedule) - start_ns, expected);
        }
    }
}

/* The same gaps, begun at zero and a hundred days on, come to the same sum: nothing that is added
 * depends on how much there is already. */
static void test_poisson_drift(void **state)
{
    (void)state;
    struct schedule early, late;
    schedule_start(&early, true, 2.9e6, start_ns, 0, 1, 42);
    late = early;
    late.next_ns += 100 * day_ns;
    for (unsigned i = 0; i < ARRIVALS; i++) {
        uint64_t taken_ns = schedule_take(&early);
        assert_int_equal(schedule_take(&late) - taken_ns, 100 * day_ns);
        assert_true(schedule_next_ns(&early) >= taken_ns);
    }
    /* And the fraction is carried, not cut off: that would be half a nanosecond a gap. */
    long double sum_ns = 0;
    uint64_t chance;
    schedule_start(&early, true, 2.9e6, start_ns, 0, 1, 42);
    chance = early.chance;
    long double first_ns = (long double)early.next_ns + early.fraction_ns;
    for (unsigned i = 0; i < ARRIVALS; i++) {
        (void)schedule_take(&early);
        double share = (double)((schedule_random(&chance) >> 11) + 1) * 0x1p-53;
        sum_ns -= logl(share) * 1e9L / 2.9e6L;
    }
    long double next_ns = (long double)early.next_ns + early.fraction_ns;
    assert_true(fabsl(next_ns - first_ns - sum_ns) < 0.01L);
}

static int compare(const void *one, const void *other)
{
    double a = *(const double *)one, b = *(const double *)other;
    return a < b ? -1 : a > b;
}

static double *gaps_of(double rate, uint32_t index, uint32_t threads, uint64_t seed)
{
    struct schedule schedule;
    double *gaps = calloc(ARRIVALS, sizeof *gaps);
    assert_non_null(gaps);
    schedule_start(&schedule, true, rate, start_ns, index, threads, seed);
    uint64_t last_ns = start_ns;
    for (unsigned i = 0; i < ARRIVALS; i++) {
        uint64_t taken_ns = schedule_take(&schedule);
        gaps[i] = (double)(taken_ns - last_ns);
        last_ns = taken_ns;
    }
    return gaps;
}

/* Mean and variance of the gaps, and the greatest distance of their distribution from the
 * exponential one (Kolmogorov): with this many, 1.63 / sqrt(n) is exceeded once in a hundred seeds.
 */
static void test_poisson(void **state)
{
    (void)state;
    static const double rate = 1000;
    for (uint32_t threads = 1; threads <= 4; threads += 3) {
        for (uint32_t index = 0; index < threads; index++) {
            double *gaps = gaps_of(rate, index, threads, 99), mean = 0, variance = 0, worst = 0;
            const double expected = 1e9 / rate * threads, count = ARRIVALS;
            for (unsigned i = 0; i < ARRIVALS; i++)
                mean += gaps[i] / count;
            for (unsigned i = 0; i < ARRIVALS; i++)
                variance += (gaps[i] - mean) * (gaps[i] - mean) / (count - 1);
            assert_true(fabs(mean / expected - 1) < 3 / sqrt(count));
            assert_true(fabs(variance / (expected * expected) - 1) < 3 * sqrt(8 / count));
            qsort(gaps, ARRIVALS, sizeof *gaps, compare);
            for (unsigned i = 0; i < ARRIVALS; i++) {
                double share = 1 - exp(-gaps[i] / expected);
                worst = fmax(worst, fmax(share - i / count, (i + 1) / count - share));
            }
            assert_true(worst < 1.63 / sqrt(count));
            free(gaps);
        }
    }
}

/* Gaps do not follow from those before them, nor from those of the next thread or seed. */
static void test_independent(void **state)
{
    (void)state;
    double *gaps = gaps_of(1000, 0, 2, 5);
    double *others[] = {gaps_of(1000, 1, 2, 5), gaps_of(1000, 0, 2, 6)};
    for (int lag = -3; lag <= 3; lag++) {
        for (unsigned k = 0; k < 3; k++) {
            const double *other = k < 2 ? others[k] : gaps;
            double sum = 0, count = 0;
            for (int i = 3; i < ARRIVALS - 3 && (k < 2 || lag != 0); i++, count++)
                sum += (gaps[i] / 2e6 - 1) * (other[i + lag] / 2e6 - 1);
            assert_true(count == 0 || fabs(sum / count) < 4 / sqrt(count));
        }
    }
    free(gaps);
    free(others[0]);
    free(others[1]);
}

/* splitmix64, from its published reference: the first numbers of the state 1234567. */
static void test_random(void **state)
{
    (void)state;
    static const uint64_t expected[] = {
        UINT64_C(6457827717110365317),  UINT64_C(3203168211198807973),
        UINT64_C(9817491932198370423),  UINT64_C(4593380528125082431),
        UINT64_C(16408922859458223821),
    };
    uint64_t chance = 1234567;
    for (unsigned i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(schedule_random(&chance), expected[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_constant),      cmocka_unit_test(test_constant_drift),
        cmocka_unit_test(test_poisson_drift), cmocka_unit_test(test_poisson),
        cmocka_unit_test(test_independent),   cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
