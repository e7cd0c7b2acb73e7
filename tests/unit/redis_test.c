/* The client of Redis: what a good server hears and what becomes of its answers; and that a bad one
 * can do no more than be given up, in time. Each runs with what this kernel can do and with what
 * Linux 6.1 can. */
#include "gateway/io/redis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "tests/support/fake_redis.h"
#include "tests/support/twice.h"

static struct fake_redis fake;

static struct redis_snapshot snapshot(void)
{
    struct redis_snapshot out;
    redis_snapshot(fake.redis, &out);
    return out;
}

static void test_answers(void **state)
{
    char long_text[REDIS_TEXT_MAX + 8], line[REDIS_TEXT_MAX + 16];
    memset(long_text, 'y', sizeof(long_text));
    snprintf(line, sizeof(line), "S $%d\r\n%.*s", REDIS_TEXT_MAX + 1, REDIS_TEXT_MAX + 1,
             long_text);
    fake_redis_start(&fake, state,
                     SCRIPT("C *3", "C $4", "C AUTH", "C $4", "C anna", "C $7", "C geheim!",
                            "S +OK", HEAR_2("SELECT", "3"), "S +OK", GREET, HEAR_2("GET", "a"),
                            HEAR_2("GET", "b"), HEAR_2("GET", "c"), HEAR_2("GET", "d"), "D",
                            HEAR_2("GET", "e"), HEAR_2("GET", "f"), HEAR_2("GET", "g"),
                            "s $5\r\nhel\r\n\r\n:42\r\n$-1\r\n-NOPERM this user\r\n+OK\r\n:-7\r\n",
                            line, "E"),
                     NULL);
    fake.options.user = "anna";
    fake.options.password = "geheim!";
    fake.options.database = 3;
    fake_redis_begin(&fake);
    assert_string_equal(redis_why(fake.redis), "");
    struct fake_answer *answers[7];
    for (int i = 0; i < 7; i++)
        answers[i] = fake_redis_ask(&fake, (char[]){(char)('a' + i), '\0'});
    fake_redis_wait(&fake, answers[6]);
    for (int i = 0; i < 6; i++)
        assert_int_equal(answers[i]->times, 1);
    assert_int_equal(answers[0]->status, REDIS_OK);
    assert_string_equal(answers[0]->text, "hel\r\n");
    assert_int_equal(answers[1]->number, 42);
    assert_false(answers[1]->has_text);
    assert_int_equal(answers[2]->status, REDIS_NIL);
    assert_int_equal(answers[3]->status, REDIS_ERROR);
    assert_string_equal(redis_why(fake.redis), ""); /* the long answer has no name */
    assert_string_equal(answers[4]->text, "OK");
    assert_int_equal(answers[5]->number, -7);
    assert_int_equal(answers[6]->status, REDIS_ERROR); /* too long to be one of ours */
    struct redis_snapshot counts = snapshot();
    assert_int_equal(counts.asked, 3 + 7);
    assert_int_equal(counts.answered, 3 + 5);
    assert_int_equal(counts.errors, 2);
    assert_int_equal(counts.connects, 1);
    assert_int_equal(counts.failures + counts.away, 0);
    fake_redis_stop(&fake);
    assert_string_equal(fake.scene.fault, "");
}

static void test_unix_socket(void **state)
{
    char path[64];
    snprintf(path, sizeof(path), "/tmp/ringmx-redis-%d", getpid());
    unlink(path);
    fake_redis_start(&fake, state, SCRIPT(GREET, HEAR_2("GET", "a"), "S :1", "E"), NULL);
    scene_stop(&fake.scene);
    free(fake.scene.text);
    const char *const *script = fake.scene.scripts[0];
    memset(&fake.scene, 0, sizeof(fake.scene));
    for (int i = 0; i < SCENES_MAX; i++)
        fake.scene.scripts[i] = script;
    fake.scene.path = fake.options.path = path;
    fake.options.address = (union address_any){.any = {.sa_family = AF_UNSPEC}};
    scene_start(&fake.scene);
    fake_redis_begin(&fake);
    fake_redis_wait(&fake, fake_redis_ask(&fake, "a"));
    assert_int_equal(fake.answers[0].number, 1);
    fake_redis_stop(&fake);
    assert_string_equal(fake.scene.fault, "");
    unlink(path);
}

/* away: a question is answered at once. */
static void away_at_once(void)
{
    struct fake_answer *answer = fake_redis_ask(&fake, "a");
    assert_int_equal(answer->times, 1);
    assert_int_equal(answer->status, REDIS_AWAY);
}

