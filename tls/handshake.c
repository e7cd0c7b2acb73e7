/* The handshake: BoringSSL between two borrowed spans, until the keys are ours. See tls.h. */
#include "tls/inside.h"

#include <openssl/err.h>
#include <openssl/mem.h>

#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* --- the BIO: reads from io->in, writes to io->out, and copies once --- */

static int bio_read(BIO *bio, char *out, int len)
{
    struct tls_io *io = ((struct tls *)BIO_get_data(bio))->io;
    BIO_clear_retry_flags(bio);
    size_t there = io == NULL ? 0 : io->in_len - io->in_taken;
    if (there == 0 || len <= 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t taken = there < (size_t)len ? there : (size_t)len;
    memcpy(out, io->in + io->in_taken, taken);
    io->in_taken += taken;
    return (int)taken;
}

static int bio_write(BIO *bio, const char *in, int len)
{
    struct tls_io *io = ((struct tls *)BIO_get_data(bio))->io;
    BIO_clear_retry_flags(bio);
    size_t room = io == NULL ? 0 : io->out_room - io->out_len;
    if (room == 0 || len <= 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    size_t taken = room < (size_t)len ? room : (size_t)len;
    memcpy(io->out + io->out_len, in, taken);
    io->out_len += taken;
    return (int)taken;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method;

static void make_bio_method(void)
{
    bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "span");
    if (bio_method == NULL)
        return;
    BIO_meth_set_read(bio_method, bio_read);
    BIO_meth_set_write(bio_method, bio_write);
    BIO_meth_set_ctrl(bio_method, bio_control);
}

static bool give_bio(struct tls *tls)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_bio_method);
    BIO *bio = bio_method == NULL ? NULL : BIO_new(bio_method);
    if (bio == NULL)
        return false;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(tls->ssl, bio, bio);
    return true;
}

/* --- life --- */

static struct tls *new_tls(struct tls_context *context, bool server)
{
    struct tls *tls = calloc(1, sizeof(*tls));
    if (tls == NULL)
        return NULL;
    tls->server = server;
    tls->info.version = tls->info.cipher = tls->info.group = "";
    tls->info.server_name = tls->info.peer_name = "";
    tls->handshake = calloc(1, sizeof(*tls->handshake));
    tls->ssl = SSL_new(context->ssl);
    if (tls->ssl != NULL)
        tls->context = tls_context_keep(context);
    if (tls->handshake == NULL || tls->ssl == NULL || !SSL_set_app_data(tls->ssl, tls) ||
        !give_bio(tls)) {
        tls_free(tls);
        return NULL;
    }
    return tls;
}

struct tls *tls_server(struct tls_context *context)
{
    struct tls *tls = new_tls(context, true);
    if (tls != NULL)
        SSL_set_accept_state(tls->ssl);
    return tls;
}

/* may_resume: a verifying client resumes only what it has verified itself, and under that name. */
static bool may_resume(const struct tls_context *context, const char *server_name,
                       const struct tls_session *session)
{
    const char *name = server_name != NULL ? server_name : "";
    return !context->verify ||
           (session->context_id == context->id && strcmp(session->server_name, name) == 0);
}

struct tls *tls_client(struct tls_context *context, const char *server_name,
                       const struct tls_session *resume)
{
    struct tls *tls = new_tls(context, false);
    if (tls == NULL)
        return NULL;
    SSL_set_connect_state(tls->ssl);
    bool ok = true;
    if (server_name != NULL)
        ok = SSL_set_tlsext_host_name(tls->ssl, server_name) == 1 &&
             (!context->verify || SSL_set1_host(tls->ssl, server_name) == 1);
    if (ok && resume != NULL && may_resume(context, server_name, resume))
        ok = SSL_set_session(tls->ssl, resume->session) == 1;
    if (ok)
        return tls;
    tls_free(tls);
    return NULL;
}

/* end_handshake lets go of what only the handshake needs. A client's session stays. */
static void end_handshake(struct tls *tls)
{
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    tls_context_drop(tls->context);
    tls->context = NULL;
    if (tls->handshake == NULL)
        return;
    OPENSSL_cleanse(tls->handshake->client_secret, RECORD_SECRET_MAX);
    OPENSSL_cleanse(tls->handshake->server_secret, RECORD_SECRET_MAX);
    if (tls->handshake->session != NULL)
        return;
    free(tls->handshake);
    tls->handshake = NULL;
}

void tls_free(struct tls *tls)
{
    if (tls == NULL)
        return;
    tls_session_free(tls_session_take(tls));
    end_handshake(tls);
    offload_forget(tls);
    record_end(&tls->read);
    record_end(&tls->write);
    free(tls->prelude);
    free(tls->names);
    if (tls->exporter != NULL)
        OPENSSL_cleanse(tls->exporter, TLS_EXPORTER_LEN);
    free(tls->exporter);
    free(tls);
}

struct tls_session *tls_session_take(struct tls *tls)
{
    if (tls->handshake == NULL)
        return NULL;
    struct tls_session *session = tls->handshake->session;
    tls->handshake->session = NULL;
    return session;
}

