/* The finder: see finder.h. */
#include "tests/support/finder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/check.h"

enum { PORT = 2525 };

struct finder_tale finder_tale;
static union address_any own_addresses[2];
static uint64_t dice;

static uint64_t throw_dice(void *user)
{
    (void)user;
    dice = dice * 6364136223846793005u + 1442695040888963407u;
    return dice >> 33;
}

struct exchange_setup finder_setup = {
    .hostname = "mx.ours.test",
    .ours = own_addresses,
    .our_count = 2,
    .smtp_port = PORT,
    .ipv6 = true,
    .random = throw_dice,
};

static void begin(const char *const *lines, uint32_t timeout_ms)
{
    asker_begin(lines, (struct dns_options){.timeout_ms = timeout_ms});
    CHECK(listener_parse("127.0.0.99:2525", &own_addresses[0]));
    CHECK(listener_parse("[::1]:2525", &own_addresses[1]));
    finder_setup.dns = asker.dns;
    finder_setup.ipv6 = true;
    finder_tale = (struct finder_tale){0};
}

void finder_begin(const char *const *lines)
{
    begin(lines, 400);
}

void finder_begin_patient(const char *const *lines)
{
    begin(lines, 10000);
}

void finder_told(void *user, const struct verdict *why)
{
    assert_ptr_equal(user, &finder_tale);
    finder_tale.found++;
    finder_tale.refused_it = why != NULL;
    if (why != NULL)
        finder_tale.why = *why;
    exchange_free(finder_tale.to_free);
    finder_tale.to_free = NULL;
}

bool finder_was_found(struct turner *turner)
{
    (void)turner;
    return finder_tale.found > 0;
}

struct exchange *finder_make(const struct route *route, const char *domain)
{
    struct exchange *made = exchange_new(&finder_setup, route, bytes_of_string(domain));
    assert_non_null(made);
    return made;
}

uint64_t finder_now(void)
{
    return asker.turner->worker.now_us;
}

/* find asks, and waits for what is found. */
void find(struct exchange *exchange)
{
    finder_tale = (struct finder_tale){0};
    exchange_ask(exchange, finder_now(), finder_told, &finder_tale);
    assert_true(turner_run(asker.turner, finder_was_found, 5000));
    assert_int_equal(finder_tale.found, 1);
}

const struct route finder_mx = {.kind = ROUTE_MX};

/* find_mx makes an exchange of the MX of a domain, with its hosts. */
struct exchange *find_mx(const char *domain)
{
    struct exchange *made = finder_make(&finder_mx, domain);
    find(made);
    return made;
}

char *host_text(const struct exchange_host *host, char *out, size_t size)
{
    char address[64];
    union address_any any;
    memcpy(&any, &host->peer.address, sizeof(any));
    listener_format(&any, address);
    snprintf(out, size, "%u %s %s", host->preference, host->peer.name, address);
    return out;
}
