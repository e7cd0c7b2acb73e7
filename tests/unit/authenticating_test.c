/* AUTH between a client and a backend that the test plays (attempts of the session, lines that are
 * responses, identities): answers that come late, never, or are none; clients that leave; the end
 * of the server. What real backends do is in tests/e2e/test_auth.py. */
#include "gateway/receive/authenticating.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/check.h"
#include "gateway/receive/attempt.h"
#include "gateway/receive/lines.h"
#include "tests/support/front.h"

enum { LOOK_US = 5000, WAIT_MS = 20000 };

/* The backend. The worker looks at `due` in each of its turns. */
struct login {
    struct login_setup setup;
};
static struct {
    struct login login; /* one at a time */
    bool open;
    struct worker *worker;
    _Atomic bool at_once; /* the step is taken within the call */
    _Atomic bool full;
    _Atomic bool due; /* the step is to be taken now */
    enum login_step step;
    struct login_view view;
    _Atomic uint32_t begun, responses, ended;
    char heard[64]; /* the last message */
    size_t heard_len;
} backend;

static void take_step(void)
{
    if (!backend.open)
        return; /* the asker has let go */
    backend.login.setup.stepped(backend.login.setup.user, backend.step, &backend.view);
}

struct authenticator *authenticator_new(struct worker *worker,
                                        const struct authenticator_options *options,
                                        struct log_port *log)
{
    (void)options;
    (void)log;
    backend.worker = worker;
    return (struct authenticator *)&backend;
}

void authenticator_free(struct authenticator *authenticator)
{
    CHECK(authenticator != NULL);
}

void authenticator_configure(struct authenticator *authenticator,
                             const struct authenticator_rules *rules)
{
    (void)authenticator;
    (void)rules;
}

uint32_t authenticator_mechanisms(const struct authenticator *authenticator, bool secure)
{
    (void)authenticator;
    (void)secure;
    return 1u << SASL_PLAIN | 1u << SASL_SCRAM_SHA_256 | 1u << SASL_OAUTHBEARER;
}

void authenticator_turn(struct authenticator *authenticator)
{
    (void)authenticator;
    if (atomic_exchange(&backend.due, false))
        take_step();
}

uint64_t authenticator_next_us(const struct authenticator *authenticator)
{
    (void)authenticator;
    return backend.worker->now_us + LOOK_US;
}

void authenticator_snapshot(const struct authenticator *authenticator,
                            struct authenticator_snapshot *out)
{
    (void)authenticator;
    *out = (struct authenticator_snapshot){0};
}

static void hear(struct bytes message)
{
    backend.heard_len = message.len < sizeof(backend.heard) ? message.len : sizeof(backend.heard);
    if (message.len > 0)
        memcpy(backend.heard, message.data, backend.heard_len);
}

struct login *login_begin(struct authenticator *authenticator, const struct login_setup *setup,
                          const struct bytes *initial)
{
    CHECK(authenticator != NULL);
    if (atomic_load(&backend.full))
        return NULL;
    backend.login.setup = *setup;
    backend.open = true;
    if (initial != NULL)
        hear(*initial);
    if (atomic_load(&backend.at_once))
        take_step();
    atomic_fetch_add(&backend.begun, 1);
    return &backend.login;
}

void login_respond(struct login *login, struct bytes response)
{
    CHECK(login == &backend.login);
    hear(response);
    if (atomic_load(&backend.at_once))
        take_step();
    atomic_fetch_add(&backend.responses, 1);
}

void login_end(struct login *login)
{
    CHECK(login == &backend.login && backend.open);
    backend.open = false;
    atomic_fetch_add(&backend.ended, 1);
}

/* --- what the tests say --- */

#define GUESS "AUTH PLAIN AGFsaWNlAHg=\r\n" /* NUL alice NUL x */

static const struct authenticator_rules rules = {.domain = "example.org"};
static const struct authenticator_options options = {.rules = &rules};
static const struct server_listener words = {.submission = true, .auth_clear = true};

static int set_up(void **state)
{
    memset(&backend, 0, sizeof(backend));
    int result = front_set_up(state);
    front.words = &words;
    front.authentication = &options;
    return result;
}

