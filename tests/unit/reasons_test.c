/* Reasons: each text once, counted, cleaned, its number used again when nobody refers to it; and a
 * table that is full. */
#include "gateway/deliver/reasons.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void counted(void **state)
{
    (void)state;
    struct reasons *reasons = reasons_new();
    assert_non_null(reasons);
    assert_int_equal(reasons_note(reasons, ""), REASON_NONE);
    assert_string_equal(reasons_text(reasons, REASON_NONE), "");
    uint16_t full = reasons_note(reasons, "mailbox full");
    uint16_t busy = reasons_note(reasons, "too busy");
    assert_true(full > REASON_OTHER && busy > REASON_OTHER && full != busy);
    assert_int_equal(reasons_note(reasons, "mailbox full"), full);
    assert_int_equal(reasons_count(reasons, full), 2);
    assert_int_equal(reasons_count(reasons, busy), 1);
    reasons_drop(reasons, full);
    assert_string_equal(reasons_text(reasons, full), "mailbox full");
    reasons_drop(reasons, full);
    assert_string_equal(reasons_text(reasons, full), "");
    assert_int_equal(reasons_note(reasons, "another"), full); /* the number is used again */
    assert_string_equal(reasons_text(reasons, busy), "too busy");
    reasons_drop(reasons, REASON_NONE);
    reasons_free(reasons);
    reasons_free(NULL);
}

static void cleaned(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"a\r\nb\tc\x1b[31m\x7f",                "a??b?c?[31m?"                        },
        {"Briefk\xc3\xa4sten \xe2\x82\xac voll", "Briefk\xc3\xa4sten \xe2\x82\xac voll"},
        {"a\xff b\xc3 c\xc2\x9b",                "a? b? c?"                            },
    };
    struct reasons *reasons = reasons_new();
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        assert_string_equal(reasons_text(reasons, reasons_note(reasons, pairs[i][0])), pairs[i][1]);
    for (size_t len = REASON_TEXT_MAX - 5; len < REASON_TEXT_MAX + 300; len++) {
        /* A character of three octets at the edge is left out whole. */
        char text[REASON_TEXT_MAX + 400];
        memset(text, 'x', len);
        memcpy(text + len, "\xe2\x82\xac", 4);
        uint16_t number = reasons_note(reasons, text);
        size_t kept = strlen(reasons_text(reasons, number));
        size_t expected = len + 3 < REASON_TEXT_MAX ? len + 3 : len;
        assert_int_equal(kept, expected < REASON_TEXT_MAX ? expected : REASON_TEXT_MAX - 1);
        reasons_drop(reasons, number);
    }
    reasons_free(reasons);
}

static void full_table(void **state)
{
    (void)state;
    struct reasons *reasons = reasons_new();
    char text[64];
    uint32_t distinct = 0;
    for (uint32_t i = 0; i < REASONS_MAX + 100; i++) {
        snprintf(text, sizeof text, "reason number %u", i);
        uint16_t number = reasons_note(reasons, text);
        assert_true(number < REASONS_MAX && number != REASON_NONE);
        distinct += number != REASON_OTHER;
        if (number != REASON_OTHER)
            assert_string_equal(reasons_text(reasons, number), text);
    }
    assert_int_equal(distinct, REASONS_MAX - 2);
    assert_int_equal(reasons_count(reasons, REASON_OTHER), 102);
    assert_true(strlen(reasons_text(reasons, REASON_OTHER)) > 0);
    /* Known ones are still found; a place that is free again serves a new one. */
    uint16_t known = reasons_note(reasons, "reason number 7");
    assert_string_equal(reasons_text(reasons, known), "reason number 7");
    reasons_drop(reasons, known);
    reasons_drop(reasons, known);
    assert_int_equal(reasons_note(reasons, "new"), known);
    for (int i = 0; i < 102; i++)
        reasons_drop(reasons, REASON_OTHER);
    assert_int_equal(reasons_count(reasons, REASON_OTHER), 0);
    reasons_free(reasons);
}

/* Against a plain list, at random. */
static void at_random(void **state)
{
    (void)state;
    enum { TEXTS = 300 };
    struct reasons *reasons = reasons_new();
    uint32_t counts[TEXTS] = {0};
    uint16_t numbers[TEXTS] = {0};
    uint64_t random = 5;
    for (int step = 0; step < 100000; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t i = (uint32_t)(random >> 33) % TEXTS;
        char text[64];
        snprintf(text, sizeof text, "%u: no", i * 7919);
        if ((random >> 60) < 8) {
            uint16_t number = reasons_note(reasons, text);
            assert_true(counts[i] == 0 || number == numbers[i]);
            numbers[i] = number;
            counts[i]++;
        } else if (counts[i] > 0) {
            reasons_drop(reasons, numbers[i]);
            counts[i]--;
        }
        if (counts[i] > 0) {
            assert_string_equal(reasons_text(reasons, numbers[i]), text);
            assert_int_equal(reasons_count(reasons, numbers[i]), counts[i]);
        }
    }
    reasons_free(reasons);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counted),
        cmocka_unit_test(cleaned),
        cmocka_unit_test(full_table),
        cmocka_unit_test(at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
