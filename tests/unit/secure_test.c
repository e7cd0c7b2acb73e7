/* TLS on streams over real sockets: the echo server of tests/support with TLS, and foreign clients
 * that cut, delay, damage and break off what they send. Every test ends with the questions whether
 * all came home and whether each octet on the wire was TLS. Each runs with what this kernel can do
 * and with what Linux 6.1 can. Many at once, at random: secure_crowd_test.c. */
#include "gateway/io/helpers.h"
#include "tests/support/descriptors.h"
#include "tests/support/secure_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

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

static void exchange(struct caller *caller, size_t len)
{
    uint8_t *text = malloc(len);
    noise(text, len);
    for (size_t at = 0; at < len; at += 16384)
        caller_write(caller, text + at, len - at < 16384 ? len - at : 16384);
    expect(caller, text, len);
    free(text);
}

/* --- pieces --- */

static void pieces(void **state)
{
    static const size_t lens[] = {1, 2, 41, 42, 43, 63, 64, 65, 4000, 16384, 60000};
    static const size_t piece_maxs[] = {1, 5, 63, 1000, 0};
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    struct echo *echo = secure_start(
        state, (struct echo_options){.tls_first = true, .buffer_size = 64, .plain = true});
    for (size_t i = 0; i < 4 * sizeof(piece_maxs) / sizeof(*piece_maxs); i++) {
        struct peer_options options = i % 2 == 0 ? secure_old : secure_modern;
        struct caller caller;
        options.library = libraries[i / 2 % 2];
        if (i / 2 % 2 == 1 && options.library == NULL)
            continue;
        caller_new(&caller, echo, &options);
        caller.piece_max = piece_maxs[i / 4];
        assert_true(caller_until(&caller, CALLER_READY, 0));
        for (size_t k = 0; k < sizeof(lens) / sizeof(*lens); k++)
            if (caller.piece_max > 5 || lens[k] < 5000)
                exchange(&caller, lens[k]);
        caller_close(&caller);
        expect_end(&caller);
        part(&caller);
    }
    secure_stop(echo);
}

static void many_records(void **state)
{
    struct echo *echo = secure_start(state, (struct echo_options){0});
    struct caller caller;
    char text[600 + 1];
    meet(&caller, echo, &secure_modern);
    for (size_t i = 0; i < 600; i += 3) {
        snprintf(text + i, 4, "%03zu", i);
        if (i % 60 == 0)
            peer_update(&caller.peer, i % 120 == 0);
        caller_write(&caller, text + i, 3);
    }
    expect(&caller, text, 600);
    exchange(&caller, 20000);
    part(&caller);
    secure_stop(echo);
}

/* --- what the owner does in the middle of a record --- */

static void pause_inside(void **state)
{
    for (uint32_t buffer_size = 64; buffer_size <= 4096; buffer_size *= 64) {
        struct echo *echo = secure_start(state, (struct echo_options){.buffer_size = buffer_size});
        struct caller caller;
        meet(&caller, echo, &secure_modern);
        for (int i = 0; i < 20; i++) {
            caller_write(&caller, "ABCpDEFGpHIJ", 12);
            caller_write(&caller, "pKLMN", 5);
            for (int k = 0; k < 3; k++) {
                assert_true(caller_until(&caller, CALLER_SENT, 0));
                assert_true(echo_wait(&echo->counts.paused, 1));
                echo_resume(echo);
                assert_true(caller_until(&caller, CALLER_TEXT, k == 0 ? 7 : k == 1 ? 10 : 14));
            }
            expect(&caller, "ABCDEFGHIJKLMN", 14);
        }
        part(&caller);
        secure_stop(echo);
    }
}

/* The end comes while the owner has not taken all; what is behind must not be touched any more. */
static void end_inside(void **state)
{
    for (int i = 0; i < 8; i++) {
        struct echo *echo =
            secure_start(state, (struct echo_options){.buffer_size = i % 2 ? 64 : 4096});
        struct caller caller;
        meet(&caller, echo, i / 2 % 2 ? &secure_old : &secure_modern);
        caller_write(&caller, "ABCpDEF", 7);
        caller_write(&caller, i < 4 ? "GHIqJKL" : "GHIaJKL", 7);
        assert_true(caller_until(&caller, CALLER_TEXT, 3));
        assert_true(echo_wait(&echo->counts.paused, 1));
        echo_resume(echo);
        if (i < 4) {
            expect(&caller, "ABCDEFGHIbye\n", 13);
            expect_end(&caller);
        } else {
            assert_true(caller_until(&caller, CALLER_ENDED, 0));
        }
        part(&caller);
        secure_stop(echo);
    }
}

