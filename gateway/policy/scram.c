/* SCRAM (RFC 5802, 7677): see scram.h. */
#include "gateway/policy/scram.h"

#include <stdio.h>

#include "parser/base64.h"

enum {
    NONCE_LEN = 18,        /* octets of ours: 24 characters, no padding */
    SALT_LEN = 16,         /* of what we make; doveadm's, too */
    MESSAGE_LEN_MAX = 1536 /* of a client's last message */
};

static const uint8_t client_key[] = "Client Key";
static const uint8_t server_key[] = "Server Key";

/* --- secrets --- */

/* take_number reads decimal digits up to a comma. */
static bool take_number(struct bytes *rest, uint32_t *number)
{
    size_t comma = bytes_find(*rest, ',');
    *number = 0;
    if (comma == 0 || comma == rest->len || comma > 9)
        return false;
    for (size_t i = 0; i < comma; i++) {
        if ((uint8_t)(rest->data[i] - '0') > 9)
            return false;
        *number = *number * 10 + rest->data[i] - '0';
    }
    *rest = bytes_skip(*rest, comma + 1);
    return true;
}

/* take_octets decodes base64 up to a comma or the end; returns the length, 0: none, or too much. */
static size_t take_octets(struct bytes *rest, uint8_t *out, size_t room)
{
    uint8_t decoded[SCRAM_SALT_MAX + 2];
    size_t comma = bytes_find(*rest, ','), len;
    if (comma > base64_encoded_len(room) || comma / 4 * 3 > sizeof(decoded) ||
        !base64_decode(bytes_slice(*rest, 0, comma), decoded, &len) || len > room)
        return 0;
    memcpy(out, decoded, len);
    *rest = bytes_skip(*rest, comma + 1);
    return len;
}

bool scram_secret_read(struct bytes text, struct scram_secret *out)
{
    if (!take_number(&text, &out->iterations) || out->iterations < SCRAM_ITERATIONS_MIN ||
        out->iterations > SCRAM_ITERATIONS_MAX)
        return false;
    out->salt_len = (uint8_t)take_octets(&text, out->salt, sizeof(out->salt));
    return out->salt_len > 0 &&
           take_octets(&text, out->stored_key, sizeof(out->stored_key)) == CRYPTO_SHA256_LEN &&
           bytes_find(text, ',') == text.len &&
           take_octets(&text, out->server_key, sizeof(out->server_key)) == CRYPTO_SHA256_LEN;
}

/* encode writes base64 with a NUL to `out` of SCRAM_SALT_MAX * 2 octets. */
static const char *encode(const void *data, size_t len, char *out)
{
    out[base64_encode(bytes_make(data, len), out)] = '\0';
    return out;
}

size_t scram_secret_write(const struct scram_secret *secret, char *out, size_t size)
{
    char salt[SCRAM_SALT_MAX * 2], stored[SCRAM_SALT_MAX * 2], server[SCRAM_SALT_MAX * 2];
    int len = snprintf(out, size, "%u,%s,%s,%s", secret->iterations,
                       encode(secret->salt, secret->salt_len, salt),
                       encode(secret->stored_key, CRYPTO_SHA256_LEN, stored),
                       encode(secret->server_key, CRYPTO_SHA256_LEN, server));
    return len > 0 && (size_t)len < size ? (size_t)len : 0;
}

/* derive computes both keys of a password (RFC 5802 3). */
static bool derive(struct bytes password, struct scram_secret *secret)
{
    uint8_t salted[CRYPTO_SHA256_LEN], client[CRYPTO_SHA256_LEN];
    bool done =
        crypto_pbkdf2_sha256(password.data, password.len, secret->salt, secret->salt_len,
                             secret->iterations, salted) &&
        crypto_hmac_sha256(salted, sizeof(salted), client_key, sizeof(client_key) - 1, client) &&
        crypto_hmac_sha256(salted, sizeof(salted), server_key, sizeof(server_key) - 1,
                           secret->server_key);
    if (done)
        crypto_sha256(client, sizeof(client), secret->stored_key);
    crypto_wipe(salted, sizeof(salted));
    crypto_wipe(client, sizeof(client));
    return done;
}