static void test_wrong_password(void **state)
{
    const char *const *script =
        SCRIPT(HEAR_2("AUTH", "secret"), "S -WRONGPASS secret is no password", "E");
    fake_redis_start(&fake, state, script, script);
    fake.options.password = "secret";
    fake_redis_until(&fake, "AUTH was answered: WRONGPASS");
    away_at_once();
    fake_redis_run(&fake, 1000);
    struct redis_snapshot counts = snapshot();
    assert_in_range(counts.failures, 2, 5); /* after 0, 100, 300, 700 ms */
    assert_int_equal(counts.connects, 0);
    fake_redis_stop(&fake);
}

/* One that loads its data, or has a connection too many, is asked again later. */
static void test_not_yet(void **state)
{
    fake_redis_start(&fake, state, SCRIPT(HEAR_1("PING"), "S -LOADING dataset", "E"),
                     SCRIPT(GREET, HEAR_2("GET", "a"), "S :1", "E"));
    fake_redis_until(&fake, "PING was answered: LOADING");
    fake_redis_begin(&fake);
    fake_redis_wait(&fake, fake_redis_ask(&fake, "a"));
    assert_int_equal(fake.answers[0].number, 1);
    fake_redis_stop(&fake);
}

static void test_nobody_there(void **state)
{
    fake_redis_start(&fake, state, SCRIPT("E"), NULL);
    scene_stop(&fake.scene);
    fake_redis_until(&fake, "connecting: Connection refused");
    away_at_once();
    redis_free(fake.redis);
    fake.redis = NULL;
    fake.options.path = "/nonexistent/redis.sock";
    fake_redis_until(&fake, "connecting: No such file or directory");
    away_at_once();
    redis_free(fake.redis);
    turner_free(fake.turner);
    free(fake.scene.text);
}

/* A process that is stopped: the kernel takes the connection, and nobody ever speaks. */
static void test_silent_from_the_start(void **state)
{
    fake_redis_start(&fake, state, SCRIPT(HEAR_1("PING"), "E"), SCRIPT(HEAR_1("PING"), "E"));
    fake_redis_run(&fake, FAKE_REDIS_TIMEOUT_MS / 2);
    assert_false(redis_is_connected(fake.redis));
    away_at_once();
    fake_redis_until(&fake, "no answer in time");
    fake_redis_stop(&fake);
}

static void test_silent_later(void **state)
{
    fake_redis_start(&fake, state, SCRIPT(GREET, HEAR_2("GET", "a"), "S :1", "B 44", "E"),
                     SCRIPT("E"));
    fake_redis_begin(&fake);
    fake_redis_wait(&fake, fake_redis_ask(&fake, "a"));
    uint64_t begin_us = clock_monotonic_us();
    struct fake_answer *first = fake_redis_ask(&fake, "b");
    struct fake_answer *second = fake_redis_ask(&fake, "c");
    fake_redis_wait(&fake, second);
    assert_int_equal(first->times, 1);
    assert_int_equal(first->status, REDIS_AWAY);
    assert_int_equal(second->status, REDIS_AWAY);
    uint64_t ms = (second->at_us - begin_us) / 1000;
    assert_in_range(ms, FAKE_REDIS_TIMEOUT_MS - 20, FAKE_REDIS_TIMEOUT_MS * 4);
    away_at_once(); /* the time-out is paid once */
    fake_redis_stop(&fake);
}

/* What a server says, that ends the connection and no more; and why. */
static void test_nonsense(void **state)
{
    static const struct {
        const char *says, *why;
    } cases[] = {
        {"s :1\r\n:2\r\n",                    "it said what nobody had asked"},
        {"s *3\r\n$7\r\nmessage\r\n",         "it said what nobody had asked"},
        {"s *0\r\n",                          "it said what nobody had asked"},
        {"s *2147483647\r\n:1\r\n",           "it said what nobody had asked"},
        {"s *-1\r\n:2\r\n",                   "it said what nobody had asked"},
        {"s >2\r\n+a\r\n+b\r\n",              "it does not speak Redis"      },
        {"s HTTP/1.1 400 Bad Request\r\n",    "it does not speak Redis"      },
        {"s :99999999999999999999999999\r\n", "it does not speak Redis"      },
        {"s $-2\r\n",                         "it does not speak Redis"      },
        {"s $99999999999999999999\r\n",       "it does not speak Redis"      },
        {"s $1000000000\r\n",                 "an answer is too long"        },
        {"s +",                               "an answer is too long"        },
        {"s $10\r\nhel",                      "no answer in time"            },
        {"W 1",                               "it closed the connection"     },
        {"R",                                 "Connection reset by peer"     },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool flood = strstr(cases[i].why, "too long") != NULL;
        bool late = strstr(cases[i].why, "in time") != NULL;
        fake_redis_start(&fake, state,
                         SCRIPT(GREET, HEAR_2("GET", "a"), cases[i].says,
                                flood  ? "Z 1000000"
                                : late ? "W 800"
                                       : "W 20"),
                         SCRIPT("W 1"));
        fake_redis_begin(&fake);
        struct fake_answer *answer = fake_redis_ask(&fake, "a");
        fake_redis_wait(&fake, answer);
        if (i > 0 && i != 4)
            assert_int_equal(answer->status, REDIS_AWAY);
        fake_redis_until(&fake, cases[i].why);
        away_at_once();
        fake_redis_stop(&fake);
    }
}

