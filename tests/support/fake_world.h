/* Made-up time: lets everything happen that is due, turn by turn, and what a test does with a
 * courier of fake_courier.h. After each turn the numbers are looked at. */
#ifndef TESTS_SUPPORT_FAKE_WORLD_H
#define TESTS_SUPPORT_FAKE_WORLD_H

#include "gateway/deliver/destination_inside.h"
#include "tests/support/fake_courier.h"
#include "tests/support/fake_server.h"

#include <stdio.h>

static uint32_t fake_connections_max; /* what destinations_new was told */

/* Lets happen what is due; returns when the next is. */
static uint64_t fake_clients_turn(void)
{
    uint64_t next_us = UINT64_MAX;
    uint32_t seen = 0, count = fake_client_count;
    for (uint32_t i = 0; i < CLIENTS_MAX && seen < count; i++) {
        struct client *client = &fake_clients[i];
        seen += client->used;
        if (client->used && client->due_us <= fake_now_us)
            fake_client_turn(client);
        if (client->used && client->due_us < next_us)
            next_us = client->due_us;
    }
    return next_us;
}

static uint32_t fake_find(uint32_t hop, const struct route *route)
{
    static const struct route mx = {.kind = ROUTE_MX, .text = "mx:"};
    char domain[64];
    snprintf(domain, sizeof domain, "hop%u.example", hop);
    uint32_t index = destinations_find(courier.destinations, route == NULL ? &mx : route,
                                       bytes_of_string(domain));
    assert_true(index > 0);
    return index;
}

static const struct route *fake_routes[HOPS_MAX]; /* NULL: mx: */

static void fake_line(struct consignment *taken)
{
    taken->destination = fake_find(hop_of(taken), fake_routes[hop_of(taken)]);
    destinations_line(courier.destinations, taken);
}

/* Adds `count` messages for a next hop and lines them. */
static void fake_add(uint32_t hop, uint32_t count)
{
    struct spool_message message = {.recipient_count = 1, .first_generation = hop};
    for (uint32_t i = 0; i < count; i++) {
        message.message_id = ++courier.added;
        message.position = fake_now_us; /* a finer clock than arrival_s */
        assert_true(queue_reserve(courier.queue, 1));
        struct consignment *added =
            queue_add(courier.queue, &message, fake_now_us, fake_now_us)->consignments;
        consignment_grab(courier.queue, added);
        added->recipient_count = 1;
        fake_line(added);
    }
}

/* Nobody has more than it may, and nobody is lost. */
static void fake_check(void)
{
    uint32_t lined = 0, connections = 0, busy = 0;
    struct destination_snapshot shot;
    for (uint32_t i = 1; i <= destinations_count(courier.destinations); i++) {
        if (!destinations_snapshot(courier.destinations, i, &shot))
            continue;
        lined += shot.lined;
        connections += shot.connections;
        busy += shot.busy;
    }
    assert_true(fake_client_count <= fake_connections_max);
    assert_int_equal(connections, fake_client_count);
    assert_true(busy + courier.destinations->waiting_count >= courier.loaded_now);
    uint32_t gone = courier.delivered + courier.refused + courier.expired + courier.skipped;
    assert_int_equal(queue_count(courier.queue), courier.added - gone);
    uint32_t states[6] = {0};
    for (size_t i = 0; i < queue_slots(courier.queue); i++) {
        const struct queue_message *message = queue_at(courier.queue, i);
        if (message != NULL)
            states[message->consignments->state]++;
    }
    assert_int_equal(states[CONSIGNMENT_LINED], lined);
    assert_int_equal(courier.destinations->lined_count, lined);
    assert_int_equal(courier.destinations->links.used, connections);
    assert_int_equal(states[CONSIGNMENT_TAKEN], courier.loaded_now);
}

/* One turn; returns when the next is wanted. */
static uint64_t fake_turn(void)
{
    struct consignment *due;
    courier.turns++;
    (void)fake_clients_turn();
    while ((due = queue_take(courier.queue, fake_now_us)) != NULL)
        fake_line(due);
    destinations_turn(courier.destinations, fake_now_us);
    uint64_t next_us = fake_clients_turn(), queue_us = queue_next_us(courier.queue);
    uint64_t turn_us = destinations_next_us(courier.destinations);
    next_us = queue_us < next_us ? queue_us : next_us;
    return turn_us < next_us ? turn_us : next_us;
}

/* Lets time go by until `until_us`. */
static void fake_run(uint64_t duration_us)
{
    uint64_t until_us = fake_now_us + duration_us;
    for (;;) {
        uint64_t next_us = fake_turn();
        if (next_us <= fake_now_us)
            next_us = fake_now_us + 1000; /* turns begin 1 ms apart */
        if (next_us > until_us)
            break;
        fake_now_us = next_us;
    }
    fake_now_us = until_us;
    (void)fake_turn();
    fake_check();
}

/* Ends all, whatever stands where. */
static void fake_end(void)
{
    destinations_stop(courier.destinations, true);
    for (uint32_t i = 0; i < 100 && !destinations_at_rest(courier.destinations); i++)
        fake_run(100000);
    assert_true(destinations_at_rest(courier.destinations));
    const struct destinations *home = courier.destinations;
    assert_true(fake_client_count == 0 && home->linked_count == 0 && home->ending_links == 0);
    assert_true(home->unproven_links == 0 && home->waiting_count == 0 && list_empty(&home->idle));
    fake_check();
    destinations_free(courier.destinations);
    reasons_free(courier.reasons);
    queue_free(courier.queue);
    memset(fake_routes, 0, sizeof fake_routes);
}

#endif
