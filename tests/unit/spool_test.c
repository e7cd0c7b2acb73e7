/* The spool as a whole, on a real file system: what was durable comes back, in every shape. */
#include "tests/support/spool_help.h"

#include "gateway/base/check.h"
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
#include <string.h>
#include <unistd.h>

static void one_message_round_trip(void **state)
{
    struct help help;
    help_new(&help);
    help_open(&help);
    uint64_t end = help_message(&help, help.ring, 7, 5000, 16384, 2);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *arrived = help_arrivals(&help, 1);
    assert_int_equal(arrived->message_id, 7);
    assert_int_equal(arrived->text_len, 5000);
    assert_int_equal(arrived->recipient_count, 2);
    assert_int_equal(arrived->arrival_s, 7);
    assert_int_equal(help_check(&help, arrived), 0);
    /* The same from disk. */
    arrived->port = SPOOL_PORT_NONE;
    assert_int_equal(help_check(&help, arrived), 0);
    spool_release(help.spool, arrived);
    free(arrived);
    help_free(&help);
    (void)state;
}

static void every_size_comes_back(void **state)
{
    static const size_t sizes[] = {0,    1,    7,    8,     9,     63,     64,     3900,
                                   4031, 4032, 4096, 16384, 50000, 131072, 200000, 400000};
    static const size_t pieces[] = {131072, 16384, 1000};
    struct help help;
    help_new(&help);
    help_open(&help);
    uint64_t id = 100;
    for (size_t p = 0; p < sizeof pieces / sizeof pieces[0]; p++) {
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++, id++) {
            uint64_t end = help_message(&help, help.ring, id, sizes[s], pieces[p], 1);
            assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
            struct spool_message *arrived = help_arrivals(&help, 1);
            assert_int_equal(arrived->message_id, id);
            assert_int_equal(help_check(&help, arrived), 0);
            arrived->port = SPOOL_PORT_NONE;
            assert_int_equal(help_check(&help, arrived), 0);
            free(arrived);
        }
    }
    help_crash(&help);
    help_open(&help);
    assert_int_equal(help.recovered_count, id - 100);
    for (size_t i = 0; i < help.recovered_count; i++) {
        assert_int_equal(help.recovered[i].message_id, 100 + i);
        assert_int_equal(help_check(&help, &help.recovered[i]), 0);
    }
    assert_int_equal(spool_message_id_min(help.spool), id);
    help_free(&help);
    (void)state;
}