static void will(enum login_step step, struct bytes challenge, struct bytes user)
{
    backend.step = step;
    backend.view = (struct login_view){.challenge = challenge, .user = user};
}

static void wait_for(const _Atomic uint32_t *counter, uint32_t wanted)
{
    for (int ms = 0; atomic_load(counter) < wanted; ms++) {
        assert_true(ms < WAIT_MS);
        usleep(1000);
    }
    assert_int_equal(atomic_load(counter), wanted);
}

static int enter(void)
{
    int client = front_call();
    front_hear(client, "220 ");
    front_say(client, "EHLO me\r\n");
    while (strncmp(front_hear(client, "250"), "250-", 4) == 0)
        ;
    return client;
}

static void leave(int client)
{
    front_say(client, "QUIT\r\n");
    front_hear(client, "221 ");
    close(client);
}

static void stop(uint32_t logins)
{
    front_stop();
    assert_int_equal(atomic_load(&backend.begun), logins);
    assert_int_equal(atomic_load(&backend.ended), logins);
    assert_int_equal(front.server.identities.used, 0);
}

/* An answer that comes late; what the client has sent meanwhile waits. */
static void test_late(void **state)
{
    (void)state;
    front_start(0, false);
    int client = enter();
    front_say(client, GUESS);
    wait_for(&backend.begun, 1);
    assert_int_equal(backend.heard_len, 8);
    assert_memory_equal(backend.heard, "\0alice\0x", 8);
    front_say(client, "NOOP\r\n");
    front_hears_nothing(client);
    will(LOGIN_PASSED, bytes_make(NULL, 0), BYTES("Alice@example.org"));
    atomic_store(&backend.due, true);
    front_hear(client, "235 2.7.0 ");
    front_hear(client, "250 2.0.0 ");
    wait_for(&backend.ended, 1);
    front_say(client, "EHLO again\r\n");
    while (strncmp(front_hear(client, "250"), "250-", 4) == 0)
        ;
    front_say(client, GUESS);
    front_hear(client, "503 5.5.1 ");
    leave(client);
    stop(1);
}

/* Whatever the backend says, at once or later. */
static void test_steps(void **state)
{
    (void)state;
    static char longest[SCRAM_MESSAGE_MAX + 1];
    memset(longest, 'x', sizeof(longest));
    const struct {
        enum login_step step;
        struct bytes challenge, user;
        const char *reply, *then;
    } cases[] = {
        {LOGIN_PASSED,  {0},                BYTES("a"),       "235 2.7.0 ",                   NULL          },
        {LOGIN_PASSED,  {0},                {0},              "454 4.7.0 ",                   NULL          },
        {LOGIN_PASSED,  {0},                BYTES("a\nb"),    "454 4.7.0 ",                   NULL          },
        {LOGIN_PASSED,  {0},                BYTES("a\xff"),   "454 4.7.0 ",                   NULL          },
        {LOGIN_PASSED,  BYTES("v=1"),       BYTES("a"),       "334 dj0x",                     "235 2.7.0 "  },
        {LOGIN_PASSED,  bytes_make(longest, sizeof(longest)), BYTES("a"),                     "454 4.7.0 ",   NULL},
        {LOGIN_CHALLENGE,             bytes_make(longest,                 sizeof(longest)),   {0}, "454 4.7.0 ",          NULL},
        {LOGIN_CHALLENGE,         bytes_make(longest,                           sizeof(longest) - 1),                             {0},                                 "334 eHh4","334 eHh4"},
        {LOGIN_REFUSED,   {0},           BYTES("a"),                           "535 5.7.8 ",             NULL                              },
        {LOGIN_MALFORMED, {0},               {0},     "501 5.5.2 ",         NULL},
        {LOGIN_UNAVAILABLE, {0},               {0},                           "454 4.7.0 ",                                 NULL                                                      },
    };
    uint32_t logins = 0;
    front_start(0, false);
    for (size_t i = 0; i < 2 * sizeof(cases) / sizeof(cases[0]); i++) {
        int client = enter();
        atomic_store(&backend.at_once, i % 2 == 0);
        will(cases[i / 2].step, cases[i / 2].challenge, cases[i / 2].user);
        front_say(client, GUESS);
        wait_for(&backend.begun, ++logins);
        atomic_store(&backend.due, i % 2 != 0);
        front_hear(client, cases[i / 2].reply);
        if (cases[i / 2].then != NULL) {
            atomic_store(&backend.at_once, true);
            front_say(client, "\r\n");
            front_hear(client, cases[i / 2].then);
        }
        if (cases[i / 2].step == LOGIN_CHALLENGE && cases[i / 2].then != NULL) {
            front_say(client, "*\r\n");
            front_hear(client, "501 5.7.0 ");
        }
        leave(client);
    }
    stop(logins);
}

