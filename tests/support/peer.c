/* See peer.h. OpenSSL is loaded with dlopen and its names stay its own: BoringSSL is linked to the
 * test and exports none. The two libraries' SSL are different things with one name; each is only
 * ever given to the functions of its own library. */
#include "tests/support/peer.h"

#include "gateway/base/check.h"

#include <openssl/err.h>

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* The calls that both have under one name and with one meaning. */
#define PEER_CALLS(CALL)                                                                           \
    CALL(const SSL_METHOD *, TLS_method, (void))                                                   \
    CALL(SSL_CTX *, SSL_CTX_new, (const SSL_METHOD *))                                             \
    CALL(void, SSL_CTX_free, (SSL_CTX *))                                                          \
    CALL(int, SSL_CTX_set_cipher_list, (SSL_CTX *, const char *))                                  \
    CALL(int, SSL_CTX_use_certificate_chain_file, (SSL_CTX *, const char *))                       \
    CALL(int, SSL_CTX_use_PrivateKey_file, (SSL_CTX *, const char *, int))                         \
    CALL(int, SSL_CTX_load_verify_locations, (SSL_CTX *, const char *, const char *))              \
    CALL(void, SSL_CTX_set_verify, (SSL_CTX *, int, int (*)(int, X509_STORE_CTX *)))               \
    CALL(void, SSL_CTX_set_keylog_callback, (SSL_CTX *, void (*)(const SSL *, const char *)))      \
    CALL(void, SSL_CTX_sess_set_new_cb, (SSL_CTX *, int (*)(SSL *, SSL_SESSION *)))                \
    CALL(SSL *, SSL_new, (SSL_CTX *))                                                              \
    CALL(void, SSL_free, (SSL *))                                                                  \
    CALL(void, SSL_set_bio, (SSL *, BIO *, BIO *))                                                 \
    CALL(void, SSL_set_accept_state, (SSL *))                                                      \
    CALL(void, SSL_set_connect_state, (SSL *))                                                     \
    CALL(int, SSL_set_ex_data, (SSL *, int, void *))                                               \
    CALL(void *, SSL_get_ex_data, (const SSL *, int))                                              \
    CALL(int, SSL_set_session, (SSL *, SSL_SESSION *))                                             \
    CALL(void, SSL_SESSION_free, (SSL_SESSION *))                                                  \
    CALL(int, SSL_session_reused, (const SSL *))                                                   \
    CALL(int, SSL_do_handshake, (SSL *))                                                           \
    CALL(int, SSL_read, (SSL *, void *, int))                                                      \
    CALL(int, SSL_write, (SSL *, const void *, int))                                               \
    CALL(int, SSL_shutdown, (SSL *))                                                               \
    CALL(int, SSL_key_update, (SSL *, int))                                                        \
    CALL(int, SSL_get_error, (const SSL *, int))                                                   \
    CALL(const char *, SSL_get_version, (const SSL *))                                             \
    CALL(int, SSL_export_keying_material,                                                          \
         (SSL *, uint8_t *, size_t, const char *, size_t, const uint8_t *, size_t, int))           \
    CALL(BIO *, BIO_new, (const BIO_METHOD *))                                                     \
    CALL(const BIO_METHOD *, BIO_s_mem, (void))                                                    \
    CALL(int, BIO_read, (BIO *, void *, int))                                                      \
    CALL(int, BIO_write, (BIO *, const void *, int))                                               \
    CALL(void, ERR_clear_error, (void))

struct peer_library {
    const char *name;
#define CALL(type, function, arguments) type(*function) arguments;
    PEER_CALLS(CALL)
#undef CALL
    /* What differs. */
    bool (*set_versions)(SSL_CTX *context, uint16_t least, uint16_t most);
    bool (*set_groups)(SSL_CTX *context, const char *groups);
    bool (*set_modern_cipher)(SSL_CTX *context, const char *cipher);
    bool (*set_server_name)(SSL *ssl, const char *name);
    bool (*set_alpn)(SSL_CTX *context, const uint8_t *list, uint8_t len);
    void (*keep_sessions)(SSL_CTX *context);
};

/* --- BoringSSL --- */

static bool boringssl_set_versions(SSL_CTX *context, uint16_t least, uint16_t most)
{
    return SSL_CTX_set_min_proto_version(context, least) == 1 &&
           SSL_CTX_set_max_proto_version(context, most) == 1;
}

