/* Header fields, and the watch over text in pieces: every text below is given whole, cut at every
 * octet, and octet by octet, and must come to what header_next finds in the whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "parser/header.h"
#include "tests/unit/guard.h"

static struct guard guard;

/* What header_next makes of a header section. */
struct section {
    enum header_result result;
    size_t field_count;
    size_t received_count;
    size_t len;
};

static struct section read_section(struct bytes text)
{
    struct section section = {.result = HEADER_FIELD};
    struct header_field field;
    size_t used;
    while ((section.result = header_next(bytes_skip(text, section.len), &field, &used)) ==
           HEADER_FIELD) {
        assert_ptr_equal(field.whole.data, text.data + section.len);
        assert_int_equal(field.whole.len, used);
        assert_true(used > 0 && section.len + used <= text.len);
        section.field_count++;
        section.received_count += header_is(&field, BYTES("received"));
        section.len += used;
    }
    section.len += used;
    return section;
}

/* How the header section ends: not in this text, with the empty line, before a line that is no
 * field. */
enum end { OPEN, ENDED, BAD };

static const struct {
    const char *header;
    const char *body;
    size_t field_count;
    size_t received_count;
    enum end end;
} cases[] = {
    {"",                                         "",                           0, 0, OPEN },
    {"\r\n",                                     "",                           0, 0, ENDED},
    {"\r\n",                                     "body: x\r\n",                0, 0, ENDED},
    {"A: b\r\n\r\n",                             "Received: x\r\n",            1, 0, ENDED},
    {"Received: x\r\n\r\n",                      "",                           1, 1, ENDED},
    {"rEcEiVeD:\r\nReceived : z\r\n\r\n",        "",                           2, 2, ENDED},
    {"Received\t \t: z\r\n\r\n",                 "",                           1, 1, ENDED},
    {"Receive:\r\nReceivedX: x\r\n\r\n",         "",                           2, 0, ENDED},
    {"XReceived:\r\nReceived-SPF:x\r\n\r\n",     "",                           2, 0, ENDED},
    {"A: Received:\r\n Received:\r\n\r\n",       "",                           1, 0, ENDED},
    {"A: b\r\n\tReceived: x\r\n\r\n",            "",                           1, 0, ENDED},
    {"A: b\r\n \r\n\r\n",                        "",                           1, 0, ENDED},
    {"A:\r\n\r\n",                               "",                           1, 0, ENDED},
    {"A: \r b\n c\rd\n\r\nB: c\r\n\r\n",         "",                           2, 0, ENDED},
    {"A: b\r\r\n\r\n",                           "",                           1, 0, ENDED},
    {"A: b\n\r\n\r\n",                           "",                           1, 0, ENDED},
    {"A: b",                                     "",                           1, 0, OPEN },
    {"A: b\r",                                   "",                           1, 0, OPEN },
    {"A: b\r\n",                                 "",                           1, 0, OPEN },
    {"A: b\r\n c",                               "",                           1, 0, OPEN },
    {"!#$%&'*+-./9;<=>?@Z[\\]^_`z{|}~:\r\n\r\n", "",                           1, 0, ENDED},
    {"A:: b\r\n\r\n",                            "",                           1, 0, ENDED},
    {"A: \xc3\xa9\xff\r\n\r\n",                  "",                           1, 0, ENDED},
    {"",                                         " A: b\r\n\r\n",              0, 0, BAD  },
    {"",                                         "\tA: b\r\n\r\n",             0, 0, BAD  },
    {"",                                         ": b\r\n\r\n",                0, 0, BAD  },
    {"",                                         "A b: c\r\n\r\n",             0, 0, BAD  },
    {"",                                         "A\x7f: c\r\n",               0, 0, BAD  },
    {"",                                         "\xc3\xa9: c\r\n",            0, 0, BAD  },
    {"",                                         "Hello\r\nA: b\r\n",          0, 0, BAD  },
    {"",                                         "From me@x Thu\r\nA: b\r\n",  0, 0, BAD  },
    {"A: b\r\n",                                 "Hello you\r\nReceived:\r\n", 1, 0, BAD  },
    {"A: b\r\n",                                 "\rB: c\r\n\r\n",             1, 0, BAD  },
    {"A: b\r\n",                                 "\nB: c\r\n\r\n",             1, 0, BAD  },
    {"",                                         "\r\r\n",                     0, 0, BAD  },
    {"A: b\r\n",                                 "Received \r\n: c\r\n",       1, 0, BAD  },
    {"A: b\r\n",                                 "Received\r\n : c\r\n",       1, 0, BAD  },
};
enum { CASE_COUNT = sizeof(cases) / sizeof(cases[0]) };

