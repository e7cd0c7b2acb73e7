/* See errand.h. */
#include "tests/support/errand.h"

#include "tests/support/secure_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct tls_context *errand_clients[2];
bool errand_served;
uint32_t errand_updates;

const struct peer_options errand_modern = {
    .server = true, .version_min = TLS1_3_VERSION, .chain = "ecdsa.pem", .key = "ecdsa.key"};
const struct peer_options errand_old = {
    .server = true, .version_max = TLS1_2_VERSION, .chain = "rsa.pem", .key = "rsa.key"};

void errand_begin(struct visit *visit)
{
    const struct errand *errand = visit->user;
    struct worker *worker = &visit->visitor->worker;
    if (!stream_secure_client(worker, visit->stream, errand->context, errand->name, errand->ticket))
        fail();
    assert_int_equal(stream_room(worker, visit->stream), 0);
    assert_non_null(stream_tls(visit->stream));
    assert_false(stream_is_secure(visit->stream));
}

void errand_lend(struct visit *visit)
{
    const struct errand *errand = visit->user;
    if (errand->before != NULL)
        visit_say(visit, errand->before);
    visit_lend(visit, errand->text, errand->len, errand->pieces);
}

size_t errand_hear(struct visit *visit, const uint8_t *data, size_t len)
{
    const struct errand *errand = visit->user;
    size_t before = errand->before == NULL ? 0 : strlen(errand->before);
    (void)data;
    if (visit->got_len + len == errand->clear + before + errand->len)
        visit_end(visit);
    return len;
}

struct visit *errand_send(struct visitor *visitor, const union address_any *address,
                          struct errand *errand)
{
    struct visit *visit = visitor_call(visitor, address);
    visit->user = errand;
    visit->on_opened = errand_begin;
    visit->on_secured = errand_lend;
    visit->on_received = errand_hear;
    return visit;
}

struct visitor *errand_visitor(void **state, struct visitor_options options)
{
    options.baseline = *state != NULL;
    return visitor_new(&options);
}

void errand_run(void **state, const union address_any *address, struct errand *errand,
                struct visit *out)
{
    struct visitor *visitor = errand_visitor(state, (struct visitor_options){0});
    size_t before = errand->before == NULL ? 0 : strlen(errand->before);
    struct visit *visit = errand_send(visitor, address, errand);
    visitor_run(visitor);
    assert_int_equal(visit->error, 0);
    assert_int_equal(visit->secured, 1);
    assert_int_equal(visit->got_len, before + errand->len);
    assert_memory_equal(visit->got, errand->before, before);
    assert_memory_equal(visit->got + before, errand->text, errand->len);
    *out = *visit;
    visit->ticket = NULL; /* the caller's now */
    out->got = NULL;
    visitor_free(visitor);
}

static void count_updates(int ours, int version, int type, const void *data, size_t len, SSL *ssl,
                          void *user)
{
    (void)version;
    (void)ssl;
    (void)user;
    errand_updates += !ours && type == SSL3_RT_HANDSHAKE && len > 0 &&
                      *(const uint8_t *)data == SSL3_MT_KEY_UPDATE;
}

void errand_serve(struct host *host, int descriptor)
{
    struct peer peer;
    errand_updates = 0;
    errand_served = host_shake(host, descriptor, &peer);
    if (peer.library == peer_boringssl())
        SSL_set_msg_callback(peer.ssl, count_updates);
    errand_served = errand_served && host_echo_tls(host, descriptor, &peer, host->user != NULL);
    peer_free(&peer);
}

int errand_set_up(void **state)
{
    char error[512];
    if (secure_set_up(state) != 0)
        return -1;
    for (int i = 0; i < 2; i++) {
        struct tls_client_options options = {.version_min = i == 0 ? TLS_1_2 : TLS_1_3,
                                             .version_max = i == 0 ? TLS_1_2 : TLS_1_3};
        errand_clients[i] = tls_context_client(&options, error, sizeof(error));
        if (errand_clients[i] == NULL)
            return -1;
    }
    return 0;
}

int errand_tear_down(void **state)
{
    tls_context_drop(errand_clients[0]);
    tls_context_drop(errand_clients[1]);
    return secure_tear_down(state);
}