bool scram_secret_make(struct bytes password, uint32_t iterations, struct scram_secret *out)
{
    out->iterations = iterations;
    out->salt_len = SALT_LEN;
    crypto_random(out->salt, SALT_LEN);
    return derive(password, out);
}

bool scram_secret_matches(const struct scram_secret *secret, struct bytes password, bool *failed)
{
    struct scram_secret tried = *secret;
    *failed = !derive(password, &tried);
    bool equal = !*failed && crypto_equal(tried.stored_key, secret->stored_key, CRYPTO_SHA256_LEN);
    crypto_wipe(&tried, sizeof(tried));
    return equal;
}

void scram_secret_stranger(const uint8_t seed[CRYPTO_SHA256_LEN], struct bytes user,
                           const struct scram_secret *like, struct scram_secret *out)
{
    uint8_t name[SASL_NAME_MAX], digest[CRYPTO_SHA256_LEN];
    size_t len = user.len < sizeof(name) ? user.len : sizeof(name);
    struct crypto_hash hash;
    for (size_t i = 0; i < len; i++)
        name[i] = byte_lower(user.data[i]);
    out->iterations = like->iterations;
    out->salt_len = like->salt_len;
    for (uint8_t i = 0; i < SCRAM_SALT_MAX / CRYPTO_SHA256_LEN; i++) {
        crypto_hash_begin(&hash); /* no MAC is needed: the secret has a fixed length */
        crypto_hash_add(&hash, seed, CRYPTO_SHA256_LEN);
        crypto_hash_add(&hash, &i, sizeof(i));
        crypto_hash_add(&hash, name, len);
        crypto_hash_end(&hash, digest);
        memcpy(out->salt + i * CRYPTO_SHA256_LEN, digest, CRYPTO_SHA256_LEN);
    }
    crypto_random(out->stored_key, CRYPTO_SHA256_LEN); /* no password has them */
    crypto_random(out->server_key, CRYPTO_SHA256_LEN);
}

/* --- the exchange --- */

/* binding_allowed follows RFC 5802 6 and RFC 9266 for the client's word about channel binding. */
static bool binding_allowed(const struct sasl_scram_first *first, bool plus, bool offered)
{
    if (first->binding == 'p')
        return plus && bytes_equal(first->binding_name, BYTES("tls-exporter"));
    return !plus && (first->binding == 'n' || !offered);
}

/* acts_for_itself: whom to act for is nobody else. */
static bool acts_for_itself(const struct sasl_scram_first *first, struct bytes user)
{
    uint8_t other[SASL_NAME_MAX];
    if (first->authorization.len == 0)
        return true;
    size_t len = sasl_scram_name(first->authorization, other);
    return bytes_equal_nocase(bytes_make(other, len), user);
}

bool scram_begin(struct scram *scram, struct bytes message, bool plus, bool offered)
{
    struct sasl_scram_first first;
    if (!sasl_scram_first_parse(message, &first))
        return false;
    scram->user_len = (uint16_t)sasl_scram_name(first.user, scram->user);
    if (scram->user_len == 0 || first.gs2_header.len > sizeof(scram->gs2) ||
        first.bare.len > sizeof(scram->bare) || !binding_allowed(&first, plus, offered) ||
        !acts_for_itself(&first, bytes_make(scram->user, scram->user_len)))
        return false;
    memcpy(scram->gs2, first.gs2_header.data, first.gs2_header.len);
    scram->gs2_len = (uint16_t)first.gs2_header.len;
    memcpy(scram->bare, first.bare.data, first.bare.len);
    scram->bare_len = (uint16_t)first.bare.len;
    memcpy(scram->nonce, first.nonce.data, first.nonce.len);
    scram->nonce_len = (uint16_t)first.nonce.len;
    scram->plus = plus;
    return true;
}

