/* Logging in by Dovecot: what becomes of each of its answers, for a client. */
#include "gateway/policy/authenticator.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/fake_dovecot.h"
#include "tests/support/turner.h"

enum { WAIT_MS = 8000, TIMEOUT_MS = 400 };

/* What the asker hears; it lets go at once where that is the end. */
struct asker {
    struct login *login;
    uint32_t steps;
    enum login_step step;
    char challenge[1100], user[SASL_NAME_MAX + 1];
    bool password_seen, ends;
};

static struct {
    struct turner *turner;
    struct scene scene;
    struct dovecot_options dovecot;
    struct authenticator_rules rules;
    struct authenticator_options options;
    struct login_cache *cache;
    struct authenticator *authenticator;
    union address_any peer, local;
} fake;

static uint32_t steps_wanted;
static const struct asker *waited_for;

static void on_turn(struct turner *turner)
{
    (void)turner;
    if (fake.authenticator != NULL)
        authenticator_turn(fake.authenticator);
}

static uint64_t next_us(struct turner *turner)
{
    (void)turner;
    return fake.authenticator == NULL ? UINT64_MAX : authenticator_next_us(fake.authenticator);
}

static bool connected(struct turner *turner)
{
    struct authenticator_snapshot now;
    (void)turner;
    authenticator_snapshot(fake.authenticator, &now);
    return now.dovecot.connected;
}

static union address_any address(const char *text)
{
    union address_any out;
    assert_true(listener_parse(text, &out));
    return out;
}

/* start: a Dovecot that plays this; it is not connected yet. */
static void start(const char *const *script)
{
    static const char *const closes[] = {NULL};
    memset(&fake, 0, sizeof(fake));
    for (int i = 0; i < SCENES_MAX; i++)
        fake.scene.scripts[i] = i == 0 ? script : closes;
    scene_start(&fake.scene);
    memcpy(&fake.dovecot.address, &fake.scene.address, sizeof(fake.dovecot.address));
    fake.dovecot.timeout_ms = TIMEOUT_MS;
    fake.dovecot.pending_max = 16;
    fake.rules.cache_s = 300;
    fake.cache = login_cache_new(1024);
    fake.options = (struct authenticator_options){
        .rules = &fake.rules,
        .dovecot = &fake.dovecot,
        .cache = fake.cache,
        .waiting_max = 4,
        .logins_max = 16,
    };
    fake.peer = address("192.0.2.7:40000");
    fake.local = address("[2001:db8::1]:587");
    fake.turner = turner_new(false);
    fake.turner->on_turn = on_turn;
    fake.turner->next_us = next_us;
    fake.authenticator = authenticator_new(&fake.turner->worker, &fake.options, NULL);
    assert_non_null(fake.authenticator);
}

static void begin(const char *const *script)
{
    start(script);
    assert_true(turner_run(fake.turner, connected, WAIT_MS));
}

static void stop(void)
{
    authenticator_free(fake.authenticator);
    fake.authenticator = NULL;
    login_cache_free(fake.cache);
    turner_free(fake.turner);
    scene_stop(&fake.scene);
    free(fake.scene.text);
    assert_string_equal(fake.scene.fault, "");
}

static void stepped(void *user, enum login_step step, const struct login_view *view)
{
    struct asker *asker = user;
    asker->steps++;
    asker->step = step;
    asker->password_seen = view->password_seen;
    assert_true(view->challenge.len < sizeof(asker->challenge));
    snprintf(asker->challenge, sizeof(asker->challenge), "%.*s", (int)view->challenge.len,
             view->challenge.len == 0 ? "" : (const char *)view->challenge.data);
    snprintf(asker->user, sizeof(asker->user), "%.*s", (int)view->user.len,
             view->user.len == 0 ? "" : (const char *)view->user.data);
    if (asker->ends && asker->login != NULL && step != LOGIN_CHALLENGE) {
        login_end(asker->login);
        asker->login = NULL;
    }
}

static struct login_setup setup_for(struct asker *asker, enum sasl_mechanism mechanism)
{
    return (struct login_setup){
        .mechanism = mechanism,
        .secure = true,
        .peer = &fake.peer,
        .local = &fake.local,
        .stepped = stepped,
        .user = asker,
    };
}

