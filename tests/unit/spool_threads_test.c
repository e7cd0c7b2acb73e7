/* All threads of a spool at once: two workers, the writer, the preparer, a courier that reads and
 * finishes, and one that asks for the counters. Meant for the thread sanitizer; what it checks by
 * itself is that every message is read back whole and that segments are recycled meanwhile. */
#include "tests/support/spool_help.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS = 2, EACH = 1500, WINDOW = 50 };

struct worker {
    struct help help; /* only bell and spool are used */
    struct staging *ring;
    uint64_t first_id;
    uint64_t failed;
};

static void wake(void *user)
{
    bell_ring(user);
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    for (uint64_t i = 0; i < EACH; i += WINDOW) {
        uint64_t ends[WINDOW];
        for (uint64_t j = 0; j < WINDOW; j++) {
            uint64_t id = worker->first_id + i + j;
            ends[j] = help_message(&worker->help, worker->ring, id, id * 131 % 20000, 3000, 1);
            staging_publish(worker->ring, j % 7 == 0);
        }
        for (uint64_t j = 0; j < WINDOW; j++)
            worker->failed += help_wait(&worker->help, worker->ring, ends[j]) != STAGING_DURABLE;
        staging_acknowledge(worker->ring, staging_settled(worker->ring));
    }
    return NULL;
}

struct courier {
    struct help *help;
    struct staging *ring;
    uint64_t damaged, read;
};

/* Waits until the DONE records up to `end` are durable, then lets the messages go. */
static void finish(struct courier *courier, const struct spool_message *messages, size_t count,
                   uint64_t end)
{
    CHECK(help_wait(courier->help, courier->ring, end) == STAGING_DURABLE);
    staging_acknowledge(courier->ring, end);
    for (size_t i = 0; i < count; i++)
        spool_release(courier->help->spool, &messages[i]);
}

static void *deliver(void *argument)
{
    struct courier *courier = argument;
    struct spool *spool = courier->help->spool;
    while (courier->read < WORKERS * EACH) {
        struct spool_message messages[64];
        size_t count = spool_arrivals(spool, messages, 64);
        uint64_t end = 0;
        for (size_t i = 0; i < count; i++) {
            courier->damaged += help_check(courier->help, &messages[i]) != 0;
            end = help_done(courier->help, courier->ring, messages[i].message_id,
                            RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
        }
        courier->read += count;
        if (count != 0)
            finish(courier, messages, count, end);
        else
            bell_wait(&courier->help->bell, 1000);
    }
    return NULL;
}

static void everybody_at_once(void **state)
{
    struct help help;
    struct worker workers[WORKERS];
    pthread_t threads[WORKERS + 1];
    help_new(&help);
    assert_true(help_try_open(&help));
    for (uint64_t i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.first_id = 1 + i * EACH};
        workers[i].help.spool = help.spool;
        workers[i].ring = spool_port(help.spool, wake, &workers[i].help.bell);
        assert_non_null(workers[i].ring);
    }
    struct courier courier = {.help = &help, .ring = help.ring};
    assert_int_equal(spool_start(help.spool), 0);
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    assert_int_equal(pthread_create(&threads[WORKERS], NULL, deliver, &courier), 0);
    struct spool_snapshot snapshot = {0};
    while (snapshot.commits < WORKERS * EACH) {
        usleep(1000);
        spool_snapshot(help.spool, &snapshot);
        assert_int_equal(spool_state(help.spool), SPOOL_OPEN);
        (void)spool_pinned(help.spool);
    }
    for (int i = 0; i <= WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(workers[0].failed + workers[1].failed, 0);
    assert_int_equal(courier.damaged, 0);
    /* About 30 MB went through segments of 1 MiB. */
    assert_true(snapshot.octets > 25 * help.options.segment_size);
    for (int i = 0; i < 1000 && snapshot.segments_live > 2; i++) {
        usleep(1000);
        spool_snapshot(help.spool, &snapshot);
    }
    assert_in_range(snapshot.segments_live, 0, 2);
    help_free(&help);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_at_once),
    };
    return cmocka_run_group_tests_name("spool_threads", tests, NULL, NULL);
}
