/* The log lines of receiving: see server_log.h. */
#include "gateway/receive/server_log.h"

#include "gateway/base/id.h"
#include "gateway/receive/asking.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <string.h>

static void log_id(struct log_line *line, const char *key, uint64_t id)
{
    char text[ID_TEXT_LEN + 1];
    id_format(id, text);
    log_bytes(line, key, text, ID_TEXT_LEN);
}

static void log_peer(struct log_line *line, const char *key, const union address_any *peer)
{
    char text[STAMP_PEER_LEN];
    log_bytes(line, key, text, stamp_peer(peer, text));
}

static void log_port_of(struct log_line *line, const union address_any *peer)
{
    in_port_t port = peer->any.sa_family == AF_INET6 ? peer->v6.sin6_port : peer->v4.sin_port;
    log_number(line, "port", ntohs(port));
}

/* level_of: balancers look at us all the time, and nobody wants to read of it. */
static enum log_level level_of(const struct session *session)
{
    return session->known && !session->local ? LOG_INFO : LOG_DEBUG;
}

void server_log_connect(struct server *server, const struct session *session)
{
    struct log_line line = log_begin(server->log, level_of(session), "connect");
    log_id(&line, "session", session->id);
    log_peer(&line, "client", &session->peer);
    log_port_of(&line, &session->peer);
    log_end(&line);
}

/* log_given adds what was given at all. */
static void log_given(struct log_line *line, const char *key, struct bytes value)
{
    if (value.len > 0)
        log_bytes(line, key, value.data, value.len);
}

void server_log_proxy(struct server *server, const struct session *session,
                      const union address_any *balancer, const struct proxy *header)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "proxy");
    log_id(&line, "session", session->id);
    log_peer(&line, "client", &session->peer);
    log_peer(&line, "balancer", balancer);
    log_number(&line, "version", header->version);
    log_given(&line, "authority", header->authority);
    log_given(&line, "unique_id", header->unique_id);
    if (header->tls) {
        log_bytes(&line, "tls", header->tls_version.data, header->tls_version.len);
        log_given(&line, "cipher", header->tls_cipher);
        log_given(&line, "client_name", header->tls_name);
        log_string(&line, "verified", header->tls_verified ? "true" : "false");
    }
    log_end(&line);
}

void server_log_proxy_bad(struct server *server, const struct session *session, const char *reason)
{
    struct log_line line = log_begin(server->log, LOG_WARN, "proxy_bad");
    log_id(&line, "session", session->id);
    log_peer(&line, "balancer", &session->peer);
    log_string(&line, "reason", reason);
    log_end(&line);
}

static void log_text(struct log_line *line, const char *key, const struct xclient_text *text)
{
    log_given(line, key, bytes_make(text->text, text->len));
}

void server_log_xclient(struct server *server, const struct session *session,
                        const struct xclient *client)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "xclient");
    log_id(&line, "session", session->id);
    log_peer(&line, "client", &session->peer);
    log_port_of(&line, &session->peer);
    log_text(&line, "name", &client->name);
    log_text(&line, "helo", &client->helo);
    log_text(&line, "login", &client->login);
    log_end(&line);
}

void server_log_early(struct server *server, const struct session *session)
{
    struct log_line line = log_begin_often(server->log, LOG_INFO, "early_talker");
    log_id(&line, "session", session->id);
    log_peer(&line, "client", &session->peer);
    log_end(&line);
}

/* What the client has asked for besides delivery. */
static void log_terms(struct log_line *line, const struct envelope_terms *terms)
{
    char priority[8];
    if (terms->release_s != 0)
        log_number(line, "release", terms->release_s);
    if (terms->by_s != 0)
        log_number(line, "by", terms->by_s);
    if (terms->priority == 0)
        return;
    snprintf(priority, sizeof priority, "%d", terms->priority);
    log_string(line, "priority", priority);
}

