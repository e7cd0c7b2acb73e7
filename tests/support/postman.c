/* See postman.h. */
#include "tests/support/postman.h"

#include "gateway/base/check.h"
#include "gateway/base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RUN_MAX_US = 30 * 1000 * 1000 };

/* --- parcels --- */

static void forget_piece(struct parcel *parcel)
{
    if (parcel->piece != NULL)
        memset(parcel->piece, '#', 1); /* the wire would show it, the sanitizer the rest */
    free(parcel->piece);
    parcel->piece = NULL;
}

static int next(void *user, struct bytes *piece)
{
    struct parcel *parcel = user;
    size_t left = parcel->text_len - parcel->at;
    size_t len = parcel->piece_max > 0 && parcel->piece_max < left ? parcel->piece_max : left;
    CHECK(parcel->begun > 0);
    forget_piece(parcel);
    if (parcel->fail_at > 0 && parcel->at + len >= parcel->fail_at)
        return parcel->fail;
    *piece = bytes_make(NULL, 0);
    if (len == 0)
        return 0;
    parcel->piece = malloc(len);
    CHECK(parcel->piece != NULL);
    memcpy(parcel->piece, parcel->text + parcel->at, len);
    parcel->at += len;
    *piece = bytes_make(parcel->piece, len);
    return 0;
}

static int rewind_text(void *user)
{
    struct parcel *parcel = user;
    forget_piece(parcel);
    parcel->at = 0;
    parcel->begun++;
    return 0;
}

static struct postman *postman_of(const struct delivery *delivery)
{
    return client_user(delivery->client);
}

static void answered(struct delivery *delivery, uint32_t index)
{
    struct parcel *parcel = delivery->user;
    CHECK(!postman_of(delivery)->inside && parcel->delivered == 0);
    CHECK(parcel->answer_count <= PARCEL_RECIPIENTS);
    parcel->answers[parcel->answer_count++] = index;
    if (parcel->on_answered != NULL)
        parcel->on_answered(parcel, index);
}

static void delivered(struct delivery *delivery)
{
    struct parcel *parcel = delivery->user;
    CHECK(!postman_of(delivery)->inside);
    parcel->delivered++;
    CHECK(parcel->delivered == 1);
    parcel->data_sent = delivery->data_sent;
    for (uint32_t i = 0; i < delivery->recipient_count; i++) {
        uint8_t kind = delivery->recipients[i].verdict.kind;
        CHECK(kind != VERDICT_OPEN && kind != VERDICT_ACCEPTED);
    }
    forget_piece(parcel); /* nobody may look at it from here on */
}

void parcel_make(struct parcel *parcel, const char *text, size_t len, uint32_t count)
{
    static char addresses[PARCEL_RECIPIENTS][24];
    CHECK(count <= PARCEL_RECIPIENTS);
    memset(parcel, 0, sizeof(*parcel));
    parcel->text = text;
    parcel->text_len = len;
    for (uint32_t i = 0; i < PARCEL_RECIPIENTS; i++) {
        snprintf(addresses[i], sizeof(addresses[i]), "user%u@example.org", i);
        parcel->recipients[i] =
            (struct delivery_recipient){.index = i, .forward_path = bytes_of_string(addresses[i])};
    }
    parcel->delivery = (struct delivery){
        .reverse_path = BYTES("sender@example.com"),
        .size = len,
        .text = {.next = next, .rewind = rewind_text, .user = parcel},
        .recipients = parcel->recipients,
        .recipient_count = count,
        .user = parcel,
        .answered = answered,
        .delivered = delivered,
    };
}

/* --- the owner of the client --- */

