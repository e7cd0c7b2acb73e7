/* Next hops that greet and hang, or do not even greet, with time of the test's own: they take no
 * more than their share, and what they hold is broken off when others lack it. */
#include "tests/support/fake_world.h"

static const uint64_t second = 1000000;
static const uint64_t millisecond = 1000;

static void begin(uint32_t connections_max)
{
    fake_connections_max = connections_max;
    fake_begin(&(struct destinations_options){.connections_max = connections_max});
}

/* A good one gets its mail beside more bad ones than there are connections, within half a minute
 * and a bit, and at once when it has shown before that it is good. */
static void beside(enum host_mode mode)
{
    begin(20);
    fake_add(1, 1);
    fake_run(second);
    for (uint32_t hop = 10; hop < 60; hop++) {
        fake_hops[hop].modes[0] = mode;
        fake_add(hop, 20);
    }
    fake_run(second);
    assert_int_equal(fake_client_count, 15 + fake_hops[1].total);
    fake_add(1, 1);
    fake_add(2, 1);
    fake_run(second);
    assert_int_equal(courier.delivered_of[1], 2);
    assert_int_equal(courier.delivered_of[2], 0);
    fake_run(150 * second);
    assert_int_equal(courier.delivered_of[2], 1);
    for (uint32_t hop = 10; hop < 60; hop++) {
        assert_true(fake_hops[hop].opened[0] > 0); /* all have their turn */
        assert_int_equal(fake_hops[hop].most, 1);
    }
    fake_end();
}

static void tarpits(void **state)
{
    (void)state;
    beside(HOST_HANGS);
}

static void silent_ones(void **state)
{
    (void)state;
    beside(HOST_MUTE);
}

/* While there is room for all, nobody is broken off. */
static void patience(void **state)
{
    (void)state;
    begin(20);
    for (uint32_t hop = 0; hop < 10; hop++) {
        fake_hops[hop].modes[0] = HOST_HANGS;
        fake_add(hop, 2);
    }
    fake_run(290 * second);
    assert_int_equal(courier.deferred, 0);
    assert_int_equal(fake_client_count, 10);
    fake_run(20 * second);
    assert_int_equal(courier.deferred, 10); /* the time-out of the client */
    fake_end();
}

/* Who was good once, and hangs then, is not believed for more than a minute. */
static void doubted(void **state)
{
    (void)state;
    begin(20);
    fake_add(1, 20);
    fake_run(second);
    assert_int_equal(courier.delivered_of[1], 20);
    fake_run(60 * second);
    fake_hops[1].modes[0] = HOST_HANGS;
    fake_add(1, 100);
    fake_run(50 * second);
    struct destination *destination = courier.destinations->table[fake_find(1, fake_routes[1])];
    assert_int_equal(fake_hops[1].total, 20);
    assert_true(destination->proven);
    fake_run(15 * second);
    assert_false(destination->proven);
    fake_add(2, 1);
    fake_run(2 * second);
    assert_int_equal(courier.delivered_of[2], 1);
    assert_true(courier.deferred > 0);
    fake_end();
}

/* One connection until something was delivered; then as many as are of use, at once. */
static void first_burst(void **state)
{
    (void)state;
    begin(100);
    fake_hops[1].delivery_us = millisecond;
    fake_add(1, 1000);
    fake_run(2 * millisecond);
    assert_int_equal(fake_hops[1].most, 1);
    fake_run(18 * millisecond);
    assert_int_equal(fake_hops[1].most, 20);
    assert_true(courier.delivered_of[1] > 20);
    fake_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tarpits), cmocka_unit_test(silent_ones), cmocka_unit_test(patience),
        cmocka_unit_test(doubted), cmocka_unit_test(first_burst),
    };
    return cmocka_run_group_tests_name("destination_tarpit", tests, NULL, NULL);
}
