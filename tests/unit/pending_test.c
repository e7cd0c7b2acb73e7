/* The table of open messages against a plain list, over a long random life. */
#include "gateway/spool/pending.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <stdlib.h>

enum { IDS = 5000, STEPS = 200000 };

static void long_life(void **state)
{
    static bool there[IDS];
    struct pending_table table;
    uint64_t random = 12345;
    uint32_t count = 0;
    assert_true(pending_init(&table));
    for (int step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t id = (random >> 33) % IDS;
        uint32_t port = (uint32_t)(id % 7);
        struct pending *found = pending_find(&table, port, id + 1);
        assert_int_equal(found != NULL, there[id]);
        if (found != NULL) {
            assert_int_equal(found->message_id, id + 1);
            assert_int_equal(found->text_len, id * 3);
            pending_remove(&table, found);
        } else {
            found = pending_begin(&table, port, id + 1);
            assert_non_null(found);
            found->text_len = id * 3;
        }
        count += there[id] ? -1u : 1u;
        there[id] = !there[id];
    }
    /* A walk sees all, and may remove what it sees. */
    uint32_t cursor = 0;
    uint32_t before = 0;
    uint32_t seen = 0;
    for (struct pending *pending = pending_next(&table, &cursor); pending != NULL;
         pending = pending_next(&table, &cursor)) {
        assert_true(there[pending->message_id - 1]);
        there[pending->message_id - 1] = false;
        pending_remove(&table, pending);
        cursor = before;
        seen++;
    }
    assert_int_equal(seen, count);
    assert_int_equal(table.used, 0);
    pending_free(&table);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(long_life),
    };
    return cmocka_run_group_tests_name("pending", tests, NULL, NULL);
}
