/* gateway/policy/budget: so many at once, then so many a second, and no more, whoever takes them.
 */
#include "gateway/policy/budget.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SECOND_US = 1000000, START_US = 77 * SECOND_US, THREADS = 4, TRIES = 1000 };

static unsigned taken(struct budget *budget, uint64_t now_us, unsigned tries)
{
    unsigned count = 0;
    for (unsigned i = 0; i < tries; i++)
        count += budget_take(budget, now_us);
    return count;
}

static void a_burst_and_then_a_rate(void **state)
{
    (void)state;
    struct budget budget = {0};
    assert_int_equal(taken(&budget, START_US, 1000), BUDGET_BURST);
    assert_int_equal(taken(&budget, START_US + SECOND_US, 1000), BUDGET_PER_SECOND);
    assert_int_equal(taken(&budget, START_US + SECOND_US, 1000), 0);
    assert_int_equal(taken(&budget, START_US + 3 * SECOND_US, 1000), 2 * BUDGET_PER_SECOND);
    assert_int_equal(taken(&budget, START_US + 1000 * (uint64_t)SECOND_US, 1000), BUDGET_BURST);
}

static void what_is_returned_counts_for_nothing(void **state)
{
    (void)state;
    struct budget budget = {0};
    for (int i = 0; i < 1000; i++) {
        assert_true(budget_take(&budget, START_US));
        budget_return(&budget);
    }
    assert_int_equal(taken(&budget, START_US, 1000), BUDGET_BURST);
}

struct taker {
    pthread_t thread;
    struct budget *budget;
    unsigned count;
};

static void *take(void *user)
{
    struct taker *taker = user;
    taker->count = taken(taker->budget, START_US, TRIES);
    return NULL;
}

static void threads_share_it(void **state)
{
    (void)state;
    struct budget budget = {0};
    struct taker takers[THREADS] = {0};
    unsigned count = 0;
    for (int i = 0; i < THREADS; i++) {
        takers[i].budget = &budget;
        assert_int_equal(pthread_create(&takers[i].thread, NULL, take, &takers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(takers[i].thread, NULL);
        count += takers[i].count;
    }
    assert_int_equal(count, BUDGET_BURST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_and_then_a_rate),
        cmocka_unit_test(what_is_returned_counts_for_nothing),
        cmocka_unit_test(threads_share_it),
    };
    return cmocka_run_group_tests_name("budget", tests, NULL, NULL);
}
