/* The header section of a submitted message on its way in (RFC 6409 8): held back until it is
 * whole, then judged and mended: Bcc and Resent-Bcc are left out, Date, Message-ID and Sender are
 * added. Everything else, and the body, pass as they are. Owned by the transaction; NULL there for
 * all other mail. docs/submission.md has the rules. */
#ifndef GATEWAY_RECEIVE_FIXUPS_H
#define GATEWAY_RECEIVE_FIXUPS_H

#include "gateway/base/arena.h"
#include "gateway/base/limits.h"
#include "gateway/base/list.h"
#include "gateway/receive/reply.h"
#include "gateway/receive/submission.h"
#include "parser/header.h"

enum {
    FIXUPS_ADDED_MAX = 1024, /* octets that are added to a section, at most */
    FIXUPS_HEADER_MAX = LIMIT_PIECE - FIXUPS_ADDED_MAX, /* of a section; more: 552 5.3.4 */
    FIXUPS_LARGE = 128, /* sections of more than 3 KiB that a worker can have at a time */
    FIXUPS_LARGE_USER = FIXUPS_LARGE / 4, /* ... of one user: the others still have room */
    FIXUPS_FROM_MAX = 1000,               /* addresses in From; more: 553 5.7.1 */
};

struct fixups;

/* Room for sections that grow, of one worker. */
struct fixups_pool {
    struct blocks blocks; /* of LIMIT_PIECE octets */
    struct list holders;  /* the fixups that have one */
};

/* fixups_pool_init makes room for `count`; false: no memory. fixups_pool_cleanup is legal on the
 * zero value. */
bool fixups_pool_init(struct fixups_pool *pool, uint32_t count) __attribute__((warn_unused_result));
void fixups_pool_cleanup(struct fixups_pool *pool);

/* fixups_new takes the memory of one, with a copy of the user's name, from the transaction's arena
 * and `blocks`; `large` is for sections that grow. NULL: there is none. fixups_free gives blocks
 * back, as soon as nobody looks at the text any more; NULL-safe, and it may come twice. */
struct fixups *fixups_new(struct arena *arena, struct blocks *blocks, struct fixups_pool *large,
                          struct bytes user) __attribute__((warn_unused_result));
void fixups_free(struct fixups *fixups);

/* fixups_room returns how many octets of message text can be taken now, at least 2, until the
 * section is whole. 0: none, and *refusal says why (552 5.3.4, 452 4.3.1). */
size_t fixups_room(struct fixups *fixups, enum reply *refusal);

/* fixups_text takes message text, of no more octets than there is room, in any pieces. Behind the
 * section the text is body, which is kept as it is. fixups_whole: the section has ended. */
void fixups_text(struct fixups *fixups, struct bytes text);
bool fixups_whole(const struct fixups *fixups);

/* What is needed to judge and mend. All borrowed for the call. */
struct fixups_facts {
    const struct submission_rules *rules;
    struct bytes user; /* who has logged in */
    struct bytes hostname;
    uint64_t message_id;
    uint64_t wall_us;
    bool utf8; /* SMTPUTF8: a field of ours may have UTF-8 */
};

/* fixups_mend judges and mends the section, once: when it is whole, or the text is over.
 * REPLY_NONE, or what refuses the message: 553 5.7.1 From, 550 5.6.11 a bare CR or LF, or a NUL. */
enum reply fixups_mend(struct fixups *fixups, const struct fixups_facts *facts);

/* After fixups_mend: fixups_held is all that is to be stored in place of what was taken: the mended
 * section, its empty line, and the body's beginning. fixups_header is the section alone, without
 * the empty line; fixups_body the body's beginning; fixups_domain the domain of the first From
 * address (empty: none). Borrowed until fixups_free. */
struct bytes fixups_held(const struct fixups *fixups);
struct bytes fixups_header(const struct fixups *fixups);
struct bytes fixups_body(const struct fixups *fixups);
struct bytes fixups_domain(const struct fixups *fixups);

#endif
