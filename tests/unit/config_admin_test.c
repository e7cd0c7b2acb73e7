/* The words of admin about addresses: http and agent. */
#include "gateway/config.h"
#include "tests/support/scratch.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define WRONG SCRATCH_WRONG

static void there_is_none_unless_said(void **state)
{
    (void)state;
    struct config *config = scratch_good(SCRATCH_NEEDED);
    assert_int_equal(config->http.any.sa_family, AF_UNSPEC);
    assert_int_equal(config->agent.any.sa_family, AF_UNSPEC);
    config_free(config);
}

static void addresses_of_both_kinds(void **state)
{
    (void)state;
    struct config *config =
        scratch_good(SCRATCH_NEEDED "admin { http = \"127.0.0.1:9125\" agent = \"[::1]:9126\" }\n");
    char text[64];
    assert_string_equal(listener_format(&config->http, text), "127.0.0.1:9125");
    assert_string_equal(listener_format(&config->agent, text), "[::1]:9126");
    config_free(config);
}

static void others_are_told(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(SCRATCH_NEEDED "admin { http = \"localhost:9125\" }",
              "4: admin.http: \"localhost:9125\" is not an address like \"127.0.0.1:9125\"\n"),
        WRONG(SCRATCH_NEEDED "admin { agent = \"9126\" }",
              "4: admin.agent: \"9126\" is not an address like \"127.0.0.1:9125\"\n"),
        WRONG(SCRATCH_NEEDED "admin { agent = \"127.0.0.1:65536\" }",
              "4: admin.agent: \"127.0.0.1:65536\" is not an address like \"127.0.0.1:9125\"\n"),
        WRONG(SCRATCH_NEEDED "admin { http = \"::1:80\" }",
              "4: admin.http: \"::1:80\" is not an address like \"127.0.0.1:9125\"\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

static size_t changes(const char *running_text, const char *loaded_text)
{
    struct config *running = scratch_good(running_text);
    struct config *loaded = scratch_good(loaded_text);
    size_t count = config_restart_needed(running, loaded, stderr);
    config_free(running);
    config_free(loaded);
    return count;
}

static void only_a_restart_changes_them(void **state)
{
    (void)state;
    const char *one = SCRATCH_NEEDED "admin { http = \"127.0.0.1:1\" agent = \"127.0.0.1:2\" }\n";
    const char *two = SCRATCH_NEEDED "admin { http = \"127.0.0.1:3\" agent = \"127.0.0.1:2\" }\n";
    assert_int_equal(changes(one, one), 0);
    assert_int_equal(changes(one, two), 1);
    assert_int_equal(changes(one, SCRATCH_NEEDED), 2);
    assert_int_equal(changes(SCRATCH_NEEDED, one), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(there_is_none_unless_said),
        cmocka_unit_test(addresses_of_both_kinds),
        cmocka_unit_test(others_are_told),
        cmocka_unit_test(only_a_restart_changes_them),
    };
    return cmocka_run_group_tests(tests, scratch_begin, scratch_end);
}
