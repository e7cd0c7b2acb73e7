/* The mailboxes of an address header field (From, Sender; RFC 5322 3.4 with its obsolete forms, RFC
 * 6854 groups, RFC 6532): walked one by one. Pure. */
#ifndef PARSER_MAILBOXES_H
#define PARSER_MAILBOXES_H

#include "parser/bytes.h"

enum {
    MAILBOXES_TEXT_MAX = 1024, /* octets of one mailbox, without comments and folding */
    MAILBOXES_DEPTH_MAX = 16,  /* comments inside comments */
};

enum mailboxes_result {
    MAILBOXES_FOUND = 0, /* one more */
    MAILBOXES_END = 1,   /* that was the last */
    MAILBOXES_BAD = 2,   /* the rest is no address list */
};

/* Where a walk stands; begin with the field's raw value and all else zero. */
struct mailboxes {
    struct bytes rest;
    bool in_group;
    uint8_t text[MAILBOXES_TEXT_MAX];
};

/* mailboxes_next finds the next mailbox and sets *mailbox to its addr-spec ("local@domain" without
 * display name, brackets, source route, comments and folding white space; a quoted local part stays
 * quoted only where it must be), valid until the next call. */
enum mailboxes_result mailboxes_next(struct mailboxes *walk, struct bytes *mailbox)
    __attribute__((warn_unused_result));

/* mailboxes_skip_space skips white space, folding and comments ([CFWS]) before other words of
 * header fields. False: a comment that does not end. */
bool mailboxes_skip_space(struct bytes *in) __attribute__((warn_unused_result));

#endif
