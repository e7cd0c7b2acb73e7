/* The way to the greeting: see gate.h. */
#include "gateway/receive/gate.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"
#include "gateway/receive/authenticating.h"
#include "gateway/receive/server.h"
#include "gateway/receive/server_log.h"
#include "parser/proxy.h"

#include <arpa/inet.h>
#include <string.h>

enum { HEADER_S_MAX = 5 /* a balancer sends its header at once */ };

static_assert((int)PROXY_V2_MAX <= (int)LIMIT_LINE, "a header fits where an unfinished line does");

/* --- counts and rates --- */

static enum reply reply_of(enum admission_verdict verdict)
{
    return verdict == ADMISSION_ADDRESS_FULL ? REPLY_TOO_MANY_FROM_ADDRESS
                                             : REPLY_TOO_MANY_FROM_NETWORK;
}

/* count counts a connection of `peer`, and the rate at which they come. REPLY_NONE, or what stands
 * against it; then neither counts. */
static enum reply count(struct server *server, const union address_any *peer)
{
    const struct server_options *options = server->options;
    enum admission_verdict verdict =
        admission_enter_peer(server->admission, peer, options->connections_per_ip_max,
                             options->connections_per_network_max);
    if (verdict != ADMISSION_OK)
        return reply_of(verdict);
    enum rate_verdict rate = RATE_OK;
    if (server->rates != NULL)
        rate = rates_take(server->rates, &options->rates, RATE_CONNECTIONS, peer,
                          server->worker->now_us);
    if (rate != RATE_OK) {
        admission_leave_peer(server->admission, peer);
        return rate == RATE_ADDRESS_OVER ? REPLY_CONNECTS_TOO_OFTEN
                                         : REPLY_NETWORK_CONNECTS_TOO_OFTEN;
    }
    if (server->shared != NULL)
        shared_count(server->shared, &options->rates, RATE_CONNECTIONS, peer);
    return REPLY_NONE;
}

/* uncount gives back what the session's address was counted for. */
static void uncount(struct session *session)
{
    if (session->counted)
        admission_leave_peer(session->server->admission, &session->peer);
    session->counted = false;
}

/* admit counts a connection of `peer` (*counted), unless it is exempt, or can't be served and will
 * hear so in its session: that is no fault of the client's. */
static enum reply admit(struct server *server, const union address_any *peer, bool exempt,
                        bool *counted)
{
    *counted = false;
    if (exempt || server_unready(server) != REPLY_NONE)
        return REPLY_NONE;
    enum reply refusal = count(server, peer);
    *counted = refusal == REPLY_NONE;
    return refusal;
}

/* admit_session does so when the client is known. */
static enum reply admit_session(struct session *session)
{
    bool counted;
    enum reply refusal = admit(session->server, &session->peer, session->exempt, &counted);
    session->counted = counted;
    return refusal;
}

static bool is_exempt(const struct server *server, const union address_any *peer)
{
    return networks_contain(server->options->exempt, peer);
}

/* identify makes `peer` the client: the counts of the old one are given back, those of the new one
 * taken. */
static enum reply identify(struct session *session, const union address_any *peer)
{
    uncount(session);
    session->peer = *peer;
    session->local = false;
    session->exempt = is_exempt(session->server, peer);
    return admit_session(session);
}

enum reply gate_arrive(struct server *server, const union address_any *peer)
{
    const struct server_listener *listener =
        server_listener(server, server->worker->accepted_listener);
    server->arriving_proxied = listener != NULL && networks_contain(listener->proxy, peer);
    server->arriving_exempt = is_exempt(server, peer);
    return admit(server, peer, server->arriving_proxied || server->arriving_exempt,
                 &server->arriving_counted);
}

/* --- the greeting --- */

/* refuse ends a session before its greeting. */
static void refuse(struct session *session, enum reply reply)
{
    server_log_refused(session->server, session, reply);
    session_leave(session, reply);
}

/* greet: whether we can serve is asked at the last moment. Who came when we could not is counted
 * now. */
