/* What of an undeliverable message goes back with its notification, and in which form: all of it
 * (message/rfc822), or its header (text/rfc822-headers), as it is when MIME allows, else in
 * quoted-printable. The original is looked through once before, since its encoding and the boundary
 * stand before it. */
#ifndef GATEWAY_DELIVER_ORIGINAL_H
#define GATEWAY_DELIVER_ORIGINAL_H

#include "gateway/deliver/delivery.h"
#include "gateway/deliver/draft.h"

enum {
    ORIGINAL_HEADER_MAX = 128 * 1024, /* of a longer header the beginning */
    ORIGINAL_LINE_MAX = 998,          /* octets in a line without its CR LF (RFC 5322 2.1.1) */
    ORIGINAL_BOUNDARY_SIZE = 64,
};

enum original_form {
    ORIGINAL_NONE = 0,
    ORIGINAL_WHOLE = 1,
    ORIGINAL_HEADER = 2,
};

struct original {
    enum original_form form;
    bool eight_bit;                        /* WHOLE: it has octets above 127 */
    bool quoted;                           /* HEADER: in quoted-printable */
    bool header_eight_bit;                 /* octets above 127 in its header */
    uint64_t len;                          /* octets that go back */
    char boundary[ORIGINAL_BOUNDARY_SIZE]; /* begins no line of what goes back, nor one of ours */
};

/* original_survey reads `added` and `text` and decides. `whole`: all of it is wanted; what has a
 * bare CR or LF, a NUL or a line that is too long can't go back whole, as message/rfc822 may not be
 * encoded (RFC 2046 5.2.1). `text` NULL: nothing goes back. `id` makes the boundary. 0, or what
 * `text` returned. */
int original_survey(struct original *original, struct bytes added, const struct delivery_text *text,
                    bool whole, const char *id) __attribute__((warn_unused_result));

/* original_write puts what goes back into the draft. 0, or what `text` returned. */
int original_write(const struct original *original, struct bytes added,
                   const struct delivery_text *text, struct draft *draft)
    __attribute__((warn_unused_result));

#endif
