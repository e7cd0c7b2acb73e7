/* Worker and streams over real sockets: the echo server of tests/support in a thread, and clients
 * that do what clients do. Every test ends with the same question: has everything come home? Each
 * runs twice, with what this kernel can do and with what Linux 6.1 can. */
#include "gateway/io/worker.h"

#include "gateway/base/clock.h"
#include "tests/support/descriptors.h"
#include "tests/support/echo.h"
#include "tests/support/twice.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmocka.h>

static struct echo *start(void **state, struct echo_options options)
{
    options.baseline = *state != NULL;
    return echo_start(&options);
}

static void stop(struct echo *echo)
{
    assert_string_equal(echo_stop(echo), "");
}

/* noise fills `out` with octets that are no commands, the same each time. */
static void noise(uint8_t *out, size_t len)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\r\n";
    uint32_t random = 1;
    for (size_t i = 0; i < len; i++) {
        random = random * 1664525 + 1013904223;
        out[i] = (uint8_t)letters[(random >> 16) % (sizeof(letters) - 1)];
    }
}

static void expect(int descriptor, const char *text)
{
    char got[64] = "";
    assert_int_equal(socket_read(descriptor, got, strlen(text)), strlen(text));
    assert_string_equal(got, text);
}

/* expect_end: the peer's farewell, in order: no reset. */
static void expect_end(int descriptor)
{
    char octet;
    assert_int_equal(socket_read(descriptor, &octet, 1), 0);
}

static void reset(int descriptor)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(descriptor);
}

