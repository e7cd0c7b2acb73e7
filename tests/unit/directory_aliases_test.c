/* gateway/policy/directory: aliases, whom they lead to, their circles; and SRS
 * addresses at RCPT. A million of them: directory_million_test.c. */
#include "gateway/policy/directory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "tests/unit/directory_scene.h"

static void one_to_one_and_many(void **state)
{
    (void)state;
    begin();
    alias("sales@a.example", "alice@a.example");
    alias("Team@A.example", "alice@a.example");
    alias("team@a.example", "bob@a.example");
    alias("team@a.example", "dave@else.example");
    alias("team@a.example", "ALICE@a.example");
    alias("alice2@c.example", "frank@m\xc3\xbcller.example");
    assert_string_equal(who("alice@a.example"), "alice@a.example");
    assert_false(expansion.aliased);
    assert_string_equal(who("sales@a.example"), "alice@a.example");
    assert_true(expansion.aliased);
    assert_string_equal(who("\"SALES\"@A.EXAMPLE"), "alice@a.example");
    assert_string_equal(who("team@a.example"), "alice@a.example bob@a.example >dave@else.example");
    assert_string_equal(who("alice2@c.example"), "frank@m\xc3\xbcller.example");
    assert_string_equal(who("nobody@a.example"), "?1");
    assert_string_equal(who("nobody@c.example"), "?1");
    assert_string_equal(who("alice@else.example"), "?2");
    assert_string_equal(who("alice@[192.0.2.1]"), "?2");
    assert_int_equal(directory_alias_count(directory), 6);
    end();
}

static void nested(void **state)
{
    (void)state;
    begin();
    alias("all@a.example", "staff@a.example");
    alias("all@a.example", "boss@c.example");
    alias("staff@a.example", "alice@a.example");
    alias("staff@a.example", "bob+work@a.example");
    alias("boss@c.example", "alice@a.example");
    alias("boss@c.example", "boss@home.example");
    assert_string_equal(who("all@a.example"),
                        "alice@a.example bob+work@a.example >boss@home.example");
    end();
}

/* An alias that names itself keeps a copy, in whatever spelling. */
static void a_copy_stays(void **state)
{
    (void)state;
    begin();
    alias("alice@a.example", "\"Alice\"@A.example");
    alias("alice@a.example", "archive@else.example");
    assert_string_equal(who("alice@a.example"), "alice@a.example >archive@else.example");
    assert_true(expansion.aliased);
    alias("new@a.example", "new@a.example"); /* the same as a recipient */
    assert_string_equal(who("new@a.example"), "new@a.example");
    assert_false(expansion.aliased);
    /* Two who get each other's mail. */
    alias("x@c.example", "x@c.example");
    alias("x@c.example", "y@c.example");
    alias("y@c.example", "x@c.example");
    alias("y@c.example", "y@c.example");
    assert_string_equal(who("x@c.example"), "x@c.example y@c.example");
    assert_string_equal(who("y@c.example"), "y@c.example x@c.example");
    char text[256];
    assert_false(directory_alias_loop(directory, text, sizeof(text)));
    end();
}

static void catch_all(void **state)
{
    (void)state;
    begin();
    alias("*@c.example", "alice@a.example");
    alias("info@c.example", "bob@a.example");
    alias("*@a.example", "*@c2.example");
    alias("*@m\xc3\xbcller.example", "shop+*@a.example");
    assert_string_equal(who("anybody@c.example"), "alice@a.example");
    assert_string_equal(who("info@c.example"), "bob@a.example");
    assert_string_equal(who("alice@a.example"), "alice@a.example");
    assert_string_equal(who("bob+x@a.example"), "bob+x@a.example");
    assert_string_equal(who("Other@a.example"), ">Other@c2.example");
    assert_string_equal(who("\"a b\"@a.example"), ">\"a b\"@c2.example");
    assert_string_equal(who("\"quoted\"@a.example"), ">quoted@c2.example");
    assert_string_equal(who("postmaster@c.example"), "alice@a.example");
    assert_string_equal(who("frank@m\xc3\xbcller.example"), "frank@m\xc3\xbcller.example");
    end();
    begin(); /* shop@a.example is not there, then it is */
    alias("*@c.example", "shop+*@a.example");
    assert_string_equal(who("june@c.example"), "?1");
    alias("shop+*@a.example", "alice@a.example");
    assert_string_equal(who("june@c.example"), "alice@a.example");
    end();
}

