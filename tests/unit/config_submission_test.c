/* gateway/config, submission: roles, users, senders, keys and quotas; what is said when they are
 * wrong, what is only warned of, and what a reload can't change. */
#include "gateway/config_warnings.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "tests/support/scratch.h"
#include "tls/signature.h"

#define NEEDED SCRATCH_NEEDED
#define WRONG  SCRATCH_WRONG
#define SUBMISSION                                                                                 \
    "listener \"s\" { address = {\"127.0.0.1:587\"} role = submission auth = plaintext }\n"
#define USERS  "auth { users = users }\n"
#define HOUSE  NEEDED SUBMISSION USERS
#define DOMAIN "auth { users = users domain = example.org }\n"
#define HOME   NEEDED SUBMISSION DOMAIN
#define IDLE   "auth, submission, sender and dkim do nothing: no listener has role = submission\n"

/* "correct horse" */
#define HASH                                                                                       \
    "{SHA512-CRYPT}$6$ringmxringmx$"                                                               \
    "xgZ7I0LT32bxlZ1mAcaXGe6/9KPZvC3ERyaEksW75kXLmfNlH.z672qKMnQ2Jtb7SoEtf7sD7hOUo8wXj1/Ye/"

static void write_text(const char *name, const char *text)
{
    scratch_write(name, text, strlen(text));
    assert_int_equal(chmod(scratch_path(name), 0600), 0);
}

static void write_key(const char *name, enum signature_kind kind, unsigned bits)
{
    struct signature_key *key = signature_key_make(kind, bits);
    assert_non_null(key);
    char *pem = signature_key_pem(key);
    write_text(name, pem);
    free(pem);
    signature_key_free(key);
}

static int begin(void **state)
{
    if (scratch_begin(state) != 0)
        return -1;
    write_text("users", "# staff\n\nalice:" HASH "\nbob@example.net:" HASH ":1000:1000::/home\n");
    write_text("nobody", "# not yet\n");
    write_text("locked", "carol@example.org:!\ndave@example.org:*\n");
    write_text("senders", "# more\n\nalice: sales@example.org , *@example.net\n"
                          "bob@example.net:bob+*@example.org\n");
    write_key("ed.key", SIGNATURE_ED25519, 0);
    write_key("rsa.key", SIGNATURE_RSA, 1024);
    write_text("no.key", "secret\n");
    return 0;
}

static bool owns(const struct config *config, const char *user, const char *mailbox)
{
    return senders_owns(config->senders, bytes_of_string(user), bytes_of_string(mailbox));
}

static void defaults(void **state)
{
    (void)state;
    struct config *config = scratch_good(NEEDED);
    assert_int_equal(config->listeners[0].role, CONFIG_ROLE_MX);
    assert_false(config_has_submission(config));
    assert_null(config->server.authentication);
    assert_null(config->server.submission);
    config_free(config);
    config = scratch_good(HOUSE);
    const struct submission_rules *rules = &config->submission;
    assert_int_equal(config->listeners[0].role, CONFIG_ROLE_MX);
    assert_int_equal(config->listeners[1].role, CONFIG_ROLE_SUBMISSION);
    assert_true(config->listeners[1].auth_clear);
    assert_true(config_has_submission(config));
    assert_ptr_equal(config->server.submission, rules);
    assert_ptr_equal(config->server.authentication, &config->authentication);
    assert_ptr_equal(config->authentication.users, config->users);
    assert_null(config->authentication.domain);
    assert_int_equal(users_count(config->users), 2);
    assert_int_equal(config->authentication.cache_s, 300);
    assert_int_equal(config->auth_helpers, 1);
    assert_int_equal(config->server.auth_delay_ms, 2000);
    assert_int_equal(config->server.attempts.per_address, 20);
    assert_int_equal(config->server.attempts.per_network, 200);
    assert_int_equal(config->server.attempts.per_user, 50);
    assert_int_equal(rules->message_size_max, config->server.message_size_max);
    assert_int_equal(rules->recipients_max, config->server.recipients_max);
    assert_int_equal(rules->messages_per_hour, 0);
    assert_int_equal(rules->recipients_per_hour, 0);
    assert_int_equal(rules->hold_max_s, 0);
    assert_int_equal(rules->deliver_by_s, 0);
    assert_true(rules->priority_max < -9);
    assert_int_equal(rules->sender, SUBMISSION_SENDER_ADD);
    assert_false(rules->from_any);
    assert_false(rules->results);
    assert_null(rules->dkim);
    assert_ptr_equal(rules->senders, config->senders);
    assert_int_equal(senders_count(config->senders), 0);
    assert_false(config->has_dovecot);
    config_free(config);
}

