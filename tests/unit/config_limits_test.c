/* gateway/config, what bounds clients: limits { }, tls.handshakes and queue.messages; a reload can
 * change all of it. */
#include "gateway/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/scratch.h"

#define NEEDED SCRATCH_NEEDED
#define WRONG  SCRATCH_WRONG

static uint32_t rate(const struct config *config, enum rate_kind kind, enum rate_scope scope)
{
    return config->server.rates.per_minute[kind][scope];
}

static bool exempt(const struct config *config, const char *peer)
{
    union address_any address;
    assert_true(listener_parse(peer, &address));
    return networks_contain(config->server.exempt, &address);
}

static void defaults(void **state)
{
    (void)state;
    struct config *config = scratch_good(NEEDED);
    const struct server_options *server = &config->server;
    assert_int_equal(server->connections_per_ip_max, 100);
    assert_int_equal(server->connections_per_network_max, 0);
    for (int kind = 0; kind < RATE_KINDS; kind++)
        for (int scope = 0; scope < RATE_SCOPES; scope++)
            assert_int_equal(rate(config, (enum rate_kind)kind, (enum rate_scope)scope), 0);
    assert_null(server->exempt);
    assert_int_equal(server->greet_delay_s, 0);
    assert_int_equal(server->tarpit_s, 0);
    assert_int_equal(server->tarpit_after, 3);
    assert_int_equal(server->handshakes_max, 1000);
    assert_int_equal(config->spool.messages_max, 1000000);
    config_free(config);
}

#define ALL                                                                                        \
    NEEDED "limits { connections_per_ip = 0 connections_per_network = 11 connection_rate = 12 "    \
           "connection_rate_network = 13 message_rate = 14 message_rate_network = 15\n"            \
           "  exempt = {\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.1\"} greet_delay = 30s "      \
           "tarpit = 1m tarpit_after = 0 }\n"                                                      \
           "tls { handshakes = 16 } queue { messages = 1000 }"

static void all_words(void **state)
{
    (void)state;
    struct config *config = scratch_good(ALL);
    const struct server_options *server = &config->server;
    assert_int_equal(server->connections_per_ip_max, 0);
    assert_int_equal(server->connections_per_network_max, 11);
    assert_int_equal(rate(config, RATE_CONNECTIONS, RATE_ADDRESS), 12);
    assert_int_equal(rate(config, RATE_CONNECTIONS, RATE_NETWORK), 13);
    assert_int_equal(rate(config, RATE_MESSAGES, RATE_ADDRESS), 14);
    assert_int_equal(rate(config, RATE_MESSAGES, RATE_NETWORK), 15);
    assert_true(exempt(config, "10.255.0.1:1"));
    assert_true(exempt(config, "[2001:db8:ffff::1]:1"));
    assert_true(exempt(config, "192.0.2.1:1"));
    assert_false(exempt(config, "192.0.2.2:1"));
    assert_int_equal(server->greet_delay_s, 30);
    assert_int_equal(server->tarpit_s, 60);
    assert_int_equal(server->tarpit_after, 0);
    assert_int_equal(server->handshakes_max, 16);
    assert_int_equal(config->spool.messages_max, 1000);
    config_free(config);
}

static void mistakes(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED "limits { connection_rate = 1000001 }",
              "4: limits.connection_rate: 1000001 is not between 0 and 1000000\n"),
        WRONG(NEEDED "limits { message_rate_network = often }",
              "4: limits.message_rate_network: \"often\" is not a number\n"),
        WRONG(NEEDED "limits { greet_delay = 31s }",
              "4: limits.greet_delay: 31s is not between 0 and 30s\n"),
        WRONG(NEEDED "limits { tarpit = 61s }", "4: limits.tarpit: 61s is not between 0 and 1m\n"),
        WRONG(NEEDED "limits { tarpit_after = 1001 }",
              "4: limits.tarpit_after: 1001 is not between 0 and 1000\n"),
        WRONG(NEEDED "queue { messages = 999 }",
              "4: queue.messages: 999 is not between 1000 and 1000000000\n"),
        WRONG(NEEDED "tls { handshakes = -1 }", "4: tls.handshakes: \"-1\" is not a number\n"),
        WRONG(NEEDED "limits { exempt = \"10.0.0.1/8\" }",
              "4: limits.exempt: \"10.0.0.1/8\" has bits behind its prefix\n"),
        WRONG(NEEDED "limits { exempt = \"friends\" }",
              "4: limits.exempt: \"friends\" is not a network like \"192.0.2.0/24\" or "
              "\"2001:db8::/32\"\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

static void a_reload_will_do(void **state)
{
    (void)state;
    struct config *running = scratch_good(NEEDED);
    struct config *loaded = scratch_good(ALL);
    assert_int_equal(config_restart_needed(running, loaded, stderr), 0);
    config_free(loaded);
    config_free(running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(all_words),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(a_reload_will_do),
    };
    return cmocka_run_group_tests(tests, scratch_begin, scratch_end);
}