static struct bytes case_text(size_t i)
{
    static char room[256];
    snprintf(room, sizeof(room), "%s%s", cases[i].header, cases[i].body);
    return bytes_of_string(room);
}

static void sections_are_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        struct bytes text = case_text(i);
        for (int end = 0; end < 2; end++) {
            struct section section =
                read_section(end ? guard_at_end(&guard, text) : guard_at_start(&guard, text));
            if (section.len != strlen(cases[i].header) ||
                section.field_count != cases[i].field_count)
                fail_msg("%zu: %s", i, cases[i].header);
            assert_int_equal(section.received_count, cases[i].received_count);
            assert_int_equal(section.result, cases[i].end == BAD ? HEADER_BAD : HEADER_END);
        }
    }
}

static void assert_watched(size_t i, const struct header_watch *watch, const char *how)
{
    if (watch->ended != (cases[i].end != OPEN) ||
        watch->received_count != cases[i].received_count || watch->len != strlen(cases[i].header))
        fail_msg("%zu, %s: ended %d, received %u, len %llu: %s", i, how, watch->ended,
                 watch->received_count, (unsigned long long)watch->len, cases[i].header);
}

static void watch_agrees_at_every_split(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        struct bytes text = case_text(i);
        for (size_t split = 0; split <= text.len; split++) {
            struct header_watch watch = {0};
            header_watch_text(&watch, guard_at_end(&guard, bytes_slice(text, 0, split)));
            header_watch_text(&watch, guard_at_end(&guard, bytes_slice(text, split, text.len)));
            assert_watched(i, &watch, "in two pieces");
        }
        struct header_watch watch = {0};
        for (size_t at = 0; at < text.len; at++) {
            header_watch_text(&watch, guard_at_end(&guard, bytes_slice(text, at, at + 1)));
            header_watch_text(&watch, bytes_make(NULL, 0));
        }
        assert_watched(i, &watch, "octet by octet");
    }
}

static void fields_are_taken_apart(void **state)
{
    (void)state;
    struct header_field field;
    size_t used;
    struct bytes text = BYTES("Subject \t: Re:\r\n  x \r\n\ty\r\nTo: z\r\n");
    assert_int_equal(header_next(text, &field, &used), HEADER_FIELD);
    assert_true(bytes_equal(field.name, BYTES("Subject")));
    assert_true(bytes_equal(field.value, BYTES(" Re:\r\n  x \r\n\ty")));
    assert_true(bytes_equal(field.whole, BYTES("Subject \t: Re:\r\n  x \r\n\ty\r\n")));
    assert_int_equal(used, field.whole.len);
    assert_true(header_is(&field, BYTES("SUBJECT")));
    assert_false(header_is(&field, BYTES("Subjec")));
    assert_int_equal(header_next(bytes_skip(text, used), &field, &used), HEADER_FIELD);
    assert_true(bytes_equal(field.value, BYTES(" z")));
    assert_int_equal(header_next(BYTES("no field"), &field, &used), HEADER_BAD);
    assert_int_equal(used, 0);
    assert_int_equal(field.whole.len, 0);
    assert_int_equal(header_next(bytes_make(NULL, 0), &field, &used), HEADER_END);
    assert_int_equal(used, 0);
}

/* Nothing of the body is counted, and a name may come in as many pieces as it likes. */
static void watch_stops_at_the_end(void **state)
{
    (void)state;
    struct header_watch watch = {0};
    for (unsigned i = 0; i < 100; i++) {
        header_watch_text(&watch, BYTES("Recei"));
        header_watch_text(&watch, BYTES("ved: by x;\r"));
        header_watch_text(&watch, BYTES("\n\tyesterday\r\n"));
    }
    assert_false(watch.ended);
    assert_int_equal(watch.received_count, 100);
    assert_int_equal(watch.len, 100 * 29);
    header_watch_text(&watch, BYTES("\r"));
    assert_int_equal(watch.len, 2901);
    header_watch_text(&watch, BYTES("\nReceived: x\r\n"));
    header_watch_text(&watch, BYTES("Received: x\r\n"));
    assert_true(watch.ended);
    assert_int_equal(watch.received_count, 100);
    assert_int_equal(watch.len, 2902);
}

int main(void)
{
    guard = guard_make(4096);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_are_read),
        cmocka_unit_test(watch_agrees_at_every_split),
        cmocka_unit_test(fields_are_taken_apart),
        cmocka_unit_test(watch_stops_at_the_end),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    guard_free(&guard);
    return failed;
}
