/* Logging in by the users file: every mechanism, names and forms of them, refusals that look and
 * cost alike, the cache, reloads while a helper compares, clients that go away meanwhile, and too
 * many at once. */
#include "gateway/policy/authenticator.h"

#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/policy/authenticator_inside.h"
#include "tests/support/sasl_client.h"
#include "tests/support/turner.h"

enum { STEPS_MAX = 8, LATE_MS = 10000 };

#define SHA                                                                                        \
    "{SHA512-CRYPT}$6$YtiAQZ0lDRKzJzFi$T4Qlqy9dhD1X7UYEMHR2oDfeGkBrtxEcuCZO/83PQRIrH5Ht"           \
    "UAjuQmSUl.er/8xajIu5e.ccx4yFjF3xVaW4t0"
#define SCRAM                                                                                      \
    "{SCRAM-SHA-256}4096,+rcUiN8wov3HXdw4nqOZMw==,"                                                \
    "PuPXFoYkJkXq7yS4owZ78Kq/e3r7yKvPCDcnH9tWtXo=,"                                                \
    "YCEtDxH+xgUj68kxOcJRiMV7dWsxd0FSRjT0KPvn3cQ="

/* An exchange and what was heard of it. */
struct talk {
    struct login *login;
    int count;
    enum login_step step;
    char challenge[SCRAM_MESSAGE_MAX], user[SASL_NAME_MAX + 1];
    bool password_seen;
};

static struct place {
    struct turner *turner;
    struct helpers *helpers;
    struct users *users;
    struct login_cache *cache;
    struct authenticator_rules rules;
    struct authenticator *authenticator;
    struct talk *awaited;
} place;

static sem_t busy, held; /* a helper waits, and for what */
static const uint8_t binding[SCRAM_BINDING_LEN] = {7};
static const union address_any somewhere = {.v4 = {.sin_family = AF_INET}};

static struct users *make_users(const char *const *lines)
{
    const char *error;
    struct users *users = users_new();
    assert_non_null(users);
    for (; *lines != NULL; lines++)
        if (!users_add(users, bytes_of_string(*lines), &error))
            fail_msg("%s", error);
    return users;
}

static void begin(bool threads, uint32_t waiting_max, uint32_t logins_max)
{
    place.turner = turner_new(false);
    place.helpers = threads ? helpers_new(1, HELPERS_LEAST) : NULL;
    place.users = make_users((const char *const[]){"alice:" SHA, "bob@example.org:" SHA,
                                                   "carol:" SCRAM, "locked:!" SHA, NULL});
    place.cache = login_cache_new(64);
    place.rules =
        (struct authenticator_rules){.users = place.users, .domain = "example.org", .cache_s = 60};
    struct authenticator_options options = {.rules = &place.rules,
                                            .helpers = place.helpers,
                                            .cache = place.cache,
                                            .waiting_max = waiting_max,
                                            .logins_max = logins_max};
    place.authenticator = authenticator_new(&place.turner->worker, &options, NULL);
    assert_non_null(place.authenticator);
}

static void end(void)
{
    assert_int_equal(place.authenticator->logins.used, 0);
    authenticator_free(place.authenticator);
    helpers_free(place.helpers);
    login_cache_free(place.cache);
    users_free(place.users);
    turner_free(place.turner);
}

static void stepped(void *user, enum login_step step, const struct login_view *view)
{
    struct talk *talk = user;
    talk->count++;
    talk->step = step;
    talk->password_seen = view->password_seen;
    snprintf(talk->challenge, sizeof(talk->challenge), "%.*s", (int)view->challenge.len,
             (const char *)view->challenge.data);
    snprintf(talk->user, sizeof(talk->user), "%.*s", (int)view->user.len,
             (const char *)view->user.data);
}

static void start(struct talk *talk, enum sasl_mechanism mechanism, const struct bytes *initial)
{
    bool plus = mechanism == SASL_SCRAM_SHA_256_PLUS;
    struct login_setup setup = {.mechanism = mechanism,
                                .secure = plus,
                                .binding = plus ? binding : NULL,
                                .peer = &somewhere,
                                .local = &somewhere,
                                .stepped = stepped,
                                .user = talk};
    *talk = (struct talk){0};
    talk->login = login_begin(place.authenticator, &setup, initial);
}

