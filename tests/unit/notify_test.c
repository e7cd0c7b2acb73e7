/* Notifications with a real spool: what is put there, when it is told of, and what failures, a
 * small ring and a burst make of it. */
#include "gateway/deliver/notify.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "gateway/base/limits.h"
#include "parser/command.h"
#include "tests/support/report.h"
#include "tests/support/spool_help.h"

enum { TURNS_MAX = 20000 /* of a millisecond */, ORIGINAL_MAX = 50000 };

/* A spool, and a courier that does nothing but notify. */
struct office {
    struct help help;
    struct routes *routes;
    struct ledger *ledger;
    struct notify *notify;
    uint32_t original_max;
    uint32_t told, indexes; /* calls, and recipients in them */
    struct notify_told last;
    struct spool_message arrival; /* the last */
    uint32_t arrived;
    uint64_t last_id;
    uint8_t *text; /* of the last message read; owned */
    size_t text_len;
};

static void office_open(struct office *office)
{
    const char *error;
    const char *const discard[] = {"discard:"};
    const struct route_options options = {0};
    help_open(&office->help);
    if (office->routes == NULL) {
        office->routes = routes_new();
        bool good = routes_add(office->routes, BYTES("example.org"), discard, 1, &options, &error);
        assert_true(good);
    }
    office->ledger = ledger_new(office->help.spool, office->help.ring);
    office->notify = notify_new(&(struct notify_options){
        .spool = office->help.spool,
        .staging = office->help.ring,
        .ledger = office->ledger,
        .log = log_port_new(office->help.log, "courier"),
        .hostname = "mx.example.org",
    });
    assert_non_null(office->ledger);
    assert_non_null(office->notify);
}

static void office_close(struct office *office)
{
    notify_free(office->notify);
    ledger_free(office->ledger);
    help_close(&office->help);
}

static struct office *office_new(void)
{
    struct office *office = calloc(1, sizeof *office);
    help_new(&office->help);
    office->original_max = ORIGINAL_MAX;
    office_open(office);
    return office;
}

static void office_free(struct office *office)
{
    office_close(office);
    help_free(&office->help);
    routes_free(office->routes);
    free(office->text);
    free(office);
}

/* Puts an original into the spool and returns where it lies; it is not counted as an arrival. */
static struct spool_message put_original(struct office *office, const char *reverse_path,
                                         struct bytes text)
{
    struct staging *ring = office->help.ring;
    struct envelope_recipient recipient = {.forward_path = BYTES("bob@example.net")};
    struct envelope envelope = {.message_id = ++office->last_id,
                                .arrival_us = clock_wall_us(),
                                .text_len = text.len,
                                .recipient_count = 1,
                                .reverse_path = bytes_of_string(reverse_path),
                                .added = BYTES("Received: here\r\n")};
    uint32_t parts = 0;
    for (size_t at = 0; at < text.len;) {
        size_t len = text.len - at < LIMIT_PIECE ? text.len - at : LIMIT_PIECE;
        uint8_t *out = staging_reserve(ring, len);
        while (out == NULL) {
            staging_publish(ring, true);
            usleep(200);
            out = staging_reserve(ring, len);
        }
        memcpy(out, text.data + at, len);
        staging_append(ring, RECORD_BODY, envelope.message_id, parts++, len);
        at += len;
    }
    uint8_t *out = staging_reserve(ring, 1000);
    assert_non_null(out);
    size_t len = envelope_write(&envelope, &recipient, out);
    uint64_t end = staging_append(ring, RECORD_COMMIT, envelope.message_id, parts, len);
    assert_int_equal(help_wait(&office->help, ring, end), STAGING_DURABLE);
    struct spool_message *message = help_arrivals(&office->help, 1);
    struct spool_message copy = *message;
    free(message);
    return copy;
}

static void told(const struct notify_told *what)
{
    struct office *office = what->user;
    office->told++;
    office->indexes += what->count;
    office->last = *what;
}

/* An event about recipients 0 .. count - 1 of an original. */
struct failure {
    struct delivery_recipient recipients[8];
    struct envelope envelope;
    struct notify_event event;
};

static const struct verdict refused = {
    .kind = VERDICT_REFUSED, .code = 550, .status = {5, 1, 1},
            .text = "No such user"
};

