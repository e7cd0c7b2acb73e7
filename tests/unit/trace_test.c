/* gateway/receive/trace: who watches changes while workers look, and nobody looks at what was
 * freed. The workers here have no sessions: they look at the filters for connections that they
 * refuse. */
#include "gateway/receive/trace.h"

#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/check.h"
#include "gateway/receive/server.h"

enum { WORKERS = 3 };

struct hand {
    struct server server;
    struct worker worker;
    pthread_t thread;
    _Atomic bool look;
    _Atomic bool stop;
    uint64_t rounds, watched;
};

static void wake(void *user)
{
    atomic_store(&((struct hand *)user)->look, true);
}

static union address_any address_of(const char *text)
{
    union address_any address = {.v4.sin_family = AF_INET};
    CHECK(inet_pton(AF_INET, text, &address.v4.sin_addr) == 1);
    return address;
}

/* One turn of a worker. */
static void turn(struct hand *hand)
{
    static const struct bytes line = BYTES("421 4.3.2 Too many\r\n");
    union address_any peer = address_of("192.0.2.7");
    if (atomic_exchange(&hand->look, false))
        trace_look(&hand->server);
    if (hand->server.trace.filters != NULL) {
        trace_refused(&hand->server, &peer, line);
        hand->watched++;
    }
    hand->rounds++;
}

static void hand_init(struct hand *hand, uint32_t index, struct trace *trace)
{
    list_init(&hand->worker.streams);
    hand->worker.options.user = &hand->server;
    hand->server.worker = &hand->worker;
    hand->server.index = index;
    trace_join(&hand->server, trace, wake, hand);
}

static void *run(void *argument)
{
    struct hand *hand = argument;
    while (!atomic_load(&hand->stop)) {
        turn(hand);
        usleep(50);
    }
    trace_leave(&hand->server);
    return NULL;
}

static struct trace_wish wish_of(const char *network, const char *mailbox)
{
    struct trace_wish wish = {0};
    if (network != NULL) {
        wish.networks = networks_new();
        CHECK(wish.networks != NULL && networks_add(wish.networks, network) == NETWORKS_ADDED);
    }
    wish.mailbox = mailbox == NULL ? NULL : strdup(mailbox);
    return wish;
}

/* Reads what has come; counts the lines that are for this watcher. */
static unsigned lines_for(struct trace *trace, int number, uint64_t since)
{
    static char text[1 << 19];
    char *at = text, *end;
    size_t len = 0;
    ssize_t got;
    while (len < sizeof(text) - 1 &&
           (got = read(trace_descriptor(trace), text + len, sizeof(text) - 1 - len)) > 0)
        len += (size_t)got;
    text[len] = '\0';
    unsigned count = 0;
    for (; (end = memchr(at, '\n', (size_t)(text + len - at))) != NULL; at = end + 1) {
        static const char first[] = "\"watchers\":", second[] = ",\"generation\":";
        char *keys = memmem(at, (size_t)(end - at), first, sizeof(first) - 1);
        if (keys == NULL)
            continue; /* log_dropped */
        unsigned long watchers = strtoul(keys + sizeof(first) - 1, &keys, 10);
        assert_memory_equal(keys, second, sizeof(second) - 1);
        unsigned long long generation = strtoull(keys + sizeof(second) - 1, NULL, 10);
        assert_true(watchers > 0 && watchers < 1u << TRACE_WATCHERS_MAX);
        count += (watchers & 1u << number) != 0 && generation >= since;
    }
    return count;
}

