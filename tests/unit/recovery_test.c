/* Recovery from every kind of damage that a disk can do to a segment: cut off, zeroed, flipped, in
 * every place. A small spool is written once; each case gets its own copy of it, spoiled. */
#include "tests/support/spool_help.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SEGMENT = 384 * 1024,
    MESSAGES = 12,   /* ids 1 ... 12, each in a batch of its own */
    FINISHED = 2,    /* this one has a DONE record, in the batch of 3 */
    LAST = MESSAGES, /* in the last batch */
    RECORDS_MAX = 200,
};

/* What a healthy segment holds, found by a walk of the test's own. */
struct place {
    struct record header;
    size_t offset, size; /* without the zeros behind */
};

struct base {
    struct help help;
    uint8_t *image; /* of the only written segment */
    char name[64];
    size_t end; /* of the last batch */
    struct place places[RECORDS_MAX];
    size_t place_count;
};

static struct base base;

static void walk(struct base *it)
{
    size_t offset = LIMIT_BLOCK;
    for (it->place_count = 0; it->place_count < RECORDS_MAX; it->place_count++) {
        struct place *place = &it->places[it->place_count];
        memcpy(&place->header, it->image + offset, sizeof place->header);
        if (place->header.magic != RECORD_MAGIC)
            break;
        place->offset = offset;
        place->size = sizeof place->header + place->header.payload_len;
        offset += record_size(place->header.payload_len);
    }
    it->end = offset;
}

static void put_messages(struct help *help)
{
    for (uint64_t id = 1; id <= MESSAGES; id++) {
        uint64_t end = 0;
        if (id == 3)
            help_done(help, help->ring, FINISHED, RECORD_ALL_RECIPIENTS, RECORD_DELIVERED, 0);
        if (id == 4) {
            help_body(help, help->ring, 99, 0, 0, 100);
            assert_non_null(staging_reserve(help->ring, 0));
            staging_append(help->ring, RECORD_ABORT, 99, 0, 0);
        }
        /* From one block to six, in one part or several. */
        end = help_message(help, help->ring, id, id * 2000, id % 3 == 0 ? 1500 : 131072, 2);
        assert_int_equal(help_wait(help, help->ring, end), STAGING_DURABLE);
    }
}

static int make_base(void **state)
{
    (void)state;
    help_new(&base.help);
    base.help.options.segment_size = SEGMENT;
    base.help.options.sync = SPOOL_SYNC_NONE;
    base.help.options.ready_count = 1;
    help_open(&base.help);
    put_messages(&base.help);
    help_close(&base.help);
    base.image = malloc(SEGMENT);
    int file = help_file(&base.help, ".segment", base.name, sizeof base.name);
    CHECK(base.image != NULL && pread(file, base.image, SEGMENT, 0) == SEGMENT);
    close(file);
    walk(&base);
    CHECK(base.place_count > 2 * MESSAGES && base.end < SEGMENT - 64 * 1024);
    return 0;
}

static int free_base(void **state)
{
    (void)state;
    free(base.image);
    help_free(&base.help);
    return 0;
}

/* A copy of the base spool with this segment in it, not yet opened. */
static void copy_base(struct help *help, const uint8_t *image, size_t size)
{
    char path[256];
    help_new(help);
    help->options.segment_size = SEGMENT;
    help->options.sync = SPOOL_SYNC_NONE;
    help->options.ready_count = 1;
    snprintf(path, sizeof path, "%s/%s", help->path, base.name);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    CHECK(file >= 0 && write(file, image, size) == (ssize_t)size);
    close(file);
}

/* True when a change of [from, to) hurts a record; for a PAD only its header counts. */
static bool hurt(const struct place *place, size_t from, size_t to)
{
    size_t size = place->header.kind == RECORD_PAD ? sizeof place->header : place->size;
    return place->offset < to && from < place->offset + size;
}

/* Opens the spoiled spool and compares what lives with what must, when [from, to) was changed.
 * Returns the log's count of damage. */
