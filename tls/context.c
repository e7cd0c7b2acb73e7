/* Contexts: everything about a connection that is the same for all of them is said to BoringSSL
 * here, and what it asks during a handshake is answered here. */
#include "tls/context.h"

#include "tls/complaint.h"
#include "tls/inside.h"

#include <openssl/bytestring.h>
#include <openssl/mem.h>
#include <openssl/x509.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    TICKET_LIFETIME_MAX_S = 7 * 86400, /* RFC 8446 4.6.1 */
    CLIENT_CHAIN_MAX = 32768,          /* octets of a client's certificates */
    CLIENT_RANDOM_LEN = 32,
};

/* What only newer versions of BoringSSL have. */
#ifdef SSL_GROUP_X25519_MLKEM768
static const char groups_ours[] = "X25519MLKEM768:X25519:P-256";
#else
static const char groups_ours[] = "X25519:P-256";
#endif

/* TLS 1.2. Within brackets the client's order counts: it knows whether it has AES in hardware, and
 * we are fast with all three. Without AES of our own, ChaCha20 comes first. */
static const char ciphers_ours[] =
    "[ECDHE-ECDSA-AES128-GCM-SHA256|ECDHE-ECDSA-AES256-GCM-SHA384|ECDHE-ECDSA-CHACHA20-POLY1305]:"
    "[ECDHE-RSA-AES128-GCM-SHA256|ECDHE-RSA-AES256-GCM-SHA384|ECDHE-RSA-CHACHA20-POLY1305]";
static const char ciphers_without_aes[] =
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384";

/* With what we sign: nothing with SHA-1 (RFC 9155). */
static const uint16_t signing[] = {
    SSL_SIGN_ECDSA_SECP256R1_SHA256, SSL_SIGN_RSA_PSS_RSAE_SHA256, SSL_SIGN_RSA_PKCS1_SHA256,
    SSL_SIGN_ECDSA_SECP384R1_SHA384, SSL_SIGN_RSA_PSS_RSAE_SHA384, SSL_SIGN_RSA_PKCS1_SHA384,
    SSL_SIGN_ECDSA_SECP521R1_SHA512, SSL_SIGN_RSA_PSS_RSAE_SHA512, SSL_SIGN_RSA_PKCS1_SHA512,
};

static const char session_context[] = "ringmx";
static const char alpn_ours[] = "smtp"; /* RFC 7301; registered by IANA */

/* --- what BoringSSL asks of a server --- */

static enum ssl_select_cert_result_t select_certificate(const SSL_CLIENT_HELLO *hello)
{
    struct tls *tls = tls_of(hello->ssl);
    const struct tls_context *context = tls->context;
    const struct certificate *chosen = choose_certificate(context, hello);

    tls->handshake->certificate = chosen;
    if (chosen != context->usual && !certificate_use(chosen, hello->ssl, context->offload))
        return ssl_select_cert_error;
    return ssl_select_cert_success;
}

