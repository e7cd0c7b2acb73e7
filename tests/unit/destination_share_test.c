/* Destinations beside each other, with next hops and time of the test's own: a bad one delays no
 * other, connections are shared out, rates are kept; and the hosts of one destination. */
#include "tests/support/fake_world.h"

static const uint64_t second = 1000000;
static const uint64_t millisecond = 1000;

static void begin(uint32_t connections_max)
{
    fake_connections_max = connections_max;
    fake_begin(&(struct destinations_options){.connections_max = connections_max});
}

static struct destination_snapshot shot_of(uint32_t hop)
{
    struct destination_snapshot shot;
    assert_true(
        destinations_snapshot(courier.destinations, fake_find(hop, fake_routes[hop]), &shot));
    return shot;
}

/* How long the mail of hop 1 takes at most, with a message every 10 ms for a minute. */
static uint64_t latest_beside(void)
{
    fake_hops[1].delivery_us = 5 * millisecond;
    for (int i = 0; i < 6000; i++) {
        fake_add(1, 1);
        fake_run(10 * millisecond);
    }
    assert_int_equal(courier.delivered_of[1], 6000);
    return courier.latest_us[1];
}

/* A thousand dead ones in all manners, a slow one, one that refuses, one that can't keep up: beside
 * them a healthy one does as well as alone. */
static void beside_bad_ones(void **state)
{
    (void)state;
    begin(1000);
    uint64_t alone_us = latest_beside();
    fake_end();
    begin(1000);
    for (uint32_t hop = 2; hop < 1002; hop++) {
        static const enum host_mode modes[] = {HOST_REFUSES, HOST_MUTE, HOST_554, HOST_CLOSES};
        fake_hops[hop].modes[0] = modes[hop % 4];
        fake_hops[hop].dns = hop % 9 == 0 ? VERDICT_DEFERRED : VERDICT_OPEN;
        fake_add(hop, 20);
    }
    fake_hops[1002].delivery_us = 30 * second;
    fake_add(1002, 1000);
    fake_hops[1003].modes[0] = HOST_BUSY;
    fake_add(1003, 1000);
    fake_hops[1004].dns = VERDICT_REFUSED;
    fake_add(1004, 1000);
    assert_true(latest_beside() <= alone_us + 10 * millisecond);
    assert_int_equal(courier.refused, 1000);
    assert_true(courier.delivered_of[1002] > 0);
    fake_end();
}

/* While a thousand dead ones with a hundred thousand messages wait, nothing happens. */
static void waiting_is_free(void **state)
{
    (void)state;
    begin(1000);
    courier.retry_us = UINT64_MAX / 2;
    for (uint32_t hop = 1; hop <= 1000; hop++) {
        fake_hops[hop].modes[0] = HOST_REFUSES;
        fake_add(hop, 100);
    }
    fake_run(55 * second);
    assert_int_equal(courier.unreachable, 1000);
    for (uint32_t hop = 1; hop <= 1000; hop++)
        assert_int_equal(shot_of(hop).state, DESTINATION_DEAD);
    uint64_t turns = courier.turns;
    fake_run(4 * second);
    assert_true(courier.turns - turns <= 12);
    fake_run(3600 * second);
    turns = courier.turns;
    fake_run(3600 * second); /* one probe of each, and a look at the heads of the lines */
    assert_true(courier.turns - turns < 12000);
    fake_end();
}

/* Those that have shown no life may take three quarters of all connections, so others still get
 * theirs. */
static void three_quarters(void **state)
{
    (void)state;
    begin(100);
    for (uint32_t hop = 2; hop < 202; hop++) {
        fake_hops[hop].modes[0] = HOST_MUTE;
        fake_add(hop, 10);
    }
    fake_add(1, 1);
    fake_hops[1].delivery_us = 50 * millisecond;
    fake_run(1 * second);
    assert_int_equal(fake_client_count - fake_hops[1].total, 75);
    fake_run(120 * second);
    assert_true(courier.delivered_of[1] == 1); /* its turn comes among those unproven, too */
    fake_add(1, 2000);
    fake_run(20 * second);
    assert_int_equal(courier.delivered_of[1], 2001);
    assert_int_equal(fake_hops[1].most, 20);
    assert_true(fake_client_most <= 100);
    fake_end();
}

/* More busy destinations than connections: each gets its share, and none starves. */
static void too_many_for_all(void **state)
{
    (void)state;
    begin(40);
    for (uint32_t hop = 1; hop <= 100; hop++) {
        fake_hops[hop].delivery_us = 20 * millisecond;
        fake_add(hop, 100);
    }
    fake_add(1, 20000); /* one has by far the most */
    fake_run(3 * second);
    for (uint32_t hop = 2; hop <= 100; hop++)
        assert_true(courier.delivered_of[hop] > 20);
    assert_true(courier.delivered_of[1] < 200);
    assert_int_equal(fake_client_most, 40);
    fake_run(60 * second);
    for (uint32_t hop = 2; hop <= 100; hop++)
        assert_int_equal(courier.delivered_of[hop], 100);
    /* A late one, beside the large one: idle connections make room. */
    fake_hops[101].delivery_us = 20 * millisecond;
    fake_add(101, 1);
    fake_run(1 * second);
    assert_int_equal(courier.delivered_of[101], 1);
    fake_end();
}

