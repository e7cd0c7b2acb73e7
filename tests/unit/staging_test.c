/* The staging ring by its two ends, without a writer thread: the test plays the writer. */
#include "gateway/base/check.h"
#include "gateway/base/limits.h"
#include "gateway/spool/staging_ring.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

enum { SIZE = 1024 * 1024 };

static int woken;

static void wake(void *user)
{
    (void)user;
    woken++;
}

static uint64_t published(const struct staging *staging)
{
    return atomic_load(&staging->published);
}

/* Takes all that is shown, as the writer does, checking every record; returns how many were not
 * PAD. */
static uint32_t take(struct staging *staging)
{
    uint32_t count = 0;
    struct staging_stretch shown = staging_shown(staging);
    for (; shown.begin != shown.end; shown = staging_shown(staging)) {
        uint64_t at = shown.begin;
        assert_int_equal(at % LIMIT_BLOCK, 0);
        assert_int_equal(shown.end % LIMIT_BLOCK, 0);
        assert_true(at % staging->size + (shown.end - at) <= staging->size); /* in one piece */
        while (at < shown.end) {
            const struct record *record = (const struct record *)staging_at(staging, at);
            assert_int_equal(record->magic, RECORD_MAGIC);
            if (record->kind != RECORD_PAD) {
                assert_int_equal(record->payload_crc, crc32c(0, record + 1, record->payload_len));
                count++;
            }
            at += record_size(record->payload_len);
        }
        assert_int_equal(at, shown.end);
        atomic_store(&staging->taken, shown.end);
    }
    return count;
}

static uint64_t put(struct staging *staging, enum record_kind kind, size_t len)
{
    uint8_t *out = staging_reserve(staging, len);
    assert_non_null(out);
    memset(out, (int)(len & 0xff), len);
    return staging_append(staging, kind, 1, 0, len);
}

static void crc_is_crc32c(void **state)
{
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(crc32(0, "123456789", 9), 0xcbf43926);
    assert_int_equal(crc32(crc32(0, "1234", 4), "56789", 5), 0xcbf43926);
    assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
    uint8_t zeros[32] = {0};
    assert_int_equal(crc32c(0, zeros, 32), 0x8a9136aa); /* RFC 3720 B.4 */
    (void)state;
}

/* Every record length, around the ring many times. */
static void wraps_around(void **state)
{
    struct bell bell = {0};
    struct staging *staging = staging_new(SIZE, &bell, NULL, NULL);
    uint32_t laid = 0;
    uint32_t taken = 0;
    assert_non_null(staging);
    for (size_t i = 0; i < 20000; i++) {
        size_t len = i * 37 % 9000;
        if (staging_room(staging) < record_size(len)) {
            staging_publish(staging, true);
            assert_false(staging_unpublished(staging));
            taken += take(staging);
            staging_settle(staging, published(staging));
        }
        uint64_t end = put(staging, RECORD_BODY, len);
        assert_true(end > staging_settled(staging));
        assert_true(staging_unpublished(staging));
        laid++;
    }
    staging_publish(staging, true);
    taken += take(staging);
    assert_int_equal(laid, taken);
    assert_true(published(staging) > 50 * (uint64_t)SIZE);
    staging_free(staging);
    (void)state;
}

/* Padding at every distance from a block's end, also where a header does not fit before it. */
static void pads_every_gap(void **state)
{
    struct bell bell = {0};
    struct staging *staging = staging_new(SIZE, &bell, NULL, NULL);
    for (size_t len = 3800; len < 4300; len++) {
        uint64_t end = put(staging, RECORD_COMMIT, len);
        staging_publish(staging, true);
        assert_true(published(staging) >= end && published(staging) < end + 2 * LIMIT_BLOCK);
        assert_int_equal(take(staging), 1);
        staging_settle(staging, published(staging));
    }
    staging_free(staging);
    (void)state;
}

