/* Priorities (RFC 6710) in the queue and in lines: who goes before whom, that nobody is kept back
 * for ever, and a model in which everything happens at random. */
#include "gateway/deliver/queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const uint32_t schedule_s[] = {60};

static struct queue *make(void)
{
    struct queue *queue = queue_new(
        &(struct queue_options){.schedule_s = schedule_s, .schedule_count = 1, .seed = 7});
    assert_non_null(queue);
    return queue;
}

static struct consignment *add(struct queue *queue, uint64_t id, int priority)
{
    struct spool_message message = {
        .message_id = id, .recipient_count = 1, .priority = (int8_t)priority};
    assert_true(queue_reserve(queue, 1));
    return queue_add(queue, &message, 0, 0)->consignments;
}

static uint64_t take(struct queue *queue)
{
    struct consignment *taken = queue_take(queue, 0);
    if (taken == NULL)
        return 0;
    uint64_t id = taken->message->spool.message_id;
    assert_true(consignment_drop(queue, taken));
    return id;
}

static uint64_t id_of(const struct consignment *consignment)
{
    return consignment == NULL ? 0 : consignment->message->spool.message_id;
}

static void higher_first(void **state)
{
    static const int priorities[] = {0, -1, 1, -9, 9, 0, 4};
    static const uint64_t order[] = {3, 5, 7, 1, 6, 2, 4};
    struct queue *queue = make();
    for (uint64_t i = 0; i < 7; i++)
        add(queue, i + 1, priorities[i]);
    for (int i = 0; i < 7; i++)
        assert_int_equal(take(queue), order[i]);
    assert_int_equal(take(queue), 0);
    /* The same for what is due again. */
    for (uint64_t i = 0; i < 7; i++) {
        struct consignment *one = add(queue, i + 1, priorities[i]);
        consignment_grab(queue, one);
        consignment_ready(queue, one);
    }
    for (int i = 0; i < 7; i++)
        assert_int_equal(take(queue), order[i]);
    queue_free(queue);
    (void)state;
}

/* While urgent mail comes without end, of ten that go one at least is usual and one is not urgent.
 */
static void nobody_starves(void **state)
{
    enum { EACH = 40, TURNS = 200 };
    struct queue *queue = make();
    uint64_t id = 0;
    int gone[3] = {0};
    for (int i = 0; i < EACH; i++)
        add(queue, ++id, 0);
    for (int i = 0; i < EACH; i++)
        add(queue, ++id, -3);
    for (int i = 0; i < TURNS; i++) {
        add(queue, ++id, 5);
        uint64_t taken = take(queue);
        gone[taken > 2 * EACH ? 0 : taken > EACH ? 2 : 1]++;
    }
    assert_in_range(gone[1], TURNS / 10 - 1, TURNS / 9 + 1);
    assert_in_range(gone[2], TURNS / 10 - 1, TURNS / 9 + 1);
    assert_int_equal(gone[0] + gone[1] + gone[2], TURNS);
    queue_free(queue);
    (void)state;
}

static void front_of_its_equals(void **state)
{
    struct queue *queue = make();
    struct line line = {0};
    static const int priorities[] = {0, 2, -2, 0, 2, -2};
    for (uint64_t i = 0; i < 6; i++)
        add(queue, i + 1, priorities[i]);
    struct consignment *taken[7];
    for (int i = 1; i <= 6; i++)
        taken[i] = queue_take(queue, 0);
    for (int i = 1; i <= 6; i++)
        line_push(&line, taken[i]);
    static const uint64_t order[] = {5, 2, 4, 1, 6, 3};
    struct consignment *at = line.first;
    assert_ptr_equal(line_next(&line), at);
    for (int i = 0; i < 6; i++, at = at->next) {
        assert_int_equal(id_of(at), order[i]);
        assert_true(at->previous == NULL || at->previous->next == at);
    }
    for (int i = 0; i < 6; i++)
        assert_int_equal(id_of(line_take(&line)), order[i]);
    assert_null(line_take(&line));
    assert_null(line.first);
    queue_free(queue);
    (void)state;
}

/* What stands in a line, against an array in which each place is looked for. */
static void against_a_model(void **state)
{
    enum { STEPS = 20000, MOST = 64 };
    struct queue *queue = make();
    struct line line = {0};
    struct consignment *model[MOST];
    uint32_t count = 0, passed[3] = {0};
    uint64_t random = 11, id = 0;
    for (int step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t dice = (uint32_t)(random >> 40) % 10;
        if (dice < 5 && count < MOST) {
            struct consignment *one = add(queue, ++id, (int)(random >> 33) % 3 - 1);
            consignment_grab(queue, one);
            bool front = dice == 0;
            uint32_t place = 0;
            while (place < count &&
                   (front ? model[place]->rank < one->rank : model[place]->rank <= one->rank))
                place++;
            memmove(&model[place + 1], &model[place], (count - place) * sizeof model[0]);
            model[place] = one;
            count++;
            if (front)
                line_push(&line, one);
            else
                line_append(&line, one);
        } else if (dice < 7 && count > 0) {
            uint32_t place = (uint32_t)(random >> 20) % count;
            line_remove(&line, model[place]);
            assert_true(consignment_drop(queue, model[place]));
            memmove(&model[place], &model[place + 1], (--count - place) * sizeof model[0]);
        } else if (count > 0) {
            uint32_t place = 0;
            for (uint32_t rank = 2; rank > 0 && place == 0; rank--)
                for (uint32_t i = 1; i < count && passed[rank] >= 8 && place == 0; i++)
                    if (model[i]->rank == rank && model[i - 1]->rank != rank)
                        place = i;
            struct consignment *next = model[place];
            passed[next->rank] = 0;
            for (uint32_t rank = next->rank + 1u; rank < 3; rank++) {
                bool waits = false;
                for (uint32_t i = 0; i < count; i++)
                    waits = waits || model[i]->rank == rank;
                passed[rank] += waits && passed[rank] < 8;
            }
            assert_int_equal(id_of(line_next(&line)), id_of(next));
            assert_ptr_equal(line_take(&line), next);
            assert_true(consignment_drop(queue, next));
            memmove(&model[place], &model[place + 1], (--count - place) * sizeof model[0]);
        }
        assert_int_equal(line.count, count);
        const struct consignment *at = line.first;
        for (uint32_t i = 0; i < count; i++, at = at->next)
            assert_ptr_equal(at, model[i]);
        assert_null(at);
    }
    queue_free(queue);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(higher_first),
        cmocka_unit_test(nobody_starves),
        cmocka_unit_test(front_of_its_equals),
        cmocka_unit_test(against_a_model),
    };
    return cmocka_run_group_tests_name("queue_rank", tests, NULL, NULL);
}