static void rates(void **state)
{
    (void)state;
    static const uint32_t rates[] = {1, 7, 100, 3000};
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        struct route route = {.kind = ROUTE_SMTP, .text = "smtp:hop1", .host_count = 1};
        route.options.rate = rates[i];
        begin(1000);
        fake_routes[1] = &route;
        fake_add(1, rates[i] * 20);
        fake_hops[1].delivery_us = 5 * millisecond;
        fake_run(10 * second);
        assert_true(courier.delivered >= 9 * rates[i]);
        assert_true(courier.delivered <= 10 * rates[i] + rates[i] / 50 + 2);
        /* Evenly: in each tenth of a second the same. */
        for (int tenth = 0; tenth < 50; tenth++) {
            uint32_t before = courier.delivered;
            fake_run(100 * millisecond);
            assert_true(courier.delivered - before <= rates[i] / 10 + rates[i] / 50 + 1);
        }
        assert_true(fake_hops[1].opened[0] <= (rates[i] < 100 ? 2 : 100));
        fake_end();
    }
}

/* --- hosts --- */

/* The next host at once, without a word to the courier; the dead one is left out, then probed. */
static void next_host(void **state)
{
    (void)state;
    static const enum host_mode bad[] = {HOST_REFUSES, HOST_554, HOST_NOT_EVEN, HOST_NO_TLS};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct route route = {.kind = ROUTE_SMTP, .text = "smtp:hop1", .host_count = 3};
        route.options.tls = ROUTE_TLS_REQUIRED;
        begin(1000);
        fake_routes[1] = &route;
        fake_hops[1].host_count = 3;
        fake_hops[1].modes[0] = fake_hops[1].modes[1] = bad[i];
        fake_add(1, 100);
        fake_run(1 * second);
        assert_int_equal(courier.delivered, 100);
        assert_int_equal(courier.unreachable, 0);
        assert_int_equal(fake_hops[1].received[2], 100);
        fake_hops[1].modes[0] = HOST_UP;
        fake_hops[1].delivery_us = 10 * millisecond;
        for (int step = 0; step < 400; step++) {
            fake_add(1, 1);
            fake_run(100 * millisecond);
        }
        assert_true(fake_hops[1].received[0] > 20); /* back after 30 s, for its share */
        assert_int_equal(courier.delivered, 500);
        fake_end();
    }
}

/* When the handshake fails the same host is tried in clear, once; not when TLS is a must. */
static void tls_fails(void **state)
{
    (void)state;
    for (int required = 0; required <= 2; required++) {
        struct route route = {.kind = ROUTE_SMTP, .text = "smtp:hop1", .host_count = 1};
        route.options.tls = required == 1 ? ROUTE_TLS_REQUIRED : ROUTE_TLS_OPPORTUNISTIC;
        route.options.tls_verify = required == 2;
        begin(1000);
        fake_routes[1] = &route;
        fake_hops[1].modes[0] = HOST_NO_TLS;
        fake_add(1, 1);
        fake_run(1 * second);
        assert_int_equal(courier.delivered, required == 0);
        assert_int_equal(courier.unreachable, required != 0);
        assert_int_equal(fake_hops[1].opened[0], required == 0 ? 2 : 1);
        fake_end();
    }
}

/* Shares by weight, though connections live long; low traffic and high. */
static void weights(void **state)
{
    (void)state;
    for (uint32_t burst = 1; burst <= 64; burst *= 8) {
        const struct route route = {.kind = ROUTE_SMTP, .text = "smtp:hop1", .host_count = 3};
        begin(1000);
        fake_routes[1] = &route;
        fake_hops[1].host_count = 3;
        fake_hops[1].delivery_us = millisecond;
        for (uint32_t i = 0; i < 3; i++)
            fake_hops[1].weights[i] = i + 1;
        for (int step = 0; step < 600; step++) {
            fake_add(1, burst);
            fake_run(500 * millisecond);
        }
        for (uint32_t i = 0; i < 3; i++) {
            uint32_t share = 600 * burst * (i + 1) / 6, got = fake_hops[1].received[i];
            assert_true(got > share - share / 5 && got < share + share / 5);
        }
        fake_end();
    }
}

