/* See caller.h. */
#include "tests/support/caller.h"

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    WAIT_US = 10 * 1000 * 1000,
    READABLE_RUN_MAX = 32, /* octets of text in a row that chance does not make */
    RECORD_BODY_MAX = 16384 + 256,
    TYPE_FIRST = 20,
    TYPE_DATA = 23,
};

void caller_new(struct caller *caller, const struct echo *echo, const struct peer_options *options)
{
    memset(caller, 0, sizeof(*caller));
    peer_new(&caller->peer, options);
    caller->descriptor = echo_connect(echo);
    caller->budget = SIZE_MAX;
    int on = 1; /* each piece at once */
    setsockopt(caller->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

void caller_free(struct caller *caller)
{
    if (caller->descriptor >= 0)
        close(caller->descriptor);
    peer_free(&caller->peer);
    free(caller->out);
    free(caller->text);
    memset(caller, 0, sizeof(*caller));
}

static void append(uint8_t **to, size_t *len, size_t *room, const void *data, size_t more)
{
    if (*len + more > *room) {
        *room = 2 * (*len + more);
        *to = realloc(*to, *room);
        CHECK(*to != NULL);
    }
    if (more > 0)
        memcpy(*to + *len, data, more);
    *len += more;
}

/* collect moves what the peer has to say to what is to be sent. */
static void collect(struct caller *caller)
{
    uint8_t data[4096];
    for (size_t len; (len = peer_take(&caller->peer, data, sizeof(data))) > 0;)
        append(&caller->out, &caller->out_len, &caller->out_room, data, len);
}

void caller_write(struct caller *caller, const void *text, size_t len)
{
    if (caller->failed || peer_write(&caller->peer, text, len) != PEER_DONE)
        caller->failed = true;
    collect(caller);
}

void caller_close(struct caller *caller)
{
    peer_close(&caller->peer);
    collect(caller);
}

void caller_raw(struct caller *caller, const void *data, size_t len)
{
    append(&caller->out, &caller->out_len, &caller->out_room, data, len);
}

/* --- the wire --- */

static bool readable(uint8_t octet)
{
    return (octet >= ' ' && octet < 0x7f) || octet == '\r' || octet == '\n';
}

/* inspect follows the records that the server sends. */
static void inspect(struct caller *caller, const uint8_t *data, size_t len)
{
    for (size_t i = 0; i < len && caller->fault == NULL; i++) {
        if (caller->body_left > 0) {
            caller->body_left--;
            bool run = caller->header[0] == TYPE_DATA && readable(data[i]);
            caller->readable_run = run ? caller->readable_run + 1 : 0;
            if (caller->readable_run > READABLE_RUN_MAX)
                caller->fault = "text in clear inside a record";
            continue;
        }
        caller->header[caller->header_len++] = data[i];
        if (caller->header_len < sizeof(caller->header))
            continue;
        caller->header_len = 0;
        caller->records++;
        caller->body_left = (size_t)caller->header[3] << 8 | caller->header[4];
        if (caller->header[0] < TYPE_FIRST || caller->header[0] > TYPE_DATA ||
            caller->header[1] != 3 || caller->body_left > RECORD_BODY_MAX)
            caller->fault = "no record of TLS";
    }
}

/* understand lets the peer work on what has come. */
static void understand(struct caller *caller)
{
    if (caller->failed || caller->farewell)
        return;
    if (!caller->ready) {
        enum peer_result result = peer_handshake(&caller->peer);
        collect(caller);
        caller->ready = result == PEER_DONE;
        caller->failed = result != PEER_DONE && result != PEER_WAITS;
        if (!caller->ready)
            return;
    }
    uint8_t text[16384];
    size_t len;
    enum peer_result result;
    while ((result = peer_read(&caller->peer, text, sizeof(text), &len)) == PEER_DONE)
        append(&caller->text, &caller->text_len, &caller->text_room, text, len);
    caller->farewell = result == PEER_CLOSED;
    caller->failed = result == PEER_FAILED;
    collect(caller);
}

static bool send_piece(struct caller *caller)
{
    size_t len = caller->out_len < caller->budget ? caller->out_len : caller->budget;
    if (caller->piece_max > 0 && len > caller->piece_max)
        len = caller->piece_max;
    if (len == 0 || caller->error != 0)
        return false;
    ssize_t sent = send(caller->descriptor, caller->out, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent <= 0) {
        if (errno != EAGAIN)
            caller->error = errno;
        return false;
    }
    memmove(caller->out, caller->out + sent, caller->out_len - (size_t)sent);
    caller->out_len -= (size_t)sent;
    caller->budget -= caller->budget == SIZE_MAX ? 0 : (size_t)sent;
    return true;
}

static bool receive(struct caller *caller)
{
    uint8_t data[16384];
    if (caller->deaf || caller->ended)
        return false;
    ssize_t got = recv(caller->descriptor, data, sizeof(data), MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return false;
    if (got <= 0) {
        caller->ended = true;
        caller->error = got < 0 ? errno : caller->error;
        caller->cut = caller->body_left > 0 || caller->header_len > 0;
        return true;
    }
    inspect(caller, data, (size_t)got);
    peer_give(&caller->peer, data, (size_t)got);
    understand(caller);
    return true;
}

bool caller_step(struct caller *caller)
{
    if (caller->descriptor < 0)
        return false;
    if (!caller->ready && !caller->failed && caller->records == 0 && caller->out_len == 0)
        understand(caller); /* a client begins */
    bool sent = send_piece(caller);
    return receive(caller) || sent;
}

static bool reached(const struct caller *caller, enum caller_goal goal, size_t text_len)
{
    switch (goal) {
    case CALLER_READY: return caller->ready;
    case CALLER_TEXT: return caller->text_len >= text_len;
    case CALLER_SENT: return caller->out_len == 0 || caller->budget == 0;
    case CALLER_ENDED: return caller->ended;
    }
    CHECK(false);
}

bool caller_until(struct caller *caller, enum caller_goal goal, size_t text_len)
{
    uint64_t end_us = clock_monotonic_us() + WAIT_US;
    while (!reached(caller, goal, text_len) && clock_monotonic_us() < end_us) {
        if (caller_step(caller))
            continue;
        if (caller->ended)
            break;
        struct pollfd wait = {.fd = caller->descriptor, .events = caller->deaf ? 0 : POLLIN};
        (void)poll(&wait, 1, 1);
    }
    return reached(caller, goal, text_len);
}

void caller_reset(struct caller *caller)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(caller->descriptor, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    close(caller->descriptor);
    caller->descriptor = -1;
}

void caller_hush(struct caller *caller)
{
    (void)shutdown(caller->descriptor, SHUT_WR);
}
