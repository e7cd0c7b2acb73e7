/* Session tickets (RFC 8446 4.6.1, RFC 5077) with keys that every thread and every machine with the
 * same secret derives by itself from the time: the key of an epoch is HKDF-SHA256(secret, epoch).
 * Tickets of the previous, the present and the next epoch (a clock that is ahead) are accepted, so
 * keys rotate without a word between machines. Tickets are sealed with XChaCha20-Poly1305. */
#ifndef TLS_TICKET_H
#define TLS_TICKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TICKET_SECRET_MIN = 32 }; /* octets of a secret file */

/* What keys are derived from. A value: copied freely, wiped by whoever holds a copy. */
struct ticket_secret {
    uint8_t key[32];  /* HKDF-Extract of the file, or random */
    uint32_t epoch_s; /* keys change so often, and a session is resumable for as long */
};

/* ticket_secret_load reads the secret from a file of at least TICKET_SECRET_MIN octets into `out`;
 * ticket_secret_random makes one that lives for the process. epoch_s: at least 1. False: `error`
 * has a sentence that names the file. */
bool ticket_secret_load(struct ticket_secret *out, const char *path, uint32_t epoch_s, char *error,
                        size_t error_size) __attribute__((warn_unused_result));
void ticket_secret_random(struct ticket_secret *out, uint32_t epoch_s);

enum {
    TICKET_NAME_LEN = 16,
    TICKET_NONCE_LEN = 24,
    TICKET_TAG_LEN = 16,
    TICKET_OVERHEAD = TICKET_NAME_LEN + TICKET_NONCE_LEN + TICKET_TAG_LEN,
};

/* A thread's view of the secret: the derived keys of three epochs, renewed when time moves on. */
struct ticket_keys {
    struct ticket_secret secret;
    uint64_t epoch; /* of keys[1]; UINT64_MAX: none derived yet */
    struct ticket_key {
        uint8_t name[TICKET_NAME_LEN];
        uint8_t key[32];
    } keys[3]; /* previous, present, next */
};

/* ticket_seal writes the ticket for `len` octets of session state at `in` to `out`, which has room
 * for len + TICKET_OVERHEAD, and returns its length (0: no memory). `in` may be `out`. ticket_open
 * undoes it: returns the octets written to `out` (room for `len`), or -1 for a ticket that is not
 * ours, too old or damaged. `now_s` is Unix time. */
size_t ticket_seal(struct ticket_keys *keys, uint64_t now_s, const uint8_t *in, size_t len,
                   uint8_t *out);
ptrdiff_t ticket_open(struct ticket_keys *keys, uint64_t now_s, const uint8_t *in, size_t len,
                      uint8_t *out) __attribute__((warn_unused_result));

#endif