/* Only called when the client names protocols (RFC 7301 3.2). */
static int select_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in,
                       unsigned in_len, void *argument)
{
    CBS list, each;

    (void)argument;
    CBS_init(&list, in, in_len);
    while (CBS_get_u8_length_prefixed(&list, &each)) {
        if (CBS_mem_equal(&each, (const uint8_t *)alpn_ours, sizeof(alpn_ours) - 1)) {
            *out = (const uint8_t *)alpn_ours;
            *out_len = sizeof(alpn_ours) - 1;
            return SSL_TLSEXT_ERR_OK;
        }
    }
    tls_of(ssl)->handshake->alpn_refused = true;
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static size_t ticket_overhead(SSL *ssl)
{
    (void)ssl;
    return TICKET_OVERHEAD;
}

static int seal_ticket(SSL *ssl, uint8_t *out, size_t *out_len, size_t out_room, const uint8_t *in,
                       size_t in_len)
{
    if (out_room < in_len + TICKET_OVERHEAD)
        return 0;
    *out_len = ticket_seal(&tls_of(ssl)->context->tickets, (uint64_t)time(NULL), in, in_len, out);
    return *out_len > 0;
}

/* A ticket that is not ours costs a full handshake, and nothing else. */
static enum ssl_ticket_aead_result_t open_ticket(SSL *ssl, uint8_t *out, size_t *out_len,
                                                 size_t out_room, const uint8_t *in, size_t in_len)
{
    ptrdiff_t len = -1;

    if (out_room >= in_len)
        len = ticket_open(&tls_of(ssl)->context->tickets, (uint64_t)time(NULL), in, in_len, out);
    if (len < 0) {
        ERR_clear_error();
        return ssl_ticket_aead_ignore_ticket;
    }
    *out_len = (size_t)len;
    return ssl_ticket_aead_success;
}

static const SSL_TICKET_AEAD_METHOD ticket_method = {ticket_overhead, seal_ticket, open_ticket};

/* --- what it tells or asks both sides --- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Returns the octets written, 0 when the text is something else than an even number of digits. */
static size_t read_hex(const char *text, uint8_t *out, size_t room)
{
    size_t len = strlen(text) / 2;

    if (strlen(text) % 2 != 0 || len > room)
        return 0;
    for (size_t i = 0; i < len; i++) {
        int high = hex_value(text[2 * i]), low = hex_value(text[2 * i + 1]);
        if (high < 0 || low < 0)
            return 0;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return len;
}

/* The log of keys is the one way in C to the traffic secrets of TLS 1.3. A line is a label, the
 * client's random and the secret, with a blank between two. */
static void take_secret(const SSL *ssl, const char *line)
{
    static const char client[] = "CLIENT_TRAFFIC_SECRET_0 ", server[] = "SERVER_TRAFFIC_SECRET_0 ";
    struct tls *tls = tls_of(ssl);
    bool is_client = strncmp(line, client, sizeof(client) - 1) == 0;

    _Static_assert(sizeof(client) == sizeof(server), "labels of one length");
    if (!tls || !tls->handshake || (!is_client && strncmp(line, server, sizeof(server) - 1) != 0) ||
        strlen(line) <= sizeof(client) + 2 * CLIENT_RANDOM_LEN)
        return;
    const char *hex = line + sizeof(client) + 2 * CLIENT_RANDOM_LEN;
    size_t len =
        read_hex(hex, is_client ? tls->handshake->client_secret : tls->handshake->server_secret,
                 RECORD_SECRET_MAX);
    tls->handshake->secret_len = (uint8_t)len;
}

/* The id of the context that a connection was made with. */
static uint64_t context_id(const SSL *ssl)
{
    return (uint64_t)(uintptr_t)SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

/* A client's newest ticket; 1: it is ours now. */
static int take_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls *tls = tls_of(ssl);

    if (!tls || !tls->handshake || !SSL_SESSION_is_resumable(session))
        return 0;
    if (!tls->handshake->session)
        tls->handshake->session = calloc(1, sizeof(struct tls_session));
    if (!tls->handshake->session)
        return 0;
    struct tls_session *kept = tls->handshake->session;
    const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    SSL_SESSION_free(kept->session);
    kept->session = session;
    kept->context_id = context_id(ssl);
    snprintf(kept->server_name, sizeof(kept->server_name), "%s", name != NULL ? name : "");
    return 1;
}

static enum ssl_verify_result_t verify_nothing(SSL *ssl, uint8_t *alert)
{
    (void)ssl, (void)alert;
    return ssl_verify_ok;
}

/* --- making --- */

static bool no_memory(struct complaint complaint)
{
    return complain(complaint, "no memory for TLS");
}

static uint16_t wire_version(enum tls_version version)
{
    return version == TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
}

/* BoringSSL's certificates cost a parse for each connection, so they are had where they are looked
 * at only. */
static struct tls_context *make(bool verify)
{
    static _Atomic uint64_t made;
    struct tls_context *context = calloc(1, sizeof(*context));
    SSL_CTX *ssl = SSL_CTX_new(verify ? TLS_method() : TLS_with_buffers_method());

    if (!context || !ssl) {
        SSL_CTX_free(ssl);
        free(context);
        return NULL;
    }
    context->ssl = ssl;
    context->verify = verify;
    atomic_init(&context->references, 1);
    context->id = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
    SSL_CTX_set_app_data(ssl, (void *)(uintptr_t)context->id);
    SSL_CTX_set_mode(ssl, SSL_MODE_NO_AUTO_CHAIN);
    SSL_CTX_set_keylog_callback(ssl, take_secret);
    if (verify)
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    else
        SSL_CTX_set_custom_verify(ssl, SSL_VERIFY_NONE, verify_nothing);
    return context;
}

static bool take_certificates(struct tls_context *context, struct certificate *const *certificates,
                              size_t count)
{
    context->certificates = calloc(count, sizeof(*context->certificates));
    if (!context->certificates)
        return false;
    for (size_t i = 0; i < count; i++)
        context->certificates[i] = certificate_keep(certificates[i]);
    context->certificate_count = count;
    return true;
}

/* The certificate that most clients will get is given to all of them beforehand, and taken back
 * from the few that get another: the default, as ECDSA if there is such a one. certificate_use
 * parses its key each time, which takes 2 us of a handshake's 100 to 200. */
static bool use_usual(struct tls_context *context)
{
    const struct certificate *usual = context->certificates[0];

    for (size_t i = 0; i < context->certificate_count && certificate_is_rsa(usual); i++)
        if (!certificate_is_rsa(context->certificates[i]) &&
            certificate_shares_name(usual, context->certificates[i]))
            usual = context->certificates[i];
    context->usual = usual;
    return certificate_use_always(usual, context->ssl, context->offload);
}

static void set_tickets(struct tls_context *context, const struct ticket_secret *secret)
{
    uint32_t lifetime_s = secret->epoch_s;

    if (lifetime_s > TICKET_LIFETIME_MAX_S)
        lifetime_s = TICKET_LIFETIME_MAX_S;
    context->resumable = true;
    context->tickets.secret = *secret;
    context->tickets.epoch = UINT64_MAX;
    SSL_CTX_set_timeout(context->ssl, lifetime_s);
    SSL_CTX_set_session_psk_dhe_timeout(context->ssl, lifetime_s);
    SSL_CTX_set_ticket_aead_method(context->ssl, &ticket_method);
    SSL_CTX_set_num_tickets(context->ssl, 1);
}

/* Reads the CAs that a peer's certificate may come from. */
static bool trust(struct tls_context *context, const char *path, struct complaint complaint)
{
    ERR_clear_error();
    if (SSL_CTX_load_verify_locations(context->ssl, path, NULL) == 1)
        return true;
    uint32_t reason = ERR_peek_error();
    const char *text = ERR_GET_LIB(reason) == ERR_LIB_SYS ? strerror(ERR_GET_REASON(reason))
                                                          : "no certificates of CAs in PEM";
    return complain(complaint, "%s: %s", path, text);
}

/* Tells clients which CAs theirs may come from (RFC 8446 4.2.4, RFC 5246 7.4.4). */
static bool name_authorities(struct tls_context *context, const char *path,
                             struct complaint complaint)
{
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(path);

    if (!names)
        return complain(complaint, "%s: no certificates of CAs in PEM", path);
    SSL_CTX_set_client_CA_list(context->ssl, names); /* which takes them */
    SSL_CTX_set_max_cert_list(context->ssl, CLIENT_CHAIN_MAX);
    return true;
}

static bool set_server(struct tls_context *context, const struct tls_server_options *options,
                       struct complaint complaint)
{
    SSL_CTX *ssl = context->ssl;
    bool tickets = options->tickets && !options->client_ca;

    context->offload = options->offload;
    context->exporter = options->exporter;
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | (tickets ? 0 : SSL_OP_NO_TICKET));
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_select_certificate_cb(ssl, select_certificate);
    SSL_CTX_set_alpn_select_cb(ssl, select_alpn, NULL);
    if (tickets)
        set_tickets(context, options->tickets);
    if (!SSL_CTX_set_min_proto_version(ssl, wire_version(options->version_min)) ||
        !SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) ||
        !SSL_CTX_set_strict_cipher_list(ssl, EVP_has_aes_hardware() ? ciphers_ours
                                                                    : ciphers_without_aes) ||
        !SSL_CTX_set1_curves_list(ssl, groups_ours) ||
        !SSL_CTX_set_signing_algorithm_prefs(ssl, signing, sizeof(signing) / sizeof(*signing)) ||
        !SSL_CTX_set_session_id_context(ssl, (const uint8_t *)session_context,
                                        sizeof(session_context) - 1) ||
        !take_certificates(context, options->certificates, options->certificate_count) ||
        !use_usual(context))
        return no_memory(complaint);
    return !options->client_ca || (trust(context, options->client_ca, complaint) &&
                                   name_authorities(context, options->client_ca, complaint));
}

