/* The words of sandbox { }, what a reload says of them, and the files that a configuration names.
 */
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void usual(void **state)
{
    (void)state;
    struct config *config = scratch_good(SCRATCH_NEEDED);
    assert_null(config->user);
    assert_null(config->group);
    assert_true(config->seccomp);
    assert_true(config->landlock);
    assert_int_equal(config->paths.count, 0);
    config_free(config);
}

static void all(void **state)
{
    (void)state;
    struct config *config = scratch_good(
        SCRATCH_NEEDED
        "sandbox { user = \"nobody\" group = \"daemon\" seccomp = off landlock = off }\n");
    assert_string_equal(config->user, "nobody");
    assert_string_equal(config->group, "daemon");
    assert_false(config->seccomp);
    assert_false(config->landlock);
    config_free(config);
}

static void wrong(void **state)
{
    static const struct scratch_wrong cases[] = {
        SCRATCH_WRONG(SCRATCH_NEEDED "sandbox { user = \"no-such-user\" }\n",
                      "4: sandbox.user: there is no user \"no-such-user\"\n"),
        SCRATCH_WRONG(SCRATCH_NEEDED "sandbox { user = nobody group = \"no-such-group\" }\n",
                      "4: sandbox.group: there is no group \"no-such-group\"\n"),
        SCRATCH_WRONG(SCRATCH_NEEDED "sandbox { group = daemon }\n",
                      "4: sandbox.group needs sandbox.user\n"),
        SCRATCH_WRONG(SCRATCH_NEEDED "sandbox { seccomp = on }\n",
                      "4: sandbox.seccomp: \"on\" is none of off, auto\n"),
        SCRATCH_WRONG(SCRATCH_NEEDED "sandbox { landlock = true }\n",
                      "4: sandbox.landlock: \"true\" is none of off, auto\n"),
    };
    (void)state;
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

static void reload(void **state)
{
    static const char *const changed[] = {
        SCRATCH_NEEDED "sandbox { user = nobody }\n",
        SCRATCH_NEEDED "sandbox { seccomp = off }\n",
        SCRATCH_NEEDED "sandbox { landlock = off }\n",
    };
    (void)state;
    struct config *running = scratch_good(SCRATCH_NEEDED);
    for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
        char *said = NULL;
        size_t len;
        struct config *loaded = scratch_good(changed[i]);
        FILE *out = open_memstream(&said, &len);
        assert_int_equal(config_restart_needed(running, loaded, out), 1);
        fclose(out);
        assert_string_equal(
            said, "sandbox is new in the configuration, but only a restart can change it\n");
        free(said);
        config_free(loaded);
    }
    config_free(running);
}

static bool has_path(const struct config *config, const char *name)
{
    bool found = false;
    for (size_t i = 0; i < config->paths.count; i++)
        found |= strcmp(config->paths.all[i], scratch_path(name)) == 0;
    return found;
}

static void files(void **state)
{
    static const char secret[] = "0123456789abcdef0123456789abcdef\n";
    static const char *const names[] = {"users", "aliases", "srs", "grey", "redis"};
    (void)state;
    scratch_write("users", "alice\n", 6);
    scratch_write("aliases", "a@example.org: alice@example.org\n", 33);
    for (size_t i = 2; i < 5; i++)
        scratch_write(names[i], secret, sizeof(secret) - 1);
    struct config *config =
        scratch_good("hostname = \"mx.example.org\"\n" SCRATCH_LISTENER
                     "domain \"example.org\" { recipients = {\"@users\"}\n"
                     "    deliver = \"discard:\" }\n"
                     "aliases = {\"@aliases\"}\n"
                     "srs { domain = \"srs.example.org\" secret = \"srs\" }\n"
                     "greylist { delay = 1m secret = \"grey\" }\n"
                     "redis { address = \"127.0.0.1:6379\" password = \"redis\" }\n");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!has_path(config, names[i]))
            fail_msg("%s is missing", names[i]);
    assert_int_equal(config->paths.count, 5);
    config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual),  cmocka_unit_test(all),   cmocka_unit_test(wrong),
        cmocka_unit_test(reload), cmocka_unit_test(files),
    };
    return cmocka_run_group_tests(tests, scratch_begin, scratch_end);
}