static bool boringssl_set_groups(SSL_CTX *context, const char *groups)
{
    return SSL_CTX_set1_curves_list(context, groups) == 1;
}

static bool boringssl_set_modern_cipher(SSL_CTX *context, const char *cipher)
{
    (void)context, (void)cipher;
    return false; /* it does not let itself be told */
}

static bool boringssl_set_server_name(SSL *ssl, const char *name)
{
    return SSL_set_tlsext_host_name(ssl, name) == 1;
}

static bool boringssl_set_alpn(SSL_CTX *context, const uint8_t *list, uint8_t len)
{
    return SSL_CTX_set_alpn_protos(context, list, len) == 0;
}

static void boringssl_keep_sessions(SSL_CTX *context)
{
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
}

static const struct peer_library boringssl = {
    .name = "BoringSSL",
#define CALL(type, function, arguments) .function = function,
    PEER_CALLS(CALL)
#undef CALL
        .set_versions = boringssl_set_versions,
    .set_groups = boringssl_set_groups,
    .set_modern_cipher = boringssl_set_modern_cipher,
    .set_server_name = boringssl_set_server_name,
    .set_alpn = boringssl_set_alpn,
    .keep_sessions = boringssl_keep_sessions,
};

const struct peer_library *peer_boringssl(void)
{
    return &boringssl;
}

/* --- OpenSSL 3: what is a macro there goes through two functions. --- */

enum { /* of its ssl.h */
       CTRL_SET_SESS_CACHE_MODE = 44,
       CTRL_SET_TLSEXT_HOSTNAME = 55,
       CTRL_SET_GROUPS_LIST = 92,
       CTRL_SET_MIN_PROTO_VERSION = 123,
       CTRL_SET_MAX_PROTO_VERSION = 124,
       SESS_CACHE_CLIENT_NO_INTERNAL = 0x0301,
};

static long (*openssl_ctx_ctrl)(SSL_CTX *, int, long, void *);
static long (*openssl_ctrl)(SSL *, int, long, void *);
static int (*openssl_set_ciphersuites)(SSL_CTX *, const char *);
static int (*openssl_set_alpn_protos)(SSL_CTX *, const uint8_t *, unsigned);

static bool openssl_set_versions(SSL_CTX *context, uint16_t least, uint16_t most)
{
    return openssl_ctx_ctrl(context, CTRL_SET_MIN_PROTO_VERSION, least, NULL) == 1 &&
           openssl_ctx_ctrl(context, CTRL_SET_MAX_PROTO_VERSION, most, NULL) == 1;
}

static bool openssl_set_groups(SSL_CTX *context, const char *groups)
{
    char *borrowed;
    memcpy(&borrowed, &groups, sizeof(borrowed)); /* it is only read */
    return openssl_ctx_ctrl(context, CTRL_SET_GROUPS_LIST, 0, borrowed) == 1;
}

static bool openssl_set_modern_cipher(SSL_CTX *context, const char *cipher)
{
    return openssl_set_ciphersuites(context, cipher) == 1;
}

static bool openssl_set_server_name(SSL *ssl, const char *name)
{
    char *borrowed;
    memcpy(&borrowed, &name, sizeof(borrowed));
    return openssl_ctrl(ssl, CTRL_SET_TLSEXT_HOSTNAME, 0, borrowed) == 1;
}

static bool openssl_set_alpn(SSL_CTX *context, const uint8_t *list, uint8_t len)
{
    return openssl_set_alpn_protos(context, list, len) == 0;
}

static void openssl_keep_sessions(SSL_CTX *context)
{
    openssl_ctx_ctrl(context, CTRL_SET_SESS_CACHE_MODE, SESS_CACHE_CLIENT_NO_INTERNAL, NULL);
}

static void find(void *ssl, void *crypto, const char *name, void *function)
{
    void *found = dlsym(ssl, name);
    if (found == NULL)
        found = dlsym(crypto, name);
    CHECK(found != NULL);
    memcpy(function, &found, sizeof(found));
}

