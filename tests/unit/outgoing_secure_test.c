/* TLS as the client on a worker's streams: against our own server, and against foreign ones. What
 * goes wrong: outgoing_trouble_test.c. Each runs with what this kernel can do and with what Linux
 * 6.1 can. */
#include "gateway/spool/crc.h"
#include "tests/support/descriptors.h"
#include "tests/support/errand.h"
#include "tests/support/secure_help.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MUCH = 1100000 }; /* some windows */

static void our_server(void **state)
{
    static const size_t lens[] = {1, 100, 16384, 16385, 262144, 262145, 300000, MUCH};
    uint8_t *text = host_noise(MUCH);
    for (int version = 0; version < 2; version++) {
        struct echo *echo =
            secure_start(state, (struct echo_options){.tls_first = true, .plain = true});
        for (size_t i = 0; i < sizeof(lens) / sizeof(*lens); i++) {
            struct errand errand = {.context = errand_clients[version],
                                    .text = text,
                                    .len = lens[i],
                                    .pieces = 1 + i % 8,
                                    .before = i % 2 ? "before" : NULL};
            struct visit visit;
            errand_run(state, &echo->address, &errand, &visit);
            assert_int_equal(visit.info.version_index, version);
            tls_session_free(visit.ticket);
        }
        secure_stop(echo);
    }
    free(text);
}

static void say_s(struct visit *visit)
{
    visit_say(visit, "s");
}

static size_t until_go(struct visit *visit, const uint8_t *data, size_t len)
{
    if (visit->secured == 0 && stream_tls(visit->stream) == NULL) {
        assert_int_equal(len, 3);
        assert_memory_equal(data, "go\n", 3);
        visit->on_received = errand_hear;
        errand_begin(visit);
        return 3;
    }
    return len;
}

/* In clear first, as with STARTTLS; and there are many. */
static void after_clear(void **state)
{
    struct echo *echo = secure_start(state, (struct echo_options){0});
    uint8_t *text = malloc(40000);
    memset(text, 'A', 40000); /* which is no command */
    struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
    struct errand errand = {errand_clients[1], "mx.example.org", NULL, text, 40000, 2, NULL, 3};
    for (int i = 0; i < 40; i++) {
        struct visit *visit = errand_send(visitor, &echo->address, &errand);
        visit->on_opened = say_s;
        visit->on_received = until_go;
    }
    visitor_run(visitor);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(visitor->visits[i].error, 0);
        assert_int_equal(visitor->visits[i].got_len, 40003);
    }
    visitor_free(visitor);
    free(text);
    secure_stop(echo);
}

static void serve_after_clear(struct host *host, int descriptor)
{
    char clear[4000];
    struct peer peer;
    if (socket_read(descriptor, clear, sizeof(clear)) == sizeof(clear))
        (void)(host_shake(host, descriptor, &peer) &&
               host_echo_tls(host, descriptor, &peer, false));
    peer_free(&peer);
}

static void say_much_and_start(struct visit *visit)
{
    char clear[4001] = "";
    memset(clear, 'c', 4000);
    visit_say(visit, clear);
    errand_begin(visit);
    assert_true(visit->stream->paused); /* there was no room for all of the hello */
}

static void hello_without_room(void **state)
{
    struct host host = {.serve = serve_after_clear, .tls = &errand_modern};
    uint8_t *text = host_noise(1000);
    host_start(&host, 0);
    struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
    struct errand errand = {errand_clients[1], "mx.example.org", NULL, text, 1000, 1, NULL, 0};
    struct visit *visit = errand_send(visitor, &host.address, &errand);
    visit->on_opened = say_much_and_start;
    visitor_run(visitor);
    assert_int_equal(visit->error, 0);
    assert_int_equal(visit->got_len, 1000);
    assert_memory_equal(visit->got, text, 1000);
    visitor_free(visitor);
    host_stop(&host);
    free(text);
}

/* Foreign servers, which ask for new keys in the midst of it. */
static void foreign_servers(void **state)
{
    const struct peer_library *libraries[] = {peer_boringssl(), peer_openssl()};
    uint8_t *text = host_noise(MUCH);
    for (int i = 0; i < 8; i++) {
        struct peer_options options = i % 2 ? errand_modern : errand_old;
        struct host host = {.serve = errand_serve, .tls = &options};
        struct visit visit;
        options.library = libraries[i / 2 % 2];
        if (i / 2 % 2 == 1 && options.library == NULL)
            continue;
        host.user = i >= 4 && i % 2 ? &host : NULL;
        host_start(&host, 0);
        struct errand errand = {errand_clients[i % 2], NULL, NULL, text, MUCH, 8, "before", 0};
        errand_run(state, &host.address, &errand, &visit);
        host_stop(&host);
        assert_true(errand_served); /* and with our farewell at its end */
        assert_int_equal(host.heard, MUCH + 6);
        assert_int_equal(host.sum, crc32c(crc32c(0, "before", 6), text, MUCH));
        tls_session_free(visit.ticket);
    }
    free(text);
}

