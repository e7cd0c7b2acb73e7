/* How long a client waits for its server: see client_time.c. Private to client. */
#ifndef GATEWAY_DELIVER_CLIENT_TIME_H
#define GATEWAY_DELIVER_CLIENT_TIME_H

struct client;
struct stream;

/* client_watch sets the deadline anew: something was said, a reply was whole, or octets were taken.
 * client_timed_out is the stream's callback: it has come. */
void client_watch(struct client *client);
void client_timed_out(struct stream *stream, void *owner);

#endif
