/* See load_dialogue.h. A connection is in one phase; a reply moves it to the next, and
 * dialogue_proceed sends what that phase begins with. */
#include "bench/load_dialogue.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { EXCUSES_MAX = 10 }; /* refusals shown in full */

static void piece_add(struct connection *connection, const void *bytes, size_t len)
{
    struct iovec *piece = &connection->pieces[connection->message.msg_iovlen++];
    piece->iov_base = (void *)(uintptr_t)bytes;
    piece->iov_len = len;
}

static void content_add(const struct client *client, struct connection *connection)
{
    piece_add(connection, connection->header, client->mail->header_len);
    piece_add(connection, connection->body->wire, connection->body->wire_len);
    connection->dot_ns = client_now_ns();
}

static void envelope_add(const struct client *client, struct connection *connection)
{
    const struct mail *mail = client->mail;
    bool pipelined = client->options->pipelined;
    uint32_t first = connection->replies;
    uint32_t limit = pipelined ? mail->command_count : first + 1;
    if (first == 0)
        connection->mail_ns = client_now_ns();
    piece_add(connection, mail->commands + mail->starts[first],
              mail->starts[limit] - mail->starts[first]);
    if (mail->options.bdat && limit == mail->command_count)
        content_add(client, connection);
}

void dialogue_proceed(struct client *client, struct connection *connection)
{
    static const char ehlo[] = "EHLO load.example\r\n", starttls[] = "STARTTLS\r\n";
    static const char reset[] = "RSET\r\n", quit[] = "QUIT\r\n";
    connection->held = connection->sending;
    if (connection->sending || connection->gone)
        return;
    connection->message = (struct msghdr){.msg_iov = connection->pieces};
    switch ((enum phase)connection->phase) {
    case PHASE_EHLO: piece_add(connection, ehlo, sizeof ehlo - 1); break;
    case PHASE_STARTTLS: piece_add(connection, starttls, sizeof starttls - 1); break;
    case PHASE_HANDSHAKE: load_tls_hello(client, connection); return;
    case PHASE_ENVELOPE: envelope_add(client, connection); break;
    case PHASE_BODY: content_add(client, connection); break;
    case PHASE_RESET: piece_add(connection, reset, sizeof reset - 1); break;
    case PHASE_QUIT: piece_add(connection, quit, sizeof quit - 1); break;
    default: return;
    }
    client_send(client, connection);
}

static void enter(struct client *client, struct connection *connection, enum phase phase)
{
    client->opening -= connection->phase == PHASE_BANNER;
    connection->phase = (uint8_t)phase;
    dialogue_proceed(client, connection);
}

void dialogue_next(struct client *client, struct connection *connection)
{
    const struct client_options *options = client->options;
    bool enough = (options->messages > 0 && client->begun >= options->messages) ||
                  (options->messages_per_connection > 0 &&
                   connection->messages >= options->messages_per_connection);
    if (client->stopping || (enough && client->running && !connection->holds)) {
        enter(client, connection, PHASE_QUIT);
        return;
    }
    if (!client->running || connection->holds) {
        enter(client, connection, PHASE_READY);
        client->arrived += !connection->arrived;
        connection->arrived = true;
        return;
    }
    connection->messages++;
    connection->replies = 0;
    connection->refused = false;
    client->begun++;
    connection->number = client->numbered++;
    connection->body = mail_header(client->mail, connection->number, connection->header);
    enter(client, connection, PHASE_ENVELOPE);
}

void dialogue_secured(struct client *client, struct connection *connection)
{
    if (client->options->tls.mode == LOAD_TLS_IMPLICIT)
        enter(client, connection, PHASE_BANNER);
    else
        enter(client, connection, PHASE_EHLO);
}

void dialogue_acked_flush(struct client *client)
{
    size_t at = 0;
    while (at < client->acked_len) {
        ssize_t wrote = write(client->options->acked, client->acked + at, client->acked_len - at);
        if (wrote <= 0)
            client_die("--acked", errno);
        at += (size_t)wrote;
    }
    client->acked_len = 0;
}

static void message_acked(struct client *client, struct connection *connection)
{
    client->report->acked++;
    client->now_ns = client_now_ns();
    if (client->counting) {
        client->report->counted++;
        histogram_add(&client->report->whole, client->now_ns - connection->mail_ns);
        histogram_add(&client->report->dot, client->now_ns - connection->dot_ns);
    }
    if (client->options->acked >= 0) {
        if (client->acked_len + MAIL_ID_LEN + 1 > ACKED_SIZE)
            dialogue_acked_flush(client);
        mail_id(client->mail, connection->number, client->acked + client->acked_len);
        client->acked_len += MAIL_ID_LEN + 1;
        client->acked[client->acked_len - 1] = '\n';
    }
    dialogue_next(client, connection);
}

