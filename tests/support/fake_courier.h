/* A courier for tests of destination: a real queue, made-up next hops and time, and one rule: what
 * fails waits for a minute, what is too old or refused is given up. */
#ifndef TESTS_SUPPORT_FAKE_COURIER_H
#define TESTS_SUPPORT_FAKE_COURIER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "gateway/deliver/destination.h"
#include "tests/support/fake_client.h"

/* A delivery made of a consignment, or one that somebody waits for (consignment NULL). */
struct sent {
    struct delivery delivery;
    struct delivery_recipient recipient;
    struct consignment *consignment;
    bool over;
};

struct courier_model {
    struct destinations *destinations;
    struct queue *queue;
    struct reasons *reasons;
    uint64_t lifetime_us; /* 0: for ever */
    uint64_t retry_us;    /* after a failure; 0: a minute */
    uint32_t skips;       /* load gives so many back without a delivery */
    uint64_t turns;
    /* What has become of consignments. */
    uint32_t added, delivered, deferred, unreachable, refused, expired, skipped;
    uint32_t loaded_now; /* TAKEN as deliveries */
    uint32_t delivered_of[HOPS_MAX], unreachable_of[HOPS_MAX];
    uint64_t latest_us[HOPS_MAX]; /* the longest from arrival to delivery */
};

static struct courier_model courier;
static struct client_setup fake_setup;
static struct exchange_setup fake_exchange_setup;

static uint32_t hop_of(const struct consignment *consignment)
{
    return (uint32_t)consignment->message->spool.first_generation;
}

static void settle(struct consignment *consignment, bool given_up)
{
    if (given_up) {
        consignment_drop(courier.queue, consignment);
        return;
    }
    consignment->attempts++;
    uint64_t wait_us = courier.retry_us == 0 ? 60000000 : courier.retry_us;
    consignment_wait(courier.queue, consignment, fake_now_us + wait_us);
}

static void fake_delivered(struct delivery *delivery)
{
    struct sent *sent = delivery->user;
    struct consignment *consignment = sent->consignment;
    sent->over = true;
    assert_null(delivery->client);
    if (consignment == NULL)
        return;
    bool good = sent->recipient.verdict.kind == VERDICT_DELIVERED;
    uint64_t took_us = fake_now_us - consignment->message->spool.position;
    courier.loaded_now--;
    if (good) {
        courier.delivered++;
        courier.delivered_of[hop_of(consignment)]++;
        if (took_us > courier.latest_us[hop_of(consignment)])
            courier.latest_us[hop_of(consignment)] = took_us;
    } else {
        courier.deferred++;
    }
    settle(consignment, good);
    free(sent);
}

static void fake_sent(struct sent *sent)
{
    sent->delivery = (struct delivery){.recipients = &sent->recipient, .recipient_count = 1};
    sent->delivery.user = sent;
    sent->delivery.delivered = fake_delivered;
    sent->recipient.verdict.kind = VERDICT_OPEN;
    sent->over = false;
}

static struct delivery *fake_load(void *user, struct consignment *consignment)
{
    assert_ptr_equal(user, &courier);
    assert_int_equal(consignment->state, CONSIGNMENT_TAKEN);
    if (courier.skips > 0) {
        courier.skips--;
        courier.skipped++;
        settle(consignment, true);
        return NULL;
    }
    struct sent *sent = calloc(1, sizeof *sent);
    fake_sent(sent);
    sent->consignment = consignment;
    courier.loaded_now++;
    return &sent->delivery;
}

static bool too_old(const struct consignment *consignment)
{
    return courier.lifetime_us > 0 &&
           fake_now_us - consignment->message->spool.position >= courier.lifetime_us;
}

static void fake_unreachable(void *user, struct consignment *consignment, const struct verdict *why)
{
    assert_ptr_equal(user, &courier);
    assert_int_equal(consignment->state, CONSIGNMENT_TAKEN);
    bool refused = why->kind == VERDICT_REFUSED, old = too_old(consignment);
    courier.unreachable++;
    courier.unreachable_of[hop_of(consignment)]++;
    courier.refused += refused;
    courier.expired += !refused && old;
    settle(consignment, refused || old);
}

static bool fake_overdue(void *user, struct consignment *consignment, const struct verdict *why)
{
    assert_ptr_equal(user, &courier);
    assert_int_equal(consignment->state, CONSIGNMENT_LINED);
    assert_int_equal(why->kind, VERDICT_DEFERRED);
    return too_old(consignment);
}

/* Begins anew: no next hops, no time gone by. */
static void fake_begin(const struct destinations_options *wishes)
{
    static const uint32_t minute = 60;
    struct destinations_options options = *wishes;
    memset(fake_hops, 0, sizeof fake_hops);
    memset(fake_clients, 0, sizeof fake_clients);
    courier = (struct courier_model){0};
    fake_client_count = fake_client_most = 0;
    fake_open_errno = 0;
    fake_now_us = 1000000000;
    courier.queue = queue_new(&(struct queue_options){&minute, 1, 1});
    courier.reasons = reasons_new();
    options.client = &fake_setup;
    options.exchange = &fake_exchange_setup;
    options.queue = courier.queue;
    options.reasons = courier.reasons;
    options.callbacks = (struct destinations_callbacks){fake_load, fake_unreachable, fake_overdue};
    options.user = &courier;
    courier.destinations = destinations_new(&options);
    assert_non_null(courier.destinations);
    for (uint32_t i = 0; i < HOPS_MAX; i++)
        fake_hops[i].host_count = 1;
}

#endif
