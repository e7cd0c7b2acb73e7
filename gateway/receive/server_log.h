/* The log lines of receiving; docs/configuration.md lists their keys. */
#ifndef GATEWAY_RECEIVE_SERVER_LOG_H
#define GATEWAY_RECEIVE_SERVER_LOG_H

#include "gateway/receive/server.h"
#include "parser/proxy.h"
#include "parser/xclient.h"

/* What a balancer has said of a client; that it has said nothing that makes sense; and XCLIENT. */
void server_log_proxy(struct server *server, const struct session *session,
                      const union address_any *balancer, const struct proxy *header);
void server_log_proxy_bad(struct server *server, const struct session *session, const char *reason);
void server_log_xclient(struct server *server, const struct session *session,
                        const struct xclient *client);

void server_log_connect(struct server *server, const struct session *session);
void server_log_early(struct server *server, const struct session *session);

/* `code`: of the reply; 0: nobody heard one. `session` NULL: the client had left. */
void server_log_message(struct server *server, const struct session *session,
                        const struct transaction *transaction, unsigned code);

/* A client, or a message of it, that one of our bounds has refused with this reply. */
void server_log_refused(struct server *server, const struct session *session, enum reply reply);

/* The same, of one that had no session yet. */
void server_log_turned_away(struct server *server, const union address_any *peer, enum reply reply);

/* A recipient that the client is to send to again later. */
void server_log_greylisted(struct server *server, const struct session *session, struct bytes to);

/* An SRS address of ours that is forged or too old. */
void server_log_bad_srs(struct server *server, const struct session *session, struct bytes to);

/* A message that could not be signed; it was refused for now. */
void server_log_signing_failed(struct server *server, const struct transaction *transaction);

/* server_log_login logs the end of an AUTH. */
void server_log_login(struct server *server, const struct session *session, struct bytes user,
                      enum sasl_mechanism mechanism, enum server_login result);
void server_log_disconnect(struct server *server, const struct session *session, int error);
void server_log_tls(struct server *server, const struct session *session,
                    const struct tls_info *info);
void server_log_tls_failed(struct server *server, const struct session *session, const char *reason,
                           const char *text);
void server_log_worker(struct server *server); /* what its turns and its TLS came to, at the end */

#endif
