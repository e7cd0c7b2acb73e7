/* A SCRAM-SHA-256 client for tests (RFC 5802 3, 7677), written from the client's side of the RFC
 * alone. */
#ifndef TESTS_SUPPORT_SASL_CLIENT_H
#define TESTS_SUPPORT_SASL_CLIENT_H

#include "gateway/policy/scram.h"

struct sasl_client {
    char header[64], password[64];
    char first[512], last[1024]; /* messages; first with its header */
    uint8_t server_signature[CRYPTO_SHA256_LEN];
};

/* sasl_client_secret computes what a server stores. */
void sasl_client_secret(struct bytes password, struct bytes salt, uint32_t iterations,
                        struct scram_secret *out);

/* sasl_client_first begins, sasl_client_last answers a challenge (`binding` NULL: none),
 * sasl_client_trusts checks the server's last message. Messages are borrowed from *client. */
struct bytes sasl_client_first(struct sasl_client *client, const char *header, const char *user,
                               const char *password);
struct bytes sasl_client_last(struct sasl_client *client, struct bytes challenge,
                              const uint8_t *binding);
bool sasl_client_trusts(const struct sasl_client *client, struct bytes last);

#endif
