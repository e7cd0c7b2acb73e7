/* The envelope's binary form: back and forth, and nothing else accepted. */
#include "gateway/spool/envelope.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static const struct envelope_recipient recipients[] = {
    {.forward_path = BYTES("alice@example.org"), .notify = 3},
    {                         .forward_path = BYTES("\"odd\r\n name\"@example.org"),            .orcpt = BYTES("rfc822;x+2Bz")           },
    { .forward_path = BYTES(""),                         .notify = 8,                                    .forwarded = true},
};

static const struct envelope example = {.message_id = 0x1122334455667788,
                                        .arrival_us = 1700000000000000,
                                        .text_len = 123456789012,
                                        .flags = ENVELOPE_SMTPUTF8 | ENVELOPE_RET_FULL,
                                        .recipient_count = 3,
                                        .reverse_path = BYTES("bob@example.com"),
                                        .envid = BYTES("QQ+2Bx"),
                                        .added = BYTES("Received: a\r\n\tb\r\n")};

static uint8_t *written(size_t *len)
{
    *len = envelope_size(&example, recipients);
    uint8_t *form = malloc(*len);
    assert_non_null(form);
    assert_int_equal(envelope_write(&example, recipients, form), *len);
    return form;
}

static void round_trip(void **state)
{
    size_t len;
    uint8_t *form = written(&len);
    struct envelope read;
    assert_true(envelope_read(bytes_make(form, len), &read));
    assert_true(read.message_id == example.message_id && read.arrival_us == example.arrival_us &&
                read.text_len == example.text_len && read.flags == example.flags &&
                read.recipient_count == 3);
    assert_true(bytes_equal(read.reverse_path, example.reverse_path));
    assert_true(bytes_equal(read.envid, example.envid));
    assert_true(bytes_equal(read.added, example.added));
    size_t cursor = 0;
    for (int i = 0; i < 3; i++) {
        struct envelope_recipient one = envelope_recipient_next(bytes_make(form, len), &cursor);
        assert_true(bytes_equal(one.forward_path, recipients[i].forward_path));
        assert_true(bytes_equal(one.orcpt, recipients[i].orcpt));
        assert_int_equal(one.notify, recipients[i].notify);
        assert_int_equal(one.forwarded, recipients[i].forwarded);
    }
    assert_int_equal(cursor, len);
    free(form);
    (void)state;
}

/* A recipient's mark stands in the octet of NOTIFY, for ever; what has none reads as before. */
static void forwarded_has_its_place(void **state)
{
    struct envelope envelope = {.message_id = 1, .recipient_count = 1};
    struct envelope_recipient one = {.forward_path = BYTES("a@b")};
    for (unsigned notify = 0; notify < 16; notify++) {
        for (unsigned forwarded = 0; forwarded < 2; forwarded++) {
            uint8_t form[80];
            size_t cursor = 0;
            one.notify = (uint8_t)notify;
            one.forwarded = forwarded;
            size_t len = envelope_write(&envelope, &one, form);
            assert_int_equal(form[sizeof(struct envelope_head) + 4], notify + 128 * forwarded);
            struct envelope_recipient read =
                envelope_recipient_next(bytes_make(form, len), &cursor);
            assert_int_equal(read.notify, notify);
            assert_int_equal(read.forwarded, forwarded);
        }
    }
    (void)state;
}

/* Each flag has its place on disk for ever (docs/spool.md). */
static void flags_keep_their_places(void **state)
{
    static const uint32_t flags[] = {ENVELOPE_8BITMIME, ENVELOPE_BINARYMIME, ENVELOPE_SMTPUTF8,
                                     ENVELOPE_RET_FULL, ENVELOPE_RET_HDRS,   ENVELOPE_REQUIRETLS};
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        uint8_t form[64];
        struct envelope envelope = {.message_id = 1, .flags = flags[i]};
        struct envelope read;
        size_t len = envelope_write(&envelope, NULL, form);
        assert_int_equal(form[4], 1u << i);
        assert_true(form[5] == 0 && form[6] == 0 && form[7] == 0);
        assert_true(envelope_read(bytes_make(form, len), &read));
        assert_int_equal(read.flags, flags[i]);
    }
    (void)state;
}

