/* See dialogue.h. */
#include "bench/load/dialogue.h"

#include "bench/load/client_parts.h"
#include "bench/load/place.h"
#include "bench/load/transaction.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static const uint64_t farewell_us = 2000000; /* for the server to close after QUIT */

/* --- sending --- */

/* Sends a command in `count` pieces, whose reply is awaited. */
static void pieces_send(struct connection *connection, uint32_t count, enum load_phase phase)
{
    if (connection_chance(connection, phase))
        connection->aborting = (uint8_t)(phase + 1);
    connection->awaits = true;
    connection->sent_ns = client_now_ns();
    connection_send(connection, count);
}

static void command_send(struct connection *connection, const char *text, enum load_phase phase)
{
    connection_say(connection, text);
    pieces_send(connection, 1, phase);
}

static struct iovec piece_of(const char *text)
{
    return (struct iovec){(void *)(uintptr_t)text, strlen(text)};
}

static void hello_send(struct connection *connection)
{
    const struct load_options *options = connection->client->options;
    struct iovec *pieces = connection->loan.pieces;
    connection->pipelining = connection->chunking = false;
    pieces[0] = piece_of(options->lmtp ? "LHLO " : connection->helo ? "HELO " : "EHLO ");
    pieces[1] = piece_of(options->helo);
    pieces[2] = piece_of("\r\n");
    pieces_send(connection, 3, LOAD_PHASE_EHLO);
}

static const struct login *login_of(const struct connection *connection)
{
    const struct logins *logins = &connection->client->options->logins;
    return &logins->list[connection->number % logins->count];
}

static void login_send(struct connection *connection)
{
    command_send(connection, login_of(connection)->lines[connection->login_line], LOAD_PHASE_AUTH);
    if (connection->login_line == 0)
        connection->begun_ns = connection->sent_ns;
}

void dialogue_proceed(struct connection *connection)
{
    connection->held = connection->lent;
    if (connection->lent)
        return;
    switch ((enum connection_phase)connection->phase) {
    case CONNECTION_EHLO: hello_send(connection); break;
    case CONNECTION_STARTTLS: command_send(connection, "STARTTLS\r\n", LOAD_PHASE_STARTTLS); break;
    case CONNECTION_HANDSHAKE: connection_hello(connection); break;
    case CONNECTION_AUTH: login_send(connection); break;
    case CONNECTION_ENVELOPE:
    case CONNECTION_CONTENT: transaction_proceed(connection); break;
    case CONNECTION_RESET:
        connection_say(connection, "RSET\r\n");
        connection->awaits = true;
        connection_send(connection, 1);
        break;
    case CONNECTION_QUIT: command_send(connection, "QUIT\r\n", LOAD_PHASE_QUIT); break;
    default: break;
    }
}

void dialogue_enter(struct connection *connection, enum connection_phase phase)
{
    connection->phase = (uint8_t)phase;
    connection->awaits = false;
    dialogue_proceed(connection);
}

/* --- between messages --- */

static void wait_ready(struct connection *connection)
{
    struct client *client = connection->client;
    bool holds = connection->place->kind == PLACE_HOLDS;
    connection->phase = CONNECTION_READY;
    connection->awaits = false;
    list_append(holds ? &client->holding : &client->ready, &connection->ready);
    place_arrived(client, connection->place);
}

/* Whether this connection may begin one more message. */
static bool has_more(const struct connection *connection)
{
    const struct client *client = connection->client;
    bool draining = client->stage >= CLIENT_DRAINING;
    if (!place_has_more(connection->place))
        return false;
    if (connection->slow)
        return !draining;
    bool quota = client->task.messages == 0 || client->begun < client->task.messages;
    switch (client->options->loop) {
    case LOAD_LOOP_CLOSED: return !draining && quota;
    case LOAD_LOOP_MESSAGES: return !draining || client->backlog.count > 0;
    case LOAD_LOOP_CONNECTIONS: return quota;
    }
    return false;
}

void dialogue_next(struct connection *connection)
{
    struct client *client = connection->client;
    bool holds = connection->place->kind == PLACE_HOLDS;
    uint64_t intended_ns = 0;
    if (client->stage == CLIENT_OPENING || (holds && client->stage == CLIENT_RUNNING)) {
        wait_ready(connection);
        return;
    }
    if (holds || !has_more(connection)) {
        if (client->options->loop == LOAD_LOOP_CONNECTIONS)
            connection->place->message_ns = 0; /* others have sent all that was wanted */
        else
            place_settle(client, connection->place, client_now_ns());
        dialogue_enter(connection, CONNECTION_QUIT);
        return;
    }
    if (connection->sends && client->options->loop == LOAD_LOOP_MESSAGES) {
        if (client->backlog.count == 0) {
            wait_ready(connection);
            return;
        }
        intended_ns = backlog_take(&client->backlog);
    } else {
        intended_ns = connection->place->message_ns;
        connection->place->message_ns = 0;
    }
    transaction_begin(connection, intended_ns);
}

