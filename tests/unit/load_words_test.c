/* Words of command lines: what each reader takes, to the last octet, and what it refuses. */
#include "bench/words.h"
#include "tests/support/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum reader { COUNT, NUMBER, SIZE, DURATION, RATE, RANGE };

struct word {
    enum reader reader;
    const char *text;
};

static void read_one(const void *data)
{
    const struct word *word = data;
    words_program("the-program");
    switch (word->reader) {
    case COUNT: words_count("thing", word->text, 1, 1000); break;
    case NUMBER: words_number("thing", word->text, 0.5, 1000); break;
    case SIZE: words_size("thing", word->text, 10, 1000000000000); break;
    case DURATION: words_duration_us("thing", word->text); break;
    case RATE: words_rate("thing", word->text); break;
    case RANGE: words_range("thing", word->text, 1, 1000); break;
    }
}

/* The message names program, option and word. */
static void refused(enum reader reader, const char *text)
{
    char said[512], expected[128];
    struct word word = {reader, text};
    int code = exits_run(read_one, &word, said, sizeof said);
    if (code != 2)
        fail_msg("reader %d took \"%s\"", (int)reader, text);
    snprintf(expected, sizeof expected, "the-program: --thing: \"%s\" is not ", text);
    if (strncmp(said, expected, strlen(expected)) != 0)
        fail_msg("of \"%s\": %s", text, said);
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
}

/* What no reader takes. */
static const char *const nonsense[] = {
    "",     " ",   " 5",   "5 ", "5x",  "x5",  "-5", "+5", "0x10",
    "five", "5,5", "5..5", ".",  "nan", "inf", "%",  "-",
};

static void nonsense_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++)
        for (enum reader reader = COUNT; reader <= RANGE; reader++)
            refused(reader, nonsense[i]);
}

static void counts(void **state)
{
    (void)state;
    assert_int_equal(words_count("thing", "1", 1, 1000), 1);
    assert_int_equal(words_count("thing", "1000", 1, 1000), 1000);
    assert_int_equal(words_count("thing", "007", 1, 1000), 7);
    assert_true(words_count("thing", "18446744073709551615", 0, UINT64_MAX) == UINT64_MAX);
    assert_int_equal(words_count("thing", "0", 0, 0), 0);
    static const char *const wrong[] = {
        "0", "1001", "1e3", "1.0", "10%", "1k", "18446744073709551616", "36893488147419103233"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        refused(COUNT, wrong[i]);
}

static void numbers(void **state)
{
    (void)state;
    assert_true(words_number("thing", "0.5", 0.5, 1000) == 0.5);
    assert_true(words_number("thing", ".75", 0, 1) == 0.75);
    assert_true(words_number("thing", "12.", 0, 1000) == 12);
    assert_true(words_number("thing", "1000", 0.5, 1000) == 1000);
    refused(NUMBER, "0.49");
    refused(NUMBER, "1000.1");
    refused(NUMBER, "1e2");
    refused(NUMBER, "1.2.3");
}

static void sizes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t size;
    } good[] = {
        {"4096",  4096         },
        {"64k",   64000        },
        {"64K",   64000        },
        {"10M",   10000000     },
        {"1G",    1000000000   },
        {"64Ki",  65536        },
        {"1Mi",   1048576      },
        {"2Gi",   2147483648   },
        {"10",    10           },
        {"1000G", 1000000000000},
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(words_size("thing", good[i].text, 10, 1000000000000) == good[i].size);
    static const char *const wrong[] = {"9",
                                        "0",
                                        "64kb",
                                        "64ki",
                                        "64m",
                                        "64 k",
                                        "1.5k",
                                        "k",
                                        "1T",
                                        "1001G",
                                        "1KiB",
                                        "18446744073709551616",
                                        "18446744073709551617k",
                                        "18014398509481985Ki"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        refused(SIZE, wrong[i]);
}

static void durations(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t us;
    } good[] = {
        {"250us",     250       },
        {"10ms",      10000     },
        {"2s",        2000000   },
        {"1m",        60000000  },
        {"1h",        3600000000},
        {"5",         5000000   },
        {"0",         0         },
        {"0.5",       500000    },
        {"1.5ms",     1500      },
        {"0.1us",     0         },
        {"0.0000015", 2         },
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(words_duration_us("thing", good[i].text) == good[i].us);
    static const char *const wrong[] = {
        "5sec", "5 s", "s", "ms", "5d", "1e3", "1e400", "5S", "99999999999999999999", "300000h"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        refused(DURATION, wrong[i]);
}

static void rates(void **state)
{
    (void)state;
    assert_true(words_rate("thing", "10%") == 0.1);
    assert_true(words_rate("thing", "10.5%") == 0.105);
    assert_true(words_rate("thing", "0.1") == 0.1);
    assert_true(words_rate("thing", "1") == 1);
    assert_true(words_rate("thing", "0") == 0);
    assert_true(words_rate("thing", "100%") == 1);
    static const char *const wrong[] = {"101%", "1.01", "10%%", "10 %", "2", "5%x"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        refused(RATE, wrong[i]);
}

static void ranges(void **state)
{
    (void)state;
    struct words_range range = words_range("thing", "5", 1, 1000);
    assert_int_equal(range.min, 5);
    assert_int_equal(range.max, 5);
    range = words_range("thing", "1-1000", 1, 1000);
    assert_int_equal(range.min, 1);
    assert_int_equal(range.max, 1000);
    range = words_range("thing", "7-7", 1, 1000);
    assert_int_equal(range.min, 7);
    assert_int_equal(range.max, 7);
    static const char *const wrong[] = {
        "0",         "0-5",   "5-4",   "1-1001", "1-",
        "-1",        "1-2-3", "1 - 2", "1001",   "1-18446744073709551617",
        "4294967297"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        refused(RANGE, wrong[i]);
}

static const char *const colours[] = {"red", "green", "blue", NULL};

static void choose(const void *text)
{
    words_program("the-program");
    words_choice("colour", text, colours);
}

static void choices(void **state)
{
    (void)state;
    char said[256];
    assert_int_equal(words_choice("colour", "red", colours), 0);
    assert_int_equal(words_choice("colour", "blue", colours), 2);
    static const char *const wrong[] = {"", "gree", "greener", "Red"};
    for (size_t i = 0; i < 4; i++) {
        char expected[128];
        assert_int_equal(exits_run(choose, wrong[i], said, sizeof said), 2);
        snprintf(expected, sizeof expected,
                 "the-program: --colour: \"%s\" is not red, green or blue\n", wrong[i]);
        assert_string_equal(said, expected);
    }
}

static void allow_files(const void *count)
{
    struct rlimit limit;
    words_files(*(const rlim_t *)count);
    getrlimit(RLIMIT_NOFILE, &limit);
    printf("%d", limit.rlim_cur >= *(const rlim_t *)count);
}

static void files(void **state)
{
    (void)state;
    char said[256];
    rlim_t few = 10, beyond = (rlim_t)1 << 40;
    assert_int_equal(exits_run(allow_files, &few, said, sizeof said), 0);
    assert_string_equal(said, "1");
    assert_int_equal(exits_run(allow_files, &beyond, said, sizeof said), 2);
    assert_non_null(strstr(said, "1099511627776 files are needed"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(counts),
        cmocka_unit_test(numbers),
        cmocka_unit_test(sizes),
        cmocka_unit_test(durations),
        cmocka_unit_test(rates),
        cmocka_unit_test(ranges),
        cmocka_unit_test(choices),
        cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