/* Terms are version 2, 16 octets behind the head; without any it is version 1, as it ever was. */
static void terms_are_version_2(void **state)
{
    const struct envelope_terms by = {
        .by_s = 1800000000,
        .by_mode = ENVELOPE_BY_RETURN | ENVELOPE_BY_TRACE,
    };
    const struct envelope_terms told = {.by_s = 7, .by_mode = ENVELOPE_BY_TOLD};
    const struct envelope_terms hold = {.release_s = 4000000000, .hold_s = 60};
    const struct envelope_terms low = {.priority = -9};
    const struct envelope_terms several = {.release_s = 1, .by_s = 2, .priority = 9};
    const struct envelope_terms all[] = {by, told, hold, low, several};
    size_t plain_len;
    uint8_t *plain = written(&plain_len);
    assert_int_equal(plain[0], 1);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct envelope envelope = example, read;
        envelope.terms = all[i];
        size_t len = envelope_size(&envelope, recipients), cursor = 0;
        uint8_t *form = malloc(len);
        assert_non_null(form);
        assert_int_equal(len, plain_len + 16);
        assert_int_equal(envelope_write(&envelope, recipients, form), len);
        assert_int_equal(form[0], 2);
        /* All else is what version 1 has. */
        assert_memory_equal(form + 4, plain + 4, sizeof(struct envelope_head) - 4);
        assert_memory_equal(form + 64, plain + 48, plain_len - 48);
        assert_true(envelope_read(bytes_make(form, len), &read));
        assert_memory_equal(&read.terms, &all[i], sizeof all[i]);
        assert_true(bytes_equal(read.added, example.added));
        for (int at = 0; at < 3; at++) {
            struct envelope_recipient one = envelope_recipient_next(bytes_make(form, len), &cursor);
            assert_true(bytes_equal(one.forward_path, recipients[at].forward_path));
        }
        assert_int_equal(cursor, len);
        for (size_t cut = 0; cut < len; cut++) {
            uint8_t *part = malloc(cut == 0 ? 1 : cut);
            assert_non_null(part);
            memcpy(part, form, cut);
            assert_false(envelope_read(bytes_make(part, cut), &read));
            free(part);
        }
        form[48 + 13] = 10; /* the priority */
        assert_false(envelope_read(bytes_make(form, len), &read));
        form[48 + 13] = 0;
        form[48 + 12] = 8; /* a mode that nobody knows */
        assert_false(envelope_read(bytes_make(form, len), &read));
        form[48 + 12] = 0;
        form[0] = 3;
        assert_false(envelope_read(bytes_make(form, len), &read));
        free(form);
    }
    free(plain);
    (void)state;
}

static void nothing_at_all(void **state)
{
    uint8_t form[64];
    struct envelope empty = {.message_id = 1};
    size_t len = envelope_write(&empty, NULL, form);
    assert_int_equal(len, envelope_size(&empty, NULL));
    assert_true(envelope_read(bytes_make(form, len), &empty));
    assert_int_equal(empty.reverse_path.len, 0);
    (void)state;
}

/* Cut off anywhere, or longer by an octet: malformed. In memory that ends with the form, for the
 * sanitizer. */
static void every_other_length(void **state)
{
    size_t len;
    uint8_t *form = written(&len);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *part = malloc(cut == 0 ? 1 : cut);
        struct envelope read;
        assert_non_null(part);
        memcpy(part, form, cut);
        assert_false(envelope_read(bytes_make(part, cut), &read));
        free(part);
    }
    uint8_t *longer = calloc(1, len + 1);
    struct envelope read;
    assert_non_null(longer);
    memcpy(longer, form, len);
    assert_false(envelope_read(bytes_make(longer, len + 1), &read));
    free(longer);
    free(form);
    (void)state;
}

/* Any octet changed to the largest: read or refused, but never beyond the end. */
static void lengths_are_not_believed(void **state)
{
    size_t len;
    uint8_t *form = written(&len);
    int refused = 0;
    for (size_t at = 0; at < len; at++) {
        uint8_t before = form[at];
        struct envelope read;
        form[at] = 0xff;
        bool good = envelope_read(bytes_make(form, len), &read);
        refused += !good;
        size_t cursor = 0;
        for (uint32_t i = 0; good && i < read.recipient_count; i++)
            (void)envelope_recipient_next(bytes_make(form, len), &cursor);
        form[at] = before;
    }
    assert_true(refused > 20);
    free(form);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip),
        cmocka_unit_test(forwarded_has_its_place),
        cmocka_unit_test(flags_keep_their_places),
        cmocka_unit_test(terms_are_version_2),
        cmocka_unit_test(nothing_at_all),
        cmocka_unit_test(every_other_length),
        cmocka_unit_test(lengths_are_not_believed),
    };
    return cmocka_run_group_tests_name("envelope", tests, NULL, NULL);
}
