/* gateway/policy/directory: who is taken, who is not, in which spelling; and a directory of a
 * million. */
#include "gateway/policy/directory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/clock.h"

static enum directory_verdict verdict(const struct directory *directory, const char *path)
{
    struct address address;
    size_t used;
    assert_int_equal(address_forward_path(bytes_of_string(path), true, &address, &used),
                     ADDRESS_OK);
    return directory_check(directory, &address);
}

static int add_domain(struct directory *directory, const char *name)
{
    return directory_add_domain(directory, bytes_of_string(name));
}

static bool add(struct directory *directory, int domain, const char *pattern)
{
    return directory_add_recipient(directory, domain, bytes_of_string(pattern));
}

static struct directory *example(void)
{
    struct directory *directory = directory_new();
    assert_non_null(directory);
    int org = add_domain(directory, "Example.ORG");
    int net = add_domain(directory, "example.net");
    int umlaut = add_domain(directory, "m\xc3\xbcller.example");
    assert_int_equal(org, 0);
    assert_int_equal(net, 1);
    assert_int_equal(umlaut, 2);
    assert_true(add(directory, org, "Alice"));
    assert_true(add(directory, org, "bob+*"));
    assert_true(add(directory, org, "\"Carol Smith\""));
    assert_true(add(directory, org, "\"dave\""));
    assert_true(add(directory, org, "eve+list"));
    assert_true(add(directory, org, "a+b+*"));
    assert_true(add(directory, org, "\"a*c\""));
    assert_true(add(directory, org, "J\xc3\xb6rg"));
    assert_true(add(directory, net, "*"));
    assert_true(add(directory, umlaut, "frank"));
    assert_int_equal(directory_recipient_count(directory), 10);
    return directory;
}

static void recipients_are_found_in_any_spelling(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum directory_verdict want;
    } cases[] = {
        {"<alice@example.org>",                DIRECTORY_ACCEPT      },
        {"<ALICE@EXAMPLE.org>",                DIRECTORY_ACCEPT      },
        {"<\"alice\"@example.org>",            DIRECTORY_ACCEPT      },
        {"<\"al\\ice\"@example.org>",          DIRECTORY_ACCEPT      },
        {"<@relay.example:alice@example.org>", DIRECTORY_ACCEPT      },
        {"<alice+tag@example.org>",            DIRECTORY_NO_SUCH_USER},
        {"<alic@example.org>",                 DIRECTORY_NO_SUCH_USER},
        {"<alicea@example.org>",               DIRECTORY_NO_SUCH_USER},
        {"<bob@example.org>",                  DIRECTORY_ACCEPT      },
        {"<bob+@example.org>",                 DIRECTORY_ACCEPT      },
        {"<Bob+Tag@example.org>",              DIRECTORY_ACCEPT      },
        {"<bob+one+two@example.org>",          DIRECTORY_ACCEPT      },
        {"<\"bob+a tag\"@example.org>",        DIRECTORY_ACCEPT      },
        {"<bobby+tag@example.org>",            DIRECTORY_NO_SUCH_USER},
        {"<bob-tag@example.org>",              DIRECTORY_NO_SUCH_USER},
        {"<+tag@example.org>",                 DIRECTORY_NO_SUCH_USER},
        {"<\"carol smith\"@example.org>",      DIRECTORY_ACCEPT      },
        {"<\"carol\\ smith\"@example.org>",    DIRECTORY_ACCEPT      },
        {"<carol@example.org>",                DIRECTORY_NO_SUCH_USER},
        {"<dave@example.org>",                 DIRECTORY_ACCEPT      },
        {"<eve+list@example.org>",             DIRECTORY_ACCEPT      },
        {"<eve@example.org>",                  DIRECTORY_NO_SUCH_USER},
        {"<eve+list+x@example.org>",           DIRECTORY_NO_SUCH_USER},
        {"<a+b@example.org>",                  DIRECTORY_ACCEPT      },
        {"<a+b+c@example.org>",                DIRECTORY_ACCEPT      },
        {"<a+c@example.org>",                  DIRECTORY_NO_SUCH_USER},
        {"<a*c@example.org>",                  DIRECTORY_ACCEPT      },
        {"<abc@example.org>",                  DIRECTORY_NO_SUCH_USER},
        {"<*@example.org>",                    DIRECTORY_NO_SUCH_USER},
        {"<\"\"@example.org>",                 DIRECTORY_NO_SUCH_USER},
        {"<j\xc3\xb6rg@example.org>",          DIRECTORY_ACCEPT      },
        {"<anybody@example.net>",              DIRECTORY_ACCEPT      },
        {"<\"\"@EXAMPLE.NET>",                 DIRECTORY_ACCEPT      },
        {"<alice@example.net>",                DIRECTORY_ACCEPT      },
        {"<frank@m\xc3\xbcller.example>",      DIRECTORY_ACCEPT      },
        {"<frank@xn--mller-kva.example>",      DIRECTORY_RELAY_DENIED},
        {"<frank@example.org>",                DIRECTORY_NO_SUCH_USER},
        {"<alice@example.com>",                DIRECTORY_RELAY_DENIED},
        {"<alice@sub.example.org>",            DIRECTORY_RELAY_DENIED},
        {"<alice@org>",                        DIRECTORY_RELAY_DENIED},
        {"<alice@[192.0.2.1]>",                DIRECTORY_RELAY_DENIED},
        {"<alice@[IPv6:2001:db8::1]>",         DIRECTORY_RELAY_DENIED},
    };
    struct directory *directory = example();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum directory_verdict got = verdict(directory, cases[i].path);
        if (got != cases[i].want)
            print_message("%s: %d, not %d\n", cases[i].path, got, cases[i].want);
        assert_int_equal(got, cases[i].want);
    }
    directory_free(directory);
}

