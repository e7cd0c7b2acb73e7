/* See transaction.h. What is sent and what is replied are counted apart, so that a server may
 * answer before it has read everything. */
#include "bench/load/transaction.h"

#include "bench/load/client_parts.h"
#include "bench/load/place.h"

#include <assert.h>
#include <string.h>

static_assert(2 * MAIL_PIECES_MAX <= STREAM_LOAN_PIECES, "an envelope and a chunk are one loan");

enum { LARGE = 64 << 10 }; /* of longer messages the last octets leave later than the first */

static const struct mail *mail_of(const struct connection *connection)
{
    return connection->client->task.mail;
}

static bool uses_bdat(const struct connection *connection)
{
    return connection->client->options->mail.bdat;
}

/* --- what becomes of a message --- */

/* The message under way counts no longer; with `again` it is as if it had never begun. */
static void settle(struct connection *connection, bool again, uint64_t now_ns)
{
    struct client *client = connection->client;
    if (!connection->sends)
        return;
    client->busy--;
    client->progress_ns = now_ns;
    if (again)
        client->begun--;
    else
        client->over++;
}

void transaction_fail(struct connection *connection)
{
    struct client *client = connection->client;
    if (!transaction_under_way(connection))
        return;
    uint64_t now_ns = client_now_ns();
    client->meter.tally.failed++;
    meter_failed(&client->meter, now_ns);
    settle(connection, false, now_ns);
    connection->refused = true;
}

/* A message that was lost is to be sent again, and then counts from where it did. */
static bool keep(struct connection *connection)
{
    struct client *client = connection->client;
    if (!client->options->reconnect)
        return false;
    if (client->options->loop == LOAD_LOOP_MESSAGES)
        return backlog_return(&client->backlog, connection->intended_ns);
    connection->place->message_ns = connection->intended_ns;
    connection->place->messages--;
    return true;
}

void transaction_lost(struct connection *connection)
{
    struct client *client = connection->client;
    if (!transaction_under_way(connection))
        return;
    uint64_t now_ns = client_now_ns();
    client->meter.tally.lost++;
    meter_failed(&client->meter, now_ns);
    bool again = connection->sends && keep(connection);
    if (connection->sends && !again)
        meter_time_begun(&client->meter, TALLY_MESSAGE, connection->intended_ns, now_ns);
    settle(connection, again, now_ns);
}

void transaction_drop(struct connection *connection)
{
    bool again = connection->client->options->loop != LOAD_LOOP_MESSAGES;
    if (transaction_under_way(connection))
        settle(connection, again, client_now_ns());
}

/* --- sending --- */

void transaction_begin(struct connection *connection, uint64_t intended_ns)
{
    struct client *client = connection->client;
    connection->place->messages++;
    if (connection->sends) {
        client->begun++;
        client->busy++;
    }
    connection->refused = false;
    connection->intended_ns = intended_ns;
    connection->commands_sent = connection->replies = connection->accepted = 0;
    connection->chunks_sent = connection->chunk_replies = 0;
    connection->finals = connection->stored = 0;
    dialogue_enter(connection, CONNECTION_ENVELOPE);
}

/* Keeps the first `len` octets of the pieces; returns how many pieces that is. */
static uint32_t pieces_cut(struct iovec *pieces, uint32_t count, size_t len)
{
    uint32_t kept = 0;
    for (; kept < count && len > 0; kept++) {
        if (pieces[kept].iov_len > len)
            pieces[kept].iov_len = len;
        len -= pieces[kept].iov_len;
    }
    return kept;
}

static size_t pieces_len(const struct iovec *pieces, uint32_t count)
{
    size_t len = 0;
    for (uint32_t i = 0; i < count; i++)
        len += pieces[i].iov_len;
    return len;
}

static bool breaks_off(struct connection *connection, enum load_phase phase)
{
    if (!connection_chance(connection, phase))
        return false;
    connection->aborting = (uint8_t)(phase + 1);
    return true;
}

