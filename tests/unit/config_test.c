/* gateway/config: files that are right, with every value looked at, and files that are wrong, with
 * every word of what is said about them. */
#include "gateway/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "tests/support/scratch.h"

#define LISTENER SCRATCH_LISTENER
#define DOMAIN   SCRATCH_DOMAIN
#define NEEDED   SCRATCH_NEEDED
#define WRONG    SCRATCH_WRONG

static enum directory_verdict check(const struct config *config, const char *mailbox)
{
    struct address address;
    assert_int_equal(address_mailbox(bytes_of_string(mailbox), true, &address), ADDRESS_OK);
    return directory_check(config->directory, &address);
}

static void what_is_left_out_has_its_default(void **state)
{
    (void)state;
    struct config *config = scratch_good(NEEDED);
    assert_string_equal(config->hostname, "mx.example.org");
    assert_string_equal(config->server.hostname, "mx.example.org");
    assert_string_equal(config->courier.hostname, "mx.example.org");
    assert_in_range(config->worker_count, 1, LIMIT_WORKERS);
    assert_int_equal(config->server.connections_max, 10000);
    assert_int_equal(config->server.connections_per_ip_max, 100);
    assert_int_equal(config->server.message_size_max, 50 * 1024 * 1024);
    assert_int_equal(config->server.recipients_max, 1000);
    assert_int_equal(config->server.bad_commands_max, 20);
    assert_int_equal(config->server.command_timeout_s, 300);
    assert_int_equal(config->server.data_timeout_s, 600);
    assert_int_equal(config->server.data_rate_min, 1024);
    assert_ptr_equal(config->server.directory, config->directory);
    assert_string_equal(config->spool.path, "/var/spool/ringmx");
    assert_int_equal(config->spool.segment_size, 64 * 1024 * 1024);
    assert_int_equal(config->spool.staging_size, 8 * 1024 * 1024);
    assert_int_equal(config->spool.sync, SPOOL_SYNC_AUTO);
    assert_int_equal(config->courier.rules.lifetime_s, 5 * 86400);
    assert_ptr_equal(config->courier.rules.routes, config->routes);
    assert_int_equal(config->log.level, LOG_INFO);
    assert_int_equal(config->log.format, LOG_LOGFMT);
    assert_int_equal(config->log.output, LOG_STDERR);
    assert_int_equal(config->log.descriptor, STDERR_FILENO);
    assert_int_equal(config->log.repeats, 100);
    assert_false(config->io_baseline);
    assert_int_equal(config->io_buffer_count, 2048);
    assert_int_equal(config->io_buffer_size, 16 * 1024);
    assert_int_equal(config->listener_count, 1);
    assert_int_equal(config->domain_count, 1);
    config_free(config);
}

