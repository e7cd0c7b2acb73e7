/* DKIM's relaxed canonicalization (RFC 6376 3.4.2, 3.4.4), of a body as it passes in pieces and of
 * one header field. Pure: it gives out pieces that point into the input or to constants. */
#ifndef PARSER_CANON_H
#define PARSER_CANON_H

#include "parser/bytes.h"

/* What becomes of each canonical piece. */
typedef void canon_take(void *user, struct bytes piece);

/* A body on its way. The zero value is at the beginning; members are private. */
struct canon_body {
    uint64_t lines_empty; /* held back: they may be the last */
    bool in_line, space, after_cr;
};

/* canon_body_text canonicalizes the next piece of the body (canonical lines, cut anywhere);
 * canon_body_end says that it is over. Cost: one look at each octet at most, runs without white
 * space are given out whole. */
void canon_body_text(struct canon_body *body, struct bytes text, canon_take *take, void *user);
void canon_body_end(struct canon_body *body, canon_take *take, void *user);

/* canon_field canonicalizes one field (`name` and raw `value`, as parser/header.h gives them), with
 * its CR LF when `ended`. */
void canon_field(struct bytes name, struct bytes value, bool ended, canon_take *take, void *user);

#endif