/* "*@old" -> "*@new", both ours: who is not at the new one is refused. */
static void a_domain_that_moved(void **state)
{
    (void)state;
    begin();
    alias("*@c.example", "*@a.example");
    assert_string_equal(who("alice@c.example"), "alice@a.example");
    assert_string_equal(who("bob+tag@c.example"), "bob+tag@a.example");
    assert_string_equal(who("nobody@c.example"), "?1");
    assert_string_equal(who("postmaster@c.example"), "postmaster@a.example");
    end();
}

static void tags(void **state)
{
    (void)state;
    begin();
    alias("eve+*@a.example", "*@else.example");
    alias("gus+*@a.example", "mail+*@else.example");
    alias("gus+news@a.example", "alice@a.example");
    alias("hal@a.example", "alice@a.example");
    alias("hal+*@a.example", "carol@a.example");
    alias("bob+*@a.example", "bob+*@a.example");
    alias("bob+*@a.example", "copy@else.example");
    alias("i+j+*@c.example", "alice@a.example");
    assert_string_equal(who("eve@a.example"), ">eve@else.example");
    assert_string_equal(who("Eve+News@a.example"), ">Eve+News@else.example");
    assert_string_equal(who("gus@a.example"), ">mail@else.example");
    assert_string_equal(who("gus+@a.example"), ">mail@else.example");
    assert_string_equal(who("gus+a+b@a.example"), ">mail+a+b@else.example");
    assert_string_equal(who("\"gus+a b\"@a.example"), ">\"mail+a b\"@else.example");
    assert_string_equal(who("gus+NEWS@a.example"), "alice@a.example");
    assert_string_equal(who("hal@a.example"), "alice@a.example");
    assert_string_equal(who("hal+x@a.example"), "carol@a.example");
    assert_string_equal(who("bob+x@a.example"), "bob+x@a.example >copy@else.example");
    assert_string_equal(who("bob@a.example"), "bob@a.example >copy@else.example");
    assert_string_equal(who("i+j@c.example"), "alice@a.example");
    assert_string_equal(who("i+j+k@c.example"), "alice@a.example");
    assert_string_equal(who("i+k@c.example"), "?1");
    end();
}

static void postmasters(void **state)
{
    (void)state;
    begin();
    assert_string_equal(who("Postmaster"), "Postmaster");
    assert_false(expansion.aliased);
    alias("postmaster@a.example", "alice@a.example");
    assert_string_equal(who("Postmaster"), "alice@a.example");
    assert_string_equal(who("postmaster@A.example"), "alice@a.example");
    /* A domain of aliases only has no mailboxes: it shares the first domain's postmaster. */
    assert_false(directory_has_aliases(directory, 2));
    assert_string_equal(who("postmaster@c.example"), "postmaster@c.example");
    alias("x@c.example", "x@else.example");
    assert_true(directory_has_aliases(directory, 2));
    assert_string_equal(who("Postmaster@c.example"), "alice@a.example");
    assert_string_equal(who("postmaster@m\xc3\xbcller.example"),
                        "postmaster@m\xc3\xbcller.example");
    alias("postmaster@c.example", "p@else.example");
    assert_string_equal(who("postmaster@c.example"), ">p@else.example");
    end();
    begin();
    alias("x@c.example", "x@else.example");
    assert_string_equal(who("postmaster@c.example"), "postmaster");
    assert_true(expansion.aliased);
    end();
    directory = directory_new();
    assert_string_equal(who("postmaster"), "postmaster");
    end();
}

static void bad_aliases(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"alice",                                                                         "bob@a.example"                },
        {"@a.example",                                                                    "bob@a.example"                },
        {"alice@a.example",                                                               "bob"                          },
        {"alice@a.example",                                                               ""                             },
        {"alice@a.example",                                                               "bob@a.example,carol@a.example"},
        {"alice@a.example",                                                               "bob@@a.example"               },
        {"alice@elsewhere.example",                                                       "bob@a.example"                },
        {"alice@[192.0.2.1]",                                                             "bob@a.example"                },
        {"alice@a.example",                                                               "box+*@b.example"              },
        {"alice@sub.a.example",                                                           "bob@a.example"                },
        {"0123456789012345678901234567890123456789012345678901234567890123456@a.example",
         "bob@a.example"                                                                                                 },
    };
    begin();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const char *error = NULL;
        assert_false(directory_add_alias(directory, bytes_of_string(bad[i][0]),
                                         bytes_of_string(bad[i][1]), &error));
        assert_non_null(error);
    }
    assert_int_equal(directory_alias_count(directory), 0);
    /* In quotes a star is a star. */
    alias("\"*\"@a.example", "\"*\"@else.example");
    assert_string_equal(who("other@a.example"), "?1");
    assert_string_equal(who("\"*\"@a.example"), ">\"*\"@else.example");
    end();
}