static void ask(struct asker *asker, enum sasl_mechanism mechanism, struct bytes message)
{
    const struct login_setup setup = setup_for(asker, mechanism);
    asker->login = login_begin(fake.authenticator, &setup, &message);
    assert_non_null(asker->login);
}

static bool has_stepped(struct turner *turner)
{
    (void)turner;
    return waited_for->steps >= steps_wanted;
}

static void wait_for(const struct asker *asker, uint32_t steps)
{
    waited_for = asker;
    steps_wanted = steps;
    assert_true(turner_run(fake.turner, has_stepped, WAIT_MS));
    assert_int_equal(asker->steps, steps);
}

static void end(struct asker *asker)
{
    if (asker->login != NULL)
        login_end(asker->login);
    asker->login = NULL;
}

#define PLAIN_ANNA BYTES("\0anna\0geheim") /* AGFubmEAZ2VoZWlt */
#define HEAR_ANNA(number)                                                                          \
    "L AUTH\t" number "\tPLAIN\tservice=smtp\tnologin\tno-penalty\tsecured\tlip=2001:db8::1"       \
    "\tlport=587\trip=192.0.2.7\trport=40000\tresp=AGFubmEAZ2VoZWlt"

static void test_passed(void **state)
{
    struct asker asker = {.ends = true};
    (void)state;
    begin(SCRIPT(GREET, HEAR_ANNA(FIRST), "s OK\t" FIRST "\tuser=anna@example.org\n", "E"));
    ask(&asker, SASL_PLAIN, PLAIN_ANNA);
    assert_int_equal(asker.steps, 0);
    wait_for(&asker, 1);
    assert_int_equal(asker.step, LOGIN_PASSED);
    assert_string_equal(asker.user, "anna@example.org");
    assert_string_equal(asker.challenge, "");
    assert_null(asker.login);
    stop();
}

/* LOGIN is not asked of Dovecot: it is PLAIN in another dress. */
static void test_login(void **state)
{
    struct asker asker = {.steps = 0};
    (void)state;
    begin(SCRIPT(GREET, HEAR_ANNA(FIRST), "s OK\t" FIRST "\tuser=anna\n", "E"));
    const struct login_setup setup = setup_for(&asker, SASL_LOGIN);
    asker.login = login_begin(fake.authenticator, &setup, NULL);
    assert_string_equal(asker.challenge, "Username:");
    login_respond(asker.login, BYTES("anna"));
    assert_string_equal(asker.challenge, "Password:");
    login_respond(asker.login, BYTES("geheim"));
    wait_for(&asker, 3);
    assert_int_equal(asker.step, LOGIN_PASSED);
    end(&asker);
    stop();
}

/* A client that has been right is not asked about again: only itself, and only with the same name,
 * password, and addresses. */
static void test_cached(void **state)
{
    struct asker asker = {.steps = 0};
    struct authenticator_snapshot now;
    (void)state;
    begin(SCRIPT(GREET, HEAR_ANNA(FIRST), "s OK\t" FIRST "\tuser=anna\n", "l AUTH\t8192\t",
                 "s FAIL\t8192\tuser=anna\n", "l AUTH\t12288\t", "s FAIL\t12288\n",
                 "l AUTH\t16384\t", "s FAIL\t16384\n", "l AUTH\t20480\t",
                 "s OK\t20480\tuser=anna\n", "E"));
    ask(&asker, SASL_PLAIN, PLAIN_ANNA);
    wait_for(&asker, 1);
    end(&asker);
    for (uint32_t i = 2; i < 5; i++) {
        ask(&asker, i < 4 ? SASL_PLAIN : SASL_LOGIN, i < 4 ? PLAIN_ANNA : BYTES("anna"));
        if (i == 4)
            login_respond(asker.login, BYTES("geheim"));
        assert_int_equal(asker.step, LOGIN_PASSED); /* at once */
        assert_string_equal(asker.user, "anna");
        end(&asker);
    }
    asker.steps = 0;
    ask(&asker, SASL_PLAIN, BYTES("\0anna\0geheiM"));
    wait_for(&asker, 1);
    assert_int_equal(asker.step, LOGIN_REFUSED);
    end(&asker);
    ask(&asker, SASL_PLAIN, BYTES("bert\0anna\0geheim")); /* for bert: never from the cache */
    wait_for(&asker, 2);
    assert_int_equal(asker.step, LOGIN_REFUSED);
    end(&asker);
    fake.peer = address("192.0.2.8:40000"); /* where Dovecot may not want to see her */
    ask(&asker, SASL_PLAIN, PLAIN_ANNA);
    wait_for(&asker, 3);
    assert_int_equal(asker.step, LOGIN_REFUSED);
    end(&asker);
    fake.peer = address("192.0.2.7:40001"); /* another port is the same client */
    ask(&asker, SASL_PLAIN, PLAIN_ANNA);
    assert_int_equal(asker.step, LOGIN_PASSED);
    end(&asker);
    fake.rules.cache_s = 0; /* a reload */
    asker.steps = 0;
    ask(&asker, SASL_PLAIN, PLAIN_ANNA);
    wait_for(&asker, 1);
    end(&asker);
    authenticator_snapshot(fake.authenticator, &now);
    assert_int_equal(now.cached, 4);
    assert_int_equal(now.dovecot.asked, 5);
    assert_int_equal(now.dovecot.passed, 2);
    stop();
}