static void test_full(void **state)
{
    (void)state;
    front_start(0, false);
    int client = enter();
    atomic_store(&backend.full, true);
    front_say(client, GUESS);
    front_hear(client, "454 4.7.0 ");
    leave(client);
    stop(0);
}

/* Clients that leave while the backend is asked: at once, or in order, when nobody else will tell
 * of it; with and without an answer behind them, and with octets that nobody reads. */
static void test_gone(void **state)
{
    (void)state;
    front_start(0, false);
    will(LOGIN_PASSED, bytes_make(NULL, 0), BYTES("alice"));
    for (uint32_t i = 1; i <= 12; i++) {
        int client = enter();
        front_say(client, GUESS);
        wait_for(&backend.begun, i);
        if (i > 8)
            front_say(client, "NOOP\r\n");
        struct linger reset = {.l_onoff = i <= 4};
        assert_int_equal(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), 0);
        close(client);
        if (i % 2 == 0 && i <= 4)
            atomic_store(&backend.due, true);
        wait_for(&backend.ended, i);
    }
    stop(12);
}

/* The backend's being away is no failure of the client's; a refusal is. */
static void test_attempts(void **state)
{
    (void)state;
    front.attempts = attempts_new(100);
    front.attempt_limits = (struct attempt_limits){.per_address = 2};
    front_start(0, false);
    int client = enter();
    atomic_store(&backend.at_once, true);
    for (int i = 0; i < 3; i++) {
        will(LOGIN_UNAVAILABLE, bytes_make(NULL, 0), bytes_make(NULL, 0));
        front_say(client, GUESS);
        front_hear(client, "454 4.7.0 Temporary ");
        will(LOGIN_PASSED, bytes_make(NULL, 0), bytes_make(NULL, 0));
        front_say(client, GUESS);
        front_hear(client, "454 4.7.0 Temporary ");
    }
    for (int i = 0; i < 2; i++) {
        will(LOGIN_REFUSED, bytes_make(NULL, 0), BYTES("alice"));
        front_say(client, GUESS);
        front_hear(client, "535 5.7.8 ");
    }
    will(LOGIN_PASSED, bytes_make(NULL, 0), BYTES("alice"));
    front_say(client, GUESS);
    front_hear(client, "454 4.7.0 Too many ");
    leave(client);
    stop(8);
    attempts_free(front.attempts);
}

/* A guess waits for others that have the room, in both ways to the backend: until they have passed,
 * or failed. Who has left waits no more. */
static void test_waits(void **state)
{
    (void)state;
    front.attempts = attempts_new(100);
    front.attempt_limits = (struct attempt_limits){.per_address = 1};
    front_start(0, false);
    int first = enter(), second = enter(), gone = enter();
    atomic_store(&backend.at_once, true);
    will(LOGIN_CHALLENGE, bytes_make(NULL, 0), bytes_make(NULL, 0));
    front_say(second, "AUTH PLAIN\r\n"); /* takes no room */
    front_hear(second, "334 ");
    front_say(second, "*\r\n");
    front_hear(second, "501 5.7.0 ");
    atomic_store(&backend.at_once, false);
    front_say(first, GUESS);
    wait_for(&backend.begun, 2);
    front_say(second, GUESS);
    front_say(gone, GUESS);
    front_hears_nothing(second);
    close(gone);
    will(LOGIN_PASSED, bytes_make(NULL, 0), BYTES("alice@example.org"));
    atomic_store(&backend.due, true);
    front_hear(first, "235 2.7.0 ");
    wait_for(&backend.begun, 3);
    assert_memory_equal(backend.heard, "\0alice\0x", 8);
    int third = enter();
    front_say(third, GUESS);
    front_hears_nothing(third);
    will(LOGIN_REFUSED, bytes_make(NULL, 0), BYTES("alice@example.org"));
    atomic_store(&backend.due, true);
    front_hear(second, "535 5.7.8 ");
    front_hear(third, "454 4.7.0 Too many ");
    leave(first);
    leave(second);
    leave(third);
    stop(3);
    attempts_free(front.attempts);
}