static void every_word_is_understood(void **state)
{
    (void)state;
    static const char users[] = "# the users\ncarol\r\n\n  \"Dan Brown\"  \nerin+*";
    scratch_write("users.txt", users, sizeof(users) - 1);
    struct config *config = scratch_good(
        "# comment # comment\n"
        "hostname = mx.example.org  // bare, and a comment\n"
        "workers = 3 /* a comment\n over two lines */\n"
        "limits { connections = 7 connections_per_ip = \"3\" message_size = 64k "
        "recipients = 10000\n"
        "  bad_commands = 5 command_timeout = 10s data_timeout = 2m min_data_rate = 0 }\n"
        "spool { path = 'a \"quoted\" path' segment_size = \"40M\" sync = dsync "
        "staging_size = 1M }\n"
        "listener \"mx\" { address = {\"0.0.0.0:25\",\n \"[::]:25\" } role = mx }\n"
        "listener two { address = \"127.0.0.1:0\" } listener three { address = "
        "{\"127.0.0.1:0\",} }\n"
        "domain \"Example.org\" { recipients = {\"alice\", \"bob+*\", \"@users.txt\"}\n"
        "  deliver = \"maildir:/var/mail/%d/%u\" }\n"
        "domain \"example.net\" { recipients = {\"*\"} deliver = \"discard:\" }\n"
        "log { level = debug format = json output = stdout repeats = 7 }\n"
        "queue { lifetime = 30d }\n"
        "io { features = baseline buffers = 1024 buffer_size = 4k }");
    assert_int_equal(config->worker_count, 3);
    assert_int_equal(config->server.connections_max, 7);
    assert_int_equal(config->server.connections_per_ip_max, 3);
    assert_int_equal(config->server.message_size_max, 65536);
    assert_int_equal(config->server.recipients_max, 10000);
    assert_int_equal(config->server.bad_commands_max, 5);
    assert_int_equal(config->server.command_timeout_s, 10);
    assert_int_equal(config->server.data_timeout_s, 120);
    assert_int_equal(config->server.data_rate_min, 0);
    assert_string_equal(config->spool_path, "a \"quoted\" path");
    assert_int_equal(config->spool.segment_size, 40 * 1024 * 1024);
    assert_int_equal(config->spool.sync, SPOOL_SYNC_DSYNC);
    assert_int_equal(config->spool.staging_size, 1024 * 1024);
    assert_int_equal(config->courier.rules.lifetime_s, 30 * 86400);
    assert_int_equal(config->log.level, LOG_DEBUG);
    assert_int_equal(config->log.format, LOG_JSON);
    assert_int_equal(config->log.output, LOG_STDOUT);
    assert_int_equal(config->log.descriptor, STDOUT_FILENO);
    assert_int_equal(config->log.repeats, 7);
    assert_true(config->io_baseline);
    assert_int_equal(config->io_buffer_count, 1024);
    assert_int_equal(config->io_buffer_size, 4096);
    assert_int_equal(config->listener_count, 4);
    assert_string_equal(config->listeners[1].name, "mx");
    assert_int_equal(config->listeners[1].address.v6.sin6_port, htons(25));
    assert_string_equal(config->listeners[3].name, "three");

    assert_int_equal(directory_recipient_count(config->directory), 6);
    assert_int_equal(check(config, "ALICE@example.org"), DIRECTORY_ACCEPT);
    assert_int_equal(check(config, "bob+x@example.org"), DIRECTORY_ACCEPT);
    assert_int_equal(check(config, "carol@example.org"), DIRECTORY_ACCEPT);
    assert_int_equal(check(config, "\"dan brown\"@example.org"), DIRECTORY_ACCEPT);
    assert_int_equal(check(config, "erin+y@example.org"), DIRECTORY_ACCEPT);
    assert_int_equal(check(config, "frank@example.org"), DIRECTORY_NO_SUCH_USER);
    assert_int_equal(check(config, "frank@example.net"), DIRECTORY_ACCEPT);
    assert_int_equal(check(config, "frank@example.com"), DIRECTORY_RELAY_DENIED);
    const struct route *route = routes_find(config->routes, BYTES("alice@example.org"), false);
    assert_string_equal(route->maildir, "/var/mail/%d/%u");
    config_free(config);
}

