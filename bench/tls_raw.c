/* See tls_side.h: BoringSSL alone, as a server and as the client. */
#include "bench/tls_keys.h"
#include "bench/tls_side.h"

#include <openssl/bio.h>
#include <openssl/err.h>

#include <stdio.h>
#include <stdlib.h>

#ifdef SSL_GROUP_X25519_MLKEM768
static const char groups[] = "X25519MLKEM768:X25519:P-256";
#else
static const char groups[] = "X25519:P-256";
#endif

void must(bool done, const char *what)
{
    if (done)
        return;
    char reason[256] = "";
    uint32_t error = ERR_peek_last_error();
    if (error != 0)
        ERR_error_string_n(error, reason, sizeof(reason));
    fprintf(stderr, "bench/tls: %s %s\n", what, reason);
    exit(1);
}

/* --- both sides --- */

static void attach(struct client *side, SSL_CTX *context)
{
    side->ssl = SSL_new(context);
    side->in = BIO_new(BIO_s_mem());
    side->out = BIO_new(BIO_s_mem());
    must(side->ssl != NULL && side->in != NULL && side->out != NULL, "no memory");
    SSL_set_bio(side->ssl, side->in, side->out);
}

static void give(struct client *side, struct pipe *in)
{
    if (in->len > 0)
        must(BIO_write(side->in, in->data, (int)in->len) == (int)in->len, "no memory");
    in->len = 0;
}

static void take(struct client *side, struct pipe *out)
{
    int len;
    while (out->len < PIPE_ROOM &&
           (len = BIO_read(side->out, out->data + out->len, (int)(PIPE_ROOM - out->len))) > 0)
        out->len += (size_t)len;
    must(BIO_pending(side->out) == 0, "a flight is too long");
}

static bool step(struct client *side, struct pipe *in, struct pipe *out)
{
    give(side, in);
    int result = SSL_do_handshake(side->ssl);
    must(result == 1 || SSL_get_error(side->ssl, result) == SSL_ERROR_WANT_READ,
         "the handshake failed:");
    take(side, out);
    return result == 1;
}

/* --- the server --- */

static void *raw_context_new(const struct tls_keys *keys, bool rsa)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    const char *chain = rsa ? keys->rsa_chain : keys->ecdsa_chain;
    const char *key = rsa ? keys->rsa_key : keys->ecdsa_key;
    must(context != NULL && SSL_CTX_use_certificate_chain_file(context, chain) == 1 &&
             SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 &&
             SSL_CTX_set1_curves_list(context, groups) == 1 &&
             SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1 &&
             SSL_CTX_set_num_tickets(context, 1) == 1,
         "no server:");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* tickets only, as ours */
    return context;
}

static void raw_context_free(void *context)
{
    SSL_CTX_free(context);
}

static void *raw_server_new(void *context)
{
    struct client *server = malloc(sizeof(*server));
    must(server != NULL, "no memory");
    attach(server, context);
    SSL_set_accept_state(server->ssl);
    return server;
}

static void raw_server_free(void *server)
{
    client_free(server);
    free(server);
}

static bool raw_step(void *server, struct pipe *in, struct pipe *out)
{
    return step(server, in, out);
}

static void raw_reply(void *server, const uint8_t *text, size_t len, struct pipe *out)
{
    struct client *side = server;
    must(SSL_write(side->ssl, text, (int)len) == (int)len, "cannot write:");
    take(side, out);
}

/* One record at a time: a memory BIO moves what is left at every read. */
static size_t raw_open(void *server, uint8_t *data, size_t len)
{
    struct client *side = server;
    static uint8_t text[1 << 16];
    size_t total = 0;
    for (size_t at = 0; at < len;) {
        size_t record_len = 5 + ((size_t)data[at + 3] << 8 | data[at + 4]);
        must(BIO_write(side->in, data + at, (int)record_len) == (int)record_len, "no memory");
        int got = SSL_read(side->ssl, text, sizeof(text));
        must(got > 0, "cannot read:");
        total += (size_t)got;
        at += record_len;
    }
    return total;
}

static size_t raw_seal(void *server, uint8_t *text, size_t len, uint8_t *out)
{
    return client_write(server, text, len, out);
}

static size_t raw_memory(void *server)
{
    (void)server;
    return 0;
}

const struct server_kind server_raw = {
    "boringssl", raw_context_new, raw_context_free, raw_server_new, raw_server_free,
    raw_step,    raw_reply,       raw_open,         raw_seal,       raw_memory,
};

/* --- the client --- */

static SSL_SESSION *newest;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(newest);
    newest = session;
    return 1;
}

SSL_SESSION *client_session(void)
{
    SSL_SESSION *session = newest;
    newest = NULL;
    return session;
}

SSL_CTX *client_context_new(const struct handshake *handshake)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    must(context != NULL && SSL_CTX_set1_curves_list(context, handshake->group) == 1 &&
             SSL_CTX_set_min_proto_version(context, handshake->version) == 1 &&
             SSL_CTX_set_max_proto_version(context, handshake->version) == 1 &&
             (handshake->cipher == NULL ||
              SSL_CTX_set_strict_cipher_list(context, handshake->cipher) == 1),
         "no client:");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, keep_session);
    return context;
}

void client_new(struct client *client, SSL_CTX *context, SSL_SESSION *session)
{
    attach(client, context);
    SSL_set_connect_state(client->ssl);
    must(SSL_set_tlsext_host_name(client->ssl, "mx.bench.example") == 1, "no memory");
    must(session == NULL || SSL_set_session(client->ssl, session) == 1, "no session:");
}

void client_free(struct client *client)
{
    SSL_free(client->ssl);
}

bool client_step(struct client *client, struct pipe *in, struct pipe *out)
{
    return step(client, in, out);
}

size_t client_read(struct client *client, struct pipe *in)
{
    uint8_t text[4096];
    size_t total = 0;
    give(client, in);
    for (int len; (len = SSL_read(client->ssl, text, sizeof(text))) > 0;)
        total += (size_t)len;
    return total;
}

size_t client_write(struct client *client, const uint8_t *text, size_t len, uint8_t *out)
{
    must(SSL_write(client->ssl, text, (int)len) == (int)len, "cannot write:");
    int got = BIO_read(client->out, out, PIPE_ROOM);
    must(got > 0 && BIO_pending(client->out) == 0, "records of another size");
    return (size_t)got;
}