static void postmaster_is_always_there(void **state)
{
    (void)state;
    struct directory *directory = example();
    assert_int_equal(verdict(directory, "<Postmaster>"), DIRECTORY_ACCEPT);
    assert_int_equal(verdict(directory, "<pOSTMASTER>"), DIRECTORY_ACCEPT);
    assert_int_equal(verdict(directory, "<PostMaster@Example.org>"), DIRECTORY_ACCEPT);
    assert_int_equal(verdict(directory, "<\"postmaster\"@example.org>"), DIRECTORY_ACCEPT);
    assert_int_equal(verdict(directory, "<postmaster@m\xc3\xbcller.example>"), DIRECTORY_ACCEPT);
    assert_int_equal(verdict(directory, "<postmaster+x@example.org>"), DIRECTORY_NO_SUCH_USER);
    assert_int_equal(verdict(directory, "<postmaster@example.com>"), DIRECTORY_RELAY_DENIED);
    assert_int_equal(verdict(directory, "<postmaster@[192.0.2.1]>"), DIRECTORY_RELAY_DENIED);
    directory_free(directory);
}

static void domains_are_added_once(void **state)
{
    (void)state;
    struct directory *directory = example();
    assert_int_equal(add_domain(directory, "example.org"), -2);
    assert_int_equal(add_domain(directory, "EXAMPLE.net"), -2);
    /* The name of a domain is no recipient of one, and the other way round. */
    assert_true(add(directory, 0, "example.net"));
    assert_int_equal(add_domain(directory, "alice"), 3);
    assert_int_equal(verdict(directory, "<x@alice>"), DIRECTORY_NO_SUCH_USER);
    directory_free(directory);
}

static void bad_patterns_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "+*",
        "a*c",
        "a b",
        "alice@example.org",
        "@users",
        "<a>",
        ".a",
        "a.",
        "a..b",
        "\"open",
        "a\"b\"",
        "\xff",
        "a\tb",
        "a,b",
        "()",
        "**@",
        "12345678901234567890123456789012345678901234567890123456789012345",
    };
    struct directory *directory = example();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(add(directory, 0, bad[i]));
    assert_false(directory_add_recipient(directory, 0, bytes_make("a\0b", 3)));
    assert_true(
        add(directory, 0, "1234567890123456789012345678901234567890123456789012345678901234"));
    assert_true(
        add(directory, 0, "12345678901234567890123456789012345678901234567890123456789012+*"));
    assert_int_equal(directory_recipient_count(directory), 12);
    directory_free(directory);
}

/* The pattern with a tag may come before or after the plain one, in any case. */
static void patterns_of_one_user_add_up(void **state)
{
    (void)state;
    struct directory *directory = directory_new();
    int domain = add_domain(directory, "example.org");
    assert_true(add(directory, domain, "x+*"));
    assert_true(add(directory, domain, "X"));
    assert_true(add(directory, domain, "y"));
    assert_true(add(directory, domain, "\"Y\"+*"));
    assert_int_equal(verdict(directory, "<x+t@example.org>"), DIRECTORY_ACCEPT);
    assert_int_equal(verdict(directory, "<y+t@example.org>"), DIRECTORY_ACCEPT);
    directory_free(directory);
}

static void a_million_recipients(void **state)
{
    (void)state;
    enum { COUNT = 1000000, DOMAINS = 1000 };
    char text[64];
    struct directory *directory = directory_new();
    uint64_t start_us = clock_monotonic_us();
    for (int i = 0; i < DOMAINS; i++) {
        snprintf(text, sizeof(text), "d%d.example", i);
        assert_int_equal(add_domain(directory, text), i);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(text, sizeof(text), i % 10 == 0 ? "user.%u+*" : "user.%u", i);
        assert_true(add(directory, (int)(i % DOMAINS), text));
    }
    uint64_t loaded_us = clock_monotonic_us();
    assert_int_equal(directory_recipient_count(directory), COUNT);
    size_t accepted = 0, refused = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(text, sizeof(text), "<User.%u@d%u.EXAMPLE>", i, i % DOMAINS);
        accepted += verdict(directory, text) == DIRECTORY_ACCEPT;
        snprintf(text, sizeof(text), "<user.%u@d%u.example>", i, (i + 1) % DOMAINS);
        refused += verdict(directory, text) == DIRECTORY_NO_SUCH_USER;
    }
    uint64_t checked_us = clock_monotonic_us();
    assert_int_equal(accepted, COUNT);
    assert_int_equal(refused, COUNT);
    assert_int_equal(verdict(directory, "<user.999990+tag@d990.example>"), DIRECTORY_ACCEPT);
    assert_int_equal(verdict(directory, "<user.999991+tag@d991.example>"), DIRECTORY_NO_SUCH_USER);
    print_message("1,000,000 recipients: loaded in %.2f s; a check, with parsing, takes %.0f ns\n",
                  (double)(loaded_us - start_us) / 1e6,
                  (double)(checked_us - loaded_us) * 1e3 / (2 * COUNT));
    directory_free(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recipients_are_found_in_any_spelling),
        cmocka_unit_test(postmaster_is_always_there),
        cmocka_unit_test(domains_are_added_once),
        cmocka_unit_test(bad_patterns_are_refused),
        cmocka_unit_test(patterns_of_one_user_add_up),
        cmocka_unit_test(a_million_recipients),
    };
    return cmocka_run_group_tests_name("directory", tests, NULL, NULL);
}
