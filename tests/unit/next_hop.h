/* A stand-in for destinations and clients, for the tests of passages and callaheads: deliveries are
 * taken down, and the test says what the next hop says. To be included before anything of
 * gateway/deliver, whose functions it renames; then comes the .c file under test. */
#ifndef TESTS_UNIT_NEXT_HOP_H
#define TESTS_UNIT_NEXT_HOP_H

#define destinations_find    next_hop_find
#define destinations_deliver next_hop_deliver
#define destinations_cancel  next_hop_cancel
#define destinations_crowded next_hop_crowded
#define client_continue      next_hop_continue
#define hop_return           next_hop_return

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/check.h"
#include "gateway/deliver/destination.h"
#include "gateway/policy/hop.h"

enum { NEXT_HOP_MAX = 4096 };

static struct {
    struct delivery *given[NEXT_HOP_MAX]; /* by destinations_deliver, in order */
    uint32_t destinations[NEXT_HOP_MAX];
    struct delivery *cancelled[NEXT_HOP_MAX];
    struct hop_question *returned[NEXT_HOP_MAX];
    uint32_t given_count, cancelled_count, returned_count, continued;
    uint32_t crowded; /* destination where others wait; 0: none */
    char client;      /* whose address is a client */
} next_hop;

/* The last port digit is the destination: smtp:127.0.0.1:2501 is 1. */
uint32_t destinations_find(struct destinations *destinations, const struct route *route,
                           struct bytes domain)
{
    (void)destinations;
    (void)domain;
    return route->hosts[0].port % 10;
}

void destinations_deliver(struct destinations *destinations, uint32_t index,
                          struct delivery *delivery)
{
    (void)destinations;
    CHECK(next_hop.given_count < NEXT_HOP_MAX && delivery->client == NULL);
    next_hop.destinations[next_hop.given_count] = index;
    next_hop.given[next_hop.given_count++] = delivery;
}

void destinations_cancel(struct destinations *destinations, struct delivery *delivery)
{
    (void)destinations;
    CHECK(next_hop.cancelled_count < NEXT_HOP_MAX);
    next_hop.cancelled[next_hop.cancelled_count++] = delivery;
}

bool destinations_crowded(const struct destinations *destinations, uint32_t index)
{
    (void)destinations;
    return index == next_hop.crowded;
}

void client_continue(struct client *client)
{
    CHECK((char *)client == &next_hop.client);
    next_hop.continued++;
}

void hop_return(struct hop_question *question)
{
    CHECK(next_hop.returned_count < NEXT_HOP_MAX && !list_linked(&question->node));
    next_hop.returned[next_hop.returned_count++] = question;
}

/* next_hop_connect gives the delivery a client. */
static inline void next_hop_connect(struct delivery *delivery)
{
    delivery->client = (struct client *)(void *)&next_hop.client;
    snprintf(delivery->peer, sizeof(delivery->peer), "127.0.0.1:2501");
}

/* next_hop_verdict makes a verdict. */
static inline struct verdict next_hop_verdict(enum verdict_kind kind, unsigned code,
                                              const char *text)
{
    struct verdict verdict = {.kind = (uint8_t)kind, .code = (uint16_t)code};
    if (code != 0)
        verdict.status = (struct reply_status){(uint8_t)(code / 100), 1, 5};
    snprintf(verdict.text, sizeof(verdict.text), "%s", text);
    return verdict;
}

/* next_hop_answer replies to RCPT number `index`. */
static inline void next_hop_answer(struct delivery *delivery, uint32_t index, unsigned code,
                                   const char *text)
{
    enum verdict_kind kinds[] = {
        [2] = VERDICT_ACCEPTED, [4] = VERDICT_DEFERRED, [5] = VERDICT_REFUSED};
    delivery->recipients[index].verdict = next_hop_verdict(kinds[code / 100], code, text);
    delivery->answered(delivery, index);
}

/* next_hop_end is the end of a delivery: who has no last verdict gets this one. */
static inline void next_hop_end(struct delivery *delivery, struct verdict verdict)
{
    for (uint32_t i = 0; i < delivery->recipient_count; i++) {
        struct verdict *at = &delivery->recipients[i].verdict;
        if (at->kind == VERDICT_OPEN || at->kind == VERDICT_ACCEPTED)
            *at = verdict;
    }
    delivery->client = NULL;
    delivery->delivered(delivery);
}

/* next_hop_break is a broken connection, or the end of a cancelled delivery. */
static inline void next_hop_break(struct delivery *delivery)
{
    next_hop_end(delivery, next_hop_verdict(VERDICT_DEFERRED, 0, "the connection broke"));
}

static inline struct log_port *next_hop_log(void)
{
    static struct log *log;
    if (log == NULL)
        log = log_new(&(struct log_options){.descriptor = open("/dev/null", O_WRONLY | O_CLOEXEC),
                                            .level = LOG_INFO});
    CHECK(log != NULL);
    return log_port_new(log, "test");
}

/* next_hop_routes: example.org and example.com go to 1, example.net to 2, and example.edu to a
 * Maildir. */
static inline struct routes *next_hop_routes(void)
{
    static const char *const table[][2] = {
        {"example.org", "smtp:127.0.0.1:2501"},
        {"example.com", "smtp:127.0.0.1:2501"},
        {"example.net", "lmtp:127.0.0.1:2502"},
        {"example.edu", "maildir:/tmp/%d/%u" }
    };
    struct routes *routes = routes_new();
    const char *error = "";
    CHECK(routes != NULL);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const struct route_options options = {0};
        CHECK(routes_add(routes, bytes_of_string(table[i][0]), &table[i][1], 1, &options, &error));
    }
    return routes;
}

#endif
