/* gateway/config_routes, config_aliases, config_srs: where mail goes, word by word, and what is
 * said about words that are wrong. */
#include "gateway/config_warnings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/support/scratch.h"

#define NEEDED SCRATCH_NEEDED
#define WRONG  SCRATCH_WRONG

static const struct route *route_of(const struct config *config, const char *mailbox,
                                    bool forwarded)
{
    return routes_find(config->routes, bytes_of_string(mailbox), forwarded);
}

/* Follows an address, which must be taken, to whom it stands for, joined by blanks. */
static const char *targets_of(const struct config *config, const char *mailbox)
{
    static char text[1024];
    struct directory_expansion expansion;
    struct address address;
    size_t len = 0;
    assert_true(directory_expansion_init(&expansion, 100));
    assert_int_equal(address_mailbox(bytes_of_string(mailbox), true, &address), ADDRESS_OK);
    assert_int_equal(directory_expand(config->directory, &address, 1700000000, &expansion),
                     DIRECTORY_ACCEPT);
    text[0] = '\0';
    for (uint32_t i = 0; i < expansion.target_count; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%.*s%s", i == 0 ? "" : " ",
                                (int)expansion.targets[i].mailbox.len,
                                (const char *)expansion.targets[i].mailbox.data,
                                expansion.targets[i].forwarded ? "!" : "");
    directory_expansion_free(&expansion);
    return text;
}

static void what_is_left_out_has_its_default(void **state)
{
    (void)state;
    struct config *config = scratch_good(NEEDED);
    const struct route *route = route_of(config, "a@example.org", false);
    assert_int_equal(route->kind, ROUTE_DISCARD);
    assert_int_equal(route->options.tls, ROUTE_TLS_OPPORTUNISTIC);
    assert_false(route->options.tls_verify);
    assert_false(route->options.through);
    assert_false(route->options.callahead);
    assert_int_equal(route->options.connections, 0);
    assert_int_equal(route->options.rate, 0);
    assert_null(route_of(config, "a@elsewhere.example", false));
    assert_true(routes_discard_only(config->routes));
    assert_null(config->srs);
    config_free(config);
}

static void every_word_of_a_domain_is_understood(void **state)
{
    (void)state;
    struct config *config = scratch_good(
        NEEDED
        "domain \"b.example\" { recipients = \"*\"\n"
        "  deliver = {\"smtp:[2001:db8::1]:2525 weight=3\", \"smtp:b.example\"}\n"
        "  mode = through tls = required tls_verify = true connections = 7 rate = 100 }\n"
        "domain \"c.example\" { recipients = \"*\" deliver = \"lmtp:unix:/run/lmtp\"\n"
        "  verify = callahead mode = spool tls = none tls_verify = false }\n"
        "domain \"d.example\" { recipients = \"*\" deliver = \"mx:\" verify = none }\n"
        "relay { deliver = \"smtp:smart.example:465\" tls = implicit connections = 2 rate = 5 }");
    const struct route *route = route_of(config, "a@b.example", false);
    assert_int_equal(route->kind, ROUTE_SMTP);
    assert_int_equal(route->host_count, 2);
    assert_string_equal(route->hosts[0].name, "2001:db8::1");
    assert_int_equal(route->hosts[0].weight, 3);
    assert_int_equal(route->options.tls, ROUTE_TLS_REQUIRED);
    assert_true(route->options.tls_verify);
    assert_true(route->options.through);
    assert_false(route->options.callahead);
    assert_int_equal(route->options.connections, 7);
    assert_int_equal(route->options.rate, 100);

    route = route_of(config, "a@c.example", false);
    assert_int_equal(route->kind, ROUTE_LMTP);
    assert_true(route->options.callahead);
    assert_false(route->options.through);
    assert_int_equal(route->options.tls, ROUTE_TLS_NONE);
    assert_int_equal(route_of(config, "a@d.example", false)->kind, ROUTE_MX);

    route = route_of(config, "a@elsewhere.example", true);
    assert_int_equal(route->kind, ROUTE_SMTP);
    assert_int_equal(route->options.tls, ROUTE_TLS_IMPLICIT);
    assert_int_equal(route->options.connections, 2);
    assert_int_equal(route->options.rate, 5);
    config_free(config);
}

