/* More destinations than there may be: whose hosts are found out at a time, who goes first, and
 * what is forgotten for others. The bounds are those of the memory contract, made small. */
#include "tests/support/fake_world.h"

enum { CROWD = 100, SEARCHES = 8, OF_STRANGERS = 6 /* three quarters */ };

static const uint64_t second = 1000000;
static const struct route configured = {
    .kind = ROUTE_SMTP, .text = "smtp:hop150.example:25", .host_count = 1};

static void begin(const struct destinations_options *bounds)
{
    struct destinations_options options = *bounds;
    options.connections_max = fake_connections_max = 1000;
    fake_begin(&options);
}

static void begin_slow(void)
{
    begin(&(struct destinations_options){.searches_max = SEARCHES});
    for (uint32_t hop = 0; hop < CROWD; hop++) {
        fake_hops[hop].dns_slow = true;
        fake_add(hop, 2);
    }
    fake_run(1 * second);
}

static uint32_t searching(void)
{
    uint32_t count = 0;
    for (uint32_t hop = 0; hop < HOPS_MAX; hop++)
        count += fake_hops[hop].open != NULL;
    return count;
}

static uint32_t asked_once(void)
{
    uint32_t count = 0;
    for (uint32_t hop = 0; hop < CROWD; hop++)
        count += fake_hops[hop].asked == 1;
    return count;
}

/* Each begins when another has its answer, in the order in which they came. */
static void in_turns(void **state)
{
    (void)state;
    begin_slow();
    assert_int_equal(searching(), OF_STRANGERS);
    assert_true(destinations_next_us(courier.destinations) > fake_now_us); /* and nobody spins */
    for (uint32_t hop = 0; hop < CROWD; hop++) {
        uint32_t left = CROWD - hop;
        assert_non_null(fake_hops[hop].open);
        assert_int_equal(searching(), left < OF_STRANGERS ? left : OF_STRANGERS);
        fake_answer(&fake_hops[hop]);
        fake_run(10000);
    }
    fake_run(60 * second);
    assert_int_equal(courier.delivered, 2 * CROWD);
    assert_int_equal(asked_once(), CROWD);
    fake_end();
}

/* Next hops that the configuration names do not wait for those that strangers have made up. */
static void configured_first(void **state)
{
    (void)state;
    begin_slow();
    fake_routes[150] = &configured;
    fake_hops[150].dns_slow = true;
    fake_add(150, 1);
    fake_run(10000);
    assert_non_null(fake_hops[150].open);
    assert_int_equal(searching(), OF_STRANGERS + 1);
    fake_answer(&fake_hops[150]);
    fake_run(1 * second);
    assert_int_equal(courier.delivered, 1);
    assert_int_equal(searching(), OF_STRANGERS);
    fake_end();
}

/* Failures are each its own: dead, and tried again in its time. */
static void failing(void **state)
{
    (void)state;
    begin_slow();
    for (uint32_t hop = 0; hop < CROWD; hop++)
        fake_hops[hop].dns = VERDICT_DEFERRED;
    for (uint32_t hop = 0; hop < CROWD; hop++) {
        fake_answer(&fake_hops[hop]);
        fake_run(10000);
    }
    assert_int_equal(searching(), 0);
    assert_int_equal(asked_once(), CROWD);
    struct destination_snapshot shot;
    for (uint32_t hop = 0; hop < CROWD; hop++) {
        assert_true(destinations_snapshot(courier.destinations, fake_find(hop, NULL), &shot));
        assert_int_equal(shot.state, DESTINATION_DEAD);
        fake_hops[hop].dns = VERDICT_OPEN;
        fake_hops[hop].dns_slow = false;
    }
    fake_run(30 * second);
    assert_int_equal(asked_once(), CROWD);
    fake_run(600 * second);
    assert_int_equal(courier.delivered, 2 * CROWD);
    fake_end();
}

/* Who has nothing to send any more when its turn comes, does not ask. */
static void gone(void **state)
{
    (void)state;
    struct consignment *left;
    begin_slow();
    while ((left = destinations_empty(courier.destinations)) != NULL) {
        courier.skipped++;
        settle(left, true);
    }
    for (uint32_t hop = 0; hop < OF_STRANGERS; hop++)
        fake_answer(&fake_hops[hop]);
    fake_run(20 * second);
    assert_int_equal(searching(), 0);
    assert_int_equal(asked_once(), OF_STRANGERS);
    assert_true(destinations_next_us(courier.destinations) == UINT64_MAX);
    fake_add(CROWD - 1, 1);
    fake_run(1 * second);
    assert_int_equal(searching(), 1);
    fake_end();
}

/* No more than so many; but what the configuration names is always made. */
static void too_many(void **state)
{
    (void)state;
    static const struct route mx = {.kind = ROUTE_MX, .text = "mx:"};
    begin(&(struct destinations_options){.living_max = 50});
    for (uint32_t hop = 0; hop < 50; hop++)
        assert_int_not_equal(fake_find(hop, NULL), 0);
    assert_int_equal(destinations_find(courier.destinations, &mx, BYTES("hop50.example")), 0);
    assert_int_not_equal(destinations_find(courier.destinations, &mx, BYTES("hop49.example")), 0);
    assert_int_not_equal(fake_find(150, &configured), 0);
    fake_end();
}

/* Hosts of the dead are forgotten when there are many, and found out again when they are needed. */
static void hosts(void **state)
{
    (void)state;
    begin(&(struct destinations_options){.searches_max = SEARCHES, .hosts_max = 400});
    uint32_t forgotten = 0;
    for (uint32_t hop = 0; hop < 300; hop++) {
        fake_hops[hop].host_count = 4;
        for (uint32_t i = 0; i < 4; i++)
            fake_hops[hop].modes[i] = HOST_REFUSES;
        fake_add(hop, 1);
    }
    for (uint32_t i = 0; i < 50; i++) {
        fake_run(100000);
        assert_in_range(courier.destinations->host_count, 0, 400);
    }
    for (uint32_t hop = 0; hop < 300; hop++) {
        forgotten += fake_hops[hop].forgotten;
        assert_int_equal(fake_hops[hop].asked, 1);
        memset(fake_hops[hop].modes, 0, sizeof fake_hops[hop].modes);
    }
    assert_in_range(forgotten, 200, 300);
    fake_run(4000 * second);
    assert_int_equal(courier.delivered, 300);
    fake_end();
    assert_int_equal(searching(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_turns), cmocka_unit_test(configured_first), cmocka_unit_test(failing),
        cmocka_unit_test(gone),     cmocka_unit_test(too_many),         cmocka_unit_test(hosts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