/* --- replies --- */

void dialogue_excuse(struct connection *connection, int code, struct dialogue_line line)
{
    connection->client->meter.tally.codes[code]++;
    line.len -= line.len > 0 && line.text[line.len - 1] == '\r';
    if (client_excuse())
        fprintf(stderr, "ringmx-load: unexpected: %.*s\n", (int)line.len, line.text);
    transaction_fail(connection);
}

/* Nothing more can be said on this connection. */
static void give_up(struct connection *connection, int code, struct dialogue_line line)
{
    struct tally *tally = &connection->client->meter.tally;
    dialogue_excuse(connection, code, line);
    switch ((enum connection_phase)connection->phase) {
    case CONNECTION_STARTTLS: connection_refuse_tls(connection, TALLY_TLS_REFUSED); return;
    case CONNECTION_HANDSHAKE: connection_refuse_tls(connection, TALLY_TLS_INJECTED); return;
    case CONNECTION_BANNER: tally->unopened++; break;
    case CONNECTION_EHLO:
    case CONNECTION_AUTH:
    case CONNECTION_READY:
    case CONNECTION_RESET: tally->broken++; break;
    default: break;
    }
    connection_leave(connection);
}

static void on_banner(struct connection *connection, uint64_t now_ns)
{
    struct client *client = connection->client;
    client->meter.tally.opened++;
    meter_opened(&client->meter, now_ns);
    client->opening -= connection->opening;
    connection->opening = false;
    client->progress_ns = now_ns;
    connection_opening_time(connection, TALLY_BANNER, connection->begun_ns, now_ns);
    dialogue_enter(connection, CONNECTION_EHLO);
}

/* A server that does not know EHLO may know HELO (RFC 5321 3.2). TLS can't begin then. */
static bool falls_back(struct connection *connection, int code)
{
    const struct load_options *options = connection->client->options;
    bool wants_tls = options->tls.mode == LOAD_TLS_STARTTLS;
    return connection->phase == CONNECTION_EHLO && code >= 500 && !options->lmtp &&
           !connection->helo && (!wants_tls || stream_is_secure(stream_of(connection)));
}

static void on_ehlo_reply(struct connection *connection, uint64_t now_ns)
{
    const struct load_options *options = connection->client->options;
    bool wants_tls = options->tls.mode == LOAD_TLS_STARTTLS;
    connection_opening_time(connection, TALLY_EHLO, connection->sent_ns, now_ns);
    if (wants_tls && !stream_is_secure(stream_of(connection))) {
        dialogue_enter(connection, CONNECTION_STARTTLS);
        return;
    }
    if (options->mail.bdat && !connection->chunking) {
        if (client_excuse())
            fputs("ringmx-load: the server does not offer CHUNKING\n", stderr);
        connection->client->meter.tally.broken++;
        connection_leave(connection);
        return;
    }
    connection->client->meter.tally.lock_step += options->pipelined && !connection->pipelining;
    connection->pipelining &= options->pipelined;
    if (options->logins.count > 0)
        dialogue_enter(connection, CONNECTION_AUTH);
    else
        dialogue_next(connection);
}

/* Says the next line of the login, if there is one; else the 334 was not what should have come. */
static bool login_goes_on(struct connection *connection, int code)
{
    if (connection->phase != CONNECTION_AUTH || code != 334 ||
        connection->login_line + 1u >= login_of(connection)->count)
        return false;
    connection->login_line++;
    dialogue_enter(connection, CONNECTION_AUTH);
    return true;
}

static void on_auth_reply(struct connection *connection, uint64_t now_ns)
{
    connection->client->meter.tally.logins++;
    connection_opening_time(connection, TALLY_AUTH, connection->begun_ns, now_ns);
    dialogue_next(connection);
}

/* The server closes the connection now. */
static void on_quit_reply(struct connection *connection, uint64_t now_ns)
{
    struct client *client = connection->client;
    place_settle(client, connection->place, now_ns);
    stream_set_deadline(&client->worker, stream_of(connection), now_ns / 1000 + farewell_us);
}