const struct peer_library *peer_openssl(void)
{
    static struct peer_library openssl = {
        .set_versions = openssl_set_versions,
        .set_groups = openssl_set_groups,
        .set_modern_cipher = openssl_set_modern_cipher,
        .set_server_name = openssl_set_server_name,
        .set_alpn = openssl_set_alpn,
        .keep_sessions = openssl_keep_sessions,
    };
    if (openssl.name != NULL)
        return &openssl;
    void *crypto = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
    void *ssl = crypto == NULL ? NULL : dlopen("libssl.so.3", RTLD_NOW | RTLD_LOCAL);
    if (ssl == NULL)
        return NULL;
#define CALL(type, function, arguments) find(ssl, crypto, #function, &openssl.function);
    PEER_CALLS(CALL)
#undef CALL
    find(ssl, crypto, "SSL_CTX_ctrl", &openssl_ctx_ctrl);
    find(ssl, crypto, "SSL_ctrl", &openssl_ctrl);
    find(ssl, crypto, "SSL_CTX_set_ciphersuites", &openssl_set_ciphersuites);
    find(ssl, crypto, "SSL_CTX_set_alpn_protos", &openssl_set_alpn_protos);
    openssl.name = "OpenSSL";
    return &openssl;
}

const char *peer_library_name(const struct peer_library *library)
{
    return library->name;
}

bool peer_offers(const struct peer_library *library, const char *modern_cipher)
{
    return library != &boringssl || strcmp(modern_cipher, "TLS_AES_128_GCM_SHA256") == 0;
}

/* --- life --- */

static const struct peer_library *made_with; /* of the peer that is at work: for the callbacks */

static uint8_t hex(char c)
{
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

/* A line of the key log: label, random, secret. */
static void keep_secret(const SSL *ssl, const char *line)
{
    struct peer *peer = made_with->SSL_get_ex_data(ssl, 0);
    bool client = strncmp(line, "CLIENT_TRAFFIC_SECRET_0 ", 24) == 0;
    if (!client && strncmp(line, "SERVER_TRAFFIC_SECRET_0 ", 24) != 0)
        return;
    const char *secret = strrchr(line, ' ') + 1;
    peer->secret_len = strlen(secret) / 2;
    CHECK(peer->secret_len <= sizeof(peer->client_secret));
    for (size_t i = 0; i < peer->secret_len; i++)
        (client ? peer->client_secret : peer->server_secret)[i] =
            (uint8_t)(hex(secret[2 * i]) << 4 | hex(secret[2 * i + 1]));
}

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    struct peer *peer = made_with->SSL_get_ex_data(ssl, 0);
    if (peer->session != NULL)
        made_with->SSL_SESSION_free(peer->session);
    peer->session = session;
    return 1;
}