/* --- circles --- */

static void make_chain(unsigned count, const char *last)
{
    char from[64], to[64];
    for (unsigned i = 0; i < count; i++) {
        snprintf(from, sizeof(from), "n%u@c.example", i);
        snprintf(to, sizeof(to), "n%u@c.example", i + 1);
        alias(from, i + 1 < count ? to : last);
    }
}

static void circles(void **state)
{
    (void)state;
    static const unsigned lengths[] = {2, 3, 15, 16, 17, 18, 1000};
    char text[256];
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        begin();
        make_chain(lengths[i], "alice@a.example");
        assert_false(directory_alias_loop(directory, text, sizeof(text)));
        end();
        begin();
        make_chain(lengths[i], "n0@c.example");
        alias("into@a.example", "n1@c.example");
        assert_int_equal(expand("<n0@c.example>"), DIRECTORY_LOOP);
        assert_int_equal(expand("<into@a.example>"), DIRECTORY_LOOP);
        assert_true(directory_alias_loop(directory, text, sizeof(text)));
        assert_null(strstr(text, "into"));
        assert_non_null(strstr(text, "@c.example -> n"));
        if (lengths[i] == 2)
            assert_true(strcmp(text, "n0@c.example -> n1@c.example -> n0@c.example") == 0 ||
                        strcmp(text, "n1@c.example -> n0@c.example -> n1@c.example") == 0);
        /* A way out anywhere is an end for all of a short circle. */
        alias("n1@c.example", "alice@a.example");
        assert_false(directory_alias_loop(directory, text, sizeof(text)));
        if (lengths[i] <= DIRECTORY_DEPTH_MAX)
            assert_string_equal(who("n0@c.example"), "alice@a.example");
        end();
    }
}

/* Sixteen aliases one behind the other are followed, seventeen are not. */
static void depth(void **state)
{
    (void)state;
    begin();
    make_chain(16, "alice@a.example");
    assert_string_equal(who("n0@c.example"), "alice@a.example");
    alias("one-more@a.example", "n0@c.example");
    assert_int_equal(expand("<one-more@a.example>"), DIRECTORY_LOOP);
    assert_string_equal(who("n1@c.example"), "alice@a.example");
    end();
}

static void circles_through_stars(void **state)
{
    (void)state;
    char text[256];
    begin();
    alias("*@c.example", "*@a.example");
    alias("*@a.example", "*@c.example");
    assert_int_equal(expand("<x@c.example>"), DIRECTORY_LOOP);
    assert_string_equal(who("alice@c.example"), "alice@a.example");
    assert_false(directory_alias_loop(directory, text, sizeof(text))); /* only RCPT can know */
    end();
    begin();
    alias("*@c.example", "x@a.example");
    alias("*@a.example", "y@c.example");
    assert_int_equal(expand("<x@c.example>"), DIRECTORY_LOOP);
    assert_true(directory_alias_loop(directory, text, sizeof(text)));
    alias("y@c.example", "alice@a.example");
    assert_string_equal(who("x@c.example"), "alice@a.example");
    assert_false(directory_alias_loop(directory, text, sizeof(text)));
    end();
    begin(); /* longer at each turn, until it is no mailbox any more, or too deep */
    alias("*@c.example", "very.long.name+*@c.example");
    assert_int_equal(expand("<x@c.example>"), DIRECTORY_LOOP);
    end();
    begin(); /* leads to itself: a mailbox here */
    alias("*@c.example", "box@c.example");
    assert_string_equal(who("x@c.example"), "box@c.example");
    assert_string_equal(who("box@c.example"), "box@c.example");
    assert_false(directory_alias_loop(directory, text, sizeof(text)));
    end();
}

