/* The asker: see asker.h. */
#include "tests/support/asker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/check.h"

struct asker asker;

const char *const asker_plain[] = {
    "a.test 300 A 127.0.0.1",      "a.test 200 A 127.0.0.2",
    "a.test 300 AAAA 2001:db8::7", "mail.test 3600 MX 20 B.Mx.test",
    "mail.test 3600 MX 10 a.test", "null.test 3600 MX 0 .",
    "x-1_y.test 30 A 127.0.0.3",   NULL,
};

static void on_turn(struct turner *turner)
{
    (void)turner;
    dns_turn(asker.dns);
}

static uint64_t next_us(struct turner *turner)
{
    (void)turner;
    return dns_next_us(asker.dns);
}

static void answered(struct dns_question *question, const struct dns_answer *answer)
{
    struct ask *asked = (struct ask *)(void *)question;
    CHECK(!asker.asking && question->pending == NULL && asked->told++ == 0);
    asked->order = asker.told++;
    asked->status = answer->status;
    asked->ttl_s = answer->ttl_s;
    asked->count = answer->count;
    CHECK((answer->status == DNS_FOUND) == (answer->count > 0));
    for (uint32_t i = 0; i < answer->count; i++) /* all can be read */
        CHECK(strlen(answer->records[i].name) <= DNS_NAME_MAX);
    for (uint32_t i = 0; i < answer->count && i < 4; i++)
        asked->records[i] = answer->records[i];
    if (asked->then != NULL)
        asked->then(asked);
}

void asker_serve(struct turner *turner)
{
    turner->on_turn = on_turn;
    turner->next_us = next_us;
}

void asker_begin(const char *const *lines, struct dns_options options)
{
    memset(&asker, 0, sizeof(asker));
    name_server_start(&asker.server, lines);
    asker.turner = turner_new(false);
    asker_serve(asker.turner);
    if (options.server_count == 0) {
        options.servers[0] = asker.server.address;
        options.server_count = 1;
    }
    if (options.timeout_ms == 0)
        options.timeout_ms = 1000;
    asker.dns = dns_new(&asker.turner->worker, &options);
    assert_non_null(asker.dns);
}

void asker_end(void)
{
    dns_free(asker.dns);
    asker.turner->on_turn = NULL;
    asker.turner->next_us = NULL;
    wait_ms(5);
    for (uint32_t i = 0; i < WATCH_MAX; i++)
        assert_null(asker.turner->worker.watches[i].watch);
    turner_free(asker.turner);
    name_server_stop(&asker.server);
}

struct ask *ask(const char *name, enum dns_type type)
{
    CHECK(asker.ask_count < ASKS_MAX);
    struct ask *made = &asker.asks[asker.ask_count++];
    made->question.answered = answered;
    asker.asking = true;
    dns_ask(asker.dns, name, type, &made->question);
    asker.asking = false;
    return made;
}

static bool all_told(struct turner *turner)
{
    (void)turner;
    return asker.told == asker.ask_count;
}

void run_all(void)
{
    assert_true(turner_run(asker.turner, all_told, 10000));
}

struct ask *ask_now(const char *name, enum dns_type type)
{
    struct ask *made = ask(name, type);
    run_all();
    return made;
}

void wait_ms(uint32_t ms)
{
    (void)turner_run(asker.turner, NULL, ms);
}

void ask_is(const struct ask *asked, enum dns_status status, uint32_t ttl_s, uint32_t count)
{
    assert_int_equal(asked->told, 1);
    assert_int_equal(asked->status, status);
    assert_int_equal(asked->count, count);
    assert_in_range(asked->ttl_s, ttl_s > 0 ? ttl_s - 1 : 0, ttl_s);
}

uint32_t ask_v4(const struct dns_record *record)
{
    assert_int_equal(record->address.v4.sin_family, AF_INET);
    assert_int_equal(record->address.v4.sin_port, 0);
    return ntohl(record->address.v4.sin_addr.s_addr);
}

struct dns_snapshot asker_counts(void)
{
    struct dns_snapshot counts;
    dns_snapshot(asker.dns, &counts);
    return counts;
}

uint32_t asker_heard(void)
{
    return atomic_load(&asker.server.udp);
}
