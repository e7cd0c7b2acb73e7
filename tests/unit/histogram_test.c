/* base/histogram: each value is in the bucket whose bounds enclose it; sums, quantiles, and a
 * reader beside the writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <pthread.h>

#include "gateway/base/counter.h"
#include "gateway/base/histogram.h"

static uint32_t only_bucket(uint64_t us)
{
    struct histogram histogram = {0};
    struct histogram_snapshot seen = {0};
    uint32_t found = HISTOGRAM_BUCKETS;
    histogram_add(&histogram, us);
    histogram_collect(&histogram, &seen);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.sum_us, us);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        if (seen.counts[i] != 0)
            found = i;
    return found;
}

static void bounds_ascend_by_half_an_octave(void **state)
{
    (void)state;
    assert_int_equal(histogram_bound_us(0), 16);
    assert_int_equal(histogram_bound_us(1), 24);
    assert_int_equal(histogram_bound_us(2), 32);
    for (uint32_t i = 2; i < HISTOGRAM_BUCKETS - 1; i++)
        assert_int_equal(histogram_bound_us(i), 2 * histogram_bound_us(i - 2));
    assert_true(histogram_bound_us(HISTOGRAM_BUCKETS - 2) > 100 * 1000 * 1000);
    assert_true(histogram_bound_us(HISTOGRAM_BUCKETS - 1) == UINT64_MAX);
}

static void values_are_within_their_bounds(void **state)
{
    (void)state;
    assert_int_equal(only_bucket(0), 0);
    for (uint32_t i = 0; i < HISTOGRAM_BUCKETS - 1; i++) {
        assert_int_equal(only_bucket(histogram_bound_us(i)), i);
        assert_int_equal(only_bucket(histogram_bound_us(i) - 1), i);
        assert_int_equal(only_bucket(histogram_bound_us(i) + 1), i + 1);
    }
    assert_int_equal(only_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
}

static void several_are_added_up(void **state)
{
    (void)state;
    struct histogram one = {0}, two = {0};
    struct histogram_snapshot seen = {0};
    histogram_add(&one, 10);
    histogram_add(&one, 20);
    histogram_add(&two, 20);
    histogram_collect(&one, &seen);
    histogram_collect(&two, &seen);
    assert_int_equal(seen.count, 3);
    assert_int_equal(seen.sum_us, 50);
    assert_int_equal(seen.counts[0], 1);
    assert_int_equal(seen.counts[1], 2);
}

static void quantiles_lie_where_the_values_are(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    struct histogram_snapshot seen = {0};
    assert_int_equal(histogram_quantile_us(&seen, 0.5), 0);
    for (uint64_t us = 1; us <= 98304; us++) /* up to the end of a bucket */
        histogram_add(&histogram, us);
    histogram_collect(&histogram, &seen);
    for (double q = 0.01; q < 1; q += 0.01) {
        double found = (double)histogram_quantile_us(&seen, q), right = q * 98304;
        assert_true(found > right * 0.95 - 1 && found < right * 1.05 + 1);
    }
    assert_true(histogram_quantile_us(&seen, 1) >= 98304);
}

static void the_unbounded_end_is_told_by_its_beginning(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    struct histogram_snapshot seen = {0};
    histogram_add(&histogram, UINT64_MAX / 2);
    histogram_collect(&histogram, &seen);
    assert_int_equal(histogram_quantile_us(&seen, 0.5), histogram_bound_us(HISTOGRAM_BUCKETS - 2));
}

enum { ADDED = 200000 };

static void *add_many(void *histogram)
{
    for (uint64_t i = 0; i < ADDED; i++)
        histogram_add(histogram, i);
    return NULL;
}

static void anybody_may_read_meanwhile(void **state)
{
    (void)state;
    static struct histogram histogram;
    struct histogram_snapshot seen = {0};
    uint64_t before = 0;
    pthread_t writer;
    assert_int_equal(pthread_create(&writer, NULL, add_many, &histogram), 0);
    do {
        seen = (struct histogram_snapshot){0};
        histogram_collect(&histogram, &seen);
        assert_true(seen.count >= before);
        before = seen.count;
    } while (seen.count < ADDED);
    pthread_join(writer, NULL);
    seen = (struct histogram_snapshot){0};
    histogram_collect(&histogram, &seen);
    assert_int_equal(seen.count, ADDED);
    assert_int_equal(seen.sum_us, (uint64_t)ADDED * (ADDED - 1) / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_ascend_by_half_an_octave),
        cmocka_unit_test(values_are_within_their_bounds),
        cmocka_unit_test(several_are_added_up),
        cmocka_unit_test(quantiles_lie_where_the_values_are),
        cmocka_unit_test(the_unbounded_end_is_told_by_its_beginning),
        cmocka_unit_test(anybody_may_read_meanwhile),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