/* Names that are one user to the backend: what is guessed with all of them counts for him. */
static void test_other_names(void **state)
{
    (void)state;
    front.attempts = attempts_new(100);
    front.attempt_limits = (struct attempt_limits){.per_user = 2};
    front_start(0, false);
    int client = enter();
    atomic_store(&backend.at_once, true);
    will(LOGIN_REFUSED, bytes_make(NULL, 0), BYTES("boss"));
    front_say(client, GUESS);
    front_hear(client, "535 5.7.8 ");
    front_say(client, "AUTH PLAIN AGIAeA==\r\n");
    front_hear(client, "535 5.7.8 ");
    front_say(client, "AUTH PLAIN AGMAeA==\r\n");
    front_hear(client, "454 4.7.0 Too many ");
    will(LOGIN_PASSED, bytes_make(NULL, 0), BYTES("boss"));
    front_say(client, "AUTH PLAIN AGMAeA==\r\n");
    front_hear(client, "454 4.7.0 Too many ");
    will(LOGIN_PASSED, bytes_make(NULL, 0), BYTES("carol"));
    front_say(client, "AUTH PLAIN AGMAeA==\r\n");
    front_hear(client, "235 2.7.0 ");
    leave(client);
    stop(5);
    attempts_free(front.attempts);
}

/* A token without a name: the backend's name is the user's, and nothing stays counted. */
static void test_nameless(void **state)
{
    (void)state;
    front.attempts = attempts_new(100);
    front.attempt_limits = (struct attempt_limits){.per_address = 1, .per_user = 1};
    front_start(0, false);
    atomic_store(&backend.at_once, true);
    will(LOGIN_PASSED, bytes_make(NULL, 0), BYTES("alice"));
    for (int i = 0; i < 3; i++) {
        int client = enter();
        front_say(client, "AUTH OAUTHBEARER biwsAWF1dGg9QmVhcmVyIHgBAQ==\r\n");
        front_hear(client, "235 2.7.0 ");
        leave(client);
    }
    stop(3);
    attempts_free(front.attempts);
}

/* The end of the server: who waits for his backend hears its answer, who is held back hears the
 * refusal, and both then 421. */
static void test_drain(void **state)
{
    (void)state;
    front.auth_delay_ms = 60000;
    front_start(0, false);
    int held = enter(), waits = enter();
    atomic_store(&backend.at_once, true);
    will(LOGIN_REFUSED, bytes_make(NULL, 0), BYTES("alice"));
    front_say(held, GUESS);
    wait_for(&backend.ended, 1);
    front_hears_nothing(held);
    atomic_store(&backend.at_once, false);
    front_say(waits, GUESS);
    wait_for(&backend.begun, 2);
    worker_note(&front.worker, SERVER_NOTE_DRAIN);
    front_hear(held, "535 5.7.8 ");
    front_hear(held, "421 ");
    close(held);
    front_hears_nothing(waits);
    will(LOGIN_PASSED, bytes_make(NULL, 0), BYTES("alice"));
    atomic_store(&backend.due, true);
    front_hear(waits, "235 2.7.0 ");
    front_hear(waits, "421 ");
    close(waits);
    front_gone();
    assert_int_equal(atomic_load(&backend.ended), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_late, set_up, front_tear_down),
        cmocka_unit_test_setup_teardown(test_steps, set_up, front_tear_down),
        cmocka_unit_test_setup_teardown(test_full, set_up, front_tear_down),
        cmocka_unit_test_setup_teardown(test_gone, set_up, front_tear_down),
        cmocka_unit_test_setup_teardown(test_attempts, set_up, front_tear_down),
        cmocka_unit_test_setup_teardown(test_waits, set_up, front_tear_down),
        cmocka_unit_test_setup_teardown(test_other_names, set_up, front_tear_down),
        cmocka_unit_test_setup_teardown(test_nameless, set_up, front_tear_down),
        cmocka_unit_test_setup_teardown(test_drain, set_up, front_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