/* exchange sends `len` octets while it reads them back: neither side may wait for the other. */
static void exchange(int descriptor, const uint8_t *data, size_t len)
{
    uint8_t *back = malloc(len);
    size_t sent = 0;
    size_t got = 0;
    while (got < len) {
        struct pollfd poll_for = {.fd = descriptor, .events = POLLIN};
        if (sent < len)
            poll_for.events |= POLLOUT;
        assert_int_equal(poll(&poll_for, 1, 5000), 1);
        if (poll_for.revents & POLLOUT) {
            ssize_t n = send(descriptor, data + sent, len - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
            assert_true(n > 0);
            sent += (size_t)n;
        }
        if (poll_for.revents & POLLIN) {
            ssize_t n = recv(descriptor, back + got, len - got, MSG_DONTWAIT);
            assert_true(n > 0);
            got += (size_t)n;
        }
    }
    assert_memory_equal(back, data, len);
    free(back);
}

static void one_octet_segments(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    int client = echo_connect(echo);
    uint8_t data[300];
    uint8_t back[300];
    noise(data, sizeof(data));
    int on = 1;
    setsockopt(client, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
    for (size_t i = 0; i < sizeof(data); i++) {
        echo_send(client, data + i, 1);
        if (i % 7 == 0)
            usleep(100);
    }
    assert_int_equal(socket_read(client, back, sizeof(back)), sizeof(back));
    assert_memory_equal(data, back, sizeof(data));
    close(client);
    stop(echo);
}

static void much_text(void **state)
{
    enum { LEN = 4 * 1024 * 1024 };
    struct echo *echo = start(state, (struct echo_options){0});
    uint8_t *data = malloc(LEN);
    noise(data, LEN);
    int client = echo_connect(echo);
    exchange(client, data, LEN);
    close(client);
    free(data);
    stop(echo);
}

static void half_close(void **state)
{
    enum { LEN = 256 * 1024 };
    struct echo *echo = start(state, (struct echo_options){0});
    uint8_t *data = malloc(LEN);
    uint8_t *back = malloc(LEN);
    noise(data, LEN);
    int client = echo_connect(echo);
    echo_send(client, data, 3000);
    shutdown(client, SHUT_WR);
    assert_int_equal(socket_read(client, back, LEN), 3000); /* all of it, then the end */
    assert_memory_equal(data, back, 3000);
    close(client);
    /* With more than fits in the reply blocks the farewell waits behind untaken octets. */
    client = echo_connect(echo);
    int small = 8192;
    setsockopt(client, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
    echo_send(client, data, LEN / 4);
    shutdown(client, SHUT_WR);
    usleep(50000);
    assert_int_equal(socket_read(client, back, LEN), LEN / 4);
    assert_memory_equal(data, back, LEN / 4);
    close(client);
    free(data);
    free(back);
    stop(echo);
}

static void peer_resets(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    for (uint32_t i = 0; i < 20; i++) {
        int client = echo_connect(echo);
        if (i % 3 > 0)
            echo_send(client, i % 3 > 1 ? "p" : "hello", i % 3 > 1 ? 1 : 5);
        if (i % 2 > 0)
            usleep(1000);
        assert_true(echo_wait(&echo->counts.opened, i + 1));
        reset(client);
        assert_true(echo_wait(&echo->counts.closed, i + 1));
        assert_int_equal(atomic_load(&echo->counts.last_error), -ECONNRESET);
    }
    stop(echo);
}

static void peer_never_reads(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    int clients[10];
    for (int i = 0; i < 10; i++) {
        clients[i] = echo_connect(echo);
        echo_send(clients[i], "f and more", 10);
    }
    /* Sooner or later every send blocks, and then nothing turns any more. */
    uint64_t turns = UINT64_MAX;
    for (int i = 0; i < 100; i++) {
        uint64_t before = atomic_load(&echo->counts.turns);
        usleep(100000);
        echo_look(echo);
        turns = atomic_load(&echo->counts.turns) - before;
        if (turns < 5 && before > 0)
            break;
    }
    assert_in_range(turns, 0, 4);
    echo_abort(echo);
    assert_true(echo_wait(&echo->counts.closed, 10));
    for (int i = 0; i < 10; i++)
        close(clients[i]);
    stop(echo);
}

/* What comes while a stream is paused is held in buffers, but in few: then nothing more is
 * received, and all of it is there afterwards. */
static void pause_and_more(void **state)
{
    enum { LEN = 40000 };
    struct echo *echo = start(state, (struct echo_options){.buffer_size = 1024});
    uint8_t data[LEN];
    noise(data, LEN);
    int client = echo_connect(echo);
    echo_send(client, "p", 1);
    assert_true(echo_wait(&echo->counts.paused, 1));
    for (size_t i = 0; i < 10; i++) {
        echo_send(client, data + i * LEN / 10, LEN / 10);
        usleep(3000);
    }
    echo_look(echo);
    assert_int_equal(atomic_load(&echo->counts.unreceived), 1); /* the request was cancelled */
    uint32_t held = atomic_load(&echo->counts.held);
    assert_in_range(held, 1, 16);
    assert_int_equal(atomic_load(&echo->counts.given) + held, 64);
    echo_resume(echo);
    uint8_t back[LEN];
    assert_int_equal(socket_read(client, back, LEN), LEN);
    assert_memory_equal(data, back, LEN);
    echo_send(client, "still here", 10);
    expect(client, "still here");
    close(client);
    stop(echo);
}

/* Commands that end a stream, found among held octets: a client that pipelines QUIT behind its
 * message does just this. */
static void end_among_held_octets(void **state)
{
    static const char *const endings[] = {"XYq", "XYa", "XYqtail", "XYatail", "q", "a"};
    struct echo *echo = start(state, (struct echo_options){.buffer_size = 64, .buffer_count = 16});
    for (uint32_t round = 0; round < 12; round++) {
        const char *ending = endings[round % 6];
        int client = echo_connect(echo);
        echo_send(client, "p", 1);
        assert_true(echo_wait(&echo->counts.paused, 1));
        echo_send(client, ending, strlen(ending));
        if (round >= 6) { /* the rest comes in buffers of its own, and with a farewell */
            usleep(2000);
            for (int i = 0; i < 40; i++)
                echo_send(client, "0123456789", 10);
            shutdown(client, SHUT_WR);
        }
        usleep(3000);
        echo_resume(echo);
        char back[16] = "";
        if (strchr(ending, 'q') != NULL) {
            expect(client, ending[0] == 'X' ? "XYbye\n" : "bye\n");
            expect_end(client);
        } else {
            (void)socket_read(client, back, sizeof(back)); /* an abort may lose what was written */
        }
        close(client);
        assert_true(echo_wait(&echo->counts.closed, round + 1));
    }
    stop(echo);
}

static void farewell_while_paused(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    int client = echo_connect(echo);
    echo_send(client, "pABC", 4);
    shutdown(client, SHUT_WR);
    assert_true(echo_wait(&echo->counts.paused, 1));
    usleep(20000);
    assert_int_equal(atomic_load(&echo->counts.closed), 0); /* not told yet */
    echo_resume(echo);
    expect(client, "ABC");
    expect_end(client);
    close(client);
    assert_true(echo_wait(&echo->counts.closed, 1));
    stop(echo);
}

static void out_of_buffers(void **state)
{
    enum { CLIENTS = 50, LEN = 20000 };
    struct echo *echo = start(state, (struct echo_options){.buffer_count = 4, .buffer_size = 512});
    uint8_t data[LEN];
    static uint8_t back[LEN];
    int clients[CLIENTS];
    noise(data, LEN);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = echo_connect(echo);
    for (int i = 0; i < CLIENTS; i++)
        echo_send(clients[i], data, LEN); /* all at once; the sockets' own room takes it */
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(socket_read(clients[i], back, LEN), LEN);
        assert_memory_equal(data, back, LEN);
    }
    echo_look(echo);
    assert_true(atomic_load(&echo->counts.starvations) > 0);
    assert_int_equal(atomic_load(&echo->counts.given), 4);
    for (int i = 0; i < CLIENTS; i++)
        i % 2 > 0 ? close(clients[i]) : reset(clients[i]);
    stop(echo);
}

/* Paused streams hold every buffer; the others starve, but nothing spins, and all goes on. */
static void starved_by_paused(void **state)
{
    enum { HOLDERS = 8, OTHERS = 5 };
    struct echo *echo = start(state, (struct echo_options){.buffer_count = 4, .buffer_size = 256});
    int holders[HOLDERS];
    int others[OTHERS];
    for (int i = 0; i < HOLDERS; i++) {
        holders[i] = echo_connect(echo);
        echo_send(holders[i], "p", 1);
    }
    assert_true(echo_wait(&echo->counts.paused, HOLDERS));
    for (int i = 0; i < HOLDERS; i++)
        echo_send(holders[i], "HELD", 4);
    usleep(20000);
    for (int i = 0; i < OTHERS; i++) {
        others[i] = echo_connect(echo);
        echo_send(others[i], "WAIT", 4);
    }
    usleep(20000);
    echo_look(echo);
    assert_int_equal(atomic_load(&echo->counts.given), 0);
    uint64_t turns = atomic_load(&echo->counts.turns);
    usleep(200000);
    echo_look(echo);
    assert_in_range(atomic_load(&echo->counts.turns) - turns, 0, 20);
    reset(others[0]);
    echo_resume(echo);
    for (int i = 0; i < HOLDERS; i++)
        expect(holders[i], "HELD");
    for (int i = 1; i < OTHERS; i++)
        expect(others[i], "WAIT");
    for (int i = 0; i < HOLDERS; i++)
        close(holders[i]);
    for (int i = 1; i < OTHERS; i++)
        close(others[i]);
    stop(echo);
}

static void out_of_slots(void **state)
{
    struct echo *echo = start(state, (struct echo_options){.streams_max = 4});
    int clients[4];
    for (int i = 0; i < 4; i++) {
        clients[i] = echo_connect(echo);
        echo_send(clients[i], "in", 2);
        expect(clients[i], "in");
    }
    for (int i = 0; i < 5; i++) {
        int refused = echo_connect(echo);
        expect(refused, "full\n");
        expect_end(refused);
        close(refused);
    }
    close(clients[0]);
    assert_true(echo_wait(&echo->counts.closed, 1));
    assert_true(echo_ping(echo)); /* a turn later the slot is free */
    clients[0] = echo_connect(echo);
    echo_send(clients[0], "in", 2);
    expect(clients[0], "in");
    for (int i = 0; i < 4; i++)
        close(clients[i]);
    stop(echo);
}

static void deadline(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    int client = echo_connect(echo);
    uint64_t start_us = clock_monotonic_us();
    echo_send(client, "dX", 2);
    expect(client, "X");
    expect(client, "late\n");
    uint64_t passed_ms = (clock_monotonic_us() - start_us) / 1000;
    expect_end(client);
    assert_in_range(passed_ms, ECHO_DEADLINE_MS - 10, ECHO_DEADLINE_MS + 250 + 3000);
    assert_int_equal(atomic_load(&echo->counts.timed_out), 1);
    close(client);
    /* Moved on in time, it does not fire. */
    client = echo_connect(echo);
    for (int i = 0; i < 6; i++) {
        echo_send(client, "dY", 2);
        expect(client, "Y");
        usleep(150000);
    }
    assert_int_equal(atomic_load(&echo->counts.timed_out), 1);
    close(client);
    stop(echo);
}

/* The peer has unread octets of ours and unsent ones of its own when we end: it still reads all. */
static void orderly_end(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    uint8_t data[60000];
    uint8_t back[1000];
    noise(data, sizeof(data));
    for (uint32_t i = 0; i < 10; i++) {
        int client = echo_connect(echo);
        echo_send(client, data, 1000);
        echo_send(client, "q", 1);
        echo_send(client, data, i * 6000);
        usleep(5000);
        assert_int_equal(socket_read(client, back, 1000), 1000);
        assert_memory_equal(data, back, 1000);
        expect(client, "bye\n");
        expect_end(client);
        uint64_t start_us = clock_monotonic_us();
        close(client);
        assert_true(echo_wait(&echo->counts.closed, i + 1));
        assert_in_range(clock_monotonic_us() - start_us, 0, 1000000); /* no linger without need */
    }
    stop(echo);
}

static void linger_ends(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    int client = echo_connect(echo);
    uint64_t start_us = clock_monotonic_us();
    echo_send(client, "q", 1);
    expect(client, "bye\n");
    expect_end(client); /* and the client says no farewell */
    assert_true(echo_wait(&echo->counts.closed, 1));
    assert_in_range((clock_monotonic_us() - start_us) / 1000, 1500, 3500);
    close(client);
    stop(echo);
}

static void churn(void **state)
{
    enum { ROUNDS = 20, CLIENTS = 50 };
    struct echo *echo = start(state, (struct echo_options){.buffer_count = 16});
    int clients[CLIENTS];
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++)
            clients[i] = echo_connect(echo);
        for (int i = 0; i < CLIENTS; i++) {
            static const char *const manners[] = {"HELLO", "q", "a", "pX", "", "HALF"};
            const char *manner = manners[(i + round) % 6];
            (void)!send(clients[i], manner, strlen(manner), MSG_NOSIGNAL);
            if (manner[0] == 'H')
                shutdown(clients[i], manner[1] == 'A' ? SHUT_WR : SHUT_RD);
        }
        if (round % 2 > 0)
            usleep(2000);
        echo_resume(echo);
        for (int i = 0; i < CLIENTS; i++)
            (i + round) % 4 > 0 ? close(clients[i]) : reset(clients[i]);
    }
    assert_true(echo_wait(&echo->counts.opened, ROUNDS * CLIENTS - ROUNDS * CLIENTS / 4));
    for (int i = 0; i < 300 && echo->counts.closed < echo->counts.opened; i++) {
        echo_resume(echo);
        usleep(10000);
    }
    stop(echo);
}