struct tls_context *tls_context_server(const struct tls_server_options *options, char *error,
                                       size_t error_size)
{
    struct complaint complaint = {error, error_size};

    if (options->certificate_count == 0) {
        complain(complaint, "a server needs a certificate");
        return NULL;
    }
    struct tls_context *context = make(options->client_ca != NULL);
    if (!context) {
        no_memory(complaint);
        return NULL;
    }
    if (set_server(context, options, complaint))
        return context;
    tls_context_drop(context);
    return NULL;
}

static bool offer_alpn(SSL_CTX *ssl, const char *protocol)
{
    uint8_t list[256];
    size_t len = strlen(protocol);

    if (len == 0 || len > 255)
        return false;
    list[0] = (uint8_t)len;
    memcpy(list + 1, protocol, len);
    return SSL_CTX_set_alpn_protos(ssl, list, (unsigned)len + 1) == 0;
}

static bool set_client(struct tls_context *context, const struct tls_client_options *options,
                       struct complaint complaint)
{
    SSL_CTX *ssl = context->ssl;
    const char *groups = options->groups ? options->groups : groups_ours;
    const char *ciphers = options->ciphers         ? options->ciphers
                          : EVP_has_aes_hardware() ? ciphers_ours
                                                   : ciphers_without_aes;