static void full_ring_refuses(void **state)
{
    struct bell bell = {0};
    struct staging *staging = staging_new(SIZE, &bell, NULL, NULL);
    uint32_t laid = 0;
    while (staging_reserve(staging, 16384) != NULL) {
        assert_true(staging_room(staging) >= record_size(16384));
        staging_append(staging, RECORD_BODY, 1, laid++, 16384);
    }
    assert_true(staging_room(staging) < record_size(16384));
    assert_in_range(laid, 60, 64);
    staging_publish(staging, true);
    assert_null(staging_reserve(staging, 16384));
    assert_int_equal(take(staging), laid);
    staging_settle(staging, published(staging));
    assert_non_null(staging_reserve(staging, 16384));
    /* Less than was reserved is right, too. */
    staging_append(staging, RECORD_BODY, 1, laid, 10);
    staging_publish(staging, true);
    assert_int_equal(take(staging), 1);
    staging_free(staging);
    (void)state;
}

/* What is shown when: urgent all, text by groups, a COMMIT or DONE always. */
static void publishes_in_groups(void **state)
{
    struct bell bell = {0};
    struct staging *staging = staging_new(SIZE, &bell, NULL, NULL);
    put(staging, RECORD_BODY, 1000);
    staging_publish(staging, false);
    assert_int_equal(published(staging), 0);
    assert_false(bell_wait(&bell, 0));
    for (uint32_t i = 0; i < 20; i++)
        put(staging, RECORD_BODY, 16384);
    staging_publish(staging, false);
    assert_true(published(staging) >= LIMIT_GROUP && published(staging) <= staging->head);
    assert_true(bell_wait(&bell, 0));
    uint64_t before = published(staging);
    put(staging, RECORD_DONE, 24);
    staging_publish(staging, false);
    assert_true(published(staging) > before);
    /* The writer knows already that something waits, and not enough came to change its mind. */
    take(staging);
    put(staging, RECORD_DONE, 24);
    staging_publish(staging, false);
    assert_true(bell_wait(&bell, 0));
    put(staging, RECORD_DONE, 24);
    staging_publish(staging, false);
    assert_false(bell_wait(&bell, 0));
    put(staging, RECORD_BODY, 24);
    staging_publish(staging, true);
    assert_true(bell_wait(&bell, 0));
    assert_int_equal(take(staging), 3);
    staging_publish(staging, true);
    assert_false(bell_wait(&bell, 0));
    staging_free(staging);
    (void)state;
}

static void outcomes_in_order(void **state)
{
    struct bell bell = {0};
    struct staging *staging = staging_new(SIZE, &bell, NULL, NULL);
    uint64_t ends[6];
    for (int i = 0; i < 6; i++) {
        ends[i] = put(staging, RECORD_COMMIT, 100);
        staging_publish(staging, true);
    }
    assert_int_equal(staging_outcome(staging, ends[0]), STAGING_WAITING);
    take(staging);
    /* 1 alone, 3 and 4 together. */
    staging_mark(staging, ends[1] - 164, ends[1], STAGING_FAILED);
    staging_mark(staging, ends[3] - 164, ends[4], STAGING_DISK_FULL);
    staging_settle(staging, ends[4]);
    assert_int_equal(staging_outcome(staging, ends[0]), STAGING_DURABLE);
    assert_int_equal(staging_outcome(staging, ends[1]), STAGING_FAILED);
    assert_int_equal(staging_outcome(staging, ends[2]), STAGING_DURABLE);
    assert_int_equal(staging_outcome(staging, ends[3]), STAGING_DISK_FULL);
    assert_int_equal(staging_outcome(staging, ends[4]), STAGING_DISK_FULL);
    assert_int_equal(staging_outcome(staging, ends[5]), STAGING_WAITING);
    staging_acknowledge(staging, ends[4]);
    assert_int_equal(atomic_load(&staging->mark_tail), 2);
    staging_settle(staging, published(staging));
    assert_int_equal(staging_outcome(staging, ends[5]), STAGING_DURABLE);
    staging_free(staging);
    (void)state;
}

