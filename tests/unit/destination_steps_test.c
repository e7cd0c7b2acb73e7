/* Deliveries in steps, whose clients may rest for long: they leave connections to the line. */
#include "tests/support/fake_world.h"

enum { MANY = 40 };

static const uint64_t second = 1000000;
static struct sent waiting[MANY];

static void begin(uint64_t delivery_us)
{
    fake_connections_max = 1000;
    fake_begin(&(struct destinations_options){.connections_max = 1000});
    fake_hops[1].delivery_us = delivery_us;
}

/* step begins a delivery that rests until it is cancelled. */
static void step(uint32_t number)
{
    memset(&waiting[number], 0, sizeof(waiting[number]));
    fake_sent(&waiting[number]);
    waiting[number].delivery.stepwise = true;
    destinations_deliver(courier.destinations, fake_find(1, NULL), &waiting[number].delivery);
}

static uint32_t resting(uint32_t count)
{
    uint32_t with_client = 0;
    for (uint32_t i = 0; i < count; i++)
        with_client += waiting[i].delivery.client != NULL;
    return with_client;
}

static void cancel(uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++)
        destinations_cancel(courier.destinations, &waiting[i].delivery);
    fake_run(second);
}

static bool crowded(void)
{
    return destinations_crowded(courier.destinations, fake_find(1, NULL));
}

/* A few rest before the first message has come: it gets through. */
static void few_rest(void **state)
{
    (void)state;
    begin(1000);
    for (uint32_t i = 0; i < 10; i++)
        step(i);
    fake_run(second);
    assert_true(resting(10) >= 1);
    assert_true(crowded());
    fake_add(1, 1);
    fake_run(second);
    assert_int_equal(courier.delivered_of[1], 1);
    cancel(0, 10);
    assert_false(crowded());
    fake_end();
}

/* Many, after the window has grown: a quarter of the connections is left, and is enough. */
static void many_rest(void **state)
{
    (void)state;
    begin(1000);
    fake_add(1, 500);
    fake_run(5 * second);
    for (uint32_t i = 0; i < MANY; i++)
        step(i);
    fake_run(second);
    uint32_t count = resting(MANY);
    assert_in_range(count, 10, 15);
    assert_int_equal(courier.delivered_of[1], 500);
    fake_add(1, 1000);
    fake_run(5 * second);
    assert_int_equal(courier.delivered_of[1], 1500);
    assert_in_range(resting(MANY), 10, 15);
    assert_true(fake_hops[1].most <= 20);
    assert_true(crowded());
    uint32_t opened = fake_hops[1].opened[0];
    fake_run(120 * second); /* none is opened for those who may have none */
    assert_true(fake_hops[1].opened[0] <= opened + 1);
    cancel(0, MANY);
    fake_end();
}

/* A long line does not keep them waiting either. */
static void takes_turns(void **state)
{
    (void)state;
    begin(second / 10);
    fake_add(1, 20000);
    fake_run(5 * second);
    for (uint32_t i = 0; i < 10; i++)
        step(i);
    fake_run(second);
    assert_int_equal(resting(10), 10);
    uint32_t delivered = courier.delivered_of[1];
    fake_run(10 * second);
    assert_true(courier.delivered_of[1] > delivered + 500);
    cancel(0, 10);
    fake_run(3600 * second);
    assert_int_equal(courier.delivered_of[1], 20000);
    fake_end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(few_rest),
        cmocka_unit_test(many_rest),
        cmocka_unit_test(takes_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
