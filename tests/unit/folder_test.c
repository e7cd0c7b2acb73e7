/* Folder names: what mailboxes become, with hostile ones among them, and that no two users share a
 * folder. */
#include "gateway/deliver/folder.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/unit/guard.h"

static struct folder folder;

static const char *made(const char *template, const char *mailbox)
{
    assert_null(folder_template_error(template));
    int error = folder_make(&folder, template, BYTES("example.org"), bytes_of_string(mailbox));
    assert_int_equal(error, 0);
    assert_int_equal(folder.len, strlen(folder.path));
    assert_true(folder.prefix_len <= folder.len);
    return folder.path;
}

static void known(void **state)
{
    (void)state;
    static const struct {
        const char *mailbox, *user;
    } cases[] = {
        {"alice@example.org",            "alice"                   },
        {"Alice@Example.ORG",            "alice"                   },
        {"alice+news@example.org",       "alice"                   },
        {"alice+@example.org",           "alice"                   },
        {"a+b+c@example.org",            "a"                       },
        {"+tag@example.org",             "+tag"                    },
        {"\"alice\"@example.org",        "alice"                   },
        {"\"a\\lice\"@example.org",      "alice"                   },
        {"\"alice+x y\"@example.org",    "alice"                   },
        {"\"a b\"@example.org",          "a%20b"                   },
        {"\"a@b\"@example.org",          "a@b"                     },
        {"\"a\\\"b\"@example.org",       "a%22b"                   },
        {"\"a\\\\b\"@example.org",       "a%5Cb"                   },
        {"\"\"@example.org",             "%empty"                  },
        {"%empty@example.org",           "%25empty"                },
        {"postmaster",                   "postmaster"              },
        {"..@example.org",               "%2E."                    },
        {".@example.org",                "%2E"                     },
        {".hidden@example.org",          "%2Ehidden"               },
        {"../../etc/passwd@example.org", "%2E.%2F..%2Fetc%2Fpasswd"},
        {"a/b@example.org",              "a%2Fb"                   },
        {"a%2fb@example.org",            "a%252fb"                 },
        {"a:2,s@example.org",            "a%3A2%2Cs"               },
        {"j\xc3\xb6rg@example.org",      "j%C3%B6rg"               },
        {"a\x01\x7f\xff@example.org",    "a%01%7F%FF"              },
        {"cur@example.org",              "cur"                     },
        {"a.b_c-d=e@example.org",        "a.b_c-d=e"               },
        {"\"@example.org",               "%22"                     },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(made("%u", cases[i].mailbox), cases[i].user);
    int error = folder_make(&folder, "%u", BYTES("example.org"),
                            bytes_make("a\0b@example.org", sizeof "a\0b@example.org" - 1));
    assert_int_equal(error, 0);
    assert_string_equal(folder.path, "a%00b");
}

static void templates(void **state)
{
    (void)state;
    assert_string_equal(made("/var/mail/%d/%u", "bob@example.org"), "/var/mail/example.org/bob");
    assert_int_equal(folder.prefix_len, strlen("/var/mail"));
    assert_string_equal(made("mail/%u@%d/box", "bob@example.org"), "mail/bob@example.org/box");
    assert_int_equal(folder.prefix_len, strlen("mail"));
    assert_string_equal(made("/m/x-%u", ".x@example.org"), "/m/x-%2Ex");
    assert_int_equal(folder.prefix_len, strlen("/m"));
    assert_string_equal(made("%d", "x@example.org"), "example.org");
    assert_int_equal(folder.prefix_len, 0);
    assert_string_equal(made("/%d", "x@example.org"), "/example.org");
    assert_int_equal(folder.prefix_len, 0);
    assert_string_equal(made("/all/of/it", "x@example.org"), "/all/of/it");
    assert_int_equal(folder.prefix_len, strlen("/all/of/it"));
    assert_string_equal(made("./100%%/%u", "x@example.org"), "./100%/x");
    assert_int_equal(folder.prefix_len, strlen("./100%"));
    assert_string_equal(made("../m/%u", "x@example.org"), "../m/x");
}

static void too_long(void **state)
{
    (void)state;
    char mailbox[700];
    /* 64 octets that all need three are fine. */
    memset(mailbox, '/', 64);
    memcpy(mailbox + 64, "@example.org", 13);
    assert_int_equal(strlen(made("%u", mailbox)), 192);
    /* A component of 255 is the longest that there is. */
    memset(mailbox, 'a', sizeof mailbox);
    for (size_t len = 250; len <= 600; len++) {
        int error = folder_make(&folder, "m/%u", BYTES("d"), bytes_make(mailbox, len));
        assert_int_equal(error, len <= FOLDER_NAME_MAX ? 0 : -ENAMETOOLONG);
    }
    char template[1200];
    memset(template, 'b', 250);
    for (size_t i = 0; i + 250 < sizeof template; i += 250)
        memcpy(template + i, "/%u", 3), memset(template + i + 3, 'b', 247);
    template[1000] = '\0';
    assert_null(folder_template_error(template));
    memset(mailbox, '/', 64);
    assert_int_equal(folder_make(&folder, template, BYTES("d"), bytes_make(mailbox, 64)),
                     -ENAMETOOLONG);
}

/* Octets at random, in memory with an unreadable page behind it: the result is always one harmless
 * component, and decoding it gives back what went in. */
static void random_mailboxes(void **state)
{
    (void)state;
    static const char likely[] = "..//%%\\\"\"@++aAzZ09-_= \n\0:";
    struct guard guard = guard_make(128);
    uint64_t random = 42;
    for (int round = 0; round < 200000; round++) {
        uint8_t local[64];
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t len = (random >> 33) % sizeof local;
        for (size_t i = 0; i < len; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            uint32_t value = (uint32_t)(random >> 33);
            local[i] =
                (value & 256) != 0 ? (uint8_t)value : (uint8_t)likely[value % (sizeof likely)];
        }
        struct bytes mailbox = guard_at_end(&guard, bytes_make(local, len));
        assert_int_equal(folder_make(&folder, "/p/%u", BYTES("d"), mailbox), 0);
        const char *name = folder.path + 3;
        assert_true(name[0] != '\0' && name[0] != '.');
        assert_null(strchr(name, '/'));
        for (const char *at = name; *at != '\0'; at++)
            assert_true(*at > ' ' && *at < 127);
        /* Without quotes, at-signs or plus signs the name decodes to the mailbox in lower case. */
        if (len == 0 || memchr(local, '@', len) || memchr(local, '"', len) ||
            memchr(local, '+', len))
            continue;
        size_t out = 0;
        for (const char *at = name; *at != '\0'; out++) {
            uint8_t c = (uint8_t)*at++;
            if (c == '%') {
                char hex[3] = {at[0], at[1], 0};
                c = (uint8_t)strtoul(hex, NULL, 16);
                at += 2;
            }
            assert_true(out < len && c == byte_lower(local[out]));
        }
        assert_int_equal(out, len);
    }
    guard_free(&guard);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known),
        cmocka_unit_test(templates),
        cmocka_unit_test(too_long),
        cmocka_unit_test(random_mailboxes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
