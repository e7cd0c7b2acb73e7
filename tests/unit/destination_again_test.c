/* Connections that the server ends between two deliveries: after so many, or when they were idle.
 * A delivery that came too late goes over a fresh connection, nobody is told, and nobody is to
 * blame. (fake_client.h sees to it that none comes too late twice.) */
#include "tests/support/fake_world.h"

static const uint64_t second = 1000000;

static struct destination_snapshot shot_of(uint32_t hop)
{
    struct destination_snapshot shot;
    assert_true(
        destinations_snapshot(courier.destinations, fake_find(hop, fake_routes[hop]), &shot));
    return shot;
}

static void begin(void)
{
    fake_connections_max = 1000;
    fake_begin(&(struct destinations_options){.connections_max = 1000});
}

static void check_good(uint32_t hop, uint32_t count)
{
    assert_int_equal(courier.delivered_of[hop], count);
    assert_int_equal(courier.deferred + courier.unreachable, 0);
    assert_int_equal(shot_of(hop).delivered, count);
    assert_int_equal(shot_of(hop).deferred, 0);
    assert_string_equal(shot_of(hop).reason, "");
}

/* 421 after five. The first connections find that out; then they end in time, but for one of
 * sixteen, which looks whether it is still so. */
static void so_many(void **state)
{
    (void)state;
    begin();
    struct hop *hop = &fake_hops[1];
    hop->takes_max = 5;
    hop->delivery_us = 20000;
    fake_add(1, 2000);
    fake_run(2 * second);
    assert_int_equal(courier.destinations->table[fake_find(1, fake_routes[1])]->window, 20);
    fake_run(30 * second);
    check_good(1, 2000);
    assert_true(hop->stale >= 1 && hop->stale <= 20 + 2000 / 5 / 16);
    assert_true(hop->opened[0] >= 400 && hop->opened[0] <= 400 + 60);
    assert_true(hop->most <= 20);
    /* Now it takes more, and that is found out, too. */
    uint32_t before = hop->opened[0];
    hop->takes_max = 0;
    fake_add(1, 10000);
    fake_run(60 * second);
    check_good(1, 12000);
    assert_true(hop->opened[0] - before < 250);
    fake_end();
}

/* A server that closes without a word, as soon as it has answered. */
static void without_a_word(void **state)
{
    (void)state;
    begin();
    fake_hops[1].takes_max = 3;
    fake_hops[1].leaves = true;
    fake_hops[1].delivery_us = 20000;
    fake_add(1, 300);
    fake_run(60 * second);
    check_good(1, 300);
    assert_true(fake_hops[1].stale <= 30);
    fake_end();
}

/* Idle ones are closed after 0.2 s. One delivery comes while that is on its way; it says nothing
 * about numbers. */
static void idle_for_too_long(void **state)
{
    (void)state;
    begin();
    struct hop *hop = &fake_hops[1];
    hop->rest_us = 200000;
    for (uint32_t i = 0; i < 100; i++) {
        fake_add(1, 1);
        fake_run(225000);
    }
    fake_run(1 * second);
    check_good(1, 100);
    assert_int_equal(hop->stale, 99); /* each but the first */
    assert_int_equal(hop->opened[0], 100);
    const struct destination *destination =
        destination_at(courier.destinations, fake_find(1, NULL));
    assert_int_equal(destination->reuse_limit, 0);
    assert_int_equal(destination->window, 20);
    fake_end();
}

/* The same, and a look shows it before anything is given. */
static void seen_in_time(void **state)
{
    (void)state;
    begin();
    fake_hops[1].rest_us = 200000;
    fake_hops[1].shows = true;
    for (uint32_t i = 0; i < 100; i++) {
        fake_add(1, 1 + i % 3);
        fake_run(225000);
    }
    fake_run(1 * second);
    check_good(1, 199);
    assert_int_equal(fake_hops[1].stale, 0);
    fake_end();
}