static void all_words(void **state)
{
    (void)state;
    struct config *config = scratch_good(
        NEEDED SUBMISSION
        "auth { users = users domain = example.org cache = 1h helpers = 3 delay_ms = 500\n"
        "       failures_per_ip = 5 failures_per_network = 0 failures_per_user = 7 }\n"
        "submission { message_size = 10M recipients = 50 messages_per_hour = 300\n"
        "  recipients_per_hour = 1000 senders = \"@senders\" from = any sender = force\n"
        "  results = true hold = 7d deliver_by = 10m priority = 3 }\n"
        "sender alice { addresses = {\"info@example.org\"} }\n"
        "dkim example.org { keys = {\"s1:rsa.key\", \"s2:ed.key\"} }\n"
        "dkim example.net { keys = \"s1:ed.key\" }\n");
    const struct submission_rules *rules = &config->submission;
    assert_string_equal(config->authentication.domain, "example.org");
    assert_int_equal(config->authentication.cache_s, 3600);
    assert_int_equal(config->auth_helpers, 3);
    assert_int_equal(config->server.auth_delay_ms, 500);
    assert_int_equal(config->server.attempts.per_address, 5);
    assert_int_equal(config->server.attempts.per_network, 0);
    assert_int_equal(config->server.attempts.per_user, 7);
    assert_int_equal(rules->message_size_max, 10 << 20);
    assert_int_equal(rules->recipients_max, 50);
    assert_int_equal(rules->messages_per_hour, 300);
    assert_int_equal(rules->recipients_per_hour, 1000);
    assert_true(rules->from_any);
    assert_int_equal(rules->sender, SUBMISSION_SENDER_FORCE);
    assert_true(rules->results);
    assert_int_equal(rules->hold_max_s, 7 * 86400);
    assert_int_equal(rules->deliver_by_s, 600);
    assert_int_equal(rules->priority_max, 3);
    assert_non_null(rules->dkim);
    assert_int_equal(senders_count(config->senders), 4);
    assert_true(owns(config, "alice", "alice@example.org"));
    assert_true(owns(config, "alice", "info@example.org"));
    assert_true(owns(config, "alice", "sales@example.org"));
    assert_true(owns(config, "alice", "anything@example.net"));
    assert_true(owns(config, "bob@example.net", "bob+x@example.org"));
    assert_false(owns(config, "bob@example.net", "sales@example.org"));
    assert_int_equal(config->paths.count, 5); /* users, senders, keys: a reload reads them again */
    assert_int_equal(config->dkim_paths.count, 3);
    config_free(config);
}

static void dovecot(void **state)
{
    (void)state;
    struct config *config =
        scratch_good(NEEDED SUBMISSION "auth { dovecot = \"unix:/run/dovecot/auth-client\" }");
    assert_true(config->has_dovecot);
    assert_null(config->users);
    assert_string_equal(config->dovecot.path, "/run/dovecot/auth-client");
    assert_int_equal(config->dovecot.address.any.sa_family, AF_UNSPEC);
    assert_int_equal(config->dovecot.timeout_ms, 10000);
    assert_true(config->dovecot.pending_max >= 100);
    assert_ptr_equal(config->server.authentication, &config->authentication);
    assert_null(config->authentication.users);
    config_free(config);
    config =
        scratch_good(NEEDED SUBMISSION "auth { dovecot = \"192.0.2.1:12345\" timeout_ms = 1000 }");
    assert_null(config->dovecot.path);
    assert_int_equal(ntohs(config->dovecot.address.v4.sin_port), 12345);
    assert_int_equal(config->dovecot.timeout_ms, 1000);
    config_free(config);
}