static bool heard(struct turner *turner)
{
    (void)turner;
    return place.awaited->count > 0;
}

/* await waits for the next step, which may have come. */
static enum login_step await(struct talk *talk)
{
    place.awaited = talk;
    if (talk->count == 0)
        assert_true(turner_run(place.turner, heard, LATE_MS));
    assert_int_equal(talk->count, 1);
    talk->count = 0;
    return talk->step;
}

static enum login_step plain(struct bytes message, const char *user)
{
    struct talk talk;
    start(&talk, SASL_PLAIN, &message);
    assert_non_null(talk.login);
    enum login_step step = await(&talk);
    if (strcmp(talk.user, user) != 0)
        fail_msg("user %s", talk.user);
    assert_int_equal(talk.password_seen, step == LOGIN_REFUSED);
    login_end(talk.login);
    return step;
}

static struct authenticator_snapshot snapshot(void)
{
    struct authenticator_snapshot out;
    authenticator_snapshot(place.authenticator, &out);
    return out;
}

static void check_plain(void)
{
    assert_int_equal(plain(BYTES("\0alice\0secret"), "alice"), LOGIN_PASSED);
    assert_int_equal(snapshot().hashed, 1);
    assert_int_equal(plain(BYTES("\0ALICE\0secret"), "alice"), LOGIN_PASSED);
    assert_int_equal(plain(BYTES("\0alice@example.org\0secret"), "alice"), LOGIN_PASSED);
    assert_int_equal(plain(BYTES("alice\0alice\0secret"), "alice"), LOGIN_PASSED);
    assert_int_equal(plain(BYTES("alice@example.org\0alice\0secret"), "alice"), LOGIN_PASSED);
    assert_int_equal(snapshot().hashed, 1); /* the same user and password: kept */
    assert_int_equal(snapshot().cached, 4);
    assert_int_equal(plain(BYTES("\0bob\0secret"), "bob@example.org"), LOGIN_PASSED);
    assert_int_equal(plain(BYTES("\0carol\0secret"), "carol"), LOGIN_PASSED);
    assert_int_equal(snapshot().hashed, 3);
    /* Each of these costs a comparison. */
    assert_int_equal(plain(BYTES("\0alice\0wrong"), "alice"), LOGIN_REFUSED);
    assert_int_equal(plain(BYTES("\0nobody\0secret"), "nobody"), LOGIN_REFUSED);
    assert_int_equal(plain(BYTES("\0locked\0secret"), "locked"), LOGIN_REFUSED);
    assert_int_equal(plain(BYTES("bob\0alice\0secret"), "alice"), LOGIN_REFUSED);
    assert_int_equal(plain(BYTES("root\0alice\0secret"), "alice"), LOGIN_REFUSED);
    assert_int_equal(plain(BYTES("alice\0nobody\0secret"), "nobody"), LOGIN_REFUSED);
    assert_int_equal(snapshot().hashed, 9);
    assert_int_equal(plain(BYTES("alice"), ""), LOGIN_MALFORMED);
    assert_int_equal(plain(BYTES("\0alice\0"), ""), LOGIN_MALFORMED);
    assert_int_equal(plain(BYTES(""), ""), LOGIN_MALFORMED);
    assert_int_equal(snapshot().hashed, 9);
}

static void test_plain(void **state)
{
    (void)state;
    begin(true, 4, 4);
    check_plain();
    end();
    begin(false, 4, 4);
    check_plain();
    end();
}