static void wrong_values_are_told(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED "workers = 49", "4: workers: 49 is not between 0 and 48\n"),
        WRONG(NEEDED "workers = -1", "4: workers: \"-1\" is not a number\n"),
        WRONG(NEEDED "workers = \"\"", "4: workers: \"\" is not a number\n"),
        WRONG(NEEDED "workers = 1k", "4: workers: \"1k\" is not a number\n"),
        WRONG(NEEDED "workers = 99999999999999999999",
              "4: workers: \"99999999999999999999\" is not a number\n"),
        WRONG(NEEDED "limits { recipients = 10001 }\n",
              "4: limits.recipients: 10001 is not between 1 and 10000\n"),
        WRONG(NEEDED "limits {\n\n message_size = 50X }\n",
              "6: limits.message_size: \"50X\" is not a size (digits, then k, M, G or nothing)\n"),
        WRONG(
            NEEDED "limits { message_size = 18014398509481984k }\n",
            "4: limits.message_size: \"18014398509481984k\" is not a size (digits, then k, M, G or "
            "nothing)\n"),
        WRONG(NEEDED "limits { message_size = 3G }\n",
              "4: limits.message_size: 3G is not between 1k and 2G\n"),
        WRONG(NEEDED "limits { command_timeout = 5M }\n",
              "4: limits.command_timeout: \"5M\" is not a time (digits, then s, m, h, d or "
              "nothing)\n"),
        WRONG(NEEDED "limits { data_timeout = 0 }\n",
              "4: limits.data_timeout: 0 is not between 1s and 1d\n"),
        WRONG(NEEDED "spool { segment_size = 39M }\n",
              "4: spool.segment_size: 39M is not between 40M and 2G\n"),
        WRONG(NEEDED "spool { segment_size = 65537k }\n",
              "4: spool.segment_size: 65537k is not a multiple of 4k\n"),
        WRONG(NEEDED "spool { staging_size = 3M }\n",
              "4: spool.staging_size: 3M is not a power of two\n"),
        WRONG(NEEDED "spool { sync = sometimes }\n",
              "4: spool.sync: \"sometimes\" is none of auto, dsync, fdatasync, none\n"),
        WRONG(NEEDED "spool { path = \"\" }\n", "4: spool.path is empty\n"),
        WRONG(NEEDED "log { level = loud format = XML }\n",
              "4: log.level: \"loud\" is none of error, warn, info, debug\n"
              "4: log.format: \"XML\" is none of logfmt, json\n"),
        WRONG(NEEDED "log { output = syslog repeats = 1000001 }\n",
              "4: log.repeats: 1000001 is not between 0 and 1000000\n"
              "4: log.output: \"syslog\" is none of stderr, stdout, journal\n"),
        WRONG(NEEDED "io { features = all buffers = 100 buffer_size = 1 }\n",
              "4: io.buffers: 100 is not a power of two\n"
              "4: io.buffer_size: 1 is not between 1k and 1M\n"
              "4: io.features: \"all\" is none of auto, baseline\n"),
        WRONG(LISTENER DOMAIN "hostname = \"mx_1\"",
              "3: hostname: \"mx_1\" is not a domain name\n"),
        WRONG(LISTENER DOMAIN "hostname = \"\"", "3: hostname: \"\" is not a domain name\n"),
        WRONG(LISTENER DOMAIN "hostname = \"[192.0.2.1]\"",
              "3: hostname: \"[192.0.2.1]\" is not a domain name\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

static void wrong_listeners_and_domains_are_told(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG("hostname = a", " no listener: add listener \"mx\" { address = ... }\n"
                              " no domain: add domain \"example.org\" { ... }\n"),
        WRONG(NEEDED "listener \"b\" { }", "4: listener \"b\" has no address\n"),
        WRONG(
            NEEDED "listener \"b\" { address = {\"localhost:25\", \"::1:25\", \"1.2.3.4:70000\"} }",
            "4: \"localhost:25\" is not an address like \"192.0.2.1:25\" or \"[2001:db8::1]:25\"\n"
            "4: \"::1:25\" is not an address like \"192.0.2.1:25\" or \"[2001:db8::1]:25\"\n"
            "4: \"1.2.3.4:70000\" is not an address like \"192.0.2.1:25\" or "
            "\"[2001:db8::1]:25\"\n"),
        WRONG(NEEDED "listener \"b\" { address = {\"[::1]:25\",\n \"127.0.0.1:25\"} }",
              "5: 127.0.0.1:25 is already an address of listener \"mx\"\n"),
        WRONG(NEEDED "listener \"b\" { address = {\"[::1]:25\"} role = relay }",
              "4: listener.role: \"relay\" is none of mx, submission\n"),
        WRONG(NEEDED "listener \"mx\" { address = {\"[::1]:25\"} }",
              "4: found duplicate title 'mx'\n"),
        WRONG(NEEDED "domain \"example.org\" { }", "4: found duplicate title 'example.org'\n"),
        WRONG(NEEDED "domain \"EXAMPLE.org\" { recipients = {\"*\"} deliver = \"discard:\" }",
              "4: domain \"EXAMPLE.org\" is there already\n"),
        WRONG(NEEDED "domain \"example..net\" { }", "4: \"example..net\" is not a domain name\n"),
        WRONG(NEEDED "domain \"example.net\" { }", "4: domain \"example.net\" has no recipients\n"
                                                   "4: domain \"example.net\" has no deliver\n"),
        WRONG(NEEDED
              "domain \"example.net\" { recipients = {\n\"a\",\n\"b c\"} deliver = \"pipe:x\" }",
              "6: recipient \"b c\" is none of: a local part, a local part with +*, or *\n"
              "6: domain.deliver: pipe:x: the target is none of maildir:TEMPLATE, discard:, mx:, "
              "smtp:HOST[:PORT], lmtp:HOST:PORT, lmtp:unix:PATH\n"),
        WRONG(NEEDED
              "domain \"example.net\" { recipients = {\"@gone.txt\"} deliver = \"discard:\" }",
              "4: recipients file /gone.txt: No such file or directory\n"),
        WRONG(NEEDED
              "domain \"example.net\" { recipients = {\"@/dev/null\"} deliver = \"discard:\" }",
              "4: recipients file /dev/null: Invalid argument\n"),
        WRONG(
            NEEDED "domain \"example.net\" { recipients = {\"@bad.txt\"} deliver = \"discard:\" }",
            "/bad.txt:2: recipient \"a@b\" is none of: a local part, a local part with +*, or *\n"
            "/bad.txt:4: recipient \"c d\" is none of: a local part, a local part with +*, or *\n"),
    };
    scratch_write("bad.txt", "ok\na@b\n# c d\nc d", 16);
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

static void wrong_forms_are_told(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED "colour = red", "4: unknown word colour\n"),
        WRONG(NEEDED "limits { speed = 5 }", "4: unknown word speed in limits\n"),
        WRONG(NEEDED "admin { web = \"127.0.0.1:8025\" }", "4: unknown word web in admin\n"),
        WRONG(NEEDED "queue { retry_min = 1m }", "4: unknown word retry_min in queue\n"),
        WRONG(NEEDED
              "listener \"b\" { mode = fast address = {\"[::1]:25\"} speed = {\"10.0.0.0/8\"} }",
              "4: unknown word mode in listener\n4: unknown word speed in listener\n"),
        WRONG(NEEDED "Workers = 1", "4: unknown word Workers\n"),
        WRONG(NEEDED "workers = 1\nworkers = 2", "5: workers is already set in line 4\n"),
        WRONG(NEEDED "limits { }\n\nlimits { }", "6: limits is already set in line 4\n"),
        WRONG(NEEDED "limits { recipients = 5", "4: limits { is never closed\n"),
        WRONG(NEEDED "}", "4: expected a word, found }\n"),
        WRONG(NEEDED "workers 5",
              "4: workers must be followed by = and a value\n4: unknown word 5\n"),
        WRONG(NEEDED "workers = }", "4: workers has no value\n4: expected a word, found }\n"),
        WRONG(NEEDED "workers = {1}", "4: workers takes one value, not a list\n"),
        WRONG(NEEDED "limits = 5", "4: limits must be followed by {\n"),
        WRONG(NEEDED "listener { }", "4: listener must be followed by a name and {\n"),
        WRONG(NEEDED "listener \"b\" { address = {\"a\" \"b\"} }",
              "4: unexpected \"b\" in the list of address\n"),
        WRONG(NEEDED "listener \"b\" { address = {\"a\", \n",
              "4: the list of address is never closed\n"
              "4: listener { is never closed\n"),
        WRONG(NEEDED "spool { path = \"a\n }",
              "4: a quote is opened, but not closed in the same line\n"),
        WRONG(NEEDED "domain \"b.org\" { recipients = {*, bob+*} }", "4: put * in quotes\n"
                                                                     "4: put bob+* in quotes\n"),
        WRONG(NEEDED "/* no end", "4: comment is never closed\n"),
        WRONG(NEEDED "spool { path = \"\\9\" }", "4: bad escape sequence '\\9'\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

/* Comments, blanked words, lists over lines: the lines stay right, and one mistake does not hide
 * another. */
static void all_mistakes_are_told_at_once(void **state)
{
    (void)state;
    static const struct scratch_wrong wrong = {
        "# one\n"
        "workers = 100      // two\n"
        "/* three\n"
        "   four */ hostname = \"a b\"\n"
        "nonsense = {1, 2, {}\n"
        "filter \"x\" {\n"
        "  nested { deep = 1 } # }\n"
        "}\n"
        "limits {\n"
        "  # }\n"
        "  recipients = 0 # ten\n"
        "  unknown = \"}\" data_timeout = x\n"
        "}\n"
        "listener \"mx\" { address = {\n"
        "  # fourteen\n"
        "  \"127.0.0.1\" } }\n",
        "5: unknown word nonsense\n",
    };
    /* A brace too many inside of an unknown word's list: the rest of the file is taken for its
     * inside. */
    char *said;
    assert_null(scratch_load(wrong.text, strlen(wrong.text), &said));
    assert_memory_equal(said, wrong.said, strlen(wrong.said));
    free(said);

    static const struct scratch_wrong right_form = {
        "# one\n"
        "workers = 100      // two\n"
        "/* three\n"
        "   four */ hostname = \"a b\"\n"
        "nonsense = {1, 2}\n"
        "filter \"x\" {\n"
        "  nested { deep = 1 } # }\n"
        "}\n"
        "limits {\n"
        "  # }\n"
        "  recipients = 0 # ten\n"
        "  unknown = \"}\" data_timeout = x\n"
        "}\n"
        "listener \"mx\" { address = {\n"
        "  # fourteen\n"
        "  \"127.0.0.1\" } }\n",
        "5: unknown word nonsense\n"
        "6: unknown word filter\n"
        "12: unknown word unknown in limits\n"
        "2: workers: 100 is not between 0 and 48\n"
        "11: limits.recipients: 0 is not between 1 and 10000\n"
        "12: limits.data_timeout: \"x\" is not a time (digits, then s, m, h, d or nothing)\n"
        "4: hostname: \"a b\" is not a domain name\n"
        "16: \"127.0.0.1\" is not an address like \"192.0.2.1:25\" or \"[2001:db8::1]:25\"\n"
        " no domain: add domain \"example.org\" { ... }\n",
    };
    scratch_all_wrong(&right_form, 1);
}

/* libconfuse's lexer stops inside of a string here; the next load must not begin there. */
static void a_bad_load_leaves_no_trace(void **state)
{
    (void)state;
    static const struct scratch_wrong bad = {NEEDED "spool { path = \"\\9\" }",
                                             "4: bad escape sequence '\\9'\n"};
    for (unsigned i = 0; i < 3; i++) {
        scratch_all_wrong(&bad, 1);
        config_free(scratch_good(NEEDED));
    }
}

static void missing_files_are_told(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG("/nonexistent/ringmx.conf", "/nonexistent/ringmx.conf: No such file or directory\n"),
        WRONG("/tmp", "/tmp: Is a directory\n"),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *said;
        size_t size;
        FILE *errors = open_memstream(&said, &size);
        assert_null(config_load(cases[i].text, errors));
        fclose(errors);
        assert_string_equal(said, cases[i].said);
        free(said);
    }
}

static void bad_lines_of_a_file_are_told_up_to_a_point(void **state)
{
    (void)state;
    char text[300] = "";
    for (size_t i = 0; i < 100; i++)
        memcpy(text + 2 * i, "@\n", 2);
    scratch_write("bad.txt", text, 200);
    char *said;
    static const char wrong[] =
        NEEDED "domain \"b.example\" { recipients = {\"@bad.txt\"} deliver = \"discard:\" }";
    assert_null(scratch_load(wrong, sizeof(wrong) - 1, &said));
    assert_non_null(strstr(said, "/bad.txt:20: recipient"));
    assert_null(strstr(said, "/bad.txt:21: recipient"));
    assert_non_null(strstr(said, "/bad.txt: 80 more mistakes\n"));
    free(said);
}

static void a_file_of_a_million_recipients(void **state)
{
    (void)state;
    enum { COUNT = 1000000 };
    FILE *file = fopen(scratch_path("many.txt"), "we");
    assert_non_null(file);
    for (unsigned i = 0; i < COUNT; i++)
        fprintf(file, "user.%u\n", i);
    fclose(file);
    uint64_t start_us = clock_monotonic_us();
    struct config *config = scratch_good(
        NEEDED "domain \"b.example\" { recipients = {\"@many.txt\"} deliver = \"discard:\" }");
    print_message("a file of 1,000,000 recipients: loaded in %.2f s\n",
                  (double)(clock_monotonic_us() - start_us) / 1e6);
    assert_int_equal(directory_recipient_count(config->directory), COUNT + 1);
    assert_int_equal(check(config, "user.999999@b.example"), DIRECTORY_ACCEPT);
    assert_int_equal(check(config, "user.1000000@b.example"), DIRECTORY_NO_SUCH_USER);
    config_free(config);
}

/* Cut off anywhere, or with any octet replaced by a telling one: an answer, never a crash. */
static void damaged_files_get_an_answer(void **state)
{
    (void)state;
    static const char text[] = NEEDED "/* x */ spool { path = 'p' } # c\nlimits{recipients=5}// d";
    static const char damage[] = "\0\"'{}=,#/*+\\\n$";
    char copy[sizeof(text)];
    size_t answers = 0;
    for (size_t len = 0; len < sizeof(text); len++) {
        char *said;
        struct config *config = scratch_load(text, len, &said);
        assert_true((config == NULL) == (said[0] != '\0'));
        answers++;
        config_free(config);
        free(said);
    }
    for (size_t i = 0; i + 1 < sizeof(text); i++) {
        for (size_t k = 0; k + 1 < sizeof(damage); k++) {
            char *said;
            memcpy(copy, text, sizeof(text));
            copy[i] = damage[k];
            struct config *config = scratch_load(copy, sizeof(text) - 1, &said);
            assert_true((config == NULL) == (said[0] != '\0'));
            answers++;
            config_free(config);
            free(said);
        }
    }
    assert_int_equal(answers, sizeof(text) + (sizeof(text) - 1) * (sizeof(damage) - 1));
}

static void a_reload_knows_what_needs_a_restart(void **state)
{
    (void)state;
    char *said;
    size_t size;
    struct config *running = scratch_good(NEEDED);
    struct config *same =
        scratch_good(NEEDED "log { level = debug } limits { connections = 5 }\n"
                            "domain \"b.example\" { recipients = \"*\" deliver = \"discard:\" }");
    struct config *other = scratch_good("hostname = \"other.example\" workers = 48 io { features = "
                                        "baseline buffers = 2 buffer_size = 1k}\n"
                                        "listener \"mx\" { address = {\"127.0.0.1:26\"} }\n" DOMAIN
                                        "spool { path = x segment_size = 128M sync = none "
                                        "staging_size = 16M } limits { connections = 50001 }");
    FILE *out = open_memstream(&said, &size);
    assert_int_equal(config_restart_needed(running, same, out), 0);
    fflush(out);
    assert_string_equal(said, "");
    assert_int_equal(config_restart_needed(running, other, out), 11);
    fclose(out);
    static const char *const words[] = {
        "hostname",    "workers",    "listener",           "limits.connections",
        "spool.path",  "spool.sync", "spool.segment_size", "spool.staging_size",
        "io.features", "io.buffers", "io.buffer_size"};
    char line[128];
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        snprintf(line, sizeof(line), "%s is new in the configuration", words[i]);
        assert_non_null(strstr(said, line));
    }
    free(said);
    config_free(running);

    /* The kernel had a port to choose. */
    running =
        scratch_good(DOMAIN "hostname = a listener b { address = {\"[::1]:0\", \"127.0.0.1:0\"} }");
    running->listeners[0].address.v6.sin6_port = 1234;
    running->listeners[1].address.v4.sin_port = 1235;
    struct config *again =
        scratch_good(DOMAIN "hostname = a listener b { address = {\"[::1]:0\", \"127.0.0.1:0\"} }");
    assert_int_equal(config_restart_needed(running, again, stderr), 0);
    config_free(again);
    config_free(running);
    config_free(same);
    config_free(other);
}

static void the_examples_are_right(void **state)
{
    (void)state;
    static const char *const paths[] = {"docs/example.conf", "docs/local.conf"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct config *config = config_load(paths[i], stderr);
        assert_non_null(config);
        config_free(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(every_word_is_understood),
        cmocka_unit_test(wrong_values_are_told),
        cmocka_unit_test(wrong_listeners_and_domains_are_told),
        cmocka_unit_test(wrong_forms_are_told),
        cmocka_unit_test(all_mistakes_are_told_at_once),
        cmocka_unit_test(a_bad_load_leaves_no_trace),
        cmocka_unit_test(missing_files_are_told),
        cmocka_unit_test(bad_lines_of_a_file_are_told_up_to_a_point),
        cmocka_unit_test(a_file_of_a_million_recipients),
        cmocka_unit_test(damaged_files_get_an_answer),
        cmocka_unit_test(a_reload_knows_what_needs_a_restart),
        cmocka_unit_test(the_examples_are_right),
    };
    return cmocka_run_group_tests_name("config", tests, scratch_begin, scratch_end);
}