/* The stream ends inside `secured`, with records behind the handshake in the same buffer. */
static void end_in_secured(void **state)
{
    static const char acts[] = {'q', 'a', 'p', 'f'};
    for (size_t i = 0; i < 4 * sizeof(acts); i++) {
        struct echo *echo = secure_start(
            state, (struct echo_options){.when_secured = acts[i / 4],
                                         .tls_first = i % 2 == 0,
                                         .tls = i % 4 < 2 ? secure_ecdsa : secure_rsa});
        struct caller caller;
        meet(&caller, echo, &secure_modern);
        caller_write(&caller, "ABC", 3);
        if (acts[i / 4] == 'p') {
            assert_true(caller_until(&caller, CALLER_SENT, 0));
            assert_true(echo_wait(&echo->counts.paused, 1));
            echo_resume(echo);
            expect(&caller, "ABC", 3);
        } else if (acts[i / 4] == 'f') {
            assert_true(caller_until(&caller, CALLER_TEXT, 20000));
        } else {
            assert_true(caller_until(&caller, CALLER_ENDED, 0));
            assert_int_equal(caller.text_len, acts[i / 4] == 'q' ? 4 : 0);
        }
        part(&caller);
        secure_stop(echo);
    }
}

/* --- the handshake breaks off --- */

enum breach { BREACH_FILE_END = 0, BREACH_RESET, BREACH_ABORT, BREACH_CLEAR, BREACH_COUNT };

static void break_off(struct echo *echo, struct caller *caller, enum breach breach)
{
    switch (breach) {
    case BREACH_FILE_END:
        caller_hush(caller);
        assert_true(caller_until(caller, CALLER_ENDED, 0));
        break;
    case BREACH_RESET: caller_reset(caller); break;
    case BREACH_ABORT:
        echo_abort(echo);
        assert_true(caller_until(caller, CALLER_ENDED, 0));
        break;
    case BREACH_CLEAR:
        echo_send(caller->descriptor, "QUIT\r\nQUIT\r\nQUIT\r\nQUIT\r\n", 24);
        /* Inside a record that has begun these are its body: then nobody ends it. */
        caller_hush(caller);
        assert_true(caller_until(caller, CALLER_ENDED, 0));
        break;
    case BREACH_COUNT: break;
    }
    part(caller);
}

static void breaches(void **state)
{
    struct echo *echo =
        secure_start(state, (struct echo_options){.tls_first = true, .tls = secure_rsa});
    uint32_t broken = 0;
    for (size_t budget = 0; budget < 330; budget += budget < 20 ? 1 : 37) {
        for (int i = 0; i < 2 * BREACH_COUNT; i++) {
            struct caller caller;
            caller_new(&caller, echo, i % 2 == 0 ? &secure_old : &secure_modern);
            caller.budget = budget;
            caller.piece_max = i % 3 == 0 ? 7 : 0;
            (void)caller_step(&caller);
            assert_true(caller_until(&caller, CALLER_SENT, 0));
            broken++;
            assert_true(echo_wait(&echo->counts.opened, broken));
            break_off(echo, &caller, (enum breach)(i / 2));
        }
    }
    assert_true(echo_wait(&echo->counts.closed, broken));
    secure_stop(echo);
}

/* The key operation is with a helper when the connection ends, or when more octets come. */
static void breaches_at_key(void **state)
{
    struct helpers *helpers = helpers_new(1, HELPERS_LOW);
    for (int i = 0; i < 2 * BREACH_COUNT; i++) {
        _Atomic bool busy = true;
        struct echo *echo = secure_start(state, (struct echo_options){.tls_first = i % 2 == 0,
                                                                      .tls = secure_rsa,
                                                                      .helpers = helpers,
                                                                      .busy = &busy});
        struct caller caller;
        caller_new(&caller, echo, &secure_modern);
        if (i % 2 == 1) {
            char go[3];
            echo_send(caller.descriptor, "s", 1);
            assert_int_equal(socket_read(caller.descriptor, go, 3), 3);
        }
        (void)caller_step(&caller);
        assert_true(caller_until(&caller, CALLER_SENT, 0));
        do
            echo_look(echo);
        while (atomic_load(&echo->counts.jobs) < 3);
        if (i / 2 == BREACH_ABORT || i / 2 == BREACH_RESET)
            break_off(echo, &caller, (enum breach)(i / 2));
        else if (i / 2 == BREACH_CLEAR)
            echo_send(caller.descriptor, "QUIT\r\n", 6);
        else
            caller_hush(&caller);
        usleep(2000);
        echo_look(echo);
        assert_int_equal(atomic_load(&echo->counts.jobs), 3); /* it has not ended by itself */
        atomic_store(&busy, false);
        if (i / 2 == BREACH_CLEAR || i / 2 == BREACH_FILE_END) {
            assert_true(caller_until(&caller, CALLER_ENDED, 0));
            part(&caller);
        }
        secure_stop(echo);
    }
    helpers_free(helpers);
}

