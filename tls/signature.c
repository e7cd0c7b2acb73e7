/* Keys that sign mail, by BoringSSL: see signature.h. A key is never changed once it was read; what
 * RSA keeps of its blinding has a lock of its own. BoringSSL wipes all memory that it frees. */
#include "tls/signature.h"

#include "tls/complaint.h"

#include <openssl/bio.h>
#include <openssl/curve25519.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include <stdlib.h>
#include <string.h>

enum {
    BITS_MIN = 1024, /* less is no signature (RFC 8301 3.2) */
    BITS_MAX = 4096,
    ED25519_BITS = 256,
};

_Static_assert(SIGNATURE_LEN_MAX == BITS_MAX / 8, "the longest is one of RSA");
_Static_assert((int)SIGNATURE_LEN_MAX >= ED25519_SIGNATURE_LEN, "the other fits, too");

struct signature_key {
    EVP_PKEY *key;
    enum signature_kind kind;
    uint8_t ed25519[ED25519_PRIVATE_KEY_LEN]; /* seed and public key */
};

/* BoringSSL asks this for a passphrase: there is none, and nobody at a terminal to ask. */
static int no_passphrase(char *out, int size, int writing, void *asked)
{
    (void)out, (void)size, (void)writing;
    *(bool *)asked = true;
    return 0;
}

static bool take_ed25519(struct signature_key *key)
{
    uint8_t seed[32], public[ED25519_PUBLIC_KEY_LEN];
    size_t len = sizeof(seed);
    if (EVP_PKEY_get_raw_private_key(key->key, seed, &len) != 1 || len != sizeof(seed))
        return false;
    ED25519_keypair_from_seed(public, key->ed25519, seed);
    OPENSSL_cleanse(seed, sizeof(seed));
    return true;
}

/* check_kind sets the kind, if it is one of ours. */
static bool check_kind(struct signature_key *key, struct complaint complaint)
{
    int bits = EVP_PKEY_bits(key->key);
    switch (EVP_PKEY_id(key->key)) {
    case EVP_PKEY_RSA:
        key->kind = SIGNATURE_RSA;
        if (bits >= BITS_MIN && bits <= BITS_MAX)
            return true;
        return complain(complaint, "an RSA key of %d bits; %d to %d can sign mail", bits, BITS_MIN,
                        BITS_MAX);
    case EVP_PKEY_ED25519:
        key->kind = SIGNATURE_ED25519;
        return take_ed25519(key) || complain(complaint, "no private key of Ed25519");
    default: return complain(complaint, "a key of this kind can't sign mail: RSA or Ed25519 can");
    }
}

/* adopt makes ours of a key of BoringSSL's, which it owns in every case. */
static struct signature_key *adopt(EVP_PKEY *from, struct complaint complaint)
{
    struct signature_key *key = calloc(1, sizeof(*key));
    if (key == NULL) {
        EVP_PKEY_free(from);
        complain(complaint, "no memory");
        return NULL;
    }
    key->key = from;
    if (check_kind(key, complaint))
        return key;
    signature_key_free(key);
    return NULL;
}

struct signature_key *signature_key_read(const char *pem, size_t len, char *error,
                                         size_t error_size)
{
    struct complaint complaint = {error, error_size};
    bool asked = false;
    BIO *text = len > INT32_MAX ? NULL : BIO_new_mem_buf(pem, (int)len);
    if (text == NULL) {
        complain(complaint, "no memory");
        return NULL;
    }
    EVP_PKEY *key = PEM_read_bio_PrivateKey(text, NULL, no_passphrase, &asked);
    BIO_free(text);
    if (key != NULL)
        return adopt(key, complaint);
    if (asked)
        complain(complaint, "the key is encrypted; it must be in clear");
    else
        complain(complaint, "no private key in PEM");
    return NULL;
}