static void test_challenges(void **state)
{
    (void)state;
    struct talk talk;
    struct bytes name = BYTES("alice");
    begin(true, 4, 4);
    assert_int_equal(authenticator_mechanisms(place.authenticator, false),
                     1u << SASL_PLAIN | 1u << SASL_LOGIN | 1u << SASL_SCRAM_SHA_256);
    assert_int_equal(authenticator_mechanisms(place.authenticator, true),
                     1u << SASL_PLAIN | 1u << SASL_LOGIN | 1u << SASL_SCRAM_SHA_256 |
                         1u << SASL_SCRAM_SHA_256_PLUS);
    start(&talk, SASL_PLAIN, NULL);
    assert_int_equal(await(&talk), LOGIN_CHALLENGE);
    assert_string_equal(talk.challenge, "");
    login_respond(talk.login, BYTES("\0alice\0secret"));
    assert_int_equal(await(&talk), LOGIN_PASSED);
    login_end(talk.login);

    start(&talk, SASL_LOGIN, NULL);
    assert_int_equal(await(&talk), LOGIN_CHALLENGE);
    assert_string_equal(talk.challenge, "Username:");
    login_respond(talk.login, BYTES("bob"));
    assert_int_equal(await(&talk), LOGIN_CHALLENGE);
    assert_string_equal(talk.challenge, "Password:");
    assert_string_equal(talk.user, "bob");
    login_respond(talk.login, BYTES("secret"));
    assert_int_equal(await(&talk), LOGIN_PASSED);
    assert_string_equal(talk.challenge, "");
    assert_string_equal(talk.user, "bob@example.org");
    login_end(talk.login);

    start(&talk, SASL_LOGIN, &name);
    assert_int_equal(await(&talk), LOGIN_CHALLENGE);
    assert_string_equal(talk.challenge, "Password:");
    login_respond(talk.login, BYTES("secret"));
    assert_int_equal(await(&talk), LOGIN_PASSED);
    login_end(talk.login);

    start(&talk, SASL_LOGIN, &name);
    (void)await(&talk);
    login_respond(talk.login, BYTES("a\0b"));
    assert_int_equal(await(&talk), LOGIN_MALFORMED);
    login_end(talk.login);

    struct bytes odd = BYTES("a\nb");
    start(&talk, SASL_LOGIN, &odd);
    assert_int_equal(await(&talk), LOGIN_MALFORMED);
    login_end(talk.login);

    struct bytes token = BYTES("user=alice\1auth=Bearer x\1\1");
    start(&talk, SASL_XOAUTH2, &token); /* not offered; nobody can have one */
    assert_int_equal(await(&talk), LOGIN_REFUSED);
    login_end(talk.login);
    end();
}

/* scram runs an exchange; `salt` (SCRAM_MESSAGE_MAX) gets the challenge from ",s=" on. */
static enum login_step scram(enum sasl_mechanism mechanism, const char *header, const char *user,
                             const char *password, const uint8_t *bound, char *salt)
{
    struct talk talk;
    struct sasl_client client;
    struct bytes first = sasl_client_first(&client, header, user, password);
    start(&talk, mechanism, &first);
    enum login_step step = await(&talk);
    if (step == LOGIN_CHALLENGE) {
        if (salt != NULL)
            snprintf(salt, SCRAM_MESSAGE_MAX, "%s", strstr(talk.challenge, ",s="));
        login_respond(talk.login,
                      sasl_client_last(&client, bytes_of_string(talk.challenge), bound));
        step = await(&talk);
        assert_int_equal(talk.password_seen, step == LOGIN_REFUSED);
        if (step == LOGIN_PASSED)
            assert_true(sasl_client_trusts(&client, bytes_of_string(talk.challenge)));
        else
            assert_string_equal(talk.challenge, "");
    }
    login_end(talk.login);
    return step;
}