/* A connection that has gone is worth no key operation: else whoever connects, says hello and
 * leaves, again and again, keeps the helpers busy for all others. */
static void dead_keys(void **state)
{
    enum { COUNT = 60 }; /* fewer than bring the reserve of the helpers */
    struct helpers *helpers = helpers_new(1, HELPERS_LOW);
    _Atomic bool busy = true;
    struct echo *echo = secure_start(
        state, (struct echo_options){
                   .tls_first = true, .tls = secure_rsa, .helpers = helpers, .busy = &busy});
    for (uint32_t i = 0; i < COUNT; i++) {
        struct caller caller;
        caller_new(&caller, echo, &secure_modern);
        (void)caller_step(&caller);
        assert_true(caller_until(&caller, CALLER_SENT, 0));
        do
            echo_look(echo);
        while (atomic_load(&echo->counts.jobs) < 3 + i);
        caller_reset(&caller);
        assert_true(echo_wait(&echo->counts.closed, i + 1));
        part(&caller);
    }
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    atomic_store(&busy, false);
    secure_stop(echo); /* which waits for all jobs */
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    helpers_free(helpers);
    int64_t us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
    /* RSA takes 400 us at least on any machine there is. */
    if (us > COUNT * 200)
        fail_msg("%lld us of CPU for connections that have gone", (long long)us);
}

static void slow_handshake(void **state)
{
    struct echo *echo =
        secure_start(state, (struct echo_options){.tls_first = true, .shake_ms_max = 150});
    for (uint32_t i = 0; i < 4; i++) {
        struct caller caller;
        caller_new(&caller, echo, i % 2 == 0 ? &secure_old : &secure_modern);
        caller.budget = i < 2 ? 100 : 0;
        (void)caller_step(&caller);
        assert_true(caller_until(&caller, CALLER_ENDED, 0));
        assert_int_equal(atomic_load(&echo->counts.timed_out), i + 1);
        assert_int_equal(caller.records, 0); /* and so nothing in clear */
        part(&caller);
    }
    secure_stop(echo);
}

