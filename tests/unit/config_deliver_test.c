/* gateway/config_deliver: the queue, the resolver, delivering and the control socket, word by word,
 * and what a reload can't change of them. */
#include "gateway/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/pki.h"
#include "tests/support/scratch.h"

#define NEEDED SCRATCH_NEEDED
#define WRONG  SCRATCH_WRONG

static void what_is_left_out_has_its_default(void **state)
{
    (void)state;
    static const uint32_t schedule_s[] = {60, 300, 900, 3600, 7200, 14400};
    struct config *config = scratch_good(NEEDED);
    const struct courier_options *courier = &config->courier;
    assert_int_equal(courier->schedule_count, 6);
    assert_memory_equal(courier->schedule_s, schedule_s, sizeof(schedule_s));
    assert_int_equal(courier->rules.lifetime_s, 5 * 86400);
    assert_int_equal(courier->rules.warn_after_s, 0);
    assert_int_equal(courier->rules.bounce_original_max, 50 * 1024);
    assert_int_equal(courier->dns.server_count, 0);
    assert_int_equal(courier->dns.timeout_ms, 2000);
    assert_int_equal(courier->dns.tries, 2);
    assert_int_equal(courier->dns.cache_max, 65536);
    assert_int_equal(courier->connections_max, 1000);
    assert_int_equal(courier->idle_s, 10);
    assert_null(courier->ca);
    assert_int_equal(courier->smtp_port, 25);
    assert_true(courier->ipv6);
    assert_int_equal(courier->timeouts.connect_s, 30);
    assert_int_equal(courier->timeouts.greeting_s, 300);
    assert_int_equal(courier->timeouts.command_s, 300);
    assert_int_equal(courier->timeouts.data_s, 0);
    assert_int_equal(courier->timeouts.block_s, 0);
    assert_int_equal(courier->timeouts.end_s, 0);
    assert_int_equal(courier->store_threads, 2);
    assert_int_equal(courier->hop_cache_s, 7200);
    assert_int_equal(config->server.through_patience_ms, 5000);
    assert_int_equal(config->through_memory, 64 << 20);
    assert_null(config->control_path);
    config_free(config);
}

static void every_word_is_understood(void **state)
{
    (void)state;
    char text[1024];
    static const uint32_t schedule_s[] = {1, 120, 7200};
    const struct pki_request ca = {.chain_path = scratch_path("ca.pem"),
                                   .key_path = scratch_path("ca.key"),
                                   .names = {"ca.example"},
                                   .is_ca = true};
    assert_true(pki_make(&ca));
    snprintf(text, sizeof(text),
             NEEDED
             "queue { schedule = {\"1s\", \"2m\", 2h} lifetime = 30d warn_after = 4h\n"
             "  bounce_size = 0 }\n"
             "resolver { address = {\"127.0.0.1:5353\", 192.0.2.53, \"2001:db8::53\",\n"
             "  \"[2001:db8::54]\", \"[::1]:54\"} timeout = 5s tries = 1 cache = 10 }\n"
             "deliver { connections = 5 idle = 1m ca = \"%s\" smtp_port = 2525 ipv6 = false\n"
             "  connect_timeout = 1s command_timeout = 2s data_timeout = 3s\n"
             "  store_threads = 64 }\n"
             "through { patience = 1s memory = 1M cache = 1d }\n"
             "admin { control = \"/run/x/control\" }",
             ca.chain_path);
    struct config *config = scratch_good(text);
    const struct courier_options *courier = &config->courier;
    assert_int_equal(courier->schedule_count, 3);
    assert_memory_equal(courier->schedule_s, schedule_s, sizeof(schedule_s));
    assert_int_equal(courier->rules.lifetime_s, 30 * 86400);
    assert_int_equal(courier->rules.warn_after_s, 4 * 3600);
    assert_int_equal(courier->rules.bounce_original_max, 0);
    assert_int_equal(courier->dns.server_count, 5);
    assert_int_equal(courier->dns.servers[0].v4.sin_port, htons(5353));
    assert_int_equal(courier->dns.servers[1].v4.sin_port, htons(53));
    assert_int_equal(courier->dns.servers[2].v6.sin6_port, htons(53));
    assert_int_equal(courier->dns.servers[2].v6.sin6_addr.s6_addr[15], 0x53);
    assert_int_equal(courier->dns.servers[3].v6.sin6_port, htons(53));
    assert_int_equal(courier->dns.servers[4].v6.sin6_port, htons(54));
    assert_int_equal(courier->dns.timeout_ms, 5000);
    assert_int_equal(courier->dns.tries, 1);
    assert_int_equal(courier->dns.cache_max, 10);
    assert_int_equal(courier->connections_max, 5);
    assert_int_equal(courier->idle_s, 60);
    assert_string_equal(courier->ca, ca.chain_path);
    assert_int_equal(courier->smtp_port, 2525);
    assert_false(courier->ipv6);
    assert_int_equal(courier->timeouts.connect_s, 1);
    assert_int_equal(courier->timeouts.greeting_s, 2);
    assert_int_equal(courier->timeouts.command_s, 2);
    assert_int_equal(courier->timeouts.data_s, 3);
    assert_int_equal(courier->timeouts.block_s, 3);
    assert_int_equal(courier->timeouts.end_s, 3);
    assert_int_equal(courier->store_threads, 64);
    assert_int_equal(courier->hop_cache_s, 86400);
    assert_int_equal(config->server.through_patience_ms, 1000);
    assert_int_equal(config->through_memory, 1 << 20);
    assert_string_equal(config->control_path, "/run/x/control");
    config_free(config);
}

