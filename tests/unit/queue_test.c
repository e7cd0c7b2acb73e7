/* The queue with a clock of the test's own: order, retries and their bounds, holding, consignments
 * of one message, lines, many recipients, a model in which everything happens at random, and a
 * million messages with the memory that they take. */
#include "gateway/deliver/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/clock.h"

static const uint64_t second = 1000000;
static const uint32_t schedule_s[] = {60, 300, 900, 3600, 7200, 14400};

static struct queue *make(void)
{
    struct queue *queue = queue_new(
        &(struct queue_options){.schedule_s = schedule_s, .schedule_count = 6, .seed = 7});
    assert_non_null(queue);
    return queue;
}

static struct queue_message *add_many(struct queue *queue, uint64_t id, uint32_t recipients,
                                      uint64_t now_us, uint64_t due_us)
{
    struct spool_message message = {.message_id = id, .recipient_count = recipients};
    assert_true(queue_reserve(queue, 1));
    return queue_add(queue, &message, now_us, due_us);
}

static struct queue_message *add(struct queue *queue, uint64_t id, uint64_t now_us, uint64_t due_us)
{
    return add_many(queue, id, 1, now_us, due_us);
}

static uint64_t take(struct queue *queue, uint64_t now_us)
{
    struct consignment *taken = queue_take(queue, now_us);
    if (taken == NULL)
        return 0;
    uint64_t id = taken->message->spool.message_id;
    assert_int_equal(taken->state, CONSIGNMENT_TAKEN);
    assert_true(consignment_drop(queue, taken));
    return id;
}

static uint64_t next_random(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return *random >> 33;
}

static void arrival_order(void **state)
{
    (void)state;
    struct queue *queue = make();
    assert_null(queue_take(queue, 0));
    assert_true(queue_next_us(queue) == UINT64_MAX);
    for (uint64_t id = 1; id <= 100; id++) {
        struct queue_message *message = add(queue, id, id * second, id * second);
        assert_int_equal(message->queued_s, id);
        assert_ptr_equal(message->consignments->message, message);
        assert_int_equal(message->consignments->destination, QUEUE_UNSORTED);
    }
    assert_true(queue_next_us(queue) == 0);
    assert_int_equal(queue_count(queue), 100);
    for (uint64_t id = 1; id <= 100; id++)
        assert_int_equal(take(queue, 200 * second), id);
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
    /* What is new and what comes back by turns, of each the oldest. */
    assert_int_equal(take(queue, 400), 4);
    assert_int_equal(take(queue, 400), 2);
    assert_int_equal(take(queue, 400), 5);
    assert_int_equal(take(queue, 400), 1);
    assert_int_equal(take(queue, 400), 0);
    queue_free(queue);
}

/* What was made READY again stands by the time of that, and not by an older or a later one. */
static void made_ready(void **state)
{
    (void)state;
    struct queue *queue = make();
    struct consignment *first = add(queue, 1, 0, 9 * second)->consignments;
    add(queue, 2, 0, 5 * second);
    assert_null(queue_take(queue, 1 * second));
    consignment_grab(queue, first);
    consignment_ready(queue, first);
    assert_true(queue_next_us(queue) == 0);
    add(queue, 3, 2 * second, 2 * second);
    assert_int_equal(take(queue, 6 * second), 3);
    assert_int_equal(take(queue, 6 * second), 1);
    assert_int_equal(take(queue, 6 * second), 2);
    queue_free(queue);
}

/* However much is due again, READY or by time, every other one that is taken is new; and new mail
 * that comes without end does not keep the others back. */
static void new_among_a_backlog(void **state)
{
    (void)state;
    enum { BACKLOG = 1000, NEW = 100 };
    struct queue *queue = make();
    for (uint64_t id = 1; id <= BACKLOG; id++) {
        struct consignment *one = add(queue, id, 0, id % 2 * second)->consignments;
        if (id % 2 == 0) {
            consignment_grab(queue, one);
            consignment_ready(queue, one);
        }
    }
    assert_int_equal(take(queue, 5 * second) <= BACKLOG, 1);
    for (uint64_t id = 1; id <= NEW; id++)
        add(queue, BACKLOG + id, 5 * second, 5 * second);
    for (uint64_t id = 1; id <= NEW; id++) {
        uint64_t first = take(queue, 5 * second), second_one = take(queue, 5 * second);
        assert_int_equal(first, BACKLOG + id);
        assert_in_range(second_one, 1, BACKLOG);
    }
    assert_true(queue_next_us(queue) == 0);
    for (int i = 0; i < BACKLOG - NEW - 1; i++)
        assert_in_range(take(queue, 5 * second), 1, BACKLOG);
    assert_null(queue_take(queue, 5 * second));
    queue_free(queue);
}

