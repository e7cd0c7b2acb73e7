/* The text of a delivery as pieces of loans: for BDAT as it is (RFC 3030), for DATA with its dots
 * stuffed and the end behind it (RFC 5321 4.5.2, 4.1.1.4). Nothing is copied, unless dots stand so
 * close that pieces would be dust. */
#ifndef GATEWAY_DELIVER_CLIENT_TEXT_H
#define GATEWAY_DELIVER_CLIENT_TEXT_H

#include "gateway/base/blocks.h"
#include "gateway/deliver/delivery.h"

#include <sys/uio.h>

enum {
    CLIENT_TEXT_PIECES = 8,          /* of one window at most */
    CLIENT_TEXT_WINDOW = 256 * 1024, /* octets of one window, about */
};

/* Private but for `ended`. */
struct client_text {
    const struct delivery *delivery;
    struct blocks *blocks;
    uint8_t *block;    /* for text with many dots; NULL: none so far */
    struct bytes rest; /* of the piece in hand: not yet given out */
    uint64_t left;     /* octets that the source still owes */
    bool dots;
    bool ended; /* the end was given out */
    uint8_t line;
};

/* client_text_begin starts at the head of the delivery; its size counts. 0, or -errno of
 * `rewind`. */
int client_text_begin(struct client_text *text, const struct delivery *delivery, bool dots,
                      struct blocks *blocks) __attribute__((warn_unused_result));

/* client_text_next gives out the next window; its pieces stay valid until the next call. Sets
 * `ended` with the last. 0, or -errno: of the source, -EBADMSG: its length is not that of the
 * delivery. Not to be called once `ended`. */
int client_text_next(struct client_text *text, struct iovec *pieces, uint32_t *count)
    __attribute__((warn_unused_result));

/* client_text_end gives the block back. Legal on the zero value, and twice. */
void client_text_end(struct client_text *text);

/* client_text_header_ascii sets *ascii: the head and the header section of the text have no octet
 * above 127 (a header section that does not end within 256 KiB counts as one that has). 0, or
 * -errno of the source, which must be rewound afterwards. */
int client_text_header_ascii(const struct delivery *delivery, bool *ascii)
    __attribute__((warn_unused_result));

#endif
