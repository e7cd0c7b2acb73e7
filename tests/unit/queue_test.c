/* The queue with a clock of the test's own: order, retries and their bounds, holding, many
 * recipients, and a million messages with the memory that they take. */
#include "gateway/deliver/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "gateway/base/clock.h"

static const uint64_t second = 1000000;

static struct queue *make(void)
{
    struct queue *queue = queue_new(&(struct queue_options){
        .retry_min_us = 60 * second, .retry_max_us = 3600 * second, .seed = 7});
    assert_non_null(queue);
    return queue;
}

static struct queue_entry *add(struct queue *queue, uint64_t id, uint64_t now_us, uint64_t due_us)
{
    struct spool_message message = {.message_id = id, .recipient_count = 1};
    assert_true(queue_reserve(queue, 1));
    return queue_add(queue, &message, now_us, due_us);
}

static uint64_t take(struct queue *queue, uint64_t now_us)
{
    struct queue_entry *entry = queue_take(queue, now_us);
    if (entry == NULL)
        return 0;
    uint64_t id = entry->message.message_id;
    queue_remove(queue, entry);
    return id;
}

static void arrival_order(void **state)
{
    (void)state;
    struct queue *queue = make();
    assert_null(queue_take(queue, 0));
    assert_true(queue_next_us(queue) == UINT64_MAX);
    for (uint64_t id = 1; id <= 100; id++)
        add(queue, id, id, id);
    assert_true(queue_next_us(queue) == 0);
    assert_int_equal(queue_count(queue), 100);
    for (uint64_t id = 1; id <= 100; id++)
        assert_int_equal(take(queue, 200), id);
    assert_int_equal(queue_count(queue), 0);
    queue_free(queue);
    queue_free(NULL);
}

static void due_order(void **state)
{
    (void)state;
    struct queue *queue = make();
    add(queue, 1, 100, 300);
    add(queue, 2, 100, 200);
    add(queue, 3, 100, 100);
    assert_int_equal(take(queue, 100), 3);
    assert_int_equal(take(queue, 199), 0);
    assert_true(queue_next_us(queue) == 200);
    add(queue, 4, 250, 250);
    add(queue, 5, 350, 350);
    /* The oldest due comes first, whether it is new or a retry. */
    assert_int_equal(take(queue, 400), 2);
    assert_int_equal(take(queue, 400), 4);
    assert_int_equal(take(queue, 400), 1);
    assert_int_equal(take(queue, 400), 5);
    assert_int_equal(take(queue, 400), 0);
    queue_free(queue);
}

static void hold_and_flush(void **state)
{
    (void)state;
    struct queue *queue = make();
    for (uint64_t id = 1; id <= 4; id++)
        add(queue, id, 0, 0);
    queue_hold(queue, queue_take(queue, 0));
    queue_wait(queue, queue_take(queue, 0), 500 * second);
    queue_wait(queue, queue_take(queue, 0), 400 * second);
    queue_remove(queue, queue_take(queue, 0));
    assert_int_equal(queue_count(queue), 3);
    assert_int_equal(queue_held(queue), 1);
    assert_null(queue_take(queue, 399 * second));
    queue_flush(queue, 10 * second);
    assert_int_equal(queue_held(queue), 0);
    uint64_t sum = 0;
    for (int i = 0; i < 3; i++)
        sum += 1ull << take(queue, 10 * second);
    assert_int_equal(sum, 1 << 1 | 1 << 2 | 1 << 3);
    assert_int_equal(queue_count(queue), 0);
    queue_free(queue);
}

static void backoff(void **state)
{
    (void)state;
    struct queue *queue = make();
    uint64_t expected = 60 * second;
    for (uint32_t attempts = 1; attempts <= 70000; attempts += attempts < 20 ? 1 : 6999) {
        uint64_t least = UINT64_MAX, most = 0;
        for (int i = 0; i < 1000; i++) {
            uint64_t delay = queue_delay_us(queue, attempts);
            least = delay < least ? delay : least;
            most = delay > most ? delay : most;
        }
        /* Never sooner than said, at most a quarter later, and really spread. */
        assert_true(least >= expected && most <= expected + expected / 4);
        assert_true(least < expected + expected / 40 &&
                    most > expected + expected / 4 - expected / 40);
        expected = expected * 2 < 3600 * second ? expected * 2 : 3600 * second;
    }
    queue_free(queue);
}

