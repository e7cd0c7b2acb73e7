/* Keys and certificates for the benchmark of TLS: made when it starts, gone when it ends. */
#ifndef BENCH_TLS_KEYS_H
#define BENCH_TLS_KEYS_H

enum { TLS_KEYS_PATH_LEN = 64 };

struct tls_keys {
    char directory[TLS_KEYS_PATH_LEN / 2];
    char ecdsa_chain[TLS_KEYS_PATH_LEN], ecdsa_key[TLS_KEYS_PATH_LEN]; /* P-256 */
    char rsa_chain[TLS_KEYS_PATH_LEN], rsa_key[TLS_KEYS_PATH_LEN];     /* 2048 bits */
};

/* tls_keys_make writes four PEM files to a new directory below /tmp, or ends the program with a
 * message; tls_keys_remove takes them away. */
void tls_keys_make(struct tls_keys *keys);
void tls_keys_remove(struct tls_keys *keys);

#endif
