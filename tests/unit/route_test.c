/* Routes: domains in any case, odd mailboxes, postmaster without a domain, refused targets, and a
 * table of many. */
#include "gateway/deliver/route.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void add(struct routes *routes, const char *domain, const char *target)
{
    const char *error = "";
    if (!routes_add(routes, bytes_of_string(domain), &target, 1, NULL, &error))
        fail_msg("%s -> %s: %s", domain, target, error);
    assert_null(error);
}

static const struct route *find(const struct routes *routes, const char *mailbox)
{
    return routes_find(routes, bytes_of_string(mailbox), false);
}

static void finds(void **state)
{
    (void)state;
    struct routes *routes = routes_new();
    add(routes, "Example.ORG", "maildir:/var/mail/%d/%u");
    add(routes, "example.net", "discard:");
    add(routes, "[192.0.2.1]", "discard:");

    const struct route *org = find(routes, "alice@example.org");
    assert_non_null(org);
    assert_int_equal(org->kind, ROUTE_MAILDIR);
    assert_string_equal(org->maildir, "/var/mail/%d/%u");
    assert_true(bytes_equal(org->domain, BYTES("example.org")));
    assert_ptr_equal(find(routes, "ALICE@EXAMPLE.org"), org);
    assert_ptr_equal(find(routes, "\"a@example.net\"@example.org"), org);
    assert_ptr_equal(find(routes, "PostMaster"), org);
    assert_int_equal(find(routes, "x@example.net")->kind, ROUTE_DISCARD);
    assert_int_equal(find(routes, "x@[192.0.2.1]")->kind, ROUTE_DISCARD);
    assert_null(find(routes, "x@example.com"));
    assert_null(find(routes, "x@sub.example.org"));
    assert_null(find(routes, "x@xample.org"));
    assert_null(find(routes, "x@"));
    assert_null(find(routes, "@"));
    assert_null(find(routes, ""));
    assert_null(find(routes, "alice"));
    routes_free(routes);
}

static void empty_table(void **state)
{
    (void)state;
    struct routes *routes = routes_new();
    assert_null(find(routes, "alice@example.org"));
    assert_null(find(routes, "postmaster"));
    assert_false(routes_discard_only(routes));
    routes_free(routes);
    routes_free(NULL);
}

static void refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "maildir",
        "maildir:",
        "discard",
        "discard:x",
        "smtp:",
        "maildir:/v/%x",
        "maildir:/v/%",
        "Maildir:/v",
        "maildir:/v/%d/..",
        "maildir:%u/./mails",
        "maildir:/v/%d/../%u",
    };
    struct routes *routes = routes_new();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *error = NULL;
        assert_false(routes_add(routes, BYTES("example.org"), &bad[i], 1, NULL, &error));
        assert_non_null(error);
        assert_null(find(routes, "a@example.org"));
    }
    const char *error = NULL;
    const char *discard = "discard:", *maildir = "maildir:/v";
    assert_false(routes_add(routes, BYTES(""), &discard, 1, NULL, &error));
    add(routes, "example.org", "discard:");
    assert_false(routes_add(routes, BYTES("EXAMPLE.org"), &maildir, 1, NULL, &error));
    assert_string_equal(error, "the domain has a route already");
    assert_true(routes_discard_only(routes));
    add(routes, "example.net", "maildir:../mail/%%/%u");
    assert_false(routes_discard_only(routes));
    routes_free(routes);
}