static void wakes_are_not_lost(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    for (int i = 0; i < 3000; i++)
        assert_true(echo_ping(echo));
    stop(echo);
}

static void idle_is_idle(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    int client = echo_connect(echo);
    echo_send(client, "X", 1);
    expect(client, "X");
    echo_look(echo);
    uint64_t turns = atomic_load(&echo->counts.turns);
    usleep(300000);
    echo_look(echo);
    assert_in_range(atomic_load(&echo->counts.turns) - turns, 0, 5);
    close(client);
    stop(echo);
}

static void stop_accepting(void **state)
{
    struct echo *echo = start(state, (struct echo_options){0});
    int client = echo_connect(echo);
    echo_send(client, "X", 1);
    expect(client, "X");
    echo_stop_accepting(echo);
    int late = echo_connect(echo); /* waits in the kernel: the socket may be another's, too */
    echo_send(late, "Z", 1);
    echo_send(client, "Y", 1);
    expect(client, "Y");
    struct pollfd polled = {.fd = late, .events = POLLIN};
    assert_int_equal(poll(&polled, 1, 100), 0);
    echo_accept_again(echo);
    expect(late, "Z");
    close(late);
    close(client);
    stop(echo);
}

/* Stopping and going on again and again, while clients come: each is served in the end, none is
 * closed or refused, and nothing spins. */