static struct notify_event *failure_of(struct failure *failure, struct office *office,
                                       const struct spool_message *message, uint32_t count)
{
    memset(failure, 0, sizeof *failure);
    for (uint32_t i = 0; i < count; i++) {
        struct delivery_recipient *recipient = &failure->recipients[i];
        recipient->index = i;
        recipient->forward_path = BYTES("bob@example.net");
        recipient->verdict = refused;
    }
    failure->envelope = (struct envelope){.message_id = message->message_id,
                                          .arrival_us = clock_wall_us(),
                                          .text_len = message->text_len,
                                          .recipient_count = count,
                                          .reverse_path = BYTES("alice@example.com"),
                                          .added = BYTES("Received: here\r\n")};
    failure->event = (struct notify_event){.action = BOUNCE_FAILED,
                                           .message = message,
                                           .envelope = &failure->envelope,
                                           .recipients = failure->recipients,
                                           .recipient_count = count,
                                           .only = VERDICT_REFUSED,
                                           .peer = "mx.example.net [192.0.2.1]:25",
                                           .user = office,
                                           .told = told};
    return &failure->event;
}

/* One turn of a courier. Takes one arrival at most, so that each can be looked at. */
static void turn(struct office *office)
{
    uint64_t now_us = clock_monotonic_us();
    ledger_settle(office->ledger, now_us);
    if (office->notify != NULL)
        notify_step(office->notify, office->routes, office->original_max, now_us);
    ledger_write(office->ledger, now_us, true);
    office->arrived += (uint32_t)spool_arrivals(office->help.spool, &office->arrival, 1);
    usleep(200);
}

static void until_told(struct office *office, uint32_t count)
{
    for (int i = 0; i < TURNS_MAX && (office->told < count || office->arrived < count); i++)
        turn(office);
    assert_int_equal(office->told, count);
    assert_int_equal(office->arrived, count);
}

static int collect(void *user, struct bytes text)
{
    struct office *office = user;
    office->text = realloc(office->text, office->text_len + text.len);
    assert_non_null(office->text);
    memcpy(office->text + office->text_len, text.data, text.len);
    office->text_len += text.len;
    return 0;
}

/* Reads the last arrival; the envelope's strings are constants, or those that are looked at. */
static struct report read_arrival(struct office *office, struct envelope *envelope,
                                  struct envelope_recipient *recipient)
{
    static char address[256];
    struct spool_reader reader = {0};
    struct report report;
    size_t cursor = 0;
    assert_int_equal(spool_read(office->help.spool, &office->arrival, &reader, envelope), 0);
    assert_int_equal(envelope->recipient_count, 1);
    assert_int_equal(envelope->reverse_path.len, 0);
    assert_int_equal(envelope->message_id, office->last.notification);
    *recipient = envelope_recipient_next(spool_read_form(&reader), &cursor);
    assert_true(recipient->forward_path.len < sizeof address);
    memcpy(address, recipient->forward_path.data, recipient->forward_path.len);
    recipient->forward_path.data = (const uint8_t *)address;
    office->text_len = 0;
    assert_int_equal(spool_read_text(&reader, collect, office), 0);
    spool_read_close(&reader);
    report_read(&report, bytes_make(office->text, office->text_len));
    return report;
}

#define TEXT "Subject: hello\r\n\r\nHello.\r\n"

