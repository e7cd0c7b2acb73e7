/* gateway/admin/sheet: figures for people, columns, and nothing that a terminal would obey. */
#include "gateway/admin/sheet.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void ages_have_one_unit(void **state)
{
    (void)state;
    static const struct {
        uint64_t time_s;
        const char *text;
    } cases[] = {
        {0,            "0s"              },
        {119,          "119s"            },
        {120,          "2m"              },
        {7199,         "119m"            },
        {7200,         "2h"              },
        {2 * 86400,    "2d"              },
        {400 * 86400u, "400d"            },
        {UINT64_MAX,   "213503982334601d"},
    };
    char text[SHEET_FIGURE_SIZE];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(sheet_age(cases[i].time_s, text), cases[i].text);
}

static void sizes_have_few_digits(void **state)
{
    (void)state;
    static const struct {
        uint64_t octets;
        const char *text;
    } cases[] = {
        {0,               "0"    },
        {1023,            "1023" },
        {1024,            "1.0k" },
        {4300,            "4.1k" },
        {10239,           "9.9k" },
        {10240,           "10k"  },
        {1024 * 1024 - 1, "1023k"},
        {1024 * 1024,     "1.0M" },
        {17u << 20,       "17M"  },
        {3ull << 30,      "3.0G" },
        {UINT64_MAX,      "15E"  },
    };
    char text[SHEET_FIGURE_SIZE];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        assert_string_equal(sheet_size(cases[i].octets, text), cases[i].text);
}

static void terminals_are_safe(void **state)
{
    (void)state;
    static const struct {
        const char *before, *after;
    } cases[] = {
        {"plain",                  "plain"                },
        {"\x1b[2J\r\n\t\x7f",      "?[2J????"             },
        {"j\xc3\xb6rg@b.example",  "j\xc3\xb6rg@b.example"},
        {"\xc2\x9b"
         "31m",           "?31m"                 }, /* CSI as one character */
        {"\xff\xc3",               "??"                   },
        {"\xe2\x82",               "??"                   }, /* cut off */
        {"\xed\xa0\x80",           "???"                  }, /* a surrogate */
        {"\xf0\x9f\x93\xa7",       "\xf0\x9f\x93\xa7"     },
        {"\xf5\x80\x80\x80",       "????"                 },
        {"a\xe2\x80\xae\xe2\x80\xa8"
         "b\xef\xbb\xbf", "a??b?"                }, /* turned, ended, not seen */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[64];
        snprintf(text, sizeof(text), "%s", cases[i].before);
        assert_string_equal(sheet_clean(text), cases[i].after);
    }
    assert_int_equal(sheet_width("j\xc3\xb6rg"), 4);
}

static void columns_are_as_wide_as_what_stands_in_them(void **state)
{
    (void)state;
    static const struct sheet_column columns[] = {
        {"N",    true },
        {"NAME", false},
        {"WHY",  false},
    };
    char *text;
    size_t size;
    struct sheet *sheet = sheet_new(columns, 3);
    assert_non_null(sheet);
    assert_true(sheet_add(sheet, (const char *const[]){"1000", "j\xc3\xb6rg", ""}));
    assert_true(sheet_add(sheet, (const char *const[]){"7", "somebody", "a\nb"}));
    for (unsigned i = 0; i < 200; i++)
        assert_true(sheet_add(sheet, (const char *const[]){"1", "x", "y"}));
    FILE *out = open_memstream(&text, &size);
    sheet_print(sheet, out);
    fclose(out);
    static const char wanted[] = "   N  NAME      WHY\n"
                                 "1000  j\xc3\xb6rg      \n"
                                 "   7  somebody  a?b\n"
                                 "   1  x         y\n";
    assert_memory_equal(text, wanted, sizeof(wanted) - 1);
    free(text);
    sheet_free(sheet);
    assert_null(sheet_new(columns, SHEET_COLUMNS_MAX + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_have_one_unit),
        cmocka_unit_test(sizes_have_few_digits),
        cmocka_unit_test(terminals_are_safe),
        cmocka_unit_test(columns_are_as_wide_as_what_stands_in_them),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