static void priorities(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int priority;
    } cases[] = {
        {"-9",  -9 },
        {"-1",  -1 },
        {"0",   0  },
        {"9",   9  },
        {"off", -10}
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[1000];
        snprintf(text, sizeof(text), "%ssubmission { priority = %s }", HOUSE, cases[i].text);
        struct config *config = scratch_good(text);
        assert_int_equal(config->submission.priority_max, cases[i].priority);
        config_free(config);
    }
}

/* Lines 1 to 3 are NEEDED, 4 the listener, 5 who can log in. */
static void mistakes(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED SUBMISSION,
              "4: listener \"s\" has role = submission, and nobody can log in: set auth.users or "
              "auth.dovecot\n"),
        WRONG(NEEDED USERS "\nlistener two {\n address = {\"127.0.0.1:1\"} auth = tls }",
              "7: listener.auth needs role = submission\n"),
        WRONG(NEEDED USERS "listener two { address = {\"127.0.0.1:1\"} role = msa }",
              "5: listener.role: \"msa\" is none of mx, submission\n"),
        WRONG(NEEDED USERS
              "listener two { address = {\"127.0.0.1:1\"} role = submission auth = always }",
              "5: listener.auth: \"always\" is none of tls, plaintext\n"),
        WRONG(HOUSE "sender alice { }", "6: sender \"alice\" has no addresses\n"),
        WRONG(HOUSE "sender alice {\n addresses = {\"a@example.org\", \"a@@b\"} }",
              "7: sender \"alice\": \"a@@b\": not \"user@domain\", \"user+*@domain\", \"*@domain\" "
              "or \"*\"\n"),
        WRONG(HOUSE "sender \"\" { addresses = {\"a@example.org\"} }",
              "6: sender \"\": \"a@example.org\": a user's name has 1 to 255 octets\n"),
        WRONG(HOUSE "submission { senders = senders }",
              "6: submission.senders: a file is \"@FILE\"\n"),
        WRONG(HOUSE "submission { senders = \"@nowhere\" }",
              "6: senders file /nowhere: No such file or directory\n"),
        WRONG(HOUSE "submission { from = all }",
              "6: submission.from: \"all\" is none of own, any\n"),
        WRONG(HOUSE "submission { sender = drop }",
              "6: submission.sender: \"drop\" is none of keep, add, force\n"),
        WRONG(HOUSE "submission { priority = 10 }",
              "6: submission.priority: \"10\" is not -9 to 9, or off\n"),
        WRONG(HOUSE "submission { priority = \"-\" }",
              "6: submission.priority: \"-\" is not -9 to 9, or off\n"),
        WRONG(HOUSE "submission { hold = 366d }",
              "6: submission.hold: 366d is not between 0 and 365d\n"),
        WRONG(HOUSE "submission { recipients = 10001 }",
              "6: submission.recipients: 10001 is not between 0 and 10000\n"),
        WRONG(HOUSE "dkim example.org { }", "6: dkim \"example.org\" has no keys\n"),
        WRONG(HOUSE "dkim example.org { keys = {\"rsa.key\"} }",
              "6: dkim.keys: \"rsa.key\" is not \"SELECTOR:FILE\"\n"),
        WRONG(HOUSE "dkim example.org { keys = {\"s:\", \":rsa.key\"} }",
              "6: dkim.keys: \"s:\" is not \"SELECTOR:FILE\"\n"
              "6: dkim.keys: \":rsa.key\" is not \"SELECTOR:FILE\"\n"),
        WRONG(HOUSE "dkim example.org {\n keys = {\"s:nowhere\"} }",
              "7: dkim.keys: /nowhere: No such file or directory\n"),
        WRONG(HOUSE "dkim example.org { keys = {\"s:no.key\"} }",
              "6: dkim.keys: /no.key: no private key in PEM\n"),
        WRONG(HOUSE "dkim example.org { keys = {\"s:rsa.key\", \"S:ed.key\"} }",
              "6: dkim.keys: \"S:ed.key\": the domain has another key with this selector\n"),
        WRONG(HOUSE "dkim \"example org\" { keys = {\"s:rsa.key\"} }",
              "6: dkim.keys: \"s:rsa.key\": the domain is not a domain name\n"),
        WRONG(HOUSE "dkim example.org { keys = {\"s_:rsa.key\"} }",
              "6: dkim.keys: \"s_:rsa.key\": the selector is not like a domain name: letters, "
              "digits, hyphens, dots\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

static void mistakes_of_auth(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED SUBMISSION "auth { users = nowhere }",
              "5: users file /nowhere: No such file or directory\n"),
        WRONG(NEEDED SUBMISSION "auth {\n users = users\n dovecot = \"127.0.0.1:1\" }",
              "6: auth: users and dovecot: there can be but one of them\n"),
        WRONG(NEEDED SUBMISSION "auth { dovecot = localhost }",
              "5: auth.dovecot: \"localhost\" is not an address like \"192.0.2.1:12345\" or "
              "\"unix:/run/dovecot/auth-client\"\n"),
        WRONG(NEEDED SUBMISSION "auth { dovecot = \"unix:\" }",
              "5: auth.dovecot: a path has 1 to 107 octets\n"),
        WRONG(NEEDED SUBMISSION "auth { users = users domain = \"example org\" }",
              "5: auth.domain: \"example org\" is not a domain name\n"),
        WRONG(NEEDED SUBMISSION "auth { users = users domain = \"[192.0.2.1]\" }",
              "5: auth.domain: \"[192.0.2.1]\" is not a domain name\n"),
        WRONG(NEEDED SUBMISSION "auth { users = users helpers = 0 }",
              "5: auth.helpers: 0 is not between 1 and 64\n"),
        WRONG(NEEDED SUBMISSION "auth { users = users cache = 2d }",
              "5: auth.cache: 2d is not between 0 and 1d\n"),
        WRONG(NEEDED SUBMISSION "auth { users = users failures_per_ip = many }",
              "5: auth.failures_per_ip: \"many\" is not a number\n"),
        WRONG(NEEDED SUBMISSION "auth { users = users password = secret }",
              "5: unknown word password in auth\n"),
    };
    scratch_all_wrong(cases, sizeof(cases) / sizeof(cases[0]));
}

