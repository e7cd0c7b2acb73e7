/* The bell: remembered rings, time-outs, and no ring lost between two threads. */
#include "gateway/base/bell.h"
#include "gateway/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <unistd.h>

static void rings_are_remembered_once(void **state)
{
    struct bell bell = {0};
    bell_ring(&bell);
    bell_ring(&bell);
    assert_true(bell_wait(&bell, UINT64_MAX));
    assert_false(bell_wait(&bell, 0));
    (void)state;
}

static void times_out(void **state)
{
    struct bell bell = {0};
    uint64_t start_us = clock_monotonic_us();
    assert_false(bell_wait(&bell, 20000));
    assert_in_range(clock_monotonic_us() - start_us, 20000, 2000000);
    (void)state;
}

enum { ROUNDS = 50000 };

/* Two threads play ping-pong: one lost ring and they stand still. */
struct pair {
    struct bell ping, pong;
    uint32_t count; /* handed over by the rings, without a lock */
};

static void *answer(void *argument)
{
    struct pair *pair = argument;
    for (int i = 0; i < ROUNDS; i++) {
        if (!bell_wait(&pair->ping, 10000000))
            return pair;
        pair->count++;
        bell_ring(&pair->pong);
    }
    return NULL;
}

static void no_ring_is_lost(void **state)
{
    struct pair pair = {.count = 0};
    pthread_t thread;
    void *failed;
    assert_int_equal(pthread_create(&thread, NULL, answer, &pair), 0);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        bell_ring(&pair.ping);
        assert_true(bell_wait(&pair.pong, 10000000));
        assert_int_equal(pair.count, i + 1);
    }
    assert_int_equal(pthread_join(thread, &failed), 0);
    assert_null(failed);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rings_are_remembered_once),
        cmocka_unit_test(times_out),
        cmocka_unit_test(no_ring_is_lost),
    };
    return cmocka_run_group_tests_name("bell", tests, NULL, NULL);
}
