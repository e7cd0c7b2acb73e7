/* Slots: every object once, names that are not used again, memory that is zero again. */
#include "gateway/base/slots.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 100, SIZE = 200 };

static void all_then_none(void **state)
{
    (void)state;
    struct slots slots;
    uint8_t *objects[COUNT];
    uint32_t slot;
    assert_true(slots_init(&slots, SIZE, COUNT));
    for (uint32_t i = 0; i < COUNT; i++) {
        objects[i] = slots_take(&slots, &slot);
        assert_non_null(objects[i]);
        assert_int_equal(slot, i); /* fresh memory is touched in order, and no more than needed */
        assert_int_equal((uintptr_t)objects[i] % 64, 0);
        assert_ptr_equal(slots_at(&slots, slot), objects[i]);
        memset(objects[i], (int)i + 1, SIZE);
    }
    assert_null(slots_take(&slots, &slot));
    assert_int_equal(slots.used, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) /* no two share an octet */
        for (size_t at = 0; at < SIZE; at++)
            assert_int_equal(objects[i][at], i + 1);
    slots_give(&slots, 41);
    assert_ptr_equal(slots_take(&slots, &slot), objects[41]);
    assert_int_equal(slot, 41);
    for (size_t at = 0; at < SIZE; at++)
        assert_int_equal(objects[41][at], 0);
    slots_cleanup(&slots);
    slots_cleanup(&slots);
}

static void last_given_is_taken_first(void **state)
{
    (void)state;
    struct slots slots;
    uint32_t slot;
    assert_true(slots_init(&slots, SIZE, COUNT));
    for (uint32_t i = 0; i < 10; i++)
        assert_non_null(slots_take(&slots, &slot));
    slots_give(&slots, 3);
    slots_give(&slots, 7);
    assert_non_null(slots_take(&slots, &slot));
    assert_int_equal(slot, 7);
    assert_non_null(slots_take(&slots, &slot));
    assert_int_equal(slot, 3);
    assert_non_null(slots_take(&slots, &slot));
    assert_int_equal(slot, 10);
    slots_cleanup(&slots);
}

static void old_names_find_nothing(void **state)
{
    (void)state;
    struct slots slots;
    uint32_t slot;
    assert_true(slots_init(&slots, SIZE, COUNT));
    assert_null(slots_find(&slots, 0, 0)); /* never used */
    assert_null(slots_find(&slots, 0, 1));
    assert_null(slots_find(&slots, COUNT, 1)); /* no such slot */
    assert_null(slots_find(&slots, UINT32_MAX, 1));
    void *object = slots_take(&slots, &slot);
    uint32_t generation = slots_generation(&slots, slot);
    assert_int_not_equal(generation, 0); /* 0 is free for requests that belong to no slot */
    assert_ptr_equal(slots_find(&slots, slot, generation), object);
    slots_give(&slots, slot);
    assert_null(slots_find(&slots, slot, generation));
    for (int i = 0; i < 1000; i++) {
        assert_ptr_equal(slots_take(&slots, &slot), object);
        assert_null(slots_find(&slots, slot, generation));
        assert_int_not_equal(slots_generation(&slots, slot), 0);
        slots_give(&slots, slot);
        assert_null(slots_find(&slots, slot, generation));
    }
    slots_cleanup(&slots);
}

static void generations_go_round(void **state)
{
    (void)state;
    struct slots slots;
    uint32_t slot;
    assert_true(slots_init(&slots, 8, 1));
    slots_take(&slots, &slot);
    slots_give(&slots, slot);
    slots.generations[0] = UINT32_MAX - 3; /* as after very many uses */
    for (int i = 0; i < 6; i++) {
        void *object = slots_take(&slots, &slot);
        uint32_t generation = slots_generation(&slots, slot);
        assert_in_range(generation, 1, SLOTS_GENERATION_MASK);
        assert_ptr_equal(slots_find(&slots, slot, generation), object);
        slots_give(&slots, slot);
    }
    slots_cleanup(&slots);
}

static void random_use(void **state)
{
    (void)state;
    struct slots slots;
    uint32_t taken[COUNT];
    uint32_t generations[COUNT];
    size_t count = 0;
    uint32_t random = 3;
    assert_true(slots_init(&slots, sizeof(uint32_t), COUNT));
    for (int step = 0; step < 50000; step++) {
        random = random * 1664525 + 1013904223;
        if (random >> 31 && count < COUNT) {
            uint32_t *object = slots_take(&slots, &taken[count]);
            assert_non_null(object);
            assert_int_equal(*object, 0);
            *object = taken[count] + 1;
            generations[count] = slots_generation(&slots, taken[count]);
            count++;
        } else if (count > 0) {
            size_t at = (random >> 8) % count;
            uint32_t *object = slots_find(&slots, taken[at], generations[at]);
            assert_non_null(object);
            assert_int_equal(*object, taken[at] + 1);
            slots_give(&slots, taken[at]);
            taken[at] = taken[--count];
            generations[at] = generations[count];
        }
        assert_int_equal(slots.used, count);
    }
    slots_cleanup(&slots);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_then_none),
        cmocka_unit_test(last_given_is_taken_first),
        cmocka_unit_test(old_names_find_nothing),
        cmocka_unit_test(generations_go_round),
        cmocka_unit_test(random_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
