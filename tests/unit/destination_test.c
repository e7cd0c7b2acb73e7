/* Destinations, with next hops and time of the test's own: how many connections, when a dead one is
 * tried again, what becomes of those that wait, and who goes first. */
#include "tests/support/fake_world.h"

static const uint64_t second = 1000000;

static struct destination_snapshot shot_of(uint32_t hop)
{
    struct destination_snapshot shot;
    assert_true(
        destinations_snapshot(courier.destinations, fake_find(hop, fake_routes[hop]), &shot));
    return shot;
}

static void begin(uint32_t connections_max)
{
    fake_connections_max = connections_max;
    fake_begin(&(struct destinations_options){.connections_max = connections_max});
}

static void names(void **state)
{
    (void)state;
    const struct route mx = {.kind = ROUTE_MX, .text = "mx: tls=required"};
    const struct route one = {.kind = ROUTE_SMTP, .text = "smtp:hop1.example:26", .host_count = 1};
    const struct route named = {.kind = ROUTE_MX, .text = "mx:a.example", .exchange = "a.example"};
    char name[64], cut[8];
    assert_int_equal(destination_name(&mx, BYTES("Hop7.Example"), name, sizeof name), 28);
    assert_string_equal(name, "mx:hop7.example tls=required");
    destination_name(&one, BYTES("hop7.example"), name, sizeof name);
    assert_string_equal(name, "smtp:hop1.example:26");
    destination_name(&named, BYTES("hop7.example"), name, sizeof name);
    assert_string_equal(name, "mx:a.example");
    assert_int_equal(destination_name(&mx, BYTES("Hop7.Example"), cut, sizeof cut), 28);
    assert_string_equal(cut, "mx:hop7");
    begin(10);
    uint32_t first = fake_find(7, &mx);
    assert_int_equal(destinations_find(courier.destinations, &mx, BYTES("HOP7.example")), first);
    assert_true(fake_find(7, NULL) != first);
    assert_true(fake_find(8, &mx) != first);
    assert_int_equal(fake_find(1, &one), fake_find(2, &one));
    struct destination_snapshot shot;
    assert_true(destinations_snapshot(courier.destinations, first, &shot));
    assert_string_equal(shot.name, "mx:hop7.example tls=required");
    assert_int_equal(shot.state, DESTINATION_IDLE);
    assert_false(destinations_snapshot(courier.destinations, 0, &shot));
    assert_false(destinations_snapshot(courier.destinations, 1000, &shot));
    assert_int_equal(destinations_count(courier.destinations), 4);
    fake_end();
}

/* Those at rest are forgotten when they are too many, the one that rests longest first, and not
 * within 10 s; those with work never. */
static void forgetting(void **state)
{
    (void)state;
    fake_connections_max = 10;
    fake_begin(&(struct destinations_options){.connections_max = 10, .destinations_max = 100});
    fake_hops[0].modes[0] = HOST_REFUSES;
    fake_add(0, 2);
    uint32_t kept = fake_find(0, NULL);
    fake_run(1 * second);
    for (uint32_t hop = 1; hop <= 300; hop++)
        assert_int_equal(fake_find(hop, NULL), hop + 1);
    fake_run(9 * second);
    assert_int_equal(fake_find(1, NULL), 2); /* and is the latest now */
    fake_run(2 * second);
    for (int i = 0; i < 10; i++)
        fake_turn();
    assert_int_equal(fake_find(0, NULL), kept);
    struct destination_snapshot shot;
    uint32_t living = 0;
    for (uint32_t i = 1; i <= destinations_count(courier.destinations); i++)
        living += destinations_snapshot(courier.destinations, i, &shot);
    assert_true(living >= 100 && living <= 102);
    assert_int_equal(fake_find(1, NULL), 2);
    assert_int_equal(fake_find(300, NULL), 301);
    uint32_t again = fake_find(2000, NULL);
    assert_true(again >= 3 && again <= 202); /* an index is used again */
    assert_true(destinations_snapshot(courier.destinations, again, &shot));
    assert_string_equal(shot.name, "mx:hop2000.example");
    fake_end();
}

static void windows(void **state)
{
    (void)state;
    begin(1000);
    fake_hops[1].delivery_us = second;
    fake_add(1, 1000);
    fake_run(900000);
    assert_int_equal(fake_hops[1].most, 1); /* the first one is not through yet */
    fake_run(1 * second);
    assert_int_equal(fake_hops[1].most, 6);
    fake_run(3 * second);
    assert_int_equal(fake_hops[1].most, 20);
    assert_int_equal(shot_of(1).busy, 20);
    assert_int_equal(shot_of(1).state, DESTINATION_BUSY);
    fake_run(70 * second);
    assert_int_equal(courier.delivered, 1000);
    assert_int_equal(shot_of(1).delivered, 1000);
    assert_int_equal(fake_hops[1].opened[0], 20); /* used again and again */
    assert_int_equal(fake_hops[1].most, 20);
    /* Idle ones are kept for 10 s. */
    fake_add(1, 1);
    fake_run(2 * second);
    assert_true(fake_hops[1].total > 0);
    fake_run(11 * second);
    assert_int_equal(fake_hops[1].total, 0);
    assert_int_equal(shot_of(1).state, DESTINATION_IDLE);
    assert_true(destinations_next_us(courier.destinations) == UINT64_MAX);
    fake_end();
}