static void becomes_a_message(void **state)
{
    (void)state;
    struct office *office = office_new();
    struct failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    struct spool_message original = put_original(office, "alice@example.com", BYTES(TEXT));

    failure_of(&failure, office, &original, 3);
    failure.recipients[1].verdict.kind = VERDICT_DELIVERED;
    failure.recipients[2].index = 7;
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    assert_int_equal(notify_open(office->notify), 1);
    assert_int_equal(notify_next_us(office->notify), 0);
    memset(&failure, 0xee, sizeof failure); /* all was copied */
    until_told(office, 1);
    assert_int_equal(notify_open(office->notify), 0);
    assert_int_equal(notify_sent(office->notify), 1);
    assert_true(notify_next_us(office->notify) == UINT64_MAX);
    assert_int_equal(office->last.message_id, original.message_id);
    assert_int_equal(office->last.count, 2);
    assert_int_equal(office->last.action, BOUNCE_FAILED);
    assert_int_equal(office->last.notification % LIMIT_PORTS, LIMIT_PORTS - 1);
    struct report report = read_arrival(office, &envelope, &recipient);
    assert_true(bytes_equal(recipient.forward_path, BYTES("alice@example.com")));
    assert_true(recipient.forwarded);
    assert_int_equal(envelope.flags, 0);
    assert_int_equal(report.recipient_count, 2);
    assert_true(bytes_equal(report.parts[2].content, BYTES("Received: here\r\n" TEXT)));

    /* A sender of ours; an original with 8 bits; a UTF-8 address. */
    struct spool_message other = put_original(office, "x@example.org", BYTES(TEXT "\xc3\xa9\r\n"));
    failure_of(&failure, office, &other, 1);
    failure.envelope.reverse_path = BYTES("x@Example.ORG");
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    uint64_t id = office->last.notification;
    until_told(office, 2);
    assert_true(office->last.notification > id);
    report = read_arrival(office, &envelope, &recipient);
    assert_false(recipient.forwarded);
    assert_int_equal(envelope.flags, ENVELOPE_8BITMIME);
    failure.envelope.reverse_path = BYTES("\xc3\xa9@example.com");
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    until_told(office, 3);
    report = read_arrival(office, &envelope, &recipient);
    assert_int_equal(envelope.flags, ENVELOPE_8BITMIME | ENVELOPE_SMTPUTF8);
    id = office->last.notification;

    /* After a restart the ids go on above. */
    office_close(office);
    office_open(office);
    assert_non_null(help_recovered(&office->help, id));
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    until_told(office, 4);
    assert_true(office->last.notification > id);
    office_free(office);
}

static void tells_whom_it_should(void **state)
{
    (void)state;
    struct office *office = office_new();
    struct failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    struct spool_message original = put_original(office, "alice@example.com", BYTES(TEXT));

    failure_of(&failure, office, &original, 2);
    failure.recipients[0].notify = COMMAND_NOTIFY_NEVER;
    failure.recipients[1].notify = COMMAND_NOTIFY_SUCCESS;
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_NOBODY);
    failure.event.only = VERDICT_DELIVERED;
    failure.recipients[1].notify = 0;
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_NOBODY);
    failure.event.only = VERDICT_REFUSED;
    failure.envelope.reverse_path = BYTES("");
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_NOBODY);
    assert_int_equal(notify_open(office->notify), 0);

    /* One is to be told of; all that the event is about come back. */
    failure.envelope.reverse_path = BYTES("alice@example.com");
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    until_told(office, 1);
    assert_int_equal(office->last.count, 2);
    assert_int_equal(read_arrival(office, &envelope, &recipient).recipient_count, 1);
    office_free(office);
}

/* An original that is damaged gives a notification all the same. */
static void damaged_original(void **state)
{
    (void)state;
    struct office *office = office_new();
    struct failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    put_original(office, "alice@example.com", BYTES(TEXT));
    office_close(office);
    office_open(office); /* it is no longer in a ring */
    struct spool_message original = *help_recovered(&office->help, 1);
    int descriptor = help_file(&office->help, ".segment", (char[256]){0}, 256);
    assert_true(pwrite(descriptor, "damage", 6, original.first_offset + RECORD_HEADER) == 6);
    assert_int_equal(fsync(descriptor), 0);
    close(descriptor);
    failure_of(&failure, office, &original, 1);
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    until_told(office, 1);
    struct report report = read_arrival(office, &envelope, &recipient);
    assert_int_equal(report.part_count, 2);
    assert_true(report_contains(report.parts[0].content, "could not be read any more"));
    office_free(office);
}

