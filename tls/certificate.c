/* Certificates: loading, with every check that can be made before a client sees them; the names
 * they are for; the name in a peer's. What a handshake sends is kept as it goes over the wire, and
 * the parsed certificate is let go of. */
#include "tls/certificate.h"

#include "tls/complaint.h"
#include "tls/inside.h"

#include <openssl/ec_key.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/pool.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    CHAIN_MAX = 10,   /* certificates in a file */
    NAMES_MAX = 1024, /* in a certificate */
    NAME_LEN_MAX = 253,
    RSA_BITS_MIN = 2048,
    DAY_S = 86400,
};

struct certificate {
    _Atomic uint32_t references;
    uint16_t curve; /* of an ECDSA key; 0: RSA */
    bool self_signed;
    int64_t expires;
    EVP_PKEY *key;
    CRYPTO_BUFFER *chain[CHAIN_MAX];
    size_t chain_count;
    char **names; /* lower case; patterns, too */
    size_t name_count;
    char *path;
};

/* What BoringSSL said last. */
static const char *library_error(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());

    return text ? text : "no memory";
}

/* --- names --- */

static bool is_alphanumeric(uint8_t octet)
{
    int c = OPENSSL_tolower(octet);

    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* A host name, or a pattern of them. Whatever else a certificate may hold is no name for us. */
static bool is_name(const uint8_t *text, size_t len)
{
    static const char others[] = {'-', '.', '_', '*'};

    if (len == 0 || len > NAME_LEN_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!is_alphanumeric(text[i]) && memchr(others, text[i], sizeof(others)) == NULL)
            return false;
    return true;
}

static bool add_name(struct certificate *certificate, const ASN1_STRING *text)
{
    const uint8_t *data = ASN1_STRING_get0_data(text);
    size_t len = (size_t)ASN1_STRING_length(text);

    if (len > 0 && data[len - 1] == '.')
        len--;
    if (!is_name(data, len))
        return true;
    char *name = calloc(1, len + 1);
    if (!name)
        return false;
    for (size_t i = 0; i < len; i++)
        name[i] = (char)OPENSSL_tolower(data[i]);
    certificate->names[certificate->name_count++] = name;
    return true;
}

static const ASN1_STRING *common_name(const X509 *leaf)
{
    const X509_NAME *subject = X509_get_subject_name(leaf);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);

    return at < 0 ? NULL : X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
}

/* The DNS name at an index of subjectAltName; NULL: something else is there. */
static const ASN1_STRING *dns_name(const GENERAL_NAMES *names, size_t at)
{
    int type;
    const ASN1_STRING *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names, at), &type);

    return type == GEN_DNS ? value : NULL;
}

/* The common name counts only where there is no DNS name (RFC 6125 6.4.4). */
static bool take_names(struct certificate *certificate, const X509 *leaf)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    size_t count = names ? sk_GENERAL_NAME_num(names) : 0;
    bool good, named = false;

    count = count < NAMES_MAX ? count : NAMES_MAX;
    certificate->names = calloc(count + 1, sizeof(char *));
    good = certificate->names != NULL;
    for (size_t i = 0; good && i < count; i++) {
        const ASN1_STRING *name = dns_name(names, i);
        named |= name != NULL;
        good = !name || add_name(certificate, name);
    }
    GENERAL_NAMES_free(names);
    if (good && !named && common_name(leaf))
        good = add_name(certificate, common_name(leaf));
    return good;
}

bool certificate_matches(const struct certificate *certificate, const char *name, bool wildcard)
{
    const char *rest = strchr(name, '.');

    if (wildcard && (!rest || rest == name))
        return false;
    for (size_t i = 0; i < certificate->name_count; i++) {
        const char *own = certificate->names[i];
        bool pattern = own[0] == '*' && own[1] == '.' && own[2] != 0;
        if (wildcard ? pattern && strcmp(own + 1, rest) == 0
                     : own[0] != '*' && strcmp(own, name) == 0)
            return true;
    }
    return false;
}

