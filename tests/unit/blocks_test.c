/* The pool of blocks: each once, the warm one first, and an empty pool is an ordinary answer. */
#include "gateway/base/blocks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { COUNT = 32 };

static void all_then_none(void **state)
{
    (void)state;
    struct blocks blocks;
    uint8_t *taken[COUNT];
    assert_true(blocks_init(&blocks, COUNT));
    for (int i = 0; i < COUNT; i++) {
        taken[i] = blocks_take(&blocks);
        assert_non_null(taken[i]);
        assert_int_equal((uintptr_t)taken[i] % 64, 0);
        memset(taken[i], i, BLOCK_SIZE);
        assert_int_equal(blocks.used, i + 1);
    }
    assert_null(blocks_take(&blocks));
    assert_int_equal(blocks.used, COUNT);
    for (int i = 0; i < COUNT; i++)
        for (size_t at = 0; at < BLOCK_SIZE; at += 511)
            assert_int_equal(taken[i][at], i);
    for (int i = 0; i < COUNT; i++)
        blocks_give(&blocks, taken[i]);
    assert_int_equal(blocks.used, 0);
    for (int i = COUNT; i-- > 0;)
        assert_ptr_equal(blocks_take(&blocks), taken[i]); /* the one given back last comes first */
    assert_null(blocks_take(&blocks));
    blocks_cleanup(&blocks);
    blocks_cleanup(&blocks);
}

static void nothing_given_is_nothing(void **state)
{
    (void)state;
    struct blocks blocks;
    assert_true(blocks_init(&blocks, COUNT));
    blocks_give(&blocks, NULL);
    assert_int_equal(blocks.used, 0);
    blocks_cleanup(&blocks);
}

static void random_use(void **state)
{
    (void)state;
    struct blocks blocks;
    uint32_t *taken[COUNT];
    uint32_t marks[COUNT];
    size_t count = 0;
    uint32_t random = 5;
    assert_true(blocks_init(&blocks, COUNT));
    for (int step = 0; step < 50000; step++) {
        random = random * 1664525 + 1013904223;
        if (random >> 31) {
            uint32_t *block = blocks_take(&blocks);
            assert_int_equal(block == NULL, count == COUNT);
            if (block == NULL)
                continue;
            taken[count] = block;
            marks[count++] = block[0] = block[BLOCK_SIZE / 4 - 1] = random;
        } else if (count > 0) {
            size_t at = (random >> 8) % count;
            assert_int_equal(taken[at][0], marks[at]);
            assert_int_equal(taken[at][BLOCK_SIZE / 4 - 1], marks[at]);
            blocks_give(&blocks, taken[at]);
            taken[at] = taken[--count];
            marks[at] = marks[count];
        }
        assert_int_equal(blocks.used, count);
    }
    blocks_cleanup(&blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_then_none),
        cmocka_unit_test(nothing_given_is_nothing),
        cmocka_unit_test(random_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
