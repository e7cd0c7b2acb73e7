/* The replies of an SMTP or LMTP server, as a client reads them (RFC 5321 4.2, RFC 2034, 3463).
 * PURE. Octets come as they come; a reply may have any number of lines and is bounded here, so that
 * a hostile server can only make us give up. */
#ifndef PARSER_REPLY_H
#define PARSER_REPLY_H

#include "parser/bytes.h"

enum {
    REPLY_TEXT_MAX = 480,  /* octets of all lines' text that are kept, joined by spaces */
    REPLY_LINE_MAX = 2048, /* a longer line is REPLY_BROKEN (RFC 5321 4.5.3.1.5 allows 512) */
    REPLY_LINES_MAX = 128, /* more lines are REPLY_BROKEN */
};

/* An enhanced status code (RFC 3463), {0, 0, 0}: none was given. */
struct reply_status {
    uint8_t class; /* 2, 4, 5 */
    uint16_t subject, detail;
};

/* A reply being read. The zero value is before the first octet; reply_read_begin makes it so again.
 */
struct reply_read {
    uint16_t code; /* 200..599 when complete */
    struct reply_status status;
    uint16_t text_len;
    uint16_t line_len; /* private from here */
    uint8_t line_count;
    bool last;
    char line[REPLY_LINE_MAX];
    char text[REPLY_TEXT_MAX + 1]; /* printable, NUL-terminated: what is not ASCII or UTF-8 text
                                      becomes "?"; the enhanced status is left out */
};

enum reply_result {
    REPLY_MORE = 0,  /* all was taken, the reply is not whole */
    REPLY_WHOLE = 1, /* `out` is a reply; octets behind it were not taken */
    REPLY_BROKEN = 2 /* no SMTP reply, codes of different classes in its lines, or over a bound */
};

/* reply_read_begin prepares for the next reply. */
void reply_read_begin(struct reply_read *reply);

/* reply_read takes octets from the front of `in` up to the end of one reply and sets *taken. Each
 * line that is complete is offered to `line` (may be NULL) without code, separator and CR LF: the
 * keywords of EHLO. Codes of one class that differ are bad style: the last counts. Lines end with
 * CR LF or a bare LF (some servers). An enhanced status whose class is not the first digit of the
 * code counts as text. */
enum reply_result reply_read(struct reply_read *reply, struct bytes in, size_t *taken,
                             void (*line)(void *user, uint32_t index, struct bytes text),
                             void *user) __attribute__((warn_unused_result));

#endif