bool certificate_shares_name(const struct certificate *one, const struct certificate *other)
{
    for (size_t i = 0; i < one->name_count; i++)
        for (size_t j = 0; j < other->name_count; j++)
            if (strcmp(one->names[i], other->names[j]) == 0)
                return true;
    return false;
}

size_t certificate_names(const struct certificate *certificate, char *out, size_t out_size)
{
    size_t len = 0;

    if (out_size > 0)
        out[0] = 0;
    for (size_t i = 0; i < certificate->name_count && len < out_size; i++) {
        int more =
            snprintf(out + len, out_size - len, "%s%s", i > 0 ? "," : "", certificate->names[i]);
        len += (size_t)more;
    }
    return certificate->name_count;
}

/* --- loading --- */

static int64_t unix_time(const ASN1_TIME *time)
{
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    int days = 0, seconds = 0;
    int good = epoch && ASN1_TIME_diff(&days, &seconds, epoch, time);

    ASN1_TIME_free(epoch);
    return good ? (int64_t)days * DAY_S + seconds : -1;
}

/* BoringSSL asks this for a passphrase: there is none, and nobody at a terminal to ask. */
static int no_passphrase(char *out, int size, int writing, void *asked)
{
    (void)out, (void)size, (void)writing;
    *(bool *)asked = true;
    return 0;
}

static bool load_key(struct certificate *certificate, const char *path, struct complaint complaint)
{
    bool asked = false;
    errno = 0;
    BIO *file = BIO_new_file(path, "r");

    if (!file)
        return complain(complaint, "%s: %s", path, errno ? strerror(errno) : library_error());
    certificate->key = PEM_read_bio_PrivateKey(file, NULL, no_passphrase, &asked);
    BIO_free(file);
    if (asked)
        return complain(complaint, "%s: the key is encrypted; it must be in clear", path);
    if (!certificate->key)
        return complain(complaint, "%s: no private key in PEM (%s)", path, library_error());
    return true;
}

/* BoringSSL's name of the curve -> TLS's. */
static uint16_t curve_of(const EVP_PKEY *key)
{
    const EC_KEY *ec = EVP_PKEY_get0_EC_KEY(key);

    switch (ec ? EC_GROUP_get_curve_name(EC_KEY_get0_group(ec)) : NID_undef) {
    case NID_X9_62_prime256v1: return SSL_CURVE_SECP256R1;
    case NID_secp384r1: return SSL_CURVE_SECP384R1;
    default: return 0;
    }
}

static bool check_kind(struct certificate *certificate, const char *path,
                       struct complaint complaint)
{
    switch (EVP_PKEY_id(certificate->key)) {
    case EVP_PKEY_RSA:
        if (EVP_PKEY_bits(certificate->key) >= RSA_BITS_MIN)
            return true;
        return complain(complaint, "%s: an RSA key of %d bits is too short; %d are needed", path,
                        EVP_PKEY_bits(certificate->key), RSA_BITS_MIN);
    case EVP_PKEY_EC:
        certificate->curve = curve_of(certificate->key);
        if (certificate->curve != 0)
            return true;
        break;
    default: break;
    }
    return complain(complaint, "%s: a key of this kind is not taken: RSA, ECDSA P-256 or P-384 are",
                    path);
}

static bool add_to_chain(struct certificate *certificate, X509 *each)
{
    uint8_t *wire = NULL;
    int len = i2d_X509(each, &wire);
    CRYPTO_BUFFER *buffer = len > 0 ? CRYPTO_BUFFER_new(wire, (size_t)len, NULL) : NULL;

    OPENSSL_free(wire);
    if (!buffer)
        return false;
    certificate->chain[certificate->chain_count++] = buffer;
    return true;
}

/* Reads the certificates up to the end of the file; *leaf is the first. */
static bool read_chain(struct certificate *certificate, BIO *file, X509 **leaf,
                       struct complaint complaint)
{
    bool asked = false;

