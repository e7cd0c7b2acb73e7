/* Which certificate a client gets: by the name that it asks for, then by what it can verify
 * (docs/tls.md). Decided on its ClientHello, before BoringSSL decides anything. */
#include "tls/inside.h"

#include <openssl/bytestring.h>
#include <openssl/mem.h>

#include <string.h>

enum { HOST_NAME_MAX_LEN = 255 };

/* From the best to the last resort. */
enum closeness { BY_NAME = 0, BY_WILDCARD, BY_DEFAULT, CLOSENESS_COUNT };

/* What a ClientHello says about certificates. */
struct wish {
    char name[HOST_NAME_MAX_LEN + 1]; /* lower case; "": none */
    bool modern;                      /* the client speaks TLS 1.3 */
    CBS schemes; /* signature algorithms: 16 bits each, as ciphers and groups */
    CBS ciphers;
    CBS groups;
};

/* An extension that is a list in a list of `width` octets' length; empty when it is not there or
 * malformed: then BoringSSL will end the handshake. */
static CBS list_in(const SSL_CLIENT_HELLO *hello, uint16_t extension, size_t width)
{
    const uint8_t *data;
    size_t len;
    CBS all, list;

    CBS_init(&list, NULL, 0);
    if (!SSL_early_callback_ctx_extension_get(hello, extension, &data, &len))
        return list;
    CBS_init(&all, data, len);
    if (!(width == 1 ? CBS_get_u8_length_prefixed(&all, &list)
                     : CBS_get_u16_length_prefixed(&all, &list)))
        CBS_init(&list, NULL, 0);
    return list;
}

static bool has(CBS list, uint16_t wanted)
{
    uint16_t each;

    while (CBS_get_u16(&list, &each))
        if (each == wanted)
            return true;
    return false;
}

static bool has_any(CBS list, const uint16_t *wanted, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (has(list, wanted[i]))
            return true;
    return false;
}

static void read_wish(struct wish *wish, const SSL_CLIENT_HELLO *hello)
{
    const char *name = SSL_get_servername(hello->ssl, TLSEXT_NAMETYPE_host_name);
    size_t len = name ? strnlen(name, HOST_NAME_MAX_LEN) : 0;

    for (size_t i = 0; i < len; i++)
        wish->name[i] = (char)OPENSSL_tolower((unsigned char)name[i]);
    if (len > 0 && wish->name[len - 1] == '.')
        len--;
    wish->name[len] = 0;
    wish->modern = has(list_in(hello, TLSEXT_TYPE_supported_versions, 1), TLS1_3_VERSION);
    wish->schemes = list_in(hello, TLSEXT_TYPE_signature_algorithms, 2);
    wish->groups = list_in(hello, TLSEXT_TYPE_supported_groups, 2);
    CBS_init(&wish->ciphers, hello->cipher_suites, hello->cipher_suites_len);
}

/* In TLS 1.3 a scheme has its curve (RFC 8446 4.2.3). In TLS 1.2 it is only a hash, and curve and
 * cipher are said elsewhere (RFC 8422 5.1). */
static bool verifies_ecdsa(const struct wish *wish, uint16_t curve)
{
    static const uint16_t schemes[] = {SSL_SIGN_ECDSA_SECP256R1_SHA256,
                                       SSL_SIGN_ECDSA_SECP384R1_SHA384,
                                       SSL_SIGN_ECDSA_SECP521R1_SHA512};
    static const uint16_t ciphers[] = {
        0xc02b, /* TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 */
        0xc02c, /* TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 */
        0xcca9, /* TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 */
    };

    if (wish->modern)
        return has(wish->schemes, curve == SSL_CURVE_SECP384R1 ? SSL_SIGN_ECDSA_SECP384R1_SHA384
                                                               : SSL_SIGN_ECDSA_SECP256R1_SHA256);
    return has(wish->groups, curve) && has_any(wish->schemes, schemes, 3) &&
           has_any(wish->ciphers, ciphers, 3);
}

static bool verifies_rsa(const struct wish *wish)
{
    static const uint16_t modern[] = {SSL_SIGN_RSA_PSS_RSAE_SHA256, SSL_SIGN_RSA_PSS_RSAE_SHA384,
                                      SSL_SIGN_RSA_PSS_RSAE_SHA512};
    static const uint16_t old[] = {SSL_SIGN_RSA_PKCS1_SHA256, SSL_SIGN_RSA_PKCS1_SHA384,
                                   SSL_SIGN_RSA_PKCS1_SHA512};
    static const uint16_t ciphers[] = {
        0xc02f, /* TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 */
        0xc030, /* TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 */
        0xcca8, /* TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 */
    };

    if (wish->modern)
        return has_any(wish->schemes, modern, 3);
    return (has_any(wish->schemes, modern, 3) || has_any(wish->schemes, old, 3)) &&
           has_any(wish->ciphers, ciphers, 3);
}

static bool is_close(const struct tls_context *context, const struct certificate *certificate,
                     const char *name, enum closeness closeness)
{
    switch (closeness) {
    case BY_NAME: return certificate_matches(certificate, name, false);
    case BY_WILDCARD: return certificate_matches(certificate, name, true);
    case BY_DEFAULT:
    case CLOSENESS_COUNT: break;
    }
    return certificate == context->certificates[0] ||
           certificate_shares_name(context->certificates[0], certificate);
}

/* The first ECDSA of these that the client can verify, else the first RSA; NULL: none. */
static const struct certificate *best(const struct tls_context *context, const struct wish *wish,
                                      enum closeness closeness)
{
    const struct certificate *rsa = NULL;

    for (size_t i = 0; i < context->certificate_count; i++) {
        const struct certificate *each = context->certificates[i];
        if (!is_close(context, each, wish->name, closeness))
            continue;
        if (!certificate_is_rsa(each) && verifies_ecdsa(wish, certificate_curve(each)))
            return each;
        if (certificate_is_rsa(each) && !rsa && verifies_rsa(wish))
            rsa = each;
    }
    return rsa;
}

const struct certificate *choose_certificate(const struct tls_context *context,
                                             const SSL_CLIENT_HELLO *hello)
{
    struct wish wish;
    const struct certificate *found = NULL;

    read_wish(&wish, hello);
    for (enum closeness closeness = wish.name[0] ? BY_NAME : BY_DEFAULT;
         closeness < CLOSENESS_COUNT && !found; closeness++)
        found = best(context, &wish, closeness);
    /* Of no use to this client; but then BoringSSL says why. */
    return found ? found : context->certificates[0];
}