/* Only what was never put back is new. */
static void fresh_once(void **state)
{
    (void)state;
    struct queue *queue = make();
    for (int way = 0; way < 4; way++) {
        struct consignment *one = add(queue, 1, 0, 0)->consignments;
        assert_true(one->fresh);
        if (way == 3) { /* what stands among the new is found there */
            consignment_grab(queue, one);
            assert_true(consignment_drop(queue, one));
            break;
        }
        assert_ptr_equal(queue_take(queue, 0), one);
        assert_true(one->fresh);
        if (way == 0)
            consignment_ready(queue, one);
        else if (way == 1)
            consignment_wait(queue, one, second);
        else
            consignment_hold(queue, one);
        assert_false(one->fresh);
        consignment_grab(queue, one);
        assert_false(one->fresh);
        assert_true(consignment_drop(queue, one));
    }
    assert_null(queue_take(queue, UINT64_MAX));
    queue_free(queue);
}

static void hold_and_flush(void **state)
{
    (void)state;
    for (int held = 0; held <= 1; held++) {
        struct queue *queue = make();
        for (uint64_t id = 1; id <= 4; id++)
            add(queue, id, 0, 0);
        consignment_hold(queue, queue_take(queue, 0));
        consignment_wait(queue, queue_take(queue, 0), 500 * second);
        consignment_wait(queue, queue_take(queue, 0), 400 * second);
        assert_true(consignment_drop(queue, queue_take(queue, 0)));
        assert_int_equal(queue_count(queue), 3);
        assert_int_equal(queue_held(queue), 1);
        assert_null(queue_take(queue, 399 * second));
        queue_flush(queue, 399 * second, held != 0);
        assert_int_equal(queue_held(queue), 1 - held);
        uint64_t sum = 0;
        for (int i = 0; i < 2 + held; i++)
            sum += 1ull << take(queue, 399 * second);
        assert_int_equal(sum, held != 0 ? 1 << 1 | 1 << 2 | 1 << 3 : 1 << 2 | 1 << 3);
        assert_null(queue_take(queue, UINT64_MAX));
        assert_int_equal(queue_count(queue), 1 - held);
        queue_free(queue);
    }
}

static void schedule(void **state)
{
    (void)state;
    struct queue *queue = make();
    for (uint32_t attempts = 1; attempts <= 70000; attempts += attempts < 20 ? 1 : 6999) {
        uint64_t expected = schedule_s[attempts <= 6 ? attempts - 1 : 5] * second;
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
        assert_true(most <= queue_delay_longest_us(queue));
    }
    assert_true(queue_delay_longest_us(queue) == 18000 * second);
    queue_free(queue);
}

static void recipients(void **state)
{
    (void)state;
    static const uint32_t counts[] = {1, 2, 63, 64, 65, 128, 1000, 10000};
    struct queue *queue = make();
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct queue_message *message = add_many(queue, c + 1, counts[c], 0, 0);
        struct consignment *taken = queue_take(queue, 0);
        assert_ptr_equal(taken->message, message);
        assert_int_equal(message->open_count, counts[c]);
        assert_null(queue_finished_map(message));
        for (uint32_t step = 0; step < counts[c]; step++) {
            uint32_t i = (step * 7919) % counts[c];
            for (uint32_t tried = 0; queue_finished(message, i) && tried < counts[c]; tried++)
                i = (i + 1) % counts[c];
            assert_false(queue_finished(message, i));
            queue_finish(message, i);
            queue_finish(message, i);
            assert_true(queue_finished(message, i));
            assert_true((queue_finished_map(message)[i / 8] >> i % 8 & 1) != 0);
            assert_int_equal(message->open_count, counts[c] - step - 1);
        }
        if (c % 2 == 0)
            assert_true(consignment_drop(queue, taken)); /* else queue_free frees its marks */
    }
    queue_free(queue);
}

