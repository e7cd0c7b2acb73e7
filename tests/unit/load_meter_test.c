/* What a thread of the load program counts, in made-up time: what lies in the measured time, and
 * that each second goes to the series once, in order, the empty ones and a last short one, too. And
 * arrivals that wait: in order, however many and whenever they are taken. */
#include "bench/load/meter.h"

#include "bench/load/backlog.h"
#include "bench/load/schedule.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t second_ns = 1000000000, start_ns = 7777777777;

static struct meter *begin(double seconds)
{
    struct meter *meter = calloc(1, sizeof(*meter));
    assert_non_null(meter);
    struct series *series = series_new(1);
    assert_non_null(series);
    meter_plan(meter, series, UINT64_MAX, UINT64_MAX);
    assert_false(meter_has(meter, start_ns)); /* nothing is measured before it is known */
    meter_roll(meter, start_ns);
    meter_plan(meter, series, start_ns,
               seconds > 0 ? start_ns + (uint64_t)(seconds * 1e9) : UINT64_MAX);
    meter_begin(meter);
    return meter;
}

static void end(struct meter *meter)
{
    series_free(meter->series);
    free(meter);
}

static void answer(struct meter *meter, double at_seconds, double took_seconds)
{
    uint64_t now_ns = start_ns + (uint64_t)(int64_t)(at_seconds * 1e9);
    meter_answered(meter, 100, now_ns - (uint64_t)(took_seconds * 1e9), now_ns);
}

static void seconds_in_order(void **state)
{
    (void)state;
    struct meter *meter = begin(4);
    answer(meter, -0.1, 0.05); /* warm-up */
    answer(meter, 0, 0.5);
    answer(meter, 0.999999, 0.001);
    assert_int_equal(series_complete(meter->series), 0);
    answer(meter, 1, 0.002);
    assert_int_equal(series_complete(meter->series), 1);
    meter_failed(meter, start_ns + second_ns + 1);
    meter_opened(meter, start_ns + second_ns + 5);
    answer(meter, 3.5, 0.25); /* nothing in the third second */
    meter_failed(meter, start_ns + 3 * second_ns + 6);
    meter_end(meter, start_ns + 4 * second_ns + 1000, false);
    answer(meter, 4.1, 0.1); /* the drain */
    meter_opened(meter, start_ns + 5 * second_ns);
    const struct series_second expected[] = {
        {.answered = 2,        .max_ns = 500000000},
        {                  .answered = 1,         .failed = 1,         .opened = 1, .max_ns = 2000000},
        { 0                   },
        {                        .answered = 1, .failed = 1,                    .max_ns = 250000000},
    };
    assert_int_equal(series_complete(meter->series), 4);
    for (uint32_t i = 0; i < 4; i++) {
        struct series_second second = series_second(meter->series, i);
        assert_int_equal(second.answered, expected[i].answered);
        assert_int_equal(second.failed, expected[i].failed);
        assert_int_equal(second.opened, expected[i].opened);
        assert_true(second.max_ns >= expected[i].max_ns);
        assert_true(second.max_ns <= expected[i].max_ns + expected[i].max_ns / 1000);
    }
    assert_int_equal(meter->tally.counted, 4);
    assert_int_equal(meter->tally.octets, 400);
    assert_true(meter->tally.seconds > 3.9999 && meter->tally.seconds < 4.0001);
    end(meter);
}

/* Ended early or late, with and without a plan: the seconds hold all that was counted. */
static void any_end(void **state)
{
    (void)state;
    static const struct {
        double planned, ended, seconds;
        uint32_t count;
    } cases[] = {
        {2.5,  2.5,    2.5,    3},
        {2.5,  9.0,    2.5,    3},
        {2.5,  1.25,   1.25,   2},
        {0,    1.25,   1.25,   2},
        {0,    3,      3,      3},
        {0.25, 1,      0.25,   1},
        {5,    0.5,    0.5,    1},
        {5,    -1,     0,      0},
        {0,    0,      0,      0},
        {2,    1.9999, 1.9999, 2},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct meter *meter = begin(cases[i].planned);
        uint64_t ended_ns = (uint64_t)((int64_t)start_ns + (int64_t)(cases[i].ended * 1e9));
        for (uint64_t at_ns = start_ns; at_ns < ended_ns; at_ns += 10000000)
            meter_answered(meter, 1, at_ns - 5, at_ns);
        meter_end(meter, ended_ns, false);
        uint64_t answered = 0;
        for (uint32_t k = 0; k < series_complete(meter->series); k++)
            answered += series_second(meter->series, k).answered;
        assert_int_equal(series_complete(meter->series), cases[i].count);
        assert_int_equal(answered, meter->tally.counted);
        assert_true(meter->tally.seconds > cases[i].seconds - 1e-6);
        assert_true(meter->tally.seconds < cases[i].seconds + 1e-6);
        assert_true(meter->tally.busiest >= 0 && meter->tally.busiest <= 1);
        end(meter);
    }
}

static void spinning(void **state)
{
    (void)state;
    struct meter *meter = begin(2);
    meter->busy_ns = second_ns / 2;
    meter_end(meter, start_ns + 2 * second_ns, true);
    assert_true(meter->tally.busiest > 0.2499 && meter->tally.busiest < 0.2501);
    end(meter);
}

static void arrivals_in_order(void **state)
{
    (void)state;
    struct backlog backlog = {0};
    uint64_t added = 0, taken = 0, chance = 1;
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t more = (uint32_t)(schedule_random(&chance) % 200);
        uint32_t fewer = (uint32_t)(schedule_random(&chance) % (i < 1500 ? 150 : 300));
        for (uint32_t k = 0; k < more; k++)
            assert_true(backlog_add(&backlog, added++));
        for (uint32_t k = 0; k < fewer && backlog.count > 0; k++)
            assert_int_equal(backlog_take(&backlog), taken++);
        if (taken > 0 && chance % 4 == 0)
            assert_true(backlog_return(&backlog, --taken)); /* first again */
        assert_int_equal(backlog.count, added - taken);
    }
    assert_true(backlog.room >= 16384); /* it has grown while it was in use */
    while (backlog.count > 0)
        assert_int_equal(backlog_take(&backlog), taken++);
    assert_int_equal(taken, added);
    backlog_free(&backlog);
}

static void arrivals_have_a_limit(void **state)
{
    (void)state;
    struct backlog backlog = {0};
    for (uint64_t i = 0; i < BACKLOG_MAX; i++)
        if (!backlog_add(&backlog, i))
            fail();
    assert_false(backlog_add(&backlog, 0));
    assert_false(backlog_return(&backlog, 0));
    assert_int_equal(backlog_take(&backlog), 0);
    assert_true(backlog_add(&backlog, 0));
    backlog_free(&backlog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(seconds_in_order),
        cmocka_unit_test(any_end),
        cmocka_unit_test(spinning),
        cmocka_unit_test(arrivals_in_order),
        cmocka_unit_test(arrivals_have_a_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