static void next_hops(void **state)
{
    (void)state;
    static const char *const two[] = {"smtp:a.example:25 weight=3", "smtp:[2001:db8::1]"};
    static const struct route_options strict = {
        .tls = ROUTE_TLS_REQUIRED, .tls_verify = true, .connections = 5, .rate = 7};
    const char *error;
    struct routes *routes = routes_new();
    assert_true(routes_add(routes, BYTES("two.example"), two, 2, &strict, &error));
    add(routes, "mx.example", "mx:");
    add(routes, "mx2.example", "smtp:[MX]");
    add(routes, "other.example", "mx:Elsewhere.example");
    add(routes, "lmtp.example", "lmtp:unix:/run/lmtp weight=9");

    const struct route *route = find(routes, "x@two.example");
    assert_int_equal(route->kind, ROUTE_SMTP);
    assert_int_equal(route->host_count, 2);
    assert_string_equal(route->hosts[0].name, "a.example");
    assert_int_equal(route->hosts[0].weight, 3);
    assert_string_equal(route->hosts[1].name, "2001:db8::1");
    assert_int_equal(route->hosts[1].port, 25);
    assert_int_equal(route->hosts[1].weight, 1);
    assert_string_equal(route->text, "smtp:a.example:25 weight=3, smtp:[2001:db8::1] tls=required "
                                     "tls_verify=true connections=5 rate=7");
    assert_int_equal(route->options.rate, 7);
    assert_string_equal(find(routes, "x@other.example")->exchange, "Elsewhere.example");
    assert_string_equal(find(routes, "x@mx2.example")->text, "mx:");
    assert_int_equal(find(routes, "x@lmtp.example")->hosts[0].port, 0);
    assert_string_equal(find(routes, "x@lmtp.example")->hosts[0].name, "/run/lmtp");
    assert_false(routes_discard_only(routes));

    /* Which share a destination. */
    const struct route *mx = find(routes, "x@mx.example"), *mx2 = find(routes, "x@mx2.example");
    assert_false(route_same_destination(mx, BYTES("mx.example"), mx2, BYTES("mx2.example")));
    assert_true(route_same_destination(mx, BYTES("a.example"), mx2, BYTES("A.example")));
    assert_true(route_same_destination(route, BYTES("a"), route, BYTES("b")));
    assert_false(route_same_destination(route, BYTES("a"), mx, BYTES("a")));
    assert_false(route_same_destination(NULL, BYTES("a"), mx, BYTES("a")));
    assert_true(route_same_destination(NULL, BYTES("a"), NULL, BYTES("b")));

    /* Foreign: by MX unless said otherwise, and only for what was forwarded. */
    assert_null(find(routes, "x@foreign.example"));
    assert_int_equal(routes_find(routes, BYTES("x@foreign.example"), true)->kind, ROUTE_MX);
    assert_ptr_equal(routes_find(routes, BYTES("x@mx.example"), true), mx);
    static const char *const relay[] = {"smtp:relay.example:587"};
    assert_true(routes_add_foreign(routes, relay, 1, NULL, &error));
    assert_int_equal(routes_find(routes, BYTES("x@foreign.example"), true)->hosts[0].port, 587);
    assert_null(find(routes, "x@foreign.example"));
    routes_free(routes);
}

static void bad_next_hops(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "smtp:",
        "smtp:a b",
        "smtp:a weight=0",
        "smtp:a weight=1001",
        "smtp:a:0",
        "smtp:a:65536",
        "smtp:::1",
        "smtp:[::1",
        "smtp:[a]:25",
        "smtp:a:25x",
        "lmtp:a",
        "lmtp:unix:",
        "mx:a..b",
        "mx:a:25",
        "smtp:j\xc3\xb6rg.example",
        "lmtp:",
    };
    static const struct {
        const char *targets[2];
        uint32_t count;
        struct route_options options;
    } mixed[] = {
        {{"smtp:a", "lmtp:b:24"},  2, {0}                                        },
        {{"mx:", "mx:"},           2, {0}                                        },
        {{"discard:", "discard:"}, 2, {0}                                        },
        {{"maildir:/v/%u"},        1, {.tls = ROUTE_TLS_REQUIRED}                },
        {{"discard:"},             1, {.rate = 1}                                },
        {{"discard:"},             1, {.through = true}                          },
        {{"lmtp:unix:/x"},         1, {.tls_verify = true}                       },
        {{"smtp:a"},               1, {.tls = ROUTE_TLS_NONE, .tls_verify = true}},
        {{"mx:"},                  1, {.tls = ROUTE_TLS_IMPLICIT}                },
        {{"smtp:a"},               0, {0}                                        },
    };
    struct routes *routes = routes_new();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *error = NULL;
        assert_false(routes_add(routes, BYTES("example.org"), &bad[i], 1, NULL, &error));
        assert_non_null(error);
        assert_false(routes_add_foreign(routes, &bad[i], 1, NULL, &error));
    }
    for (size_t i = 0; i < sizeof mixed / sizeof mixed[0]; i++) {
        const char *error = NULL;
        assert_false(routes_add(routes, BYTES("example.org"), mixed[i].targets, mixed[i].count,
                                &mixed[i].options, &error));
        assert_non_null(error);
    }
    assert_null(find(routes, "a@example.org"));
    add(routes, "example.net", "discard:");
    assert_true(routes_discard_only(routes));
    const char *error, *mx = "mx:";
    assert_true(routes_add_foreign(routes, &mx, 1, NULL, &error));
    assert_false(routes_discard_only(routes));
    routes_free(routes);
}

