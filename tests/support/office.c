/* Failures end the test that calls. */
#include "tests/support/office.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/clock.h"
#include "gateway/base/limits.h"

/* x@example.org is a mailbox; what else is there leads to others. */
static struct directory *directory_of_office(struct office *office)
{
    static const char *const aliases[][2] = {
        {"sales@example.org",  "x@example.org"           },
        {"all@example.org",    "sales@example.org"       },
        {"all@example.org",    "y@foreign.example"       },
        {"all@example.org",    "\xc3\xa9@foreign.example"},
        {"circle@example.org", "round@example.org"       },
        {"round@example.org",  "circle@example.org"      },
    };
    const struct bytes secret = BYTES("secret");
    const struct srs_options options = {
        .domain = BYTES("srs.example.org"), .secrets = &secret, .secret_count = 1};
    struct directory *directory = directory_new();
    assert_non_null(directory);
    int domain = directory_add_domain(directory, BYTES("example.org"));
    assert_true(directory_add_recipient(directory, domain, BYTES("x")));
    for (size_t i = 0; i < sizeof aliases / sizeof aliases[0]; i++) {
        const char *error;
        bool good = directory_add_alias(directory, bytes_of_string(aliases[i][0]),
                                        bytes_of_string(aliases[i][1]), &error);
        assert_true(good);
    }
    office->srs = srs_new(&options);
    assert_non_null(office->srs);
    directory_set_srs(directory, office->srs);
    return directory;
}

void office_open(struct office *office)
{
    help_open(&office->help);
    if (office->directory == NULL)
        office->directory = directory_of_office(office);
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

void office_close(struct office *office)
{
    notify_free(office->notify);
    ledger_free(office->ledger);
    help_close(&office->help);
}

struct office *office_new(void)
{
    struct office *office = calloc(1, sizeof *office);
    help_new(&office->help);
    office->original_max = OFFICE_ORIGINAL_MAX;
    office_open(office);
    return office;
}

void office_free(struct office *office)
{
    office_close(office);
    help_free(&office->help);
    directory_free(office->directory);
    srs_free(office->srs);
    free(office->text);
    free(office);
}

/* Puts an original into the spool and returns where it lies; it is not counted as an arrival. */
struct spool_message office_put(struct office *office, const char *reverse_path, struct bytes text)
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

static const struct verdict refused = {
    .kind = VERDICT_REFUSED, .code = 550, .status = {5, 1, 1},
            .text = "No such user"
};

struct notify_event *office_failure(struct office_failure *failure, struct office *office,
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
                                           .directory = office->directory,
                                           .recipients = failure->recipients,
                                           .recipient_count = count,
                                           .only = VERDICT_REFUSED,
                                           .peer = "mx.example.net [192.0.2.1]:25",
                                           .user = office,
                                           .told = told};
    return &failure->event;
}

/* One turn of a courier. Takes one arrival at most, so that each can be looked at. */
void office_turn(struct office *office)
{
    uint64_t now_us = clock_monotonic_us();
    ledger_settle(office->ledger, now_us);
    if (office->notify != NULL)
        notify_step(office->notify, office->original_max, now_us);
    ledger_write(office->ledger, now_us, true);
    office->arrived += (uint32_t)spool_arrivals(office->help.spool, &office->arrival, 1);
    usleep(200);
}

void office_until_told(struct office *office, uint32_t count)
{
    for (int i = 0; i < OFFICE_TURNS_MAX && (office->told < count || office->arrived < count); i++)
        office_turn(office);
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
struct report office_read(struct office *office, struct envelope *envelope,
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