static int expect(struct help *help, size_t from, size_t to, bool rest_lost)
{
    bool lost[MESSAGES + 1] = {false};
    bool finished = true;
    bool again = !help_try_open(help);
    assert_false(again);
    for (size_t i = 0; i < base.place_count; i++) {
        const struct place *place = &base.places[i];
        if (!hurt(place, from, to) && !(rest_lost && place->offset >= from))
            continue;
        if (place->header.kind == RECORD_DONE)
            finished = false;
        else if (place->header.message_id <= MESSAGES)
            lost[place->header.message_id] = true;
    }
    lost[FINISHED] |= finished;
    for (uint64_t id = 1; id <= MESSAGES; id++) {
        const struct spool_message *message = help_recovered(help, id);
        if ((message == NULL) != lost[id])
            fail_msg("message %d with [%zu, %zu) changed: %s", (int)id, from, to,
                     lost[id] ? "came back" : "was lost");
        if (message != NULL)
            assert_int_equal(help_check(help, message), 0);
    }
    assert_null(help_recovered(help, 99));
    help_close(help);
    return help_logged(help, "spool.damaged");
}

static void untouched(void **state)
{
    struct help help;
    copy_base(&help, base.image, SEGMENT);
    assert_int_equal(expect(&help, 0, 0, false), 0);
    help_free(&help);
    (void)state;
}

/* The power fails: from some block on, nothing was written. */
static void torn_at_every_block(void **state)
{
    uint8_t *image = malloc(SEGMENT);
    assert_non_null(image);
    for (size_t from = LIMIT_BLOCK; from < base.end; from += LIMIT_BLOCK) {
        struct help help;
        memcpy(image, base.image, SEGMENT);
        memset(image + from, 0, SEGMENT - from);
        copy_base(&help, image, SEGMENT);
        assert_int_equal(expect(&help, from, SEGMENT, true), 0);
        /* The cut is for good: mail that comes later does not make it look like damage. */
        help_open(&help);
        uint64_t end = help_message(&help, help.ring, 50, 3000, 3000, 1);
        assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
        help_close(&help);
        help_open(&help);
        assert_non_null(help_recovered(&help, 50));
        help_close(&help);
        assert_int_equal(help_logged(&help, "spool.damaged"), 0);
        help_free(&help);
    }
    free(image);
    (void)state;
}

static void truncated_at_every_block(void **state)
{
    for (size_t size = LIMIT_BLOCK; size < base.end; size += LIMIT_BLOCK) {
        struct help help;
        copy_base(&help, base.image, size);
        assert_true(expect(&help, size, SEGMENT, true) > 0);
        assert_int_equal(help_logged(&help, "shorter"), 1);
        help_free(&help);
    }
    (void)state;
}

/* The offset where the last batch begins. */
static size_t last_batch(void)
{
    uint64_t sequence = base.places[base.place_count - 1].header.sequence;
    for (size_t i = 0; i < base.place_count; i++)
        if (base.places[i].header.sequence == sequence)
            return base.places[i].offset;
    return 0;
}

/* One block is lost: damage, unless it is in the last batch. */
static void each_block_zeroed(void **state)
{
    uint8_t *image = malloc(SEGMENT);
    assert_non_null(image);
    for (size_t from = LIMIT_BLOCK; from < base.end; from += LIMIT_BLOCK) {
        struct help help;
        size_t to = from + LIMIT_BLOCK;
        bool any = false;
        for (size_t i = 0; i < base.place_count; i++)
            any |= hurt(&base.places[i], from, to);
        memcpy(image, base.image, SEGMENT);
        memset(image + from, 0, LIMIT_BLOCK);
        copy_base(&help, image, SEGMENT);
        bool torn = from >= last_batch();
        assert_int_equal(expect(&help, from, to, torn && any) > 0, any && !torn);
        assert_int_equal(help_logged(&help, "spool.torn") > 0, any && torn);
        if (torn && any) {
            help_open(&help);
            uint64_t end = help_message(&help, help.ring, 50, 3000, 3000, 1);
            assert_int_equal(help_wait(&help, help.ring, end), STAGING_DURABLE);
            help_close(&help);
            help_open(&help);
            help_close(&help);
            assert_int_equal(help_logged(&help, "spool.damaged"), 0);
        }
        help_free(&help);
    }
    free(image);
    (void)state;
}

static void flip(const struct place *place, size_t bit)
{
    static uint8_t image[SEGMENT];
    struct help help;
    size_t at = place->offset + bit / 8;
    memcpy(image, base.image, SEGMENT);
    image[at] ^= (uint8_t)(1u << bit % 8);
    copy_base(&help, image, SEGMENT);
    bool torn = at >= last_batch();
    bool any = hurt(place, at, at + 1);
    assert_int_equal(expect(&help, at, at + 1, torn && any) > 0, any && !torn);
    help_free(&help);
}