/* What is wrong with a file of senders or users is told with its line; a line of users is never
 * shown: it may hold a password. */
static void mistakes_of_files(void **state)
{
    (void)state;
    write_text("bad",
               "alice: a@example.org\n\nno colon here\n : b@example.org\nbob: c@example.org,,\n");
    static const struct scratch_wrong senders_cases[] = {
        WRONG(HOUSE "submission { senders = \"@bad\" }",
              "/bad:3: senders: a line is \"user: address, address\"\n"
              "/bad:4: senders: a line is \"user: address, address\"\n"
              "/bad:5: sender \"bob\": \"\": not \"user@domain\", \"user+*@domain\", \"*@domain\" "
              "or \"*\"\n"
              "/bad:5: sender \"bob\": \"\": not \"user@domain\", \"user+*@domain\", \"*@domain\" "
              "or \"*\"\n"),
    };
    scratch_all_wrong(senders_cases, 1);
    write_text("bad", "alice:" HASH "\n"
                      "dave hunter2\n"
                      "erin:hunter2\n"
                      "frank:{PLAIN-MD5}hunter2\n"
                      "grace:{SHA512-CRYPT}$6$hunter2\n"
                      "ALICE:{SHA512-CRYPT}hunter2\n"
                      "heidi:\n"
                      ":hunter2\n");
    char *said;
    const char *text = NEEDED SUBMISSION "auth { users = bad }";
    assert_null(scratch_load(text, strlen(text), &said));
    char *rest = said, *line;
    for (int number = 2; number <= 8; number++) {
        char start[40];
        snprintf(start, sizeof(start), "/bad:%d: auth.users: ", number);
        line = strsep(&rest, "\n");
        assert_non_null(line);
        assert_memory_equal(line, start, strlen(start));
        assert_true(strlen(line) > strlen(start));
        assert_null(strstr(line, "hunter2"));
    }
    assert_string_equal(rest, "");
    free(said);
}

