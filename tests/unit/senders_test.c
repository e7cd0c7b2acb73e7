/* Whose addresses are whose. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/policy/senders.h"

static struct senders *senders;

static bool owns(const char *user, const char *mailbox)
{
    return senders_owns(senders, bytes_of_string(user), bytes_of_string(mailbox));
}

static void add(const char *user, const char *pattern)
{
    const char *error;
    if (!senders_add(senders, bytes_of_string(user), bytes_of_string(pattern), &error))
        fail_msg("%s: %s", pattern, error);
}

static int set_up(void **state)
{
    (void)state;
    senders = senders_new("example.org");
    return senders == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    senders_free(senders);
    return 0;
}

static void test_own(void **state)
{
    (void)state;
    assert_true(owns("alice@example.com", "alice@example.com"));
    assert_true(owns("alice@example.com", "Alice@EXAMPLE.com"));
    assert_true(owns("ALICE@example.com", "alice@example.com"));
    assert_true(owns("alice@example.com", "alice+tag@example.com"));
    assert_true(owns("alice@example.com", "alice+a+b@example.com"));
    assert_true(owns("alice@example.com", "alice+@example.com"));
    assert_true(owns("alice@example.com", "\"alice\"@example.com"));
    assert_true(owns("alice@example.com", "\"alice+a b\"@example.com"));
    assert_true(owns("alice@example.com", "\"a\\lice\"@example.com"));
    assert_true(owns("alice", "alice@example.org"));
    assert_true(owns("alice", "alice+x@example.org"));
    assert_false(owns("alice", "alice@example.com"));
    assert_false(owns("alice", "alicex@example.org"));
    assert_false(owns("alice", "alic@example.org"));
    assert_false(owns("alice", "bob@example.org"));
    assert_false(owns("alice", "bob+alice@example.org"));
    assert_false(owns("alice", "alice-x@example.org"));
    assert_false(owns("alice@example.com", "alice@example.org"));
    assert_false(owns("alice@example.com", "alice@sub.example.com"));
    assert_false(owns("alice@example.com", "\"alice@example.com\"@evil.example"));
    assert_false(owns("alice", "\" alice\"@example.org"));
    assert_true(owns("mary jane", "\"mary jane\"@example.org"));
    assert_true(owns("j\xc3\xb6rg", "j\xc3\xb6rg@example.org"));
}

static void test_nobody(void **state)
{
    (void)state;
    assert_false(owns("", "alice@example.org"));
    assert_false(owns("", "@example.org"));
    assert_false(owns("alice", ""));
    assert_false(owns("alice", "alice"));
    assert_false(owns("alice", "@example.org"));
    assert_false(owns("alice", "alice@"));
    assert_false(owns("alice", "alice@example.org "));
    assert_false(owns("alice@", "alice@"));
    assert_false(owns("alice@a@b", "alice@a"));
    assert_false(owns("*", "alice@example.org"));
    assert_false(owns("\r\n", "x@example.org"));
    char longest[400];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    assert_false(owns(longest, "alice@example.org"));
    assert_false(owns("alice", longest));
}

static void test_listed(void **state)
{
    (void)state;
    add("alice", "sales@example.org");
    add("Alice", "info+*@example.org");
    add("alice", "*@example.net");
    add("alice", "\"odd one\"@example.com");
    add("bob", "ceo@example.org");
    add("bob", "\"\"@example.edu");
    add("relay", "*");
    assert_int_equal(senders_count(senders), 7);
    assert_true(owns("alice", "SALES@example.org"));
    assert_true(owns("ALICE", "sales@example.org"));
    assert_false(owns("alice", "sales+x@example.org"));
    assert_true(owns("alice", "info@example.org"));
    assert_true(owns("alice", "info+x+y@example.org"));
    assert_false(owns("alice", "infos@example.org"));
    assert_true(owns("alice", "whoever@example.net"));
    assert_true(owns("alice", "\"who ever\"@EXAMPLE.net"));
    assert_false(owns("alice", "whoever@sub.example.net"));
    assert_true(owns("alice", "\"odd one\"@example.com"));
    assert_false(owns("alice", "ceo@example.org"));
    assert_true(owns("bob", "ceo@example.org"));
    assert_false(owns("bob", "sales@example.org"));
    assert_true(owns("bob", "\"\"@example.edu"));
    assert_false(owns("bob", "x@example.edu"));
    assert_true(owns("alice", "alice@example.org"));
    assert_true(owns("relay", "anybody@anywhere.example"));
    assert_true(owns("relay", "no mailbox"));
    assert_true(owns("relay", "x@foo_bar.example"));
    assert_true(senders_owns_all(senders, BYTES("RELAY@example.org")));
    assert_false(senders_owns_all(senders, BYTES("alice")));
    assert_false(senders_owns_all(senders, BYTES("relay@example.net")));
    assert_false(owns("carol", "sales@example.org"));
    assert_true(owns("alice@example.org", "sales@example.org")); /* the same name */
    assert_true(owns("Alice@EXAMPLE.org", "who.ever@example.net"));
    assert_false(owns("alice@example.net", "sales@example.org")); /* that is another */
    add("carol@example.org", "info@example.edu");
    assert_true(owns("carol", "info@example.edu"));
    assert_true(owns("carol@example.org", "info@example.edu"));
    assert_false(owns("carol@example.edu", "info@example.edu"));
}

static void test_bad_patterns(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "",
        "alice",
        "@example.org",
        "*@",
        "**",
        "*@*",
        "a*@example.org",
        "*a@example.org",
        "a+*b@example.org",
        "+*@example.org",
        "a@*.example.org",
        "*@[192.0.2.1]",
        "a b@example.org",
        "a@example.org, b@example.org",
        "<a@example.org>",
        "*+*@example.org",
        "a+*",
        "a+*@",
    };
    const char *error;
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        error = NULL;
        if (senders_add(senders, BYTES("alice"), bytes_of_string(patterns[i]), &error) ||
            error == NULL)
            fail_msg("%s was taken", patterns[i]);
    }
    assert_false(senders_add(senders, BYTES(""), BYTES("*"), &error));
    assert_int_equal(senders_count(senders), 0);
}

static void main_is(const char *user, const char *expected)
{
    char out[300];
    size_t len = senders_main(senders, bytes_of_string(user), out, sizeof(out));
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(out, expected, len);
    assert_int_equal(senders_main(senders, bytes_of_string(user), out, len - (len > 0)), 0);
}

static void test_main_address(void **state)
{
    (void)state;
    main_is("alice", "alice@example.org");
    main_is("alice@example.com", "alice@example.com");
    main_is("mary jane", "\"mary jane\"@example.org");
    main_is("a@b@c", "");
    main_is("a\r\nb", "");
    senders_free(senders);
    senders = senders_new(NULL);
    assert_non_null(senders);
    main_is("alice", "");
    assert_false(owns("alice", "alice@example.org"));
    assert_true(owns("alice@example.com", "alice@example.com"));
}

static void test_many(void **state)
{
    (void)state;
    char user[32], pattern[64];
    for (int i = 0; i < 20000; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        snprintf(pattern, sizeof(pattern), "box%d@example.net", i);
        add(user, pattern);
    }
    for (int i = 0; i < 20000; i++) {
        snprintf(user, sizeof(user), "user%d", i);
        snprintf(pattern, sizeof(pattern), "box%d@example.net", i);
        assert_true(owns(user, pattern));
        snprintf(pattern, sizeof(pattern), "box%d@example.net", i + 1);
        assert_false(owns(user, pattern));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nobody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_listed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_patterns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_main_address, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