    context->exporter = options->exporter;
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ssl, take_session);
    if (options->version_min > options->version_max ||
        !SSL_CTX_set_min_proto_version(ssl, wire_version(options->version_min)) ||
        !SSL_CTX_set_max_proto_version(ssl, wire_version(options->version_max)))
        return complain(complaint, "these versions of TLS are no range");
    if (!SSL_CTX_set1_curves_list(ssl, groups))
        return complain(complaint, "groups \"%s\": not all are known", groups);
    if (!SSL_CTX_set_strict_cipher_list(ssl, ciphers))
        return complain(complaint, "ciphers \"%s\": not all are known", ciphers);
    if (options->alpn && !offer_alpn(ssl, options->alpn))
        return complain(complaint, "\"%s\" is no protocol's name", options->alpn);
    if (options->certificate && (!take_certificates(context, &options->certificate, 1) ||
                                 !certificate_use_always(options->certificate, ssl, false)))
        return no_memory(complaint);
    return !options->ca || trust(context, options->ca, complaint);
}

struct tls_context *tls_context_client(const struct tls_client_options *options, char *error,
                                       size_t error_size)
{
    struct complaint complaint = {error, error_size};
    struct tls_context *context = make(options->ca != NULL);

    if (!context) {
        no_memory(complaint);
        return NULL;
    }
    if (set_client(context, options, complaint))
        return context;
    tls_context_drop(context);
    return NULL;
}

struct tls_context *tls_context_keep(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

void tls_context_drop(struct tls_context *context)
{
    if (!context || atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) != 1)
        return;
    SSL_CTX_free(context->ssl);
    for (size_t i = 0; i < context->certificate_count; i++)
        certificate_drop(context->certificates[i]);
    free(context->certificates);
    OPENSSL_cleanse(&context->tickets, sizeof(context->tickets));
    free(context);
}
