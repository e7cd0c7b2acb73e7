/* The client of Redis against a server that does at random what a server should not: each question
 * is answered once and in time, and nothing else comes of it. */
#include "gateway/io/redis.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "tests/support/turner.h"

enum {
    ROUNDS = 40, /* with a client each, since pauses grow */
    ROUND_MS = 150,
    TIMEOUT_MS = 40,
    SLACK_MS = 400,
    ASKED_MAX = 1 << 20,
    MISCHIEF = 30, /* one answer in so many */
};

static struct {
    int listener;
    uint64_t random;
    uint64_t mischief; /* what was done, in all */
} server;

static struct {
    struct redis *redis;
    uint64_t random;
    uint32_t asked, answered, by_server;
    uint64_t slowest_us;
    uint64_t asked_us[ASKED_MAX]; /* 0: answered */
} client;

static uint32_t chance(uint64_t *random, uint32_t below)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*random >> 33) % below;
}

/* --- the server --- */

static bool say(int descriptor, const void *data, size_t len)
{
    return send(descriptor, data, len, MSG_NOSIGNAL) == (ssize_t)len;
}

static bool say_text(int descriptor, const char *text)
{
    return say(descriptor, text, strlen(text));
}

/* misbehave: false ends the connection. */
static bool misbehave(int descriptor)
{
    char octets[5000];
    size_t len = 1 + chance(&server.random, sizeof(octets));
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    server.mischief++;
    switch (chance(&server.random, 9)) {
    case 0: return say_text(descriptor, "*2\r\n:1\r\n*1\r\n$1\r\nx\r\n");
    case 1: return say_text(descriptor, ":1\r\n:2\r\n+three\r\n");
    case 2: usleep(TIMEOUT_MS * 1500); return true;
    case 3: return say_text(descriptor, "$70000\r\n");
    case 4:
        return say_text(descriptor, "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n");
    case 5: return false;
    case 6: setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)); return false;
    case 7:
        for (size_t i = 0; i < len; i++)
            octets[i] = "\r\n*$:+-0123456789x"[chance(&server.random, 18)];
        return say(descriptor, octets, len);
    default:
        for (size_t i = 0; i < len; i++)
            octets[i] = (char)chance(&server.random, 256);
        return say(descriptor, octets, len);
    }
}

static bool answer(int descriptor, bool ping)
{
    static const char *const answers[] = {
        ":1\r\n",     "$-1\r\n", "$10\r\n1234567890\r\n",    "-ERR no\r\n",
        "$0\r\n\r\n", "+OK\r\n", ":-9223372036854775808\r\n"};
    if (chance(&server.random, MISCHIEF) == 0)
        return misbehave(descriptor);
    const char *text =
        ping ? "+PONG\r\n" : answers[chance(&server.random, sizeof(answers) / sizeof(answers[0]))];
    size_t first = chance(&server.random, (uint32_t)strlen(text));
    if (chance(&server.random, 10) > 0)
        return say_text(descriptor, text);
    return (first == 0 || say(descriptor, text, first)) && say_text(descriptor, text + first);
}

static void serve(int descriptor)
{
    char in[4096];
    ssize_t len;
    struct timeval patience = {.tv_sec = 2};
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    while ((len = recv(descriptor, in, sizeof(in), 0)) > 0)
        for (ssize_t i = 0; i < len; i++) /* each command has one octet of these */
            if ((in[i] == 'X' || in[i] == 'I') && !answer(descriptor, in[i] == 'I'))
                return;
}

static void *run_server(void *unused)
{
    (void)unused;
    int descriptor;
    while ((descriptor = accept4(server.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        serve(descriptor);
        close(descriptor);
    }
    return NULL;
}

/* --- the client --- */

static void answered(void *user, uint64_t token, const struct redis_answer *given)
{
    (void)user;
    CHECK(token < client.asked && client.asked_us[token] != 0);
    CHECK(given->text == NULL || given->len <= REDIS_TEXT_MAX);
    uint64_t took_us = clock_monotonic_us() - client.asked_us[token];
    client.slowest_us = took_us > client.slowest_us ? took_us : client.slowest_us;
    client.asked_us[token] = 0;
    client.answered++;
    client.by_server += given->status != REDIS_AWAY;
}

static void on_turn(struct turner *turner)
{
    (void)turner;
    for (uint32_t i = chance(&client.random, 4); i > 0 && client.asked < ASKED_MAX; i--) {
        const char *words[] = {"X", "key"};
        const size_t lens[] = {1, 3};
        client.asked_us[client.asked] = clock_monotonic_us();
        client.asked++;
        redis_ask(client.redis, words, lens, 2, answered, NULL, client.asked - 1);
    }
    redis_turn(client.redis);
}

static uint64_t next_us(struct turner *turner)
{
    uint64_t next = redis_next_us(client.redis);
    uint64_t soon = turner->worker.now_us + 1000;
    return next < soon ? next : soon;
}

/* forget_open returns how many questions have no answer yet: they will have none. */
static uint32_t forget_open(void)
{
    uint32_t open = 0;
    for (uint32_t i = 0; i < client.asked; i++) {
        open += client.asked_us[i] != 0;
        client.asked_us[i] = 0;
    }
    return open;
}

static void test_random(void **state)
{
    (void)state;
    pthread_t thread;
    union address_any address = {.v4 = {.sin_family = AF_INET}};
    const char *seed = getenv("SEED");
    server.random = seed != NULL ? strtoull(seed, NULL, 10) : clock_wall_us();
    client.random = server.random ^ 77;
    print_message("SEED=%llu\n", (unsigned long long)server.random);
    address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.listener = listener_open(&address);
    assert_true(server.listener >= 0);
    assert_int_equal(fcntl(server.listener, F_SETFL, 0), 0); /* its thread waits */
    assert_int_equal(pthread_create(&thread, NULL, run_server, NULL), 0);
    struct turner *turner = turner_new(false);
    struct redis_options options = {
        .address = address, .timeout_ms = TIMEOUT_MS, .pending_max = 64};
    turner->on_turn = on_turn;
    turner->next_us = next_us;
    uint64_t failures = 0;
    uint32_t dropped = 0;
    for (int round = 0; round < ROUNDS; round++) {
        struct redis_snapshot counts;
        client.redis = redis_new(&turner->worker, &options);
        assert_non_null(client.redis);
        (void)turner_run(turner, NULL, ROUND_MS);
        redis_snapshot(client.redis, &counts);
        failures += counts.failures;
        assert_int_equal(client.asked, client.answered + dropped + forget_open());
        dropped = client.asked - client.answered;
        redis_free(client.redis);
    }
    turner_free(turner);
    shutdown(server.listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(server.listener);
    print_message("%u asked, %u answered, %u of them by the server, %llu times wrong; %llu "
                  "connections, slowest %llu us\n",
                  client.asked, client.answered, client.by_server,
                  (unsigned long long)server.mischief, (unsigned long long)failures,
                  (unsigned long long)client.slowest_us);
    assert_true(client.by_server > 1000 && server.mischief > ROUNDS && failures > ROUNDS);
    assert_in_range(client.slowest_us, 0, (TIMEOUT_MS + SLACK_MS) * 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