/* Notes a reply that is not the wanted one; the first few are shown. */
static void excuse(struct client *client, struct connection *connection, int code,
                   struct iovec line)
{
    client->report->codes[code]++;
    if (client->excuses++ < EXCUSES_MAX)
        fprintf(stderr, "ringmx-load: unexpected: %.*s\n", (int)line.iov_len,
                (const char *)line.iov_base);
    if (!connection->refused &&
        (connection->phase == PHASE_ENVELOPE || connection->phase == PHASE_BODY))
        client->report->failed++;
    connection->refused = true;
}

static void on_envelope_reply(struct client *client, struct connection *connection, int code,
                              struct iovec line)
{
    const struct mail *mail = client->mail;
    bool last = ++connection->replies == mail->command_count;
    bool wanted = last && !mail->options.bdat ? code == 354 : code == 250 || code == 251;
    if (!wanted)
        excuse(client, connection, code, line);
    if (last && code == 354 && !mail->options.bdat)
        enter(client, connection, PHASE_BODY);
    else if (last && wanted && !connection->refused)
        message_acked(client, connection);
    else if (last || (!wanted && !client->options->pipelined))
        enter(client, connection, PHASE_RESET);
    else if (!client->options->pipelined)
        dialogue_proceed(client, connection);
}

static void on_ehlo_reply(struct client *client, struct connection *connection)
{
    if (client->options->tls.mode == LOAD_TLS_STARTTLS && connection->tls == NULL)
        enter(client, connection, PHASE_STARTTLS);
    else
        dialogue_next(client, connection);
}

/* The server ends the stream. */
static void on_quit_reply(struct connection *connection)
{
    if (connection->tls != NULL)
        load_tls_part(connection);
}

static void on_reply(struct client *client, struct connection *connection, int code,
                     struct iovec line)
{
    static const short codes[] = {
        [PHASE_BANNER] = 220, [PHASE_EHLO] = 250,  [PHASE_STARTTLS] = 220, [PHASE_READY] = 250,
        [PHASE_BODY] = 250,   [PHASE_RESET] = 250, [PHASE_QUIT] = 221,     [PHASE_LEAVING] = 0,
    };
    enum phase phase = (enum phase)connection->phase;
    int wanted = codes[phase];
    if (phase == PHASE_LEAVING)
        return;
    if (code == 421 || code == 0 || (code != wanted && phase < PHASE_READY)) {
        excuse(client, connection, code, line);
        if (phase == PHASE_STARTTLS || phase == PHASE_HANDSHAKE)
            client_drop(connection);
        else
            enter(client, connection, PHASE_LEAVING);
        return;
    }
    if (phase == PHASE_ENVELOPE) {
        on_envelope_reply(client, connection, code, line);
        return;
    }
    if (code != wanted)
        excuse(client, connection, code, line);
    switch (phase) {
    case PHASE_BANNER:
        client->report->opened++;
        enter(client, connection, PHASE_EHLO);
        break;
    case PHASE_BODY:
        if (code == 250 && !connection->refused)
            message_acked(client, connection);
        else
            dialogue_next(client, connection);
        break;
    case PHASE_EHLO: on_ehlo_reply(client, connection); break;
    case PHASE_STARTTLS: enter(client, connection, PHASE_HANDSHAKE); break;
    case PHASE_RESET: dialogue_next(client, connection); break;
    case PHASE_QUIT: on_quit_reply(connection); break;
    default: break;
    }
}

/* Splits what came into lines. Only the first four octets of a line outlive their buffer. */
void dialogue_receive(struct client *client, struct connection *connection, const char *bytes,
                      size_t len)
{
    while (len > 0 && !connection->gone) {
        const char *lf = memchr(bytes, '\n', len);
        size_t taken = lf != NULL ? (size_t)(lf - bytes) + 1 : len;
        for (size_t i = 0; i < taken && connection->code_len < 4; i++)
            connection->code[connection->code_len++] = bytes[i];
        const char *code = connection->code;
        if (lf != NULL) {
            struct iovec line = {(void *)(uintptr_t)bytes, taken - 1};
            int number = 0;
            for (int i = 0; i < 3; i++)
                number = code[i] >= '0' && code[i] <= '9' ? number * 10 + code[i] - '0' : 1000;
            if (connection->code_len < 4 || number >= 1000 || code[0] < '2')
                number = 0;
            connection->code_len = 0;
            if (code[3] != '-' || number == 0)
                on_reply(client, connection, number, line);
        }
        bytes += taken;
        len -= taken;
    }
}