static void wakes_only_sleepers(void **state)
{
    struct bell bell = {0};
    struct staging *staging = staging_new(SIZE, &bell, wake, NULL);
    woken = 0;
    put(staging, RECORD_COMMIT, 10);
    staging_publish(staging, true);
    take(staging);
    staging_settle(staging, LIMIT_BLOCK);
    assert_int_equal(woken, 0);
    staging_set_sleeping(staging, true);
    staging_settle(staging, LIMIT_BLOCK);
    staging_settle(staging, LIMIT_BLOCK);
    assert_int_equal(woken, 1);
    staging_set_sleeping(staging, true);
    staging_set_sleeping(staging, false);
    staging_settle(staging, LIMIT_BLOCK);
    assert_int_equal(woken, 1);
    staging_free(staging);
    (void)state;
}

/* An empty ring takes the largest record it ever could, wherever it stands. */
static void empty_ring_takes_the_largest(void **state)
{
    struct bell bell = {0};
    struct staging *staging = staging_new(SIZE, &bell, NULL, NULL);
    size_t largest = staging_room(staging) - RECORD_HEADER;
    for (size_t len = 100; len < SIZE; len = len * 3 + 7) {
        put(staging, RECORD_COMMIT, len);
        staging_publish(staging, true);
        assert_int_equal(take(staging), 1);
        staging_settle(staging, published(staging));
        assert_true(staging_room(staging) >= record_size(largest));
        put(staging, RECORD_COMMIT, largest);
        staging_publish(staging, true);
        assert_int_equal(take(staging), 1);
        staging_settle(staging, published(staging));
    }
    staging_free(staging);
    (void)state;
}

/* A large ring that is settled in time goes round in a small part of itself; one that is not is
 * used to its end. */
static void small_part_is_used(void **state)
{
    enum { RING = 16 * SIZE };
    struct bell bell = {0};
    struct staging *staging = staging_new(RING, &bell, NULL, NULL);
    uint64_t furthest = 0;
    for (int i = 0; i < 2000; i++) {
        uint64_t end = put(staging, RECORD_COMMIT, 16384) & (RING - 1);
        furthest = end > furthest ? end : furthest;
        staging_publish(staging, true);
        take(staging);
        staging_settle(staging, published(staging));
    }
    assert_in_range(furthest, 2 * SIZE, 3 * SIZE);
    uint32_t laid = 0;
    while (staging_reserve(staging, 16384) != NULL) {
        staging_append(staging, RECORD_BODY, 1, laid++, 16384);
        staging_publish(staging, true);
    }
    assert_true(laid > (RING - 4 * SIZE) / 16448);
    assert_int_equal(take(staging), laid);
    staging_free(staging);
    (void)state;
}

/* What comes first behind a jump wakes the writer, though it has not passed the jump. */
static void jump_keeps_the_bell(void **state)
{
    struct bell bell = {0};
    struct staging *staging = staging_new(SIZE, &bell, NULL, NULL);
    size_t half = SIZE / 2 + SIZE / 8;
    put(staging, RECORD_COMMIT, half);
    staging_publish(staging, true);
    assert_int_equal(take(staging), 1);
    staging_settle(staging, published(staging));
    assert_true(bell_wait(&bell, 0));
    assert_non_null(staging_reserve(staging, half)); /* jumps */
    assert_true(staging_unpublished(staging));
    staging_publish(staging, false);
    assert_int_equal(take(staging), 0);
    (void)bell_wait(&bell, 0);
    put(staging, RECORD_DONE, 24);
    staging_publish(staging, false);
    assert_true(bell_wait(&bell, 0));
    assert_int_equal(take(staging), 1);
    staging_free(staging);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_is_crc32c),       cmocka_unit_test(wraps_around),
        cmocka_unit_test(pads_every_gap),      cmocka_unit_test(full_ring_refuses),
        cmocka_unit_test(publishes_in_groups), cmocka_unit_test(outcomes_in_order),
        cmocka_unit_test(wakes_only_sleepers), cmocka_unit_test(empty_ring_takes_the_largest),
        cmocka_unit_test(small_part_is_used),  cmocka_unit_test(jump_keeps_the_bell),
    };
    return cmocka_run_group_tests_name("staging", tests, NULL, NULL);
}
