/* What the benchmark of TLS compares: servers of two kinds behind one interface, raw BoringSSL and
 * our tls/, and one kind of client, whose time does not count. Nothing here fails in a way that one
 * could go on from: the program ends with a message. */
#ifndef BENCH_TLS_SIDE_H
#define BENCH_TLS_SIDE_H

#include <openssl/ssl.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Octets on their way from one side to the other. */
enum { PIPE_ROOM = 1 << 15 };

struct pipe {
    size_t len;
    uint8_t data[PIPE_ROOM];
};

/* One kind of handshake. */
struct handshake {
    const char *name;  /* in the results */
    const char *title; /* for people */
    uint16_t version;  /* that the client insists on */
    bool rsa, resumed;
    const char *group;  /* what the client offers; TLS 1.2: and the certificate's */
    const char *cipher; /* TLS 1.2: the only one that the client offers */
};

struct tls_keys;

/* A kind of server; `context` is what its connections share, `server` one of them. */
struct server_kind {
    const char *name;
    void *(*context_new)(const struct tls_keys *keys, bool rsa);
    void (*context_free)(void *context);
    void *(*server_new)(void *context);
    void (*server_free)(void *server);
    /* Takes all of `in` and appends to `out`. True: the handshake is over. */
    bool (*step)(void *server, struct pipe *in, struct pipe *out);
    /* Appends one record with `len` octets of text (and what goes before it). */
    void (*reply)(void *server, const uint8_t *text, size_t len, struct pipe *out);
    /* Opens the records that lie in `data` one behind the other (overwriting them) and returns how
     * many octets of text were in them. */
    size_t (*open)(void *server, uint8_t *data, size_t len);
    /* Makes records of `len` octets of text; returns their length; `out` has room for PIPE_ROOM. */
    size_t (*seal)(void *server, uint8_t *text, size_t len, uint8_t *out);
    size_t (*memory)(void *server); /* by its own account; 0: it has none */
};

extern const struct server_kind server_raw; /* SSL objects and memory BIOs */
extern const struct server_kind server_ours;

/* The client: BoringSSL as it comes. */
struct client {
    SSL *ssl;
    BIO *in, *out;
};

SSL_CTX *client_context_new(const struct handshake *handshake);
void client_new(struct client *client, SSL_CTX *context, SSL_SESSION *session);
void client_free(struct client *client);

/* client_step takes all of `in`, and appends to `out`. True: its handshake is over, as `handshake`
 * asks for. */
bool client_step(struct client *client, struct pipe *in, struct pipe *out);

/* client_read opens what is in `in` and returns the octets of text. */
size_t client_read(struct client *client, struct pipe *in);

/* client_write makes one record of text, appends it at `out`, and returns its length. */
size_t client_write(struct client *client, const uint8_t *text, size_t len, uint8_t *out);

/* client_session is the newest ticket that any client of this thread has got; owned by the caller,
 * who resets it by taking. NULL: none. */
SSL_SESSION *client_session(void);

/* must ends the program unless `done`. */
void must(bool done, const char *what);

#endif
