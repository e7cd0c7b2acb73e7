/* Who belongs to a consignment: the walk over an envelope, by what recipients are told apart, how
 * parts of more than a transaction follow each other, and what finished ones change. */
#include "gateway/deliver/consign.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RECIPIENTS_MAX = 1000 };

static struct routes *routes;

static int set_up(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"a.example", "smtp:hop.example"    },
        {"b.example", "smtp:hop.example"    },
        {"c.example", "smtp:other.example"  },
        {"m.example", "maildir:mail/%u"     },
        {"n.example", "maildir:elsewhere/%u"},
        {"x.example", "mx:"                 },
        {"y.example", "mx:"                 },
    };
    routes = routes_new();
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        const char *error, *target = pairs[i][1];
        assert_true(routes_add(routes, bytes_of_string(pairs[i][0]), &target, 1, NULL, &error));
    }
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    routes_free(routes);
    return 0;
}

/* The form of an envelope with these recipients, separated by blanks; "!" in front: forwarded. */
static struct bytes make_form(const char *recipients, uint32_t *count)
{
    static struct envelope_recipient list[RECIPIENTS_MAX];
    static uint8_t form[RECIPIENTS_MAX * 100];
    *count = 0;
    for (struct bytes rest = bytes_of_string(recipients); rest.len > 0; (*count)++) {
        struct bytes one = bytes_slice(rest, 0, bytes_find(rest, ' '));
        rest = bytes_skip(rest, one.len);
        if (rest.len > 0)
            rest = bytes_skip(rest, 1);
        bool forwarded = one.data[0] == '!';
        list[*count] = (struct envelope_recipient){.forward_path = bytes_skip(one, forwarded),
                                                   .forwarded = forwarded};
    }
    struct envelope envelope = {.message_id = 1, .recipient_count = *count};
    assert_true(envelope_size(&envelope, list) <= sizeof form);
    return bytes_make(form, envelope_write(&envelope, list, form));
}

/* Walks, and writes the indexes that were found, as "0 2 5". */
static const char *walk(const char *recipients, const uint8_t *done, uint32_t first, uint32_t count)
{
    static char found[RECIPIENTS_MAX * 6];
    struct consign_walk walk;
    uint32_t total;
    size_t len = 0;
    struct bytes form = make_form(recipients, &total);
    consign_walk_begin(&walk, routes, form, total, done, first, count);
    found[0] = '\0';
    while (consign_walk_next(&walk))
        len += (size_t)snprintf(found + len, sizeof found - len, "%s%u", len == 0 ? "" : " ",
                                walk.index);
    assert_false(consign_walk_next(&walk));
    return found;
}

static void tells_apart(void **state)
{
    (void)state;
    /* 0, 1: the same next hop of two domains. 3, 6: Maildirs of any template. 4, 5: each its own
     * MX. 7: no route. 8: forwarded to where 5 goes, but with another reverse-path. */
    const char *all = "p@a.example q@B.EXAMPLE r@c.example s@m.example t@x.example u@y.example "
                      "v@n.example w@nowhere.example !z@y.example";
    assert_string_equal(walk(all, NULL, 0, 0), "0 1 2 3 4 5 6 7 8");
    assert_string_equal(walk(all, NULL, 0, 2), "0 1");
    assert_string_equal(walk(all, NULL, 2, 1), "2");
    assert_string_equal(walk(all, NULL, 3, 2), "3 6");
    assert_string_equal(walk(all, NULL, 4, 1), "4");
    assert_string_equal(walk(all, NULL, 5, 9), "5");
    assert_string_equal(walk(all, NULL, 7, 1), "7");
    assert_string_equal(walk(all, NULL, 8, 1), "8");
    /* Forwarded ones without a route of their own go by MX, each domain for itself. */
    assert_string_equal(walk("!a@f.example !b@g.example !c@F.example", NULL, 0, 3), "0 2");
}

static void skips_finished(void **state)
{
    (void)state;
    const char *all = "p@a.example q@a.example r@c.example s@a.example t@a.example";
    const uint8_t second = 1 << 1, first = 1 << 0, most = 1 << 0 | 1 << 1 | 1 << 3;
    assert_string_equal(walk(all, &second, 0, 3), "0 3 4");
    /* The first one says where it goes even when it is finished itself. */
    assert_string_equal(walk(all, &first, 0, 3), "1 3 4");
    assert_string_equal(walk(all, &most, 0, 1), "4");
    assert_string_equal(walk(all, &most, 0, 0), "2 4");
    const uint8_t everybody = 0x1f;
    assert_string_equal(walk(all, &everybody, 0, 4), "");
}

/* Two consignments for one destination: the first has the first ones, whatever became of them. */
static void follows(void **state)
{
    (void)state;
    static char all[20000], expected[8000];
    uint8_t done[32] = {0};
    size_t at = 0;
    for (int i = 0; i < 250; i++)
        at += (size_t)snprintf(all + at, sizeof all - at, "%su%d@a.example", i == 0 ? "" : " ", i);
    at = 0;
    for (int i = 100; i < 200; i++)
        at += (size_t)snprintf(expected + at, sizeof expected - at, "%s%d", i == 100 ? "" : " ", i);
    assert_string_equal(walk(all, NULL, 100, 100), expected);
    /* All but 42 and 99 of the first hundred are finished. */
    for (int i = 0; i < 100; i++)
        if (i != 42 && i != 99)
            done[i / 8] = (uint8_t)(done[i / 8] | 1u << i % 8);
    assert_string_equal(walk(all, done, 0, 2), "42 99");
    assert_string_equal(walk(all, done, 100, 100), expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_apart),
        cmocka_unit_test(skips_finished),
        cmocka_unit_test(follows),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
