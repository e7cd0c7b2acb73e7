/* Deadlines: the earliest first, only when its time has come, and no more memory than twice what
 * lives. */
#include "gateway/deliver/deadlines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* A message lives when its bit is set. */
static bool lives(void *user, const struct deadline *deadline)
{
    const bool *living = user;
    return living[deadline->message_id];
}

static void in_order(void **state)
{
    enum { COUNT = 5000 };
    static bool living[COUNT + 1];
    struct deadlines deadlines = {.lives = lives, .user = living};
    struct deadline out;
    assert_false(deadlines_take(&deadlines, UINT64_MAX, &out));
    assert_true(deadlines_next_s(&deadlines) == UINT64_MAX);
    for (uint32_t i = 1; i <= COUNT; i++) {
        living[i] = true;
        uint32_t at_s = (i * 7919u) % COUNT + 1;
        assert_true(deadlines_add(&deadlines, &(struct deadline){i, at_s, i}));
    }
    assert_int_equal(deadlines_next_s(&deadlines), 1);
    assert_false(deadlines_take(&deadlines, 0, &out));
    for (uint32_t at_s = 1; at_s <= COUNT; at_s++) {
        assert_true(deadlines_take(&deadlines, at_s, &out));
        assert_int_equal(out.at_s, at_s);
        assert_int_equal(out.place * 7919u % COUNT + 1, at_s);
        assert_false(deadlines_take(&deadlines, at_s, &out));
    }
    deadlines_free(&deadlines);
    deadlines_free(&deadlines);
    (void)state;
}

/* A million come and go with times far away: what is kept is in proportion to what lives. */
static void the_dead_are_left_out(void **state)
{
    enum { COUNT = 1000000, LIVING = 1000 };
    bool *living = calloc(COUNT + 1, sizeof *living);
    assert_non_null(living);
    struct deadlines deadlines = {.lives = lives, .user = living};
    for (uint32_t i = 1; i <= COUNT; i++) {
        living[i] = true;
        if (i > LIVING)
            living[i - LIVING] = false;
        assert_true(deadlines_add(&deadlines, &(struct deadline){i, 2000000 - i, i}));
    }
    assert_true(deadlines.capacity <= 2 * LIVING);
    struct deadline out;
    uint32_t found = 0, last_s = 0;
    while (deadlines_take(&deadlines, UINT64_MAX, &out)) {
        assert_true(out.at_s > last_s);
        last_s = out.at_s;
        found += living[out.message_id];
    }
    assert_int_equal(found, LIVING);
    deadlines_free(&deadlines);
    free(living);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order),
        cmocka_unit_test(the_dead_are_left_out),
    };
    return cmocka_run_group_tests_name("deadlines", tests, NULL, NULL);
}
