/* The timer wheel in made-up time: never early, late by a tick at most, whatever the distance; and
 * the wait it asks for neither spins nor sleeps past a timer. */
#include "gateway/base/timer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct timer_wheel wheel;

static const uint64_t starts[] = {0, 1, TIMER_TICK_US, 123456789, 987654321012345};

enum { START_COUNT = sizeof(starts) / sizeof(starts[0]) };

static uint64_t next_random(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return *random >> 16;
}

/* turn does what a worker does: sleeps as long as the wheel allows, then takes all that is due.
 * Returns how many timers fired. */
static uint32_t turn(uint64_t *now_us)
{
    uint64_t wait_us = timer_wheel_next(&wheel, *now_us);
    assert_true(wait_us > 0); /* all that was due has been taken: 0 would spin */
    assert_true(wait_us <= (uint64_t)TIMER_SLOTS * TIMER_TICK_US);
    *now_us += wait_us;
    uint32_t fired = 0;
    struct timer *timer;
    while ((timer = timer_wheel_expired(&wheel, *now_us)) != NULL) {
        assert_false(list_linked(&timer->node));
        assert_true(timer->due_us <= *now_us);
        fired++;
    }
    return fired;
}

static void nothing_runs(void **state)
{
    (void)state;
    for (int i = 0; i < START_COUNT; i++) {
        timer_wheel_init(&wheel, starts[i]);
        assert_true(timer_wheel_next(&wheel, starts[i]) == UINT64_MAX);
        assert_null(timer_wheel_expired(&wheel, starts[i] + 1000000000));
        struct timer timer = {0};
        timer_stop(&wheel, &timer);
        assert_int_equal(wheel.count, 0);
    }
}

static void one_timer_of_any_length(void **state)
{
    (void)state;
    static const uint64_t lengths[] = {1,
                                       1000,
                                       TIMER_TICK_US - 1,
                                       TIMER_TICK_US,
                                       TIMER_TICK_US + 1,
                                       10000000,
                                       300000000,
                                       TIMER_SLOTS * (uint64_t)TIMER_TICK_US - 1,
                                       TIMER_SLOTS * (uint64_t)TIMER_TICK_US,
                                       TIMER_SLOTS * (uint64_t)TIMER_TICK_US + 1,
                                       3600000000,
                                       86400000000};
    for (int i = 0; i < START_COUNT; i++)
        for (size_t n = 0; n < sizeof(lengths) / sizeof(lengths[0]); n++) {
            uint64_t now_us = starts[i];
            struct timer timer = {0};
            timer_wheel_init(&wheel, now_us);
            uint64_t due_us = now_us + lengths[n];
            timer_start(&wheel, &timer, due_us);
            uint32_t turns = 0;
            while (turn(&now_us) == 0) {
                assert_true(now_us < due_us + TIMER_TICK_US);
                turns++;
            }
            assert_true(now_us >= due_us && now_us < due_us + TIMER_TICK_US);
            /* A long wait is met once a round, not more. */
            assert_in_range(turns, 0, lengths[n] / TIMER_TICK_US / TIMER_SLOTS + 1);
            assert_int_equal(wheel.count, 0);
        }
}

static void already_due(void **state)
{
    (void)state;
    for (int i = 1; i < START_COUNT; i++)
        for (uint64_t ago = 0; ago <= 1; ago++) {
            uint64_t now_us = starts[i];
            struct timer timer = {0};
            timer_wheel_init(&wheel, now_us);
            assert_null(timer_wheel_expired(&wheel, now_us));
            timer_start(&wheel, &timer, ago * now_us / 2);
            assert_int_equal(turn(&now_us), 1);
            assert_true(now_us <=
                        starts[i] + TIMER_TICK_US); /* the next tick, not the next round */
        }
}

static void moved_and_stopped(void **state)
{
    (void)state;
    uint64_t now_us = 5000000;
    struct timer timer = {0};
    timer_wheel_init(&wheel, now_us);
    timer_start(&wheel, &timer, now_us + 1000000);
    timer_start(&wheel, &timer, now_us + 9000000);
    assert_int_equal(wheel.count, 1);
    assert_null(timer_wheel_expired(&wheel, now_us + 8000000));
    timer_start(&wheel, &timer, now_us + 8500000);
    assert_ptr_equal(timer_wheel_expired(&wheel, now_us + 8750000), &timer);
    assert_null(timer_wheel_expired(&wheel, now_us + 20000000));
    timer_start(&wheel, &timer, now_us + 30000000);
    timer_stop(&wheel, &timer);
    timer_stop(&wheel, &timer);
    assert_true(timer_wheel_next(&wheel, now_us + 20000000) == UINT64_MAX);
    assert_null(timer_wheel_expired(&wheel, now_us + 90000000));
}

/* A timer that is started again as it fires, like a connection's lazily kept deadline. */
static void started_while_firing(void **state)
{
    (void)state;
    uint64_t now_us = 77;
    uint64_t due_us = now_us + 300000;
    struct timer timer = {0};
    timer_wheel_init(&wheel, now_us);
    timer_start(&wheel, &timer, due_us);
    for (int i = 0; i < 5000; i++) {
        assert_int_equal(turn(&now_us), 1);
        assert_true(now_us >= due_us && now_us < due_us + TIMER_TICK_US);
        due_us = now_us + 1 + (uint64_t)(i * 7919);
        timer_start(&wheel, &timer, due_us);
    }
    timer_stop(&wheel, &timer);
}

/* An overslept turn (the machine was busy) loses nothing. */
static void many_at_random(void **state)
{
    (void)state;
    enum { COUNT = 5000 };
    struct timer *timers = calloc(COUNT, sizeof(*timers));
    uint64_t random = 42;
    uint64_t now_us = 1000000007;
    uint32_t left = 0;
    timer_wheel_init(&wheel, now_us);
    for (int step = 0; step < 20000; step++) {
        struct timer *timer = &timers[next_random(&random) % COUNT];
        bool running = list_linked(&timer->node);
        if (next_random(&random) % 4 > 0) {
            timer_start(&wheel, timer, now_us + next_random(&random) % 1000000000);
            left += !running;
        } else {
            timer_stop(&wheel, timer);
            left -= running;
        }
        assert_int_equal(wheel.count, left);
        if (step % 10 > 0)
            continue;
        now_us += next_random(&random) % (step % 1000 == 0 ? 400000000 : 300000);
        struct timer *fired;
        while ((fired = timer_wheel_expired(&wheel, now_us)) != NULL) {
            assert_true(fired->due_us <= now_us);
            left--;
        }
        for (int i = 0; i < COUNT && step % 1000 == 0; i++)
            if (list_linked(&timers[i].node)) /* nothing that is a tick overdue is left */
                assert_true(timers[i].due_us + TIMER_TICK_US > now_us);
    }
    while (left > 0)
        left -= turn(&now_us);
    assert_true(timer_wheel_next(&wheel, now_us) == UINT64_MAX);
    free(timers);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_runs),         cmocka_unit_test(one_timer_of_any_length),
        cmocka_unit_test(already_due),          cmocka_unit_test(moved_and_stopped),
        cmocka_unit_test(started_while_firing), cmocka_unit_test(many_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
