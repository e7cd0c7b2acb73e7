/* A SCRAM-SHA-256 client: see sasl_client.h. */
#include "tests/support/sasl_client.h"

#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "parser/base64.h"

struct keys {
    uint8_t client[CRYPTO_SHA256_LEN], stored[CRYPTO_SHA256_LEN], server[CRYPTO_SHA256_LEN];
};

static void derive(struct bytes password, struct bytes salt, uint32_t iterations, struct keys *out)
{
    uint8_t salted[CRYPTO_SHA256_LEN];
    CHECK(
        crypto_pbkdf2_sha256(password.data, password.len, salt.data, salt.len, iterations, salted));
    CHECK(crypto_hmac_sha256(salted, sizeof(salted), "Client Key", 10, out->client));
    CHECK(crypto_hmac_sha256(salted, sizeof(salted), "Server Key", 10, out->server));
    crypto_sha256(out->client, sizeof(out->client), out->stored);
}

void sasl_client_secret(struct bytes password, struct bytes salt, uint32_t iterations,
                        struct scram_secret *out)
{
    struct keys keys;
    derive(password, salt, iterations, &keys);
    *out = (struct scram_secret){.iterations = iterations, .salt_len = (uint8_t)salt.len};
    memcpy(out->salt, salt.data, salt.len);
    memcpy(out->stored_key, keys.stored, sizeof(keys.stored));
    memcpy(out->server_key, keys.server, sizeof(keys.server));
}

struct bytes sasl_client_first(struct sasl_client *client, const char *header, const char *user,
                               const char *password)
{
    uint8_t random[12];
    char nonce[20];
    *client = (struct sasl_client){0};
    crypto_random(random, sizeof(random));
    size_t len = base64_encode(bytes_make(random, sizeof(random)), nonce);
    snprintf(client->header, sizeof(client->header), "%s", header);
    snprintf(client->password, sizeof(client->password), "%s", password);
    snprintf(client->first, sizeof(client->first), "%sn=%s,r=%.*s", header, user, (int)len, nonce);
    return bytes_of_string(client->first);
}

struct bytes sasl_client_last(struct sasl_client *client, struct bytes challenge,
                              const uint8_t *binding)
{
    char text[1024], nonce[512], salt64[256], bound64[256], without[512], message[2048], proof[64];
    uint8_t salt[SCRAM_SALT_MAX + 2], bound[128], signature[CRYPTO_SHA256_LEN];
    unsigned iterations;
    size_t salt_len, bound_len = strlen(client->header);
    struct keys keys;
    snprintf(text, sizeof(text), "%.*s", (int)challenge.len, (const char *)challenge.data);
    CHECK(sscanf(text, "r=%511[^,],s=%255[^,],i=%u", nonce, salt64, &iterations) == 3);
    CHECK(base64_decode(bytes_of_string(salt64), salt, &salt_len));
    derive(bytes_of_string(client->password), bytes_make(salt, salt_len), iterations, &keys);
    memcpy(bound, client->header, bound_len);
    if (binding != NULL) {
        memcpy(bound + bound_len, binding, SCRAM_BINDING_LEN);
        bound_len += SCRAM_BINDING_LEN;
    }
    bound64[base64_encode(bytes_make(bound, bound_len), bound64)] = '\0';
    snprintf(without, sizeof(without), "c=%.250s,r=%.250s", bound64, nonce);
    int len = snprintf(message, sizeof(message), "%s,%s,%s", client->first + strlen(client->header),
                       text, without);
    CHECK(crypto_hmac_sha256(keys.stored, sizeof(keys.stored), message, (size_t)len, signature));
    for (size_t i = 0; i < sizeof(signature); i++)
        signature[i] ^= keys.client[i];
    proof[base64_encode(bytes_make(signature, sizeof(signature)), proof)] = '\0';
    CHECK(crypto_hmac_sha256(keys.server, sizeof(keys.server), message, (size_t)len,
                             client->server_signature));
    snprintf(client->last, sizeof(client->last), "%s,p=%s", without, proof);
    return bytes_of_string(client->last);
}

bool sasl_client_trusts(const struct sasl_client *client, struct bytes last)
{
    char text[64] = "v=";
    size_t len =
        2 + base64_encode(bytes_make(client->server_signature, CRYPTO_SHA256_LEN), text + 2);
    return bytes_equal(last, bytes_make(text, len));
}