    while (certificate->chain_count < CHAIN_MAX) {
        X509 *each = PEM_read_bio_X509(file, NULL, no_passphrase, &asked);
        if (!each)
            break;
        bool good = add_to_chain(certificate, each);
        if (*leaf)
            X509_free(each);
        else
            *leaf = each;
        if (!good)
            return complain(complaint, "%s: no memory", certificate->path);
    }
    if (certificate->chain_count == CHAIN_MAX)
        return complain(complaint, "%s: %d certificates and more are no chain", certificate->path,
                        CHAIN_MAX);
    uint32_t reason = ERR_peek_last_error();
    bool end = ERR_GET_LIB(reason) == ERR_LIB_PEM && ERR_GET_REASON(reason) == PEM_R_NO_START_LINE;
    if (!end || certificate->chain_count == 0)
        return complain(complaint, "%s: certificate %zu is no certificate in PEM (%s)",
                        certificate->path, certificate->chain_count + 1, library_error());
    ERR_clear_error();
    return true;
}

static bool load_chain(struct certificate *certificate, X509 **leaf, struct complaint complaint)
{
    errno = 0;
    BIO *file = BIO_new_file(certificate->path, "r");

    if (!file)
        return complain(complaint, "%s: %s", certificate->path,
                        errno ? strerror(errno) : library_error());
    bool good = read_chain(certificate, file, leaf, complaint);
    BIO_free(file);
    return good;
}

static bool check_times(struct certificate *certificate, const X509 *leaf,
                        struct complaint complaint)
{
    int64_t begins = unix_time(X509_get0_notBefore(leaf));
    int64_t now = time(NULL);
    char date[32];

    certificate->expires = unix_time(X509_get0_notAfter(leaf));
    time_t which = certificate->expires < now ? certificate->expires : begins;
    strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&which, &(struct tm){0}));
    if (certificate->expires < now)
        return complain(complaint, "%s: the certificate expired at %s", certificate->path, date);
    if (begins > now)
        return complain(complaint, "%s: the certificate is not valid before %s", certificate->path,
                        date);
    return true;
}

/* Asks BoringSSL whether it would take this, so that it does later: certificate_use then only fails
 * without memory. */
static bool try_use(const struct certificate *certificate, struct complaint complaint)
{
    SSL_CTX *context = SSL_CTX_new(TLS_with_buffers_method());
    bool good = context && certificate_use_always(certificate, context, false);

    SSL_CTX_free(context);
    return good || complain(complaint, "%s: the certificate cannot be used for TLS (%s)",
                            certificate->path, library_error());
}

static bool check_leaf(struct certificate *certificate, X509 *leaf, const char *key,
                       struct complaint complaint)
{
    EVP_PKEY *public = X509_get_pubkey(leaf);
    bool same = public && EVP_PKEY_cmp(public, certificate->key) == 1;

    certificate->self_signed =
        same && X509_verify(leaf, certificate->key) == 1 &&
        X509_NAME_cmp(X509_get_subject_name(leaf), X509_get_issuer_name(leaf)) == 0;
    EVP_PKEY_free(public);
    ERR_clear_error();
    if (!same)
        return complain(complaint, "%s: the key does not belong to the certificate in %s", key,
                        certificate->path);
    if (!(X509_get_key_usage(leaf) & X509v3_KU_DIGITAL_SIGNATURE))
        return complain(complaint, "%s: the key of the certificate may not sign (keyUsage)",
                        certificate->path);
    if (!take_names(certificate, leaf))
        return complain(complaint, "%s: no memory", certificate->path);
    return check_times(certificate, leaf, complaint) && try_use(certificate, complaint);
}

