/* Connections to the next hops of fake_hop.h: what stands in for deliver/client. Nothing happens
 * within a call: fake_server.h lets happen what is due, as the worker's turn does. */
#ifndef TESTS_SUPPORT_FAKE_CLIENT_H
#define TESTS_SUPPORT_FAKE_CLIENT_H

#include "gateway/deliver/verdict.h"
#include "tests/support/fake_exchange.h"

#include <errno.h>

enum { CLIENTS_MAX = 2000 };

struct client {
    const struct client_setup *setup;
    void *user;
    struct client_peer peer;
    struct hop *hop;
    uint32_t host;
    enum client_state state;
    uint64_t due_us;   /* when the next happens; UINT64_MAX: never */
    uint64_t since_us; /* of that */
    struct delivery *delivery;
    uint32_t taken;
    uint64_t left_us; /* the server ends it when it is idle until then; 0: it does not */
    bool used, cancelled, tls_failed, stale, broken_off;
};

static struct client fake_clients[CLIENTS_MAX];
static uint32_t fake_client_count, fake_client_most;
static int fake_open_errno; /* client_open fails so; 0: it does not */
static uint64_t fake_round_us = 1000;

struct client *client_open(const struct client_setup *setup, const struct client_peer *peer,
                           void *user)
{
    uint32_t place[2];
    struct client *client = fake_clients;
    memcpy(place, &peer->address, sizeof place);
    struct hop *hop = &fake_hops[place[0] - 1];
    errno = hop->modes[place[1]] == HOST_NOT_EVEN ? EAFNOSUPPORT : fake_open_errno;
    if (errno != 0)
        return NULL;
    while (client->used) /* there are more than any test allows */
        client++;
    *client = (struct client){.setup = setup, .user = user, .peer = *peer, .used = true};
    client->hop = hop;
    client->host = place[1];
    enum host_mode mode = hop->modes[client->host];
    client->since_us = fake_now_us;
    client->due_us = fake_now_us + (mode == HOST_MUTE ? 30000000 : fake_round_us);
    fake_client_count++;
    fake_client_most = fake_client_count > fake_client_most ? fake_client_count : fake_client_most;
    hop->opened[client->host]++;
    hop->now[client->host]++;
    hop->total++;
    hop->most = hop->total > hop->most ? hop->total : hop->most;
    return client;
}

void *client_user(const struct client *client)
{
    return client->user;
}

bool client_tls_failed(const struct client *client)
{
    return client->tls_failed;
}

bool client_stale(const struct client *client)
{
    return client->stale;
}

/* A server's farewell is on its way for a while. */
bool client_alive(struct client *client)
{
    bool left = client->left_us > 0 && client->left_us <= fake_now_us;
    if (client->state != CLIENT_IDLE)
        abort();
    if (!left || !client->hop->shows)
        return true;
    client->state = CLIENT_ENDING;
    client->due_us = fake_now_us;
    return false;
}

void client_deliver(struct client *client, struct delivery *delivery)
{
    if (client->state != CLIENT_IDLE || delivery->recipient_count == 0)
        abort();
    client->delivery = delivery;
    delivery->client = client;
    client->state = CLIENT_BUSY;
    client->stale = client->left_us > 0 && client->left_us <= fake_now_us;
    client->stale |= client->hop->takes_max > 0 && client->taken >= client->hop->takes_max;
    bool slow = client->hop->modes[client->host] == HOST_SLOW;
    client->due_us = fake_now_us + client->hop->delivery_us * (slow ? 100 : 1) + 1;
    client->since_us = fake_now_us;
    if (client->hop->modes[client->host] == HOST_HANGS)
        client->due_us = fake_now_us + 300000000;
    if (delivery->stepwise)
        client->due_us = UINT64_MAX; /* it rests, until it is cancelled */
    client->hop->busy++;
    if (!client->stale)
        return;
    client->due_us = fake_now_us + fake_round_us;
    client->hop->stale++;
    if (client->taken == 0 || delivery->message_id++ > 0)
        abort(); /* it was to go over a fresh one */
}

uint64_t client_stall_us(const struct client *client)
{
    bool rests = client->delivery != NULL && client->delivery->stepwise;
    bool waits = client->state == CLIENT_CONNECTING || (client->state == CLIENT_BUSY && !rests);
    return waits ? fake_now_us - client->since_us : 0;
}

void client_break_off(struct client *client)
{
    client->broken_off = true;
    client->due_us = fake_now_us;
}

void client_cancel(struct client *client)
{
    client->cancelled = true;
    client->due_us = fake_now_us;
}

void client_quit(struct client *client)
{
    if (client->state == CLIENT_ENDING)
        abort();
    client->state = CLIENT_ENDING;
    client->due_us = fake_now_us + fake_round_us;
}

static void fake_finish(struct client *client, enum verdict_kind kind, const char *text)
{
    struct delivery *delivery = client->delivery;
    if (delivery == NULL)
        return;
    for (uint32_t i = 0; i < delivery->recipient_count; i++)
        verdict_own(&delivery->recipients[i].verdict, kind, 0, (struct reply_status){0}, "%s",
                    text);
    client->hop->received[client->host] += kind == VERDICT_DELIVERED;
    client->hop->busy--;
    client->delivery = NULL;
    delivery->delivered(delivery);
}

static void fake_close(struct client *client, uint8_t kind, uint16_t code, const char *text)
{
    struct verdict why;
    verdict_own(&why, kind, code, (struct reply_status){(uint8_t)(code / 100), 0, 0}, "%s",
                text == NULL ? "" : text);
    fake_finish(client, VERDICT_DEFERRED, why.text);
    client->setup->callbacks->closed(client->user, client,
                                     text == NULL || client->stale ? NULL : &why);
    client->used = false;
    client->hop->now[client->host]--;
    client->hop->total--;
    fake_client_count--;
}

#endif