void server_log_message(struct server *server, const struct session *session,
                        const struct transaction *transaction, unsigned code)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "message");
    const struct envelope *envelope = &transaction->envelope;
    log_id(&line, "session", session != NULL ? session->id : transaction->session_id);
    log_id(&line, "id", envelope->message_id);
    if (session != NULL)
        log_given(&line, "user", authenticating_user(session));
    log_bytes(&line, "from", envelope->reverse_path.data, envelope->reverse_path.len);
    if (transaction->rcpt_count > 0)
        log_bytes(&line, "to", transaction->rcpt_first.data, transaction->rcpt_first.len);
    log_number(&line, "count", envelope->recipient_count);
    log_number(&line, "size", transaction->octets);
    log_number(&line, "ms", (server->worker->now_us - transaction->begun_us) / 1000);
    log_number(&line, "reply", code);
    log_terms(&line, &envelope->terms);
    if (asking_way_name(transaction) != NULL)
        log_string(&line, "way", asking_way_name(transaction));
    log_end(&line);
}

void server_log_refused(struct server *server, const struct session *session, enum reply reply)
{
    struct log_line line = log_begin_often(server->log, LOG_WARN, "refused");
    log_id(&line, "session", session->id);
    log_peer(&line, "client", &session->peer);
    log_given(&line, "user", authenticating_user(session));
    log_string(&line, "reason", reply_name(reply));
    log_end(&line);
}

void server_log_turned_away(struct server *server, const union address_any *peer, enum reply reply)
{
    struct log_line line = log_begin_often(server->log, LOG_WARN, "refused");
    log_peer(&line, "client", peer);
    log_string(&line, "reason", reply_name(reply));
    log_end(&line);
}

void server_log_greylisted(struct server *server, const struct session *session, struct bytes to)
{
    char peer[STAMP_PEER_LEN];
    struct bytes from = session->transaction->envelope.reverse_path;
    struct log_line line = log_begin_often(server->log, LOG_INFO, "greylisted");
    log_id(&line, "session", session->id);
    log_bytes(&line, "client", peer, stamp_peer(&session->peer, peer));
    log_bytes(&line, "from", from.data, from.len);
    log_bytes(&line, "to", to.data, to.len);
    log_end(&line);
}

void server_log_bad_srs(struct server *server, const struct session *session, struct bytes to)
{
    char peer[STAMP_PEER_LEN];
    struct log_line line = log_begin_often(server->log, LOG_INFO, "srs_refused");
    log_id(&line, "session", session->id);
    log_bytes(&line, "client", peer, stamp_peer(&session->peer, peer));
    log_bytes(&line, "to", to.data, to.len);
    log_end(&line);
}

void server_log_signing_failed(struct server *server, const struct transaction *transaction)
{
    struct bytes from = transaction->envelope.reverse_path;
    struct log_line line = log_begin_often(server->log, LOG_ERROR, "signing_failed");
    log_id(&line, "session", transaction->session_id);
    log_id(&line, "id", transaction->envelope.message_id);
    log_bytes(&line, "from", from.data, from.len);
    log_end(&line);
}

const char *server_login_name(enum server_login result)
{
    static const char *const names[SERVER_LOGIN_COUNT] = {
        [SERVER_LOGIN_PASSED] = "passed",
        [SERVER_LOGIN_REFUSED] = "refused",
        [SERVER_LOGIN_ADDRESS_OVER] = "address_limit",
        [SERVER_LOGIN_NETWORK_OVER] = "network_limit",
        [SERVER_LOGIN_USER_OVER] = "user_limit",
        [SERVER_LOGIN_UNAVAILABLE] = "unavailable",
        [SERVER_LOGIN_MALFORMED] = "malformed",
        [SERVER_LOGIN_CANCELLED] = "cancelled",
    };
    return names[result];
}

void server_log_login(struct server *server, const struct session *session, struct bytes user,
                      enum sasl_mechanism mechanism, enum server_login result)
{
    bool passed = result == SERVER_LOGIN_PASSED;
    struct log_line line = passed ? log_begin(server->log, LOG_INFO, "login")
                                  : log_begin_often(server->log, LOG_WARN, "login_failed");
    log_id(&line, "session", session->id);
    log_peer(&line, "client", &session->peer);
    log_given(&line, "user", user);
    log_string(&line, "mechanism", sasl_mechanism_name(mechanism));
    if (!passed)
        log_string(&line, "reason", server_login_name(result));
    log_end(&line);
}

