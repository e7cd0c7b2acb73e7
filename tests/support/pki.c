/* Certificates and keys for tests, with calls that both BoringSSL of 2022 and of today have. */
#include "tests/support/pki.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <openssl/bn.h>
#include <openssl/curve25519.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static char folder[64];

static EVP_PKEY *make_ecdsa(int curve)
{
    EVP_PKEY *key = EVP_PKEY_new();
    EC_KEY *ec = EC_KEY_new_by_curve_name(curve);

    if (!key || !ec || !EC_KEY_generate_key(ec) || !EVP_PKEY_set1_EC_KEY(key, ec)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    EC_KEY_free(ec);
    return key;
}

static EVP_PKEY *make_rsa(int bits)
{
    EVP_PKEY *key = EVP_PKEY_new();
    RSA *rsa = RSA_new();
    BIGNUM *exponent = BN_new();

    if (!key || !rsa || !exponent || !BN_set_word(exponent, RSA_F4) ||
        !RSA_generate_key_ex(rsa, bits, exponent, NULL) || !EVP_PKEY_set1_RSA(key, rsa)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    RSA_free(rsa);
    BN_free(exponent);
    return key;
}

static EVP_PKEY *make_ed25519(void)
{
    uint8_t public[32], private[64];

    ED25519_keypair(public, private);
    return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private, 32);
}

static EVP_PKEY *make_key(enum pki_kind kind)
{
    switch (kind) {
    case PKI_ECDSA_P256: return make_ecdsa(NID_X9_62_prime256v1);
    case PKI_ECDSA_P384: return make_ecdsa(NID_secp384r1);
    case PKI_ECDSA_P521: return make_ecdsa(NID_secp521r1);
    case PKI_ED25519: return make_ed25519();
    case PKI_RSA_2048: return make_rsa(2048);
    case PKI_RSA_1024: return make_rsa(1024);
    }
    return NULL;
}

static bool set_subject(X509 *leaf, const struct pki_request *request)
{
    const char *name = request->common_name ? request->common_name : request->names[0];

    return !name || *name == 0 ||
           X509_NAME_add_entry_by_NID(X509_get_subject_name(leaf), NID_commonName, MBSTRING_UTF8,
                                      (const uint8_t *)name, -1, -1, 0);
}

static bool set_names(X509 *leaf, const struct pki_request *request)
{
    if (!request->names[0])
        return true;
    GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();
    bool good = names != NULL;

    for (size_t i = 0; good && i < PKI_NAMES_MAX && request->names[i]; i++) {
        GENERAL_NAME *name = GENERAL_NAME_new();
        ASN1_IA5STRING *text = ASN1_IA5STRING_new();
        good = name && text && ASN1_STRING_set(text, request->names[i], -1);
        if (good)
            GENERAL_NAME_set0_value(name, GEN_DNS, text);
        else
            ASN1_IA5STRING_free(text);
        if (!good || !sk_GENERAL_NAME_push(names, name)) {
            GENERAL_NAME_free(name);
            good = false;
        }
    }
    good = good && X509_add1_ext_i2d(leaf, NID_subject_alt_name, names, 0, 0) == 1;
    GENERAL_NAMES_free(names);
    return good;
}

static bool set_constraints(X509 *leaf, bool is_ca)
{
    BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();
    bool good = constraints != NULL;

    if (good) {
        constraints->ca = is_ca ? 0xff : 0;
        good = X509_add1_ext_i2d(leaf, NID_basic_constraints, constraints, 1, 0) == 1;
    }
    BASIC_CONSTRAINTS_free(constraints);
    return good;
}

static bool set_key_usage(X509 *leaf, uint8_t usage)
{
    ASN1_BIT_STRING *bits = ASN1_BIT_STRING_new();
    bool good = bits && ASN1_BIT_STRING_set(bits, &usage, 1) &&
                (usage == 0 || X509_add1_ext_i2d(leaf, NID_key_usage, bits, 1, 0) == 1);

    ASN1_BIT_STRING_free(bits);
    return good;
}

static bool set_serial_and_times(X509 *leaf, const struct pki_request *request)
{
    bool usual = request->not_before_s == 0 && request->not_after_s == 0;
    time_t now = time(NULL);
    uint64_t serial;

    RAND_bytes((uint8_t *)&serial, sizeof(serial));
    return ASN1_INTEGER_set_uint64(X509_get_serialNumber(leaf), serial >> 1) &&
           ASN1_TIME_set(X509_getm_notBefore(leaf),
                         now + (usual ? -3600 : request->not_before_s)) &&
           ASN1_TIME_set(X509_getm_notAfter(leaf), now + (usual ? 86400 : request->not_after_s));
}

/* Reads the first certificate of a chain, and its key when `key` is given. */
static X509 *read_issuer(const struct pki_request *issuer, EVP_PKEY **key)
{
    BIO *chain = BIO_new_file(issuer->chain_path, "r");
    BIO *file = BIO_new_file(issuer->key_path, "r");
    X509 *certificate = chain ? PEM_read_bio_X509(chain, NULL, NULL, NULL) : NULL;

    *key = file ? PEM_read_bio_PrivateKey(file, NULL, NULL, (void *)(uintptr_t)issuer->passphrase)
                : NULL;
    BIO_free(chain);
    BIO_free(file);
    return certificate;
}

static bool sign(X509 *leaf, EVP_PKEY *key, const struct pki_request *request)
{
    const EVP_MD *digest = request->kind == PKI_ED25519 ? NULL : EVP_sha256();

    if (!request->issuer)
        return X509_set_issuer_name(leaf, X509_get_subject_name(leaf)) &&
               X509_sign(leaf, key, digest) > 0;
    EVP_PKEY *issuer_key = NULL;
    X509 *issuer = read_issuer(request->issuer, &issuer_key);
    bool good = issuer && issuer_key && X509_set_issuer_name(leaf, X509_get_subject_name(issuer)) &&
                X509_sign(leaf, issuer_key, EVP_sha256()) > 0;

    X509_free(issuer);
    EVP_PKEY_free(issuer_key);
    return good;
}

static X509 *make_certificate(EVP_PKEY *key, const struct pki_request *request)
{
    X509 *leaf = X509_new();
    bool good = leaf && X509_set_version(leaf, X509_VERSION_3) && set_subject(leaf, request) &&
                set_serial_and_times(leaf, request) && X509_set_pubkey(leaf, key) &&
                set_constraints(leaf, request->is_ca) && set_names(leaf, request) &&
                set_key_usage(leaf, request->key_usage) && sign(leaf, key, request);

    if (!good) {
        X509_free(leaf);
        return NULL;
    }
    return leaf;
}

static bool write_key(EVP_PKEY *key, const struct pki_request *request)
{
    BIO *file = BIO_new_file(request->key_path, "w");
    const EVP_CIPHER *cipher = request->passphrase ? EVP_aes_256_cbc() : NULL;
    int len = request->passphrase ? (int)strlen(request->passphrase) : 0;
    bool good = file && PEM_write_bio_PKCS8PrivateKey(file, key, cipher,
                                                      (void *)(uintptr_t)request->passphrase, len,
                                                      NULL, NULL);

    good = BIO_free(file) && good;
    return good;
}

/* What a server sends: everything but the root. */
static bool write_chain(const X509 *leaf, const struct pki_request *request)
{
    BIO *file = BIO_new_file(request->chain_path, "w");
    bool good = file && PEM_write_bio_X509(file, (X509 *)(uintptr_t)leaf);

    for (const struct pki_request *each = request->issuer; good && each && each->issuer;
         each = each->issuer) {
        EVP_PKEY *key = NULL;
        X509 *issuer = read_issuer(each, &key);
        good = issuer && PEM_write_bio_X509(file, issuer);
        X509_free(issuer);
        EVP_PKEY_free(key);
    }
    good = BIO_free(file) && good;
    return good;
}

bool pki_make(const struct pki_request *request)
{
    EVP_PKEY *key = make_key(request->kind);
    X509 *leaf = key ? make_certificate(key, request) : NULL;
    bool good = leaf && write_key(key, request) && write_chain(leaf, request);

    if (!good) {
        fprintf(stderr, "pki_make: %s:\n", request->chain_path);
        ERR_print_errors_fp(stderr);
    }
    X509_free(leaf);
    EVP_PKEY_free(key);
    return good;
}

int pki_set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/ringmx-pki-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

int pki_tear_down(void **state)
{
    (void)state;
    DIR *directory = opendir(folder);

    if (!directory)
        return -1;
    for (struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
        if (entry->d_name[0] != '.')
            unlink(entry->d_name);
    closedir(directory);
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}
