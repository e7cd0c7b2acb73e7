/* A courier that does nothing but notify, with a real spool: for the tests of deliver/notify. */
#ifndef TESTS_SUPPORT_OFFICE_H
#define TESTS_SUPPORT_OFFICE_H

#include "gateway/deliver/notify.h"
#include "tests/support/report.h"
#include "tests/support/spool_help.h"

#define OFFICE_TEXT "Subject: hello\r\n\r\nHello.\r\n"

enum { OFFICE_TURNS_MAX = 20000 /* of a millisecond */, OFFICE_ORIGINAL_MAX = 50000 };

/* A spool, and a courier that does nothing but notify. */
struct office {
    struct help help;
    struct srs *srs;
    struct directory *directory;
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

/* An event about recipients 0 .. count - 1 of an original. */
struct office_failure {
    struct delivery_recipient recipients[8];
    struct envelope envelope;
    struct notify_event event;
};

/* office_new makes all of it; office_free ends it. office_close and office_open in between are a
 * restart. */
struct office *office_new(void);
void office_free(struct office *office);
void office_open(struct office *office);
void office_close(struct office *office);

/* office_put puts an original into the spool and returns where it lies; it is not counted as an
 * arrival. */
struct spool_message office_put(struct office *office, const char *reverse_path, struct bytes text);

/* office_failure fills in an event: `count` recipients were refused. */
struct notify_event *office_failure(struct office_failure *failure, struct office *office,
                                    const struct spool_message *message, uint32_t count);

/* office_turn is a turn of the courier. It takes one arrival at most, so that each can be looked
 * at. office_until_told makes turns until so many events are told of, and as many messages came. */
void office_turn(struct office *office);
void office_until_told(struct office *office, uint32_t count);

/* office_read reads the last arrival; the envelope's strings are constants, or those that are
 * looked at. */
struct report office_read(struct office *office, struct envelope *envelope,
                          struct envelope_recipient *recipient);

#endif