/* A failure brings it down to one, and each success gives one more. */
static void window_after_failure(void **state)
{
    (void)state;
    begin(1000);
    fake_hops[1].delivery_us = second;
    fake_add(1, 10000);
    fake_run(10 * second);
    assert_int_equal(shot_of(1).busy, 20);
    fake_hops[1].modes[0] = HOST_BREAKS;
    fake_run(1 * second);
    fake_hops[1].modes[0] = HOST_UP;
    fake_hops[1].most = 0;
    fake_run(1500000);
    assert_true(shot_of(1).busy <= 2);
    fake_run(70 * second);
    assert_int_equal(shot_of(1).busy, 20);
    fake_end();
}

/* The schedule of probes; one message counts an attempt for each, and no other does. */
static void dead(void **state)
{
    (void)state;
    static const uint64_t waits_s[] = {60, 120, 240, 480, 960, 1920, 3600, 3600, 3600};
    begin(1000);
    courier.retry_us = UINT64_MAX / 2;
    fake_hops[1].modes[0] = HOST_REFUSES;
    fake_add(1, 100);
    fake_run(1 * second);
    assert_int_equal(courier.unreachable, 1);
    assert_int_equal(fake_hops[1].opened[0], 1);
    assert_int_equal(shot_of(1).state, DESTINATION_DEAD);
    assert_int_equal(shot_of(1).lined, 99);
    assert_string_equal(shot_of(1).reason, "no connection");
    for (uint32_t i = 0; i < sizeof waits_s / sizeof waits_s[0]; i++) {
        uint64_t turns = courier.turns;
        fake_run((waits_s[i] - 2) * second);
        assert_int_equal(fake_hops[1].opened[0], 1 + i);
        assert_true(courier.turns - turns < 5 + waits_s[i]); /* a look now and then */
        fake_run(2 * second);
        assert_int_equal(fake_hops[1].opened[0], 2 + i);
        assert_int_equal(courier.unreachable, 2 + i);
    }
    fake_hops[1].modes[0] = HOST_UP;
    fake_run(3610 * second);
    assert_int_equal(courier.delivered, 100 - courier.unreachable);
    assert_true(shot_of(1).state == DESTINATION_IDLE);
    /* The next failure begins with a minute again. */
    fake_hops[1].modes[0] = HOST_REFUSES;
    fake_add(1, 2);
    fake_run(1 * second);
    assert_true(shot_of(1).retry_us <= fake_now_us + 60 * second);
    fake_end();
}

static void dead_dns(void **state)
{
    (void)state;
    begin(1000);
    fake_hops[1].dns = VERDICT_DEFERRED;
    fake_add(1, 10);
    fake_run(1 * second);
    assert_int_equal(courier.unreachable, 1);
    assert_int_equal(shot_of(1).state, DESTINATION_DEAD);
    assert_int_equal(fake_hops[1].asked, 1);
    fake_hops[1].dns = VERDICT_OPEN;
    fake_run(65 * second);
    assert_int_equal(courier.delivered, 10);
    fake_end();
}

static void retry_now(void **state)
{
    (void)state;
    begin(1000);
    for (uint32_t hop = 1; hop <= 3; hop++) {
        fake_hops[hop].modes[0] = HOST_REFUSES;
        fake_add(hop, 10);
    }
    fake_run(400 * second);
    for (uint32_t hop = 1; hop <= 3; hop++)
        fake_hops[hop].modes[0] = HOST_UP;
    destinations_retry(courier.destinations, fake_find(2, NULL), fake_now_us);
    fake_run(1 * second);
    assert_int_equal(courier.delivered_of[2], 10);
    assert_int_equal(courier.delivered, 10);
    destinations_retry(courier.destinations, 0, fake_now_us);
    fake_run(1 * second);
    assert_int_equal(courier.delivered, 30);
    fake_end();
}