/* Adds the next chunk, or with DATA the whole message. Returns how many pieces. */
static uint32_t content_add(struct connection *connection, struct iovec *pieces, uint64_t now_ns)
{
    uint32_t chunk = connection->chunks_sent++;
    uint32_t count = mail_content(mail_of(connection), &connection->draft, chunk, pieces);
    connection->chunk_ns[chunk % CONNECTION_CHUNKS_TIMED] = now_ns;
    if (chunk == 0 && uses_bdat(connection) && breaks_off(connection, LOAD_PHASE_DATA)) {
        const char *lf = memchr(pieces[0].iov_base, '\n', pieces[0].iov_len);
        size_t line = lf == NULL ? 1 : (size_t)(lf - (const char *)pieces[0].iov_base) + 1;
        return pieces_cut(pieces, count, line);
    }
    if (chunk == 0 && breaks_off(connection, LOAD_PHASE_BODY))
        return pieces_cut(pieces, count, pieces_len(pieces, count) / 2);
    if (connection->chunks_sent < connection->draft.chunks)
        return count;
    (void)breaks_off(connection, LOAD_PHASE_DOT);
    connection->dot_ns = now_ns;
    connection->large = pieces_len(pieces, count) > LARGE;
    return count;
}

/* How many commands go now, from `first` on. */
static uint32_t commands_count(struct connection *connection, uint32_t first)
{
    uint32_t recipients = connection->draft.recipients;
    uint32_t all = mail_command_count(mail_of(connection), &connection->draft);
    uint32_t count = connection->pipelining ? all - first : 1;
    if (first == 0 && breaks_off(connection, LOAD_PHASE_MAIL))
        return 1;
    if (first <= 1 && first + count > 1 && breaks_off(connection, LOAD_PHASE_RCPT))
        return count < recipients + 1 - first ? count : recipients + 1 - first;
    if (!uses_bdat(connection) && first + count == all)
        (void)breaks_off(connection, LOAD_PHASE_DATA);
    return count;
}

static void draft_begin(struct connection *connection)
{
    struct client *client = connection->client;
    uint64_t number = client->task.index + client->numbered++ * client->task.threads;
    mail_draft(client->task.mail, number, schedule_random(&client->chance), &connection->draft);
    connection->chunks_due = connection->draft.chunks;
}

static void message_starts(struct connection *connection, uint64_t now_ns)
{
    connection->mail_ns = now_ns;
    if (connection->intended_ns == 0)
        connection->intended_ns = now_ns;
}

void transaction_proceed(struct connection *connection)
{
    const struct mail *mail = mail_of(connection);
    struct iovec *pieces = connection->loan.pieces;
    uint32_t first = connection->commands_sent, count = 0;
    if (first == 0)
        draft_begin(connection);
    uint64_t now_ns = client_now_ns();
    if (connection->phase == CONNECTION_CONTENT) {
        count = content_add(connection, pieces, now_ns);
    } else {
        uint32_t commands = commands_count(connection, first);
        count = mail_commands(mail, &connection->draft, first, commands, pieces);
        connection->commands_sent += commands;
        connection->sent_ns = now_ns;
    }
    if (first == 0)
        message_starts(connection, now_ns);
    /* BDAT waits for no reply (RFC 3030 4.2). */
    if (first == 0 && uses_bdat(connection) && connection->pipelining && connection->aborting == 0)
        count += content_add(connection, pieces + count, now_ns);
    connection_send(connection, count);
}

void transaction_returned(struct connection *connection)
{
    bool under_way =
        connection->phase == CONNECTION_ENVELOPE || connection->phase == CONNECTION_CONTENT;
    if (connection->large) {
        connection->large = false;
        connection->dot_ns = client_now_ns();
    }
    if (!under_way || !uses_bdat(connection) || !connection->pipelining ||
        connection->chunks_sent == 0 || connection->chunks_sent >= connection->chunks_due)
        return;
    uint32_t count = content_add(connection, connection->loan.pieces, client_now_ns());
    connection_send(connection, count);
}

/* --- replies --- */

static void message_stored(struct connection *connection, uint64_t now_ns)
{
    struct client *client = connection->client;
    struct meter *meter = &client->meter;
    uint64_t from_ns = connection->intended_ns;
    meter->tally.acked++;
    settle(connection, false, now_ns);
    if (!connection->sends)
        return;
    meter_answered(meter, connection->draft.size, from_ns, now_ns);
    connection_time(connection, TALLY_DOT, connection->dot_ns, now_ns);
    if (!meter_has(meter, from_ns))
        return;
    histogram_add(&meter->tally.times[TALLY_MESSAGE], now_ns - from_ns);
    histogram_add(&meter->tally.times[TALLY_SERVICE], now_ns - connection->mail_ns);
}

/* The last reply has come. After a chunk that was refused the server must be told to begin anew
 * (RFC 3030 2). */
