/* gateway/config, the words about TLS: what they mean, what is said when they are wrong, and what
 * is made, warned of and can be reloaded. */
#include "gateway/config_warnings.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/support/scratch.h"

#define LISTENER SCRATCH_LISTENER
#define DOMAIN   SCRATCH_DOMAIN
#define NEEDED   SCRATCH_NEEDED
#define WRONG    SCRATCH_WRONG
#define PAIR     "certificate \"mx\" { chain = \"mx.pem\" key = \"mx.key\" }\n"
#define MADE                                                                                       \
    "certificate \"mx.example.org\" { chain = made.pem key = made.key self_signed = true }\n"

enum { DAY_S = 86400 };

static void make_pair(const char *name, const char *chain, const char *key)
{
    char error[512];
    if (!certificate_make_self_signed(name, scratch_path(chain), scratch_path(key), error,
                                      sizeof(error)))
        fail_msg("%s", error);
}

static int begin(void **state)
{
    if (scratch_begin(state) != 0)
        return -1;
    make_pair("mx.example.org", "mx.pem", "mx.key");
    make_pair("other.example.org", "other.pem", "other.key");
    scratch_write("text.pem", "hello\n", 6);
    scratch_write("secret", "0123456789012345678901234567890123456789", 40);
    scratch_write("short", "0123456789012345678901234567890", 31);
    return 0;
}

static void without_a_certificate_there_is_no_tls(void **state)
{
    (void)state;
    struct config *config = scratch_good(NEEDED "listener b { address = \"[::1]:25\" tls = none }");
    assert_int_equal(config->listeners[0].tls, SERVER_TLS_NONE);
    assert_int_equal(config->listeners[1].tls, SERVER_TLS_NONE);
    assert_false(config_has_tls(config));
    assert_int_equal(config->certificate_count, 0);
    assert_null(config->ticket_path);
    assert_int_equal(config->ticket_lifetime_s, 43200);
    assert_int_equal(config->tls_helpers, 1);
    config_free(config);
}

static void with_a_certificate_it_is_offered(void **state)
{
    (void)state;
    struct config *config = scratch_good(NEEDED PAIR);
    assert_int_equal(config->listeners[0].tls, SERVER_TLS_STARTTLS);
    assert_int_equal(config->listeners[0].tls_min, TLS_1_2);
    assert_null(config->listeners[0].client_ca);
    assert_true(config_has_tls(config));
    assert_int_equal(config->certificate_count, 1);
    assert_non_null(config->certificates[0].certificate);
    assert_string_equal(config->certificates[0].label, "mx");
    assert_string_equal(config->certificates[0].chain, scratch_path("mx.pem"));
    assert_string_equal(config->certificates[0].key, scratch_path("mx.key"));
    config_free(config);
}

static void every_word_is_understood(void **state)
{
    (void)state;
    char text[2048];
    snprintf(text, sizeof(text),
             NEEDED PAIR
             "certificate other { chain = \"%s\" key = \"%s\" self_signed = false }\n"
             "listener a { address = {\"127.0.0.1:1\", \"127.0.0.1:2\"} tls = none }\n"
             "listener b { address = {\"127.0.0.1:3\"} tls = starttls tls_min = 1.2 }\n"
             "listener c { address = {\"127.0.0.1:4\", \"127.0.0.1:5\"} tls = required\n"
             "  tls_min = \"1.3\" client_ca = mx.pem }\n"
             "listener d { address = {\"127.0.0.1:6\"} tls = implicit }\n"
             "tls { ticket_secret = secret ticket_lifetime = 7d helpers = 64 }\n",
             scratch_path("other.pem"), scratch_path("other.key"));
    struct config *config = scratch_good(text);
    static const enum server_tls modes[] = {
        SERVER_TLS_STARTTLS, SERVER_TLS_NONE,     SERVER_TLS_NONE,    SERVER_TLS_STARTTLS,
        SERVER_TLS_REQUIRED, SERVER_TLS_REQUIRED, SERVER_TLS_IMPLICIT};
    assert_int_equal(config->listener_count, 7);
    for (size_t i = 0; i < 7; i++) {
        bool strict = i == 4 || i == 5;
        assert_int_equal(config->listeners[i].tls, modes[i]);
        assert_int_equal(config->listeners[i].tls_min, strict ? TLS_1_3 : TLS_1_2);
        if (strict)
            assert_string_equal(config->listeners[i].client_ca, scratch_path("mx.pem"));
        else
            assert_null(config->listeners[i].client_ca);
    }
    assert_true(config_tls_alike(&config->listeners[4], &config->listeners[5]));
    assert_true(config_tls_alike(&config->listeners[0], &config->listeners[6]));
    assert_false(config_tls_alike(&config->listeners[0], &config->listeners[4]));
    assert_int_equal(config->certificate_count, 2);
    assert_true(
        certificate_matches(config->certificates[1].certificate, "other.example.org", false));
    assert_string_equal(config->ticket_path, scratch_path("secret"));
    assert_int_equal(config->ticket_secret.epoch_s, 7 * DAY_S);
    assert_int_equal(config->tls_helpers, 64);
    config_free(config);
}

