/* The words of listener about whom we believe: proxy and xclient. */
#include "gateway/config.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define DOMAIN SCRATCH_DOMAIN
#define WRONG  SCRATCH_WRONG

static bool contain(const struct networks *networks, const char *text)
{
    union address_any address;
    assert_true(listener_parse(text, &address));
    return networks_contain(networks, &address);
}

static void nobody_is_believed_unless_said(void **state)
{
    (void)state;
    struct config *config = scratch_good(SCRATCH_NEEDED);
    assert_null(config->listeners[0].proxy);
    assert_null(config->listeners[0].xclient);
    config_free(config);
}

static void networks_are_those_of_their_listener(void **state)
{
    (void)state;
    struct config *config = scratch_good(
        "listener one { address = {\"127.0.0.1:0\", \"[::1]:0\"}\n"
        "  proxy = {\"10.0.0.0/24\", \"2001:db8::/32\"} xclient = \"192.0.2.7\" }\n"
        "listener two { address = \"127.0.0.1:0\" xclient = {\"192.0.2.0/31\"} }\n" DOMAIN);
    assert_int_equal(config->listener_count, 3);
    for (size_t i = 0; i < 2; i++) { /* of both addresses */
        assert_true(contain(config->listeners[i].proxy, "10.0.0.255:1"));
        assert_true(contain(config->listeners[i].proxy, "[2001:db8:1::1]:1"));
        assert_false(contain(config->listeners[i].proxy, "10.0.1.0:1"));
        assert_false(contain(config->listeners[i].proxy, "192.0.2.7:1"));
        assert_true(contain(config->listeners[i].xclient, "192.0.2.7:1"));
        assert_false(contain(config->listeners[i].xclient, "192.0.2.6:1"));
    }
    assert_null(config->listeners[2].proxy);
    assert_true(contain(config->listeners[2].xclient, "192.0.2.1:1"));
    assert_false(contain(config->listeners[2].xclient, "192.0.2.2:1"));
    config_free(config);
}

static void wrong_ones_are_told(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG("listener a { address = \"127.0.0.1:0\"\n proxy = {\"10.0.0.0/24\",\n\"lb\"} "
              "}\n" DOMAIN,
              "3: listener.proxy: \"lb\" is not a network like \"192.0.2.0/24\" or "
              "\"2001:db8::/32\"\n"),
        WRONG("listener a { address = \"127.0.0.1:0\"\n xclient = {\"10.0.0.1/24\"} }\n" DOMAIN,
              "2: listener.xclient: \"10.0.0.1/24\" has bits behind its prefix\n"),
        WRONG("listener a { address = \"127.0.0.1:0\"\n proxy = {\"10.0.0.0/33\"} }\n" DOMAIN,
              "2: listener.proxy: \"10.0.0.0/33\" is not a network like \"192.0.2.0/24\" or "
              "\"2001:db8::/32\"\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_believed_unless_said),
        cmocka_unit_test(networks_are_those_of_their_listener),
        cmocka_unit_test(wrong_ones_are_told),
    };
    return cmocka_run_group_tests(tests, scratch_begin, scratch_end);
}