static void missing(void **state)
{
    (void)state;
    char text[256];
    begin();
    alias("a@a.example", "alice@a.example");
    alias("b@a.example", "anybody@b.example");
    alias("c@a.example", "x@else.example");
    alias("*@c.example", "*@a.example");
    assert_false(directory_alias_missing(directory, text, sizeof(text)));
    alias("d@a.example", "alice@a.example");
    alias("d@a.example", "gone@a.example");
    assert_true(directory_alias_missing(directory, text, sizeof(text)));
    assert_string_equal(text, "d@a.example -> gone@a.example");
    /* The others get it all the same; alone, it is no user. */
    assert_string_equal(who("d@a.example"), "alice@a.example");
    alias("e@a.example", "gone@a.example");
    assert_string_equal(who("e@a.example"), "?1");
    end();
    begin();
    alias("*@c.example", "gone@a.example");
    assert_true(directory_alias_missing(directory, text, sizeof(text)));
    assert_string_equal(text, "*@c.example -> gone@a.example");
    end();
    begin();
    alias("t+*@c.example", "gone@a.example");
    char small[16];
    assert_true(directory_alias_missing(directory, small, sizeof(small)));
    assert_string_equal(small, "t+*@c.example -");
    end();
}

/* --- bounds --- */

static void too_many(void **state)
{
    (void)state;
    char to[64];
    begin();
    for (unsigned i = 0; i < 101; i++) {
        snprintf(to, sizeof(to), "user%u@else.example", i);
        if (i < 100)
            alias("hundred@a.example", to);
        alias("more@a.example", to);
    }
    assert_int_equal(expand("<hundred@a.example>"), DIRECTORY_ACCEPT);
    assert_int_equal(expansion.target_count, 100);
    assert_int_equal(expand("<more@a.example>"), DIRECTORY_TOO_MANY);
    /* Far more than there are steps for. */
    for (unsigned i = 0; i < 1000; i++) {
        snprintf(to, sizeof(to), "user%u@else.example", i);
        alias("far@a.example", to);
    }
    assert_int_equal(expand("<far@a.example>"), DIRECTORY_TOO_MANY);
    assert_string_equal(who("alice@a.example"), "alice@a.example");
    end();
}

/* Each level leads to all of the next one: 10^8 ways, 80 aliases. */
static void many_ways_to_one(void **state)
{
    (void)state;
    char from[64], to[64];
    begin();
    for (unsigned level = 0; level < 8; level++)
        for (unsigned i = 0; i < 10; i++)
            for (unsigned next = 0; next < 10; next++) {
                snprintf(from, sizeof(from), "l%u.%u@c.example", level, i);
                snprintf(to, sizeof(to), "l%u.%u@c.example", level + 1, next);
                alias(from, level < 7 ? to : "alice@a.example");
            }
    uint64_t start_us = clock_monotonic_us();
    assert_string_equal(who("l0.0@c.example"), "alice@a.example");
    assert_in_range(clock_monotonic_us() - start_us, 0, 100000);
    end();
}

static void long_names(void **state)
{
    (void)state;
    char mailbox[200];
    begin();
    alias("*@c.example", "box+*@else.example");
    alias("*@c.example", "alice@a.example");
    memset(mailbox, 'x', 65);
    memcpy(mailbox + 64, "@c.example", 11);
    /* "box+" and 64 octets are for the other side to judge. */
    assert_non_null(strstr(who(mailbox), ">box+x"));
    assert_int_equal(expansion.target_count, 2);
    memcpy(mailbox + 65, "@c.example", 11);
    mailbox[64] = 'x';
    assert_string_equal(who(mailbox), "?6"); /* not ours: no mailbox here is so long */
    memcpy(mailbox + 65, "@b.example", 11);
    assert_string_equal(who(mailbox), "?6");
    end();
}

static void flags_of_domains(void **state)
{
    (void)state;
    begin();
    directory_set_flags(directory, 0, DIRECTORY_THROUGH);
    directory_set_flags(directory, 1, DIRECTORY_CALLAHEAD);
    alias("to-alice@c.example", "alice@a.example");
    alias("carol@a.example", "carol@a.example");
    assert_int_equal(expand("<alice@a.example>"), DIRECTORY_ACCEPT);
    assert_int_equal(expansion.flags, DIRECTORY_THROUGH);
    assert_int_equal(expand("<x@b.example>"), DIRECTORY_ACCEPT);
    assert_int_equal(expansion.flags, DIRECTORY_CALLAHEAD);
    assert_int_equal(expand("<carol@a.example>"), DIRECTORY_ACCEPT);
    assert_int_equal(expansion.flags, DIRECTORY_THROUGH);
    assert_int_equal(expand("<to-alice@c.example>"), DIRECTORY_ACCEPT);
    assert_int_equal(expansion.flags, 0);
    assert_int_equal(expand("<postmaster>"), DIRECTORY_ACCEPT);
    assert_int_equal(expansion.flags, 0);
    end();
}

