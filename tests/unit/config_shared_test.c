/* gateway/config, what gateways share: greylist { } and redis { }, what is said when they are
 * wrong, and what a reload can change. */
#include "gateway/config.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/scratch.h"

#define NEEDED SCRATCH_NEEDED
#define WRONG  SCRATCH_WRONG

static int begin(void **state)
{
    if (scratch_begin(state) != 0)
        return -1;
    scratch_write("secret", "0123456789abcdef\nmore\n", 22);
    scratch_write("other", "0123456789abcdee", 16);
    scratch_write("short", "0123456789abcde\n", 16);
    scratch_write("password", "geheim\r\n", 8);
    scratch_write("empty", "\n", 1);
    return 0;
}

static void defaults(void **state)
{
    (void)state;
    struct config *config = scratch_good(NEEDED);
    assert_int_equal(config->server.greylist.delay_s, 0);
    assert_int_equal(config->server.greylist_secret, 0);
    assert_false(config->has_redis);
    config_free(config);
    config = scratch_good(NEEDED "greylist { delay = 5m } redis { address = \"127.0.0.1:6379\" }");
    assert_int_equal(config->server.greylist.delay_s, 300);
    assert_int_equal(config->server.greylist.window_s, 2 * 86400);
    assert_int_equal(config->server.greylist.keep_s, 35 * 86400);
    const struct redis_options *redis = &config->sharing.redis;
    assert_true(config->has_redis);
    assert_int_equal(redis->address.v4.sin_family, AF_INET);
    assert_int_equal(ntohs(redis->address.v4.sin_port), 6379);
    assert_null(redis->path);
    assert_null(redis->user);
    assert_null(redis->password);
    assert_int_equal(redis->database, 0);
    assert_int_equal(redis->timeout_ms, 100);
    assert_true(redis->pending_max >= 1000);
    assert_string_equal(config->sharing.prefix, "ringmx");
    config_free(config);
}

static void all_words(void **state)
{
    (void)state;
    struct config *config = scratch_good(
        NEEDED "greylist { delay = 1s window = 1m keep = 1h secret = secret }\n"
               "redis { address = \"unix:/run/redis/redis.sock\" user = anna password = password "
               "database = 7 prefix = \"mx:in\" timeout_ms = 20 }");
    assert_int_equal(config->server.greylist.delay_s, 1);
    assert_int_equal(config->server.greylist.window_s, 60);
    assert_int_equal(config->server.greylist.keep_s, 3600);
    assert_int_not_equal(config->server.greylist_secret, 0);
    const struct redis_options *redis = &config->sharing.redis;
    assert_int_equal(redis->address.any.sa_family, AF_UNSPEC);
    assert_string_equal(redis->path, "/run/redis/redis.sock");
    assert_string_equal(redis->user, "anna");
    assert_string_equal(redis->password, "geheim");
    assert_int_equal(redis->database, 7);
    assert_int_equal(redis->timeout_ms, 20);
    assert_string_equal(config->sharing.prefix, "mx:in");
    struct config *other = scratch_good(NEEDED "greylist { delay = 1s secret = other }");
    assert_int_not_equal(other->server.greylist_secret, config->server.greylist_secret);
    config_free(other);
    config_free(config);
}

static void mistakes(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED "greylist { delay = 5m window = 5m }",
              "4: greylist.window is not longer than greylist.delay\n"),
        WRONG(NEEDED "greylist { secret = short }",
              "4: greylist.secret: the first line of /short has 16 to 1024 octets\n"),
        WRONG(NEEDED "greylist { secret = nowhere }",
              "4: greylist.secret: /nowhere: No such file or directory\n"),
        WRONG(NEEDED "redis { user = anna address = \"127.0.0.1:1\" }",
              "4: redis has a user and no password\n"),
        WRONG(NEEDED "redis { password = password }", "4: redis has no address\n"),
        WRONG(NEEDED "redis { prefix = x }", "4: redis has no address\n"),
        WRONG(NEEDED "redis { address = localhost }",
              "4: redis.address: \"localhost\" is not an address like \"192.0.2.1:6379\" or "
              "\"unix:/run/redis/redis.sock\"\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

#define REDIS(words) NEEDED "redis { address = \"127.0.0.1:6379\" " words " }"

static void only_a_restart(void **state)
{
    (void)state;
    static const char *const others[] = {
        NEEDED,
        REDIS("database = 1"),
        REDIS("timeout_ms = 99"),
        REDIS("prefix = other"),
        REDIS("password = password"),
        NEEDED "redis { address = \"127.0.0.1:6380\" }",
        NEEDED "redis { address = \"unix:/run/redis\" }",
    };
    struct config *running = scratch_good(REDIS(""));
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        char *said;
        size_t size;
        FILE *out = open_memstream(&said, &size);
        struct config *loaded = scratch_good(others[i]);
        assert_int_equal(config_restart_needed(running, loaded, out), 1);
        fclose(out);
        assert_string_equal(
            said, "redis is new in the configuration, but only a restart can change it\n");
        free(said);
        config_free(loaded);
    }
    struct config *greylisting =
        scratch_good(REDIS("") "greylist { delay = 1m window = 1h keep = 1d secret = secret }");
    assert_int_equal(config_restart_needed(running, greylisting, stderr), 0);
    config_free(greylisting);
    config_free(running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(all_words),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(only_a_restart),
    };
    return cmocka_run_group_tests(tests, begin, scratch_end);
}