/* Unasked, in the midst of silence. */
static void test_unasked(void **state)
{
    fake_redis_start(&fake, state, SCRIPT(GREET, "W 30", "S +hello", "E"), SCRIPT(GREET, "E"));
    fake_redis_begin(&fake);
    fake_redis_until(&fake, "it said what nobody had asked");
    fake_redis_begin(&fake);
    assert_string_equal(redis_why(fake.redis), "");
    assert_int_equal(snapshot().connects, 2);
    fake_redis_stop(&fake);
}

/* Some answers have come when it closes: the others are AWAY, each once. */
static void test_half(void **state)
{
    fake_redis_start(&fake, state,
                     SCRIPT(GREET, HEAR_2("GET", "a"), HEAR_2("GET", "b"), HEAR_2("GET", "c"),
                            "s :1\r\n:2\r\n:"),
                     NULL);
    fake_redis_begin(&fake);
    struct fake_answer *a = fake_redis_ask(&fake, "a"), *b = fake_redis_ask(&fake, "b");
    struct fake_answer *c = fake_redis_ask(&fake, "c");
    fake_redis_wait(&fake, c);
    assert_int_equal(a->number, 1);
    assert_int_equal(b->number, 2);
    assert_int_equal(c->status, REDIS_AWAY);
    fake_redis_stop(&fake);
}

static void test_too_many(void **state)
{
    fake_redis_start(&fake, state, SCRIPT(GREET, "E"), NULL);
    fake_redis_begin(&fake);
    for (uint32_t i = 0; i < fake.options.pending_max; i++)
        assert_int_equal(fake_redis_ask(&fake, "a")->times, 0);
    away_at_once();
    assert_true(redis_is_connected(fake.redis)); /* the server is not to blame */
    fake_redis_run(&fake, FAKE_REDIS_TIMEOUT_MS + 50);
    for (uint32_t i = 0; i < fake.options.pending_max; i++)
        assert_int_equal(fake.answers[i].times, 1);
    fake_redis_stop(&fake);
}

/* A server that does not read: what does not fit is AWAY at once, the rest in time. */
static void test_does_not_read(void **state)
{
    static char word[200000];
    memset(word, 'w', sizeof(word) - 1);
    fake_redis_start(&fake, state, SCRIPT(GREET, "W 1200"), NULL);
    fake.options.pending_max = 1000;
    fake_redis_begin(&fake);
    uint32_t at_once = 0;
    for (int turn = 0; turn < 30; turn++) {
        for (int i = 0; i < 2; i++) /* the second one has no room in this turn */
            at_once += fake_redis_ask(&fake, word)->times;
        fake_redis_run(&fake, 1);
    }
    assert_in_range(at_once, 30, 59);
    fake_redis_run(&fake, FAKE_REDIS_TIMEOUT_MS + 50);
    for (uint32_t i = 0; i < fake.asked; i++) {
        assert_int_equal(fake.answers[i].times, 1);
        assert_int_equal(fake.answers[i].status, REDIS_AWAY);
    }
    fake_redis_stop(&fake);
}

/* Nobody asks for long: the client looks whether the server is still there. */
static void test_alive(void **state)
{
    fake_redis_start(&fake, state, SCRIPT(GREET, HEAR_1("PING"), "W 2000"), NULL);
    fake_redis_begin(&fake);
    fake_redis_until(&fake, "no answer in time");
    fake_redis_stop(&fake);
}

/* Freed with questions out: nobody hears of them. */
static void test_freed(void **state)
{
    fake_redis_start(&fake, state, SCRIPT(GREET, "W 20"), NULL);
    fake_redis_begin(&fake);
    (void)fake_redis_ask(&fake, "a");
    fake_redis_stop(&fake);
    assert_int_equal(fake.answers[0].times, 0);
    fake_redis_start(&fake, state, SCRIPT("W 20"), NULL);
    fake_redis_run(&fake, 0); /* connecting */
    fake_redis_stop(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(test_answers),          TWICE(test_unix_socket),
        TWICE(test_wrong_password),   TWICE(test_not_yet),
        TWICE(test_nobody_there),     TWICE(test_silent_from_the_start),
        TWICE(test_silent_later),     TWICE(test_nonsense),
        TWICE(test_unasked),          TWICE(test_half),
        TWICE(test_too_many),         TWICE(test_does_not_read),
        cmocka_unit_test(test_alive), TWICE(test_freed),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