static void wrong_words_are_told(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED "listener b { address = \"[::1]:25\"\n tls = starttls }",
              "5: listener.tls: starttls needs a certificate: add certificate \"NAME\" { chain = "
              "... key = ... }\n"),
        WRONG(NEEDED PAIR "listener b { address = \"[::1]:25\" tls = maybe\n tls_min = 1.1 }",
              "5: listener.tls: \"maybe\" is none of none, starttls, required, implicit\n"
              "6: listener.tls_min: \"1.1\" is none of 1.2, 1.3\n"),
        WRONG(NEEDED PAIR "listener b { address = \"[::1]:25\" tls = none tls_min = 1.3\n"
                          "client_ca = \"mx.pem\" }",
              "5: listener.tls_min: this listener has no TLS\n"
              "6: listener.client_ca: this listener has no TLS\n"),
        WRONG(NEEDED PAIR "listener b { address = \"[::1]:25\" client_ca = \"\" }",
              "5: listener.client_ca is empty\n"),
        WRONG(NEEDED PAIR "tls { ticket_lifetime = 0\n helpers = 65 }",
              "5: tls.ticket_lifetime: 0 is not between 1s and 7d\n"
              "6: tls.helpers: 65 is not between 0 and 64\n"),
        WRONG(NEEDED PAIR "tls { ticket_lifetime = 8d }",
              "5: tls.ticket_lifetime: 8d is not between 1s and 7d\n"),
        WRONG(NEEDED PAIR "tls { ticket_secret = \"\" }", "5: tls.ticket_secret is empty\n"),
        WRONG(NEEDED PAIR "tls { version = 1.3 }", "5: unknown word version in tls\n"),
        WRONG(NEEDED "certificate { chain = a }",
              "4: certificate must be followed by a name and {\n"),
        WRONG(NEEDED PAIR PAIR, "5: found duplicate title 'mx'\n"),
        WRONG(NEEDED "certificate a { key = \"mx.key\" }", "4: certificate \"a\" has no chain\n"),
        WRONG(NEEDED "certificate a { chain = \"mx.pem\" }", "4: certificate \"a\" has no key\n"),
        WRONG(NEEDED "certificate a { chain = \"\"\nkey = \"\" }",
              "4: certificate \"a\": chain is empty\n5: certificate \"a\": key is empty\n"),
        WRONG(NEEDED "certificate a { chain = mx.pem key = mx.key self_signed = yes }",
              "4: certificate.self_signed: \"yes\" is none of false, true\n"),
        WRONG(NEEDED "certificate \"a b\" { chain = made.pem key = made.key self_signed = true }",
              "4: certificate \"a b\": a self-signed one is for the name in its title, and that is "
              "not a domain name\n"),
        WRONG(NEEDED
              "certificate a { chain = made.pem key = \"gone/made.key\" self_signed = true }",
              "4: certificate \"a\": the folder of /gone/made.key does not exist\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
    assert_false(scratch_has("made.pem"));
}

/* The sentences are those of tls/; here it counts that they come, with the line of the word (which
 * stands before the text here) and the name of the file. */