/* One bit, in every field of the header of a record of each kind, and in payloads. */
static void bits_flipped(void **state)
{
    bool seen[RECORD_DONE + 1][2] = {{false}};
    for (size_t i = 0; i < base.place_count; i++) {
        const struct place *place = &base.places[i];
        bool torn = place->offset >= last_batch();
        if (seen[place->header.kind][torn])
            continue;
        seen[place->header.kind][torn] = true;
        for (size_t bit = 3; bit < sizeof place->header * 8; bit += 29)
            flip(place, bit);
        size_t payload_bits = place->header.payload_len * 8;
        for (size_t bit = 1; bit < payload_bits; bit += payload_bits / 5 + 7)
            flip(place, sizeof place->header * 8 + bit);
    }
    assert_true(seen[RECORD_BODY][0] && seen[RECORD_COMMIT][0] && seen[RECORD_ABORT][0] &&
                seen[RECORD_DONE][0] && seen[RECORD_PAD][0] && seen[RECORD_BODY][1]);
    (void)state;
}

static void damaged_message_is_named(void **state)
{
    static uint8_t image[SEGMENT];
    struct help help;
    memcpy(image, base.image, SEGMENT);
    for (size_t i = 0; i < base.place_count; i++)
        if (base.places[i].header.kind == RECORD_BODY && base.places[i].header.message_id == 5)
            image[base.places[i].offset + 1000] ^= 1;
    copy_base(&help, image, SEGMENT);
    assert_int_equal(help_try_open(&help), true);
    struct spool_snapshot snapshot;
    spool_snapshot(help.spool, &snapshot);
    assert_int_equal(snapshot.records_damaged, 2);
    assert_true(snapshot.octets_damaged > 1000);
    help_close(&help);
    /* The record, and the message: both by the id 5 in base32. */
    assert_int_equal(help_logged(&help, "aaaaaaaaaaaak"), 2);
    help_free(&help);
    (void)state;
}

/* Fills `out` with a record of a message that nobody sent, as somebody would write it who knows all
 * but the salt. */
static void forge(uint8_t *out, const struct place *commit, const struct record *like, size_t at)
{
    struct record header = commit->header;
    uint64_t id = 77;
    memcpy(out, base.image + commit->offset, commit->size);
    memcpy(out + sizeof header + offsetof(struct envelope_head, message_id), &id, sizeof id);
    memset(out + sizeof header + offsetof(struct envelope_head, text_len), 0, 8);
    header.message_id = id;
    header.part = 0;
    header.sequence = like->sequence;
    header.batch_end = like->batch_end;
    header.payload_crc = crc32c(0, out + sizeof header, header.payload_len);
    header.header_crc = record_header_crc(&header, 0, at);
    memcpy(out, &header, sizeof header);
}

/* Message text that is a record, to the last bit but for the salt, is still text, even where the
 * real record around it is lost. */
static void forged_records_are_text(void **state)
{
    static uint8_t image[SEGMENT];
    struct help help;
    const struct place *victim = NULL;
    const struct place *commit = NULL;
    memcpy(image, base.image, SEGMENT);
    for (size_t i = 0; i < base.place_count; i++) {
        const struct place *place = &base.places[i];
        if (place->header.kind == RECORD_COMMIT && place->header.message_id == 5)
            commit = place;
        if (place->header.kind == RECORD_BODY && place->header.message_id == 11)
            victim = place;
    }
    assert_true(commit != NULL && victim != NULL);
    for (size_t at = victim->offset + 64; at + 1024 < victim->offset + victim->size; at += 1024)
        forge(image + at, commit, &victim->header, at);
    image[victim->offset] ^= 1;
    copy_base(&help, image, SEGMENT);
    assert_true(help_try_open(&help));
    assert_null(help_recovered(&help, 77));
    assert_null(help_recovered(&help, 11));
    assert_non_null(help_recovered(&help, 12));
    assert_non_null(help_recovered(&help, 5));
    help_free(&help);
    (void)state;
}

