/* Connections of our own and loans, in clear: a client-only worker (tests/support/visitor) against
 * the echo server, and against peers that refuse, stall, read slowly and leave. Each runs with what
 * this kernel can do and with what Linux 6.1 can. TLS: outgoing_secure_test.c. */
#include "gateway/base/clock.h"
#include "gateway/spool/crc.h"
#include "tests/support/descriptors.h"
#include "tests/support/echo.h"
#include "tests/support/host.h"
#include "tests/support/twice.h"
#include "tests/support/visitor.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { MUCH = 10 * 1000 * 1000 };

static struct visitor *start(void **state, struct visitor_options options)
{
    options.baseline = *state != NULL;
    return visitor_new(&options);
}

static struct echo *start_echo(void **state)
{
    return echo_start(&(struct echo_options){.baseline = *state != NULL, .plain = true});
}

static void stop_echo(struct echo *echo)
{
    assert_string_equal(echo_stop(echo), "");
}

/* --- connecting --- */

static size_t end_when_echoed(struct visit *visit, const uint8_t *data, size_t len)
{
    (void)data;
    if (visit->got_len + len == 5)
        visit_end(visit);
    return len;
}

static void say_hello(struct visit *visit)
{
    visit_say(visit, "hello");
}

static void connect_and_talk(void **state)
{
    struct echo *echo = start_echo(state);
    struct visitor *visitor = start(state, (struct visitor_options){.spin = true});
    for (int i = 0; i < 40; i++) {
        struct visit *visit = visitor_call(visitor, &echo->address);
        visit->on_opened = say_hello;
        visit->on_received = end_when_echoed;
    }
    visitor_run(visitor);
    for (int i = 0; i < 40; i++) {
        const struct visit *visit = &visitor->visits[i];
        assert_int_equal(visit->opened, 1);
        assert_int_equal(visit->error, 0);
        assert_int_equal(visit->got_len, 5);
        assert_memory_equal(visit->got, "hello", 5);
    }
    assert_int_equal(visitor->sleeps, 0); /* it was told to spin */
    visitor_free(visitor);
    stop_echo(echo);
}

static void refused(void **state)
{
    struct host host = {0};
    host_gone(&host);
    struct visitor *visitor = start(state, (struct visitor_options){0});
    for (int i = 0; i < 10; i++) {
        struct visit *visit = visitor_call(visitor, &host.address);
        if (i % 2 > 0)
            visit_deadline(visit, 5000);
    }
    visitor_run(visitor);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(visitor->visits[i].error, -ECONNREFUSED);
        assert_int_equal(visitor->visits[i].opened, 0);
        assert_int_equal(visitor->visits[i].timed_out, 0);
    }
    visitor_free(visitor);
}

static void unanswered(void **state)
{
    struct host host = {0};
    host_deaf(&host);
    struct visitor *visitor = start(state, (struct visitor_options){0});
    for (int i = 0; i < 10; i++) {
        struct visit *visit = visitor_call(visitor, &host.address);
        visit->on_timed_out = i % 2 > 0 ? visit_end : visit_abort;
        visit_deadline(visit, 300);
    }
    uint64_t start_us = clock_monotonic_us();
    visitor_run(visitor);
    assert_in_range((clock_monotonic_us() - start_us) / 1000, 290, 300 + 250 + 400);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(visitor->visits[i].opened, 0);
        assert_int_equal(visitor->visits[i].timed_out, 1);
        assert_int_equal(visitor->visits[i].error, 0);
    }
    visitor_free(visitor);
    host_free(&host);
}

static void abort_some(struct visitor *visitor)
{
    uint32_t turns = (uint32_t)visitor->worker.turns;
    for (uint32_t i = 0; i < visitor->visit_count; i++)
        if (visitor->visits[i].closed == 0 && i <= turns)
            visit_abort(&visitor->visits[i]);
}

