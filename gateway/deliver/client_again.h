/* What a client does since servers may have ended a connection that is used again: see
 * client_again.c. Private to client. */
#ifndef GATEWAY_DELIVER_CLIENT_AGAIN_H
#define GATEWAY_DELIVER_CLIENT_AGAIN_H

struct client;

/* client_again_begin: a delivery begins. client_again_closed: the server has closed, or the
 * connection broke. client_again_refused: it said 421 to MAIL. */
void client_again_begin(struct client *client);
void client_again_closed(struct client *client);
void client_again_refused(struct client *client);

#endif
