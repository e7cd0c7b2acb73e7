/* What next hops do on the connections of fake_client.h when it is time. */
#ifndef TESTS_SUPPORT_FAKE_SERVER_H
#define TESTS_SUPPORT_FAKE_SERVER_H

#include "tests/support/fake_client.h"

static void fake_greet(struct client *client)
{
    enum host_mode mode = client->hop->modes[client->host];
    bool full = client->hop->greets_max > 0 && client->hop->total > client->hop->greets_max;
    client->tls_failed = mode == HOST_NO_TLS && client->peer.tls != ROUTE_TLS_NONE;

    if (mode == HOST_REFUSES || mode == HOST_MUTE || client->tls_failed) {
        fake_close(client, VERDICT_DEFERRED, 0, client->tls_failed ? "no TLS" : "no connection");
    } else if (mode == HOST_554 || full) {
        fake_close(client, full ? VERDICT_DEFERRED : VERDICT_REFUSED, full ? 421 : 554, "go away");
    } else {
        client->state = CLIENT_IDLE;
        client->due_us = mode == HOST_CLOSES ? fake_now_us + 1 : UINT64_MAX;
        client->setup->callbacks->idle(client->user, client);
        if (mode == HOST_CLOSES)
            fake_close(client, 0, 0, NULL);
    }
}

/* A delivery is through. */
static void fake_rest(struct client *client)
{
    const struct hop *hop = client->hop;
    client->state = CLIENT_IDLE;
    client->cancelled = false;
    client->taken++;
    client->due_us = UINT64_MAX;
    if (hop->rest_us > 0) {
        client->left_us = fake_now_us + hop->rest_us;
        client->due_us = client->left_us + hop->rest_us / 4;
    }
    if (hop->leaves && client->taken == hop->takes_max)
        client->due_us = fake_now_us + 1;
}

static void fake_client_turn(struct client *client)
{
    enum host_mode mode = client->hop->modes[client->host];
    bool good = mode != HOST_BUSY && !client->cancelled;

    if (client->broken_off || (mode == HOST_HANGS && client->state == CLIENT_BUSY)) {
        fake_close(client, VERDICT_DEFERRED, 0, "timed out");
    } else if (client->state == CLIENT_CONNECTING) {
        fake_greet(client);
    } else if (client->state == CLIENT_ENDING) {
        fake_close(client, 0, 0, NULL);
    } else if (client->taken > 0 && (client->state == CLIENT_IDLE || client->stale)) {
        fake_close(client, VERDICT_DEFERRED, 421, client->state == CLIENT_IDLE ? NULL : "enough");
    } else if (mode == HOST_BREAKS || client->state == CLIENT_IDLE) {
        fake_close(client, VERDICT_DEFERRED, 0, "the connection broke");
    } else {
        fake_rest(client);
        fake_finish(client, good ? VERDICT_DELIVERED : VERDICT_DEFERRED, good ? "ok" : "later");
        client->setup->callbacks->idle(client->user, client);
    }
}

#endif
