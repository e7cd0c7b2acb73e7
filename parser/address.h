/* Mailboxes, domains and address literals as SMTP writes them: RFC 5321 4.1.2 and 4.1.3, with UTF-8
 * by RFC 6531 3.3. Only the envelope's grammar: no comments, no folding, no obsolete forms of RFC
 * 5322. Results are slices of the input; nothing is copied. */
#ifndef PARSER_ADDRESS_H
#define PARSER_ADDRESS_H

#include "parser/bytes.h"

enum address_limits {
    ADDRESS_LOCAL_LEN_USUAL = 64, /* what all must take (RFC 5321 4.5.3.1.1) */
    ADDRESS_LOCAL_LEN_MAX = 252,  /* with "@" and one letter a mailbox */
    ADDRESS_DOMAIN_LEN_MAX = 255, /* RFC 5321 4.5.3.1.2 */
    ADDRESS_LEN_MAX = 254, /* mailbox: a path of 256 less its brackets, 4.5.3.1.3, erratum 1690 */
};

enum address_result {
    ADDRESS_OK = 0,
    ADDRESS_BAD = 1,        /* does not match the grammar */
    ADDRESS_TOO_LONG = 2,   /* one of the limits */
    ADDRESS_UTF8 = 3,       /* well formed, but needs SMTPUTF8, which was not asked for */
    ADDRESS_LONG_LOCAL = 4, /* good, but for a local part of 65 to ADDRESS_LOCAL_LEN_MAX octets */
};

enum address_domain_kind {
    ADDRESS_NO_DOMAIN = 0,
    ADDRESS_NAME,
    ADDRESS_IPV4,
    ADDRESS_IPV6,
    ADDRESS_GENERAL,
};

struct address {
    struct bytes text;   /* the whole mailbox, source route and brackets removed; empty for <> */
    struct bytes local;  /* local part as written, its quotes included */
    struct bytes domain; /* name as written, or literal with brackets; empty for <Postmaster> */
    uint8_t domain_kind; /* enum address_domain_kind */
    bool quoted;         /* local part is a quoted string */
    bool utf8;           /* `text` has octets above 127: needs SMTPUTF8 (RFC 6531) */
};

/* All functions below set *out in every case: to the zero value unless they return ADDRESS_OK or
 * ADDRESS_LONG_LOCAL. What does not match the grammar is ADDRESS_BAD, whatever its length; what is
 * too long is ADDRESS_TOO_LONG, in UTF-8 or not. ADDRESS_LONG_LOCAL is for the caller to take or
 * not: RFC 5321 4.5.3.1 asks for no limits where there can be none, and many reverse-paths (SRS,
 * BATV, one for each message of a list) are longer than 64; a mailbox of ours is not. */

/* address_mailbox parses a bare `Local-part "@" ( Domain / address-literal )`, all of `in`. With
 * `allow_utf8`, UTF-8 (well formed, no surrogates, no over-long forms) is taken in both parts. */
enum address_result address_mailbox(struct bytes in, bool allow_utf8, struct address *out)
    __attribute__((warn_unused_result));

/* address_path parses `"<" [ A-d-l ":" ] Mailbox ">"` from the front of `in` (RFC 5321 4.1.2 Path)
 * and sets *used to its length (0 when *out is zero). A source route is checked, then ignored (RFC
 * 5321 3.3, 4.1.1.3, appendix C). */
enum address_result address_path(struct bytes in, bool allow_utf8, struct address *out,
                                 size_t *used) __attribute__((warn_unused_result));

/* address_reverse_path is address_path that also takes "<>" (out->text is empty then). */
enum address_result address_reverse_path(struct bytes in, bool allow_utf8, struct address *out,
                                         size_t *used) __attribute__((warn_unused_result));

/* address_forward_path is address_path that also takes "<Postmaster>" in any case (the domain is
 * empty then). */
enum address_result address_forward_path(struct bytes in, bool allow_utf8, struct address *out,
                                         size_t *used) __attribute__((warn_unused_result));

/* address_domain checks `Domain` (letters, digits, hyphens, dots; U-labels with allow_utf8; labels
 * of 1..63 characters, which in a U-label may be more octets, RFC 5890 4.2; no leading or trailing
 * hyphen in a label; no trailing dot) or an address literal, as EHLO and HELO carry it. Sets *kind
 * (ADDRESS_NO_DOMAIN unless ADDRESS_OK). */
enum address_result address_domain(struct bytes in, bool allow_utf8, enum address_domain_kind *kind)
    __attribute__((warn_unused_result));

/* address_local_unquoted writes the meaning of a local part (quotes and backslashes removed) to
 * `out`, which must hold ADDRESS_LOCAL_LEN_MAX octets, and returns its length. "a\b" and "ab" in
 * quotes are the same mailbox. The address must come from a function above. */
size_t address_local_unquoted(const struct address *address, uint8_t *out);

#endif