static uint64_t next_millisecond(struct visitor *visitor)
{
    return visitor->worker.now_us + 1000;
}

/* Some before the kernel has heard of them, some later; some while it connects them. */
static void given_up(void **state)
{
    struct host host = {0};
    host_deaf(&host);
    struct echo *echo = start_echo(state);
    for (int deaf = 0; deaf < 2; deaf++) {
        struct visitor_options options = {.on_turn = abort_some, .next_us = next_millisecond};
        struct visitor *visitor = start(state, options);
        for (int i = 0; i < 20; i++) {
            struct visit *visit = visitor_call(visitor, deaf ? &host.address : &echo->address);
            if (i < 5)
                visit_abort(visit);
        }
        visitor_run(visitor);
        for (int i = 0; i < 20; i++)
            assert_int_equal(visitor->visits[i].error, 0);
        visitor_free(visitor);
    }
    stop_echo(echo);
    host_free(&host);
}

static void out_of_slots(void **state)
{
    struct echo *echo = start_echo(state);
    struct visitor *visitor = start(state, (struct visitor_options){.streams_max = 2});
    for (int i = 0; i < 2; i++) {
        struct visit *visit = visitor_call(visitor, &echo->address);
        visit->on_opened = say_hello;
        visit->on_received = end_when_echoed;
    }
    assert_null(visitor_call(visitor, &echo->address));
    visitor_run(visitor);
    visitor_free(visitor);
    stop_echo(echo);
}

/* --- loans --- */

/* What a visit lends, again and again. */
struct purse {
    const uint8_t *text;
    size_t len;        /* of each loan */
    uint32_t pieces;   /* of each loan */
    uint32_t times;    /* so many loans */
    const char *words; /* written before each; NULL: nothing */
    bool end;          /* when the last is lent; else the echo of all ends it */
};

static void lend_once(struct visit *visit)
{
    const struct purse *purse = visit->user;
    if (visit->lent == purse->times || visit->stream->state != STREAM_OPEN)
        return;
    if (purse->words != NULL)
        visit_say(visit, purse->words);
    visit_lend(visit, purse->text, purse->len, purse->pieces);
    if (purse->end && visit->lent == purse->times)
        visit_end(visit);
}

static size_t whole(const struct purse *purse)
{
    size_t words = purse->words == NULL ? 0 : strlen(purse->words);
    return purse->times * (words + purse->len);
}

static size_t until_all(struct visit *visit, const uint8_t *data, size_t len)
{
    (void)data;
    if (visit->got_len + len == whole(visit->user))
        visit_end(visit);
    return len;
}

static uint32_t sum_of(const struct purse *purse)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < purse->times; i++) {
        if (purse->words != NULL)
            sum = crc32c(sum, purse->words, strlen(purse->words));
        sum = crc32c(sum, purse->text, purse->len);
    }
    return sum;
}

static struct visit *call_to_lend(struct visitor *visitor, const union address_any *address,
                                  struct purse *purse)
{
    struct visit *visit = visitor_call(visitor, address);
    visit->user = purse;
    visit->on_opened = visit->on_returned = lend_once;
    visit->on_received = until_all;
    return visit;
}

static void lend(void **state)
{
    static const size_t lens[] = {0, 1, 300, 5000, 70000, 1000000};
    struct echo *echo = start_echo(state);
    uint8_t *text = host_noise(1000000);
    for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
        for (uint32_t pieces = 1; pieces <= STREAM_LOAN_PIECES; pieces += 3) {
            struct purse purse = {text, lens[i], pieces, 3, pieces > 1 ? "words" : NULL, false};
            if (whole(&purse) == 0)
                purse.end = true;
            struct visitor *visitor = start(state, (struct visitor_options){0});
            struct visit *visit = call_to_lend(visitor, &echo->address, &purse);
            visitor_run(visitor);
            assert_int_equal(visit->error, 0);
            assert_int_equal(visit->returned, 3);
            assert_int_equal(visit->got_len, whole(&purse));
            assert_int_equal(crc32c(0, visit->got, visit->got_len), sum_of(&purse));
            visitor_free(visitor);
        }
    }
    free(text);
    stop_echo(echo);
}