/* Larger than the ring: it goes there bit by bit, and outcomes go on between. */
static void larger_than_the_ring(void **state)
{
    (void)state;
    struct office *office = office_new();
    struct failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    size_t len = 3 * office->help.options.staging_size;
    uint8_t *text = malloc(len);
    for (size_t i = 0; i < len; i++)
        text[i] = (uint8_t) "Field: value\r\n"[i % 14];
    memcpy(text + 14 * 20, "\r\n", 2);
    struct spool_message original = put_original(office, "alice@example.com", bytes_make(text, 14));
    struct spool_message large = put_original(office, "alice@example.com", bytes_make(text, len));
    office->original_max = (uint32_t)len + 1000;
    failure_of(&failure, office, &large, 1);
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    for (int i = 0; i < TURNS_MAX && office->told < 1; i++) {
        struct record_done done = {
            .message_id = original.message_id, .outcome = RECORD_DEFERRED, .attempts = 1};
        ledger_note(office->ledger, &done, clock_monotonic_us());
        turn(office);
    }
    assert_int_equal(office->told, 1);
    assert_int_equal(office->last.message_id, large.message_id);
    while (office->arrived < 1)
        turn(office);
    struct report report = read_arrival(office, &envelope, &recipient);
    assert_int_equal(report.part_count, 3);
    assert_int_equal(report.parts[2].content.len, len + strlen("Received: here\r\n"));
    assert_memory_equal(report.parts[2].content.data + 16, text, len);
    failure_of(&failure, office, &original, 1);
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    until_told(office, 2);
    for (int i = 0; i < TURNS_MAX && ledger_open(office->ledger) > 0; i++)
        turn(office);
    assert_int_equal(ledger_open(office->ledger), 0);
    free(text);
    office_free(office);
}

/* The disk refuses writes: nobody is told before it takes them again, and then once. Outcomes and
 * notifications that fail together are told apart. */
static void outlives_a_bad_disk(void **state)
{
    (void)state;
    struct office *office = calloc(1, sizeof *office);
    help_new(&office->help);
    office->help.options.io = &help_io;
    office->original_max = ORIGINAL_MAX;
    office_open(office);
    struct failure failure;
    struct spool_message original = put_original(office, "alice@example.com", BYTES(TEXT));
    help_disk.error = EIO;
    help_disk.bad_writes = 1000000;
    for (int i = 0; i < 5; i++) {
        struct record_done done = {.message_id = original.message_id,
                                   .outcome = RECORD_DEFERRED,
                                   .attempts = (uint16_t)(i + 1)};
        failure_of(&failure, office, &original, 1);
        assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
        ledger_note(office->ledger, &done, clock_monotonic_us());
        turn(office);
    }
    for (int i = 0; i < 500; i++)
        turn(office);
    assert_int_equal(office->told, 0);
    assert_int_equal(notify_open(office->notify), 5);
    assert_int_equal(ledger_open(office->ledger), 5);
    assert_true(notify_next_us(office->notify) > 0); /* it does not spin */
    help_disk.bad_writes = 0;
    until_told(office, 5);
    for (int i = 0; i < TURNS_MAX && ledger_open(office->ledger) > 0; i++)
        turn(office);
    assert_int_equal(ledger_open(office->ledger), 0);
    assert_int_equal(notify_open(office->notify), 0);
    for (int i = 0; i < 100; i++)
        turn(office);
    assert_int_equal(office->told, 5);
    assert_int_equal(office->arrived, 5);
    office_free(office);
}

/* No segment is to be had: what does not fit any more waits, and is told of when there is room. */
static void outlives_a_full_disk(void **state)
{
    (void)state;
    enum { EVENTS = 2500 }; /* 2 KB each, in three segments of 1 MiB */
    struct office *office = calloc(1, sizeof *office);
    help_new(&office->help);
    office->help.options.io = &help_io;
    office->original_max = ORIGINAL_MAX;
    office_open(office);
    struct failure failure;
    struct spool_message original = put_original(office, "alice@example.com", BYTES(TEXT));
    help_disk.error = ENOSPC;
    help_disk.bad_allocations = 1000000;
    failure_of(&failure, office, &original, 1);
    for (int i = 0; i < EVENTS; i++)
        assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    for (int i = 0; i < 2000 && spool_state(office->help.spool) != SPOOL_FULL; i++)
        turn(office);
    for (int i = 0; i < 1000; i++)
        turn(office);
    assert_int_equal(spool_state(office->help.spool), SPOOL_FULL);
    assert_in_range(office->told, 100, EVENTS - 100);
    assert_int_equal(notify_open(office->notify), EVENTS - office->told);
    help_disk.bad_allocations = 0;
    until_told(office, EVENTS);
    assert_int_equal(notify_open(office->notify), 0);
    office_free(office);
}

