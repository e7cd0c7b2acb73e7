/* The writer when the disk fails: short writes, errors of one write and of many, no room, and back.
 */
#include "tests/support/spool_help.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Waits until the preparer has done its writing: errors that are put in then are met by the writer.
 */
static void wait_prepared(struct help *help)
{
    struct spool_snapshot snapshot = {0};
    while (snapshot.segments_ready < 2) {
        usleep(1000);
        spool_snapshot(help->spool, &snapshot);
    }
}

static void open_failing(struct help *help)
{
    help_new(help);
    help->options.io = &help_io;
    atomic_store(&help_disk.error, EIO);
    help_open(help);
    wait_prepared(help);
}

static bool wait_state(struct help *help, enum spool_state wanted)
{
    for (int i = 0; i < 5000 && spool_state(help->spool) != wanted; i++)
        usleep(1000);
    return spool_state(help->spool) == wanted;
}

static void short_writes_go_on(void **state)
{
    struct help help;
    open_failing(&help);
    atomic_store(&help_disk.short_writes, true);
    uint64_t end = help_message(&help, help.ring, 1, 100000, 16384, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    assert_true(atomic_load(&help_disk.writes) > 25);
    struct spool_message *arrived = help_arrivals(&help, 1);
    arrived->port = SPOOL_PORT_NONE;
    assert_int_equal(help_check(&help, arrived), 0);
    free(arrived);
    help_free(&help);
    (void)state;
}

/* One error, of a write or of a sync: nobody sees it but the log. */
static void one_error_is_mended(bool sync)
{
    struct help help;
    open_failing(&help);
    help_body(&help, help.ring, 9, 0, 0, 3000);
    uint64_t end = help_message(&help, help.ring, 1, 10000, 4000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    /* A message that is open across the failure, and one that lies wholly in it. */
    wait_prepared(&help);
    atomic_store(sync ? &help_disk.bad_syncs : &help_disk.bad_writes, 1);
    help_body(&help, help.ring, 9, 1, 3000, 3000);
    end = help_message(&help, help.ring, 2, 10000, 4000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    help_body(&help, help.ring, 9, 2, 6000, 3000);
    end = help_commit(&help, help.ring, 9, 3, 9000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *arrived = help_arrivals(&help, 3);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(help_check(&help, &arrived[i]), 0);
        arrived[i].port = SPOOL_PORT_NONE;
        assert_int_equal(help_check(&help, &arrived[i]), 0);
    }
    assert_true(arrived[1].generation > arrived[0].generation);
    free(arrived);
    assert_int_equal(spool_state(help.spool), SPOOL_OPEN);
    help_close(&help);
    assert_int_equal(help_files(&help, ".poisoned."), 1);
    help_open(&help);
    assert_int_equal(help.recovered_count, 3);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(help_check(&help, &help.recovered[i]), 0);
    /* Released, the poisoned file goes. */
    for (size_t i = 0; i < 3; i++)
        spool_release(help.spool, &help.recovered[i]);
    for (int i = 0; i < 5000 && help_files(&help, ".poisoned.") != 0; i++)
        usleep(1000);
    assert_int_equal(help_files(&help, ".poisoned."), 0);
    help_close(&help);
    assert_int_equal(help_logged(&help, "spool.damaged"), 0);
    help_free(&help);
}

static void one_write_error_is_mended(void **state)
{
    one_error_is_mended(false);
    (void)state;
}

static void one_sync_error_is_mended(void **state)
{
    one_error_is_mended(true);
    (void)state;
}

static void two_errors_break_and_mend(void **state)
{
    struct help help;
    open_failing(&help);
    uint64_t end = help_message(&help, help.ring, 1, 10000, 4000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    help_body(&help, help.ring, 9, 0, 0, 3000);
    help_body(&help, help.ring, 10, 0, 0, 3000);
    end = help_message(&help, help.ring, 2, 1000, 1000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    wait_prepared(&help);
    atomic_store(&help_disk.bad_writes, 3);
    help_body(&help, help.ring, 9, 1, 3000, 3000);
    uint64_t first = help_message(&help, help.ring, 3, 10000, 4000, 1);
    uint64_t second = help_message(&help, help.ring, 4, 10000, 4000, 1);
    assert_int_equal(help_wait(&help, help.ring, second), STAGING_FAILED);
    assert_int_equal(staging_outcome(help.ring, first), STAGING_FAILED);
    staging_acknowledge(help.ring, staging_settled(help.ring));
    assert_int_equal(spool_state(help.spool), SPOOL_BROKEN);
    /* Refused at once while broken. */
    end = help_message(&help, help.ring, 5, 1000, 1000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_FAILED);
    /* The first attempt after a second fails, too; the next one does not. */
    assert_true(wait_state(&help, SPOOL_OPEN));
    /* 9 lost a part, 10 did not. */
    help_body(&help, help.ring, 9, 2, 6000, 3000);
    uint64_t lost = help_commit(&help, help.ring, 9, 3, 9000, 1);
    end = help_commit(&help, help.ring, 10, 1, 3000, 1);
    assert_int_equal(help_wait(&help, help.ring, lost), STAGING_FAILED);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *arrived = help_arrivals(&help, 3);
    assert_int_equal(arrived[0].message_id, 1);
    assert_int_equal(arrived[1].message_id, 2);
    assert_int_equal(arrived[2].message_id, 10);
    for (int i = 0; i < 3; i++)
        assert_int_equal(help_check(&help, &arrived[i]), 0);
    struct spool_snapshot snapshot;
    spool_snapshot(help.spool, &snapshot);
    assert_int_equal(snapshot.commits, 3);
    assert_int_equal(snapshot.write_errors, 2);
    free(arrived);
    help_crash(&help);
    help_open(&help);
    assert_non_null(help_recovered(&help, 1));
    assert_non_null(help_recovered(&help, 2));
    assert_non_null(help_recovered(&help, 10));
    assert_null(help_recovered(&help, 5));
    assert_null(help_recovered(&help, 9));
    for (size_t i = 0; i < help.recovered_count; i++)
        assert_int_equal(help_check(&help, &help.recovered[i]), 0);
    help_close(&help);
    assert_int_equal(help_logged(&help, "spool.damaged"), 0);
    help_free(&help);
    (void)state;
}

/* An error at each write of a run, once, twice and three times: what was answered durable is there
 * afterwards, and what was answered failed did not arrive. */
static void errors_everywhere(void **state)
{
    for (int count = 1; count <= 3; count++) {
        for (int at = 0; at < 12; at++) {
            enum { MESSAGES = 12 };
            bool durable[MESSAGES + 1] = {false};
            size_t durable_count = 0;
            struct help help;
            open_failing(&help);
            atomic_store(&help_disk.good_writes, at);
            atomic_store(&help_disk.bad_writes, count);
            for (uint64_t id = 1; id <= MESSAGES; id++) {
                uint64_t end = help_message(&help, help.ring, id, 60000, 20000, 1);
                durable[id] = help_wait(&help, help.ring, end) == STAGING_DURABLE;
                durable_count += durable[id];
                staging_acknowledge(help.ring, staging_settled(help.ring));
            }
            struct spool_message *arrived = help_arrivals(&help, durable_count);
            struct spool_message more;
            assert_int_equal(spool_arrivals(help.spool, &more, 1), 0);
            for (size_t i = 0; i < durable_count; i++) {
                assert_true(durable[arrived[i].message_id]);
                assert_int_equal(help_check(&help, &arrived[i]), 0);
            }
            free(arrived);
            help_crash(&help);
            help_open(&help);
            for (uint64_t id = 1; id <= MESSAGES; id++) {
                const struct spool_message *message = help_recovered(&help, id);
                assert_true(message != NULL || !durable[id]);
                if (message != NULL)
                    assert_int_equal(help_check(&help, message), 0);
            }
            help_close(&help);
            assert_int_equal(help_logged(&help, "spool.damaged"), 0);
            help_free(&help);
        }
    }
    (void)state;
}

static void full_disk_and_back(void **state)
{
    struct help help;
    open_failing(&help);
    atomic_store(&help_disk.error, ENOSPC);
    atomic_store(&help_disk.bad_allocations, 1000000);
    /* The active one and two ready ones are filled; the state says full while there is room for
     * those who are past MAIL. */
    enum staging_outcome outcome = STAGING_DURABLE;
    uint64_t id = 0;
    uint64_t full_at = 0;
    while (outcome == STAGING_DURABLE) {
        id++;
        outcome = help_wait(&help, help.ring, help_message(&help, help.ring, id, 50000, 50000, 1));
        usleep(1000);
        if (full_at == 0 && spool_state(help.spool) == SPOOL_FULL)
            full_at = id;
        assert_true(id < 100);
    }
    assert_int_equal(outcome, STAGING_DISK_FULL);
    staging_acknowledge(help.ring, staging_settled(help.ring));
    assert_int_equal(spool_state(help.spool), SPOOL_FULL);
    assert_in_range(id - full_at, 10, 20);
    /* Small ones still fit, so that DONE records can be written. */
    uint64_t end = help_done(&help, help.ring, 1, RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    /* Releasing the messages of the oldest segment makes room without any allocation. */
    struct spool_message *arrived = help_arrivals(&help, id - 1);
    for (uint64_t i = 0; i + 1 < id; i++) {
        assert_int_equal(help_check(&help, &arrived[i]), 0);
        if (arrived[i].first_generation == arrived[0].first_generation)
            spool_release(help.spool, &arrived[i]);
    }
    free(arrived);
    assert_true(wait_state(&help, SPOOL_OPEN));
    end = help_message(&help, help.ring, 500, 50000, 50000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    /* And so does a disk that has room again. */
    atomic_store(&help_disk.bad_allocations, 0);
    assert_true(wait_state(&help, SPOOL_OPEN));
    for (uint64_t i = 501; i < 530; i++) {
        end = help_message(&help, help.ring, i, 50000, 50000, 1);
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    }
    help_free(&help);
    (void)state;
}

/* A full disk at the start: opens all the same, says full, and mends. */
static void full_at_start(void **state)
{
    struct help help;
    help_new(&help);
    help.options.io = &help_io;
    atomic_store(&help_disk.error, ENOSPC);
    atomic_store(&help_disk.bad_allocations, 1000000);
    help_open(&help);
    assert_int_equal(spool_state(help.spool), SPOOL_FULL);
    uint64_t end = help_message(&help, help.ring, 1, 1000, 1000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DISK_FULL);
    staging_acknowledge(help.ring, staging_settled(help.ring));
    atomic_store(&help_disk.bad_allocations, 0);
    assert_true(wait_state(&help, SPOOL_OPEN));
    end = help_message(&help, help.ring, 2, 1000, 1000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    help_free(&help);
    (void)state;
}

/* A restart on a full disk: DONE records still find room, and with them everything gets going
 * again. */
static void full_and_restarted(void **state)
{
    struct help help;
    open_failing(&help);
    atomic_store(&help_disk.error, ENOSPC);
    atomic_store(&help_disk.bad_allocations, 1000000);
    uint64_t id = 0;
    while (spool_state(help.spool) != SPOOL_FULL) {
        uint64_t end = help_message(&help, help.ring, ++id, 50000, 50000, 1);
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
        usleep(1000);
    }
    for (int restart = 0; restart < 3; restart++) {
        help_crash(&help);
        help_open(&help);
        assert_int_equal(spool_state(help.spool), SPOOL_FULL);
        assert_int_equal(help.recovered_count, id - (uint64_t)restart);
        uint64_t done = help.recovered[0].message_id;
        uint64_t end =
            help_done(&help, help.ring, done, RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
        spool_release(help.spool, &help.recovered[0]);
    }
    for (uint64_t i = 1; i < help.recovered_count; i++) {
        uint64_t end = help_done(&help, help.ring, help.recovered[i].message_id,
                                 RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
        spool_release(help.spool, &help.recovered[i]);
    }
    assert_true(wait_state(&help, SPOOL_OPEN));
    uint64_t end = help_message(&help, help.ring, 500, 50000, 50000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    help_crash(&help);
    help_open(&help);
    assert_int_equal(help.recovered_count, 1);
    assert_int_equal(help.recovered[0].message_id, 500);
    help_close(&help);
    assert_int_equal(help_logged(&help, "spool.damaged"), 0);
    help_free(&help);
    (void)state;
}

/* A batch may be longer than what is left in the segment, and than any segment. */
static void too_long_for_a_segment(void **state)
{
    struct help help;
    help_new(&help);
    help.options.segment_size = 64 * 1024;
    help_open(&help);
    uint64_t end = help_message(&help, help.ring, 1, 100000, 100000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DISK_FULL);
    staging_acknowledge(help.ring, staging_settled(help.ring));
    end = help_message(&help, help.ring, 2, 30000, 30000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    help_free(&help);
    (void)state;
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Records that nobody waits for wait 20 ms for company, no longer; text alone waits for more text.
 */
static void company(void **state)
{
    struct help help;
    help_new(&help);
    help_open(&help);
    uint64_t end = help_done(&help, help.ring, 1, RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
    uint64_t start = now_ms();
    staging_publish(help.ring, false);
    assert_false(staging_unpublished(help.ring));
    while (staging_settled(help.ring) < end)
        usleep(500);
    assert_in_range(now_ms() - start, 19, 3000);
    help_body(&help, help.ring, 1, 0, 0, 1000);
    staging_publish(help.ring, false);
    assert_true(staging_unpublished(help.ring));
    for (uint32_t part = 1; part < 4; part++)
        help_body(&help, help.ring, 1, part, 1000, 100000);
    staging_publish(help.ring, false);
    assert_false(staging_unpublished(help.ring));
    help_free(&help);
    (void)state;
}

/* The child process: lays down mail in the directory and says on standard output what is durable,
 * until it is killed. */
static int child(const char *path)
{
    struct help help;
    help_new(&help);
    rmdir(help.path);
    help.options.path = path;
    help_open(&help);
    for (uint64_t first = 1;; first += 5) {
        uint64_t end = 0;
        for (uint64_t id = first; id < first + 5; id++)
            end = help_message(&help, help.ring, id, id * 37 % 40000, 7000, 1);
        uint64_t durable = first + 4;
        if (help_wait(&help, help.ring, end) != STAGING_DURABLE ||
            write(STDOUT_FILENO, &durable, sizeof durable) != sizeof durable)
            return 1;
        staging_acknowledge(help.ring, staging_settled(help.ring));
        free(help_arrivals(&help, 5));
    }
}

/* Starts the child and kills it after a while; returns the last id that it called durable. */
static uint64_t run_and_kill(const char *path, useconds_t after_us)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "writer_test", "--child", path, (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    uint64_t durable = 0;
    uint64_t one;
    /* The time counts from the first message. */
    if (read(ends[0], &one, sizeof one) == sizeof one)
        durable = one;
    usleep(after_us);
    assert_int_equal(kill(pid, SIGKILL), 0);
    waitpid(pid, NULL, 0);
    while (read(ends[0], &one, sizeof one) == sizeof one)
        durable = one;
    close(ends[0]);
    return durable;
}

static void killed(void **state)
{
    for (useconds_t round = 0; round < 12; round++) {
        struct help help;
        help_new(&help);
        uint64_t durable = run_and_kill(help.path, 1000 + round * 7919);
        assert_true(durable >= 5);
        help_open(&help);
        for (uint64_t id = 1; id <= durable; id++)
            assert_non_null(help_recovered(&help, id));
        for (size_t i = 0; i < help.recovered_count; i++)
            assert_int_equal(help_check(&help, &help.recovered[i]), 0);
        help_close(&help);
        assert_int_equal(help_logged(&help, "spool.damaged"), 0);
        help_free(&help);
    }
    (void)state;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--child") == 0)
        return child(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(short_writes_go_on),
        cmocka_unit_test(one_write_error_is_mended),
        cmocka_unit_test(one_sync_error_is_mended),
        cmocka_unit_test(two_errors_break_and_mend),
        cmocka_unit_test(errors_everywhere),
        cmocka_unit_test(full_disk_and_back),
        cmocka_unit_test(full_at_start),
        cmocka_unit_test(full_and_restarted),
        cmocka_unit_test(too_long_for_a_segment),
        cmocka_unit_test(company),
        cmocka_unit_test(killed),
    };
    return cmocka_run_group_tests_name("writer", tests, NULL, NULL);
}