static void set_up_context(struct peer *peer, const struct peer_options *options)
{
    const struct peer_library *library = peer->library;
    uint16_t least = options->version_min != 0 ? options->version_min : TLS1_2_VERSION;
    uint16_t most = options->version_max != 0 ? options->version_max : TLS1_3_VERSION;
    CHECK(library->set_versions(peer->context, least, most));
    CHECK(options->cipher == NULL ||
          library->SSL_CTX_set_cipher_list(peer->context, options->cipher) == 1);
    CHECK(options->modern_cipher == NULL || library == &boringssl ||
          library->set_modern_cipher(peer->context, options->modern_cipher));
    CHECK(options->groups == NULL || library->set_groups(peer->context, options->groups));
    if (options->chain != NULL)
        CHECK(library->SSL_CTX_use_certificate_chain_file(peer->context, options->chain) == 1 &&
              library->SSL_CTX_use_PrivateKey_file(peer->context, options->key, SSL_FILETYPE_PEM) ==
                  1);
    if (options->ca != NULL) {
        CHECK(library->SSL_CTX_load_verify_locations(peer->context, options->ca, NULL) == 1);
        library->SSL_CTX_set_verify(peer->context,
                                    SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    if (options->alpn != NULL) {
        uint8_t protocols[64] = {(uint8_t)strlen(options->alpn)};
        CHECK(strlen(options->alpn) < sizeof(protocols));
        memcpy(protocols + 1, options->alpn, strlen(options->alpn));
        CHECK(library->set_alpn(peer->context, protocols, (uint8_t)(protocols[0] + 1)));
    }
    library->SSL_CTX_set_keylog_callback(peer->context, keep_secret);
    if (!options->server) {
        library->keep_sessions(peer->context);
        library->SSL_CTX_sess_set_new_cb(peer->context, keep_session);
    }
}

void peer_new(struct peer *peer, const struct peer_options *options)
{
    const struct peer_library *library = options->library;
    memset(peer, 0, sizeof(*peer));
    peer->library = library = library == NULL ? &boringssl : library;
    peer->context = library->SSL_CTX_new(library->TLS_method());
    CHECK(peer->context != NULL);
    set_up_context(peer, options);
    peer->ssl = library->SSL_new(peer->context);
    peer->in = library->BIO_new(library->BIO_s_mem());
    peer->out = library->BIO_new(library->BIO_s_mem());
    CHECK(peer->ssl != NULL && peer->in != NULL && peer->out != NULL);
    CHECK(library->SSL_set_ex_data(peer->ssl, 0, peer) == 1);
    library->SSL_set_bio(peer->ssl, peer->in, peer->out);
    if (options->server)
        library->SSL_set_accept_state(peer->ssl);
    else
        library->SSL_set_connect_state(peer->ssl);
    CHECK(options->server_name == NULL ||
          library->set_server_name(peer->ssl, options->server_name));
    CHECK(options->session == NULL || library->SSL_set_session(peer->ssl, options->session) == 1);
}

void peer_free(struct peer *peer)
{
    if (peer->session != NULL)
        peer->library->SSL_SESSION_free(peer->session);
    peer->library->SSL_free(peer->ssl);
    peer->library->SSL_CTX_free(peer->context);
    memset(peer, 0, sizeof(*peer));
}

/* --- octets --- */

void peer_give(struct peer *peer, const uint8_t *data, size_t len)
{
    if (len > 0)
        CHECK(peer->library->BIO_write(peer->in, data, (int)len) == (int)len);
}

size_t peer_take(struct peer *peer, uint8_t *out, size_t room)
{
    size_t len = 0;
    for (int got; len < room &&
                  (got = peer->library->BIO_read(peer->out, out + len, (int)(room - len))) > 0;)
        len += (size_t)got;
    return len;
}

static enum peer_result result_of(struct peer *peer, int result)
{
    if (result > 0)
        return PEER_DONE;
    int error = peer->library->SSL_get_error(peer->ssl, result);
    peer->library->ERR_clear_error();
    if (error == SSL_ERROR_WANT_READ)
        return PEER_WAITS;
    return error == SSL_ERROR_ZERO_RETURN ? PEER_CLOSED : PEER_FAILED;
}

enum peer_result peer_handshake(struct peer *peer)
{
    made_with = peer->library;
    return result_of(peer, peer->library->SSL_do_handshake(peer->ssl));
}

enum peer_result peer_read(struct peer *peer, uint8_t *out, size_t room, size_t *len)
{
    made_with = peer->library;
    int got = peer->library->SSL_read(peer->ssl, out, (int)room);
    *len = got > 0 ? (size_t)got : 0;
    return result_of(peer, got);
}

enum peer_result peer_write(struct peer *peer, const uint8_t *text, size_t len)
{
    made_with = peer->library;
    return result_of(peer, peer->library->SSL_write(peer->ssl, text, (int)len));
}

void peer_update(struct peer *peer, bool request)
{
    CHECK(peer->library->SSL_key_update(peer->ssl, request ? SSL_KEY_UPDATE_REQUESTED
                                                           : SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
}

void peer_close(struct peer *peer)
{
    (void)peer->library->SSL_shutdown(peer->ssl);
    peer->library->ERR_clear_error();
}

void peer_export(const struct peer *peer, const char *label, uint8_t *out, size_t len)
{
    CHECK(peer->library->SSL_export_keying_material(peer->ssl, out, len, label, strlen(label), NULL,
                                                    0, 0) == 1);
}

const char *peer_version(const struct peer *peer)
{
    return peer->library->SSL_get_version(peer->ssl);
}

bool peer_resumed(const struct peer *peer)
{
    return peer->library->SSL_session_reused(peer->ssl) == 1;
}

static void carry(struct peer *from, struct peer *to)
{
    uint8_t data[4096];
    for (size_t len; (len = peer_take(from, data, sizeof(data))) > 0;)
        peer_give(to, data, len);
}

void peer_connect(struct peer *client, struct peer *server)
{
    enum peer_result client_result = PEER_WAITS, server_result = PEER_WAITS;
    for (int turn = 0; turn < 8 && (client_result != PEER_DONE || server_result != PEER_DONE);
         turn++) {
        if (client_result != PEER_DONE)
            client_result = peer_handshake(client);
        carry(client, server);
        if (server_result != PEER_DONE)
            server_result = peer_handshake(server);
        if (server_result != PEER_DONE || client_result != PEER_DONE)
            carry(server, client);
    }
    CHECK(client_result == PEER_DONE && server_result == PEER_DONE);
}