static void recipients(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 63, 64, 65, 128, 1000, 10000};
    struct queue *queue = make();
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct spool_message message = {.message_id = 1, .recipient_count = counts[c]};
        assert_true(queue_reserve(queue, 1));
        queue_add(queue, &message, 0, 0);
        struct queue_entry *entry = queue_take(queue, 0);
        assert_int_equal(entry->open_count, counts[c]);
        for (uint32_t step = 0; step < counts[c]; step++) {
            uint32_t i = (step * 7919) % counts[c];
            for (uint32_t tried = 0; queue_finished(entry, i) && tried < counts[c]; tried++)
                i = (i + 1) % counts[c];
            assert_false(queue_finished(entry, i));
            queue_finish(entry, i);
            queue_finish(entry, i);
            assert_true(queue_finished(entry, i));
            assert_int_equal(entry->open_count, counts[c] - step - 1);
        }
        if (c % 2 == 0)
            queue_remove(queue, entry); /* else queue_free must free its marks */
    }
    queue_free(queue);
}

/* A heap against a plain search through all of it. */
static void random_against_model(void **state)
{
    (void)state;
    enum { MESSAGES = 300 };
    struct queue *queue = make();
    uint64_t due[MESSAGES + 1] = {0};
    uint64_t random = 1, now = 0;
    for (uint64_t id = 1; id <= MESSAGES; id++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        due[id] = 1 + (random >> 33) % 5000;
        add(queue, id, 0, due[id]);
    }
    for (int step = 0; step < 20000; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        now += (random >> 60) % 8;
        uint64_t first = UINT64_MAX;
        for (int id = 1; id <= MESSAGES; id++)
            first = due[id] < first ? due[id] : first;
        struct queue_entry *entry = queue_take(queue, now);
        assert_int_equal(entry != NULL, first <= now);
        if (entry == NULL) {
            assert_true(queue_next_us(queue) == first);
            continue;
        }
        assert_true(due[entry->message.message_id] == first);
        due[entry->message.message_id] = now + 1 + (random >> 40) % 5000;
        queue_wait(queue, entry, due[entry->message.message_id]);
    }
    queue_free(queue);
}

static void a_million(void **state)
{
    (void)state;
    enum { COUNT = 1000000 };
    struct queue *queue = make();
    uint64_t start = clock_monotonic_us();
    for (uint64_t id = 1; id <= COUNT; id++)
        add(queue, id, 0, 0);
    uint64_t added = clock_monotonic_us();
    for (uint64_t id = 1; id <= COUNT; id++) {
        struct queue_entry *entry = queue_take(queue, 0);
        assert_true(entry != NULL && entry->message.message_id == id);
        queue_wait(queue, entry, queue_delay_us(queue, 1));
    }
    uint64_t deferred = clock_monotonic_us();
    assert_int_equal(queue_count(queue), COUNT);
    assert_true(queue_memory(queue) <= 160ull * COUNT);
    uint64_t last = 0;
    for (uint64_t i = 1; i <= COUNT; i++) {
        struct queue_entry *entry = queue_take(queue, UINT64_MAX);
        assert_true(entry != NULL && entry->due_us >= last);
        last = entry->due_us;
        queue_remove(queue, entry);
    }
    uint64_t drained = clock_monotonic_us();
    assert_int_equal(queue_count(queue), 0);
    size_t memory = queue_memory(queue);
    for (uint64_t id = 1; id <= COUNT; id++)
        add(queue, id, 0, 0);
    assert_true(queue_memory(queue) <= memory + memory / 50); /* reused */
    printf("1,000,000 messages: %zu octets each; ns each: add %llu, take and defer %llu, take by "
           "time %llu\n",
           memory / COUNT, (unsigned long long)(added - start) / (COUNT / 1000),
           (unsigned long long)(deferred - added) / (COUNT / 1000),
           (unsigned long long)(drained - deferred) / (COUNT / 1000));
    queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrival_order),  cmocka_unit_test(due_order),
        cmocka_unit_test(hold_and_flush), cmocka_unit_test(backoff),
        cmocka_unit_test(recipients),     cmocka_unit_test(random_against_model),
        cmocka_unit_test(a_million),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
