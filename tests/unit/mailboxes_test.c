/* Address lists of header fields: what each means, or that it means nothing. Each text ends where
 * unreadable memory begins, is folded at every space, and what was found must be an address of the
 * envelope. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "parser/address.h"
#include "parser/mailboxes.h"
#include "tests/unit/guard.h"

static struct guard guard;

/* `found`: mailboxes, each with a space behind it; `bad`: and then no address list. */
static const struct {
    const char *text;
    const char *found;
    bool bad;
} cases[] = {
    {"",                                                    "",                                      false},
    {" ",                                                   "",                                      false},
    {"a@b",                                                 "a@b ",                                  false},
    {" a@b ",                                               "a@b ",                                  false},
    {"a@b, c@d",                                            "a@b c@d ",                              false},
    {"a@b,,,c@d,",                                          "a@b c@d ",                              false},
    {",a@b",                                                "a@b ",                                  false},
    {"Alice <a@b>",                                         "a@b ",                                  false},
    {"<a@b>",                                               "a@b ",                                  false},
    {"\"Doe, Alice\" <a@b>, Bob <c@d>",                     "a@b c@d ",                              false},
    {"\"a@evil\" <a@b>",                                    "a@b ",                                  false},
    {"\"a \\\" <x@y>, \" <a@b>",                            "a@b ",                                  false},
    {"Alice Q. Public <a@b>",                               "a@b ",                                  false},
    {". <a@b>",                                             "a@b ",                                  false},
    {"Alice [Jira] <a@b>",                                  "a@b ",                                  false},
    {"=?utf-8?q?Al=C3=AFce?= <a@b>",                        "a@b ",                                  false},
    {"J\xc3\xb6rg <j\xc3\xb6rg@b\xc3\xbc\x63her.example>",  "j\xc3\xb6rg@b\xc3\xbc\x63her.example ",
     false                                                                                                },
    {"a(c)@(d)b",                                           "a@b ",                                  false},
    {"(x) a (y) @ (z) b (w)",                               "a@b ",                                  false},
    {"a . b @ c . d",                                       "a.b@c.d ",                              false},
    {"Alice (a \\) b (nested (deep))) <(x)a@b(y)>(z), c@d", "a@b c@d ",                              false},
    {"<@x,@y:a@b>",                                         "a@b ",                                  false},
    {"<@x,,@y(c) : a@b>",                                   "a@b ",                                  false},
    {"group: a@b, C <c@d>;",                                "a@b c@d ",                              false},
    {"undisclosed-recipients:;",                            "",                                      false},
    {"\"my group\": a@b;, e@f",                             "a@b e@f ",                              false},
    {"x:;,y: a@b ; , c@d",                                  "a@b c@d ",                              false},
    {"\"a\"@b",                                             "a@b ",                                  false},
    {"\"a b\"@c",                                           "\"a b\"@c ",                            false},
    {"\"a\\b\"@c",                                          "ab@c ",                                 false},
    {"\"a\\\"b\"@c",                                        "\"a\\\"b\"@c ",                         false},
    {"\"a@x\"@c",                                           "\"a@x\"@c ",                            false},
    {"\"\"@c",                                              "\"\"@c ",                               false},
    {"\"a\".b.\"c d\"@e",                                   "\"a.b.c d\"@e ",                        false},
    {"a@[192.0.2.1]",                                       "a@[192.0.2.1] ",                        false},
    {"a@[ 192.0.2.1 ]",                                     "a@[192.0.2.1] ",                        false},
    {"a%b@c",                                               "a%b@c ",                                false},
    {"<a@b> , <c@d>",                                       "a@b c@d ",                              false},
 /* What could be read in two ways, or in none. */
    {"alice",                                               "",                                      true },
    {"a@b c@d",                                             "",                                      true },
    {"a@b <c@d>",                                           "",                                      true },
    {"a@evil <a@b>",                                        "",                                      true },
    {"Doe, Alice <a@b>",                                    "",                                      true },
    {"<a@b> <c@d>",                                         "",                                      true },
    {"<a@b> x",                                             "",                                      true },
    {"Alice <a@b",                                          "",                                      true },
    {"Alice a@b>",                                          "",                                      true },
    {"<>",                                                  "",                                      true },
    {"Alice <alice>",                                       "",                                      true },
    {"<a@b, c@d>",                                          "",                                      true },
    {"a@b, alice",                                          "a@b ",                                  true },
    {"a@b;",                                                "",                                      true },
    {"a@b; c@d",                                            "",                                      true },
    {"g: a@b",                                              "a@b ",                                  true },
    {"g: a@b; c@d",                                         "a@b ",                                  true },
    {"g: h: a@b;;",                                         "",                                      true },
    {":a@b;",                                               "",                                      true },
    {"a..b@c",                                              "",                                      true },
    {".a@c",                                                "",                                      true },
    {"a.@c",                                                "",                                      true },
    {"a@b..c",                                              "",                                      true },
    {"a@b.",                                                "",                                      true },
    {"a@",                                                  "",                                      true },
    {"@b",                                                  "",                                      true },
    {"a b@c",                                               "",                                      true },
    {"\"a\" b@c",                                           "",                                      true },
    {"a@b@c",                                               "",                                      true },
    {"a@[1.2.3.4",                                          "",                                      true },
    {"a[1]@b",                                              "",                                      true },
    {"\"a@b",                                               "",                                      true },
    {"\"a\\",                                               "",                                      true },
    {"(a@b",                                                "",                                      true },
    {"a@b (c",                                              "",                                      true },
    {"a@b (c\\",                                            "",                                      true },
    {"a@b) c",                                              "",                                      true },
    {"<@x a@b>",                                            "",                                      true },
    {"<@x:@y:a@b>",                                         "",                                      true },
    {"a\x01@b",                                             "",                                      true },
    {"\"a\x01\"@b",                                         "",                                      true },
    {"\"a\\\x01\"@b",                                       "",                                      true },
    {"\"a@evil\r\n \" <a@b>",                               "",                                      true },
    {"\"Alice\" [x] <a@b>",                                 "",                                      true },
    {"[ \"] <x@y>, \" <a@b>",                               "",                                      true },
};

