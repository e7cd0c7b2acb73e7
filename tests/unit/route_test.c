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
    if (!routes_add(routes, bytes_of_string(domain), target, &error))
        fail_msg("%s -> %s: %s", domain, target, error);
    assert_null(error);
}

static const struct route *find(const struct routes *routes, const char *mailbox)
{
    return routes_find(routes, bytes_of_string(mailbox));
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
        "",           "maildir",          "maildir:",           "discard",
        "discard:x",  "smtp:host",        "maildir:/v/%x",      "maildir:/v/%",
        "Maildir:/v", "maildir:/v/%d/..", "maildir:%u/./mails", "maildir:/v/%d/../%u",
    };
    struct routes *routes = routes_new();
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *error = NULL;
        assert_false(routes_add(routes, BYTES("example.org"), bad[i], &error));
        assert_non_null(error);
        assert_null(find(routes, "a@example.org"));
    }
    const char *error = NULL;
    assert_false(routes_add(routes, BYTES(""), "discard:", &error));
    add(routes, "example.org", "discard:");
    assert_false(routes_add(routes, BYTES("EXAMPLE.org"), "maildir:/v", &error));
    assert_string_equal(error, "the domain has a route already");
    assert_true(routes_discard_only(routes));
    add(routes, "example.net", "maildir:../mail/%%/%u");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds),
        cmocka_unit_test(empty_table),
        cmocka_unit_test(refuses),
        cmocka_unit_test(many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