static void wrong_files_are_told(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG("4: certificate a { chain = gone.pem\n key = mx.key }", "/gone.pem"),
        WRONG("5: certificate a { chain = mx.pem\n key = gone.key }", "/gone.key"),
        WRONG("4: certificate a { chain = text.pem\n key = mx.key }", "/text.pem"),
        WRONG("5: certificate a { chain = mx.pem\n key = text.pem }", "/text.pem"),
        WRONG("5: certificate a { chain = mx.pem\n key = other.key }", "/other.key"),
        WRONG("4: certificate a { chain = gone.pem\n key = mx.key self_signed = true }",
              "/gone.pem"),
        WRONG("6: " PAIR "tls {\n ticket_secret = gone }", "/gone"),
        WRONG("6: " PAIR "tls {\n ticket_secret = short }", "/short"),
        WRONG("6: " PAIR "listener b { address = \"[::1]:25\"\n client_ca = text.pem }",
              "/text.pem"),
        WRONG("7: " PAIR "listener b { address = \"[::1]:25\" tls = none }\n"
              "listener c { address = \"[::1]:26\"\n client_ca = gone.pem }",
              "/gone.pem"),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[1024];
        char *said;
        int len = snprintf(text, sizeof(text), NEEDED "%s", cases[i].text + 3);
        assert_null(scratch_load(text, (size_t)len, &said));
        print_message("%s", said);
        assert_memory_equal(said, cases[i].text, 3);
        assert_non_null(strstr(said, cases[i].said));
        assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1); /* one line */
        free(said);
    }
}

static bool make(struct config *config, char **said)
{
    size_t size;
    FILE *errors = open_memstream(said, &size);
    bool made = config_certificates_make(config, scratch_path("ringmx.conf"), errors);
    fclose(errors);
    scratch_clean(*said);
    return made;
}

static void self_signed_certificates_are_made_when_they_are_missing(void **state)
{
    (void)state;
    char *said;
    struct config *config = scratch_good(NEEDED PAIR MADE);
    assert_false(scratch_has("made.pem") || scratch_has("made.key"));
    assert_null(config->certificates[1].certificate);
    assert_true(make(config, &said));
    assert_string_equal(said, "");
    free(said);
    assert_true(config->certificates[1].made);
    assert_false(config->certificates[0].made);
    assert_true(scratch_has("made.pem") && scratch_has("made.key"));
    assert_true(certificate_is_self_signed(config->certificates[1].certificate));
    assert_true(certificate_matches(config->certificates[1].certificate, "mx.example.org", false));
    config_free(config);

    config = scratch_good(NEEDED MADE);
    assert_non_null(config->certificates[0].certificate);
    assert_true(make(config, &said));
    free(said);
    assert_false(config->certificates[0].made);
    config_free(config);

    /* One file alone is a mistake, and is not overwritten. */
    scratch_remove("made.pem");
    assert_null(scratch_load(NEEDED MADE, strlen(NEEDED MADE), &said));
    assert_non_null(strstr(said, "/made.pem"));
    free(said);
    scratch_remove("made.key");

    /* What could not be tried without any certificate is tried then. */
    config = scratch_good(NEEDED MADE "listener b { address = \"[::1]:25\"\n client_ca = gone }");
    assert_false(make(config, &said));
    assert_memory_equal(said, "6: ", 3);
    assert_non_null(strstr(said, "/gone"));
    free(said);
    config_free(config);
    scratch_remove("made.pem");
    scratch_remove("made.key");

    /* Two sections for the same files: made once. */
    config = scratch_good(NEEDED MADE "certificate b { chain = made.pem key = made.key "
                                      "self_signed = true }");
    assert_true(make(config, &said));
    free(said);
    assert_true(config->certificates[0].made);
    assert_false(config->certificates[1].made);
    assert_non_null(config->certificates[1].certificate);
    config_free(config);
    scratch_remove("made.pem");
    scratch_remove("made.key");
}

static char *warnings(const struct config *config, int64_t now_s)
{
    char *said;
    size_t size;
    FILE *out = open_memstream(&said, &size);
    config_tls_warnings(config, now_s, out);
    fclose(out);
    scratch_clean(said);
    return said;
}

static size_t lines_of(const char *text)
{
    size_t count = 0;
    for (; *text != '\0'; text++)
        count += *text == '\n';
    return count;
}

