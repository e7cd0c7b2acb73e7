/* Destinations while everything happens at random: hosts fail in every manner and come back, mail
 * comes, is cancelled, taken out, lined again; connections are few. After each step every
 * consignment is in one place, and the numbers add up; when the world is whole again all is
 * delivered. A seed that fails says its number: RANDOM_SEED=N repeats it alone. */
#include "tests/support/fake_world.h"

enum { HOPS = 30, WAITERS = 40, STEPS = 1500, SEEDS = 12 };

static const uint64_t second = 1000000;

static uint64_t random_state;
static struct sent waiters[WAITERS];
static uint32_t asked_of[WAITERS]; /* hop + 1; 0: at rest */

static uint32_t chance(uint32_t below)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(random_state >> 33) % below;
}

static void answer_all(void)
{
    for (uint32_t hop = 0; hop < HOPS; hop++)
        fake_answer(&fake_hops[hop]);
}

static void change_hop(uint32_t hop)
{
    static const uint8_t answers[] = {VERDICT_OPEN, VERDICT_OPEN, VERDICT_OPEN, VERDICT_DEFERRED,
                                      VERDICT_REFUSED};
    struct hop *changed = &fake_hops[hop];
    for (uint32_t i = 0; i < changed->host_count; i++)
        changed->modes[i] = chance(2) == 0 ? HOST_UP : (enum host_mode)chance(HOST_MODES);
    changed->dns = answers[chance(5)];
    changed->greets_max = chance(4) == 0 ? 1 + chance(5) : 0;
    changed->takes_max = chance(3) == 0 ? 1 + chance(8) : 0;
    changed->leaves = chance(3) == 0;
    changed->shows = chance(2) == 0;
    changed->rest_us = chance(3) == 0 ? 1000 + chance(2000000) : 0;
    changed->delivery_us = chance(3) == 0 ? chance(20) * second : chance(100000);
}

static void ask(void)
{
    uint32_t i = chance(WAITERS), hop = chance(HOPS);
    if (asked_of[i] != 0 && waiters[i].over)
        asked_of[i] = 0;
    if (asked_of[i] == 0) {
        asked_of[i] = hop + 1;
        waiters[i].consignment = NULL;
        fake_sent(&waiters[i]);
        destinations_deliver(courier.destinations, fake_find(hop, fake_routes[hop]),
                             &waiters[i].delivery);
    } else if (chance(2) == 0) {
        destinations_cancel(courier.destinations, &waiters[i].delivery);
    }
}

/* Takes some that stand in line out, and lines or holds back. */
static void take_out(void)
{
    for (uint32_t i = 0; i < 5 && queue_slots(courier.queue) > 0; i++) {
        const struct queue_message *message =
            queue_at(courier.queue, chance((uint32_t)queue_slots(courier.queue)));
        if (message == NULL || message->consignments->state != CONSIGNMENT_LINED)
            continue;
        struct consignment *taken = message->consignments;
        destinations_leave(courier.destinations, taken);
        if (chance(2) == 0)
            fake_line(taken);
        else
            consignment_wait(courier.queue, taken, fake_now_us + chance(100) * second);
    }
}

static void empty_all(void)
{
    struct consignment *taken;
    while ((taken = destinations_empty(courier.destinations)) != NULL)
        consignment_wait(courier.queue, taken, fake_now_us + chance(3) * second);
    for (uint32_t i = 1; i <= destinations_count(courier.destinations); i++) {
        struct destination_snapshot shot;
        if (destinations_snapshot(courier.destinations, i, &shot))
            assert_int_equal(shot.lined, 0);
    }
}

static void step(void)
{
    switch (chance(12)) {
    case 0: change_hop(chance(HOPS)); break;
    case 1:
    case 2: fake_add(chance(HOPS), chance(30)); break;
    case 3:
    case 4: ask(); break;
    case 5: take_out(); break;
    case 6: destinations_retry(courier.destinations, chance(3), fake_now_us); break;
    case 7: answer_all(); break;
    case 8: fake_open_errno = chance(4) == 0 ? EMFILE : 0; break;
    case 9: courier.skips = chance(3); break;
    case 10:
        if (chance(20) == 0)
            empty_all();
        break;
    default: break;
    }
    fake_run(chance(3) == 0 ? chance(100) * second : chance(1000000));
    fake_check();
}

/* All is well again: in a day everything is delivered, and nobody waits any more. */
static void recover(void)
{
    fake_open_errno = 0;
    for (uint32_t hop = 0; hop < HOPS; hop++) {
        fake_hops[hop].dns = VERDICT_OPEN;
        fake_hops[hop].dns_slow = false;
        fake_hops[hop].greets_max = 0;
        fake_hops[hop].delivery_us = 1000;
        fake_hops[hop].takes_max = 0;
        fake_hops[hop].rest_us = 0;
        memset(fake_hops[hop].modes, 0, sizeof fake_hops[hop].modes);
    }
    answer_all();
    fake_run(24 * 3600 * second);
    assert_int_equal(queue_count(courier.queue), 0);
    for (uint32_t i = 0; i < WAITERS; i++)
        assert_true(asked_of[i] == 0 || waiters[i].over);
    assert_int_equal(fake_client_count, 0);
    assert_true(destinations_next_us(courier.destinations) == UINT64_MAX);
}

static void one_seed(uint64_t seed)
{
    static const struct route two = {.kind = ROUTE_SMTP, .text = "smtp:hop3", .host_count = 2};
    struct route slow = {.kind = ROUTE_SMTP, .text = "smtp:hop4", .host_count = 1};
    random_state = seed * 0x9e3779b97f4a7c15;
    memset(asked_of, 0, sizeof asked_of);
    fake_connections_max = 5 + chance(40);
    fake_begin(&(struct destinations_options){.connections_max = fake_connections_max,
                                              .destinations_max = 10,
                                              .reuse_max = 1 + chance(50)});
    slow.options.rate = 1 + chance(50);
    slow.options.connections = 3;
    fake_routes[3] = &two;
    fake_routes[4] = &slow;
    courier.lifetime_us = chance(2) == 0 ? 0 : chance(5000) * second;
    for (uint32_t hop = 0; hop < HOPS; hop++) {
        fake_hops[hop].host_count = hop == 3 ? 2 : 1 + chance(hop == 4 ? 1 : 3);
        fake_hops[hop].dns_slow = chance(3) == 0;
    }
    for (int i = 0; i < STEPS; i++) {
        step();
        assert_true(fake_hops[4].most <= 3);
    }
    for (uint32_t hop = 0; hop < HOPS; hop++)
        assert_true(fake_hops[hop].most <= 20);
    if (seed % 3 != 0)
        recover();
    fake_end();
}

static void at_random(void **state)
{
    (void)state;
    const char *alone = getenv("RANDOM_SEED");
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        if (alone != NULL && strtoull(alone, NULL, 10) != seed)
            continue;
        print_message("seed %llu\n", (unsigned long long)seed);
        one_seed(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(at_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
