/* gateway/policy/mailbox: taking mailboxes apart, comparing them, and writing them with quotes only
 * where they must be. */
#include "gateway/policy/mailbox.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void split_and_write(void **state)
{
    (void)state;
    static const struct {
        const char *mailbox, *local, *domain, *written;
    } cases[] = {
        {"a@b",                        "a",          "b",                "a@b"            },
        {"Postmaster",                 "Postmaster", "",                 NULL             },
        {"\"a\"@b",                    "a",          "b",                "a@b"            },
        {"\"\"@b",                     "",           "b",                "\"\"@b"         },
        {"\"a@b\"@c",                  "a@b",        "c",                "\"a@b\"@c"      },
        {"\"a\\\"\\\\\"@c",            "a\"\\",      "c",                "\"a\\\"\\\\\"@c"},
        {"\"\\\"x\\\"\"@c",            "\"x\"",      "c",                "\"\\\"x\\\"\"@c"},
        {"\"a.\"@c",                   "a.",         "c",                "\"a.\"@c"       },
        {"\"a\\.b\"@c",                "a.b",        "c",                "a.b@c"          },
        {"x@[192.0.2.1]",              "x",          "[192.0.2.1]",      "x@[192.0.2.1]"  },
        {"j\xc3\xb6@\xc3\xb6.example", "j\xc3\xb6",  "\xc3\xb6.example",
         "j\xc3\xb6@\xc3\xb6.example"                                                     },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t local[ADDRESS_LOCAL_LEN_MAX];
        char out[ADDRESS_LEN_MAX];
        struct bytes domain;
        size_t len = mailbox_split(bytes_of_string(cases[i].mailbox), local, &domain);
        assert_true(bytes_equal(bytes_make(local, len), bytes_of_string(cases[i].local)));
        assert_true(bytes_equal(domain, bytes_of_string(cases[i].domain)));
        len = mailbox_write(bytes_make(local, len), domain, out);
        struct bytes want =
            cases[i].written == NULL ? BYTES("") : bytes_of_string(cases[i].written);
        assert_true(bytes_equal(bytes_make(out, len), want));
    }
}

static void what_is_no_mailbox(void **state)
{
    (void)state;
    char out[ADDRESS_LEN_MAX];
    uint8_t octets[300];
    memset(octets, 'x', sizeof(octets));
    assert_int_equal(mailbox_write(BYTES("a\0b"), BYTES("c"), out), 0);
    assert_int_equal(mailbox_write(BYTES("a\r\nb"), BYTES("c"), out), 0);
    assert_int_equal(mailbox_write(BYTES("a"), BYTES("c..d"), out), 0);
    assert_int_equal(mailbox_write(BYTES("a"), BYTES(""), out), 0);
    assert_int_equal(mailbox_write(BYTES("a\xff"), BYTES("c"), out), 0);
    assert_int_equal(mailbox_write(bytes_make(octets, 252), BYTES("c"), out), 254);
    assert_int_equal(mailbox_write(bytes_make(octets, 253), BYTES("c"), out), 0);
    assert_int_equal(mailbox_write(bytes_make(octets, 252), BYTES("cd"), out), 0);
    memset(octets, '"', sizeof(octets));
    assert_int_equal(mailbox_write(bytes_make(octets, 125), BYTES("c"), out), 254);
    assert_int_equal(mailbox_write(bytes_make(octets, 126), BYTES("c"), out), 0);
}

static void same_and_hash(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool same, same_folded;
    } cases[] = {
        {"a@b",        "a@b",          true,  true },
        {"a@b",        "A@b",          false, true },
        {"a@b",        "a@B",          true,  true },
        {"a@b",        "\"a\"@b",      true,  true },
        {"a@b",        "\"\\A\"@B",    false, true },
        {"a@b",        "a@c",          false, false},
        {"a@bc",       "ab@c",         false, false},
        {"\"a@b\"@c",  "a@b",          false, false},
        {"Postmaster", "postmaster",   false, true },
        {"postmaster", "postmaster@a", false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bytes a = bytes_of_string(cases[i].a);
        struct bytes b = bytes_of_string(cases[i].b);
        assert_int_equal(mailbox_same(a, b, false), cases[i].same);
        assert_int_equal(mailbox_same(a, b, true), cases[i].same_folded);
        assert_int_equal(mailbox_hash(a, false) == mailbox_hash(b, false), cases[i].same);
        assert_int_equal(mailbox_hash(a, true) == mailbox_hash(b, true), cases[i].same_folded);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(split_and_write),
        cmocka_unit_test(what_is_no_mailbox),
        cmocka_unit_test(same_and_hash),
    };
    return cmocka_run_group_tests_name("mailbox", tests, NULL, NULL);
}