static void accepting_off_and_on(void **state)
{
    enum { ROUNDS = 50, EACH = 5 };
    struct echo *echo = start(state, (struct echo_options){0});
    int clients[ROUNDS * EACH];
    for (int i = 0; i < ROUNDS; i++) {
        echo_stop_accepting(echo);
        for (int n = 0; n < EACH; n++) {
            clients[i * EACH + n] = echo_connect(echo);
            echo_send(clients[i * EACH + n], "X", 1);
            if (n == EACH / 2)
                echo_accept_again(echo);
        }
    }
    for (int i = 0; i < ROUNDS * EACH; i++) {
        expect(clients[i], "X");
        close(clients[i]);
    }
    stop(echo);
}

/* A client that comes when descriptors have run out hears 421; those behind it are served later. */
static void out_of_descriptors(void **state)
{
    enum { LIMIT = 100 };
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    /* The kernel notes the limit when accept is armed: it must be low already. */
    struct rlimit tight = {LIMIT, before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    struct echo *echo = start(state, (struct echo_options){0});
    int clients[3];
    int others[LIMIT];
    for (int i = 0; i < 3; i++)
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(echo_ping(echo)); /* it has all it needs */
    size_t used = descriptors_use_up(others, LIMIT);
    struct timeval patience = {.tv_sec = 5};
    for (int i = 0; i < 3; i++) {
        setsockopt(clients[i], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        assert_int_equal(connect(clients[i], &echo->address.any, sizeof(echo->address.v4)), 0);
    }
    char line[80] = "";
    ssize_t len = socket_read(clients[0], line, sizeof(line) - 1);
    while (used > 0)
        close(others[--used]);
    assert_true(len > 0);
    assert_memory_equal(line, "421 4.3.2 ", 10);
    assert_memory_equal(line + len - 2, "\r\n", 2);
    uint32_t served = 0;
    for (int i = 1; i < 3; i++) {
        (void)!send(clients[i], "XY", 2, MSG_NOSIGNAL);
        served += socket_read(clients[i], line, 2) == 2 && memcmp(line, "XY", 2) == 0;
    }
    assert_true(served >= 1); /* the other may have been told 421, too */
    for (int i = 0; i < 3; i++)
        close(clients[i]);
    stop(echo);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(one_octet_segments),
        TWICE(much_text),
        TWICE(half_close),
        TWICE(peer_resets),
        TWICE(peer_never_reads),
        TWICE(pause_and_more),
        TWICE(end_among_held_octets),
        TWICE(farewell_while_paused),
        TWICE(out_of_buffers),
        TWICE(starved_by_paused),
        TWICE(out_of_slots),
        TWICE(deadline),
        TWICE(orderly_end),
        TWICE(linger_ends),
        TWICE(churn),
        TWICE(wakes_are_not_lost),
        TWICE(idle_is_idle),
        TWICE(stop_accepting),
        TWICE(accepting_off_and_on),
        TWICE(out_of_descriptors),
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