/* A message for many destinations: each part has a schedule of its own, and goes in any order. */
static void parts_of_a_message(void **state)
{
    (void)state;
    enum { PARTS = 10000 };
    static struct consignment *parts[PARTS];
    struct queue *queue = make();
    struct queue_message *message = add_many(queue, 1, PARTS, 0, 0);
    parts[0] = queue_take(queue, 0);
    for (uint32_t i = 1; i < PARTS; i++) {
        assert_true(queue_reserve_consignments(queue, 1));
        parts[i] = queue_split(queue, parts[next_random(&(uint64_t){i}) % i]);
        assert_int_equal(parts[i]->state, CONSIGNMENT_TAKEN);
        assert_int_equal(parts[i]->attempts, 0);
        parts[i]->first = i;
    }
    uint32_t count = 0;
    for (struct consignment *part = message->consignments; part != NULL; part = part->sibling)
        count++;
    assert_int_equal(count, PARTS);
    for (uint32_t i = 0; i < PARTS; i++)
        consignment_wait(queue, parts[i], (i * 7919) % PARTS + 1);
    for (uint32_t i = 0; i < PARTS; i++) {
        struct consignment *part = queue_take(queue, UINT64_MAX);
        assert_true(part->due_us == i + 1);
        assert_int_equal(consignment_drop(queue, part), i + 1 == PARTS);
        assert_int_equal(queue_count(queue), i + 1 < PARTS);
    }
    assert_null(queue_at(queue, 0));
    queue_free(queue);
}

static void lines(void **state)
{
    (void)state;
    struct queue *queue = make();
    struct line line = {0};
    struct consignment *lined[6];
    assert_null(line_take(&line));
    for (uint64_t id = 1; id <= 5; id++)
        add(queue, id, 0, 0);
    for (uint32_t i = 1; i <= 4; i++)
        line_append(&line, lined[i] = queue_take(queue, 0));
    lined[5] = queue_take(queue, 0);
    line_push(&line, lined[5]);
    assert_int_equal(line.count, 5);
    assert_int_equal(lined[5]->state, CONSIGNMENT_LINED);
    line_remove(&line, lined[2]);
    assert_int_equal(lined[2]->state, CONSIGNMENT_TAKEN);
    line_remove(&line, lined[4]);
    line_append(&line, lined[2]);
    const uint64_t order[] = {5, 1, 3, 2};
    for (int i = 0; i < 4; i++)
        assert_int_equal(line_take(&line)->message->spool.message_id, order[i]);
    assert_null(line_take(&line));
    assert_null(line.first);
    assert_null(line.last[1]);
    queue_free(queue);
}

static void finding(void **state)
{
    (void)state;
    struct queue *queue = make();
    for (uint64_t id = 1; id <= 100; id++)
        add(queue, id, 0, 0);
    for (uint64_t id = 1; id <= 50; id++)
        assert_int_equal(take(queue, 0), id);
    assert_null(queue_find(queue, 50));
    assert_null(queue_find(queue, 101));
    struct queue_message *message = queue_find(queue, 77);
    assert_int_equal(message->spool.message_id, 77);
    assert_ptr_equal(queue_at(queue, message->index), message);
    uint32_t seen = 0;
    for (size_t i = 0; i < queue_slots(queue); i++)
        seen += queue_at(queue, i) != NULL;
    assert_int_equal(seen, 50);
    queue_free(queue);
}

/* --- a model: everything at random, against plain search --- */

enum { PARTS_MAX = 400, STEPS = 30000 };

struct model {
    struct queue *queue;
    struct line line;
    struct consignment *parts[PARTS_MAX];
    enum consignment_state expected[PARTS_MAX];
    uint64_t due_us[PARTS_MAX];
    uint64_t order[PARTS_MAX]; /* READY, LINED: when it joined */
    bool fresh[PARTS_MAX];
    bool fresh_had; /* the last one that was taken */
    uint64_t joined, random, now_us;
    uint32_t count;
};

static uint32_t part_of(const struct model *model, const struct consignment *part)
{
    uint32_t i = 0;
    while (i < model->count && model->parts[i] != part)
        i++;
    assert_true(i < model->count);
    return i;
}