static void what_should_not_stay_so_is_told(void **state)
{
    (void)state;
    char *said;
    assert_int_equal(chmod(scratch_path("mx.key"), 0600), 0);
    assert_int_equal(chmod(scratch_path("secret"), 0640), 0);
    struct config *config = scratch_good(NEEDED PAIR "tls { ticket_secret = secret }");
    int64_t expires_s = certificate_expires(config->certificates[0].certificate);

    said = warnings(config, expires_s - 15 * DAY_S);
    assert_non_null(strstr(said, "self-signed certificate: /mx.pem: "));
    assert_int_equal(lines_of(said), 1);
    free(said);

    said = warnings(config, expires_s - 14 * DAY_S);
    assert_non_null(strstr(said, "certificate /mx.pem: expires in 14 days, at 20"));
    assert_int_equal(lines_of(said), 2);
    free(said);

    said = warnings(config, expires_s + 1);
    assert_non_null(strstr(said, "certificate /mx.pem: expired at 20"));
    free(said);

    assert_int_equal(chmod(scratch_path("mx.key"), 0644), 0);
    assert_int_equal(chmod(scratch_path("secret"), 0660), 0);
    said = warnings(config, 0);
    assert_non_null(strstr(said, "key /mx.key: mode 644 "));
    assert_non_null(strstr(said, "ticket secret /secret: mode 660 "));
    assert_int_equal(lines_of(said), 3);
    free(said);
    assert_int_equal(chmod(scratch_path("mx.key"), 0600), 0);
    config_free(config);

    /* A certificate that is still to be made has nothing to warn of. */
    config = scratch_good(NEEDED MADE);
    said = warnings(config, 0);
    assert_string_equal(said, "");
    free(said);
    config_free(config);
}

static void a_reload_knows_what_needs_a_restart(void **state)
{
    (void)state;
    char *said;
    size_t size;
    struct config *plain = scratch_good(NEEDED);
    struct config *secure = scratch_good(NEEDED PAIR "tls { ticket_lifetime = 1h }");
    struct config *helped = scratch_good(NEEDED PAIR "tls { helpers = 2 }");
    FILE *out = open_memstream(&said, &size);
    assert_int_equal(config_restart_needed(secure, plain, out), 0);
    assert_int_equal(config_restart_needed(plain, secure, out), 1);
    assert_int_equal(config_restart_needed(secure, helped, out), 1);
    fclose(out);
    assert_non_null(strstr(said, "listener.tls is new"));
    assert_non_null(strstr(said, "tls.helpers is new"));
    free(said);
    config_free(plain);
    config_free(secure);
    config_free(helped);
}

/* A running listener has the port that the kernel chose. */
static void a_running_listener_finds_its_words(void **state)
{
    (void)state;
    struct config *running = scratch_good(
        "hostname = a " DOMAIN "listener a { address = {\"127.0.0.1:25\", \"127.0.0.1:0\"} }\n"
        "listener b { address = {\"127.0.0.1:0\", \"[::1]:25\"} }");
    running->listeners[1].address.v4.sin_port = htons(1001);
    running->listeners[2].address.v4.sin_port = htons(1002);
    struct config *loaded = scratch_good(
        "hostname = a " DOMAIN "listener b { address = {\"127.0.0.1:0\", \"127.0.0.1:25\"} }\n"
        "listener a { address = {\"127.0.0.1:1002\", \"127.0.0.1:0\"} }");
    static const int wanted[] = {1, 3, 0, -1};
    for (size_t i = 0; i < 4; i++)
        assert_ptr_equal(config_listener_find(loaded, &running->listeners[i]),
                         wanted[i] < 0 ? NULL : &loaded->listeners[wanted[i]]);
    config_free(running);
    config_free(loaded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_certificate_there_is_no_tls),
        cmocka_unit_test(with_a_certificate_it_is_offered),
        cmocka_unit_test(every_word_is_understood),
        cmocka_unit_test(wrong_words_are_told),
        cmocka_unit_test(wrong_files_are_told),
        cmocka_unit_test(self_signed_certificates_are_made_when_they_are_missing),
        cmocka_unit_test(what_should_not_stay_so_is_told),
        cmocka_unit_test(a_reload_knows_what_needs_a_restart),
        cmocka_unit_test(a_running_listener_finds_its_words),
    };
    return cmocka_run_group_tests_name("config_tls", tests, begin, scratch_end);
}