static EVP_PKEY *make_rsa(unsigned bits)
{
    RSA *rsa = RSA_new();
    BIGNUM *exponent = BN_new();
    EVP_PKEY *key = EVP_PKEY_new();
    bool made = rsa != NULL && exponent != NULL && key != NULL && BN_set_word(exponent, RSA_F4) &&
                RSA_generate_key_ex(rsa, (int)bits, exponent, NULL) == 1 &&
                EVP_PKEY_set1_RSA(key, rsa) == 1;
    RSA_free(rsa);
    BN_free(exponent);
    if (made)
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

static EVP_PKEY *make_ed25519(void)
{
    uint8_t public[ED25519_PUBLIC_KEY_LEN], private[ED25519_PRIVATE_KEY_LEN];
    ED25519_keypair(public, private); /* the first half is the seed */
    EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, private, 32);
    OPENSSL_cleanse(private, sizeof(private));
    return key;
}

struct signature_key *signature_key_make(enum signature_kind kind, unsigned bits)
{
    char error[128];
    if (kind == SIGNATURE_RSA && (bits < BITS_MIN || bits > BITS_MAX))
        return NULL;
    EVP_PKEY *key = kind == SIGNATURE_RSA ? make_rsa(bits) : make_ed25519();
    ERR_clear_error();
    return key == NULL ? NULL : adopt(key, (struct complaint){error, sizeof(error)});
}

void signature_key_free(struct signature_key *key)
{
    if (key == NULL)
        return;
    EVP_PKEY_free(key->key);
    OPENSSL_cleanse(key, sizeof(*key));
    free(key);
}

enum signature_kind signature_key_kind(const struct signature_key *key)
{
    return key->kind;
}

unsigned signature_key_bits(const struct signature_key *key)
{
    return key->kind == SIGNATURE_RSA ? (unsigned)EVP_PKEY_bits(key->key) : ED25519_BITS;
}

size_t signature_make(const struct signature_key *key, const uint8_t digest[CRYPTO_SHA256_LEN],
                      uint8_t out[SIGNATURE_LEN_MAX])
{
    unsigned len = 0;
    bool made;
    if (key->kind == SIGNATURE_ED25519) {
        made = ED25519_sign(out, digest, CRYPTO_SHA256_LEN, key->ed25519) == 1;
        len = ED25519_SIGNATURE_LEN;
    } else {
        made = RSA_sign(NID_sha256, digest, CRYPTO_SHA256_LEN, out, &len,
                        EVP_PKEY_get0_RSA(key->key)) == 1;
    }
    if (made)
        return len;
    ERR_clear_error();
    return 0;
}

char *signature_key_pem(const struct signature_key *key)
{
    const uint8_t *data = NULL;
    size_t len = 0;
    char *pem = NULL;
    BIO *text = BIO_new(BIO_s_mem());
    if (text != NULL &&
        PEM_write_bio_PKCS8PrivateKey(text, key->key, NULL, NULL, 0, NULL, NULL) == 1 &&
        BIO_mem_contents(text, &data, &len) == 1)
        pem = malloc(len + 1);
    if (pem != NULL) {
        memcpy(pem, data, len);
        pem[len] = '\0';
    }
    BIO_free(text);
    ERR_clear_error();
    return pem;
}

size_t signature_key_public(const struct signature_key *key, uint8_t out[SIGNATURE_PUBLIC_MAX])
{
    if (key->kind == SIGNATURE_ED25519) {
        memcpy(out, key->ed25519 + 32, ED25519_PUBLIC_KEY_LEN);
        return ED25519_PUBLIC_KEY_LEN;
    }
    uint8_t *der = NULL;
    int len = i2d_PUBKEY(key->key, &der);
    bool fits = len > 0 && len <= SIGNATURE_PUBLIC_MAX;
    if (fits)
        memcpy(out, der, (size_t)len);
    OPENSSL_free(der);
    ERR_clear_error();
    return fits ? (size_t)len : 0;
}
