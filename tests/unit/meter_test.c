/* Meters: amounts, what is given back, asked and closed, and times of hours and months. rates_test
 * has the rest: random arrivals, too many keys, ticks that wrap around, many threads. */
#include "gateway/policy/meter.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const uint64_t second = 1000000, hour = 3600 * (uint64_t)1000000;

static struct meter *of_hours(void)
{
    struct meter *meter = meter_new(0, 3600);
    assert_non_null(meter);
    return meter;
}

static void amounts(void **state)
{
    (void)state;
    struct meter *meter = of_hours();
    const struct meter_limit limit = {.count = 100, .interval_s = 3600};
    uint64_t key = meter_key(meter, 0, "alice", 5), now = 77 * hour;
    assert_false(meter_take(meter, key, &limit, 101, now)); /* never */
    assert_true(meter_take(meter, key, &limit, 60, now));
    assert_false(meter_take(meter, key, &limit, 41, now));
    assert_true(meter_take(meter, key, &limit, 40, now));
    assert_false(meter_take(meter, key, &limit, 1, now));
    assert_true(meter_take(meter, key, &limit, 0, now));
    /* One comes back each 36 seconds. */
    now += 10 * 36 * second + second;
    assert_false(meter_take(meter, key, &limit, 11, now));
    assert_true(meter_take(meter, key, &limit, 10, now));
    meter_give(meter, key, &limit, 5, now);
    assert_false(meter_take(meter, key, &limit, 6, now));
    assert_true(meter_take(meter, key, &limit, 5, now));
    /* More than there was: the bucket is empty, not more than that. */
    meter_give(meter, key, &limit, 100, now);
    meter_give(meter, key, &limit, 100, now);
    assert_false(meter_take(meter, key, &limit, 101, now));
    assert_true(meter_take(meter, key, &limit, 100, now));
    assert_false(meter_take(meter, key, &limit, 1, now));
    meter_free(meter);
    meter_free(NULL);
}

static void no_limit(void **state)
{
    (void)state;
    struct meter *meter = of_hours();
    const struct meter_limit none = {.count = 0, .interval_s = 3600};
    for (int i = 0; i < 1000; i++)
        assert_true(meter_take(meter, 7, &none, UINT32_MAX, hour));
    assert_true(meter_has_room(meter, 7, &none, UINT32_MAX, hour));
    meter_give(meter, 7, &none, 1, hour);
    const struct meter_limit most = {.count = UINT32_MAX, .interval_s = 3600};
    assert_true(meter_take(meter, 7, &most, 1, hour));
    meter_free(meter);
}

/* What is asked is what would happen, for any amount and at any time. */
static void asking_counts_nothing(void **state)
{
    (void)state;
    struct meter *meter = of_hours();
    uint32_t random = 3;
    uint64_t now = hour;
    uint32_t let = 0;
    for (int i = 0; i < 20000; i++) {
        random = random * 1664525 + 1013904223;
        const struct meter_limit limit = {.count = 20, .interval_s = 3600};
        uint64_t key = meter_key(meter, random >> 30, "a", 1);
        uint32_t amount = (random >> 20) % 6;
        bool room = meter_has_room(meter, key, &limit, amount, now);
        assert_int_equal(meter_has_room(meter, key, &limit, amount, now), room);
        assert_int_equal(meter_take(meter, key, &limit, amount, now), room);
        let += room;
        now += (random >> 12) % 64 * second;
    }
    assert_in_range(let, 5000, 15000);
    meter_free(meter);
}

static void keys(void **state)
{
    (void)state;
    struct meter *meter = of_hours(), *other = of_hours();
    assert_true(meter_key(meter, 0, "alice", 5) == meter_key(meter, 0, "alice", 5));
    assert_true(meter_key(meter, 0, "alice", 5) != meter_key(meter, 1, "alice", 5));
    assert_true(meter_key(meter, 0, "alice", 5) != meter_key(meter, 0, "alicf", 5));
    assert_true(meter_key(meter, 0, "a", 1) != meter_key(meter, 0, "a\0", 2));
    assert_true(meter_key(meter, 0, "alice", 5) != meter_key(other, 0, "alice", 5));
    meter_free(meter);
    meter_free(other);
}

static void closed(void **state)
{
    (void)state;
    struct meter *meter = meter_new(0, 2 * 3600);
    const struct meter_limit limit = {.count = 60, .interval_s = 3600};
    uint64_t now = 5 * hour;
    meter_close(meter, 1, &limit, now, now + hour / 2);
    meter_close(meter, 1, &limit, now, now + hour / 4); /* is no shorter for that */
    assert_false(meter_has_room(meter, 1, &limit, 1, now + hour / 2 - second));
    assert_true(meter_has_room(meter, 1, &limit, 1, now + hour / 2 + 61 * second));
    assert_false(meter_has_room(meter, 1, &limit, 2, now + hour / 2 + 61 * second));
    meter_close(meter, 2, &limit, now, now); /* full, no more */
    assert_false(meter_has_room(meter, 2, &limit, 1, now + 59 * second));
    assert_true(meter_has_room(meter, 2, &limit, 1, now + 61 * second));
    meter_close(meter, 3, &limit, now, now + 100 * hour); /* an hour is all there is room for */
    assert_false(meter_has_room(meter, 3, &limit, 1, now + hour));
    assert_true(meter_has_room(meter, 3, &limit, 60, now + 2 * hour + second));
    meter_free(meter);
}

/* Long times have longer ticks: they are kept to the second, over years. */
static void months(void **state)
{
    (void)state;
    const uint32_t month_s = 30 * 24 * 3600;
    const uint64_t month = month_s * second;
    struct meter *meter = meter_new(0, month_s);
    const struct meter_limit once = {.count = 1, .interval_s = month_s};
    for (uint64_t now = hour, i = 0; i < 60; i++, now += month + month / 7) {
        assert_true(meter_take(meter, 9, &once, 1, now));
        assert_false(meter_has_room(meter, 9, &once, 1, now + month - second));
        assert_true(meter_has_room(meter, 9, &once, 1, now + month + second));
        uint64_t once_only = meter_key(meter, 1, &i, sizeof(i));
        assert_true(meter_take(meter, once_only, &once, 1, now));
    }
    meter_free(meter);
}

static void octets(void **state)
{
    (void)state;
    assert_int_equal(meter_octets(0), 1024 * 8);
    assert_int_equal(meter_octets(1025), 2048 * 8);
    assert_int_equal(meter_octets(UINT32_MAX), 128 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(amounts),
        cmocka_unit_test(no_limit),
        cmocka_unit_test(asking_counts_nothing),
        cmocka_unit_test(keys),
        cmocka_unit_test(closed),
        cmocka_unit_test(months),
        cmocka_unit_test(octets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
