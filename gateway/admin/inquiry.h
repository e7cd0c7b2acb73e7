/* A request of a client of the control socket: one line of JSON, checked. docs/control.md lists
 * what may be in it. */
#ifndef GATEWAY_ADMIN_INQUIRY_H
#define GATEWAY_ADMIN_INQUIRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "parser/bytes.h"

enum inquiry_kind {
    INQUIRY_LIST = 0,
    INQUIRY_SHOW = 1,
    INQUIRY_SUMMARY = 2,
    INQUIRY_DESTINATIONS = 3,
    INQUIRY_STATUS = 4,
    INQUIRY_TRACE = 5, /* answered as it happens, not by a task */
    INQUIRY_DRAIN = 6,
    INQUIRY_RELOAD = 7,
    INQUIRY_HANDOVER = 8, /* answered by the main thread */
    INQUIRY_RETRY = 9,
    INQUIRY_HOLD = 10,
    INQUIRY_RELEASE = 11,
    INQUIRY_REMOVE = 12,
};

/* Which part of the queue is meant. Empty texts, 0 and NULL: no matter. */
struct inquiry_filter {
    uint64_t *ids; /* sorted; owned */
    size_t id_count;
    char *domain;      /* of a recipient; owned, like those below */
    char *sender;      /* a mailbox, "@domain", or "<>" */
    char *reason;      /* a part of the text, in any case */
    char *destination; /* whole */
    uint64_t older_s;  /* in the queue for at least so long */
    uint8_t state;     /* enum consignment_state; 0: any */
};

struct inquiry {
    enum inquiry_kind kind;
    struct inquiry_filter filter;
    uint64_t limit;   /* of list and trace: rows; UINT64_MAX: all */
    char *trace_ip;   /* of trace: a network or an address; NULL: none; owned */
    char *trace_rcpt; /* a mailbox, or "@domain"; NULL: none; owned */
};

enum { INQUIRY_IDS_MAX = 4096, INQUIRY_ERROR_MAX = 200 };

/* inquiry_parse reads a line (without its end). False: `error` (INQUIRY_ERROR_MAX) says what is
 * wrong, and nothing is to be freed. */
bool inquiry_parse(struct bytes line, struct inquiry *inquiry, char *error)
    __attribute__((warn_unused_result));
void inquiry_free(struct inquiry *inquiry);

/* inquiry_state_name is the word for a state, as requests and answers have it. */
const char *inquiry_state_name(uint8_t state);

#endif