/* Many messages open at once in one ring, their parts mixed, spread over several segments. */
static void interleaved_messages(void **state)
{
    enum { MESSAGES = 20, PARTS = 40, PIECE = 3000 };
    struct help help;
    help_new(&help);
    help_open(&help);
    for (uint32_t part = 0; part < PARTS; part++)
        for (uint64_t id = 1; id <= MESSAGES; id++)
            help_body(&help, help.ring, id, part, (size_t)part * PIECE, PIECE);
    uint64_t end = 0;
    for (uint64_t id = 1; id <= MESSAGES; id++)
        end = help_commit(&help, help.ring, id, PARTS, PARTS * PIECE, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *arrived = help_arrivals(&help, MESSAGES);
    assert_true(arrived[0].generation > arrived[0].first_generation);
    for (uint64_t id = 1; id <= MESSAGES; id++) {
        assert_int_equal(arrived[id - 1].message_id, id);
        assert_int_equal(help_check(&help, &arrived[id - 1]), 0);
    }
    free(arrived);
    help_crash(&help);
    help_open(&help);
    assert_int_equal(help.recovered_count, MESSAGES);
    for (size_t i = 0; i < MESSAGES; i++)
        assert_int_equal(help_check(&help, &help.recovered[i]), 0);
    help_free(&help);
    (void)state;
}

static void aborted_and_open_messages_vanish(void **state)
{
    struct help help;
    help_new(&help);
    help_open(&help);
    help_body(&help, help.ring, 1, 0, 0, 1000);
    help_body(&help, help.ring, 2, 0, 0, 1000);
    assert_non_null(staging_reserve(help.ring, 0));
    staging_append(help.ring, RECORD_ABORT, 1, 0, 0);
    uint64_t end = help_message(&help, help.ring, 3, 1000, 1000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *arrived = help_arrivals(&help, 1);
    assert_int_equal(arrived->message_id, 3);
    free(arrived);
    help_crash(&help);
    help_open(&help);
    assert_int_equal(help.recovered_count, 1);
    assert_int_equal(help.recovered[0].message_id, 3);
    help_free(&help);
    (void)state;
}

static void done_records_count(void **state)
{
    struct help help;
    help_new(&help);
    help_open(&help);
    for (uint64_t id = 1; id <= 5; id++)
        help_message(&help, help.ring, id, 1000, 1000, 3);
    help_done(&help, help.ring, 1, RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
    help_done(&help, help.ring, 2, 1, RECORD_REFUSED, 0);
    for (uint32_t i = 0; i < 3; i++)
        help_done(&help, help.ring, 3, i, i == 1 ? RECORD_EXPIRED : RECORD_DELIVERED, 0);
    uint64_t end = help_done(&help, help.ring, 4, RECORD_ALL_RECIPIENTS, RECORD_DEFERRED, 1234);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    help_crash(&help);
    help_open(&help);
    assert_int_equal(help.recovered_count, 3);
    assert_int_equal(help.recovered[0].message_id, 2);
    assert_int_equal(help.recovered_done[0], 1 << 1);
    assert_int_equal(help.recovered[1].message_id, 4);
    assert_int_equal(help.recovered_next[1], 1234);
    assert_int_equal(help.recovered[1].attempts, 3);
    assert_int_equal(help.recovered[2].message_id, 5);
    assert_int_equal(help.recovered_done[2], 0);
    help_free(&help);
    (void)state;
}

/* Hundreds of times around the disk with a few files: nothing old comes to life. */
static void recycling_over_generations(void **state)
{
    struct help help;
    help_new(&help);
    help.options.sync = SPOOL_SYNC_NONE;
    help_open(&help);
    uint64_t id = 1;
    for (int round = 0; round < 400; round++) {
        enum { EACH = 10 };
        uint64_t end = 0;
        for (int i = 0; i < EACH; i++, id++) {
            end = help_message(&help, help.ring, id, 30000, 16384, 1);
        }
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
        struct spool_message *arrived = help_arrivals(&help, EACH);
        for (int i = 0; i < EACH; i++)
            help_done(&help, help.ring, arrived[i].message_id, RECORD_ALL_RECIPIENTS,
                      RECORD_DELIVERED, 0);
        assert_int_equal(help_wait(&help, help.ring,
                                   help_done(&help, help.ring, id - 1, RECORD_ALL_RECIPIENTS,
                                             RECORD_DELIVERED, 0)),
                         STAGING_DURABLE);
        staging_acknowledge(help.ring, staging_settled(help.ring));
        for (int i = 0; i < EACH; i++)
            spool_release(help.spool, &arrived[i]);
        free(arrived);
        if (round % 100 == 99) {
            uint64_t last = help_message(&help, help.ring, id, 30000, 16384, 1);
            assert_int_equal(help_wait(&help, help.ring, last), STAGING_DURABLE);
            help_crash(&help);
            help_open(&help);
            assert_int_equal(help.recovered_count, 1);
            assert_int_equal(help.recovered[0].message_id, id);
            assert_int_equal(help_check(&help, &help.recovered[0]), 0);
            last = help_done(&help, help.ring, id++, RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
            assert_int_equal(help_wait(&help, help.ring, last), STAGING_DURABLE);
            spool_release(help.spool, &help.recovered[0]);
        }
    }
    struct spool_snapshot snapshot;
    spool_snapshot(help.spool, &snapshot);
    assert_in_range(snapshot.segments_total, 1, 12);
    assert_true(help_files(&help, ".segment") <= 12);
    assert_int_equal(snapshot.records_damaged, 0);
    help_free(&help);
    (void)state;
}

/* Messages that were let go without a DONE record come back only as long as their segment was not
 * recycled. */
static void recycled_segments_are_empty(void **state)
{
    enum { MESSAGES = 60 };
    struct help help;
    help_new(&help);
    help.options.ready_count = 8;
    help.options.io = &help_io;
    help_open(&help);
    struct spool_snapshot snapshot = {0};
    while (snapshot.segments_ready < 8)
        spool_snapshot(help.spool, &snapshot);
    /* No new files from here on: what becomes ready is recycled. */
    atomic_store(&help_disk.error, ENOSPC);
    atomic_store(&help_disk.bad_allocations, 1000000);
    uint64_t end = 0;
    for (uint64_t id = 1; id <= MESSAGES; id++)
        end = help_message(&help, help.ring, id, 100000, 100000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *arrived = help_arrivals(&help, MESSAGES);
    spool_snapshot(help.spool, &snapshot);
    assert_true(snapshot.segments_live > 4);
    for (int i = 0; i < MESSAGES; i++)
        spool_release(help.spool, &arrived[i]);
    for (int i = 0; i < 5000 && snapshot.segments_ready < 7; i++) {
        usleep(1000);
        spool_snapshot(help.spool, &snapshot);
    }
    assert_int_equal(snapshot.segments_live, 1);
    assert_int_equal(snapshot.segments_ready, 7);
    uint64_t last = arrived[MESSAGES - 1].generation;
    free(arrived);
    help_crash(&help);
    help_open(&help);
    assert_in_range(help.recovered_count, 1, MESSAGES / 2);
    for (size_t i = 0; i < help.recovered_count; i++)
        assert_int_equal(help.recovered[i].first_generation, last);
    help_close(&help);
    assert_int_equal(help_logged(&help, "spool.damaged"), 0);
    help_free(&help);
    (void)state;
}

static void second_process_is_refused(void **state)
{
    struct help help;
    help_new(&help);
    help_open(&help);
    char error[256];
    assert_null(spool_open(&help.options, NULL, NULL, error, sizeof error));
    assert_non_null(strstr(error, "in use"));
    help_free(&help);
    (void)state;
}

static void sync_modes(void **state)
{
    static const enum spool_sync modes[] = {SPOOL_SYNC_AUTO, SPOOL_SYNC_DSYNC, SPOOL_SYNC_FDATASYNC,
                                            SPOOL_SYNC_NONE};
    for (size_t i = 0; i < 4; i++) {
        struct help help;
        help_new(&help);
        help.options.sync = modes[i];
        help_open(&help);
        if (modes[i] == SPOOL_SYNC_NONE)
            assert_string_equal(spool_sync_used(help.spool), "none");
        if (modes[i] == SPOOL_SYNC_FDATASYNC)
            assert_string_equal(spool_sync_used(help.spool), "fdatasync");
        uint64_t end = help_message(&help, help.ring, 1, 5000, 5000, 1);
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
        help_close(&help);
        if (modes[i] == SPOOL_SYNC_AUTO)
            assert_int_equal(help_logged(&help, "spool.probe"), 1);
        help_free(&help);
    }
    (void)state;
}

/* Stages a copy; waits for room as often as needed, and counts that in `waits`. */
static int relocate_slowly(struct help *help, const struct spool_message *message,
                           const uint8_t *done, uint64_t next_attempt_s, int *waits)
{
    struct relocation copy = {0};
    int error = relocation_begin(&copy, help->spool, help->ring, message);
    *waits = 0;
    while (error == 0) {
        error = relocation_step(&copy, done, next_attempt_s, 0);
        if (error == 0)
            break;
        if (error == -EAGAIN) {
            staging_publish(help->ring, true);
            usleep(1000);
            ++*waits;
        }
        if (error == -EAGAIN || error == -EINPROGRESS)
            error = 0;
    }
    relocation_close(&copy);
    return error;
}

static int relocate(struct help *help, const struct spool_message *message, const uint8_t *done,
                    uint64_t next_attempt_s)
{
    int waits;
    return relocate_slowly(help, message, done, next_attempt_s, &waits);
}

/* Compaction: an old message behind dead segments goes to the end, with what is known about it. */
static void relocation(void **state)
{
    struct help help;
    help_new(&help);
    help_open(&help);
    uint64_t end = help_message(&help, help.ring, 1, 20000, 7000, 3);
    end = help_message(&help, help.ring, 2, 0, 7000, 2);
    end = help_done(&help, help.ring, 1, 1, RECORD_DELIVERED, 0);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *old = help_arrivals(&help, 2);
    assert_int_equal(spool_pinned(help.spool), 0);
    for (uint64_t id = 100; id < 160; id++) {
        end = help_message(&help, help.ring, id, 100000, 50000, 1);
        end = help_done(&help, help.ring, id, RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
        struct spool_message *arrived = help_arrivals(&help, 1);
        spool_release(help.spool, arrived);
        free(arrived);
    }
    assert_true(spool_pinned(help.spool) > old->first_generation);
    uint8_t done[1] = {1 << 1};
    assert_int_equal(relocate(&help, &old[0], done, 777), 0);
    assert_int_equal(relocate(&help, &old[1], NULL, 0), 0);
    staging_publish(help.ring, true);
    struct spool_message *copy = help_arrivals(&help, 2);
    assert_int_equal(copy[0].message_id, 1);
    assert_true(copy[0].first_generation > old[0].first_generation);
    assert_int_equal(help_check(&help, &copy[0]), 0);
    assert_int_equal(help_check(&help, &copy[1]), 0);
    spool_release(help.spool, &old[0]);
    spool_release(help.spool, &old[1]);
    free(old);
    free(copy);
    /* The old segments go. */
    struct spool_snapshot snapshot = {.segments_live = 100};
    for (int i = 0; i < 1000 && snapshot.segments_live > 2; i++) {
        usleep(5000);
        spool_snapshot(help.spool, &snapshot);
    }
    assert_in_range(snapshot.segments_live, 1, 2);
    help_crash(&help);
    help_open(&help);
    assert_int_equal(help.recovered_count, 2);
    assert_int_equal(help.recovered[0].message_id, 1);
    assert_int_equal(help.recovered_done[0], 1 << 1);
    assert_int_equal(help.recovered_next[0], 777);
    assert_int_equal(help_check(&help, &help.recovered[0]), 0);
    assert_int_equal(help_check(&help, &help.recovered[1]), 0);
    help_free(&help);
    (void)state;
}

/* A copy of a message that is longer than its ring goes over many batches and segments, with other
 * mail between; a crash before its end leaves the old one, one after it the new one. */
static void relocation_of_a_long_message(void **state)
{
    enum { TEXT = 1500000 };
    struct help help;
    help_new(&help);
    help_open(&help);
    assert_true(TEXT > 2 * help.options.staging_size);
    uint64_t end = help_message(&help, help.ring, 1, TEXT, 50000, 3);
    end = help_done(&help, help.ring, 1, 2, RECORD_DELIVERED, 0);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *old = help_arrivals(&help, 1);

    struct relocation copy = {0};
    uint8_t done[1] = {1 << 2};
    assert_int_equal(relocation_begin(&copy, help.spool, help.ring, old), 0);
    uint64_t id = 100;
    int error = -EINPROGRESS;
    while (copy.octets < TEXT / 2) {
        error = relocation_step(&copy, done, 777, 4);
        assert_true(error == -EINPROGRESS || error == -EAGAIN);
        if (error == -EINPROGRESS && id < 110)
            end = help_message(&help, help.ring, id++, 3000, 3000, 1);
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    }
    free(help_arrivals(&help, 10));
    help_crash(&help);
    relocation_close(&copy);
    help_open(&help);
    assert_int_equal(help.recovered_count, 11);
    assert_int_equal(help.recovered[0].message_id, 1);
    assert_int_equal(help.recovered[0].first_generation, old->first_generation);
    assert_int_equal(help_check(&help, &help.recovered[0]), 0);
    free(old);

    struct spool_message second = help.recovered[0];
    int waits;
    assert_int_equal(relocate_slowly(&help, &second, done, 777, &waits), 0);
    assert_true(waits > 0);
    staging_publish(help.ring, true);
    struct spool_message *arrived = help_arrivals(&help, 1);
    assert_true(arrived->first_generation > second.first_generation);
    assert_true(arrived->generation > arrived->first_generation);
    assert_int_equal(help_check(&help, arrived), 0);
    struct spool_snapshot snapshot;
    spool_snapshot(help.spool, &snapshot);
    assert_in_range(snapshot.octets_relocated, TEXT, TEXT + 10000);
    spool_release(help.spool, &second);
    for (size_t i = 1; i < help.recovered_count; i++)
        spool_release(help.spool, &help.recovered[i]);
    for (int i = 0; i < 1000 && snapshot.segments_live > 3; i++) {
        usleep(5000);
        spool_snapshot(help.spool, &snapshot);
    }
    help_crash(&help);
    help_open(&help);
    const struct spool_message *found = help_recovered(&help, 1);
    assert_non_null(found);
    assert_int_equal(found->first_generation, arrived->first_generation);
    assert_int_equal(found->attempts, 0);
    assert_int_equal(help_check(&help, found), 0);
    assert_int_equal(help.recovered_done[found - help.recovered], 1 << 2);
    assert_int_equal(help.recovered_next[found - help.recovered], 777);
    free(arrived);
    help_close(&help);
    assert_int_equal(help_logged(&help, "spool.damaged"), 0);
    help_free(&help);
    (void)state;
}

/* A copy whose text can't be read comes to nothing, and keeps nothing. */
static void relocation_of_a_damaged_message(void **state)
{
    struct help help;
    help_new(&help);
    help_open(&help);
    uint64_t end = help_message(&help, help.ring, 1, 600000, 50000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *old = help_arrivals(&help, 1);
    for (uint64_t id = 100; id < 110; id++)
        end = help_message(&help, help.ring, id, 100000, 50000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *others = help_arrivals(&help, 10);
    char name[64];
    int descriptor = help_file(&help, ".segment", name, sizeof name);
    assert_int_equal(pwrite(descriptor, "damage", 6, old->offset - 200000), 6);
    close(descriptor);
    assert_int_equal(relocate(&help, old, NULL, 0), -EBADMSG);
    staging_publish(help.ring, true);
    spool_release(help.spool, old);
    for (int i = 0; i < 10; i++)
        spool_release(help.spool, &others[i]);
    end = help_message(&help, help.ring, 200, 600000, 50000, 1);
    end = help_message(&help, help.ring, 201, 600000, 50000, 1);
    assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
    struct spool_message *last = help_arrivals(&help, 2);
    struct spool_snapshot snapshot = {.segments_live = 100};
    for (int i = 0; i < 1000 && snapshot.segments_live > 3; i++) {
        usleep(5000);
        spool_snapshot(help.spool, &snapshot);
    }
    assert_in_range(snapshot.segments_live, 1, 3);
    free(old);
    free(others);
    free(last);
    help_free(&help);
    (void)state;
}

/* What is worth relocating, and what is not. Segments of 1 MiB; `living` messages stay. */
static uint64_t pinned_with(size_t text_len, const char *pattern, uint64_t *oldest)
{
    struct help help;
    uint64_t id = 1;
    help_new(&help);
    help_open(&help);
    *oldest = 0;
    for (const char *at = pattern; *at != 0; at++) {
        bool stays = *at == 'L';
        uint64_t end = help_message(&help, help.ring, id++, stays ? text_len : 100000, 50000, 1);
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
        struct spool_message *arrived = help_arrivals(&help, 1);
        if (!stays)
            spool_release(help.spool, arrived);
        else if (*oldest == 0)
            *oldest = arrived->first_generation;
        free(arrived);
    }
    usleep(50000); /* what is dead at the front goes */
    uint64_t below = spool_pinned(help.spool);
    help_free(&help);
    return below;
}

#define FIVE_MIB                                                                                   \
    ".........."                                                                                   \
    ".........."                                                                                   \
    ".........."                                                                                   \
    ".........."                                                                                   \
    "............."
#define ONE_MIB "..........."

static void what_is_pinned(void **state)
{
    uint64_t oldest;
    assert_int_equal(pinned_with(1000, FIVE_MIB FIVE_MIB, &oldest), 0); /* nobody pins anything */
    assert_int_equal(pinned_with(1000, "L" ONE_MIB, &oldest), 0);       /* it is too little */
    assert_true(pinned_with(1000, "L" FIVE_MIB, &oldest) > oldest);
    /* One small message in each segment. */
    assert_true(pinned_with(1000, "L" ONE_MIB "L" ONE_MIB "L" ONE_MIB "L" ONE_MIB "L" ONE_MIB,
                            &oldest) > oldest + 2);
    /* The front is dense, but what is behind it pays for it. */
    assert_true(pinned_with(100000, "LLLL" FIVE_MIB, &oldest) > oldest);
    /* A third lives all along: copying that would cost too much. */
    assert_int_equal(pinned_with(100000,
                                 "L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L.."
                                 "L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..L..",
                                 &oldest),
                     0);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_message_round_trip),
        cmocka_unit_test(every_size_comes_back),
        cmocka_unit_test(interleaved_messages),
        cmocka_unit_test(aborted_and_open_messages_vanish),
        cmocka_unit_test(done_records_count),
        cmocka_unit_test(recycling_over_generations),
        cmocka_unit_test(recycled_segments_are_empty),
        cmocka_unit_test(second_process_is_refused),
        cmocka_unit_test(sync_modes),
        cmocka_unit_test(relocation),
        cmocka_unit_test(relocation_of_a_long_message),
        cmocka_unit_test(relocation_of_a_damaged_message),
        cmocka_unit_test(what_is_pinned),
    };
    return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