static void on_reply(struct connection *connection, int code, struct dialogue_line line,
                     uint64_t now_ns)
{
    static const short codes[] = {
        [CONNECTION_BANNER] = 220, [CONNECTION_EHLO] = 250,  [CONNECTION_STARTTLS] = 220,
        [CONNECTION_AUTH] = 235,   [CONNECTION_RESET] = 250, [CONNECTION_QUIT] = 221,
    };
    enum connection_phase phase = (enum connection_phase)connection->phase;
    bool transaction = phase == CONNECTION_ENVELOPE || phase == CONNECTION_CONTENT;
    if (phase == CONNECTION_LEAVING || (phase == CONNECTION_QUIT && !connection->awaits))
        return;
    if (code == 421 || code == 0 || (!transaction && !connection->awaits)) {
        give_up(connection, code == 421 ? code : 0, line);
        return;
    }
    if (transaction) {
        transaction_reply(connection, code, line, now_ns);
        return;
    }
    connection->awaits = false;
    if (login_goes_on(connection, code))
        return;
    if (falls_back(connection, code)) {
        connection->client->meter.tally.codes[code]++;
        connection->helo = true;
        dialogue_enter(connection, CONNECTION_EHLO);
        return;
    }
    if (code != codes[phase] && phase < CONNECTION_READY) {
        give_up(connection, code, line);
        return;
    }
    if (code != codes[phase])
        dialogue_excuse(connection, code, line);
    switch (phase) {
    case CONNECTION_BANNER: on_banner(connection, now_ns); break;
    case CONNECTION_EHLO: on_ehlo_reply(connection, now_ns); break;
    case CONNECTION_STARTTLS:
        connection_opening_time(connection, TALLY_STARTTLS, connection->sent_ns, now_ns);
        connection->phase = CONNECTION_HANDSHAKE; /* begun when nothing is left in clear */
        break;
    case CONNECTION_AUTH: on_auth_reply(connection, now_ns); break;
    case CONNECTION_RESET: dialogue_next(connection); break;
    case CONNECTION_QUIT: on_quit_reply(connection, now_ns); break;
    default: break;
    }
}

/* The code of a line that has ended; 0: it is no reply (RFC 5321 4.2). */
static int code_of(const struct connection *connection)
{
    const char *code = connection->line;
    int number = 0;
    for (int i = 0; i < 3; i++)
        number = code[i] >= '0' && code[i] <= '9' ? number * 10 + code[i] - '0' : 1000;
    return connection->line_len < 4 || number >= 1000 || code[0] < '2' ? 0 : number;
}

static bool line_is(const struct connection *connection, const char *keyword)
{
    const char *line = connection->line + 4;
    size_t len = strlen(keyword);
    return connection->line_len > 4 + len && strncasecmp(line, keyword, len) == 0 &&
           (line[len] == '\r' || line[len] == '\n');
}

/* A line of the reply to EHLO. What is offered in clear does not count after STARTTLS. */
static void on_offer(struct connection *connection)
{
    connection->pipelining |= line_is(connection, "PIPELINING"); /* RFC 2920 */
    connection->chunking |= line_is(connection, "CHUNKING");     /* RFC 3030 */
}

static void on_line(struct connection *connection, struct dialogue_line line, uint64_t now_ns)
{
    int code = code_of(connection);
    if (connection->phase == CONNECTION_EHLO && code == 250 && !connection->helo)
        on_offer(connection);
    connection->line_len = 0;
    if (connection->line[3] != '-' || code == 0)
        on_reply(connection, code, line, now_ns);
}

/* Octets in clear behind the 220 to STARTTLS must not become part of the text (RFC 3207 5). */
static void secure_or_refuse(struct connection *connection, const char *octets, size_t len)
{
    if (len == 0) {
        dialogue_proceed(connection);
        return;
    }
    const char *lf = memchr(octets, '\n', len);
    give_up(connection, 0,
            (struct dialogue_line){octets, lf != NULL ? (size_t)(lf - octets) : len});
}

/* Whether a line makes sense that came before we said what it would answer: the server gives up,
 * or does not want the message of which it has seen the envelope. */
static bool is_early(const struct connection *connection)
{
    int code = code_of(connection);
    return code == 421 || (connection->phase == CONNECTION_CONTENT && code >= 400);
}

/* Splits what came into lines. Only the first octets of a line outlive their buffer. */
void dialogue_receive(struct connection *connection, const char *octets, size_t len,
                      uint64_t now_ns)
{
    const struct stream *stream = stream_of(connection);
    bool secure = stream_is_secure(stream), lent = connection->lent;
    while (len > 0 && stream->state == STREAM_OPEN) {
        const char *lf = memchr(octets, '\n', len);
        size_t taken = lf != NULL ? (size_t)(lf - octets) + 1 : len;
        if (!secure && connection->phase == CONNECTION_HANDSHAKE) {
            secure_or_refuse(connection, octets, len);
            return;
        }
        for (size_t i = 0; i < taken && connection->line_len < CONNECTION_LINE_KEPT; i++)
            connection->line[connection->line_len++] = octets[i];
        struct dialogue_line line = {octets, taken - 1};
        if (lf != NULL && connection->lent && !lent && !is_early(connection))
            give_up(connection, 0, line);
        else if (lf != NULL)
            on_line(connection, line, now_ns);
        octets += taken;
        len -= taken;
    }
    if (!secure && connection->phase == CONNECTION_HANDSHAKE && stream->state == STREAM_OPEN)
        secure_or_refuse(connection, octets, 0);
}