static void message_over(struct connection *connection, uint64_t now_ns)
{
    struct client *client = connection->client;
    uint32_t recipients = client->options->lmtp ? connection->stored : connection->accepted;
    if (connection->stored > 0)
        acked_add(&client->acked, client->task.mail, &connection->draft, recipients);
    if (!connection->refused)
        message_stored(connection, now_ns);
    if (connection->stored == 0 && uses_bdat(connection))
        dialogue_enter(connection, CONNECTION_RESET);
    else
        dialogue_next(connection);
}

/* A reply to something that has not been said. */
static void unasked(struct connection *connection, struct dialogue_line line)
{
    dialogue_excuse(connection, 0, line);
    connection_leave(connection);
}

/* No more chunks than those that are sent already: they will be answered. */
static void refuse(struct connection *connection, int code, struct dialogue_line line)
{
    dialogue_excuse(connection, code, line);
    if (uses_bdat(connection))
        connection->chunks_due = connection->chunks_sent;
}

/* The reply to the last command of the envelope. */
static void envelope_over(struct connection *connection, bool wanted)
{
    bool pipelined = connection->pipelining;
    if (uses_bdat(connection) && pipelined)
        connection->phase = CONNECTION_CONTENT; /* which is on its way */
    else if (wanted && !(uses_bdat(connection) && connection->refused))
        dialogue_enter(connection, CONNECTION_CONTENT);
    else
        dialogue_enter(connection, CONNECTION_RESET);
}

static void envelope_reply(struct connection *connection, int code, struct dialogue_line line,
                           uint64_t now_ns)
{
    uint32_t index = connection->replies;
    if (index >= connection->commands_sent) {
        unasked(connection, line);
        return;
    }
    connection->replies++;
    uint32_t count = mail_command_count(mail_of(connection), &connection->draft);
    bool recipient = index > 0 && index <= connection->draft.recipients;
    bool data = !recipient && index > 0;
    bool wanted = data ? code == 354 : code == 250 || (recipient && code == 251);
    connection_time(connection,
                    data        ? TALLY_DATA
                    : recipient ? TALLY_RCPT
                                : TALLY_MAIL,
                    connection->sent_ns, now_ns);
    connection->accepted += recipient && wanted;
    if (!wanted)
        refuse(connection, code, line);
    if (connection->replies == count)
        envelope_over(connection, wanted);
    else if (!connection->pipelining && wanted)
        dialogue_proceed(connection);
    else if (!connection->pipelining)
        dialogue_enter(connection, CONNECTION_RESET);
}

/* The reply to a chunk that is not the last, or to one that is not to be followed by others. */
static void chunk_reply(struct connection *connection, int code, struct dialogue_line line,
                        uint64_t now_ns)
{
    uint32_t chunk = connection->chunk_replies++;
    if (connection->chunks_sent - chunk <= CONNECTION_CHUNKS_TIMED)
        connection_time(connection, TALLY_DATA,
                        connection->chunk_ns[chunk % CONNECTION_CHUNKS_TIMED], now_ns);
    if (code != 250)
        refuse(connection, code, line);
    if (connection->chunks_due < connection->draft.chunks &&
        connection->chunk_replies == connection->chunks_due)
        dialogue_enter(connection, CONNECTION_RESET);
    else if (!connection->pipelining)
        dialogue_proceed(connection);
}

/* With LMTP one for each recipient that was accepted (RFC 2033 4.2). */
static void final_reply(struct connection *connection, int code, struct dialogue_line line,
                        uint64_t now_ns)
{
    bool lmtp = connection->client->options->lmtp;
    uint32_t wanted = lmtp && connection->accepted > 0 ? connection->accepted : 1;
    connection->finals++;
    connection->stored += code == 250;
    if (code != 250)
        dialogue_excuse(connection, code, line);
    if (connection->finals == wanted)
        message_over(connection, now_ns);
}

void transaction_reply(struct connection *connection, int code, struct dialogue_line line,
                       uint64_t now_ns)
{
    uint32_t chunks = connection->draft.chunks, due = connection->chunks_due;
    uint32_t chunks_before = due < chunks ? due : chunks - 1;
    if (connection->phase == CONNECTION_ENVELOPE)
        envelope_reply(connection, code, line, now_ns);
    else if (connection->chunk_replies < chunks_before &&
             connection->chunk_replies < connection->chunks_sent)
        chunk_reply(connection, code, line, now_ns);
    else if (connection->chunk_replies == chunks - 1 && connection->chunks_sent == chunks)
        final_reply(connection, code, line, now_ns);
    else
        unasked(connection, line);
}
