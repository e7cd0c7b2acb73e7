/* RFC 3339's date-time: its examples, the calendar against the C library's, and what is none. */
#include "parser/date_time.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static uint64_t read(const char *text)
{
    uint64_t seconds = UINT64_MAX;
    return date_time_read(bytes_of_string(text), &seconds) ? seconds : UINT64_MAX;
}

static void examples(void **state)
{
    assert_int_equal(read("1985-04-12T23:20:50.52Z"), 482196051);
    assert_int_equal(read("1985-04-12T23:20:50.000Z"), 482196050);
    assert_int_equal(read("1985-04-12T23:20:50.0000000001Z"), 482196051);
    assert_int_equal(read("1969-12-31T23:59:59.5Z"), UINT64_MAX);
    assert_int_equal(read("1996-12-19T16:39:57-08:00"), 851042397);
    assert_int_equal(read("1990-12-31T23:59:60Z"), 662688000);
    assert_int_equal(read("1990-12-31T15:59:60-08:00"), 662688000);
    assert_int_equal(read("1970-01-01t00:00:00z"), 0);
    assert_int_equal(read("1970-01-01T01:00:00+01:00"), 0);
    assert_int_equal(read("2026-11-22T13:00:00Z"), 1795352400);
    assert_true(read("9999-12-31T23:59:59Z") == 253402300799);
    (void)state;
}

static void every_day(void **state)
{
    for (time_t day = 0; day < 150 * 366; day++) {
        time_t seconds = day * 86400 + day % 86400;
        struct tm utc;
        char text[32];
        assert_non_null(gmtime_r(&seconds, &utc));
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
        assert_int_equal(read(text), seconds);
    }
    (void)state;
}

static void not_one(void **state)
{
    static const char *const wrong[] = {
        "",
        "2026-11-22",
        "2026-11-22T13:00:00",
        "2026-11-22 13:00:00Z",
        "2026-11-22T13:00Z",
        "2026-11-22T13:00:00ZZ",
        "2026-11-22T13:00:00.Z",
        "2026-11-22T13:00:00.5",
        "2026-11-22T13:00:00+0100",
        "2026-11-22T13:00:00+24:00",
        "2026-11-22T13:00:00+01:60",
        "2026-13-22T13:00:00Z",
        "2026-00-22T13:00:00Z",
        "2026-02-29T13:00:00Z",
        "2026-11-31T13:00:00Z",
        "2026-11-00T13:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T13:60:00Z",
        "2026-11-22T13:00:61Z",
        "1969-12-31T23:59:59Z",
        "1970-01-01T00:00:00+00:01",
        "+026-11-22T13:00:00Z",
        "2026-1a-22T13:00:00Z",
        "2026-11-22T13:00:00é",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_true(read(wrong[i]) == UINT64_MAX);
    (void)state;
}

/* Cut off anywhere, in memory that ends there, for the sanitizer. */
static void every_length(void **state)
{
    const char text[] = "1996-12-19T16:39:57.25-08:00";
    for (size_t len = 0; len < sizeof text - 1; len++) {
        uint8_t *part = malloc(len == 0 ? 1 : len);
        uint64_t seconds;
        assert_non_null(part);
        for (size_t i = 0; i < len; i++)
            part[i] = (uint8_t)text[i];
        assert_false(date_time_read(bytes_make(part, len), &seconds));
        free(part);
    }
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(examples),
        cmocka_unit_test(every_day),
        cmocka_unit_test(not_one),
        cmocka_unit_test(every_length),
    };
    return cmocka_run_group_tests_name("date_time", tests, NULL, NULL);
}
