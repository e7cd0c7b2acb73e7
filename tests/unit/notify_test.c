/* Notifications with a real spool: what is put there, when it is told of, and what failures, a
 * small ring and a burst make of it. */
#include "tests/support/office.h"

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

static void becomes_a_message(void **state)
{
    (void)state;
    struct office *office = office_new();
    struct office_failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    struct spool_message original = office_put(office, "alice@example.com", BYTES(OFFICE_TEXT));

    office_failure(&failure, office, &original, 3);
    failure.recipients[1].verdict.kind = VERDICT_DELIVERED;
    failure.recipients[2].index = 7;
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    assert_int_equal(notify_open(office->notify), 1);
    assert_int_equal(notify_next_us(office->notify), 0);
    memset(&failure, 0xee, sizeof failure); /* all was copied */
    office_until_told(office, 1);
    assert_int_equal(notify_open(office->notify), 0);
    assert_int_equal(notify_sent(office->notify), 1);
    assert_true(notify_next_us(office->notify) == UINT64_MAX);
    assert_int_equal(office->last.message_id, original.message_id);
    assert_int_equal(office->last.count, 2);
    assert_int_equal(office->last.action, BOUNCE_FAILED);
    assert_int_equal(office->last.notification % LIMIT_PORTS, LIMIT_PORTS - 1);
    struct report report = office_read(office, &envelope, &recipient);
    assert_true(bytes_equal(recipient.forward_path, BYTES("alice@example.com")));
    assert_true(recipient.forwarded);
    assert_int_equal(envelope.flags, 0);
    assert_int_equal(report.recipient_count, 2);
    assert_true(bytes_equal(report.parts[2].content, BYTES("Received: here\r\n" OFFICE_TEXT)));

    /* A sender of ours; an original with 8 bits; a UTF-8 address. */
    struct spool_message other =
        office_put(office, "x@example.org", BYTES(OFFICE_TEXT "\xc3\xa9\r\n"));
    office_failure(&failure, office, &other, 1);
    failure.envelope.reverse_path = BYTES("x@Example.ORG");
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    uint64_t id = office->last.notification;
    office_until_told(office, 2);
    assert_true(office->last.notification > id);
    report = office_read(office, &envelope, &recipient);
    assert_false(recipient.forwarded);
    assert_int_equal(envelope.flags, ENVELOPE_8BITMIME);
    failure.envelope.reverse_path = BYTES("\xc3\xa9@example.com");
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    office_until_told(office, 3);
    report = office_read(office, &envelope, &recipient);
    assert_int_equal(envelope.flags, ENVELOPE_8BITMIME | ENVELOPE_SMTPUTF8);
    id = office->last.notification;

    /* After a restart the ids go on above. */
    office_close(office);
    office_open(office);
    assert_non_null(help_recovered(&office->help, id));
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    office_until_told(office, 4);
    assert_true(office->last.notification > id);
    office_free(office);
}

static void tells_whom_it_should(void **state)
{
    (void)state;
    struct office *office = office_new();
    struct office_failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    struct spool_message original = office_put(office, "alice@example.com", BYTES(OFFICE_TEXT));

    office_failure(&failure, office, &original, 2);
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
    office_until_told(office, 1);
    assert_int_equal(office->last.count, 2);
    assert_int_equal(office_read(office, &envelope, &recipient).recipient_count, 1);
    office_free(office);
}

/* An original that is damaged gives a notification all the same. */
static void damaged_original(void **state)
{
    (void)state;
    struct office *office = office_new();
    struct office_failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    office_put(office, "alice@example.com", BYTES(OFFICE_TEXT));
    office_close(office);
    office_open(office); /* it is no longer in a ring */
    struct spool_message original = *help_recovered(&office->help, 1);
    int descriptor = help_file(&office->help, ".segment", (char[256]){0}, 256);
    assert_true(pwrite(descriptor, "damage", 6, original.first_offset + RECORD_HEADER) == 6);
    assert_int_equal(fsync(descriptor), 0);
    close(descriptor);
    office_failure(&failure, office, &original, 1);
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    office_until_told(office, 1);
    struct report report = office_read(office, &envelope, &recipient);
    assert_int_equal(report.part_count, 2);
    assert_true(report_contains(report.parts[0].content, "could not be read any more"));
    office_free(office);
}

