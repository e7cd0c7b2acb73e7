/* DKIM's relaxed body canonicalization once more, as simple as can be: RFC 6376 3.4.4 line by line
 * over the whole text. And a place where pieces are put together again. */
#ifndef TESTS_SUPPORT_CANONICAL_H
#define TESTS_SUPPORT_CANONICAL_H

#include "parser/bytes.h"

/* The zero value is empty. */
struct canonical {
    uint8_t *text; /* owned */
    size_t len, room;
};

/* canonical_take is a canon_take that adds the piece to a struct canonical. */
void canonical_take(void *canonical, struct bytes piece);
void canonical_free(struct canonical *canonical);

/* canonical_body adds the canonical form of a whole body. */
void canonical_body(struct bytes body, struct canonical *out);

#endif
