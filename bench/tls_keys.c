/* See tls_keys.h. Self-signed certificates for mx.bench.example, good for a day. */
#include "bench/tls_keys.h"
#include "bench/tls_side.h"

#include <openssl/bn.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const name = "mx.bench.example";

static EVP_PKEY *ecdsa_new(void)
{
    EVP_PKEY *key = EVP_PKEY_new();
    EC_KEY *curve = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    must(key != NULL && curve != NULL && EC_KEY_generate_key(curve) == 1 &&
             EVP_PKEY_assign_EC_KEY(key, curve) == 1,
         "no ECDSA key");
    return key;
}

static EVP_PKEY *rsa_new(void)
{
    EVP_PKEY *key = EVP_PKEY_new();
    RSA *rsa = RSA_new();
    BIGNUM *exponent = BN_new();
    must(key != NULL && rsa != NULL && exponent != NULL && BN_set_word(exponent, RSA_F4) == 1 &&
             RSA_generate_key_ex(rsa, 2048, exponent, NULL) == 1 &&
             EVP_PKEY_assign_RSA(key, rsa) == 1,
         "no RSA key");
    BN_free(exponent);
    return key;
}

static X509 *certificate_new(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    X509_NAME *subject = X509_NAME_new();
    must(certificate != NULL && subject != NULL &&
             X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const uint8_t *)name, -1, -1,
                                        0) == 1 &&
             X509_set_version(certificate, X509_VERSION_3) == 1 &&
             ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1 &&
             X509_set_subject_name(certificate, subject) == 1 &&
             X509_set_issuer_name(certificate, subject) == 1 &&
             X509_gmtime_adj(X509_getm_notBefore(certificate), -3600) != NULL &&
             X509_gmtime_adj(X509_getm_notAfter(certificate), 86400) != NULL &&
             X509_set_pubkey(certificate, key) == 1 &&
             X509_sign(certificate, key, EVP_sha256()) > 0,
         "no certificate");
    X509_NAME_free(subject);
    return certificate;
}

static void write_both(EVP_PKEY *key, const char *chain_path, const char *key_path)
{
    X509 *certificate = certificate_new(key);
    FILE *chain_file = fopen(chain_path, "wb"), *key_file = fopen(key_path, "wb");
    must(chain_file != NULL && key_file != NULL && PEM_write_X509(chain_file, certificate) == 1 &&
             PEM_write_PrivateKey(key_file, key, NULL, NULL, 0, NULL, NULL) == 1,
         "cannot write the certificate");
    must(fclose(chain_file) == 0 && fclose(key_file) == 0, "cannot write the certificate");
    X509_free(certificate);
    EVP_PKEY_free(key);
}

void tls_keys_make(struct tls_keys *keys)
{
    snprintf(keys->directory, sizeof(keys->directory), "/tmp/ringmx-bench-tls-XXXXXX");
    must(mkdtemp(keys->directory) != NULL, "cannot make a directory in /tmp");
    const char *const where = keys->directory;
    snprintf(keys->ecdsa_chain, sizeof(keys->ecdsa_chain), "%s/ecdsa.pem", where);
    snprintf(keys->ecdsa_key, sizeof(keys->ecdsa_key), "%s/ecdsa.key", where);
    snprintf(keys->rsa_chain, sizeof(keys->rsa_chain), "%s/rsa.pem", where);
    snprintf(keys->rsa_key, sizeof(keys->rsa_key), "%s/rsa.key", where);
    write_both(ecdsa_new(), keys->ecdsa_chain, keys->ecdsa_key);
    write_both(rsa_new(), keys->rsa_chain, keys->rsa_key);
}

void tls_keys_remove(struct tls_keys *keys)
{
    unlink(keys->ecdsa_chain);
    unlink(keys->ecdsa_key);
    unlink(keys->rsa_chain);
    unlink(keys->rsa_key);
    rmdir(keys->directory);
}