/* A burst takes bounded memory; what finds no room finds it later. */
static void a_burst(void **state)
{
    (void)state;
    enum { BURST = 12000, RECIPIENTS = 5000 };
    struct office *office = office_new();
    struct failure failure;
    uint32_t added = 0;
    struct spool_message original = put_original(office, "alice@example.com", BYTES(TEXT));
    failure_of(&failure, office, &original, 1);
    assert_true(notify_room(office->notify) > 1000);
    while (notify_room(office->notify) > 0) {
        assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
        added++;
    }
    assert_int_equal(added, NOTIFY_EVENTS_MAX);
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_LATER);
    struct spool_message arrivals[256];
    uint32_t arrived = 0;
    for (int i = 0; i < TURNS_MAX && (arrived < BURST || office->told < BURST); i++) {
        uint64_t now_us = clock_monotonic_us();
        ledger_settle(office->ledger, now_us);
        notify_step(office->notify, office->routes, ORIGINAL_MAX, now_us);
        while (added < BURST && notify_add(office->notify, &failure.event) == NOTIFY_TAKEN)
            added++;
        size_t count = spool_arrivals(office->help.spool, arrivals, 256);
        for (size_t at = 0; at < count; at++)
            spool_release(office->help.spool, &arrivals[at]);
        arrived += (uint32_t)count;
        if (count == 0)
            usleep(200);
    }
    assert_int_equal(arrived, BURST);
    assert_int_equal(office->told, BURST);
    assert_int_equal(notify_sent(office->notify), BURST);

    /* Large events are bounded by their octets; the first is always taken. */
    static char name[250];
    memset(name, 'n', sizeof name);
    struct delivery_recipient *recipients = calloc(RECIPIENTS, sizeof *recipients);
    for (uint32_t i = 0; i < RECIPIENTS; i++)
        recipients[i] = (struct delivery_recipient){
            .index = i,
            .forward_path = bytes_make(name, sizeof name),
            .verdict = {.kind = VERDICT_REFUSED, .code = (uint16_t)(500 + i % 50)}
        };
    failure.event.recipients = recipients;
    failure.event.recipient_count = RECIPIENTS;
    added = 0;
    while (notify_add(office->notify, &failure.event) == NOTIFY_TAKEN)
        added++;
    assert_in_range(added, 5, 16);
    notify_free(office->notify); /* with events that were never told of */
    office->notify = NULL;
    assert_int_equal(office->told, BURST);
    free(recipients);
    office_free(office);
}

/* 5,000 recipients in one notification, each with a reason of its own. */
static void many_recipients(void **state)
{
    (void)state;
    enum { RECIPIENTS = 5000 };
    struct office *office = office_new();
    struct failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    struct spool_message original = put_original(office, "alice@example.com", BYTES(TEXT));
    struct delivery_recipient *recipients = calloc(RECIPIENTS, sizeof *recipients);
    failure_of(&failure, office, &original, 1);
    for (uint32_t i = 0; i < RECIPIENTS; i++) {
        recipients[i] = failure.recipients[0];
        recipients[i].index = i;
        snprintf(recipients[i].verdict.text, VERDICT_TEXT_MAX, "reason %u", i);
    }
    failure.event.recipients = recipients;
    failure.event.recipient_count = RECIPIENTS;
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    free(recipients);
    until_told(office, 1);
    assert_int_equal(office->indexes, RECIPIENTS);
    struct report report = read_arrival(office, &envelope, &recipient);
    assert_int_equal(report.recipient_count, RECIPIENTS);
    assert_true(bytes_equal(report_field(report_group(&report, 4321), "Diagnostic-Code"),
                            BYTES("smtp; 550 5.1.1 reason 4321")));
    office_free(office);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(becomes_a_message),
        cmocka_unit_test(tells_whom_it_should),
        cmocka_unit_test(damaged_original),
        cmocka_unit_test(larger_than_the_ring),
        cmocka_unit_test(outlives_a_bad_disk),
        cmocka_unit_test(outlives_a_full_disk),
        cmocka_unit_test(a_burst),
        cmocka_unit_test(many_recipients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