static void test_scram(void **state)
{
    (void)state;
    char one[SCRAM_MESSAGE_MAX], two[SCRAM_MESSAGE_MAX], alice[SCRAM_MESSAGE_MAX];
    struct talk talk;
    begin(true, 4, 4);
    assert_int_equal(scram(SASL_SCRAM_SHA_256, "n,,", "carol", "secret", NULL, NULL), LOGIN_PASSED);
    assert_int_equal(scram(SASL_SCRAM_SHA_256, "y,,", "CAROL@example.org", "secret", NULL, NULL),
                     LOGIN_PASSED);
    assert_int_equal(
        scram(SASL_SCRAM_SHA_256_PLUS, "p=tls-exporter,,", "carol", "secret", binding, NULL),
        LOGIN_PASSED);
    assert_int_equal(scram(SASL_SCRAM_SHA_256_PLUS, "p=tls-exporter,,", "carol", "secret",
                           (const uint8_t[SCRAM_BINDING_LEN]){8}, NULL),
                     LOGIN_REFUSED);
    assert_int_equal(scram(SASL_SCRAM_SHA_256, "n,,", "carol", "wrong", NULL, NULL), LOGIN_REFUSED);
    assert_int_equal(scram(SASL_SCRAM_SHA_256, "n,a=alice,", "carol", "secret", NULL, NULL),
                     LOGIN_REFUSED);
    /* Nobody, and somebody whose password is stored otherwise: a challenge like all others. */
    assert_int_equal(scram(SASL_SCRAM_SHA_256, "n,,", "nobody", "secret", NULL, one),
                     LOGIN_REFUSED);
    assert_int_equal(scram(SASL_SCRAM_SHA_256, "n,,", "nobody", "secret", NULL, two),
                     LOGIN_REFUSED);
    assert_string_equal(one, two);
    assert_non_null(strstr(one, ",i=4096"));
    assert_int_equal(scram(SASL_SCRAM_SHA_256, "n,,", "alice", "secret", NULL, alice),
                     LOGIN_REFUSED);
    assert_string_not_equal(one, alice);
    assert_int_equal(strlen(one), strlen(alice));
    assert_int_equal(snapshot().hashed, 0);

    struct bytes first = BYTES("n,,n=carol");
    start(&talk, SASL_SCRAM_SHA_256, &first);
    assert_int_equal(await(&talk), LOGIN_MALFORMED);
    login_end(talk.login);
    first = BYTES("n,,n=carol,r=abc");
    start(&talk, SASL_SCRAM_SHA_256, &first);
    assert_int_equal(await(&talk), LOGIN_CHALLENGE);
    login_respond(talk.login, BYTES("nonsense"));
    assert_int_equal(await(&talk), LOGIN_MALFORMED);
    login_end(talk.login);
    end();
}

/* A reload while a helper compares: the job has copies, and the answer is about the users of now.
 */
static void test_reload(void **state)
{
    (void)state;
    struct talk same, changed, gone;
    const struct bytes alice = BYTES("\0alice\0secret"), bob = BYTES("\0bob\0secret"),
                       carol = BYTES("\0carol\0secret");
    begin(true, 4, 4);
    start(&same, SASL_PLAIN, &alice);
    start(&changed, SASL_PLAIN, &carol);
    start(&gone, SASL_PLAIN, &bob);
    struct users *after = make_users((const char *const[]){"carol:" SHA, "alice:" SHA, NULL});
    struct authenticator_rules rules = place.rules;
    rules.users = after;
    authenticator_configure(place.authenticator, &rules);
    users_free(place.users);
    place.users = after;
    assert_int_equal(await(&same), LOGIN_PASSED);
    assert_int_equal(await(&changed), LOGIN_REFUSED);
    assert_int_equal(await(&gone), LOGIN_REFUSED);
    login_end(same.login);
    login_end(changed.login);
    login_end(gone.login);
    assert_int_equal(authenticator_mechanisms(place.authenticator, true),
                     1u << SASL_PLAIN | 1u << SASL_LOGIN);
    /* No more authentication at all. */
    start(&same, SASL_PLAIN, &(struct bytes){BYTES("\0alice\0wrong").data, 12});
    authenticator_configure(place.authenticator, NULL);
    assert_int_equal(await(&same), LOGIN_UNAVAILABLE);
    login_end(same.login);
    assert_int_equal(plain(alice, "alice"), LOGIN_UNAVAILABLE);
    assert_int_equal(authenticator_mechanisms(place.authenticator, true), 0);
    end();
}

static bool all_back(struct turner *turner)
{
    (void)turner;
    return place.authenticator->logins.used == 0;
}

/* Who goes away while his password is compared is forgotten as soon as that is done. */
static void test_gone(void **state)
{
    (void)state;
    struct talk talk;
    const struct bytes message = BYTES("\0alice\0secret");
    begin(true, 4, 4);
    start(&talk, SASL_PLAIN, &message);
    assert_int_equal(talk.count, 0);
    login_end(talk.login);
    assert_int_equal(place.authenticator->logins.used, 1);
    assert_true(turner_run(place.turner, all_back, LATE_MS));
    assert_int_equal(talk.count, 0);
    start(&talk, SASL_SCRAM_SHA_256, NULL);
    login_end(talk.login);
    assert_int_equal(place.authenticator->logins.used, 0);
    end();
}

static void wait_for_post(struct helper_job *job)
{
    (void)job;
    CHECK(sem_post(&busy) == 0);
    while (sem_wait(&held) != 0)
        ;
}