static void numbers_are_bounded_and_come_back(void **state)
{
    (void)state;
    struct trace *trace = trace_new(1);
    uint64_t since, last = 0;
    assert_non_null(trace);
    assert_int_equal(trace_descriptor(trace), -1);
    for (int i = 0; i < TRACE_WATCHERS_MAX; i++) {
        struct trace_wish wish = wish_of(i % 2 == 0 ? "192.0.2.0/24" : NULL, "@example.org");
        assert_int_equal(trace_watch(trace, &wish, &since), i);
        assert_null(wish.mailbox); /* taken */
        assert_true(since > last);
        last = since;
    }
    struct trace_wish more = wish_of("::/0", NULL);
    assert_int_equal(trace_watch(trace, &more, &since), -EBUSY);
    assert_non_null(more.networks); /* not taken */
    trace_unwatch(trace, 3);
    assert_int_equal(trace_watch(trace, &more, &since), 3);
    assert_true(since > last);
    for (int i = 0; i < TRACE_WATCHERS_MAX; i++)
        trace_unwatch(trace, i);
    trace_settle(trace);
    assert_int_equal(trace_descriptor(trace), -1); /* nobody watches: no pipe, no thread */
    trace_free(trace);
}

/* A worker that does not turn keeps what it may look at; so many changes, and no more. */
static void changes_wait_for_the_workers(void **state)
{
    (void)state;
    struct trace *trace = trace_new(1);
    struct hand *hand = calloc(1, sizeof(*hand));
    uint64_t since;
    int number = 0;
    unsigned changes = 0;
    hand_init(hand, 0, trace);
    assert_null(hand->server.trace.filters);
    for (; number >= 0 && changes < 1000; changes++) {
        struct trace_wish wish = wish_of("192.0.2.7", NULL);
        number = trace_watch(trace, &wish, &since);
        trace_wish_free(&wish);
        if (number >= 0)
            trace_unwatch(trace, number);
    }
    assert_int_equal(number, -EAGAIN);
    assert_true(trace_descriptor(trace) >= 0); /* the worker may be writing to it */
    turn(hand);
    assert_null(hand->server.trace.filters);
    struct trace_wish wish = wish_of("192.0.2.7", NULL);
    number = trace_watch(trace, &wish, &since);
    assert_true(number >= 0);
    turn(hand);
    assert_non_null(hand->server.trace.filters);
    usleep(200 * 1000);
    assert_int_equal(lines_for(trace, number, since), 1);
    trace_unwatch(trace, number);
    turn(hand);
    trace_settle(trace);
    assert_int_equal(trace_descriptor(trace), -1);
    trace_leave(&hand->server);
    trace_free(trace);
    free(hand);
}

static void watchers_come_and_go_while_workers_turn(void **state)
{
    (void)state;
    struct trace *trace = trace_new(WORKERS);
    struct hand *hands = calloc(WORKERS, sizeof(*hands));
    unsigned seen = 0, rounds = 0;
    for (uint32_t i = 0; i < WORKERS; i++) {
        hand_init(&hands[i], i, trace);
        assert_int_equal(pthread_create(&hands[i].thread, NULL, run, &hands[i]), 0);
    }
    for (; rounds < 60; rounds++) {
        struct trace_wish one = wish_of("192.0.2.0/24", "a@example.org"),
                          other = wish_of("198.51.100.0/24", NULL);
        uint64_t since, since_other;
        int number = trace_watch(trace, &one, &since);
        int number_other = number < 0 ? -1 : trace_watch(trace, &other, &since_other);
        trace_wish_free(&one);
        trace_wish_free(&other);
        usleep(rounds % 8 * 10000);
        if (number_other >= 0)
            assert_int_equal(lines_for(trace, number_other, since_other), 0);
        else if (number >= 0)
            seen += lines_for(trace, number, since);
        if (number_other >= 0)
            trace_unwatch(trace, number_other);
        if (number >= 0) {
            usleep(60000);
            seen += lines_for(trace, number, since);
            trace_unwatch(trace, number);
        }
    }
    for (uint32_t i = 0; i < WORKERS; i++) {
        atomic_store(&hands[i].stop, true);
        pthread_join(hands[i].thread, NULL);
        assert_true(hands[i].watched > 0);
    }
    assert_true(seen > 0);
    trace_free(trace);
    free(hands);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_are_bounded_and_come_back),
        cmocka_unit_test(changes_wait_for_the_workers),
        cmocka_unit_test(watchers_come_and_go_while_workers_turn),
    };
    return cmocka_run_group_tests_name("trace", tests, NULL, NULL);
}