/* There is no block for all: some are sent away, and none is left to hang. */
static void few_blocks(void **state)
{
    enum { COUNT = 24 };
    struct echo *echo = secure_start(
        state, (struct echo_options){.tls_first = true, .blocks_max = 3, .streams_max = 64});
    struct caller callers[COUNT];
    uint32_t done = 0;
    for (int i = 0; i < COUNT; i++) {
        caller_new(&callers[i], echo, i % 2 == 0 ? &secure_old : &secure_modern);
        (void)caller_step(&callers[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        (void)caller_until(&callers[i], CALLER_READY, 0);
        if (callers[i].ready)
            caller_write(&callers[i], "ABC", 3);
    }
    for (int i = 0; i < COUNT; i++) {
        if (caller_until(&callers[i], CALLER_TEXT, 3)) {
            assert_memory_equal(callers[i].text, "ABC", 3);
            done++;
        } else {
            assert_true(callers[i].ended); /* never left to hang */
        }
        part(&callers[i]);
    }
    assert_in_range(done, 1, COUNT);
    secure_stop(echo);
}

/* The server's flight is larger than a block; and clients that come in pieces, read late or go. */
static void long_flight(void **state)
{
    struct echo *echo = secure_start(
        state, (struct echo_options){.tls_first = true, .tls = secure_long, .plain = true});
    for (int i = 0; i < 12; i++) {
        struct caller caller;
        caller_new(&caller, echo, i % 2 == 0 ? &secure_old : &secure_modern);
        caller.piece_max = i % 3 == 0 ? 11 : 0;
        caller.deaf = i >= 6;
        (void)caller_step(&caller);
        assert_true(caller_until(&caller, CALLER_SENT, 0));
        if (i >= 6)
            usleep(5000);
        caller.deaf = false;
        if (i >= 9) {
            caller_reset(&caller);
        } else {
            assert_true(caller_until(&caller, CALLER_READY, 0));
            exchange(&caller, 20000);
        }
        part(&caller);
    }
    secure_stop(echo);
}

/* --- more than is read --- */

static void flood(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct echo *echo = secure_start(state, (struct echo_options){0});
        struct caller caller;
        meet(&caller, echo, i % 2 == 0 ? &secure_old : &secure_modern);
        caller.deaf = true;
        caller_write(&caller, "fABC", 4);
        assert_true(caller_until(&caller, CALLER_SENT, 0));
        usleep(100 * 1000); /* until its send does not end any more */
        caller.deaf = i < 2;
        if (i >= 2) {
            assert_true(caller_until(&caller, CALLER_TEXT, 8000000));
            for (size_t k = 0; k < caller.text_len; k++)
                assert_int_equal(caller.text[k], 'n');
        }
        echo_abort(echo);
        part(&caller);
        secure_stop(echo);
    }
}

/* Buffers run out while records are unfinished or untaken. */
static void starvation(void **state)
{
    enum { COUNT = 40 };
    struct echo *echo = secure_start(
        state, (struct echo_options){.tls_first = true, .buffer_count = 4, .buffer_size = 64});
    struct caller callers[COUNT];
    uint8_t text[3000];
    noise(text, sizeof(text));
    for (int i = 0; i < COUNT; i++)
        meet(&callers[i], echo, i % 2 == 0 ? &secure_old : &secure_modern);
    for (int i = 0; i < COUNT; i++) {
        caller_write(&callers[i], i % 4 == 0 ? "p" : "A", 1);
        caller_write(&callers[i], text, sizeof(text));
        callers[i].budget = 100 + 10 * (size_t)i;
        assert_true(caller_until(&callers[i], CALLER_SENT, 0));
    }
    for (int i = 0; i < COUNT; i++) {
        callers[i].budget = SIZE_MAX;
        (void)caller_step(&callers[i]);
    }
    for (int i = 0; i < COUNT; i++) {
        echo_resume(echo);
        size_t first = i % 4 == 0 ? 0 : 1;
        for (int k = 0; k < 100 && callers[i].text_len < first + sizeof(text); k++) {
            echo_resume(echo);
            for (int all = 0; all < COUNT; all++)
                (void)caller_step(&callers[all]);
            usleep(1000);
        }
        assert_int_equal(callers[i].text_len, first + sizeof(text));
        assert_memory_equal(callers[i].text + first, text, sizeof(text));
    }
    for (int i = 0; i < COUNT; i++)
        part(&callers[i]);
    secure_stop(echo);
}

/* --- KeyUpdate --- */

/* An answer to KeyUpdate is a record of its own, before the next one. */
static void key_update_answered(void **state)
{
    struct echo *echo = secure_start(state, (struct echo_options){0});
    struct caller caller;
    meet(&caller, echo, &secure_modern);
    exchange(&caller, 3); /* the ticket, too */
    for (int i = 0; i < 9; i++) {
        size_t before = caller.records;
        if (i % 3 > 0)
            peer_update(&caller.peer, i % 3 == 1);
        exchange(&caller, 3);
        assert_int_equal(caller.records - before, i % 3 == 1 ? 2 : 1);
    }
    part(&caller);
    secure_stop(echo);
}

static void key_updates(void **state)
{
    struct echo *echo = secure_start(state, (struct echo_options){0});
    for (int flood_too = 0; flood_too < 2; flood_too++) {
        struct caller caller;
        meet(&caller, echo, &secure_modern);
        if (flood_too == 1) { /* while the server has a send in flight that does not end */
            caller.deaf = true;
            caller_write(&caller, "f", 1);
            assert_true(caller_until(&caller, CALLER_SENT, 0));
            usleep(50 * 1000);
            caller.deaf = false;
        }
        for (int i = 0; i < 300; i++) {
            peer_update(&caller.peer, true);
            caller_write(&caller, "A", 1);
            if (i % 7 == 0 && flood_too == 0)
                assert_true(caller_until(&caller, CALLER_TEXT, (size_t)i + 1));
        }
        assert_true(caller_until(&caller, CALLER_TEXT, flood_too == 0 ? 300 : 3000000));
        assert_false(caller.failed);
        part(&caller);
    }
    secure_stop(echo);
}

/* The worker is to stop while handshakes are open. */
static void stop_among_handshakes(void **state)
{
    struct echo *echo = secure_start(
        state, (struct echo_options){.tls_first = true, .shake_ms_max = 300, .tls = secure_rsa});
    struct caller callers[40];
    for (size_t i = 0; i < 40; i++) {
        caller_new(&callers[i], echo, &secure_modern);
        callers[i].budget = 20 * i;
        (void)caller_step(&callers[i]);
        assert_true(caller_until(&callers[i], CALLER_SENT, 0));
    }
    assert_true(echo_wait(&echo->counts.opened, 40));
    secure_stop(echo); /* the deadlines let it */
    for (size_t i = 0; i < 40; i++) {
        (void)caller_until(&callers[i], CALLER_ENDED, 0);
        part(&callers[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(pieces),
        TWICE(many_records),
        TWICE(pause_inside),
        TWICE(end_inside),
        TWICE(end_in_secured),
        TWICE(breaches),
        TWICE(breaches_at_key),
        TWICE(dead_keys),
        TWICE(slow_handshake),
        TWICE(few_blocks),
        TWICE(long_flight),
        TWICE(flood),
        TWICE(starvation),
        TWICE(key_updates),
        TWICE(key_update_answered),
        TWICE(stop_among_handshakes),
    };
    return cmocka_run_group_tests(tests, secure_set_up, secure_tear_down);
}
