/* What gateways know together: what Redis is told and asked, and what becomes of its answers; right
 * ones, wrong ones, and none. Each runs with what this kernel can do and with what Linux 6.1 can.
 */
#include "gateway/policy/shared.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "tests/support/clients.h"
#include "tests/support/fake_redis.h"
#include "tests/support/twice.h"

enum { QUESTIONS = 4, WAIT_MS = 8000, TRIPLET = 77, NETWORK = 99 };

static const struct greylist_rules rules = {.delay_s = 300, .window_s = 7200, .keep_s = 86400};
static const struct rate_limits limits = {
    .per_minute = {[RATE_MESSAGES] = {10, 0}, [RATE_CONNECTIONS] = {5, 7}}
};

static struct {
    struct turner *turner;
    struct scene scene;
    struct shared_options options;
    struct shared *shared;
    struct shared_question questions[QUESTIONS];
    uint32_t answers[QUESTIONS];
    enum greylist_verdict verdicts[QUESTIONS];
    uint32_t wanted;
} desk;

static void on_turn(struct turner *turner)
{
    (void)turner;
    shared_turn(desk.shared);
}

static uint64_t next_us(struct turner *turner)
{
    (void)turner;
    return shared_next_us(desk.shared);
}

static void answered(struct shared_question *question, enum greylist_verdict verdict)
{
    size_t index = (size_t)(question - desk.questions);
    assert_int_equal(question->token, 0);
    assert_ptr_equal(question->user, &desk);
    desk.answers[index]++;
    desk.verdicts[index] = verdict;
}

static bool is_connected(struct turner *turner)
{
    (void)turner;
    return redis_is_connected(shared_redis(desk.shared));
}

static bool is_away(struct turner *turner)
{
    return !is_connected(turner);
}

static void start(void **state, const char *const *script)
{
    static const char *const closes[] = {NULL};
    memset(&desk, 0, sizeof(desk));
    for (int i = 0; i < SCENES_MAX; i++)
        desk.scene.scripts[i] = i == 0 ? script : closes;
    scene_start(&desk.scene);
    desk.options = (struct shared_options){
        .redis = {.timeout_ms = FAKE_REDIS_TIMEOUT_MS, .pending_max = 64},
        .prefix = "p",
        .rates = rates_new(1024),
        .greylist = greylist_new(1024),
    };
    memcpy(&desk.options.redis.address, &desk.scene.address, sizeof(desk.options.redis.address));
    desk.turner = turner_new(*state != NULL);
    desk.turner->on_turn = on_turn;
    desk.turner->next_us = next_us;
    desk.shared = shared_new(&desk.turner->worker, &desk.options, NULL);
    assert_non_null(desk.shared);
    for (int i = 0; i < QUESTIONS; i++)
        desk.questions[i] = (struct shared_question){.answered = answered, .user = &desk};
    assert_true(turner_run(desk.turner, is_connected, WAIT_MS));
}

/* stop: `fault`: what the server may have missed. */
static void stop(void)
{
    shared_free(desk.shared);
    turner_free(desk.turner);
    scene_stop(&desk.scene);
    free(desk.scene.text);
    rates_free(desk.options.rates);
    greylist_free(desk.options.greylist);
    assert_string_equal(desk.scene.fault, "");
}

static bool has_answer(struct turner *turner)
{
    (void)turner;
    return desk.answers[desk.wanted] > 0;
}

static enum greylist_verdict wait_for(uint32_t index)
{
    desk.wanted = index;
    assert_true(turner_run(desk.turner, has_answer, WAIT_MS));
    assert_int_equal(desk.answers[index], 1);
    return desk.verdicts[index];
}

static void ask(uint32_t index)
{
    assert_true(shared_ask(desk.shared, &rules, &desk.questions[index], TRIPLET, NETWORK));
    assert_int_equal(desk.answers[index], 0); /* later, never from within */
}

/* --- the greylist --- */

#define ANSWERS(n, t) "s " n "+OK\r\n" t