/* Options alone: to the MX of each domain, but with TLS. */
static void relay_without_deliver_goes_to_the_mx(void **state)
{
    (void)state;
    struct config *config = scratch_good(NEEDED "relay { tls = required }");
    const struct route *route = route_of(config, "a@elsewhere.example", true);
    assert_int_equal(route->kind, ROUTE_MX);
    assert_null(route->exchange);
    assert_int_equal(route->options.tls, ROUTE_TLS_REQUIRED);
    assert_false(routes_discard_only(config->routes));
    config_free(config);
}

/* A next hop that is this gateway itself; other ports and machines are not. */
static void we_are_no_next_hop(void **state)
{
    (void)state;
#define HOST "hostname = \"mx.example.org\"\n"
#define PORTS                                                                                      \
    "listener \"mx\" { address = {\"192.0.2.1:2525\", \"0.0.0.0:2526\", \"[::]:2527\"} }\n"
#define TO(target) HOST PORTS "domain \"a.example\" { recipients = \"*\" deliver = " target " }\n"
#define SAID(name, port)                                                                           \
    "3: domain.deliver: " name " port " port " is this gateway itself: mail would go round\n"
    static const struct scratch_wrong cases[] = {
        WRONG(TO("\"smtp:192.0.2.1:2525\""), SAID("192.0.2.1", "2525")),
        WRONG(TO("\"smtp:MX.Example.org:2525\""), SAID("MX.Example.org", "2525")),
        WRONG(TO("\"lmtp:127.0.0.1:2526\""), SAID("127.0.0.1", "2526")),
        WRONG(TO("\"smtp:localhost:2526\""), SAID("localhost", "2526")),
        WRONG(TO("\"smtp:[::1]:2527\""), SAID("::1", "2527")),
        WRONG(TO("\"smtp:localhost:2527\""), SAID("localhost", "2527")),
        WRONG(TO("{\"smtp:x.example\", \"smtp:127.1.2.3:2526\"}"), SAID("127.1.2.3", "2526")),
        WRONG(
            TO("\"discard:\"") "relay { deliver = \"smtp:192.0.2.1:2525\" }",
            "4: relay.deliver: 192.0.2.1 port 2525 is this gateway itself: mail would go round\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
    static const char *const good[] = {
        TO("\"smtp:192.0.2.1:2526\""),
        TO("\"smtp:192.0.2.2:2525\""),
        TO("\"smtp:mx.example.org:26\""),
        TO("\"smtp:127.0.0.1:2525\""),
        TO("\"lmtp:unix:/run/lmtp\""),
        TO("\"mx:mx.example.org\""),
        TO("\"discard:\"") "relay { deliver = \"smtp:smart.example\" }",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        config_free(scratch_good(good[i]));
#undef HOST
#undef PORTS
#undef TO
#undef SAID
}

static void wrong_routes_are_told(void **state)
{
    (void)state;
#define HAS "domain \"b.example\" { recipients = \"*\" deliver = \"smtp:x.example\" "
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED HAS "\nmode = both }", "5: domain.mode: \"both\" is none of spool, through\n"),
        WRONG(NEEDED HAS "\nverify = dns }",
              "5: domain.verify: \"dns\" is none of none, callahead\n"),
        WRONG(NEEDED HAS "\ntls = starttls }",
              "5: domain.tls: \"starttls\" is none of opportunistic, none, required, implicit\n"),
        WRONG(NEEDED HAS "\ntls_verify = yes }",
              "5: domain.tls_verify: \"yes\" is none of false, true\n"),
        WRONG(NEEDED HAS "\nconnections = 0 }",
              "5: domain.connections: 0 is not between 1 and 10000\n"),
        WRONG(NEEDED HAS "\nrate = \"1/s\" }", "5: domain.rate: \"1/s\" is not a number\n"),
        WRONG(NEEDED HAS "rate = 1 rate = 2 }", "4: rate is already set in line 4\n"),
        WRONG(NEEDED
              "domain \"b.example\" { recipients = \"*\" deliver = \"mx:\"\n tls = implicit }",
              "4: domain.deliver: mx:: an MX has no implicit TLS\n"),
        WRONG(NEEDED "domain \"b.example\" { recipients = \"*\" deliver = {} }",
              "4: domain \"b.example\" has no deliver\n"),
        WRONG(NEEDED "domain \"b.example\" { recipients = \"*\"\n"
                     "deliver = {\"smtp:x.example\", \"discard:\"} }",
              "5: domain.deliver: discard:: several targets are all smtp:HOST or all lmtp:\n"),
        WRONG(NEEDED "relay {\n deliver = \"smtp:x.example:0\" }",
              "5: relay.deliver: smtp:x.example:0: not a port\n"),
        WRONG(NEEDED "relay { mode = through }", "4: unknown word mode in relay\n"),
        WRONG(NEEDED "relay { tls = must }",
              "4: relay.tls: \"must\" is none of opportunistic, none, required, implicit\n"),
        WRONG(NEEDED "relay \"x\" { }", "4: relay must be followed by {\n"),
    };
#undef HAS
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

static void aliases_lead_on(void **state)
{
    (void)state;
    static const char file[] = "# who is who\r\n"
                               "\n"
                               "sales@example.org: alice@example.org, bob@elsewhere.example\n"
                               "\"a:b, c\"@example.org:carol@example.org,\n"
                               "dora@example.org\terin@example.org, frank@example.org\n";
    scratch_write("aliases.txt", file, sizeof(file) - 1);
    struct config *config = scratch_good(
        NEEDED "aliases = {\"@aliases.txt\"}\n"
               "alias \"info@example.org\" { to = {\"sales@example.org\", \"dan@example.org\"} }\n"
               "domain \"old.example\" { recipients = \"erin\" deliver = \"discard:\" }\n"
               "alias \"*@old.example\" { to = \"*@elsewhere.example\" }");
    assert_string_equal(targets_of(config, "info@example.org"),
                        "dan@example.org alice@example.org bob@elsewhere.example!");
    assert_string_equal(targets_of(config, "\"a:b, c\"@example.org"), "carol@example.org");
    assert_string_equal(targets_of(config, "dora@example.org"),
                        "erin@example.org frank@example.org");
    assert_string_equal(targets_of(config, "frank@old.example"), "frank@elsewhere.example!");
    assert_string_equal(targets_of(config, "erin@old.example"), "erin@old.example");
    assert_false(routes_discard_only(config->routes));
    config_free(config);
}

static void wrong_aliases_are_told(void **state)
{
    (void)state;
    static const char file[] = "# a comment\n"
                               "a@example.org\n"
                               "b@example.org:\n"
                               "c@example.org: c c\n"
                               "d@elsewhere.example: a@example.org\n";
    scratch_write("aliases.txt", file, sizeof(file) - 1);
    char *said;
    static const char wrong[] = NEEDED "aliases = \"@aliases.txt\"";
    assert_null(scratch_load(wrong, sizeof(wrong) - 1, &said));
    fputs(said, stderr);
    assert_non_null(
        strstr(said, "/aliases.txt:2: \"a@example.org\" is no alias: FROM: TO, TO ...\n"));
    assert_non_null(strstr(said, "/aliases.txt:3: \"b@example.org:\" is no alias"));
    assert_non_null(strstr(said, "/aliases.txt:4: alias \"c@example.org\" to \"c c\": "));
    assert_non_null(strstr(said, "/aliases.txt:5: alias \"d@elsewhere.example\" to "));
    free(said);
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED "aliases = \"aliases.txt\"",
              "4: aliases: \"aliases.txt\" is no file: write \"@FILE\"\n"),
        WRONG(NEEDED "\naliases = \"@gone.txt\"",
              "5: aliases file /gone.txt: No such file or directory\n"),
        WRONG(NEEDED "alias \"a@example.org\" { }", "4: alias \"a@example.org\" has no to\n"),
        WRONG(NEEDED "alias \"a@example.org\" { to = a@example.org }\n"
                     "alias \"a@example.org\" { to = b@example.org }",
              "5: found duplicate title 'a@example.org'\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

static void circles_are_told_with_their_place(void **state)
{
    (void)state;
    static const char file[] = "x@example.org: y@example.org\n"
                               "# and\n"
                               "Y@example.org: z@example.org\n";
    scratch_write("aliases.txt", file, sizeof(file) - 1);
    char *said;
    static const char wrong[] = NEEDED "aliases = \"@aliases.txt\"\n\n"
                                       "alias \"z@example.org\" { to = {\"x@example.org\"} }";
    assert_null(scratch_load(wrong, sizeof(wrong) - 1, &said));
    fputs(said, stderr);
    assert_non_null(strstr(said, ": aliases lead in a circle: "));
    assert_non_null(strstr(said, " -> "));
    bool placed = strncmp(said, "/aliases.txt:1: ", 16) == 0 ||
                  strncmp(said, "/aliases.txt:3: ", 16) == 0 || strncmp(said, "6: ", 3) == 0;
    assert_true(placed);
    free(said);
}

static void a_domain_may_have_nothing_but_aliases(void **state)
{
    (void)state;
    struct config *config =
        scratch_good(NEEDED "domain \"old.example\" { }\n"
                            "domain \"older.example\" { }\n"
                            "alias \"*@old.example\" { to = \"*@elsewhere.example\" }\n"
                            "alias \"a@older.example\" { to = \"b@old.example\" }");
    assert_string_equal(targets_of(config, "a@older.example"), "b@elsewhere.example!");
    assert_int_equal(config->domain_count, 3);
    config_free(config);
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED "domain \"a b\" { }\ndomain \"old.example\" { }\n",
              "4: \"a b\" is not a domain name\n"
              "5: domain \"old.example\" has no recipients\n"
              "5: domain \"old.example\" has no deliver\n"),
        WRONG(NEEDED "domain \"old.example\" { recipients = \"bob\" }\n"
                     "alias \"a@old.example\" { to = \"b@example.org\" }",
              "4: domain \"old.example\" has no deliver\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

static void aliases_to_nobody_are_told(void **state)
{
    (void)state;
    static const struct scratch_wrong wrong = {
        NEEDED "domain \"b.example\" { recipients = \"bob\" deliver = \"discard:\" }\n"
               "alias \"rob@b.example\" { to = \"bob@b.example\" }\n"
               "alias \"info@b.example\" { to = {\"bob@b.example\", \"bop@b.example\"} }",
        "6: an alias leads to nobody: info@b.example -> bop@b.example\n"};
    scratch_all_wrong(&wrong, 1);
}

static void copies_need_a_target(void **state)
{
    (void)state;
    static const struct scratch_wrong wrong = {
        NEEDED "domain \"b.example\" { }\n"
               "alias \"rob@b.example\" { to = \"bob@example.com\" }\n"
               "alias \"info@b.example\" { to = {\"bob@example.com\", \"info@b.example\"} }",
        "6: an alias keeps a copy in a domain that has no deliver: "
        "info@b.example -> info@b.example\n"};
    scratch_all_wrong(&wrong, 1);
}

/* Some editors begin a file with U+FEFF. */
static void a_mark_at_the_start_of_a_file_is_skipped(void **state)
{
    (void)state;
    scratch_write("users",
                  "\xef\xbb\xbf# users\n\xef\xbb\xbf"
                  "jane\n",
                  20);
    scratch_write("aliases", "\xef\xbb\xbfinfo@b.example: bob@b.example\n", 33);
    scratch_write("marked",
                  "\xef\xbb\xbf"
                  "bob\n",
                  7);
    struct config *config = scratch_good(
        NEEDED
        "domain \"b.example\" { recipients = {\"@users\", \"@marked\"} deliver = \"discard:\" }\n"
        "aliases = \"@aliases\"");
    assert_string_equal(targets_of(config, "info@b.example"), "bob@b.example");
    assert_string_equal(targets_of(config, "\xef\xbb\xbfjane@b.example"),
                        "\xef\xbb\xbfjane@b.example"); /* elsewhere it is a letter */
    config_free(config);
}

static void srs_is_made_of_its_secrets(void **state)
{
    (void)state;
    static const char secrets[] = "the first secret\r\n\nan older one\n";
    scratch_write("srs.key", secrets, sizeof(secrets) - 1);
    assert_int_equal(chmod(scratch_path("srs.key"), 0644), 0);
    struct config *config = scratch_good(
        NEEDED
        "srs { domain = \"srs.example.org\" secret = \"srs.key\" max_age = 7d hash_length = 9 }");
    assert_non_null(config->srs);
    assert_ptr_equal(config->courier.rules.srs, config->srs);
    assert_true(srs_is_ours(config->srs, BYTES("SRS.example.org")));
    char path[SRS_LEN_MAX], *said;
    size_t len, size;
    assert_int_equal(srs_forward(config->srs, BYTES("a@b.example"), 1700000000, path, &len),
                     SRS_OK);
    assert_memory_equal(path, "SRS0=", 5);
    assert_int_equal(path[5 + 9], '=');

    /* Who can read it can forge addresses. */
    FILE *out = open_memstream(&said, &size);
    config_srs_warnings(config, out);
    fflush(out);
    assert_non_null(strstr(said, "srs.key: mode 644 lets others at it"));
    fclose(out);
    free(said);
    assert_int_equal(chmod(scratch_path("srs.key"), 0600), 0);
    out = open_memstream(&said, &size);
    config_srs_warnings(config, out);
    fclose(out);
    assert_string_equal(said, "");
    free(said);
    config_free(config);
}

static void wrong_srs_is_told(void **state)
{
    (void)state;
    scratch_write("srs.key", "a fine secret\n", 14);
    scratch_write("empty.key", "\n\r\n", 3);
    scratch_write("short.key", "1234567\n", 8);
    scratch_write("many.key",
                  "12345678\n12345678\n12345678\n12345678\n12345678\n12345678\n"
                  "12345678\n12345678\n12345678\n",
                  81);
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED "srs { domain = \"a.example\" }", "4: srs has no secret\n"),
        WRONG(NEEDED "srs { secret = \"srs.key\" }", "4: srs has no domain\n"),
        WRONG(NEEDED "srs { max_age = 21d }", "4: srs has no domain\n"),
        WRONG(NEEDED "srs { domain = \"a b\" secret = \"srs.key\" }",
              "4: srs.domain: \"a b\" is not a domain name\n"),
        WRONG(NEEDED "srs { domain = a.example\n secret = \"\" }", "5: srs.secret is empty\n"),
        WRONG(NEEDED "srs { domain = a.example\n secret = \"gone.key\" }",
              "5: srs.secret: /gone.key: No such file or directory\n"),
        WRONG(NEEDED "srs { domain = a.example\n secret = \"empty.key\" }",
              "5: srs.secret: /empty.key has no secret in it\n"),
        WRONG(NEEDED "srs { domain = a.example\n secret = \"short.key\" }",
              "5: srs.secret: /short.key: a secret has 8 to 1024 octets\n"),
        WRONG(NEEDED "srs { domain = a.example\n secret = \"many.key\" }",
              "5: srs.secret: /many.key has more than 8 secrets\n"),
        WRONG(NEEDED "srs { domain = a.example secret = \"srs.key\"\n max_age = 36h }",
              "5: srs.max_age: 36h is not a multiple of 1d\n"),
        WRONG(NEEDED "srs { domain = a.example secret = \"srs.key\"\n max_age = 366d }",
              "5: srs.max_age: 366d is not between 1d and 365d\n"),
        WRONG(NEEDED "srs { domain = a.example secret = \"srs.key\"\n hash_length = 3 }",
              "5: srs.hash_length: 3 is not between 4 and 20\n"),
        WRONG(NEEDED "srs { hash_length = 8 }", "4: srs has no domain\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_left_out_has_its_default),
        cmocka_unit_test(every_word_of_a_domain_is_understood),
        cmocka_unit_test(relay_without_deliver_goes_to_the_mx),
        cmocka_unit_test(wrong_routes_are_told),
        cmocka_unit_test(we_are_no_next_hop),
        cmocka_unit_test(aliases_lead_on),
        cmocka_unit_test(wrong_aliases_are_told),
        cmocka_unit_test(circles_are_told_with_their_place),
        cmocka_unit_test(a_domain_may_have_nothing_but_aliases),
        cmocka_unit_test(aliases_to_nobody_are_told),
        cmocka_unit_test(copies_need_a_target),
        cmocka_unit_test(a_mark_at_the_start_of_a_file_is_skipped),
        cmocka_unit_test(srs_is_made_of_its_secrets),
        cmocka_unit_test(wrong_srs_is_told),
    };
    return cmocka_run_group_tests_name("config_routes", tests, scratch_begin, scratch_end);
}