static void wrong_values_are_told(void **state)
{
    (void)state;
    scratch_write("no.pem", "nothing\n", 8);
#define LONG "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED "queue { schedule = {\"1m\",\n \"0\", soon, \"31d\"} }",
              "5: queue.schedule: 0 is not between 1s and 30d\n"
              "5: queue.schedule: \"soon\" is not a time (digits, then s, m, h, d or nothing)\n"
              "5: queue.schedule: 31d is not between 1s and 30d\n"),
        WRONG(NEEDED "queue { schedule = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,"
                     "23,24,25,26,27,28,29,30,31,32,33} }",
              "4: queue.schedule: more than 32 times\n"),
        WRONG(NEEDED "queue { lifetime = 0 }", "4: queue.lifetime: 0 is not between 1s and 30d\n"),
        WRONG(NEEDED "queue { lifetime = 1h\n warn_after = 1h }",
              "5: queue.warn_after is not shorter than queue.lifetime\n"),
        WRONG(NEEDED "queue { bounce_size = 11M }",
              "4: queue.bounce_size: 11M is not between 0 and 10M\n"),
        WRONG(NEEDED "resolver { address = {\"dns.example\",\n \"127.0.0.1:0\", \"\"} }",
              "4: resolver.address: \"dns.example\" is not an address like \"192.0.2.53\" or "
              "\"[2001:db8::53]:5353\"\n"
              "5: resolver.address: \"127.0.0.1:0\" is not an address like \"192.0.2.53\" or "
              "\"[2001:db8::53]:5353\"\n"
              "5: resolver.address: \"\" is not an address like \"192.0.2.53\" or "
              "\"[2001:db8::53]:5353\"\n"),
        WRONG(NEEDED "resolver { address = {10.0.0.1, 10.0.0.2, 10.0.0.3, 10.0.0.4, 10.0.0.5, "
                     "10.0.0.6, 10.0.0.7, 10.0.0.8, 10.0.0.9} }",
              "4: resolver.address: more than 8 addresses\n"),
        WRONG(NEEDED "resolver { timeout = 31 tries = 0 cache = 0 }",
              "4: resolver.timeout: 31 is not between 1s and 30s\n"
              "4: resolver.tries: 0 is not between 1 and 10\n"
              "4: resolver.cache: 0 is not between 1 and 10000000\n"),
        WRONG(NEEDED "deliver { connections = 0 idle = 2h smtp_port = 65536 store_threads = 65 }",
              "4: deliver.connections: 0 is not between 1 and 100000\n"
              "4: deliver.idle: 2h is not between 1s and 1h\n"
              "4: deliver.smtp_port: 65536 is not between 1 and 65535\n"
              "4: deliver.store_threads: 65 is not between 1 and 64\n"),
        WRONG(NEEDED "deliver { ipv6 = on connect_timeout = 0 data_timeout = 0 }",
              "4: deliver.connect_timeout: 0 is not between 1s and 1h\n"
              "4: deliver.data_timeout: 0 is not between 1s and 1h\n"
              "4: deliver.ipv6: \"on\" is none of false, true\n"),
        WRONG(NEEDED "deliver { ca = \"\" }", "4: deliver.ca is empty\n"),
        WRONG(NEEDED "through { patience = 2m memory = 17G cache = 0 }",
              "4: through.patience: 2m is not between 1s and 1m\n"
              "4: through.memory: 17G is not between 0 and 16G\n"
              "4: through.cache: 0 is not between 1s and 1d\n"),
        WRONG(NEEDED "through { memory = 1023k }",
              "4: through.memory: 1023k is neither 0 nor at least 1M\n"),
        WRONG(NEEDED "admin { control = \"\" }", "4: admin.control: a path has 1 to 107 octets\n"),
        WRONG(NEEDED "admin { control = \"" LONG LONG "\" }",
              "4: admin.control: a path has 1 to 107 octets\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
    char *said;
    static const char bad_ca[] = NEEDED "deliver { ca = \"no.pem\" }";
    assert_null(scratch_load(bad_ca, sizeof(bad_ca) - 1, &said));
    assert_memory_equal(said, "4: deliver.ca: ", 15);
    free(said);
}