/* One connection is all there may be: a fresh one needs the place of the other. */
static void one_at_a_time(void **state)
{
    (void)state;
    static const struct route one = {
        .kind = ROUTE_SMTP, .text = "smtp:hop1", .host_count = 1, .options = {.connections = 1}};
    begin();
    fake_routes[1] = &one;
    fake_hops[1].takes_max = 4;
    fake_hops[1].delivery_us = 1000;
    fake_add(1, 100);
    fake_run(20 * second);
    check_good(1, 100);
    assert_int_equal(fake_hops[1].most, 1);
    fake_end();
}

/* Idle connections that have served are ended when a fresh one is wanted and there may be no more.
 */
static void place_for_a_fresh_one(void **state)
{
    (void)state;
    static const struct route two = {
        .kind = ROUTE_SMTP, .text = "smtp:hop1", .host_count = 1, .options = {.connections = 2}};
    begin();
    fake_routes[1] = &two;
    struct hop *hop = &fake_hops[1];
    hop->delivery_us = 100000;
    fake_add(1, 4);
    fake_run(1 * second);
    assert_int_equal(hop->total, 2);
    hop->takes_max = 1;
    fake_add(1, 1);
    (void)fake_turn();
    destination_at(courier.destinations, fake_find(1, &two))->window = 1; /* something broke */
    fake_run(500000);
    check_good(1, 5);
    assert_int_equal(hop->stale, 1);
    fake_end();
}

/* With a rate, too. */
static void with_a_rate(void **state)
{
    (void)state;
    static const struct route slow = {
        .kind = ROUTE_SMTP, .text = "smtp:hop1", .host_count = 1, .options = {.rate = 10}};
    begin();
    fake_routes[1] = &slow;
    fake_hops[1].takes_max = 2;
    fake_add(1, 20);
    fake_run(6 * second);
    check_good(1, 20);
    fake_end();
}

/* The fresh connection is not to be had: that was the attempt. */
static void none_to_be_had(void **state)
{
    (void)state;
    begin();
    fake_add(1, 1);
    fake_run(1 * second);
    fake_hops[1].takes_max = 1;
    fake_hops[1].modes[0] = HOST_REFUSES;
    fake_add(1, 1);
    fake_run(1 * second);
    assert_int_equal(fake_hops[1].stale, 1);
    assert_int_equal(courier.delivered, 1);
    assert_int_equal(courier.deferred, 1);
    assert_int_equal(shot_of(1).state, DESTINATION_DEAD);
    fake_hops[1].modes[0] = HOST_UP;
    fake_run(130 * second);
    assert_int_equal(courier.delivered, 2);
    fake_end();
}

/* Given up by its owner while it waits for one; and by us, when we stop. */
static void given_up(void **state)
{
    (void)state;
    for (int stop = 0; stop < 2; stop++) {
        struct sent sent = {0};
        begin();
        fake_add(1, 1);
        fake_run(1 * second);
        fake_hops[1].takes_max = 1;
        fake_hops[1].modes[0] = HOST_MUTE;
        fake_sent(&sent);
        destinations_deliver(courier.destinations, fake_find(1, NULL), &sent.delivery);
        fake_run(100000);
        assert_int_equal(fake_hops[1].stale, 1);
        assert_false(sent.over);
        assert_null(sent.delivery.client);
        assert_int_equal(sent.recipient.verdict.kind, VERDICT_OPEN);
        if (stop)
            destinations_stop(courier.destinations, false);
        else
            destinations_cancel(courier.destinations, &sent.delivery);
        assert_false(sent.over);
        (void)fake_turn();
        assert_true(sent.over && sent.recipient.verdict.kind == VERDICT_DEFERRED);
        fake_end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(so_many),           cmocka_unit_test(without_a_word),
        cmocka_unit_test(idle_for_too_long), cmocka_unit_test(seen_in_time),
        cmocka_unit_test(one_at_a_time),     cmocka_unit_test(place_for_a_fresh_one),
        cmocka_unit_test(with_a_rate),       cmocka_unit_test(none_to_be_had),
        cmocka_unit_test(given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