/* --- SRS --- */

static const char *wrapped(const struct srs *srs, const char *sender, uint64_t now_s)
{
    static char text[SRS_LEN_MAX + 1];
    size_t len;
    assert_int_equal(srs_forward(srs, bytes_of_string(sender), now_s, text, &len), SRS_OK);
    text[len] = '\0';
    return text;
}

static void srs_addresses(void **state)
{
    (void)state;
    static const struct bytes secret = BYTES("a secret of ours");
    static const char *const domains[] = {"srs.example", "b.example"}; /* not ours, ours */
    for (size_t i = 0; i < 2; i++) {
        const struct srs_options options = {
            .domain = bytes_of_string(domains[i]), .secrets = &secret, .secret_count = 1};
        struct srs *srs = srs_new(&options);
        char text[400];
        begin();
        directory_set_srs(directory, srs);
        alias("al@a.example", "alice@a.example");
        assert_string_equal(who(wrapped(srs, "joe@home.example", NOW_S)), ">joe@home.example");
        assert_true(expansion.aliased);
        /* Longer than a mailbox of ours may be. */
        assert_string_equal(
            who(wrapped(srs, "bounce-0123456789-0123456789-0123456789@lists.news.home.example",
                        NOW_S)),
            ">bounce-0123456789-0123456789-0123456789@lists.news.home.example");
        assert_string_equal(who(wrapped(srs, "SRS0=abcd=EF=x.example=joe@first.example", NOW_S)),
                            ">SRS0=abcd=EF=x.example=joe@first.example");
        /* Who was ours is ours, aliases and all. */
        assert_string_equal(who(wrapped(srs, "al@a.example", NOW_S)), "alice@a.example");
        assert_string_equal(who(wrapped(srs, "nobody@a.example", NOW_S)), "?1");
        assert_string_equal(who(wrapped(srs, "joe@home.example", NOW_S - 23 * 86400)), "?5");
        snprintf(text, sizeof(text), "SRS0=AAAA=BB=home.example=joe@%s", domains[i]);
        assert_string_equal(who(text), "?5");
        snprintf(text, sizeof(text), "SRS1=AAAA=home.example==x=y=z=joe@%s", domains[i]);
        assert_string_equal(who(text), "?5");
        snprintf(text, sizeof(text), "user@%s", domains[i]);
        assert_string_equal(who(text), i == 0 ? "?1" : "user@b.example");
        assert_false(expansion.aliased);
        snprintf(text, sizeof(text), "Postmaster@%s", domains[i]);
        assert_string_equal(who(text), i == 0 ? "postmaster" : "Postmaster@b.example");
        memset(text, 'x', 65);
        snprintf(text + 65, sizeof(text) - 65, "@%s", domains[i]);
        assert_string_equal(who(text), "?6");
        /* An alias to such an address. */
        alias("back@a.example", wrapped(srs, "joe@home.example", NOW_S));
        assert_string_equal(who("back@a.example"), ">joe@home.example");
        assert_false(directory_alias_loop(directory, text, sizeof(text)));
        assert_false(directory_alias_missing(directory, text, sizeof(text)));
        end();
        srs_free(srs);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_to_one_and_many),
        cmocka_unit_test(nested),
        cmocka_unit_test(a_copy_stays),
        cmocka_unit_test(catch_all),
        cmocka_unit_test(a_domain_that_moved),
        cmocka_unit_test(tags),
        cmocka_unit_test(postmasters),
        cmocka_unit_test(bad_aliases),
        cmocka_unit_test(circles),
        cmocka_unit_test(depth),
        cmocka_unit_test(circles_through_stars),
        cmocka_unit_test(missing),
        cmocka_unit_test(too_many),
        cmocka_unit_test(many_ways_to_one),
        cmocka_unit_test(long_names),
        cmocka_unit_test(flags_of_domains),
        cmocka_unit_test(srs_addresses),
    };
    return cmocka_run_group_tests_name("directory_aliases", tests, set_up, tear_down);
}
