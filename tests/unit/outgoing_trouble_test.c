/* TLS as the client on a worker's streams, when it goes wrong: servers that are none, that refuse,
 * that are others than they say, that leave or break off. Each runs with what this kernel can do
 * and with what Linux 6.1 can. */
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

/* --- the handshake fails --- */

static void fails(void **state, const union address_any *address, struct errand *errand,
                  enum tls_failure failure)
{
    struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
    struct visit *visit = errand_send(visitor, address, errand);
    visitor_run(visitor);
    assert_int_equal(visit->error, -EPROTO);
    assert_int_equal(visit->failure, failure);
    assert_int_equal(visit->secured, 0);
    assert_int_equal(visit->lent, 0);
    assert_int_equal(visit->got_len, 0);
    visitor_free(visitor);
}

static void serve_clear(struct host *host, int descriptor)
{
    static const char line[] = "554 5.7.0 no\r\n";
    (void)send(descriptor, line, sizeof(line) - 1, MSG_NOSIGNAL);
    (void)host_drain(host, descriptor);
}

static void not_tls(void **state)
{
    struct host host = {.serve = serve_clear};
    struct errand errand = {.context = errand_clients[1]};
    host_start(&host, 0);
    fails(state, &host.address, &errand, TLS_FAILURE_NOT_TLS);
    host_stop(&host);
}

static void no_version(void **state)
{
    struct host host = {.serve = errand_serve};
    for (int i = 0; i < 2; i++) {
        host.tls = i == 0 ? &errand_modern : &errand_old;
        struct errand errand = {.context = errand_clients[i]};
        host_start(&host, 0);
        fails(state, &host.address, &errand, TLS_FAILURE_ALERT);
        host_stop(&host);
    }
}

static struct tls_context *trusting(const char *ca, enum tls_version version)
{
    struct tls_client_options options = {.ca = ca, .version_min = version, .version_max = version};
    char error[512] = "";
    struct tls_context *context = tls_context_client(&options, error, sizeof(error));
    assert_string_equal(error, "");
    assert_non_null(context);
    return context;
}

/* The server's certificate is its own authority. A resumed handshake shows none: a ticket vouches
 * only for the name and the context that it was made with. */
static void verified(void **state)
{
    struct echo *echo =
        secure_start(state, (struct echo_options){.tls_first = true, .plain = true});
    uint8_t *text = host_noise(1000);
    for (int version = 0; version < 2; version++) {
        struct tls_context *right = trusting("ecdsa.pem", (enum tls_version)version);
        struct tls_context *wrong = trusting("rsa.pem", (enum tls_version)version);
        struct errand errand = {right, "mx.example.org", NULL, text, 1000, 1, NULL, 0};
        struct visit visit;
        errand_run(state, &echo->address, &errand, &visit);
        struct tls_session *ticket = visit.ticket;
        errand.ticket = ticket;
        errand_run(state, &echo->address, &errand, &visit);
        assert_true(visit.info.resumed);
        tls_session_free(visit.ticket);
        for (int offered = 0; offered < 2; offered++) {
            errand.ticket = offered ? ticket : NULL;
            errand.name = "mx.example.com";
            errand.context = right;
            fails(state, &echo->address, &errand, TLS_FAILURE_CERTIFICATE);
            errand.name = "mx.example.org";
            errand.context = wrong;
            fails(state, &echo->address, &errand, TLS_FAILURE_CERTIFICATE);
        }
        tls_session_free(ticket);
        tls_context_drop(right);
        tls_context_drop(wrong);
    }
    free(text);
    secure_stop(echo);
}

static void serve_and_leave_early(struct host *host, int descriptor)
{
    char hello[100];
    (void)host;
    (void)socket_read(descriptor, hello, sizeof(hello));
    shutdown(descriptor, SHUT_WR);
    usleep(10000);
}

static void server_leaves_early(void **state)
{
    struct host host = {.serve = serve_and_leave_early};
    struct errand errand = {.context = errand_clients[1]};
    host_start(&host, 0);
    struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
    struct visit *visit = errand_send(visitor, &host.address, &errand);
    visitor_run(visitor);
    assert_int_equal(visit->secured, 0);
    assert_int_equal(visit->failure, TLS_FAILURE_NONE);
    visitor_free(visitor);
    host_stop(&host);
}

static void start_without_blocks(struct visit *visit)
{
    struct worker *worker = &visit->visitor->worker;
    void *blocks[2];
    for (int i = 0; i < 2; i++)
        assert_non_null(blocks[i] = blocks_take(&worker->blocks));
    assert_false(stream_secure_client(worker, visit->stream, errand_clients[1], NULL, NULL));
    assert_null(stream_tls(visit->stream));
    for (int i = 0; i < 2; i++)
        blocks_give(&worker->blocks, blocks[i]);
    errand_begin(visit);
}

static void out_of_blocks(void **state)
{
    struct echo *echo =
        secure_start(state, (struct echo_options){.tls_first = true, .plain = true});
    struct visitor *visitor = errand_visitor(state, (struct visitor_options){.blocks_max = 2});
    struct errand errand = {errand_clients[1], NULL, NULL, (const uint8_t *)"text", 4, 1,
                            "before",          0};
    struct visit *visit = errand_send(visitor, &echo->address, &errand);
    visit->on_opened = start_without_blocks;
    visitor_run(visitor);
    assert_int_equal(visit->got_len, 10);
    visitor_free(visitor);
    secure_stop(echo);
}

/* --- in the midst of a loan --- */

static void serve_badly(struct host *host, int descriptor)
{
    static const uint8_t record[5 + 32] = {23, 3, 3, 0, 32};
    struct peer peer;
    uint8_t room[1000];
    if (host_shake(host, descriptor, &peer)) {
        (void)socket_read(descriptor, room, sizeof(room));
        if (host->user != NULL) {
            (void)send(descriptor, record, sizeof(record), MSG_NOSIGNAL);
            (void)host_drain(host, descriptor);
        }
    }
    peer_free(&peer);
}

static void server_goes_wrong(void **state)
{
    enum { LEN = 30 * 1000 * 1000 };
    uint8_t *text = malloc(LEN);
    memset(text, 't', LEN);
    for (int i = 0; i < 4; i++) {
        struct host host = {.serve = serve_badly};
        host.user = i % 2 ? &host : NULL;
        host.tls = i < 2 ? &errand_old : &errand_modern;
        host_start(&host, 0);
        struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
        struct errand errand = {errand_clients[i / 2], NULL, NULL, text, LEN, 1, NULL, 0};
        struct visit *visit = errand_send(visitor, &host.address, &errand);
        visitor_run(visitor);
        assert_int_equal(visit->returned, 1);
        if (i % 2 == 1) {
            assert_int_equal(visit->error, -EPROTO);
            assert_int_equal(visit->failure, TLS_FAILURE_RECORD);
        } else {
            assert_true(visit->error == -ECONNRESET || visit->error == -EPIPE || visit->error == 0);
        }
        visitor_free(visitor);
        host_stop(&host);
        assert_true(host.heard < LEN); /* the rest of the loan was not sent */
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(not_tls),       TWICE(no_version),        TWICE(verified), TWICE(server_leaves_early),
        TWICE(out_of_blocks), TWICE(server_goes_wrong),
    };
    return cmocka_run_group_tests(tests, errand_set_up, errand_tear_down);
}
