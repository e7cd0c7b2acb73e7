/* The log lines of receiving: see server.h. */
#include "gateway/base/id.h"
#include "gateway/receive/server.h"

#include <arpa/inet.h>
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
                        const struct transaction *transaction, enum reply reply)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "message");
    const struct envelope *envelope = &transaction->envelope;
    log_id(&line, "session", session != NULL ? session->id : 0);
    log_id(&line, "id", envelope->message_id);
    log_bytes(&line, "from", envelope->reverse_path.data, envelope->reverse_path.len);
    if (transaction->recipients != NULL) {
        struct bytes first = transaction->recipients->envelope.forward_path;
        log_bytes(&line, "to", first.data, first.len);
    }
    log_number(&line, "count", envelope->recipient_count);
    log_number(&line, "size", transaction->octets);
    log_number(&line, "ms", (server->worker->now_us - transaction->begun_us) / 1000);
    log_number(&line, "reply", reply_code(reply));
    log_end(&line);
}

void server_log_disconnect(struct server *server, const struct session *session, int error)
{
    struct log_line line = log_begin(server->log, LOG_INFO, "disconnect");
    log_id(&line, "session", session->id);
    log_number(&line, "messages", session->message_count);
    log_number(&line, "ms", (server->worker->now_us - session->opened_us) / 1000);
    if (error < 0)
        log_string(&line, "error", strerror(-error));
    log_end(&line);
}

void server_log_worker(struct server *server)
{
    const struct worker *worker = server->worker;
    struct log_line line = log_begin(server->log, LOG_INFO, "worker_stop");
    log_number(&line, "worker", server->index);
    log_number(&line, "connections", atomic_load(&server->connections));
    log_number(&line, "messages", atomic_load(&server->messages));
    log_number(&line, "octets", atomic_load(&server->octets));
    log_number(&line, "turns", worker->turns);
    log_number(&line, "completions", worker->completions);
    log_number(&line, "starvations", worker->starvations);
    log_number(&line, "overflows", uring_overflows(worker->ring));
    log_end(&line);
}
