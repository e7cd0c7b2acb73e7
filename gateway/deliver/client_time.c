/* How long a client waits: for each reply, for octets to be taken (RFC 5321 4.5.3.2), and for a
 * delivery as a whole, since a server that does a little before each deadline would never end. */
#include "gateway/deliver/client_time.h"

#include "gateway/deliver/client_inside.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum {
    TOTAL_USUAL_S = 3600, /* timeouts.total_s when it is 0 */
    TOTAL_RATE = 1000,    /* octets of text a second that a server must take in the end */
};

static uint32_t patience_s(const struct client *client)
{
    const struct client_timeouts *timeouts = &client->setup->timeouts;
    switch ((enum client_phase)client->phase) {
    case CLIENT_PHASE_CONNECT: return timeouts->connect_s;
    case CLIENT_PHASE_GREETING: return timeouts->greeting_s;
    case CLIENT_PHASE_HANDSHAKE:
    case CLIENT_PHASE_EHLO:
    case CLIENT_PHASE_HELO:
    case CLIENT_PHASE_STARTTLS:
    case CLIENT_PHASE_RESET: return timeouts->command_s;
    case CLIENT_PHASE_MAIL: return client_mail_patience_s(client);
    case CLIENT_PHASE_QUIT: return timeouts->quit_s;
    case CLIENT_PHASE_IDLE:
    case CLIENT_PHASE_GONE: break;
    }
    return 0;
}

/* last_us: when the delivery must be over. */
static uint64_t last_us(const struct client *client)
{
    uint64_t total_s = client->setup->timeouts.total_s;
    if (total_s == 0)
        total_s = TOTAL_USUAL_S;
    return client->begun_us + (total_s + client->delivery->size / TOTAL_RATE) * 1000000;
}

void client_watch(struct client *client)
{
    struct stream *stream = stream_of(client);
    struct worker *worker = client->setup->worker;
    if (stream->state != STREAM_OPEN && stream->state != STREAM_CONNECTING)
        return; /* an end has a deadline of its own */
    uint64_t wait_us = patience_s(client) * UINT64_C(1000000);
    uint64_t until_us = wait_us == 0 ? 0 : worker->now_us + wait_us;
    if (client->phase == CLIENT_PHASE_MAIL && (until_us == 0 || until_us > last_us(client)))
        until_us = last_us(client);
    client->watch_us = worker->now_us;
    stream_set_deadline(worker, stream, until_us);
}

/* progressed asks the kernel whether the peer has taken octets since it was asked last: a loan says
 * nothing before all of it has left. */
static bool progressed(struct client *client)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info);
    if (client->phase != CLIENT_PHASE_MAIL || client->mail.sent == CLIENT_TEXT_NOT_YET ||
        client->setup->worker->now_us >= last_us(client) ||
        client->peer.address.ss_family == AF_UNIX ||
        getsockopt(stream_of(client)->descriptor, IPPROTO_TCP, TCP_INFO, &info, &len) != 0)
        return false;
    bool more = info.tcpi_bytes_acked != client->acked;
    client->acked = info.tcpi_bytes_acked;
    return more && info.tcpi_unacked + info.tcpi_notsent_bytes > 0;
}

void client_timed_out(struct stream *stream, void *owner)
{
    (void)stream;
    if (progressed(owner))
        client_watch(owner);
    else
        client_break_off(owner);
}

void client_break_off(struct client *client)
{
    static const char *const words[] = {
        [CLIENT_PHASE_GREETING] = "greeting",
        [CLIENT_PHASE_EHLO] = "reply to EHLO",
        [CLIENT_PHASE_HELO] = "reply to HELO",
        [CLIENT_PHASE_STARTTLS] = "reply to STARTTLS",
    };
    if (client->phase == CLIENT_PHASE_CONNECT)
        client_break(client, 4, 1, "connect: timed out");
    else if (client->phase == CLIENT_PHASE_HANDSHAKE)
        client_break(client, 7, 5, "TLS: the handshake timed out");
    else if (client->phase < CLIENT_PHASE_IDLE)
        client_break(client, 4, 2, "timed out: no %s", words[client->phase]);
    else if (client->phase != CLIENT_PHASE_MAIL)
        client_drop(client);
    else if (client->setup->worker->now_us >= last_us(client))
        client_break(client, 4, 2, "timed out: the delivery takes too long");
    else
        client_break(client, 4, 2, "timed out: %s", client_mail_waits_for(client));
}

uint64_t client_stall_us(const struct client *client)
{
    if (client->phase >= CLIENT_PHASE_QUIT || patience_s(client) == 0)
        return 0;
    return client->setup->worker->now_us - client->watch_us;
}
