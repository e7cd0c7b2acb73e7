/* load/series: a second is complete when all threads have handed it in and not before, in order; it
 * has what all of them counted. Also from many threads at once. */
#include "bench/load/series.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { THREADS = 4, SECONDS = 150, BATCH = 10 };

static struct histogram *histogram_new(void)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    assert_non_null(histogram);
    return histogram;
}

static void test_order(void **state)
{
    (void)state;
    struct series *series = series_new(3);
    struct histogram *message = histogram_new(), *empty = histogram_new();
    assert_non_null(series);
    histogram_add(message, 1000);
    histogram_add(message, 1500);
    /* The first thread is far ahead: nothing is complete. */
    for (uint32_t second = 0; second < 100; second++)
        series_hand_in(series, second, 2, 1, 3, message);
    assert_int_equal(series_complete(series), 0);
    assert_int_equal(series_second(series, 0).answered, 0);
    for (uint32_t second = 0; second < 5; second++)
        series_hand_in(series, second, 0, 10, 0, empty);
    assert_int_equal(series_complete(series), 0);
    for (uint32_t second = 0; second < 7; second++) {
        histogram_add(message, 2000);
        series_hand_in(series, second, 20, 0, 100, message);
        assert_int_equal(series_complete(series), second < 5 ? second + 1 : 5);
    }
    for (uint32_t second = 0; second < 5; second++) {
        struct series_second told = series_second(series, second);
        assert_int_equal(told.answered, 22);
        assert_int_equal(told.failed, 11);
        assert_int_equal(told.opened, 103);
        /* 1000, 1000, 1500, 1500 and second + 1 times 2000 */
        assert_int_equal(told.p50_ns, second < 4 ? 1500 : 2000);
        assert_int_equal(told.p99_ns, 2000);
        assert_int_equal(told.max_ns, 2000);
    }
    assert_int_equal(series_second(series, 5).answered, 0);
    free(message);
    free(empty);
    series_free(series);
}

static void test_nothing(void **state)
{
    (void)state;
    struct series *series = series_new(1);
    struct histogram *empty = histogram_new();
    assert_non_null(series);
    assert_int_equal(series_complete(series), 0);
    series_hand_in(series, 0, 0, 0, 0, empty);
    assert_int_equal(series_complete(series), 1);
    assert_int_equal(series_second(series, 0).p99_ns, 0);
    /* One that is left out: those after it are forgotten, not told wrong. */
    series_hand_in(series, 2, 5, 0, 0, empty);
    assert_int_equal(series_complete(series), 1);
    free(empty);
    series_free(series);
    series_free(NULL);
}

/* One thread: each second is complete at once, and knows nothing of those before. */
static void test_alone(void **state)
{
    (void)state;
    struct series *series = series_new(1);
    struct histogram *message = histogram_new();
    assert_non_null(series);
    for (uint32_t second = 0; second < 200; second++) {
        memset(message, 0, sizeof *message);
        for (uint32_t i = 1; i <= 1000; i++)
            histogram_add(message, second % 2 == 0 ? i : 2000);
        series_hand_in(series, second, second, 0, 0, message);
        struct series_second told = series_second(series, second);
        assert_int_equal(told.answered, second);
        assert_int_equal(told.p50_ns, second % 2 == 0 ? 500 : 2000);
        assert_int_equal(told.p99_ns, second % 2 == 0 ? 990 : 2000);
        assert_int_equal(told.max_ns, second % 2 == 0 ? 1000 : 2000);
    }
    free(message);
    series_free(series);
}

/* Threads that end early, at different times: the seconds of those that are left are complete. */
static void test_leave(void **state)
{
    (void)state;
    struct series *series = series_new(3);
    struct histogram *message = histogram_new();
    assert_non_null(series);
    histogram_add(message, 7);
    for (uint32_t second = 0; second < 6; second++)
        series_hand_in(series, second, 1, 0, 0, message);
    series_hand_in(series, 0, 10, 0, 0, message);
    series_hand_in(series, 0, 100, 0, 0, message);
    series_hand_in(series, 1, 10, 0, 0, message);
    series_leave(series, 2); /* the second thread, which has handed in 0 and 1 */
    assert_int_equal(series_complete(series), 1);
    series_hand_in(series, 1, 100, 0, 0, message);
    assert_int_equal(series_complete(series), 2);
    series_hand_in(series, 2, 100, 0, 0, message);
    assert_int_equal(series_complete(series), 3);
    series_leave(series, 3);
    assert_int_equal(series_complete(series), 6);
    series_hand_in(series, 6, 1, 0, 0, message);
    assert_int_equal(series_complete(series), 7);
    static const uint64_t answered[] = {111, 111, 101, 1, 1, 1, 1};
    for (uint32_t second = 0; second < 7; second++) {
        assert_int_equal(series_second(series, second).answered, answered[second]);
        assert_int_equal(series_second(series, second).p99_ns, 7);
    }
    series_leave(series, 7);
    assert_int_equal(series_complete(series), 7);
    free(message);
    series_free(series);
}

struct place {
    struct series *series;
    atomic_uint ended;
    struct part {
        struct place *place;
        pthread_t thread;
        uint32_t index;
    } parts[THREADS];
};

/* Second s of thread i: s + i + 1 messages of (s + 1) us. */
static void *hand_in(void *argument)
{
    struct part *part = argument;
    struct histogram *message = calloc(1, sizeof *message);
    for (uint32_t second = 0; second < SECONDS; second++) {
        uint32_t count = second + part->index + 1;
        *message = (struct histogram){0};
        for (uint32_t i = 0; i < count; i++)
            histogram_add(message, (second + 1) * UINT64_C(1000));
        series_hand_in(part->place->series, second, count, part->index, second, message);
        if ((second + part->index) % BATCH == 0)
            sched_yield();
    }
    free(message);
    part->place->ended++;
    return NULL;
}

static void check_second(struct series *series, uint32_t second)
{
    struct series_second told = series_second(series, second);
    uint64_t value_ns = (second + 1) * UINT64_C(1000);
    assert_int_equal(told.answered, THREADS * (second + 1) + THREADS * (THREADS - 1) / 2);
    assert_int_equal(told.failed, THREADS * (THREADS - 1) / 2);
    assert_int_equal(told.opened, THREADS * second);
    assert_int_equal(told.max_ns, value_ns);
    assert_int_equal(told.p50_ns, value_ns);
    assert_int_equal(told.p99_ns, value_ns);
}

/* What is complete is so at once, while the threads go on. */
static void test_threads(void **state)
{
    (void)state;
    struct place place = {.series = series_new(THREADS)};
    assert_non_null(place.series);
    for (uint32_t i = 0; i < THREADS; i++) {
        place.parts[i] = (struct part){.place = &place, .index = i};
        assert_int_equal(pthread_create(&place.parts[i].thread, NULL, hand_in, &place.parts[i]), 0);
    }
    uint32_t checked = 0;
    bool ended;
    do {
        ended = place.ended == THREADS;
        for (uint32_t complete = series_complete(place.series); checked < complete; checked++)
            check_second(place.series, checked);
        sched_yield();
    } while (!ended);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(place.parts[i].thread, NULL), 0);
    assert_int_equal(checked, SECONDS);
    series_free(place.series);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order), cmocka_unit_test(test_nothing), cmocka_unit_test(test_alone),
        cmocka_unit_test(test_leave), cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