static void walk(struct bytes text, const char *expected, bool bad, const char *what)
{
    struct mailboxes walk = {.rest = guard_at_end(&guard, text)};
    struct address address;
    struct bytes mailbox;
    enum mailboxes_result result;
    char found[4096] = "";
    size_t len = 0;
    while ((result = mailboxes_next(&walk, &mailbox)) == MAILBOXES_FOUND) {
        if (address_mailbox(mailbox, true, &address) != ADDRESS_OK)
            fail_msg("%s: found %.*s", what, (int)mailbox.len, (const char *)mailbox.data);
        memcpy(found + len, mailbox.data, mailbox.len);
        len += mailbox.len;
        found[len++] = ' ';
        found[len] = '\0';
    }
    if (strcmp(found, expected) != 0 || (result == MAILBOXES_BAD) != bad)
        fail_msg("%s: found %s, result %d", what, found, result);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        walk(bytes_of_string(cases[i].text), cases[i].found, cases[i].bad, cases[i].text);
}

static void test_folded(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[1024];
        size_t len = 0;
        bool quoted = strchr(cases[i].text, '"') != NULL; /* a space in quotes has a meaning */
        if (strstr(cases[i].text, "\"a \\\" <x@y>") != NULL)
            continue; /* "@" in quotes, which must not be folded */
        for (const char *at = cases[i].text; *at != '\0'; at++) {
            if (*at == ' ')
                len += (size_t)snprintf(text + len, 8, "\r\n%s", quoted ? "" : " \t");
            text[len++] = *at;
        }
        walk(bytes_make(text, len), cases[i].found, cases[i].bad, cases[i].text);
    }
}

/* Every beginning of a text is read without a step behind its end. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t len = strlen(cases[i].text); len-- > 0;) {
            struct mailboxes walk = {.rest = guard_at_end(&guard, bytes_make(cases[i].text, len))};
            struct bytes mailbox;
            size_t steps = 0;
            while (mailboxes_next(&walk, &mailbox) == MAILBOXES_FOUND)
                assert_true(++steps <= len);
        }
}

static void test_bounds(void **state)
{
    (void)state;
    static char text[40000];
    memset(text, '(', 16);
    memset(text + 16, ')', 16);
    memcpy(text + 32, "a@b", 4);
    walk(bytes_of_string(text), "a@b ", false, "16 comments inside each other");
    memset(text, '(', 17);
    memset(text + 17, ')', 17);
    memcpy(text + 34, "a@b", 4);
    walk(bytes_of_string(text), "", true, "17 comments inside each other");
    memset(text, 'x', 30000);
    memcpy(text + 30000, " <a@b>", 7);
    walk(bytes_of_string(text), "a@b ", false, "a long display name");
    memcpy(text + 30000, "@b", 3);
    walk(bytes_of_string(text), "", true, "a long local part");
    memcpy(text, "a@b.", 4);
    text[30000] = '\0';
    walk(bytes_of_string(text), "", true, "a long domain");
}

static int set_up(void **state)
{
    (void)state;
    guard = guard_make(40960);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cases),
        cmocka_unit_test(test_folded),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