static void on_idle(void *user, struct client *client)
{
    struct postman *postman = user;
    CHECK(!postman->inside && postman->client == client && client_state(client) == CLIENT_IDLE);
    postman->idles++;
    if (postman->on_idle != NULL) {
        postman->on_idle(postman);
        return;
    }
    struct parcel *parcel = postman->parcels[postman->next];
    postman->inside = true;
    if (parcel == NULL) {
        client_quit(client);
        CHECK(client_state(client) == CLIENT_ENDING);
    } else {
        postman->next++;
        client_deliver(client, &parcel->delivery);
        CHECK(client_state(client) != CLIENT_IDLE);
    }
    postman->inside = false;
}

static void on_closed(void *user, struct client *client, const struct verdict *why)
{
    struct postman *postman = user;
    CHECK(!postman->inside && postman->client == client);
    CHECK(client_state(client) == CLIENT_ENDING);
    postman->client = NULL;
    postman->closes++;
    postman->tls_failed = client_tls_failed(client);
    postman->used = client_used(client);
    postman->why_given = why != NULL;
    if (why != NULL)
        postman->why = *why;
    worker_stop(&postman->worker);
}

static const struct client_callbacks callbacks = {.idle = on_idle, .closed = on_closed};

/* --- the worker --- */

static void turn_end(void *user)
{
    struct postman *postman = user;
    postman->turns++;
    CHECK(postman->worker.now_us < postman->stop_us);
    if (postman->on_turn != NULL)
        postman->on_turn(postman);
}

static bool falling_asleep(void *user)
{
    (void)user;
    return true;
}

static void awake(void *user)
{
    (void)user;
}

static void noted(void *user, uint32_t notes)
{
    (void)user;
    (void)notes;
}

static uint64_t next_us(void *user)
{
    struct postman *postman = user;
    return postman->on_turn != NULL ? postman->worker.now_us + 5000 : postman->stop_us;
}

void postman_init(struct postman *postman, void **state, const struct scene *scene)
{
    const char *what = "";
    memset(postman, 0, sizeof(*postman));
    struct worker_options options = {
        .cpu = -1,
        .streams_max = 4,
        .blocks_max = 4 * CLIENT_BLOCKS,
        .records_max = 4,
        .buffer_count = 16,
        .buffer_size = 4096,
        .owner_size = client_owner_size(),
        .baseline = *state != NULL,
        .callbacks = client_stream_callbacks,
        .hooks = {.turn_end = turn_end,
                  .falling_asleep = falling_asleep,
                  .awake = awake,
                  .noted = noted,
                  .next_us = next_us},
        .user = postman,
    };
    int error = worker_init(&postman->worker, &options, &what);
    if (error != 0)
        fprintf(stderr, "%s: %s\n", what, strerror(-error));
    CHECK(error == 0);
    postman->setup = (struct client_setup){
        .worker = &postman->worker,
        .hostname = "mx.example.com",
        .callbacks = &callbacks,
        .timeouts = {5, 5, 5, 5, 5, 5, 5, 60},
    };
    postman->peer.tls = ROUTE_TLS_NONE;
    if (scene != NULL) {
        postman->peer.address = scene->address;
        postman->peer.address_len = scene->address_len;
    }
    postman->stop_us = clock_monotonic_us() + RUN_MAX_US;
}

void postman_run(struct postman *postman)
{
    postman->client = client_open(&postman->setup, &postman->peer, postman);
    CHECK(postman->client != NULL && client_state(postman->client) == CLIENT_CONNECTING);
    CHECK(client_user(postman->client) == postman);
    CHECK(worker_run(&postman->worker) == 0);
    CHECK(postman->closes == 1 && postman->client == NULL);
    for (uint32_t i = 0; i < postman->next; i++)
        CHECK(postman->parcels[i]->delivered == 1);
}

void postman_free(struct postman *postman)
{
    struct worker *worker = &postman->worker;
    CHECK(worker->slots.used == 0 && worker->blocks.used == 0 && worker->records.used == 0);
    CHECK(worker->buffers.given + worker->buffers.home_count == worker->buffers.count);
    worker_cleanup(worker);
}
