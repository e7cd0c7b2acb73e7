/* What a worker writes about sessions that are watched: see trace.h. */
#include <errno.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/id.h"
#include "gateway/policy/mailbox.h"
#include "gateway/receive/server.h"
#include "gateway/receive/trace_filters.h"

enum { TEXT_MAX = 512 /* octets that a value of the log has room for */ };

/* --- the worker's place --- */

void trace_join(struct server *server, struct trace *trace, void (*wake)(void *user), void *user)
{
    server->trace = (struct trace_port){.trace = trace, .index = server->index};
    if (trace == NULL)
        return;
    struct trace_place *place = &trace->places[server->index];
    CHECK(server->index < trace->worker_count);
    place->wake = wake;
    place->user = user;
    atomic_store(&place->joined, true);
    trace_look(server); /* either we see a change, or the change sees us */
}

void trace_leave(struct server *server)
{
    struct trace_port *port = &server->trace;
    if (port->trace != NULL)
        atomic_store(&port->trace->places[port->index].joined, false);
    *port = (struct trace_port){0};
}

/* --- who is meant --- */

static uint8_t match_peer(const struct trace_filters *filters, const union address_any *peer)
{
    unsigned matched = 0;
    for (unsigned i = 0; i < TRACE_WATCHERS_MAX; i++)
        if (filters->wishes[i].networks != NULL &&
            networks_contain(filters->wishes[i].networks, peer))
            matched |= 1u << i;
    return (uint8_t)(matched & filters->mask);
}

/* wants: does the wish for a mailbox, or for "@domain", mean this one? */
static bool wants(const char *wish, struct bytes mailbox)
{
    if (wish[0] != '@')
        return mailbox_same(bytes_of_string(wish), mailbox, true);
    uint8_t local[ADDRESS_LOCAL_LEN_MAX];
    struct bytes domain;
    (void)mailbox_split(mailbox, local, &domain);
    return bytes_equal_nocase(domain, bytes_of_string(wish + 1));
}

static uint8_t match_recipient(const struct trace_filters *filters, struct bytes mailbox)
{
    unsigned matched = 0;
    for (unsigned i = 0; i < TRACE_WATCHERS_MAX; i++)
        if (filters->wishes[i].mailbox != NULL && wants(filters->wishes[i].mailbox, mailbox))
            matched |= 1u << i;
    return (uint8_t)(matched & filters->mask);
}

/* --- lines --- */

static struct log_line begin(const struct server *server, const char *event,
                             const union address_any *peer, uint8_t watchers)
{
    char text[STAMP_PEER_LEN];
    struct log_line line = log_begin(server->trace.log, LOG_INFO, event);
    log_number(&line, "watchers", watchers);
    log_number(&line, "generation", server->trace.generation);
    log_bytes(&line, "client", text, stamp_peer(peer, text));
    return line;
}

static struct log_line begin_session(const struct session *session, const char *event,
                                     uint8_t watchers)
{
    char id[ID_TEXT_LEN + 1];
    struct log_line line = begin(session->server, event, &session->peer, watchers);
    id_format(session->id, id);
    log_bytes(&line, "session", id, ID_TEXT_LEN);
    return line;
}

/* add_text: a NUL is no text for most readers of JSON. */
static void add_text(struct log_line *line, const char *key, struct bytes text)
{
    uint8_t copy[TEXT_MAX + 1];
    if (text.len > sizeof(copy))
        text.len = sizeof(copy); /* the log sees that it is too long, and says so */
    for (size_t i = 0; i < text.len; i++)
        copy[i] = text.data[i] == '\0' ? '?' : text.data[i];
    log_bytes(line, key, copy, text.len);
}

/* --- a session begins to be watched --- */

static void tell_opened(const struct session *session, uint8_t watchers)
{
    struct log_line line = begin_session(session, "connect", watchers);
    uint16_t port = session->peer.any.sa_family == AF_INET6 ? session->peer.v6.sin6_port
                                                            : session->peer.v4.sin_port;
    log_number(&line, "port", ntohs(port));
    log_end(&line);
}

/* tell_joined says what those who come in the middle have missed. */
static void tell_joined(struct session *session, uint8_t watchers)
{
    const struct transaction *transaction = session->transaction;
    const uint8_t *helo = session->helo_long != NULL ? session->helo_long : session->helo_short;
    bool told = !session->doubtful && !session->discreet;
    struct log_line line = begin_session(session, "joined", watchers);
    if (told)
        add_text(&line, "helo", bytes_make(helo, session->helo_len));
    log_string(&line, "tls", session_is_secure(session) ? "true" : "false");
    if (transaction != NULL && told)
        add_text(&line, "from", transaction->envelope.reverse_path);
    log_end(&line);
}

/* match_more adds those who wait for this client. False: nobody watches the session. */
static bool match_more(struct session *session)
{
    session->traced |= match_peer(session->server->trace.filters, &session->peer);
    return session->traced != 0;
}

void trace_opened(struct session *session)
{
    if (match_more(session))
        tell_opened(session, session->traced);
}

void trace_proxied(struct session *session, const union address_any *balancer)
{
    char text[STAMP_PEER_LEN];
    if (!match_more(session))
        return;
    struct log_line line = begin_session(session, "proxy", session->traced);
    log_bytes(&line, "balancer", text, stamp_peer(balancer, text));
    log_end(&line);
}

void trace_renamed(struct session *session)
{
    if (!match_more(session))
        return;
    struct log_line line = begin_session(session, "client", session->traced);
    log_end(&line);
}

