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

void server_log_connect(struct server *server, const struct session *session)
{
    char peer[STAMP_PEER_LEN];
    struct log_line line = log_begin(server->log, LOG_INFO, "connect");
    log_id(&line, "session", session->id);
    log_bytes(&line, "client", peer, stamp_peer(&session->peer, peer));
    uint16_t port = session->peer.any.sa_family == AF_INET6 ? session->peer.v6.sin6_port
                                                            : session->peer.v4.sin_port;
    log_number(&line, "port", ntohs(port));
    log_end(&line);
}

void server_log_early(struct server *server, const struct session *session)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "early_talker");
    log_id(&line, "session", session->id);
    log_string(&line, "early", "true");
    log_end(&line);
}

void server_log_message(struct server *server, const struct session *session,
                        const struct transaction *transaction, unsigned code)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "message");
    const struct envelope *envelope = &transaction->envelope;
    log_id(&line, "session", session != NULL ? session->id : 0);
    log_id(&line, "id", envelope->message_id);
    log_bytes(&line, "from", envelope->reverse_path.data, envelope->reverse_path.len);
    if (transaction->rcpt_count > 0)
        log_bytes(&line, "to", transaction->rcpt_first.data, transaction->rcpt_first.len);
    log_number(&line, "count", envelope->recipient_count);
    log_number(&line, "size", transaction->octets);
    log_number(&line, "ms", (server->worker->now_us - transaction->begun_us) / 1000);
    log_number(&line, "reply", code);
    if (asking_way_name(transaction) != NULL)
        log_string(&line, "way", asking_way_name(transaction));
    log_end(&line);
}

void server_log_bad_srs(struct server *server, const struct session *session, struct bytes to)
{
    char peer[STAMP_PEER_LEN];
    struct log_line line = log_begin(server->log, LOG_INFO, "srs_refused");
    log_id(&line, "session", session->id);
    log_bytes(&line, "client", peer, stamp_peer(&session->peer, peer));
    log_bytes(&line, "to", to.data, to.len);
    log_end(&line);
}

void server_log_disconnect(struct server *server, const struct session *session, int error)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "disconnect");
    log_id(&line, "session", session->id);
    log_number(&line, "messages", session->message_count);
    log_number(&line, "ms", (uint32_t)(server->worker->now_us / 1000) - session->opened_ms);
    if (error < 0)
        log_string(&line, "error", strerror(-error));
    log_end(&line);
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
}

void server_log_tls_failed(struct server *server, const struct session *session, const char *reason,
                           const char *text)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "tls_failed");
    log_id(&line, "session", session->id);
    log_string(&line, "reason", reason);
    log_string(&line, "text", text);
    log_end(&line);
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
    uint64_t all = atomic_load(&counters->versions[0]) + atomic_load(&counters->versions[1]);
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
