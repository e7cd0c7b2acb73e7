/* A handshake in memory: two SSL objects with a pair of BIOs between them. */
#include "tests/support/pair.h"

#include "gateway/base/check.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/mem.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/x509.h>

enum { STEPS_MAX = 20 };

static void begin(struct pair_end *end, SSL *ssl, struct tls_context *context, bool server)
{
    CHECK(ssl != NULL);
    memset(end, 0, sizeof(*end));
    end->tls.ssl = ssl;
    end->tls.server = server;
    end->tls.handshake = &end->handshake;
    end->tls.context = context;
    end->result = SSL_ERROR_WANT_READ;
    SSL_set_app_data(ssl, &end->tls);
    if (server)
        SSL_set_accept_state(ssl);
    else
        SSL_set_connect_state(ssl);
}

/* Private-key operations are done at once, as a helper thread would. */
static void step(struct pair_end *end)
{
    SSL *ssl = end->tls.ssl;

    if (end->result == 0 || end->result == SSL_ERROR_SSL)
        return;
    ERR_clear_error();
    int result = SSL_do_handshake(ssl);
    end->result = result == 1 ? 0 : SSL_get_error(ssl, result);
    if (end->result == SSL_ERROR_WANT_PRIVATE_KEY_OPERATION) {
        struct tls_job *job = tls_job_take(&end->tls);
        CHECK(job != NULL);
        tls_job_run(job);
        tls_job_done(job, &end->tls);
    }
    if (end->result == SSL_ERROR_SSL)
        end->reason = ERR_GET_REASON(ERR_peek_error());
    ERR_clear_error();
}

/* The ticket comes before the server's first record; an alert comes, too, when the client believes
 * that all is well. */
static void exchange(struct pair *pair)
{
    char octet;

    if (pair->server.result == 0)
        SSL_write(pair->server.tls.ssl, "", 0);
    ERR_clear_error();
    int result = SSL_read(pair->client.tls.ssl, &octet, 1);
    int error = SSL_get_error(pair->client.tls.ssl, result);
    if (error == SSL_ERROR_SSL)
        pair->client.reason = ERR_GET_REASON(ERR_peek_error());
    ERR_clear_error();
}

void pair_run(struct pair *pair, struct tls_context *context, SSL *client)
{
    BIO *here, *there;

    CHECK(BIO_new_bio_pair(&here, 1 << 17, &there, 1 << 17));
    begin(&pair->server, SSL_new(context->ssl), tls_context_keep(context), true);
    begin(&pair->client, client, NULL, false);
    SSL_set_bio(pair->server.tls.ssl, here, here);
    SSL_set_bio(client, there, there);
    for (size_t i = 0; i < STEPS_MAX && (pair->server.result || pair->client.result); i++) {
        step(&pair->client);
        step(&pair->server);
    }
    pair->done = pair->server.result == 0 && pair->client.result == 0;
    if (pair->client.result == 0)
        exchange(pair);
}

void pair_end(struct pair *pair)
{
    SSL_free(pair->server.tls.ssl);
    SSL_free(pair->client.tls.ssl);
    offload_forget(&pair->server.tls);
    tls_context_drop(pair->server.tls.context);
    tls_session_free(pair->client.handshake.session);
}

static SSL *named(SSL *ssl, const char *name)
{
    CHECK(ssl != NULL);
    CHECK(!name || SSL_set_tlsext_host_name(ssl, name));
    return ssl;
}

SSL *pair_client(struct tls_context *context, const char *name)
{
    return named(SSL_new(context->ssl), name);
}

SSL *pair_stranger(uint16_t version, const char *name)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());

    CHECK(context != NULL);
    CHECK(SSL_CTX_set_min_proto_version(context, version));
    CHECK(SSL_CTX_set_max_proto_version(context, version));
    SSL *ssl = SSL_new(context);
    SSL_CTX_free(context); /* the SSL object has it */
    return named(ssl, name);
}

bool pair_sent(const struct pair *pair, const char *chain_path)
{
    const STACK_OF(CRYPTO_BUFFER) *sent = SSL_get0_peer_certificates(pair->client.tls.ssl);
    BIO *file = BIO_new_file(chain_path, "r");
    X509 *leaf = file ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;
    uint8_t *wire = NULL;
    int len = leaf ? i2d_X509(leaf, &wire) : 0;
    const CRYPTO_BUFFER *first = sent ? sk_CRYPTO_BUFFER_value(sent, 0) : NULL;
    bool same = first && len > 0 && CRYPTO_BUFFER_len(first) == (size_t)len &&
                memcmp(CRYPTO_BUFFER_data(first), wire, (size_t)len) == 0;

    OPENSSL_free(wire);
    X509_free(leaf);
    BIO_free(file);
    return same;
}