static void greet(struct session *session)
{
    enum reply refusal = server_unready(session->server);
    session->mode = SESSION_COMMAND;
    if (refusal == REPLY_NONE && !session->counted)
        refusal = admit_session(session);
    if (refusal != REPLY_NONE)
        refuse(session, refusal);
    else
        session_greet(session);
}

void gate_welcome(struct session *session)
{
    const struct server_options *options = session->server->options;
    bool unready = server_unready(session->server) != REPLY_NONE;
    if (options->greet_delay_s == 0 || session->exempt || unready) {
        greet(session);
        return;
    }
    session->mode = SESSION_DELAY;
    session_deadline(session, options->greet_delay_s);
}

/* begin: the client is known, and counted. */
static void begin(struct session *session)
{
    struct server *server = session->server;
    const struct server_listener *listener = server_listener(server, session->listener);
    session->known = true;
    session->trusted = listener != NULL && networks_contain(listener->xclient, &session->peer);
    server_log_connect(server, session);
    if (server->trace.filters != NULL)
        trace_opened(session);
    session->mode = SESSION_COMMAND;
    if (session->tls != SERVER_TLS_IMPLICIT)
        gate_welcome(session);
    else if (server->unwelcome || !session_start_implicit_tls(session))
        stream_abort(server->worker, stream_of(session)); /* nothing can be said in clear */
}

void gate_enter(struct session *session)
{
    struct server *server = session->server;
    session->exempt = server->arriving_exempt;
    session->counted = server->arriving_counted;
    if (!server->arriving_proxied) {
        begin(session);
        return;
    }
    uint32_t seconds = server->options->command_timeout_s;
    session->mode = SESSION_PROXY;
    session_deadline(session, seconds < HEADER_S_MAX ? seconds : HEADER_S_MAX);
}

/* --- the PROXY header --- */

/* give_up closes a connection of a balancer without a word: whoever it is, it does not speak as it
 * should. */
static void give_up(struct session *session, const char *reason)
{
    counter_add(&session->server->counters.proxy_bad, 1);
    server_log_proxy_bad(session->server, session, reason);
    stream_abort(session->server->worker, stream_of(session));
}

/* set_address fills a socket address. An IPv4 address inside IPv6 is that IPv4 address: else one
 * client would be two. */
static void set_address(union address_any *out, bool is_v6, const uint8_t *octets, uint16_t port)
{
    static const uint8_t mapped[] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    memset(out, 0, sizeof(*out));
    if (is_v6 && memcmp(octets, mapped, sizeof(mapped)) == 0) {
        is_v6 = false;
        octets += sizeof(mapped);
    }
    if (is_v6) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        memcpy(&out->v6.sin6_addr, octets, 16);
    } else {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        memcpy(&out->v4.sin_addr, octets, 4);
    }
}

/* is_its_own: version 1 has no LOCAL, and HAProxy's checks then name the end of the very connection
 * that they came by. */
static bool is_its_own(const struct session *session, const union address_any *client)
{
    const union address_any *peer = &session->peer;
    if (client->any.sa_family != peer->any.sa_family)
        return false;
    if (client->any.sa_family == AF_INET)
        return client->v4.sin_port == peer->v4.sin_port &&
               client->v4.sin_addr.s_addr == peer->v4.sin_addr.s_addr;
    return client->v6.sin6_port == peer->v6.sin6_port &&
           memcmp(&client->v6.sin6_addr, &peer->v6.sin6_addr, 16) == 0;
}

/* believe takes a header at its word. */
static void believe(struct session *session, const struct proxy *header)
{
    struct server *server = session->server;
    const union address_any balancer = session->peer;
    union address_any client = {.any.sa_family = AF_UNSPEC};
    if (header->family != PROXY_NONE)
        set_address(&client, header->family == PROXY_V6, header->source, header->source_port);
    if (header->family == PROXY_NONE || is_its_own(session, &client)) {
        counter_add(&server->counters.checks, 1);
        session->local = true;
        session->exempt = true;
        begin(session);
        return;
    }
    counter_add(&server->counters.proxied, 1);
    enum reply refusal = identify(session, &client);
    server_log_proxy(server, session, &balancer, header);
    if (server->trace.filters != NULL)
        trace_proxied(session, &balancer);
    if (refusal == REPLY_NONE)
        begin(session);
    else
        refuse(session, refusal);
}