void tls_session_free(struct tls_session *session)
{
    if (session == NULL)
        return;
    SSL_SESSION_free(session->session);
    free(session);
}

/* --- what was agreed --- */

const char *const tls_cipher_names[TLS_CIPHER_COUNT] = {
    "TLS_AES_128_GCM_SHA256",
    "TLS_AES_256_GCM_SHA384",
    "TLS_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
};

static bool find_cipher(struct tls *tls)
{
    const char *name = SSL_CIPHER_standard_name(SSL_get_current_cipher(tls->ssl));
    for (uint8_t i = 0; i < TLS_CIPHER_COUNT; i++) {
        if (strcmp(name, tls_cipher_names[i]) == 0) {
            tls->info.cipher = tls_cipher_names[i];
            tls->info.cipher_index = i;
            return true;
        }
    }
    return false;
}

static bool take_names(struct tls *tls)
{
    char peer[256];
    const char *asked = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
    size_t asked_len = asked == NULL ? 0 : strlen(asked);
    size_t peer_len =
        tls->context->verify ? certificate_peer_name(tls->ssl, peer, sizeof(peer)) : 0;
    if (asked_len + peer_len == 0)
        return true;
    tls->names = malloc(asked_len + peer_len + 2);
    if (tls->names == NULL)
        return false;
    for (size_t i = 0; i < asked_len; i++)
        tls->names[i] = (char)tolower((unsigned char)asked[i]);
    tls->names[asked_len] = '\0';
    memcpy(tls->names + asked_len + 1, peer, peer_len);
    tls->names[asked_len + 1 + peer_len] = '\0';
    tls->info.server_name = tls->names;
    tls->info.peer_name = tls->names + asked_len + 1;
    return true;
}

static bool take_info(struct tls *tls)
{
    tls->info.version = SSL_get_version(tls->ssl);
    tls->info.version_index = SSL_version(tls->ssl) == TLS1_3_VERSION;
    tls->info.resumed = SSL_session_reused(tls->ssl);
    const char *group = SSL_get_curve_name(SSL_get_curve_id(tls->ssl));
    tls->info.group = group == NULL ? "" : group;
    return find_cipher(tls) && take_names(tls);
}

/* take_exporter keeps the channel binding (RFC 9266) for those who asked for it. Not below TLS 1.3:
 * there implementations disagree whether its context is empty, or none. */
static bool take_exporter(struct tls *tls)
{
    static const char label[] = "EXPORTER-Channel-Binding";
    if (!tls->context->exporter || tls->info.version_index == 0)
        return true;
    tls->exporter = malloc(TLS_EXPORTER_LEN);
    return tls->exporter != NULL &&
           SSL_export_keying_material(tls->ssl, tls->exporter, TLS_EXPORTER_LEN, label,
                                      sizeof(label) - 1, NULL, 0, 1) == 1;
}

/* take_prelude gets the ticket that BoringSSL would send before its first record, to go before
 * ours. */
static bool take_prelude(struct tls *tls)
{
    uint8_t out[TLS_PRELUDE_MAX];
    struct tls_io io = {.out = out, .out_room = sizeof(out)};
    tls->io = &io;
    (void)SSL_write(tls->ssl, "", 0); /* ssl.h: a write of nothing flushes the tickets */
    tls->io = NULL;
    ERR_clear_error();
    /* An answer to KeyUpdate must still fit behind it. */
    if (io.out_len > sizeof(out) - 64)
        return false;
    if (io.out_len == 0)
        return true;
    tls->prelude = malloc(io.out_len);
    if (tls->prelude == NULL)
        return false;
    memcpy(tls->prelude, out, io.out_len);
    tls->prelude_len = (uint16_t)io.out_len;
    return true;
}

/* --- the keys become ours --- */

static const EVP_AEAD *algorithm_of(const SSL_CIPHER *cipher)
{
    switch (SSL_CIPHER_get_cipher_nid(cipher)) {
    case NID_aes_128_gcm: return EVP_aead_aes_128_gcm();
    case NID_aes_256_gcm: return EVP_aead_aes_256_gcm();
    case NID_chacha20_poly1305: return EVP_aead_chacha20_poly1305();
    default: return NULL;
    }
}

static const EVP_MD *digest_of(const SSL_CIPHER *cipher)
{
    return SSL_CIPHER_get_prf_nid(cipher) == NID_sha384 ? EVP_sha384() : EVP_sha256();
}

static bool start_reading(struct tls *tls)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
    const struct tls_handshake *handshake = tls->handshake;
    return record_start_modern(&tls->read, algorithm_of(cipher), digest_of(cipher),
                               tls->server ? handshake->client_secret : handshake->server_secret,
                               handshake->secret_len, SSL_get_read_sequence(tls->ssl));
}

static bool start_writing(struct tls *tls)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
    const struct tls_handshake *handshake = tls->handshake;
    return record_start_modern(&tls->write, algorithm_of(cipher), digest_of(cipher),
                               tls->server ? handshake->server_secret : handshake->client_secret,
                               handshake->secret_len, SSL_get_write_sequence(tls->ssl));
}

