/* load/histogram: what is counted is told within a thousandth, quantiles are those of the sorted
 * values, and nothing is lost when histograms are added. */
#include "bench/load/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bench/load/schedule.h"

enum { VALUES = 20000 };

static const uint64_t longest_ns = (UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1;

static struct histogram *histogram_new(void)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    assert_non_null(histogram);
    return histogram;
}

static int compare(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

/* Random values of every magnitude, sorted. */
static uint64_t *values_new(struct histogram *histogram)
{
    uint64_t *values = calloc(VALUES, sizeof *values), chance = 7;
    assert_non_null(values);
    for (unsigned i = 0; i < VALUES; i++) {
        uint64_t number = schedule_random(&chance);
        values[i] = (number >> 8) & ((UINT64_C(1) << (number % HISTOGRAM_VALUE_BITS)) - 1);
        histogram_add(histogram, values[i]);
    }
    qsort(values, VALUES, sizeof *values, compare);
    return values;
}

static void test_one_value(void **state)
{
    (void)state;
    struct histogram *histogram = histogram_new();
    for (unsigned bits = 0; bits < HISTOGRAM_VALUE_BITS; bits++) {
        for (int offset = -1; offset <= 1; offset++) {
            uint64_t value = (UINT64_C(1) << bits) + (uint64_t)offset, upper_ns, count;
            uint32_t cursor = 0;
            memset(histogram, 0, sizeof *histogram);
            histogram_add(histogram, value);
            assert_int_equal(histogram_quantile_ns(histogram, 0.5), value);
            assert_true(histogram_next(histogram, &cursor, &upper_ns, &count));
            assert_int_equal(count, 1);
            assert_in_range(upper_ns, value, value + (value < 2048 ? 0 : value / 1024));
            assert_false(histogram_next(histogram, &cursor, &upper_ns, &count));
        }
    }
    free(histogram);
}

static void test_too_long(void **state)
{
    (void)state;
    struct histogram *histogram = histogram_new();
    uint64_t upper_ns, count;
    uint32_t cursor = 0;
    histogram_add(histogram, longest_ns);
    histogram_add(histogram, longest_ns + 1);
    histogram_add(histogram, UINT64_C(1) << 50);
    assert_int_equal(histogram->max_ns, UINT64_C(1) << 50);
    assert_true(histogram_next(histogram, &cursor, &upper_ns, &count));
    assert_int_equal(upper_ns, longest_ns);
    assert_int_equal(count, 3);
    free(histogram);
}

static void test_empty(void **state)
{
    (void)state;
    struct histogram *histogram = histogram_new();
    uint64_t upper_ns, count;
    uint32_t cursor = 0;
    assert_int_equal(histogram_quantile_ns(histogram, 0.5), 0);
    assert_true(histogram_mean_ns(histogram) == 0);
    assert_false(histogram_next(histogram, &cursor, &upper_ns, &count));
    free(histogram);
}

/* Against the sorted values themselves. */
static void test_quantiles(void **state)
{
    (void)state;
    static const double quantiles[] = {0, 0.001, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 1};
    struct histogram *histogram = histogram_new();
    uint64_t *values = values_new(histogram);
    for (unsigned i = 0; i < sizeof quantiles / sizeof quantiles[0]; i++) {
        unsigned rank =
            1; /* the least with rank / VALUES >= the quantile, in hundred-thousandths */
        while (rank * UINT64_C(100000) < (uint64_t)(quantiles[i] * 100000 + 0.5) * VALUES)
            rank++;
        uint64_t exact = values[rank - 1], told = histogram_quantile_ns(histogram, quantiles[i]);
        assert_in_range(told, exact, exact + exact / 1024);
    }
    assert_int_equal(histogram_quantile_ns(histogram, 1), values[VALUES - 1]);
    free(values);
    free(histogram);
}

/* The share that must not exceed a quantile is never rounded down: of 10 values p99 is the largest,
 * of 10,000 p99.99 the one before it. */
static void test_ranks(void **state)
{
    (void)state;
    static const struct {
        unsigned count;
        double quantile;
        unsigned expected;
    } cases[] = {
        {10,   0.5,    5   },
        {10,   0.91,   10  },
        {10,   0.99,   10  },
        {1000, 0.99,   990 },
        {1000, 0.999,  999 },
        {1000, 0.9999, 1000},
        {1001, 0.999,  1000},
        {1500, 0.9993, 1499},
        {2000, 0.9995, 1999},
        {2000, 0.9996, 2000},
        {3,    0.7,    3   },
        {100,  0.07,   7   },
        {100,  0.29,   29  },
        {1,    0,      1   },
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct histogram *histogram = histogram_new();
        for (unsigned value = 1; value <= cases[i].count; value++)
            histogram_add(histogram, value);
        assert_int_equal(histogram_quantile_ns(histogram, cases[i].quantile), cases[i].expected);
        free(histogram);
    }
    struct histogram *histogram = histogram_new();
    for (unsigned i = 0; i < 9999; i++)
        histogram_add(histogram, 5);
    histogram_add(histogram, 7);
    assert_int_equal(histogram_quantile_ns(histogram, 0.9999), 5);
    histogram_add(histogram, 7);
    assert_int_equal(histogram_quantile_ns(histogram, 0.9999), 7);
    free(histogram);
}

static void test_mean(void **state)
{
    (void)state;
    struct histogram *histogram = histogram_new();
    uint64_t *values = values_new(histogram), sum = 0;
    for (unsigned i = 0; i < VALUES; i++)
        sum += values[i];
    assert_int_equal(histogram->sum_ns, sum);
    assert_true(histogram_mean_ns(histogram) == (double)sum / VALUES);
    free(values);
    free(histogram);
}

/* Values dealt to three histograms, and added up, are as if they had gone to one. */
static void test_merge(void **state)
{
    (void)state;
    struct histogram *whole = histogram_new(), *added = histogram_new(), *parts[3];
    uint64_t *values = values_new(whole);
    for (unsigned i = 0; i < 3; i++)
        parts[i] = histogram_new();
    for (unsigned i = 0; i < VALUES; i++)
        histogram_add(parts[i * 7 % 3], values[i]);
    for (unsigned i = 0; i < 3; i++) {
        histogram_merge(added, parts[i]);
        free(parts[i]);
    }
    assert_memory_equal(added, whole, sizeof *whole);
    free(values);
    free(added);
    free(whole);
}

static void test_steps(void **state)
{
    (void)state;
    struct histogram *histogram = histogram_new();
    uint64_t *values = values_new(histogram), upper_ns, count, last_ns = 0, seen = 0;
    for (uint32_t cursor = 0; histogram_next(histogram, &cursor, &upper_ns, &count);) {
        assert_true(count > 0);
        assert_true(seen == 0 || upper_ns > last_ns);
        for (uint64_t i = seen; i < seen + count; i++)
            assert_in_range(values[i], upper_ns - upper_ns / 1024, upper_ns);
        seen += count;
        last_ns = upper_ns;
    }
    assert_int_equal(seen, VALUES);
    free(values);
    free(histogram);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_value), cmocka_unit_test(test_too_long),
        cmocka_unit_test(test_empty),     cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_ranks),     cmocka_unit_test(test_mean),
        cmocka_unit_test(test_merge),     cmocka_unit_test(test_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