/* gather puts what has come behind the part of the header that came before. Returns all there is.
 */
static struct bytes gather(struct session *session, struct bytes in)
{
    if (session->line == NULL)
        session->line = blocks_take(&session->server->lines);
    CHECK(session->line != NULL); /* there is one for each session */
    size_t room = (size_t)PROXY_V2_MAX - session->line_len;
    size_t len = in.len < room ? in.len : room;
    memcpy(session->line + session->line_len, in.data, len);
    return bytes_make(session->line, session->line_len + len);
}

static size_t read_header(struct session *session, struct bytes in)
{
    struct proxy header;
    size_t before = session->line_len, taken = in.len;
    struct bytes all = before == 0 ? in : gather(session, in);
    switch (proxy_parse(all, &header)) {
    case PROXY_MORE:
        all = before == 0 ? gather(session, in) : all;
        session->line_len = (uint16_t)all.len;
        return in.len;
    case PROXY_BAD: give_up(session, "no PROXY header, or a wrong one"); break;
    case PROXY_OK:
        taken = header.len - before;
        session->line_len = 0;
        believe(session, &header);
        if (taken < in.len && session->mode == SESSION_COMMAND)
            gate_talked_early(session);
        break;
    }
    blocks_give(&session->server->lines, session->line); /* the header points into it */
    session->line = NULL;
    return taken;
}

/* --- the pause --- */

void gate_talked_early(struct session *session)
{
    session->early = true;
    counter_add(&session->server->counters.early_talkers, 1);
    server_log_early(session->server, session);
}

static size_t interrupt_pause(struct session *session, struct bytes in)
{
    bool proxy = proxy_begins(in);
    gate_talked_early(session);
    refuse(session, proxy ? REPLY_FOREIGN_PROXY : REPLY_EARLY_TALKER);
    return in.len;
}

size_t gate_received(struct session *session, struct bytes in)
{
    if (session->mode == SESSION_PROXY)
        return read_header(session, in);
    CHECK(session->mode == SESSION_DELAY);
    return interrupt_pause(session, in);
}

void gate_timed_out(struct session *session)
{
    if (session->mode == SESSION_PROXY) {
        give_up(session, "no whole PROXY header in time");
        return;
    }
    greet(session);
}

/* --- XCLIENT --- */

/* rename_client sets the address that XCLIENT gives; what it does not name stays, but a port
 * belongs to its address. */
static enum reply rename_client(struct session *session, const struct xclient *client)
{
    union address_any peer = session->peer;
    uint16_t port = client->port_state == XCLIENT_GIVEN ? client->port : 0;
    if (client->address_state == XCLIENT_GIVEN) {
        set_address(&peer, client->family == 6, client->address, port);
        return identify(session, &peer);
    }
    if (client->port_state == XCLIENT_ABSENT)
        return REPLY_NONE;
    if (peer.any.sa_family == AF_INET6)
        session->peer.v6.sin6_port = htons(port);
    else
        session->peer.v4.sin_port = htons(port);
    return REPLY_NONE;
}

void gate_xclient(struct session *session, const struct xclient *client)
{
    struct server *server = session->server;
    authenticating_forget(session); /* it was another client's */
    enum reply refusal = rename_client(session, client);
    server_log_xclient(server, session, client);
    if (server->trace.filters != NULL)
        trace_renamed(session);
    if (refusal == REPLY_NONE)
        refusal = server_unready(server);
    if (refusal != REPLY_NONE) {
        refuse(session, refusal);
        return;
    }
    bool named = client->helo.state == XCLIENT_GIVEN;
    session->bad_commands = 0;
    session->forgiven = 0;
    session->refused = 0;
    session->state = named ? SESSION_READY : SESSION_CONNECTED;
    session->extended = named && client->proto_state == XCLIENT_GIVEN && client->esmtp;
    session_set_helo(session, bytes_make(client->helo.text, named ? client->helo.len : 0));
    session_greet(session);
}

/* --- the end --- */

void gate_leave(struct session *session)
{
    uncount(session);
    admission_leave(session->server->admission);
}