static void serve_drain(struct host *host, int descriptor)
{
    (void)host_drain(host, descriptor);
}

/* A reader with a small window, which pauses: the kernel takes the loan bit by bit. */
static void serve_slowly(struct host *host, int descriptor)
{
    uint8_t room[100000];
    ssize_t got;
    while ((got = socket_read(descriptor, room, sizeof(room))) > 0) {
        host->heard += (uint64_t)got;
        host->sum = crc32c(host->sum, room, (size_t)got);
        usleep(1000);
    }
}

/* The end comes with the loan: all of it arrives before our farewell. */
static void lend_and_end(void **state)
{
    uint8_t *text = host_noise(MUCH);
    for (int slow = 0; slow < 2; slow++) {
        struct host host = {.serve = slow ? serve_slowly : serve_drain};
        struct purse purse = {text, MUCH, 5, 1, "before", true};
        host_start(&host, slow ? 16384 : 0);
        struct visitor *visitor = start(state, (struct visitor_options){0});
        struct visit *visit = call_to_lend(visitor, &host.address, &purse);
        visitor_run(visitor);
        assert_int_equal(visit->error, 0);
        visitor_free(visitor);
        host_stop(&host);
        assert_int_equal(host.heard, whole(&purse));
        assert_int_equal(host.sum, sum_of(&purse));
    }
    free(text);
}

static void serve_deaf(struct host *host, int descriptor)
{
    (void)descriptor;
    pthread_mutex_lock(host->user); /* until the test lets it go */
    pthread_mutex_unlock(host->user);
}

static void abort_lent(struct visitor *visitor)
{
    for (uint32_t i = 0; i < visitor->visit_count; i++) {
        struct visit *visit = &visitor->visits[i];
        if (visit->closed == 0 && visit->lent > 0 && visitor->worker.turns > 20 + i)
            visit_abort(visit);
    }
}

static void lend_and_set_deadline(struct visit *visit)
{
    visit_lend(visit, visit->user, MUCH, 1);
    visit_end(visit);
    visit_deadline(visit, 200);
}

static void lend_and_abort(struct visit *visit)
{
    visit_say(visit, "words");
    visit_lend(visit, visit->user, MUCH, 2);
    visit_abort(visit);
    assert_int_equal(visit->returned, 0);
}

static void lend_user(struct visit *visit)
{
    visit_lend(visit, visit->user, MUCH, 1);
}

/* Loans that never leave: the peer does not read. */
static void given_up_lent(void **state)
{
    static void (*const manners[])(struct visit *) = {lend_user, lend_and_set_deadline,
                                                      lend_and_abort};
    uint8_t *text = host_noise(MUCH);
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    struct host host = {.serve = serve_deaf, .user = &mutex};
    pthread_mutex_lock(&mutex);
    host_start(&host, 16384);
    struct visitor_options options = {.on_turn = abort_lent, .next_us = next_millisecond};
    struct visitor *visitor = start(state, options);
    for (int i = 0; i < 9; i++) {
        struct visit *visit = visitor_call(visitor, &host.address);
        visit->user = text;
        visit->on_opened = manners[i % 3];
    }
    visitor_run(visitor);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(visitor->visits[i].returned, 1);
        assert_int_equal(visitor->visits[i].error, 0);
    }
    visitor_free(visitor);
    pthread_mutex_unlock(&mutex);
    host_stop(&host);
    free(text);
}

static void serve_and_leave(struct host *host, int descriptor)
{
    uint8_t room[100000];
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    (void)host;
    (void)socket_read(descriptor, room, sizeof(room));
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
}