struct certificate *certificate_load(const char *chain, const char *key, char *error,
                                     size_t error_size)
{
    struct complaint complaint = {error, error_size};
    struct certificate *certificate = calloc(1, sizeof(*certificate));
    X509 *leaf = NULL;

    if (certificate)
        certificate->path = strdup(chain);
    if (!certificate || !certificate->path) {
        free(certificate);
        complain(complaint, "%s: no memory", chain);
        return NULL;
    }
    ERR_clear_error();
    atomic_init(&certificate->references, 1);
    bool good = load_chain(certificate, &leaf, complaint) &&
                load_key(certificate, key, complaint) && check_kind(certificate, key, complaint) &&
                check_leaf(certificate, leaf, key, complaint);
    X509_free(leaf);
    if (good)
        return certificate;
    certificate_drop(certificate);
    return NULL;
}

struct certificate *certificate_keep(struct certificate *certificate)
{
    atomic_fetch_add_explicit(&certificate->references, 1, memory_order_relaxed);
    return certificate;
}

void certificate_drop(struct certificate *certificate)
{
    if (!certificate ||
        atomic_fetch_sub_explicit(&certificate->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < certificate->chain_count; i++)
        CRYPTO_BUFFER_free(certificate->chain[i]);
    for (size_t i = 0; i < certificate->name_count; i++)
        free(certificate->names[i]);
    free(certificate->names);
    free(certificate->path);
    EVP_PKEY_free(certificate->key);
    free(certificate);
}

/* --- use --- */

static bool offloaded(const struct certificate *certificate, bool offload)
{
    return offload && certificate->curve == 0;
}

bool certificate_use(const struct certificate *certificate, SSL *ssl, bool offload)
{
    bool away = offloaded(certificate, offload);

    return SSL_set_chain_and_key(ssl, certificate->chain, certificate->chain_count,
                                 away ? NULL : certificate->key, away ? &offload_method : NULL);
}

bool certificate_use_always(const struct certificate *certificate, SSL_CTX *context, bool offload)
{
    bool away = offloaded(certificate, offload);

    return SSL_CTX_set_chain_and_key(context, certificate->chain, certificate->chain_count,
                                     away ? NULL : certificate->key, away ? &offload_method : NULL);
}

EVP_PKEY *certificate_key(const struct certificate *certificate)
{
    return certificate->key;
}

uint16_t certificate_curve(const struct certificate *certificate)
{
    return certificate->curve;
}

bool certificate_is_rsa(const struct certificate *certificate)
{
    return certificate->curve == 0;
}

bool certificate_is_self_signed(const struct certificate *certificate)
{
    return certificate->self_signed;
}

int64_t certificate_expires(const struct certificate *certificate)
{
    return certificate->expires;
}

const char *certificate_path(const struct certificate *certificate)
{
    return certificate->path;
}

/* --- the peer's --- */

/* Copies a name into a header field and a log: letters, digits and a few marks stay, everything
 * else (controls, quotes, brackets, octets above 127) is a question mark. Too long: none, because
 * the beginning of a name is another's. */
static size_t copy_name(const ASN1_STRING *name, char *out, size_t out_size)
{
    static const char others[] = {' ', '-', '.', '_', '*', '@', '+', ':', '/', '=', ',', '\''};
    const uint8_t *data = ASN1_STRING_get0_data(name);
    size_t len = (size_t)ASN1_STRING_length(name);

    if (len >= out_size)
        return 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = data[i];
        out[i] = is_alphanumeric(c) || memchr(others, c, sizeof(others)) ? (char)c : '?';
    }
    out[len] = 0;
    return len;
}

size_t certificate_peer_name(const SSL *ssl, char *out, size_t out_size)
{
    size_t len = 0;

    if (out_size == 0)
        return 0;
    out[0] = 0;
    X509 *leaf = SSL_get_verify_result(ssl) == X509_V_OK ? SSL_get_peer_certificate(ssl) : NULL;
    if (!leaf)
        return 0;
    GENERAL_NAMES *names = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    const ASN1_STRING *name = NULL;
    for (size_t i = 0; !name && names && i < sk_GENERAL_NAME_num(names); i++)
        name = dns_name(names, i);
    name = name ? name : common_name(leaf);
    if (name)
        len = copy_name(name, out, out_size);
    GENERAL_NAMES_free(names);
    X509_free(leaf);
    ERR_clear_error();
    return len;
}
