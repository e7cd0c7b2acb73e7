/* The other end of a visit: a listener, and a thread that serves one connection after another as
 * the test says, with blocking calls that end after 5 s. TLS is a foreign peer's. */
#ifndef TESTS_SUPPORT_HOST_H
#define TESTS_SUPPORT_HOST_H

#include "gateway/io/listener.h"
#include "tests/support/peer.h"

#include <pthread.h>

enum { HOST_FILLERS = 4 };

struct host {
    union address_any address; /* where it listens */
    int listener;
    void (*serve)(struct host *host, int descriptor); /* which the host closes afterwards */
    void *user;                                       /* of the test */
    const struct peer_options *tls;
    uint64_t heard; /* octets, of all connections */
    uint32_t sum;   /* of the octets: CRC32C */
    int fillers[HOST_FILLERS];
    pthread_t thread;
};

/* host_start starts one; `receive_room` is SO_RCVBUF, 0: the kernel's own. The caller has set
 * serve, user and tls. host_stop waits for the connection that is served, then ends it. */
void host_start(struct host *host, int receive_room);
void host_stop(struct host *host);

/* host_deaf listens where connections are never accepted, and fills the queue: another SYN there is
 * not answered. host_gone listens and has stopped: a SYN there is refused. host_free ends a deaf
 * one. */
void host_deaf(struct host *host);
void host_gone(struct host *host);
void host_free(struct host *host);

/* host_drain reads to the end, and adds to `heard` and `sum`. */
ssize_t host_drain(struct host *host, int descriptor);

/* host_noise returns `len` octets, the same each time; owned by the caller. */
uint8_t *host_noise(size_t len);

/* host_shake makes the handshake of host->tls (a server's); false: it failed. host_echo_tls gives
 * back the text that comes until the peer's farewell, adding it to `heard` and `sum`, and asks for
 * a new key of the client's now and then if `update`; true: the farewell was in order. */
bool host_shake(struct host *host, int descriptor, struct peer *peer);
bool host_echo_tls(struct host *host, int descriptor, struct peer *peer, bool update);

#endif