/* A slow host has no more than its share of the connections: the other does the work. */
static void slow_host(void **state)
{
    (void)state;
    const struct route route = {.kind = ROUTE_SMTP, .text = "smtp:hop1", .host_count = 2};
    begin(1000);
    fake_routes[1] = &route;
    fake_hops[1].host_count = 2;
    fake_hops[1].modes[1] = HOST_SLOW;
    fake_hops[1].delivery_us = 10 * millisecond;
    fake_add(1, 20000);
    fake_run(12 * second);
    assert_true(fake_hops[1].received[0] > 9000); /* half of 20 connections, 100 a second each */
    fake_end();
}

/* All hosts down, and up again: one failure for five attempts at a time, so a minute later both are
 * tried. */
static void all_hosts_dead(void **state)
{
    (void)state;
    const struct route route = {.kind = ROUTE_SMTP, .text = "smtp:hop1", .host_count = 2};
    begin(1000);
    fake_routes[1] = &route;
    fake_hops[1].host_count = 2;
    fake_hops[1].modes[0] = fake_hops[1].modes[1] = HOST_REFUSES;
    fake_add(1, 50);
    fake_run(1 * second);
    assert_int_equal(courier.unreachable, 1);
    fake_hops[1].modes[1] = HOST_UP;
    fake_run(62 * second);
    assert_int_equal(courier.delivered, 50);
    /* An operator who knows better does not wait for hosts either. */
    fake_hops[1].modes[1] = HOST_REFUSES;
    fake_run(20 * second);
    fake_add(1, 50);
    fake_run(1 * second);
    assert_int_equal(shot_of(1).state, DESTINATION_DEAD);
    fake_hops[1].modes[0] = HOST_UP;
    destinations_retry(courier.destinations, 0, fake_now_us);
    fake_run(1 * second);
    assert_true(courier.delivered >= 99);
    fake_end();
}

/* A server that takes only so many connections is left at that for a minute. */
static void few_connections(void **state)
{
    (void)state;
    begin(1000);
    fake_hops[1].greets_max = 3;
    fake_hops[1].delivery_us = 100 * millisecond;
    fake_add(1, 2000);
    fake_run(55 * second);
    assert_true(fake_hops[1].opened[0] < 12);
    assert_int_equal(courier.unreachable, 0);
    assert_true(courier.delivered > 1400);
    fake_run(60 * second);
    assert_int_equal(courier.delivered, 2000);
    fake_end();
}

/* Connections that break in each delivery, or are closed after the greeting: no message of a long
 * line is tried for nothing again and again. */
static void breaks(void **state)
{
    (void)state;
    for (int closes = 0; closes <= 1; closes++) {
        begin(1000);
        courier.retry_us = UINT64_MAX / 2;
        fake_hops[1].modes[0] = closes != 0 ? HOST_CLOSES : HOST_BREAKS;
        fake_add(1, 1000);
        fake_run(58 * second);
        assert_int_equal(shot_of(1).state, DESTINATION_DEAD);
        assert_true(courier.deferred + courier.unreachable <= 5);
        assert_true(fake_hops[1].opened[0] <= 6);
        fake_run(3600 * second);
        assert_true(courier.deferred + courier.unreachable < 60);
        fake_hops[1].modes[0] = HOST_UP;
        fake_run(3700 * second);
        assert_true(courier.delivered > 940);
        fake_end();
    }
}

/* Our own shortage is nobody's fault: all goes on when it is over. */
static void shortage(void **state)
{
    (void)state;
    begin(1000);
    fake_open_errno = EMFILE;
    fake_add(1, 10);
    fake_add(2, 10);
    uint64_t turns = courier.turns;
    fake_run(10 * second);
    assert_true(courier.turns - turns < 100);
    assert_int_equal(courier.unreachable, 0);
    fake_open_errno = 0;
    fake_run(2 * second);
    assert_int_equal(courier.delivered, 20);
    fake_end();
}

/* The courier may make nothing of a consignment; a connection ends after so many deliveries. */
static void odds(void **state)
{
    (void)state;
    fake_connections_max = 10;
    fake_begin(&(struct destinations_options){.connections_max = 10, .reuse_max = 7, .idle_s = 2});
    courier.skips = 100;
    fake_add(1, 200);
    fake_run(1 * second);
    assert_int_equal(courier.skipped, 100);
    assert_int_equal(courier.delivered, 100);
    assert_true(fake_hops[1].opened[0] >= 100 / 7);
    fake_run(2 * second);
    assert_int_equal(fake_client_count, 0);
    fake_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beside_bad_ones), cmocka_unit_test(waiting_is_free),
        cmocka_unit_test(three_quarters),  cmocka_unit_test(too_many_for_all),
        cmocka_unit_test(rates),           cmocka_unit_test(next_host),
        cmocka_unit_test(tls_fails),       cmocka_unit_test(weights),
        cmocka_unit_test(slow_host),       cmocka_unit_test(all_hosts_dead),
        cmocka_unit_test(few_connections), cmocka_unit_test(breaks),
        cmocka_unit_test(shortage),        cmocka_unit_test(odds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
