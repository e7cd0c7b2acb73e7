/* Making a self-signed certificate, for a first start and for servers that nobody verifies. */
#include "tls/certificate.h"

#include <openssl/bio.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    NAME_LEN_MAX = 253,
    COMMON_NAME_LEN_MAX = 64, /* RFC 5280, ub-common-name */
    DAY_S = 86400,
    TEN_YEARS_DAYS = 3652,
};

/* Letters, digits, hyphens and dots, as a host name has them; an underscore, too, and a wildcard.
 */
static bool is_host_name(const char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._*";
    size_t len = strspn(name, allowed);

    return len > 0 && len <= NAME_LEN_MAX && name[len] == 0;
}

static EVP_PKEY *make_key(void)
{
    EVP_PKEY *key = EVP_PKEY_new();
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    bool good = key && ec && EC_KEY_generate_key(ec) && EVP_PKEY_set1_EC_KEY(key, ec);

    EC_KEY_free(ec);
    if (good)
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

static bool put_name(X509 *leaf, const char *name)
{
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    GENERAL_NAME *each = GENERAL_NAME_new();
    ASN1_IA5STRING *text = ASN1_IA5STRING_new();
    bool good = names && each && text && ASN1_STRING_set(text, name, (int)strlen(name));

    if (good)
        GENERAL_NAME_set0_value(each, GEN_DNS, text);
    else
        ASN1_IA5STRING_free(text);
    if (good && sk_GENERAL_NAME_push(names, each))
        each = NULL; /* it is the list's */
    good = good && !each && X509_add1_ext_i2d(leaf, NID_subject_alt_name, names, 0, 0) == 1;
    GENERAL_NAME_free(each);
    GENERAL_NAMES_free(names);
    /* A common name is shorter than a host name may be; it is for people only. */
    return good && (strlen(name) > COMMON_NAME_LEN_MAX ||
                    X509_NAME_add_entry_by_NID(X509_get_subject_name(leaf), NID_commonName,
                                               MBSTRING_ASC, (const uint8_t *)name, -1, -1, 0));
}

static bool put_constraints(X509 *leaf)
{
    BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new(); /* CA:FALSE */
    bool good =
        constraints && X509_add1_ext_i2d(leaf, NID_basic_constraints, constraints, 1, 0) == 1;

    BASIC_CONSTRAINTS_free(constraints);
    return good;
}

static X509 *make_certificate(const char *name, EVP_PKEY *key)
{
    X509 *leaf = X509_new();
    time_t begin = time(NULL) - DAY_S; /* for clocks that are slow */
    uint64_t serial;

    RAND_bytes((uint8_t *)&serial, sizeof(serial));
    bool good = leaf && X509_set_version(leaf, X509_VERSION_3) &&
                ASN1_INTEGER_set_uint64(X509_get_serialNumber(leaf), (serial >> 1) | 1) &&
                ASN1_TIME_set(X509_getm_notBefore(leaf), begin) &&
                ASN1_TIME_adj(X509_getm_notAfter(leaf), begin, TEN_YEARS_DAYS, 0) &&
                put_name(leaf, name) && put_constraints(leaf) &&
                X509_set_issuer_name(leaf, X509_get_subject_name(leaf)) &&
                X509_set_pubkey(leaf, key) && X509_sign(leaf, key, EVP_sha256());

    if (good)
        return leaf;
    X509_free(leaf);
    return NULL;
}

/* Writes the text to a file that is not there yet, through to the disk. False: errno tells. */
static bool write_new(const char *path, mode_t mode, const BIO *text)
{
    const uint8_t *data;
    size_t len;
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

    if (file < 0)
        return false;
    errno = ENOSPC; /* of a write that was cut short */
    bool good = BIO_mem_contents(text, &data, &len) && write(file, data, len) == (ssize_t)len &&
                fsync(file) == 0;
    int reason = errno;
    close(file);
    if (!good)
        unlink(path);
    errno = reason;
    return good;
}

/* The key comes first; without its certificate it is of no use. Returns the path of the file that
 * could not be written, NULL: all is well. */
static const char *write_both(const BIO *chain_text, const BIO *key_text, const char *chain,
                              const char *key)
{
    if (!write_new(key, 0600, key_text))
        return key;
    if (write_new(chain, 0644, chain_text))
        return NULL;
    int reason = errno;
    unlink(key);
    errno = reason;
    return chain;
}

static bool make_texts(const char *name, BIO *chain_text, BIO *key_text)
{
    EVP_PKEY *key = make_key();
    X509 *leaf = key ? make_certificate(name, key) : NULL;
    bool good = leaf && PEM_write_bio_X509(chain_text, leaf) &&
                PEM_write_bio_PKCS8PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL);

    X509_free(leaf);
    EVP_PKEY_free(key);
    return good;
}

bool certificate_make_self_signed(const char *name, const char *chain, const char *key, char *error,
                                  size_t error_size)
{
    if (!is_host_name(name)) {
        snprintf(error, error_size, "%s: \"%s\" is no host name", chain, name);
        return false;
    }
    BIO *chain_text = BIO_new(BIO_s_mem());
    BIO *key_text = BIO_new(BIO_s_mem());
    bool good = chain_text && key_text && make_texts(name, chain_text, key_text);

    if (!good) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());
        snprintf(error, error_size, "%s: %s", chain, reason ? reason : "no memory");
        ERR_clear_error();
    } else {
        const char *failed = write_both(chain_text, key_text, chain, key);
        good = failed == NULL;
        if (!good)
            snprintf(error, error_size, "%s: %s", failed, strerror(errno));
    }
    BIO_free(chain_text);
    BIO_free(key_text);
    return good;
}