/* A name that Dovecot writes in another way is asked for each time: the cache would not know it. */
static void test_not_cached(void **state)
{
    struct asker asker = {.steps = 0};
    (void)state;
    begin(SCRIPT(GREET, HEAR_ANNA(FIRST), "s OK\t" FIRST "\tuser=Anna\n", HEAR_ANNA(AGAIN),
                 "s OK\t" AGAIN "\tuser=Anna\n", "E"));
    for (uint32_t i = 1; i < 3; i++) {
        ask(&asker, SASL_PLAIN, PLAIN_ANNA);
        wait_for(&asker, i);
        assert_string_equal(asker.user, "Anna");
        end(&asker);
    }
    stop();
}

static void test_refused(void **state)
{
    static const struct {
        const char *says;
        enum login_step step;
    } cases[] = {
        {"s FAIL\t" FIRST "\tuser=anna\n",                LOGIN_REFUSED    },
        {"s FAIL\t" FIRST "\tuser=anna\tuser_disabled\n", LOGIN_REFUSED    },
        {"s FAIL\t" FIRST "\tuser=anna\ttemp\n",          LOGIN_UNAVAILABLE},
        {"s CONT\t" FIRST "\t!!!!\n",                     LOGIN_UNAVAILABLE},
        {"s OK\t" FIRST "\tuser=anna\tresp=!\n",          LOGIN_UNAVAILABLE},
        {"W 1",                                           LOGIN_UNAVAILABLE},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct asker asker = {.ends = true};
        begin(SCRIPT(GREET, HEAR_ANNA(FIRST), cases[i].says, "W 20"));
        ask(&asker, SASL_PLAIN, PLAIN_ANNA);
        wait_for(&asker, 1);
        assert_int_equal(asker.step, cases[i].step);
        assert_int_equal(asker.password_seen, asker.step == LOGIN_REFUSED);
        assert_string_equal(asker.user, "anna");
        assert_string_equal(asker.challenge, "");
        stop();
    }
}

static void test_dialogue(void **state)
{
    struct asker asker = {.steps = 0};
    (void)state;
    begin(SCRIPT(GREET, "l AUTH\t" FIRST "\tSCRAM-SHA-256\t", "s CONT\t" FIRST "\tcj1hYmM=\n",
                 "L CONT\t" FIRST "\tYz1iaXdz", "s CONT\t" FIRST "\tdj1h\n", "L CONT\t" FIRST "\t",
                 "s OK\t" FIRST "\tuser=anna\n", "E"));
    const struct login_setup setup = setup_for(&asker, SASL_SCRAM_SHA_256);
    asker.login = login_begin(fake.authenticator, &setup, NULL);
    assert_int_equal(asker.step, LOGIN_CHALLENGE); /* ours: there was no initial response */
    assert_string_equal(asker.challenge, "");
    login_respond(asker.login, BYTES("n,,n=anna,r=fyko+d2lbbFgONRv"));
    wait_for(&asker, 2);
    assert_string_equal(asker.challenge, "r=abc");
    assert_string_equal(asker.user, "anna");
    login_respond(asker.login, BYTES("c=biws"));
    wait_for(&asker, 3);
    assert_string_equal(asker.challenge, "v=a");
    login_respond(asker.login, BYTES(""));
    wait_for(&asker, 4);
    assert_int_equal(asker.step, LOGIN_PASSED);
    assert_string_equal(asker.challenge, "");
    end(&asker);
    stop();
}