static void many(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    struct routes *routes = routes_new();
    char text[64];
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "d%d.example", i);
        add(routes, text, i % 3 == 0 ? "discard:" : "maildir:/var/mail/%d/%u");
    }
    const char *template = find(routes, "x@d1.example")->maildir;
    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "x@D%d.example", i);
        const struct route *route = find(routes, text);
        assert_non_null(route);
        assert_int_equal(route->kind, i % 3 == 0 ? ROUTE_DISCARD : ROUTE_MAILDIR);
        assert_true(bytes_equal_nocase(route->domain, bytes_of_string(text + 2)));
        if (i % 3 == 2)
            assert_string_equal(route->maildir, template);
    }
    assert_null(find(routes, "x@d200000.example"));
    routes_free(routes);
}

/* Two tables are the same when they say the same, in the same order. */
static void same(void **state)
{
    (void)state;
    static const char *const target = "smtp:mx.example.com:26";
    static const struct route_options plain = {0};
    static const struct route_options others[] = {
        {0},
        {.tls = ROUTE_TLS_REQUIRED},
        {.tls_verify = true},
        {.through = true},
        {.callahead = true},
        {.connections = 3},
        {.rate = 7},
    };
    const char *error;
    struct routes *one = routes_new(), *nothing = routes_new();
    add(one, "a.example", "maildir:/var/mail/%d/%u");
    assert_true(routes_add(one, BYTES("b.example"), &target, 1, &plain, &error));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        struct routes *other = routes_new();
        add(other, "A.example", "maildir:/var/mail/%d/%u");
        assert_false(routes_same(one, other));
        assert_true(routes_add(other, BYTES("b.example"), &target, 1, &others[i], &error));
        assert_int_equal(routes_same(one, other), i == 0);
        assert_int_equal(routes_same(other, one), i == 0);
        routes_free(other);
    }
    struct routes *turned = routes_new(), *moved = routes_new();
    add(turned, "b.example", target);
    add(turned, "a.example", "maildir:/var/mail/%d/%u");
    assert_false(routes_same(one, turned));
    add(moved, "a.example", "maildir:/var/mail/%d/%u");
    add(moved, "b.example", "smtp:mx.example.com:27");
    assert_false(routes_same(one, moved));
    assert_true(routes_same(nothing, nothing));
    assert_false(routes_same(one, nothing));

    struct routes *foreign[3];
    static const char *const ways[] = {"mx:", "mx:", "smtp:out.example.com"};
    for (int i = 0; i < 3; i++) {
        foreign[i] = routes_new();
        assert_true(routes_add_foreign(foreign[i], &ways[i], 1, &plain, &error));
    }
    assert_true(routes_same(foreign[0], foreign[1]));
    assert_false(routes_same(foreign[0], foreign[2]));
    assert_false(routes_same(foreign[0], nothing));
    assert_false(routes_same(nothing, foreign[0]));
    for (int i = 0; i < 3; i++)
        routes_free(foreign[i]);
    routes_free(one);
    routes_free(nothing);
    routes_free(turned);
    routes_free(moved);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds),     cmocka_unit_test(empty_table),   cmocka_unit_test(refuses),
        cmocka_unit_test(next_hops), cmocka_unit_test(bad_next_hops), cmocka_unit_test(many),
        cmocka_unit_test(same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