/* look_at: those who left are forgotten, and those who came are asked about. */
static void look_at(struct worker *worker, struct stream *stream)
{
    struct server *server = worker->options.user;
    struct session *session = stream_owner(stream);
    if (!session->known)
        return;
    session->traced &= server->trace.keep;
    if (server->trace.filters == NULL)
        return;
    uint8_t fresh = match_peer(server->trace.filters, &session->peer) & ~server->trace.keep;
    if (fresh == 0)
        return;
    session->traced |= fresh;
    tell_joined(session, fresh);
}

void trace_look(struct server *server)
{
    struct trace_port *port = &server->trace;
    if (port->trace == NULL)
        return;
    struct trace_place *place = &port->trace->places[port->index];
    const struct trace_filters *filters = atomic_load(&port->trace->current);
    uint64_t before = atomic_load_explicit(&place->seen, memory_order_relaxed);
    port->filters = filters->mask == 0 ? NULL : filters;
    port->log = filters->mask == 0 ? NULL : port->trace->ports[port->index];
    port->generation = filters->generation;
    port->keep = 0;
    for (unsigned i = 0; i < TRACE_WATCHERS_MAX; i++)
        if ((filters->mask & 1u << i) != 0 && filters->since[i] <= before)
            port->keep = (uint8_t)(port->keep | 1u << i);
    worker_each_stream(server->worker, look_at);
    atomic_store(&place->seen, filters->generation);
}

/* --- what is said --- */

void trace_refused(struct server *server, const union address_any *peer, struct bytes text)
{
    uint8_t watchers = match_peer(server->trace.filters, peer);
    if (watchers == 0)
        return;
    struct log_line line = begin(server, "refused", peer, watchers);
    add_text(&line, "text", bytes_slice(text, 0, text.len < 2 ? 0 : text.len - 2));
    log_end(&line);
}

/* may_show: a line that is no command may be a part of a message, or a secret that belongs to an
 * AUTH before. After AUTH so may what looks like a command but has no syntax, or a free one. After
 * a DATA that was refused any line may be of the message, but a verb alone tells nothing. */
static bool may_show(const struct session *session, const struct command *command,
                     enum command_result result, size_t len)
{
    if (session->doubtful)
        return result == COMMAND_OK && len == strlen(command_verb_name(command->verb));
    switch (command->verb) {
    case VERB_UNKNOWN:
    case VERB_AUTH:
    case VERB_HELP:
    case VERB_NOOP:
    case VERB_FOREIGN: return false;
    case VERB_VRFY:
    case VERB_EXPN: return !session->discreet;
    default: return result == COMMAND_OK || !session->discreet;
    }
}

/* add_command shows the line, or the verb and how long the line is. */
static void add_command(struct log_line *line, const struct session *session, struct bytes text,
                        const struct command *command, enum command_result result)
{
    if (may_show(session, command, result, text.len)) {
        add_text(line, "text", text);
        return;
    }
    log_string(line, "verb", command_verb_name(command->verb));
    log_number(line, "octets", text.len);
}

void trace_command(struct session *session, struct bytes text, const struct command *command,
                   enum command_result result)
{
    if (command->verb == VERB_RCPT && result == COMMAND_OK) {
        uint8_t matched = match_recipient(session->server->trace.filters, command->address.text);
        uint8_t fresh = matched & ~session->traced;
        session->traced |= matched;
        if (fresh != 0)
            tell_joined(session, fresh);
    }
    if (session->traced == 0)
        return;
    struct log_line line = begin_session(session, "command", session->traced);
    add_command(&line, session, text, command, result);
    log_end(&line);
}

void trace_response(struct session *session, size_t octets)
{
    struct log_line line = begin_session(session, "response", session->traced);
    log_number(&line, "octets", octets);
    log_end(&line);
}

/* trace_reply: a challenge of AUTH is no text for people, and may tell of a user's salt. */
void trace_reply(struct session *session, struct bytes text)
{
    bool challenge = text.len > 4 && memcmp(text.data, "334 ", 4) == 0;
    size_t shown = challenge ? 3 : text.len < 2 ? 0 : text.len - 2;
    struct log_line line = begin_session(session, "reply", session->traced);
    add_text(&line, "text", bytes_slice(text, 0, shown));
    if (challenge)
        log_number(&line, "octets", text.len - 6);
    log_end(&line);
}

void trace_text(struct session *session)
{
    struct log_line line = begin_session(session, "text", session->traced);
    log_number(&line, "octets", session->transaction->octets);
    log_end(&line);
}

void trace_tls(const struct session *session, const struct tls_info *info)
{
    struct log_line line = begin_session(session, "tls", session->traced);
    log_string(&line, "version", info->version);
    log_string(&line, "cipher", info->cipher);
    log_string(&line, "resumed", info->resumed ? "true" : "false");
    if (info->server_name[0] != '\0')
        log_string(&line, "sni", info->server_name);
    log_end(&line);
}

void trace_tls_failed(const struct session *session, const char *reason, const char *text)
{
    struct log_line line = begin_session(session, "tls_failed", session->traced);
    log_string(&line, "reason", reason);
    log_string(&line, "text", text);
    log_end(&line);
}

void trace_closed(const struct session *session, int error)
{
    struct log_line line = begin_session(session, "disconnect", session->traced);
    log_number(&line, "messages", session->message_count);
    if (error < 0)
        log_string(&line, "error", strerror(-error));
    log_end(&line);
}