void server_log_disconnect(struct server *server, const struct session *session, int error)
{
    struct log_line line = log_begin(server->log, level_of(session), "disconnect");
    log_id(&line, "session", session->id);
    log_number(&line, "messages", session->message_count);
    log_number(&line, "ms", (uint32_t)(server->worker->now_us / 1000) - session->opened_ms);
    if (error < 0)
        log_string(&line, "error", strerror(-error));
    log_end(&line);
    if (session->traced != 0)
        trace_closed(session, error);
}

void server_log_tls(struct server *server, const struct session *session,
                    const struct tls_info *info)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "tls");
    log_id(&line, "session", session->id);
    log_string(&line, "version", info->version);
    log_string(&line, "cipher", info->cipher);
    log_string(&line, "group", info->group);
    log_string(&line, "resumed", info->resumed ? "true" : "false");
    if (info->server_name[0] != '\0')
        log_string(&line, "sni", info->server_name);
    if (info->peer_name[0] != '\0')
        log_string(&line, "client_name", info->peer_name);
    log_end(&line);
    if (session->traced != 0)
        trace_tls(session, info);
}

void server_log_tls_failed(struct server *server, const struct session *session, const char *reason,
                           const char *text)
{
    struct log_line line = log_begin_often(server->log, LOG_INFO, "tls_failed");
    log_id(&line, "session", session->id);
    log_peer(&line, "client", &session->peer);
    log_string(&line, "reason", reason);
    log_string(&line, "text", text);
    log_end(&line);
    if (session->traced != 0)
        trace_tls_failed(session, reason, text);
}

/* log_counter adds `prefix` and `name` in small letters as the key of a counter, unless it is 0. */
static void log_counter(struct log_line *line, const char *prefix, const char *name,
                        const _Atomic uint64_t *counter)
{
    char key[64];
    uint64_t value = atomic_load(counter);
    if (value == 0)
        return;
    snprintf(key, sizeof(key), "%s%s", prefix, name);
    for (char *at = key; *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at);
    log_number(line, key, value);
}

/* log_tls is what became of this worker's handshakes, if there were any. */
static void log_tls(struct server *server)
{
    const struct server_tls_counters *counters = &server->counters.tls;
    uint64_t all = atomic_load(&counters->versions[0]) + atomic_load(&counters->versions[1]) +
                   atomic_load(&counters->silent);
    for (int i = 0; i < TLS_FAILURE_COUNT; i++)
        all += atomic_load(&counters->failures[i]);
    if (all == 0)
        return;
    struct log_line line = log_begin(server->log, LOG_INFO, "tls_stop");
    log_number(&line, "worker", server->index);
    log_counter(&line, "tls_1_2", "", &counters->versions[0]);
    log_counter(&line, "tls_1_3", "", &counters->versions[1]);
    log_counter(&line, "resumed", "", &counters->resumed);
    for (int i = 0; i < TLS_CIPHER_COUNT; i++)
        log_counter(&line, "cipher.", tls_cipher_names[i], &counters->ciphers[i]);
    log_counter(&line, "silent", "", &counters->silent);
    log_counter(&line, "failed.unfinished", "", &counters->failures[TLS_FAILURE_NONE]);
    for (int i = TLS_FAILURE_NONE + 1; i < TLS_FAILURE_COUNT; i++)
        log_counter(&line, "failed.", tls_failure_name((enum tls_failure)i),
                    &counters->failures[i]);
    log_end(&line);
}

void server_log_worker(struct server *server)
{
    const struct worker *worker = server->worker;
    struct log_line line = log_begin(server->log, LOG_INFO, "worker_stop");
    log_number(&line, "worker", server->index);
    log_number(&line, "connections", counter_read(&server->counters.connections));
    log_number(&line, "messages", counter_read(&server->counters.messages));
    log_number(&line, "octets", counter_read(&server->counters.octets));
    log_number(&line, "turns", worker->turns);
    log_number(&line, "completions", worker->completions);
    log_number(&line, "starvations", worker->starvations);
    log_number(&line, "overflows", uring_overflows(worker->ring));
    log_end(&line);
    log_tls(server);
}