/* The first mistakes of a long file are told, the others counted. */
static void many_mistakes(void **state)
{
    (void)state;
    static const char line[] = "hunter2\n";
    enum { LINES = 200, LEN = sizeof(line) - 1 };
    char text[LINES * LEN + 1] = "", *said;
    for (size_t i = 0; i < LINES; i++)
        memcpy(text + i * LEN, line, sizeof(line));
    write_text("bad", text);
    const char *config = NEEDED SUBMISSION "auth { users = bad }";
    assert_null(scratch_load(config, strlen(config), &said));
    assert_null(strstr(said, "hunter2"));
    assert_non_null(strstr(said, "180 more mistakes"));
    free(said);
}

static char *warnings_of(const char *text)
{
    char *said;
    size_t size;
    struct config *config = scratch_good(text);
    FILE *out = open_memstream(&said, &size);
    config_submission_warnings(config, out);
    fclose(out);
    config_free(config);
    scratch_clean(said);
    return said;
}

#define DKIM "dkim example.org { keys = {\"s:ed.key\"} }"

static void warnings(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(HOME DKIM, ""),
        WRONG(NEEDED, ""),
        WRONG(HOUSE, "users /users: \"alice\" has no domain, and so no address without "
                     "auth.domain\n"),
        WRONG(HOME "sender ALICE { addresses = {\"*\"} }", ""),
        WRONG(HOME "submission { senders = \"@senders\" }", ""),
        WRONG(HOME "sender alice@example.org { addresses = {\"*\"} }\n"
                   "sender carol { addresses = {\"*\"} }",
              "sender \"alice@example.org\": users /users has nobody of that name\n"),
        WRONG(NEEDED SUBMISSION "auth { users = locked }",
              "users /locked: all are locked, so nobody can log in\n"),
        WRONG(NEEDED "submission { results = true }", IDLE),
        WRONG(NEEDED "submission { }", ""),
        WRONG(NEEDED "sender alice { addresses = {\"*\"} }", IDLE),
        WRONG(NEEDED DOMAIN, IDLE),
        WRONG(NEEDED DKIM, IDLE),
        WRONG(NEEDED DOMAIN
              "listener s { address = {\"127.0.0.1:587\", \"[::1]:587\"} role = submission }",
              "listener \"s\": nobody can log in: it has neither TLS nor auth = plaintext\n"),
        WRONG(NEEDED DOMAIN
              "listener s { address = {\"192.0.2.1:587\", \"[::]:587\", \"[2001:db8::1]:587\",\n"
              "  \"0.0.0.0:587\", \"[::1]:587\", \"127.1.2.3:587\"} role = submission auth = "
              "plaintext }",
              "listener \"s\": auth = plaintext is for loopback, and nobody comes to 192.0.2.1:587 "
              "from there\n"
              "listener \"s\": auth = plaintext is for loopback, and nobody comes to "
              "[2001:db8::1]:587 from there\n"),
        WRONG(NEEDED SUBMISSION "auth { users = nobody }",
              "users /nobody: nobody is in it, so nobody can log in\n"),
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *said = warnings_of(cases[i].text);
        assert_string_equal(said, cases[i].said);
        free(said);
    }
    /* Others can read what is secret; a group may. */
    assert_int_equal(chmod(scratch_path("users"), 0644), 0);
    assert_int_equal(chmod(scratch_path("ed.key"), 0604), 0);
    char *said = warnings_of(HOME DKIM);
    assert_string_equal(said, "users /users: mode 644 lets others at it: chmod 600 it\n"
                              "key /ed.key: mode 604 lets others at it: chmod 600 it\n");
    free(said);
    assert_int_equal(chmod(scratch_path("users"), 0640), 0);
    assert_int_equal(chmod(scratch_path("ed.key"), 0600), 0);
    said = warnings_of(HOME DKIM);
    assert_string_equal(said, "");
    free(said);
}