/* The peer goes in the middle of a loan: a reset. */
static void peer_leaves(void **state)
{
    struct host host = {.serve = serve_and_leave};
    host_start(&host, 0);
    uint8_t *text = host_noise(MUCH);
    struct visitor *visitor = start(state, (struct visitor_options){0});
    for (int i = 0; i < 10; i++) {
        struct visit *visit = visitor_call(visitor, &host.address);
        visit->user = text;
        visit->on_opened = lend_user;
    }
    visitor_run(visitor);
    for (int i = 0; i < 10; i++) {
        int error = visitor->visits[i].error;
        assert_true(error == -ECONNRESET || error == -EPIPE || error == 0);
        assert_int_equal(visitor->visits[i].returned, 1);
    }
    visitor_free(visitor);
    host_stop(&host);
    free(text);
}

/* --- loans among other things --- */

static size_t answer_or_pause(struct visit *visit, const uint8_t *data, size_t len)
{
    struct worker *worker = &visit->visitor->worker;
    size_t room = stream_room(worker, visit->stream);
    size_t taken = room < len ? room : len;
    assert_true(stream_write(worker, visit->stream, data, taken));
    if (visit->got_len + taken == 100000)
        visit_end(visit);
    return taken;
}

static void resume(struct visit *visit)
{
    stream_resume(&visit->visitor->worker, visit->stream);
}

static void serve_dialogue(struct host *host, int descriptor)
{
    uint8_t *text = host_noise(100000);
    for (size_t sent = 0; sent < 100000; sent += 1000) {
        if (send(descriptor, text + sent, 1000, MSG_NOSIGNAL) != 1000)
            return;
        usleep(100);
    }
    free(text);
    (void)host_drain(host, descriptor);
}

/* What comes while a loan is out waits for room: it is heard when the loan is back. */
static void paused_by_loan(void **state)
{
    struct host host = {.serve = serve_dialogue};
    host_start(&host, 16384);
    uint8_t *text = host_noise(MUCH);
    struct visitor *visitor = start(state, (struct visitor_options){0});
    struct visit *visit = visitor_call(visitor, &host.address);
    visit->user = text;
    visit->on_opened = lend_user;
    visit->on_received = answer_or_pause;
    visit->on_writable = resume;
    visitor_run(visitor);
    assert_int_equal(visit->error, 0);
    assert_int_equal(visit->got_len, 100000);
    assert_memory_equal(visit->got, text, 100000); /* the same noise */
    visitor_free(visitor);
    host_stop(&host);
    assert_int_equal(host.heard, MUCH + 100000);
    assert_int_equal(host.sum, crc32c(crc32c(0, text, MUCH), text, 100000));
    free(text);
}

/* Each turn adds something, while the turn before is still being sent; then a loan. */
static void pile_up(struct visitor *visitor)
{
    struct visit *visit = &visitor->visits[0];
    struct worker *worker = &visitor->worker;
    if (visit->opened == 0 || visit->closed > 0 || visit->lent > 0)
        return;
    size_t room = stream_room(worker, visit->stream);
    bool piled = visit->stream->send_in_flight && visit->stream->collecting != NULL && room < 2000;
    if (piled || visit->got_len + 1999 > MUCH) { /* a host in no hurry may never let it pile up */
        visit_lend(visit, visit->user, MUCH, 3);
        visit_end(visit);
        return;
    }
    size_t len = room < 1999 ? room : 1999;
    const uint8_t *text = visit->user;
    assert_true(stream_write(worker, visit->stream, text + visit->got_len, len));
    visit->got_len += len; /* what was said so far: nothing is received */
}

static void behind_others(void **state)
{
    uint8_t *text = host_noise(MUCH);
    struct host host = {.serve = serve_slowly};
    host_start(&host, 4096);
    struct visitor_options options = {.on_turn = pile_up, .next_us = next_millisecond};
    struct visitor *visitor = start(state, options);
    struct visit *visit = visitor_call(visitor, &host.address);
    visit->user = text;
    visitor_run(visitor);
    assert_int_equal(visit->error, 0);
    assert_int_equal(visit->returned, 1);
    uint64_t said = visit->got_len;
    visit->got_len = 0;
    visitor_free(visitor);
    host_stop(&host);
    assert_int_equal(host.heard, said + MUCH);
    assert_int_equal(host.sum, crc32c(crc32c(0, text, said), text, MUCH));
    free(text);
}

