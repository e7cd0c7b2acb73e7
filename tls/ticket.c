/* Session tickets: HKDF (RFC 5869) from the secret to the keys of an epoch, and
 * XChaCha20-Poly1305, whose nonce is long enough to be random on any number of machines. A ticket
 * is
 *
 *   key name (16) | nonce (24) | session state, encrypted | tag (16) */
#include "tls/ticket.h"

#include <openssl/aead.h>
#include <openssl/digest.h>
#include <openssl/hkdf.h>
#include <openssl/mem.h>
#include <openssl/rand.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SECRET_FILE_MAX = 4096, EPOCH_COUNT = 3 };

static const char salt[] = "ringmx tickets 1";

static const size_t front = TICKET_NAME_LEN + TICKET_NONCE_LEN; /* of a ticket */

/* Reads up to `room` octets. -1: errno tells. */
static ssize_t read_file(const char *path, uint8_t *out, size_t room)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t step = 1;

    if (file < 0)
        return -1;
    while (len < room && step > 0) {
        step = read(file, out + len, room - len);
        if (step > 0)
            len += (size_t)step;
    }
    int reason = errno;
    close(file);
    errno = reason;
    return step < 0 ? -1 : (ssize_t)len;
}

bool ticket_secret_load(struct ticket_secret *out, const char *path, uint32_t epoch_s, char *error,
                        size_t error_size)
{
    uint8_t file[SECRET_FILE_MAX + 1];
    ssize_t len = read_file(path, file, sizeof(file));
    size_t key_len = 0;

    if (len < 0) {
        snprintf(error, error_size, "%s: %s", path, strerror(errno));
        return false;
    }
    if (len < TICKET_SECRET_MIN || len > SECRET_FILE_MAX) {
        snprintf(error, error_size, "%s: a ticket secret has %d to %d octets of randomness", path,
                 TICKET_SECRET_MIN, SECRET_FILE_MAX);
        OPENSSL_cleanse(file, sizeof(file));
        return false;
    }
    int good = HKDF_extract(out->key, &key_len, EVP_sha256(), file, (size_t)len,
                            (const uint8_t *)salt, sizeof(salt) - 1);
    OPENSSL_cleanse(file, sizeof(file));
    out->epoch_s = epoch_s;
    if (!good || key_len != sizeof(out->key)) {
        snprintf(error, error_size, "%s: no memory", path);
        return false;
    }
    return true;
}

void ticket_secret_random(struct ticket_secret *out, uint32_t epoch_s)
{
    RAND_bytes(out->key, sizeof(out->key));
    out->epoch_s = epoch_s;
}

/* The key of an epoch has the length of the epoch in it: machines that disagree about it have no
 * keys in common. */
static bool derive(const struct ticket_secret *secret, uint64_t epoch, struct ticket_key *out)
{
    uint8_t info[sizeof(epoch) + sizeof(secret->epoch_s)];
    uint8_t derived[sizeof(out->name) + sizeof(out->key)];

    for (size_t i = 0; i < 8; i++)
        info[i] = (uint8_t)(epoch >> (56 - 8 * i));
    for (size_t i = 0; i < 4; i++)
        info[8 + i] = (uint8_t)(secret->epoch_s >> (24 - 8 * i));
    if (!HKDF_expand(derived, sizeof(derived), EVP_sha256(), secret->key, sizeof(secret->key), info,
                     sizeof(info)))
        return false;
    memcpy(out->name, derived, sizeof(out->name));
    memcpy(out->key, derived + sizeof(out->name), sizeof(out->key));
    OPENSSL_cleanse(derived, sizeof(derived));
    return true;
}

/* Brings the keys to the epoch of `now_s`. The one before the first does not exist, but its key
 * does no harm. */
static bool renew(struct ticket_keys *keys, uint64_t now_s)
{
    uint64_t epoch = now_s / (keys->secret.epoch_s ? keys->secret.epoch_s : 1);

    if (keys->epoch == epoch)
        return true;
    keys->epoch = UINT64_MAX;
    for (size_t i = 0; i < EPOCH_COUNT; i++)
        if (!derive(&keys->secret, epoch + i - 1, &keys->keys[i]))
            return false;
    keys->epoch = epoch;
    return true;
}

static bool start(EVP_AEAD_CTX *aead, const struct ticket_key *key)
{
    return EVP_AEAD_CTX_init(aead, EVP_aead_xchacha20_poly1305(), key->key, sizeof(key->key),
                             TICKET_TAG_LEN, NULL);
}

size_t ticket_seal(struct ticket_keys *keys, uint64_t now_s, const uint8_t *in, size_t len,
                   uint8_t *out)
{
    EVP_AEAD_CTX aead;
    uint8_t *nonce = out + TICKET_NAME_LEN;
    size_t sealed_len = 0;

    if (!renew(keys, now_s) || !start(&aead, &keys->keys[1]))
        return 0;
    memmove(out + front, in, len); /* `in` may be `out` */
    memcpy(out, keys->keys[1].name, TICKET_NAME_LEN);
    RAND_bytes(nonce, TICKET_NONCE_LEN);
    int good = EVP_AEAD_CTX_seal(&aead, out + front, &sealed_len, len + TICKET_TAG_LEN, nonce,
                                 TICKET_NONCE_LEN, out + front, len, out, TICKET_NAME_LEN);
    EVP_AEAD_CTX_cleanup(&aead);
    return good ? front + sealed_len : 0;
}

static const struct ticket_key *find(const struct ticket_keys *keys, const uint8_t *name)
{
    for (size_t i = 0; i < EPOCH_COUNT; i++)
        if (memcmp(keys->keys[i].name, name, TICKET_NAME_LEN) == 0)
            return &keys->keys[i];
    return NULL;
}

ptrdiff_t ticket_open(struct ticket_keys *keys, uint64_t now_s, const uint8_t *in, size_t len,
                      uint8_t *out)
{
    EVP_AEAD_CTX aead;
    uint8_t name_and_nonce[TICKET_NAME_LEN + TICKET_NONCE_LEN];
    size_t opened_len = 0;

    if (len < TICKET_OVERHEAD || !renew(keys, now_s))
        return -1;
    const struct ticket_key *key = find(keys, in);
    if (!key || !start(&aead, key))
        return -1;
    memcpy(name_and_nonce, in, front);
    memmove(out, in + front, len - front); /* `in` may be `out` */
    int good =
        EVP_AEAD_CTX_open(&aead, out, &opened_len, len, name_and_nonce + TICKET_NAME_LEN,
                          TICKET_NONCE_LEN, out, len - front, name_and_nonce, TICKET_NAME_LEN);
    EVP_AEAD_CTX_cleanup(&aead);
    return good ? (ptrdiff_t)opened_len : -1;
}