/* start_old divides the key block of TLS 1.2 (RFC 5246 6.3): both keys, then both fixed nonces. */
static bool start_old(struct tls *tls, const EVP_AEAD *algorithm)
{
    uint8_t block[2 * (32 + RECORD_IV_LEN)];
    size_t block_len = SSL_get_key_block_len(tls->ssl);
    size_t key_len = EVP_AEAD_key_length(algorithm);
    if (block_len > sizeof(block) || block_len < 2 * key_len ||
        SSL_generate_key_block(tls->ssl, block, block_len) != 1)
        return false;
    size_t iv_len = block_len / 2 - key_len;
    const uint8_t *ivs = block + 2 * key_len;
    size_t reading = tls->server ? 0 : 1; /* the client's half comes first */
    size_t writing = 1 - reading;
    bool ok = record_start(&tls->read, algorithm, block + reading * key_len, ivs + reading * iv_len,
                           iv_len, SSL_get_read_sequence(tls->ssl)) &&
              record_start(&tls->write, algorithm, block + writing * key_len,
                           ivs + writing * iv_len, iv_len, SSL_get_write_sequence(tls->ssl));
    OPENSSL_cleanse(block, sizeof(block));
    return ok;
}

static bool take_keys(struct tls *tls)
{
    const EVP_AEAD *algorithm = algorithm_of(SSL_get_current_cipher(tls->ssl));
    if (algorithm == NULL)
        return false;
    if (tls->info.version_index == 0)
        return start_old(tls, algorithm);
    return start_writing(tls) && (!tls->server || start_reading(tls));
}

/* take_over ends BoringSSL's part. A client of TLS 1.3 lets it read on until the first text. */
static enum tls_status take_over(struct tls *tls)
{
    if (!take_info(tls) || !take_exporter(tls) || !take_prelude(tls) || !take_keys(tls)) {
        tls_fail(tls, TLS_FAILURE_INTERNAL, 0, "the keys could not be taken over");
        return TLS_FAILED;
    }
    tls->ready = true;
    if (tls->server || tls->info.version_index == 0)
        end_handshake(tls);
    return TLS_READY;
}

/* begins_well looks at the peer's very first octet: BoringSSL would wait for the header of a record
 * from a client that goes on in clear. */
static bool begins_well(struct tls *tls, const struct tls_io *io)
{
    if (tls->begun || io->in_len == 0)
        return true;
    tls->begun = true;
    uint8_t type = io->in[0];
    if (type < RECORD_CHANGE_CIPHER_SPEC || type > RECORD_DATA)
        tls_fail(tls, TLS_FAILURE_NOT_TLS, 0, "no TLS record");
    else if (type == RECORD_ALERT && tls->server)
        tls_fail(tls, TLS_FAILURE_ALERT, 0, "alert in place of a handshake");
    return tls->failure == TLS_FAILURE_NONE;
}

enum tls_status tls_handshake(struct tls *tls, struct tls_io *io)
{
    io->in_taken = io->out_len = 0;
    if (tls->ssl == NULL || tls->ready || tls->failure != TLS_FAILURE_NONE)
        return TLS_FAILED;
    if (!begins_well(tls, io))
        return TLS_FAILED;
    tls->io = io;
    ERR_clear_error();
    int result = SSL_do_handshake(tls->ssl);
    tls->io = NULL;
    if (result == 1)
        return take_over(tls);
    switch (SSL_get_error(tls->ssl, result)) {
    case SSL_ERROR_WANT_READ: return TLS_INPUT;
    case SSL_ERROR_WANT_WRITE: return TLS_OUTPUT;
    case SSL_ERROR_WANT_PRIVATE_KEY_OPERATION: return TLS_KEY;
    default: tls_handshake_failed(tls, io); return TLS_FAILED;
    }
}

/* tls_open_first lets BoringSSL read a client's first records: tickets are for it alone. With the
 * first text the keys are ours. A KeyUpdate that asks for an answer in between finds no room for
 * it and breaks the connection; nobody sends one so early. */
enum tls_opened tls_open_first(struct tls *tls, uint8_t *record, size_t len, uint8_t **text,
                               size_t *text_len)
{
    struct tls_io io = {.in = record, .in_len = len};
    tls->io = &io;
    ERR_clear_error();
    int result = SSL_read(tls->ssl, record, (int)len); /* which has copied the record by then */
    tls->io = NULL;
    if (result <= 0) {
        switch (SSL_get_error(tls->ssl, result)) {
        case SSL_ERROR_WANT_READ: return TLS_NOTHING;
        case SSL_ERROR_ZERO_RETURN: return TLS_CLOSED;
        default: tls_handshake_failed(tls, &io); return TLS_BROKEN;
        }
    }
    *text = record;
    *text_len = (size_t)result;
    if (SSL_pending(tls->ssl) > 0 || !start_reading(tls)) {
        tls_fail(tls, TLS_FAILURE_INTERNAL, 0, "the keys could not be taken over");
        return TLS_BROKEN;
    }
    end_handshake(tls);
    return TLS_TEXT;
}
