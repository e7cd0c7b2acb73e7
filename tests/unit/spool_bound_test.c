/* How many messages may live in a spool: what counts, when it is full and when no more, over copies
 * and restarts, with more than the bound, and with threads. */
#include "tests/support/spool_help.h"

#include "gateway/base/limits.h"
#include "gateway/spool/relocate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static uint64_t living(struct help *help)
{
    struct spool_snapshot snapshot;
    spool_snapshot(help->spool, &snapshot);
    return snapshot.messages;
}

/* put lays down messages with ids from `first` on and returns them as they arrived, owned. */
static struct spool_message *put(struct help *help, uint64_t first, uint32_t count)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < count; i++)
        end = help_message(help, help->ring, first + i, 500, 16384, 1);
    assert_int_equal(help_wait(help, help->ring, end), STAGING_DURABLE);
    return help_arrivals(help, count);
}

static void full_and_open_again(void **state)
{
    (void)state;
    struct help help;
    help_new(&help);
    help.options.messages_max = 5;
    help_open(&help);
    struct spool_snapshot snapshot;
    spool_snapshot(help.spool, &snapshot);
    assert_int_equal(snapshot.messages, 0);
    assert_int_equal(snapshot.messages_max, 5);
    struct spool_message *four = put(&help, 10, 4);
    assert_int_equal(spool_state(help.spool), SPOOL_OPEN);
    struct spool_message *more = put(&help, 20, 3); /* what is under way is still taken */
    assert_int_equal(living(&help), 7);
    assert_int_equal(spool_state(help.spool), SPOOL_QUEUE_FULL);
    spool_release(help.spool, &more[0]);
    spool_release(help.spool, &four[0]);
    assert_int_equal(living(&help), 5);
    assert_int_equal(spool_state(help.spool), SPOOL_QUEUE_FULL);
    spool_release(help.spool, &four[1]);
    assert_int_equal(spool_state(help.spool), SPOOL_OPEN);
    for (int round = 0; round < 3; round++) {
        struct spool_message *one = put(&help, 30 + (uint64_t)round, 1);
        assert_int_equal(spool_state(help.spool), SPOOL_QUEUE_FULL);
        spool_release(help.spool, one);
        assert_int_equal(spool_state(help.spool), SPOOL_OPEN);
        free(one);
    }
    assert_int_equal(living(&help), 4);
    free(four);
    free(more);
    help_free(&help);
}

/* An aborted message never lived; a second process finds what lives, though it be too many. */
static void over_a_restart(void **state)
{
    (void)state;
    struct help help;
    help_new(&help);
    help_open(&help);
    struct spool_message *all = put(&help, 10, 6);
    help_body(&help, help.ring, 99, 0, 0, 100); /* never committed */
    uint64_t end = help_done(&help, help.ring, 10, 0, RECORD_DELIVERED, 0);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    spool_release(help.spool, &all[0]);
    assert_int_equal(living(&help), 5);
    assert_int_equal(spool_state(help.spool), SPOOL_OPEN); /* no bound */
    help_close(&help);

    help.options.messages_max = 3;
    help_open(&help);
    assert_int_equal(help.recovered_count, 5);
    assert_int_equal(living(&help), 5);
    assert_int_equal(spool_state(help.spool), SPOOL_QUEUE_FULL);
    spool_bound(help.spool, 5);
    assert_int_equal(spool_state(help.spool), SPOOL_QUEUE_FULL);
    spool_bound(help.spool, 6);
    assert_int_equal(spool_state(help.spool), SPOOL_OPEN);
    spool_bound(help.spool, 3);
    assert_int_equal(spool_state(help.spool), SPOOL_QUEUE_FULL);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(spool_state(help.spool), i < 3 ? SPOOL_QUEUE_FULL : SPOOL_OPEN);
        spool_release(help.spool, &help.recovered[i]);
    }
    assert_int_equal(living(&help), 0);
    spool_bound(help.spool, 0);
    assert_int_equal(spool_state(help.spool), SPOOL_OPEN);
    free(all);
    help_free(&help);
}

/* A copy takes the place of its message: it counts once in the end. */
static void a_copy_is_no_more(void **state)
{
    (void)state;
    struct help help;
    help_new(&help);
    help.options.messages_max = 3;
    help_open(&help);
    struct spool_message *two = put(&help, 10, 2);
    struct relocation copy = {0};
    assert_int_equal(relocation_begin(&copy, help.spool, help.ring, &two[0]), 0);
    int error = -EINPROGRESS;
    for (int steps = 0; error == -EINPROGRESS && steps < 100; steps++)
        error = relocation_step(&copy, NULL, 0, 0);
    assert_int_equal(error, 0);
    relocation_close(&copy);
    staging_publish(help.ring, true);
    struct spool_message *moved = help_arrivals(&help, 1);
    assert_int_equal(moved->message_id, 10);
    spool_release(help.spool, &two[0]);
    assert_int_equal(living(&help), 2);
    assert_int_equal(spool_state(help.spool), SPOOL_OPEN);
    spool_release(help.spool, moved);
    spool_release(help.spool, &two[1]);
    assert_int_equal(living(&help), 0);
    free(moved);
    free(two);
    help_free(&help);
}

/* --- the writer adds while another thread takes away --- */

enum { ROUNDS = 60, EACH = 20 };

/* It looks now and then: the bell is the other thread's. */
static void *release_all(void *argument)
{
    struct help *help = argument;
    struct spool_message arrived[EACH];
    for (size_t released = 0; released < ROUNDS * EACH;) {
        size_t count = spool_arrivals(help->spool, arrived, EACH);
        for (size_t i = 0; i < count; i++)
            spool_release(help->spool, &arrived[i]);
        released += count;
        if (count == 0)
            usleep(500);
    }
    return NULL;
}

static void with_threads(void **state)
{
    (void)state;
    struct help help;
    pthread_t thread;
    help_new(&help);
    help.options.messages_max = EACH / 2;
    help_open(&help);
    assert_int_equal(pthread_create(&thread, NULL, release_all, &help), 0);
    uint64_t end = 0;
    for (uint64_t i = 0; i < ROUNDS * EACH; i++) {
        end = help_message(&help, help.ring, 100 + i, 100, 16384, 1);
        if (i % 7 == 0)
            assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    }
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    pthread_join(thread, NULL);
    assert_int_equal(living(&help), 0);
    assert_int_equal(spool_state(help.spool), SPOOL_OPEN);
    free(put(&help, 1000000, EACH / 2));
    assert_int_equal(spool_state(help.spool), SPOOL_QUEUE_FULL);
    help_free(&help);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_and_open_again),
        cmocka_unit_test(over_a_restart),
        cmocka_unit_test(a_copy_is_no_more),
        cmocka_unit_test(with_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