static void one_answer(void **state, const char *says, enum greylist_verdict verdict, bool passes)
{
    const char *const *script = SCRIPT(GREET, HEAR_QUESTION, says, HEAR_PASSED, "S +OK", "E");
    start(state, passes ? script : SCRIPT(GREET, HEAR_QUESTION, says, "E"));
    ask(0);
    assert_int_equal(wait_for(0), verdict);
    uint64_t now_s = clock_wall_us() / 1000000;
    enum greylist_verdict knows = greylist_knows(desk.options.greylist, &rules, NETWORK, now_s);
    bool known = verdict == GREYLIST_KNOWN || verdict == GREYLIST_PASSED;
    assert_int_equal(knows, known ? GREYLIST_KNOWN : GREYLIST_FIRST);
    (void)turner_run(desk.turner, NULL, 20);
    stop();
}

static void test_verdicts(void **state)
{
    char old[64], young[64], first[64], gone[64], to_come[64];
    uint64_t now_s = clock_wall_us() / 1000000;
    snprintf(old, sizeof(old), "s $-1\r\n$-1\r\n$10\r\n%llu\r\n", (unsigned long long)now_s - 301);
    snprintf(young, sizeof(young), "s $-1\r\n$-1\r\n$10\r\n%llu\r\n",
             (unsigned long long)now_s - 100);
    snprintf(first, sizeof(first), "s $-1\r\n+OK\r\n$10\r\n%llu\r\n", (unsigned long long)now_s);
    snprintf(gone, sizeof(gone), "s $-1\r\n$-1\r\n$10\r\n%llu\r\n",
             (unsigned long long)now_s - 9000);
    snprintf(to_come, sizeof(to_come), "s $-1\r\n$-1\r\n$10\r\n%llu\r\n",
             (unsigned long long)now_s + 5000);
    one_answer(state, "s $1\r\n1\r\n+OK\r\n$-1\r\n", GREYLIST_KNOWN, false);
    one_answer(state, old, GREYLIST_PASSED, true);
    one_answer(state, young, GREYLIST_EARLY, false);
    one_answer(state, first, GREYLIST_EARLY, false);
    one_answer(state, gone, GREYLIST_EARLY, false);
    one_answer(state, to_come, GREYLIST_EARLY, false);
    one_answer(state, "s $-1\r\n+OK\r\n$-1\r\n", GREYLIST_FIRST, false);
    one_answer(state, "s -ERR\r\n-ERR\r\n-ERR\r\n", GREYLIST_FIRST, false);
    one_answer(state, "s $-1\r\n+OK\r\n$5\r\nhello\r\n", GREYLIST_FIRST, false);
    one_answer(state, "s $-1\r\n+OK\r\n$20\r\n18446744073709551616\r\n", GREYLIST_FIRST, false);
    one_answer(state, "s $-1\r\n+OK\r\n$0\r\n\r\n", GREYLIST_FIRST, false);
    one_answer(state, "s :1\r\n+OK\r\n:-5\r\n", GREYLIST_KNOWN, false);
    one_answer(state, "s $-1\r\n:1\r\n:1700000000\r\n", GREYLIST_FIRST, false);
}

/* The server goes before the last answer, or is silent: the local verdict, once, and in time. */
static void test_no_answer(void **state)
{
    start(state, SCRIPT(GREET, HEAR_QUESTION, "s $-1\r\n+OK\r\n"));
    ask(0);
    assert_int_equal(wait_for(0), GREYLIST_FIRST);
    assert_false(shared_ask(desk.shared, &rules, &desk.questions[1], TRIPLET, NETWORK));
    shared_passed(desk.shared, &rules, NETWORK); /* nobody hears it */
    assert_int_equal(desk.answers[1], 0);
    stop();
    start(state, SCRIPT(GREET, HEAR_QUESTION, HEAR_QUESTION, "E"));
    uint64_t begin_us = clock_monotonic_us();
    ask(0);
    ask(1);
    assert_int_equal(wait_for(0), GREYLIST_FIRST);
    assert_int_equal(wait_for(1), GREYLIST_FIRST);
    assert_in_range((clock_monotonic_us() - begin_us) / 1000, FAKE_REDIS_TIMEOUT_MS - 20,
                    FAKE_REDIS_TIMEOUT_MS + 500);
    stop();
}

