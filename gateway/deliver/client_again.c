/* A connection that is used again may have been ended by the server meanwhile: it was idle for too
 * long, or has taken as many messages as the server allows. What tells that the server has taken
 * nothing of a delivery, so that another connection can have it at once.
 *
 * A server that closes and has said nothing may have read a whole transaction all the same, if the
 * end of its text has left (RFC 1047). So after a while of rest the text is held back until MAIL is
 * answered. */
#include "gateway/deliver/client_again.h"

#include "gateway/deliver/client_inside.h"

#include <poll.h>

enum { REST_US = 100000 }; /* no server ends a connection for idleness sooner */

void client_again_begin(struct client *client)
{
    bool again = client->used > 0 && !client->mail.settled;
    uint64_t rest_us = client->setup->worker->now_us - client->idle_us;
    client->stale = again && client_state(client) == CLIENT_ENDING; /* it hears nothing of it */
    client->mail.wary = again && rest_us >= REST_US;
}

/* untold: the delivery is one of several, and its owner has heard nothing of it. */
static bool untold(const struct client *client)
{
    const struct client_mail *mail = &client->mail;
    return client->used > 0 && client->delivery != NULL && !mail->settled && mail->told_at == 0;
}

void client_again_closed(struct client *client)
{
    const struct reply_read *reply = &client->reply;
    bool silent = client->mail.heard == 0 && reply->line_count == 0 && reply->line_len == 0;
    if (client->phase == CLIENT_PHASE_MAIL && untold(client) && silent)
        client->stale = !client->delivery->data_sent;
}

void client_again_refused(struct client *client)
{
    if (!untold(client))
        return;
    client->stale = true;
    client->delivery->data_sent = false; /* a text without MAIL is none */
}

bool client_stale(const struct client *client)
{
    return client->stale;
}

bool client_alive(struct client *client)
{
    struct pollfd look = {.fd = stream_of(client)->descriptor, .events = POLLIN | POLLRDHUP};
    if (client_state(client) != CLIENT_IDLE)
        return false;
    if (poll(&look, 1, 0) <= 0)
        return true;
    bool left = (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
    if (!left && client_secure(client))
        return true; /* a ticket, perhaps */
    client_drop(client);
    return false;
}