static void refused_as_a_whole(void **state)
{
    (void)state;
    begin(1000);
    fake_hops[1].dns = VERDICT_REFUSED;
    fake_add(1, 1000);
    fake_turn();
    fake_turn();
    assert_true(courier.refused > 0 && courier.refused < 600); /* a bounded number each turn */
    fake_run(1 * second);
    assert_int_equal(courier.refused, 1000);
    assert_int_equal(courier.deferred, 0);
    assert_int_equal(shot_of(1).refused, 1000);
    assert_int_equal(shot_of(1).state, DESTINATION_IDLE);
    assert_int_equal(fake_hops[1].asked, 1);
    assert_int_equal(fake_hops[1].opened[0], 0);
    /* The next one has the DNS asked again. */
    fake_hops[1].dns = VERDICT_OPEN;
    fake_add(1, 1);
    fake_run(1 * second);
    assert_int_equal(courier.delivered, 1);
    fake_end();
}

/* What has come to the end of its lifetime leaves the line when the destination fails again. */
static void overdue(void **state)
{
    (void)state;
    begin(1000);
    courier.lifetime_us = 1500 * second;
    courier.retry_us = UINT64_MAX / 2;
    fake_hops[1].modes[0] = HOST_REFUSES;
    fake_add(1, 500);
    fake_run(500 * second);
    fake_add(1, 500);
    fake_run(400 * second);
    assert_int_equal(courier.expired, 0);
    fake_run(1000 * second); /* the probe after 60, 120, 240, 480 and 960 s sees the first 500 */
    assert_int_equal(courier.expired, 495);
    assert_true(shot_of(1).lined >= 499);
    fake_end();
}

/* Between probes, too: the oldest are looked at every 2 s, and who joins the line is asked. */
static void overdue_meanwhile(void **state)
{
    (void)state;
    begin(1000);
    courier.lifetime_us = 300 * second;
    courier.retry_us = 1 * second;
    fake_hops[1].modes[0] = HOST_REFUSES;
    fake_add(1, 1);
    fake_run(295 * second);
    assert_int_equal(courier.expired, 0);
    fake_run(8 * second); /* probes are at 180 and 420 s */
    assert_int_equal(courier.expired, 1);
    fake_add(1, 500);
    fake_run(303 * second);
    assert_int_equal(courier.expired, 501);
    assert_int_equal(shot_of(1).lined, 0);
    courier.retry_us = 400 * second;
    fake_add(1, 1);
    fake_run(1 * second);
    struct consignment *late = destinations_empty(courier.destinations);
    assert_non_null(late);
    consignment_wait(courier.queue, late, fake_now_us + 300 * second);
    fake_run(299 * second);
    assert_int_equal(shot_of(1).state, DESTINATION_DEAD);
    fake_run(1001000);
    assert_int_equal(courier.expired, 502);
    fake_end();
}

/* --- deliveries that somebody waits for --- */

static void wait_for(struct sent *sent, uint32_t hop)
{
    sent->consignment = NULL;
    fake_sent(sent);
    destinations_deliver(courier.destinations, fake_find(hop, NULL), &sent->delivery);
}

static void goes_first(void **state)
{
    (void)state;
    struct sent sent;
    begin(1000);
    fake_hops[1].delivery_us = second;
    fake_add(1, 1000);
    fake_run(500000);
    wait_for(&sent, 1);
    fake_run(1600000);
    assert_true(sent.over);
    assert_int_equal(sent.recipient.verdict.kind, VERDICT_DELIVERED);
    assert_true(courier.delivered < 20);
    fake_end();
}

static void no_connection(void **state)
{
    (void)state;
    struct sent sent[3];
    begin(1000);
    fake_hops[1].modes[0] = HOST_REFUSES;
    wait_for(&sent[0], 1);
    assert_false(sent[0].over);
    fake_run(1 * second);
    assert_true(sent[0].over && sent[0].recipient.verdict.kind == VERDICT_DEFERRED);
    assert_string_equal(sent[0].recipient.verdict.text, "no connection");
    assert_int_equal(fake_hops[1].opened[0], 1);
    wait_for(&sent[1], 1);
    fake_turn();
    assert_true(sent[1].over && sent[1].recipient.verdict.kind == VERDICT_DEFERRED);
    assert_int_equal(fake_hops[1].opened[0], 1); /* known to be dead */
    fake_hops[1].modes[0] = HOST_UP;
    fake_run(60 * second);
    wait_for(&sent[1], 1); /* its time has come: tried again */
    fake_run(1 * second);
    assert_true(sent[1].over && sent[1].recipient.verdict.kind == VERDICT_DELIVERED);
    fake_hops[2].dns = VERDICT_REFUSED;
    wait_for(&sent[2], 2);
    fake_run(1 * second);
    assert_true(sent[2].over && sent[2].recipient.verdict.kind == VERDICT_REFUSED);
    assert_int_equal(sent[2].recipient.verdict.code, 556);
    fake_end();
}

/* While the DNS is asked, while a connection is made, in a delivery, of a dead destination; twice.
 */