/* Larger than the ring: it goes there bit by bit, and outcomes go on between. */
static void larger_than_the_ring(void **state)
{
    (void)state;
    struct office *office = office_new();
    struct office_failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    size_t len = 3 * office->help.options.staging_size;
    uint8_t *text = malloc(len);
    for (size_t i = 0; i < len; i++)
        text[i] = (uint8_t) "Field: value\r\n"[i % 14];
    memcpy(text + 14 * 20, "\r\n", 2);
    struct spool_message original = office_put(office, "alice@example.com", bytes_make(text, 14));
    struct spool_message large = office_put(office, "alice@example.com", bytes_make(text, len));
    office->original_max = (uint32_t)len + 1000;
    office_failure(&failure, office, &large, 1);
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    for (int i = 0; i < OFFICE_TURNS_MAX && office->told < 1; i++) {
        struct record_done done = {
            .message_id = original.message_id, .outcome = RECORD_DEFERRED, .attempts = 1};
        ledger_note(office->ledger, &done, clock_monotonic_us());
        office_turn(office);
    }
    assert_int_equal(office->told, 1);
    assert_int_equal(office->last.message_id, large.message_id);
    while (office->arrived < 1)
        office_turn(office);
    struct report report = office_read(office, &envelope, &recipient);
    assert_int_equal(report.part_count, 3);
    assert_int_equal(report.parts[2].content.len, len + strlen("Received: here\r\n"));
    assert_memory_equal(report.parts[2].content.data + 16, text, len);
    office_failure(&failure, office, &original, 1);
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    office_until_told(office, 2);
    for (int i = 0; i < OFFICE_TURNS_MAX && ledger_open(office->ledger) > 0; i++)
        office_turn(office);
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
    office->original_max = OFFICE_ORIGINAL_MAX;
    office_open(office);
    struct office_failure failure;
    struct spool_message original = office_put(office, "alice@example.com", BYTES(OFFICE_TEXT));
    help_disk.error = EIO;
    help_disk.bad_writes = 1000000;
    for (int i = 0; i < 5; i++) {
        struct record_done done = {.message_id = original.message_id,
                                   .outcome = RECORD_DEFERRED,
                                   .attempts = (uint16_t)(i + 1)};
        office_failure(&failure, office, &original, 1);
        assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
        ledger_note(office->ledger, &done, clock_monotonic_us());
        office_turn(office);
    }
    for (int i = 0; i < 500; i++)
        office_turn(office);
    assert_int_equal(office->told, 0);
    assert_int_equal(notify_open(office->notify), 5);
    assert_int_equal(ledger_open(office->ledger), 5);
    assert_true(notify_next_us(office->notify) > 0); /* it does not spin */
    help_disk.bad_writes = 0;
    office_until_told(office, 5);
    for (int i = 0; i < OFFICE_TURNS_MAX && ledger_open(office->ledger) > 0; i++)
        office_turn(office);
    assert_int_equal(ledger_open(office->ledger), 0);
    assert_int_equal(notify_open(office->notify), 0);
    for (int i = 0; i < 100; i++)
        office_turn(office);
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
    office->original_max = OFFICE_ORIGINAL_MAX;
    office_open(office);
    struct office_failure failure;
    struct spool_message original = office_put(office, "alice@example.com", BYTES(OFFICE_TEXT));
    help_disk.error = ENOSPC;
    help_disk.bad_allocations = 1000000;
    office_failure(&failure, office, &original, 1);
    for (int i = 0; i < EVENTS; i++)
        assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    for (int i = 0; i < 2000 && spool_state(office->help.spool) != SPOOL_FULL; i++)
        office_turn(office);
    for (int i = 0; i < 1000; i++)
        office_turn(office);
    assert_int_equal(spool_state(office->help.spool), SPOOL_FULL);
    assert_in_range(office->told, 100, EVENTS - 100);
    assert_int_equal(notify_open(office->notify), EVENTS - office->told);
    help_disk.bad_allocations = 0;
    office_until_told(office, EVENTS);
    assert_int_equal(notify_open(office->notify), 0);
    office_free(office);
}

/* A burst takes bounded memory; what finds no room finds it later. */
static void a_burst(void **state)
{
    (void)state;
    enum { BURST = 12000, RECIPIENTS = 5000 };
    struct office *office = office_new();
    struct office_failure failure;
    uint32_t added = 0;
    struct spool_message original = office_put(office, "alice@example.com", BYTES(OFFICE_TEXT));
    office_failure(&failure, office, &original, 1);
    assert_true(notify_room(office->notify) > 1000);
    while (notify_room(office->notify) > 0) {
        assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
        added++;
    }
    assert_int_equal(added, NOTIFY_EVENTS_MAX);
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_LATER);
    struct spool_message arrivals[256];
    uint32_t arrived = 0;
    for (int i = 0; i < OFFICE_TURNS_MAX && (arrived < BURST || office->told < BURST); i++) {
        uint64_t now_us = clock_monotonic_us();
        ledger_settle(office->ledger, now_us);
        notify_step(office->notify, OFFICE_ORIGINAL_MAX, now_us);
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
    struct office_failure failure;
    struct envelope envelope;
    struct envelope_recipient recipient;
    struct spool_message original = office_put(office, "alice@example.com", BYTES(OFFICE_TEXT));
    struct delivery_recipient *recipients = calloc(RECIPIENTS, sizeof *recipients);
    office_failure(&failure, office, &original, 1);
    for (uint32_t i = 0; i < RECIPIENTS; i++) {
        recipients[i] = failure.recipients[0];
        recipients[i].index = i;
        snprintf(recipients[i].verdict.text, VERDICT_TEXT_MAX, "reason %u", i);
    }
    failure.event.recipients = recipients;
    failure.event.recipient_count = RECIPIENTS;
    assert_int_equal(notify_add(office->notify, &failure.event), NOTIFY_TAKEN);
    free(recipients);
    office_until_told(office, 1);
    assert_int_equal(office->indexes, RECIPIENTS);
    struct report report = office_read(office, &envelope, &recipient);
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