static size_t lend_again(struct visit *visit, const uint8_t *data, size_t len)
{
    const struct errand *errand = visit->user;
    (void)data;
    if (visit->got_len + len == errand->len * visit->lent) {
        if (visit->lent < 5)
            errand_lend(visit);
        else
            visit_abort(visit); /* without a last word, which would carry an answer, too */
    }
    return len;
}

/* The server asks for a new key with each echo but the first: each loan after that brings it. */
static void key_updates(void **state)
{
    struct host host = {.serve = errand_serve, .tls = &errand_modern};
    uint8_t *text = host_noise(300000);
    host.user = &host;
    for (size_t len = 100; len <= 300000; len += 299900) {
        struct errand errand = {errand_clients[1], NULL, NULL, text, len, 1, NULL, 0};
        host_start(&host, 0);
        struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
        struct visit *visit = errand_send(visitor, &host.address, &errand);
        visit->on_received = lend_again;
        visitor_run(visitor);
        assert_int_equal(visit->error, 0);
        assert_int_equal(visit->got_len, 5 * len);
        visitor_free(visitor);
        host_stop(&host);
        assert_in_range(errand_updates, 3, 200);
    }
    free(text);
}

static void tickets(void **state)
{
    uint8_t *text = host_noise(300000);
    struct echo *echo =
        secure_start(state, (struct echo_options){.tls_first = true, .plain = true});
    for (int version = 0; version < 2; version++) {
        struct tls_session *ticket = NULL;
        for (int i = 0; i < 5; i++) {
            struct errand errand = {
                errand_clients[version], "mx.example.org", ticket, text, 300000, 2, NULL, 0};
            struct visit visit;
            errand_run(state, &echo->address, &errand, &visit);
            assert_int_equal(visit.info.resumed, i > 0);
            assert_int_equal(visit.info.version_index, version);
            assert_int_equal(visit.tickets, i == 0 || version == 1);
            if (visit.ticket == NULL)
                continue; /* the old one is good for more */
            tls_session_free(ticket);
            ticket = visit.ticket;
        }
        tls_session_free(ticket);
    }
    free(text);
    secure_stop(echo);
}

/* Tickets that nobody wants are let go of: the leak checker looks. */
static void no_tickets(void **state)
{
    struct echo *echo =
        secure_start(state, (struct echo_options){.tls_first = true, .plain = true});
    struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
    visitor->worker.options.callbacks.ticket = NULL;
    struct errand errands[2];
    for (int i = 0; i < 2; i++) {
        errands[i] = (struct errand){
            errand_clients[i], "mx.example.org", NULL, (const uint8_t *)"text", 4, 1, NULL, 0};
        (void)errand_send(visitor, &echo->address, &errands[i]);
    }
    visitor_run(visitor);
    for (int i = 0; i < 2; i++)
        assert_int_equal(visitor->visits[i].got_len, 4);
    visitor_free(visitor);
    secure_stop(echo);
}

/* --- loans --- */

static void lend_and_end(struct visit *visit)
{
    errand_lend(visit);
    visit_end(visit);
}

/* Our farewell follows the loan, and the server has all of it. */
static void end_behind_loan(void **state)
{
    uint8_t *text = host_noise(MUCH);
    for (int i = 0; i < 4; i++) {
        struct host host = {.serve = errand_serve, .tls = i < 2 ? &errand_old : &errand_modern};
        struct errand errand = {errand_clients[i / 2],   NULL, NULL, text, MUCH, 1,
                                i % 2 ? "before" : NULL, 0};
        host_start(&host, i % 2 ? 16384 : 0);
        struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
        struct visit *visit = errand_send(visitor, &host.address, &errand);
        visit->on_secured = lend_and_end;
        visitor_run(visitor);
        assert_int_equal(visit->error, 0);
        visitor_free(visitor);
        host_stop(&host);
        assert_true(errand_served);
        assert_int_equal(host.heard, MUCH + (i % 2 ? 6 : 0));
        assert_int_equal(host.sum, crc32c(crc32c(0, "before", i % 2 ? 6 : 0), text, MUCH));
    }
    free(text);
}