static void cancelled(void **state)
{
    (void)state;
    struct sent sent[5];
    begin(1000);
    fake_hops[1].dns_slow = true;
    wait_for(&sent[0], 1);
    fake_turn();
    fake_turn();
    destinations_cancel(courier.destinations, &sent[0].delivery);
    destinations_cancel(courier.destinations, &sent[0].delivery);
    assert_false(sent[0].over);
    assert_true(destinations_next_us(courier.destinations) == 0);
    fake_turn();
    assert_true(sent[0].over && sent[0].recipient.verdict.kind == VERDICT_DEFERRED);
    fake_answer(&fake_hops[1]);
    fake_run(1 * second);
    assert_int_equal(fake_hops[1].opened[0], 0); /* nobody wants one any more */
    fake_hops[2].modes[0] = HOST_MUTE;
    wait_for(&sent[1], 2);
    fake_run(1 * second);
    destinations_cancel(courier.destinations, &sent[1].delivery);
    fake_turn();
    assert_true(sent[1].over);
    fake_hops[3].delivery_us = 10 * second;
    wait_for(&sent[2], 3);
    fake_run(1 * second);
    assert_non_null(sent[2].delivery.client);
    destinations_cancel(courier.destinations, &sent[2].delivery);
    fake_run(1000);
    assert_true(sent[2].over && sent[2].recipient.verdict.kind == VERDICT_DEFERRED);
    assert_int_equal(fake_hops[3].total, 1); /* which is kept */
    fake_hops[4].modes[0] = HOST_REFUSES;
    fake_add(4, 2);
    fake_run(1 * second);
    wait_for(&sent[3], 4);
    destinations_cancel(courier.destinations, &sent[3].delivery);
    fake_turn();
    assert_true(sent[3].over);
    fake_run(100 * second);
    fake_end();
}

/* --- reload and stop --- */

static void emptied(void **state)
{
    (void)state;
    begin(1000);
    uint32_t seen[4] = {0}, count = 0;
    for (uint32_t hop = 1; hop <= 3; hop++) {
        fake_hops[hop].modes[0] = hop == 2 ? HOST_REFUSES : HOST_UP;
        fake_hops[hop].delivery_us = 100 * second;
        fake_add(hop, 100);
    }
    fake_run(1 * second);
    struct consignment *taken, *all[300];
    while ((taken = destinations_empty(courier.destinations)) != NULL) {
        assert_int_equal(taken->state, CONSIGNMENT_TAKEN);
        seen[hop_of(taken)]++;
        all[count++] = taken;
    }
    assert_int_equal(seen[1], 99);
    assert_int_equal(seen[2], 99);
    assert_int_equal(seen[3], 99);
    while (count > 0)
        fake_line(all[--count]);
    fake_check();
    /* One at a time, while it is dead and asks for ages: the middle, the first, the last. */
    fake_run(60 * second);
    taken = queue_at(courier.queue, 150)->consignments;
    assert_int_equal(taken->state, CONSIGNMENT_LINED);
    destinations_leave(courier.destinations, taken);
    consignment_wait(courier.queue, taken, fake_now_us + 10 * second);
    fake_run(20 * second);
    fake_end();
}

static void stopped(void **state)
{
    (void)state;
    struct sent sent;
    for (int now = 0; now <= 1; now++) {
        begin(1000);
        fake_hops[1].delivery_us = 5 * second;
        fake_hops[2].modes[0] = HOST_MUTE;
        fake_add(1, 100);
        fake_add(2, 100);
        fake_add(3, 3);
        fake_run(1 * second);
        wait_for(&sent, 2);
        destinations_stop(courier.destinations, now != 0);
        assert_false(sent.over);
        fake_run(100000);
        assert_true(sent.over && sent.recipient.verdict.kind == VERDICT_DEFERRED);
        assert_int_equal(fake_hops[2].total, 0);
        assert_int_equal(fake_hops[3].total, 0);
        assert_int_equal(destinations_at_rest(courier.destinations), now);
        fake_run(5 * second);
        assert_true(destinations_at_rest(courier.destinations));
        assert_int_equal(courier.delivered_of[1], now != 0 ? 0 : 1);
        assert_int_equal(shot_of(1).lined, 99);
        fake_add(3, 1);
        wait_for(&sent, 3);
        fake_run(5 * second);
        assert_true(sent.over);
        assert_int_equal(fake_client_count, 0);
        fake_end();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),      cmocka_unit_test(forgetting),
        cmocka_unit_test(windows),    cmocka_unit_test(window_after_failure),
        cmocka_unit_test(dead),       cmocka_unit_test(dead_dns),
        cmocka_unit_test(retry_now),  cmocka_unit_test(refused_as_a_whole),
        cmocka_unit_test(overdue),    cmocka_unit_test(overdue_meanwhile),
        cmocka_unit_test(goes_first), cmocka_unit_test(no_connection),
        cmocka_unit_test(cancelled),  cmocka_unit_test(emptied),
        cmocka_unit_test(stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
