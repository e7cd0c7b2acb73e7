/* The envelope of a message as the spool keeps it (RFC 5321 2.3.1, with the parameters of RFC 3461,
 * 6152, 6531, 8689), and its one binary form: length-prefixed, nothing to escape, so nothing can be
 * injected. */
#ifndef GATEWAY_SPOOL_ENVELOPE_H
#define GATEWAY_SPOOL_ENVELOPE_H

#include "parser/bytes.h"

#include <assert.h>

enum envelope_flags {
    ENVELOPE_8BITMIME = 1 << 0,
    ENVELOPE_BINARYMIME = 1 << 1,
    ENVELOPE_SMTPUTF8 = 1 << 2,
    ENVELOPE_RET_FULL = 1 << 3,
    ENVELOPE_RET_HDRS = 1 << 4,
    ENVELOPE_REQUIRETLS = 1 << 5,
    ENVELOPE_SUBMITTED = 1 << 6, /* by a user who had logged in: may leave for foreign domains, and
                                    no SRS */
};

/* What a client wants besides delivery: when (RFC 4865, RFC 2852), and before or after what else
 * (RFC 6710). All zero: nothing. Times are wall seconds. */
struct envelope_terms {
    uint32_t release_s; /* not to be delivered before then; 0: at once */
    uint32_t hold_s;    /* as HOLDFOR asked for that; 0: HOLDUNTIL did */
    uint32_t by_s;      /* to be delivered by then; 0: no such wish */
    uint8_t by_mode;    /* enum envelope_by_mode */
    int8_t priority;    /* -9..9; 0: the usual one */
    uint16_t reserved;
};
static_assert(sizeof(struct envelope_terms) == 16, "no padding on disk");

enum envelope_by_mode {
    ENVELOPE_BY_RETURN = 1 << 0, /* "R": returned when the time is over; else "N": told of */
    ENVELOPE_BY_TRACE = 1 << 1,  /* "T": told of each relay */
    ENVELOPE_BY_TOLD = 1 << 2,   /* "N" that was over before it came: somebody has told of it */
};
enum { ENVELOPE_PRIORITY_MAX = 9 };

struct envelope_recipient {
    struct bytes
        forward_path;   /* mailbox without brackets, as the client wrote it; <= 65535 octets */
    struct bytes orcpt; /* addr-type;xtext as written; empty: none; <= 65535 octets */
    uint8_t notify;     /* bits of NOTIFY=, 0: none given */
    bool forwarded;     /* not of our domains: an alias led to it, or a user has written to it. The
                           foreign route; and SRS, unless the message is ENVELOPE_SUBMITTED */
};

struct envelope {
    uint64_t message_id;
    uint64_t arrival_us; /* wall time */
    uint64_t text_len;   /* octets of message text in the BODY records */
    uint32_t flags;      /* enum envelope_flags */
    uint32_t recipient_count;
    struct envelope_terms terms;
    struct bytes reverse_path; /* mailbox without brackets; empty for <>; <= 65535 octets */
    struct bytes envid;        /* as written; empty: none; <= 65535 octets */
    struct bytes added;        /* header fields that we put before the text, each with CR LF */
};

/* The binary form begins with this; in version 2, which is written where there are terms, they
 * follow; then reverse-path, envid and added, then each recipient: lengths of forward-path and
 * ORCPT (u16), notify (u8, with ENVELOPE_FORWARDED), and the two. Little-endian. */
struct envelope_head {
    uint32_t version; /* enum envelope_version */
    uint32_t flags;
    uint64_t message_id;
    uint64_t arrival_us;
    uint64_t text_len;
    uint32_t recipient_count;
    uint32_t added_len;
    uint16_t reverse_path_len;
    uint16_t envid_len;
    uint32_t reserved;
};
static_assert(sizeof(struct envelope_head) == 48, "no padding on disk");

enum envelope_version { ENVELOPE_PLAIN = 1, ENVELOPE_WITH_TERMS = 2 };
enum { ENVELOPE_FORWARDED = 0x80 };

/* envelope_has_terms: is anything wanted? */
bool envelope_has_terms(const struct envelope_terms *terms);

/* envelope_size returns the octets that envelope_write needs. */
size_t envelope_size(const struct envelope *envelope, const struct envelope_recipient *recipients);

/* envelope_write writes the binary form to `out` and returns its length, which is envelope_size. */
size_t envelope_write(const struct envelope *envelope, const struct envelope_recipient *recipients,
                      uint8_t *out);

/* envelope_read reads the binary form, and checks it to the last recipient; the slices in
 * `envelope` borrow from `in`. False when it is malformed (nothing may then be used). */
bool envelope_read(struct bytes in, struct envelope *envelope) __attribute__((warn_unused_result));

/* envelope_terms_of returns the terms of a form that envelope_read would accept. */
struct envelope_terms envelope_terms_of(struct bytes form);

/* envelope_recipient_next returns the next recipient of a form that envelope_read has accepted;
 * *cursor is 0 before the first. Call it recipient_count times at most. The slices borrow from
 * `in`. */
struct envelope_recipient envelope_recipient_next(struct bytes in, size_t *cursor);

#endif