static void only_a_restart(void **state)
{
    (void)state;
    static const struct scratch_wrong cases[] = {
        WRONG(NEEDED SUBMISSION "auth { dovecot = \"127.0.0.1:1\" }", "auth.dovecot or timeout_ms"),
        WRONG(NEEDED SUBMISSION "auth { dovecot = \"unix:/run/d\" }", "auth.dovecot or timeout_ms"),
        WRONG(NEEDED SUBMISSION "auth { users = users helpers = 2 }", "auth.helpers"),
        WRONG(NEEDED "listener \"s\" { address = {\"127.0.0.1:587\"} }\n" USERS, "listener"),
        WRONG(NEEDED SUBMISSION "auth { users = users timeout_ms = 50 }",
              NULL), /* nobody is asked */
        WRONG(HOUSE DKIM "submission { senders = \"@senders\" from = any hold = 1d priority = 4 }",
              NULL),
        WRONG(NEEDED SUBMISSION
              "auth { users = nobody domain = example.org cache = 0 delay_ms = 1\n"
              "       failures_per_ip = 1 failures_per_network = 2 failures_per_user = 3 }",
              NULL),
        WRONG(NEEDED "listener \"s\" { address = {\"127.0.0.1:587\"} role = submission }\n" USERS,
              NULL),
    };
    struct config *running = scratch_good(HOUSE);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *said, should[200] = "";
        size_t size;
        FILE *out = open_memstream(&said, &size);
        struct config *loaded = scratch_good(cases[i].text);
        assert_int_equal(config_restart_needed(running, loaded, out), cases[i].said != NULL);
        fclose(out);
        if (cases[i].said != NULL)
            snprintf(should, sizeof(should),
                     "%s is new in the configuration, but only a restart can change it\n",
                     cases[i].said);
        assert_string_equal(said, should);
        free(said);
        config_free(loaded);
    }
    config_free(running);
    running = scratch_good(NEEDED SUBMISSION "auth { dovecot = \"unix:/run/d\" }");
    struct config *loaded =
        scratch_good(NEEDED SUBMISSION "auth { dovecot = \"unix:/run/d\" timeout_ms = 50 }");
    FILE *nowhere = fopen("/dev/null", "w");
    assert_int_equal(config_restart_needed(running, loaded, nowhere), 1);
    assert_int_equal(config_restart_needed(running, running, nowhere), 0);
    fclose(nowhere);
    config_free(loaded);
    config_free(running);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),          cmocka_unit_test(all_words),
        cmocka_unit_test(dovecot),           cmocka_unit_test(priorities),
        cmocka_unit_test(mistakes),          cmocka_unit_test(mistakes_of_auth),
        cmocka_unit_test(mistakes_of_files), cmocka_unit_test(many_mistakes),
        cmocka_unit_test(warnings),          cmocka_unit_test(only_a_restart),
    };
    return cmocka_run_group_tests(tests, begin, scratch_end);
}
