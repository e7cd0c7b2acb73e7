/* The arena: pieces that do not overlap, blocks that all come home, and an empty pool. */
#include "gateway/base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { BLOCKS = 64, PIECES = 400 };

static struct blocks pool;

static int set_up(void **state)
{
    (void)state;
    return blocks_init(&pool, BLOCKS) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    blocks_cleanup(&pool);
    return 0;
}

static void empty_arena(void **state)
{
    (void)state;
    struct arena arena = {0};
    arena_empty(&arena, &pool);
    arena_empty(&arena, &pool);
    assert_int_equal(pool.used, 0);
}

static void pieces_do_not_overlap(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed < 50; seed++) {
        struct arena arena = {0};
        uint8_t *pieces[PIECES];
        size_t sizes[PIECES];
        uint32_t random = seed;
        for (int i = 0; i < PIECES; i++) {
            random = random * 1664525 + 1013904223;
            sizes[i] = (random >> 16) % (i % 16 == 0 ? 1000 : 200);
            pieces[i] = arena_take(&arena, &pool, sizes[i]);
            assert_non_null(pieces[i]);
            assert_int_equal((uintptr_t)pieces[i] % 8, 0);
            memset(pieces[i], i, sizes[i]);
        }
        for (int i = 0; i < PIECES; i++)
            for (size_t at = 0; at < sizes[i]; at++)
                assert_int_equal(pieces[i][at], i & 255);
        arena_empty(&arena, &pool);
        assert_int_equal(pool.used, 0);
    }
}

static void largest_piece(void **state)
{
    (void)state;
    struct arena arena = {0};
    for (int i = 0; i < BLOCKS; i++) { /* one fills a block exactly */
        uint8_t *piece = arena_take(&arena, &pool, ARENA_TAKE_MAX);
        assert_non_null(piece);
        memset(piece, 'x', ARENA_TAKE_MAX);
        assert_int_equal(pool.used, i + 1);
    }
    assert_null(arena_take(&arena, &pool, 1));
    assert_null(arena_take(&arena, &pool, ARENA_TAKE_MAX));
    arena_empty(&arena, &pool);
    assert_int_equal(pool.used, 0);
}

static void empty_pool_changes_nothing(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct arena other = {0};
    uint8_t *first = arena_take(&arena, &pool, 100);
    memset(first, 'a', 100);
    for (int i = 1; i < BLOCKS; i++)
        assert_non_null(arena_take(&other, &pool, ARENA_TAKE_MAX));
    assert_null(arena_take(&arena, &pool, ARENA_TAKE_MAX));
    assert_non_null(arena_take(&arena, &pool, 100)); /* what is left of the block still serves */
    for (int i = 0; i < 100; i++)
        assert_int_equal(first[i], 'a');
    arena_empty(&other, &pool);
    assert_int_equal(pool.used, 1);
    arena_empty(&arena, &pool);
    assert_int_equal(pool.used, 0);
}

static void copies(void **state)
{
    (void)state;
    struct arena arena = {0};
    char text[] = "alice@example.org";
    const char *copy = arena_copy(&arena, &pool, text, sizeof(text));
    text[0] = 'X';
    assert_string_equal(copy, "alice@example.org");
    assert_non_null(arena_copy(&arena, &pool, NULL, 0));
    arena_empty(&arena, &pool);
    assert_int_equal(pool.used, 0);
}

static void rewinds(void **state)
{
    (void)state;
    struct arena arena = {0};
    const struct arena nothing = arena;
    assert_non_null(arena_take(&arena, &pool, 100));
    struct arena mark = arena;
    const uint8_t *second = arena_take(&arena, &pool, 200);
    arena_rewind(&arena, &pool, &mark);
    assert_ptr_equal(arena_take(&arena, &pool, 8), second); /* the same place again */
    for (int i = 1; i < BLOCKS; i++)
        assert_non_null(arena_take(&arena, &pool, ARENA_TAKE_MAX));
    assert_int_equal(pool.used, BLOCKS);
    arena_rewind(&arena, &pool, &mark);
    assert_int_equal(pool.used, 1);
    assert_ptr_equal(arena_take(&arena, &pool, 8), second);
    arena_rewind(&arena, &pool, &nothing);
    assert_int_equal(pool.used, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(empty_arena),   cmocka_unit_test(pieces_do_not_overlap),
        cmocka_unit_test(largest_piece), cmocka_unit_test(empty_pool_changes_nothing),
        cmocka_unit_test(copies),        cmocka_unit_test(rewinds),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