static void headers_know_their_place(void **state)
{
    const struct record *record = &base.places[0].header;
    uint32_t salt = record_salt(base.help.options.uuid);
    size_t offset = base.places[0].offset;
    assert_int_equal(record->header_crc, record_header_crc(record, salt, offset));
    assert_int_not_equal(record->header_crc, record_header_crc(record, salt, offset + 8));
    assert_int_not_equal(record->header_crc, record_header_crc(record, salt + 1, offset));
    (void)state;
}

static void damaged_header_block(void **state)
{
    static uint8_t image[SEGMENT];
    struct help help;
    memcpy(image, base.image, SEGMENT);
    image[20] ^= 1;
    copy_base(&help, image, SEGMENT);
    /* The uuid is in the lock file. */
    char from[256];
    char to[256];
    snprintf(from, sizeof from, "%s/lock", base.help.path);
    snprintf(to, sizeof to, "%s/lock", help.path);
    assert_int_equal(link(from, to), 0);
    help.options.uuid = (const uint8_t *)"another uuid ...";
    assert_true(expect(&help, 0, 0, false) > 0);
    help_free(&help);
    (void)state;
}

static void segments_of_two_spools(void **state)
{
    struct help help;
    struct help other;
    copy_base(&help, base.image, SEGMENT);
    help_new(&other);
    other.options.segment_size = SEGMENT;
    other.options.ready_count = 3;
    other.options.uuid = (const uint8_t *)"another uuid ...";
    help_open(&other);
    help_close(&other);
    char from[256];
    char to[256];
    snprintf(from, sizeof from, "%s/0000000000000003.segment", other.path);
    snprintf(to, sizeof to, "%s/0000000000000003.segment", help.path);
    assert_int_equal(rename(from, to), 0);
    assert_false(help_try_open(&help));
    assert_non_null(strstr(help.error, "another spool"));
    help_free(&other);
    help_free(&help);
    (void)state;
}

static void newer_version(void **state)
{
    static uint8_t image[SEGMENT];
    struct help help;
    memcpy(image, base.image, SEGMENT);
    image[8] = 99;
    uint32_t crc = crc32c(0, image, 52);
    memcpy(image + 52, &crc, sizeof crc);
    copy_base(&help, image, SEGMENT);
    assert_false(help_try_open(&help));
    assert_non_null(strstr(help.error, "newer version"));
    help_free(&help);
    (void)state;
}

static void renamed_segment(void **state)
{
    struct help help;
    char from[256];
    char to[256];
    copy_base(&help, base.image, SEGMENT);
    snprintf(from, sizeof from, "%s/%s", help.path, base.name);
    snprintf(to, sizeof to, "%s/0000000000000123.segment", help.path);
    assert_int_equal(rename(from, to), 0);
    assert_false(help_try_open(&help));
    assert_non_null(strstr(help.error, "renamed"));
    help_free(&help);
    (void)state;
}

static void other_names_are_left_alone(void **state)
{
    static const char *const names[] = {"README", "0000000000000001.segment~", "1.segment",
                                        "00000000000000aa.damaged", "0000000000000000.segment"};
    struct help help;
    char path[256];
    copy_base(&help, base.image, SEGMENT);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", help.path, names[i]);
        close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    }
    snprintf(path, sizeof path, "%s/00000000000000bb.preparing", help.path);
    close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    assert_int_equal(expect(&help, 0, 0, false), 0);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_not_equal(help_files(&help, names[i]), 0);
    assert_int_equal(help_files(&help, ".preparing"), 0);
    /* A generation is never used twice, not even that of an unfinished file. */
    assert_int_not_equal(help_files(&help, "00000000000000bc.segment"), 0);
    help_free(&help);
    (void)state;
}

int main(void)
{
    /* Some hundred spools are opened here, and what a real disk does is not the question: memory is
     * faster. */
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(untouched),
        cmocka_unit_test(torn_at_every_block),
        cmocka_unit_test(truncated_at_every_block),
        cmocka_unit_test(each_block_zeroed),
        cmocka_unit_test(bits_flipped),
        cmocka_unit_test(damaged_message_is_named),
        cmocka_unit_test(forged_records_are_text),
        cmocka_unit_test(headers_know_their_place),
        cmocka_unit_test(damaged_header_block),
        cmocka_unit_test(segments_of_two_spools),
        cmocka_unit_test(newer_version),
        cmocka_unit_test(renamed_segment),
        cmocka_unit_test(other_names_are_left_alone),
    };
    return cmocka_run_group_tests_name("recovery", tests, make_base, free_base);
}