static void lend_nothing(struct visit *visit)
{
    const struct errand *errand = visit->user;
    if (visit->lent == 4) {
        visit_end(visit);
        return;
    }
    if (visit->lent % 2 == 1)
        visit_say(visit, errand->before);
    visit_lend(visit, errand->text, 0, visit->lent % 3);
}

/* Loans without a text, alone and behind words; lent again when they come back. */
static void empty_loans(void **state)
{
    struct host host = {.serve = errand_serve, .tls = &errand_modern};
    struct errand errand = {errand_clients[1], NULL, NULL, (const uint8_t *)"", 0, 1, "before", 0};
    host_start(&host, 0);
    struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
    struct visit *visit = errand_send(visitor, &host.address, &errand);
    visit->on_secured = visit->on_returned = lend_nothing;
    visit->on_received = NULL;
    visitor_run(visitor);
    assert_int_equal(visit->error, 0);
    assert_int_equal(visit->returned, 4);
    visitor_free(visitor);
    host_stop(&host);
    assert_int_equal(host.heard, 12);
    assert_true(errand_served);
}

static void lend_nothing_and_end(struct visit *visit)
{
    visit_lend(visit, "", 0, 1);
    visit_end(visit);
}

static void hear_farewell(struct host *host, int descriptor)
{
    struct peer peer;
    errand_served = host_shake(host, descriptor, &peer);
    if (host->user != NULL)
        peer_close(&peer); /* which leaves with the next octets */
    errand_served = errand_served && host_echo_tls(host, descriptor, &peer, false);
    peer_free(&peer);
}

/* Our farewell comes whoever is first: behind a loan of nothing, or in answer to the server's. */
static void farewells(void **state)
{
    for (int i = 0; i < 4; i++) {
        struct host host = {.serve = hear_farewell, .tls = i < 2 ? &errand_old : &errand_modern};
        struct errand errand = {.context = errand_clients[i / 2]};
        host.user = i % 2 ? &host : NULL;
        host_start(&host, 0);
        struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
        struct visit *visit = errand_send(visitor, &host.address, &errand);
        visit->on_secured = i % 2 ? NULL : lend_nothing_and_end;
        visitor_run(visitor);
        assert_int_equal(visit->error, 0);
        visitor_free(visitor);
        host_stop(&host);
        assert_true(errand_served);
    }
}

/* --- at random --- */

static uint32_t seed;

static void start_or_leave(struct visit *visit)
{
    const struct errand *errand = visit->user;
    if (!stream_secure_client(&visit->visitor->worker, visit->stream, errand->context, NULL, NULL))
        visit_abort(visit);
}

static void disturb(struct visitor *visitor)
{
    seed = seed * 1664525 + 1013904223;
    struct visit *visit = &visitor->visits[(seed >> 16) % visitor->visit_count];
    if (visit->closed > 0 || (seed >> 8) % 3 > 0)
        return;
    if ((seed >> 24) % 2 > 0)
        visit_end(visit);
    else
        visit_abort(visit);
}

static void crowd(void **state)
{
    uint8_t *text = host_noise(200000);
    struct echo *echo =
        secure_start(state, (struct echo_options){.tls_first = true, .plain = true, .shy = 1});
    for (uint32_t round = 1; round <= 6; round++) {
        seed = round;
        struct visitor_options options = {.on_turn = disturb, .buffer_count = 8, .blocks_max = 30};
        struct visitor *visitor = errand_visitor(state, options);
        struct errand errands[2];
        for (int i = 0; i < 40; i++) {
            errands[i % 2] =
                (struct errand){errand_clients[i % 2], NULL, NULL, text, 200000, 3, NULL, 0};
            errand_send(visitor, &echo->address, &errands[i % 2])->on_opened = start_or_leave;
        }
        visitor_run(visitor);
        visitor_free(visitor);
    }
    free(text);
    secure_stop(echo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(our_server),      TWICE(after_clear),     TWICE(hello_without_room),
        TWICE(foreign_servers), TWICE(key_updates),     TWICE(tickets),
        TWICE(no_tickets),      TWICE(end_behind_loan), TWICE(empty_loans),
        TWICE(farewells),       TWICE(crowd),
    };
    return cmocka_run_group_tests(tests, errand_set_up, errand_tear_down);
}
