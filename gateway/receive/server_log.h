/* The log lines of receiving; docs/configuration.md lists their keys. */
#ifndef GATEWAY_RECEIVE_SERVER_LOG_H
#define GATEWAY_RECEIVE_SERVER_LOG_H

#include "gateway/receive/server.h"

void server_log_connect(struct server *server, const struct session *session);
void server_log_early(struct server *server, const struct session *session);

/* `code`: of the reply; 0: nobody heard one. `session` NULL: the client had left. */
void server_log_message(struct server *server, const struct session *session,
                        const struct transaction *transaction, unsigned code);

/* An SRS address of ours that is forged or too old. */
void server_log_bad_srs(struct server *server, const struct session *session, struct bytes to);

void server_log_disconnect(struct server *server, const struct session *session, int error);
void server_log_tls(struct server *server, const struct session *session,
                    const struct tls_info *info);
void server_log_tls_failed(struct server *server, const struct session *session, const char *reason,
                           const char *text);
void server_log_worker(struct server *server); /* what its turns and its TLS came to, at the end */

#endif