/* A challenge that is no use ends an exchange there, too; as does a client that leaves. */
static void test_left(void **state)
{
    struct asker asker = {.steps = 0};
    (void)state;
    begin(SCRIPT(GREET, "l AUTH\t" FIRST, "L CANCEL\t" FIRST, "l AUTH\t" AGAIN,
                 "s CONT\t" AGAIN "\tcj1hYmM=\n", "L CANCEL\t" AGAIN, "E"));
    ask(&asker, SASL_PLAIN, PLAIN_ANNA);
    end(&asker);
    ask(&asker, SASL_SCRAM_SHA_256, BYTES("n,,n=anna,r=fyko+d2lbbFgONRv"));
    wait_for(&asker, 1);
    end(&asker);
    (void)turner_run(fake.turner, NULL, 30);
    stop();
}

static void test_mechanisms(void **state)
{
    const uint32_t plain = 1u << SASL_PLAIN | 1u << SASL_LOGIN;
    struct asker asker = {.steps = 0};
    (void)state;
    start(SCRIPT(HELLO,
                 "s VERSION\t1\t2\nMECH\tSCRAM-SHA-256\tmutual-auth\nMECH\tOAUTHBEARER\tplaintext\n"
                 "MECH\tXOAUTH2\nMECH\tCRAM-MD5\nMECH\tSCRAM-SHA-256-PLUS\nDONE\n",
                 "W 20"));
    assert_int_equal(authenticator_mechanisms(fake.authenticator, true), plain);
    ask(&asker, SASL_PLAIN, PLAIN_ANNA); /* it was never there */
    assert_int_equal(asker.step, LOGIN_UNAVAILABLE);
    assert_false(asker.password_seen);
    end(&asker);
    assert_true(turner_run(fake.turner, connected, WAIT_MS));
    const uint32_t all = 1u << SASL_SCRAM_SHA_256 | 1u << SASL_OAUTHBEARER | 1u << SASL_XOAUTH2;
    assert_int_equal(authenticator_mechanisms(fake.authenticator, true), all);
    (void)turner_run(fake.turner, NULL, 100); /* it goes: what it announced is offered still */
    assert_false(connected(fake.turner));
    assert_int_equal(authenticator_mechanisms(fake.authenticator, false), all);
    authenticator_configure(fake.authenticator, NULL);
    assert_int_equal(authenticator_mechanisms(fake.authenticator, true), 0);
    stop();
}

/* A token says who it is for, or does not. */
static void test_token(void **state)
{
    struct asker asker = {.steps = 0};
    (void)state;
    begin(SCRIPT(HELLO, "s VERSION\t1\t2\nMECH\tOAUTHBEARER\nDONE\n",
                 "l AUTH\t" FIRST "\tOAUTHBEARER\t",
                 "s CONT\t" FIRST "\teyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\n",
                 "L CONT\t" FIRST "\tAQ==", "s FAIL\t" FIRST "\tuser=anna\n", "E"));
    ask(&asker, SASL_OAUTHBEARER, BYTES("n,,\1auth=Bearer abc\1\1"));
    wait_for(&asker, 1);
    assert_string_equal(asker.challenge, "{\"status\":\"invalid_token\"}");
    assert_string_equal(asker.user, "");
    login_respond(asker.login, BYTES("\1"));
    wait_for(&asker, 2);
    assert_int_equal(asker.step, LOGIN_REFUSED);
    assert_string_equal(asker.user, "anna");
    end(&asker);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_passed),  cmocka_unit_test(test_login),
        cmocka_unit_test(test_cached),  cmocka_unit_test(test_not_cached),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_dialogue),
        cmocka_unit_test(test_left),    cmocka_unit_test(test_mechanisms),
        cmocka_unit_test(test_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