/* Taken back, at every moment; its place may be somebody else's by the time the answer comes. */
static void test_cancel(void **state)
{
    start(state, SCRIPT(GREET, HEAR_QUESTION, HEAR_QUESTION, "s $1\r\n1\r\n+OK\r\n$-1\r\n",
                        "s $-1\r\n+OK\r\n$-1\r\n", "E"));
    shared_cancel(desk.shared, &desk.questions[0]); /* at rest */
    ask(0);
    shared_cancel(desk.shared, &desk.questions[0]);
    shared_cancel(desk.shared, &desk.questions[0]);
    memset(&desk.questions[0], 0xff, sizeof(desk.questions[0])); /* as if it were gone */
    ask(1);                                                      /* in the same place */
    assert_int_equal(wait_for(1), GREYLIST_FIRST); /* not what the first one's answer was */
    assert_int_equal(desk.answers[0], 0);
    shared_cancel(desk.shared, &desk.questions[1]);
    stop();
    start(state, SCRIPT(GREET, HEAR_QUESTION, "E"));
    ask(0); /* out when all ends */
    (void)turner_run(desk.turner, NULL, 10);
    stop();
    assert_int_equal(desk.answers[0], 0);
}

/* More than Redis may be asked at a time: the local verdict, and all others are answered. */
static void test_too_many(void **state)
{
    struct shared_question more[64];
    uint32_t asked = 0;
    start(state, SCRIPT(GREET, "W 1"));
    for (int i = 0; i < 64; i++) {
        more[i] = (struct shared_question){.answered = answered, .user = &desk};
        asked += shared_ask(desk.shared, &rules, &more[i], (uint64_t)i + 1, NETWORK);
    }
    assert_int_equal(asked, 64 / 3); /* of 64 commands; a question is three */
    for (int i = 0; i < 64; i++)
        shared_cancel(desk.shared, &more[i]);
    stop();
}

/* --- rates --- */

#define HEAR_COUNT(key, count, answers)                                                            \
    "C *6", "C $3", "C SET", "c $", "c p:rate:" key ":", "C $1", "C 0", "C $2", "C NX", "C $2",    \
        "C EX", "C $3", "C 120", "C *3", "C $6", "C INCRBY", "c $", "c p:rate:" key ":", "c $",    \
        "C " count, "C *3", "C $6", "C EXPIRE", "c $", "c p:rate:" key ":", "C $3", "C 120",       \
        answers

#define HEAR_SOME_COUNT                                                                            \
    "c *6", "c $", "c SET", "c $", "c p:rate:connections:192.0.2.", "c $", "c 0", "c $", "c NX",   \
        "c $", "c EX", "c $", "c 120", "c *3", "c $", "c INCRBY", "c $",                           \
        "c p:rate:connections:192.0.2.", "c $", "C 1", "c *3", "c $", "c EXPIRE", "c $",           \
        "c p:rate", "c $", "c 120"

static uint64_t wanted_answers;

static bool has_answers(struct turner *turner)
{
    struct redis_snapshot counts;
    (void)turner;
    redis_snapshot(shared_redis(desk.shared), &counts);
    return counts.answered + counts.errors >= wanted_answers;
}

/* told waits until so many commands are answered; the first one was the PING. */
static void told(uint64_t count)
{
    wanted_answers = 1 + count;
    assert_true(turner_run(desk.turner, has_answers, WAIT_MS));
}

/* within_a_minute: what is closed opens again when the minute of the clock is over. */
static void within_a_minute(void)
{
    while (clock_wall_us() / 1000000 % 60 > 50)
        usleep(100000);
}