static void ignore(struct helper_job *job)
{
    (void)job;
}

/* Nobody waits for the hashes of those who have gone before theirs began. */
static void test_gone_early(void **state)
{
    (void)state;
    struct talk talks[3], honest;
    const struct bytes message = BYTES("\0alice\0secret");
    begin(true, 4, 4);
    assert_int_equal(sem_init(&held, 0, 0), 0);
    assert_int_equal(sem_init(&busy, 0, 0), 0);
    struct helper_job jobs[2]; /* for the only helper, and the relief, which comes after a second */
    for (int i = 0; i < 2; i++) {
        jobs[i] = (struct helper_job){
            .run = wait_for_post, .done = ignore, .worker = &place.turner->worker};
        helpers_submit(place.helpers, &jobs[i]);
    }
    for (int i = 0; i < 2; i++)
        assert_int_equal(sem_wait(&busy), 0);
    for (int i = 0; i < 3; i++)
        start(&talks[i], SASL_PLAIN, &message);
    start(&honest, SASL_PLAIN, &message);
    for (int i = 0; i < 3; i++)
        login_end(talks[i].login);
    for (int i = 0; i < 2; i++)
        assert_int_equal(sem_post(&held), 0);
    assert_int_equal(await(&honest), LOGIN_PASSED);
    login_end(honest.login);
    assert_true(turner_run(place.turner, all_back, LATE_MS));
    assert_int_equal(snapshot().hashed, 1);
    for (int i = 0; i < 3; i++)
        assert_int_equal(talks[i].count, 0);
    end();
    sem_destroy(&held);
    sem_destroy(&busy);
}

static void test_too_many(void **state)
{
    (void)state;
    struct talk talks[4], more;
    const struct bytes message = BYTES("\0alice\0secret"), wrong = BYTES("\0alice\0wrong");
    begin(true, 2, 4);
    start(&talks[0], SASL_PLAIN, &wrong);
    start(&talks[1], SASL_PLAIN, &message);
    start(&talks[2], SASL_PLAIN, &message); /* hashes that wait */
    assert_int_equal(await(&talks[2]), LOGIN_UNAVAILABLE);
    start(&talks[3], SASL_LOGIN, NULL);
    assert_int_equal(await(&talks[3]), LOGIN_CHALLENGE);
    start(&more, SASL_LOGIN, NULL); /* exchanges */
    assert_null(more.login);
    assert_int_equal(more.count, 0);
    assert_int_equal(await(&talks[0]), LOGIN_REFUSED);
    assert_int_equal(await(&talks[1]), LOGIN_PASSED);
    for (int i = 0; i < 4; i++)
        login_end(talks[i].login);
    assert_int_equal(snapshot().unavailable, 2);
    end();
}

/* Nothing of what a client said stays behind. */
static void test_wiped(void **state)
{
    (void)state;
    begin(true, 4, 1);
    assert_int_equal(plain(BYTES("\0alice\0correct horse battery"), "alice"), LOGIN_REFUSED);
    struct blocks *logins = &place.authenticator->logins;
    assert_null(memmem(logins->memory, logins->stride, "horse", 5));
    assert_null(memmem(logins->memory, logins->stride, "YtiAQZ0lDRKzJzFi", 16));
    end();
}

/* Time, roughly: a name that nobody has takes as long as one of most. */
static void test_time(void **state)
{
    (void)state;
    uint64_t took[2] = {UINT64_MAX, UINT64_MAX};
    begin(false, 4, 4);
    for (int i = 0; i < 20; i++) {
        const struct bytes messages[2] = {BYTES("\0alice\0wrong"), BYTES("\0nobody\0wrong")};
        uint64_t before = clock_monotonic_us();
        (void)plain(messages[i % 2], i % 2 == 0 ? "alice" : "nobody");
        uint64_t now = clock_monotonic_us() - before;
        took[i % 2] = now < took[i % 2] ? now : took[i % 2];
    }
    assert_in_range(took[1], took[0] / 2, took[0] * 2);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),    cmocka_unit_test(test_challenges),
        cmocka_unit_test(test_scram),    cmocka_unit_test(test_reload),
        cmocka_unit_test(test_gone),     cmocka_unit_test(test_gone_early),
        cmocka_unit_test(test_too_many), cmocka_unit_test(test_wiped),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
