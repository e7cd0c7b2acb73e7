/* The host: see host.h. */
#include "tests/support/host.h"

#include "gateway/base/check.h"
#include "gateway/spool/crc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { PATIENCE_S = 5 };

static void be_patient(int descriptor)
{
    struct timeval patience = {.tv_sec = PATIENCE_S};
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

static void *serve(void *argument)
{
    struct host *host = argument;
    int descriptor;
    while ((descriptor = accept4(host->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        be_patient(descriptor);
        host->serve(host, descriptor);
        close(descriptor);
    }
    return NULL;
}

static void open_listener(struct host *host)
{
    CHECK(listener_parse("127.0.0.1:0", &host->address));
    host->listener = listener_open(&host->address);
    CHECK(host->listener >= 0);
    int flags = fcntl(host->listener, F_GETFL);
    CHECK(fcntl(host->listener, F_SETFL, flags & ~O_NONBLOCK) == 0);
}

void host_start(struct host *host, int receive_room)
{
    open_listener(host);
    if (receive_room > 0) /* which its connections inherit */
        setsockopt(host->listener, SOL_SOCKET, SO_RCVBUF, &receive_room, sizeof(receive_room));
    CHECK(pthread_create(&host->thread, NULL, serve, host) == 0);
}

void host_stop(struct host *host)
{
    shutdown(host->listener, SHUT_RDWR); /* accept ends */
    pthread_join(host->thread, NULL);
    close(host->listener);
}

void host_deaf(struct host *host)
{
    socklen_t len = sizeof(host->address.v4);
    CHECK(listener_parse("127.0.0.1:0", &host->address));
    host->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(host->listener >= 0 && bind(host->listener, &host->address.any, len) == 0);
    CHECK(listen(host->listener, 0) == 0);
    CHECK(getsockname(host->listener, &host->address.any, &len) == 0);
    for (int i = 0; i < HOST_FILLERS; i++) {
        host->fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        CHECK(host->fillers[i] >= 0);
        (void)connect(host->fillers[i], &host->address.any, len);
    }
}

void host_gone(struct host *host)
{
    open_listener(host);
    close(host->listener);
}

void host_free(struct host *host)
{
    for (int i = 0; i < HOST_FILLERS; i++)
        close(host->fillers[i]);
    close(host->listener);
}

uint8_t *host_noise(size_t len)
{
    uint8_t *out = malloc(len);
    uint32_t random = 1;
    CHECK(out != NULL);
    for (size_t i = 0; i < len; i++) {
        random = random * 1664525 + 1013904223;
        out[i] = (uint8_t)(random >> 16);
    }
    return out;
}

ssize_t host_drain(struct host *host, int descriptor)
{
    uint8_t room[16384];
    ssize_t got;
    while ((got = recv(descriptor, room, sizeof(room), 0)) > 0) {
        host->heard += (uint64_t)got;
        host->sum = crc32c(host->sum, room, (size_t)got);
    }
    return got < 0 ? -errno : 0;
}

/* --- TLS --- */

/* pass_out sends what the peer has to say. */
static bool pass_out(int descriptor, struct peer *peer)
{
    uint8_t out[16384];
    size_t len;
    while ((len = peer_take(peer, out, sizeof(out))) > 0)
        if (send(descriptor, out, len, MSG_NOSIGNAL) != (ssize_t)len)
            return false;
    return true;
}

static bool pass_in(int descriptor, struct peer *peer)
{
    uint8_t in[16384];
    ssize_t got = recv(descriptor, in, sizeof(in), 0);
    if (got <= 0)
        return false;
    peer_give(peer, in, (size_t)got);
    return true;
}

bool host_shake(struct host *host, int descriptor, struct peer *peer)
{
    peer_new(peer, host->tls);
    enum peer_result result;
    while ((result = peer_handshake(peer)) == PEER_WAITS)
        if (!pass_out(descriptor, peer) || !pass_in(descriptor, peer))
            return false;
    return pass_out(descriptor, peer) && result == PEER_DONE;
}

bool host_echo_tls(struct host *host, int descriptor, struct peer *peer, bool update)
{
    uint8_t text[16384];
    enum peer_result result;
    size_t len;
    bool first = true; /* before its first text nobody asks for a key */
    for (;;) {
        while ((result = peer_read(peer, text, sizeof(text), &len)) == PEER_DONE) {
            host->heard += len;
            host->sum = crc32c(host->sum, text, len);
            if (update && !first)
                peer_update(peer, true);
            first = false;
            if (peer_write(peer, text, len) != PEER_DONE || !pass_out(descriptor, peer))
                return false;
        }
        if (result == PEER_CLOSED)
            peer_close(peer);
        if (!pass_out(descriptor, peer) || result != PEER_WAITS)
            return result == PEER_CLOSED;
        if (!pass_in(descriptor, peer))
            return false;
    }
}