static enum rate_verdict take(enum rate_kind kind, const union address_any *peer)
{
    return rates_take(desk.options.rates, &limits, kind, peer, clock_monotonic_us());
}

static void test_counts(void **state)
{
    union address_any here = client_at("192.0.2.1:25"), there = client_at("[2001:db8:1:2::9]:25");
    within_a_minute();
    start(state,
          SCRIPT(GREET, HEAR_COUNT("messages:192.0.2.1", "3", "s +OK\r\n:10\r\n:1\r\n"),
                 HEAR_COUNT("messages:192.0.2.1", "1", "s $-1\r\n:11\r\n:1\r\n"),
                 HEAR_COUNT("messages:2001:db8:1:2::/64", "1", "s -ERR\r\n-ERR\r\n-ERR\r\n"), "E"));
    for (int i = 0; i < 3; i++)
        shared_count(desk.shared, &limits, RATE_MESSAGES, &here);
    told(3);
    assert_int_equal(take(RATE_MESSAGES, &here), RATE_OK); /* ten of ten */
    shared_count(desk.shared, &limits, RATE_MESSAGES, &here);
    told(6);
    assert_int_equal(take(RATE_MESSAGES, &here), RATE_ADDRESS_OVER);
    assert_int_equal(take(RATE_CONNECTIONS, &here), RATE_OK);
    shared_count(desk.shared, &limits, RATE_MESSAGES, &there);
    told(9);
    assert_int_equal(take(RATE_MESSAGES, &there), RATE_OK);
    stop();
}

/* Two bounds of one kind are two keys, in any order. */
static void test_networks(void **state)
{
    union address_any here = client_at("192.0.2.1:25"), near = client_at("192.0.2.200:25");
    within_a_minute();
    start(state, SCRIPT(GREET, HEAR_SOME_COUNT, HEAR_SOME_COUNT,
                        "s +OK\r\n:8\r\n:1\r\n+OK\r\n:8\r\n:1\r\n", "E"));
    shared_count(desk.shared, &limits, RATE_CONNECTIONS, &here);
    told(6);
    assert_int_equal(take(RATE_CONNECTIONS, &here), RATE_ADDRESS_OVER);
    assert_int_equal(take(RATE_CONNECTIONS, &near), RATE_NETWORK_OVER);
    stop();
}

/* Nobody is there: nothing is gathered, and nothing closes. */
static void test_counts_away(void **state)
{
    union address_any here = client_at("192.0.2.1:25");
    start(state, SCRIPT(GREET, "W 5"));
    assert_true(turner_run(desk.turner, is_away, WAIT_MS));
    for (int i = 0; i < 10000; i++)
        shared_count(desk.shared, &limits, RATE_MESSAGES, &here);
    (void)turner_run(desk.turner, NULL, 60);
    assert_int_equal(take(RATE_MESSAGES, &here), RATE_OK);
    stop();
}

/* More networks, and more counts under way, than there is room for: told early, or not at all. */
static void test_flood(void **state)
{
    start(state, SCRIPT(GREET, "W 900"));
    for (uint32_t i = 0; i < 20000; i++) {
        union address_any peer = client_at("10.0.0.1:25");
        peer.v4.sin_addr.s_addr = htonl(0x0a000000u + i);
        shared_count(desk.shared, &limits, RATE_MESSAGES, &peer);
        if (i % 100 == 0)
            (void)turner_run(desk.turner, NULL, 0);
    }
    (void)turner_run(desk.turner, NULL, FAKE_REDIS_TIMEOUT_MS + 100);
    struct redis_snapshot counts;
    redis_snapshot(shared_redis(desk.shared), &counts);
    assert_true(counts.away > 0);
    stop();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(test_verdicts), TWICE(test_no_answer), TWICE(test_cancel),      TWICE(test_too_many),
        TWICE(test_counts),   TWICE(test_networks),  TWICE(test_counts_away), TWICE(test_flood),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