static void serve_discard(struct host *host, int descriptor)
{
    ssize_t got;
    while ((got = recv(descriptor, NULL, 1 << 20, MSG_TRUNC)) > 0)
        host->heard += (uint64_t)got;
}

static void lend_zeros(struct visit *visit)
{
    enum { PIECE = 300 * 1000 * 1000 };
    for (uint32_t i = 0; i < STREAM_LOAN_PIECES; i++)
        visit->loan.pieces[i] = (struct iovec){visit->user, PIECE};
    visit->lent++;
    stream_lend(&visit->visitor->worker, visit->stream, &visit->loan, STREAM_LOAN_PIECES);
}

/* The kernel sends 2 GiB at most at a time. */
static void short_send(void **state)
{
    enum { PIECE = 300 * 1000 * 1000 };
    struct host host = {.serve = serve_discard};
    host_start(&host, 0);
    void *zeros = mmap(NULL, PIECE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(zeros, MAP_FAILED);
    struct visitor *visitor = start(state, (struct visitor_options){0});
    struct visit *visit = visitor_call(visitor, &host.address);
    visit->user = zeros;
    visit->on_opened = lend_zeros;
    visit->on_returned = visit_end;
    visitor_run(visitor);
    assert_int_equal(visit->error, 0);
    visitor_free(visitor);
    host_stop(&host);
    assert_int_equal(host.heard, (uint64_t)STREAM_LOAN_PIECES * PIECE);
    munmap(zeros, PIECE);
}

/* --- time --- */

enum { TICKS = 100, TICK_US = 2000 };
static uint64_t tick_next_us, tick_late_us;
static uint32_t tick_count;

static uint64_t next_tick(struct visitor *visitor)
{
    (void)visitor;
    return tick_count < TICKS ? tick_next_us : UINT64_MAX;
}

static void tick(struct visitor *visitor)
{
    uint64_t now_us = clock_monotonic_us();
    if (tick_count == TICKS || now_us < tick_next_us)
        return;
    tick_late_us += now_us - tick_next_us;
    tick_next_us += TICK_US;
    if (++tick_count == TICKS)
        visit_abort(&visitor->visits[0]);
}

/* Turns come when they were asked for, and few others. */
static void ticks(void **state)
{
    struct host host = {0};
    host_deaf(&host);
    struct visitor *visitor =
        start(state, (struct visitor_options){.on_turn = tick, .next_us = next_tick});
    (void)visitor_call(visitor, &host.address); /* which keeps it awake until the last tick */
    tick_count = 0;
    tick_late_us = 0;
    uint64_t start_us = tick_next_us = clock_monotonic_us();
    visitor_run(visitor);
    assert_int_equal(tick_count, TICKS);
    assert_true(clock_monotonic_us() - start_us >= (TICKS - 1) * TICK_US);
    assert_in_range(tick_late_us / TICKS, 0, 10 * TICK_US);
    assert_in_range(visitor->worker.turns, 1, 3 * TICKS);
    visitor_free(visitor);
    host_free(&host);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(connect_and_talk),
        TWICE(refused),
        TWICE(unanswered),
        TWICE(given_up),
        TWICE(out_of_slots),
        TWICE(lend),
        TWICE(lend_and_end),
        TWICE(given_up_lent),
        TWICE(peer_leaves),
        TWICE(paused_by_loan),
        TWICE(behind_others),
        TWICE(ticks),
        {"short_send", short_send, NULL, NULL, NULL},
    };
    return cmocka_run_group_tests(tests, twice_set_up, NULL);
}