static void forget(struct model *model, uint32_t i)
{
    uint32_t last = --model->count;
    model->parts[i] = model->parts[last];
    model->expected[i] = model->expected[last];
    model->due_us[i] = model->due_us[last];
    model->order[i] = model->order[last];
    model->fresh[i] = model->fresh[last];
}

/* What queue_take must return: the first new one, or of the first READY and the least WAITING that
 * is due the older; by turns when there are both. */
static void model_take(struct model *model)
{
    uint32_t fresh = UINT32_MAX, ready = UINT32_MAX;
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < model->count; i++) {
        if (model->expected[i] == CONSIGNMENT_READY && model->fresh[i] &&
            (fresh == UINT32_MAX || model->order[i] < model->order[fresh]))
            fresh = i;
        if (model->expected[i] == CONSIGNMENT_READY && !model->fresh[i] &&
            (ready == UINT32_MAX || model->order[i] < model->order[ready]))
            ready = i;
        if (model->expected[i] == CONSIGNMENT_WAITING && model->due_us[i] < due)
            due = model->due_us[i];
    }
    struct consignment *taken = queue_take(model->queue, model->now_us);
    bool again = ready != UINT32_MAX || due <= model->now_us;
    bool fresh_now = fresh != UINT32_MAX && (!again || !model->fresh_had);
    model->fresh_had = fresh_now;
    if (!fresh_now && !again) {
        assert_null(taken);
        assert_true(queue_next_us(model->queue) == due);
        return;
    }
    assert_non_null(taken);
    uint32_t i = part_of(model, taken);
    if (fresh_now)
        assert_int_equal(i, fresh);
    else if (ready != UINT32_MAX && (due > model->now_us || due >= model->due_us[ready]))
        assert_int_equal(i, ready);
    else
        assert_true(model->expected[i] == CONSIGNMENT_WAITING && model->due_us[i] == due);
    model->expected[i] = CONSIGNMENT_TAKEN;
}

static void model_new(struct model *model)
{
    if (model->count + 1 >= PARTS_MAX)
        return;
    uint64_t wait = next_random(&model->random) % 3 == 0 ? next_random(&model->random) % 5000 : 0;
    uint32_t i = model->count++;
    struct queue_message *message =
        add(model->queue, model->joined + 1, model->now_us, model->now_us + wait);
    model->parts[i] = message->consignments;
    model->expected[i] = wait == 0 ? CONSIGNMENT_READY : CONSIGNMENT_WAITING;
    model->due_us[i] = model->now_us + wait;
    model->order[i] = ++model->joined;
    model->fresh[i] = wait == 0;
}

/* Something for one that is TAKEN. */
static void model_settle(struct model *model, uint32_t i)
{
    struct consignment *part = model->parts[i];
    switch (next_random(&model->random) % 6) {
    case 0:
        model->due_us[i] = model->now_us + next_random(&model->random) % 5000;
        model->expected[i] = CONSIGNMENT_WAITING;
        consignment_wait(model->queue, part, model->due_us[i]);
        break;
    case 1:
        model->expected[i] = CONSIGNMENT_HELD;
        consignment_hold(model->queue, part);
        break;
    case 2:
        model->expected[i] = CONSIGNMENT_READY;
        model->order[i] = ++model->joined;
        consignment_ready(model->queue, part);
        model->fresh[i] = false;
        model->due_us[i] = part->due_us; /* the latest time that the queue was told */
        assert_true(part->due_us <= model->now_us);
        break;
    case 3:
        model->expected[i] = CONSIGNMENT_LINED;
        line_append(&model->line, part);
        break;
    case 4:
        if (model->count + 1 < PARTS_MAX) {
            assert_true(queue_reserve_consignments(model->queue, 1));
            model->parts[model->count] = queue_split(model->queue, part);
            model->expected[model->count++] = CONSIGNMENT_TAKEN;
        }
        break;
    default: {
        bool last = part->sibling == NULL && part->message->consignments == part;
        assert_int_equal(consignment_drop(model->queue, part), last);
        forget(model, i);
    }
    }
}