static size_t told(const struct config *running, const char *text, char **said)
{
    size_t size;
    struct config *loaded = scratch_good(text);
    FILE *out = open_memstream(said, &size);
    size_t count = config_restart_needed(running, loaded, out);
    fclose(out);
    config_free(loaded);
    return count;
}

static void a_reload_knows_what_needs_a_restart(void **state)
{
    (void)state;
    char *said;
    struct config *running = scratch_good(NEEDED);
    assert_int_equal(told(running,
                          NEEDED "queue { schedule = {1m, 5m} lifetime = 1d warn_after = 1h "
                                 "bounce_size = 1k } through { patience = 1s cache = 1h }\n"
                                 "deliver { idle = 9s connect_timeout = 1s command_timeout = 1s "
                                 "data_timeout = 1s } relay { tls = required }\n"
                                 "drain { notice = 1s timeout = 1s handover = 1s }\n",
                          &said),
                     0);
    assert_string_equal(said, "");
    free(said);
    assert_int_equal(told(running,
                          NEEDED "resolver { address = 127.0.0.1 } deliver { ipv6 = false }\n"
                                 "through { memory = 0 }\n"
                                 "admin { control = \"/run/x\" http = \"127.0.0.1:1\" "
                                 "agent = \"127.0.0.1:2\" }",
                          &said),
                     6);
    static const char *const words[] = {
        "resolver",      "deliver.connections, ipv6, smtp_port, ca or store_threads",
        "admin.control", "through.memory",
        "admin.http",    "admin.agent"};
    char line[128];
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        snprintf(line, sizeof(line), "%s is new in the configuration", words[i]);
        assert_non_null(strstr(said, line));
    }
    free(said);
    config_free(running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(every_word_is_understood),
        cmocka_unit_test(wrong_values_are_told),
        cmocka_unit_test(a_reload_knows_what_needs_a_restart),
    };
    return cmocka_run_group_tests_name("config_deliver", tests, scratch_begin, scratch_end);
}