struct bytes scram_challenge(struct scram *scram)
{
    char salt[SCRAM_SALT_MAX * 2];
    uint8_t nonce[NONCE_LEN];
    crypto_random(nonce, sizeof(nonce));
    size_t len = base64_encode(bytes_make(nonce, sizeof(nonce)), scram->nonce + scram->nonce_len);
    scram->nonce_len = (uint16_t)(scram->nonce_len + len);
    len = (size_t)snprintf(
        scram->first, sizeof(scram->first), "r=%.*s,s=%s,i=%u", (int)scram->nonce_len, scram->nonce,
        encode(scram->secret.salt, scram->secret.salt_len, salt), scram->secret.iterations);
    scram->first_len = (uint16_t)len;
    return bytes_make(scram->first, len);
}

/* binds: c= repeats the GS2 header and, with PLUS, what is known of the connection. */
static bool binds(const struct scram *scram, struct bytes encoded,
                  const uint8_t binding[SCRAM_BINDING_LEN])
{
    uint8_t expected[sizeof(scram->gs2) + SCRAM_BINDING_LEN];
    char text[(sizeof(expected) + 2) / 3 * 4];
    size_t len = scram->gs2_len;
    if (scram->plus && binding == NULL)
        return false;
    memcpy(expected, scram->gs2, len);
    if (scram->plus) {
        memcpy(expected + len, binding, SCRAM_BINDING_LEN);
        len += SCRAM_BINDING_LEN;
    }
    len = base64_encode(bytes_make(expected, len), text);
    return encoded.len == len && crypto_equal(encoded.data, text, len);
}

/* sign computes HMAC(key, AuthMessage) (RFC 5802 3). */
static bool sign(const struct scram *scram, const uint8_t key[CRYPTO_SHA256_LEN],
                 struct bytes without_proof, uint8_t out[CRYPTO_SHA256_LEN])
{
    uint8_t text[sizeof(scram->bare) + sizeof(scram->first) + MESSAGE_LEN_MAX + 2];
    size_t len = scram->bare_len;
    memcpy(text, scram->bare, len);
    text[len++] = ',';
    memcpy(text + len, scram->first, scram->first_len);
    len += scram->first_len;
    text[len++] = ',';
    memcpy(text + len, without_proof.data, without_proof.len);
    len += without_proof.len;
    return crypto_hmac_sha256(key, CRYPTO_SHA256_LEN, text, len, out);
}

/* proves checks that the client has the key whose digest is StoredKey. */
static bool proves(const struct scram *scram, const struct sasl_scram_final *final)
{
    uint8_t proof[CRYPTO_SHA256_LEN], signature[CRYPTO_SHA256_LEN], digest[CRYPTO_SHA256_LEN];
    struct bytes rest = final->proof;
    if (bytes_find(rest, ',') != rest.len ||
        take_octets(&rest, proof, sizeof(proof)) != sizeof(proof) ||
        !sign(scram, scram->secret.stored_key, final->without_proof, signature))
        return false;
    for (size_t i = 0; i < sizeof(proof); i++)
        proof[i] ^= signature[i];
    crypto_sha256(proof, sizeof(proof), digest);
    crypto_wipe(proof, sizeof(proof)); /* it is the client's key now */
    return crypto_equal(digest, scram->secret.stored_key, sizeof(digest));
}

bool scram_finish(struct scram *scram, struct bytes message,
                  const uint8_t binding[SCRAM_BINDING_LEN], char *out, size_t *out_len)
{
    struct sasl_scram_final final;
    uint8_t signature[CRYPTO_SHA256_LEN];
    if (message.len > MESSAGE_LEN_MAX || !sasl_scram_final_parse(message, &final))
        return false;
    bool bound = binds(scram, final.binding, binding);
    bool fresh = bytes_equal(final.nonce, bytes_make(scram->nonce, scram->nonce_len));
    if (!proves(scram, &final) || !bound || !fresh ||
        !sign(scram, scram->secret.server_key, final.without_proof, signature))
        return false;
    memcpy(out, "v=", 2);
    *out_len = 2 + base64_encode(bytes_make(signature, sizeof(signature)), out + 2);
    return true;
}