static void model_step(struct model *model)
{
    model->now_us += next_random(&model->random) % 8;
    uint64_t what = next_random(&model->random) % 10;
    if (what < 3)
        model_new(model);
    if (what >= 3 && what < 6)
        model_take(model);
    if (model->count == 0)
        return;
    uint32_t i = (uint32_t)(next_random(&model->random) % model->count);
    enum consignment_state expected = model->expected[i];
    if (expected == CONSIGNMENT_TAKEN) {
        model_settle(model, i);
    } else if (expected == CONSIGNMENT_LINED) {
        line_remove(&model->line, model->parts[i]);
        model->expected[i] = CONSIGNMENT_TAKEN;
    } else if (what == 9) {
        consignment_grab(model->queue, model->parts[i]);
        model->expected[i] = CONSIGNMENT_TAKEN;
    }
}

static void at_random(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct model model = {.queue = make(), .random = seed};
        for (int step = 0; step < STEPS; step++) {
            model_step(&model);
            uint32_t held = 0, lined = 0;
            for (uint32_t i = 0; i < model.count; i++) {
                assert_int_equal(model.parts[i]->state, model.expected[i]);
                held += model.expected[i] == CONSIGNMENT_HELD;
                lined += model.expected[i] == CONSIGNMENT_LINED;
            }
            assert_int_equal(queue_held(model.queue), held);
            assert_int_equal(model.line.count, lined);
            if (step % 5000 == 4999) {
                queue_flush(model.queue, model.now_us, false);
                for (uint32_t i = 0; i < model.count; i++)
                    if (model.expected[i] == CONSIGNMENT_WAITING && model.due_us[i] > model.now_us)
                        model.due_us[i] = model.now_us;
            }
        }
        queue_free(model.queue);
    }
}

/* Messages to many destinations can't have all memory; those to one are not kept back by them. */
static void many_destinations(void **state)
{
    (void)state;
    struct queue *queue = make();
    add(queue, 1, 0, 0);
    assert_true(queue_reserve_consignments(queue, 1000));
    assert_false(queue_reserve_consignments(queue, QUEUE_EXTRA_MAX + 1));
    struct consignment *first = queue_take(queue, 0);
    struct consignment *second_one = queue_split(queue, first);
    assert_false(queue_reserve_consignments(queue, QUEUE_EXTRA_MAX));
    assert_true(queue_reserve_consignments(queue, 0));
    assert_true(queue_reserve(queue, 1));
    assert_false(consignment_drop(queue, second_one));
    assert_true(consignment_drop(queue, first));
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
        struct consignment *taken = queue_take(queue, 0);
        assert_true(taken != NULL && taken->message->spool.message_id == id);
        consignment_wait(queue, taken, queue_delay_us(queue, 1));
    }
    uint64_t deferred = clock_monotonic_us();
    assert_int_equal(queue_count(queue), COUNT);
    assert_true(queue_memory(queue) <= 256ull * COUNT);
    uint64_t last = 0;
    for (uint64_t i = 1; i <= COUNT; i++) {
        struct consignment *taken = queue_take(queue, UINT64_MAX);
        assert_true(taken != NULL && taken->due_us >= last);
        last = taken->due_us;
        consignment_drop(queue, taken);
    }
    uint64_t drained = clock_monotonic_us();
    assert_int_equal(queue_count(queue), 0);
    size_t memory = queue_memory(queue);
    for (uint64_t id = 1; id <= COUNT; id++)
        add(queue, id, 0, 0);
    assert_true(queue_memory(queue) == memory); /* reused */
    printf("1,000,000 messages: %zu octets each; ns each: add %llu, take and defer %llu, take by "
           "time and drop %llu\n",
           memory / COUNT, (unsigned long long)(added - start) / (COUNT / 1000),
           (unsigned long long)(deferred - added) / (COUNT / 1000),
           (unsigned long long)(drained - deferred) / (COUNT / 1000));
    queue_free(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrival_order),
        cmocka_unit_test(due_order),
        cmocka_unit_test(made_ready),
        cmocka_unit_test(new_among_a_backlog),
        cmocka_unit_test(fresh_once),
        cmocka_unit_test(hold_and_flush),
        cmocka_unit_test(schedule),
        cmocka_unit_test(recipients),
        cmocka_unit_test(parts_of_a_message),
        cmocka_unit_test(lines),
        cmocka_unit_test(finding),
        cmocka_unit_test(at_random),
        cmocka_unit_test(many_destinations),
        cmocka_unit_test(a_million),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
