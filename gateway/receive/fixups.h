/* The header section of a submitted message on its way in (RFC 6409 8): held back until it is
 * whole, then mended: Bcc and Resent-Bcc are left out, Date, Message-ID and Sender are added.
 * Everything else, and the body, pass as they are. Owned by the transaction; NULL there for all
 * other mail. */
#ifndef GATEWAY_RECEIVE_FIXUPS_H
#define GATEWAY_RECEIVE_FIXUPS_H

#include "gateway/receive/submission.h"

enum { FIXUPS_HEADER_MAX = LIMIT_PIECE /* octets of a header section; more: 552 5.3.4 */ };

struct fixups;

/* fixups_new: for a transaction of submitted mail, at its MAIL. NULL: no memory. fixups_free. */
struct fixups *fixups_new(struct session *session) __attribute__((warn_unused_result));
void fixups_free(struct fixups *fixups);

/* fixups_text takes message text, any piece, while the header section is not whole, and returns how
 * many octets of it belonged there; *header is set once it is: the mended section with its empty
 * line, borrowed until fixups_free, to be stored in their place. fixups_end: the text is over; sets
 * *header if that had not happened. Both: a reply other than REPLY_NONE in *refusal refuses the
 * message (553 5.7.1 From, 552 5.3.4, 451 without memory). */
size_t fixups_text(struct fixups *fixups, struct bytes text, struct bytes *header,
                   enum reply *refusal);
void fixups_end(struct fixups *fixups, struct bytes *header, enum reply *refusal);

/* fixups_header is the mended section without its empty line, for the signature; fixups_domain that
 * of the first From address (empty: none). Once the section is whole. */
struct bytes fixups_header(const struct fixups *fixups);
struct bytes fixups_domain(const struct fixups *fixups);

#endif
