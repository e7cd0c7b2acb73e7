/* One SMTP command line -> verb, argument, parameters (RFC 5321 4.1.1, and the extensions named
 * below). Pure: the result points into the line. What is allowed when is not decided here but in
 * receive/session. */
#ifndef PARSER_COMMAND_H
#define PARSER_COMMAND_H

#include "parser/address.h"
#include "parser/bytes.h"

enum verb {
    VERB_UNKNOWN = 0,
    VERB_HELO,
    VERB_EHLO,
    VERB_LHLO, /* RFC 2033; refused by an SMTP server, but recognised */
    VERB_MAIL,
    VERB_RCPT,
    VERB_DATA,
    VERB_BDAT, /* RFC 3030 */
    VERB_RSET,
    VERB_NOOP,
    VERB_VRFY,
    VERB_EXPN,
    VERB_HELP,
    VERB_QUIT,
    VERB_STARTTLS, /* RFC 3207 */
    VERB_AUTH,     /* RFC 4954 */
    VERB_XCLIENT,  /* Postfix's XCLIENT_README; its argument is for parser/xclient.h */
    VERB_PROXY,    /* the header of parser/proxy.h where none should be: version 1, or the line of a
                      NUL in version 2's signature */
    VERB_FOREIGN,  /* somebody speaks HTTP: CONNECT DELETE GET HEAD OPTIONS PATCH POST PRI PUT TRACE
                    */
    VERB_COUNT,
};

enum command_result {
    COMMAND_OK = 0,
    COMMAND_UNKNOWN = 1,           /* 500 5.5.2 */
    COMMAND_SYNTAX = 2,            /* 501 5.5.4: arguments do not match the grammar */
    COMMAND_BAD_ADDRESS = 3,       /* 501 5.1.3 (RCPT) or 5.1.7 (MAIL) */
    COMMAND_LONG_ADDRESS = 4,      /* 501 5.1.3 / 5.1.7, over a limit of RFC 5321 4.5.3.1 */
    COMMAND_UTF8_ADDRESS = 5,      /* 553 5.6.7: needs SMTPUTF8 (RFC 6531 3.5) */
    COMMAND_BAD_PARAMETER = 6,     /* 501 5.5.4: a known parameter with a wrong value, or twice */
    COMMAND_UNKNOWN_PARAMETER = 7, /* 555 5.5.4 */
    COMMAND_BAD_OCTETS = 8,        /* 500 5.5.2: NUL, or a bare CR or LF inside the line */
};

enum command_body {
    COMMAND_BODY_7BIT = 0,
    COMMAND_BODY_8BITMIME,
    COMMAND_BODY_BINARYMIME,
};
enum command_ret {
    COMMAND_RET_NONE = 0,
    COMMAND_RET_FULL,
    COMMAND_RET_HDRS,
};
enum command_notify {
    COMMAND_NOTIFY_NEVER = 1 << 0,
    COMMAND_NOTIFY_SUCCESS = 1 << 1,
    COMMAND_NOTIFY_FAILURE = 1 << 2,
    COMMAND_NOTIFY_DELAY = 1 << 3,
};

/* Which of these a MAIL command asks for; also when the value is wrong. */
enum command_asks {
    COMMAND_ASKS_HOLD = 1 << 0,     /* HOLDFOR, HOLDUNTIL (RFC 4865) */
    COMMAND_ASKS_BY = 1 << 1,       /* BY (RFC 2852) */
    COMMAND_ASKS_PRIORITY = 1 << 2, /* MT-PRIORITY (RFC 6710) */
};

struct command {
    enum verb verb;
    struct bytes name;     /* the verb as written */
    struct bytes argument; /* all after the verb, white space at both ends removed */

    struct address address; /* MAIL, RCPT */
    bool has_size;          /* SIZE= (RFC 1870), MAIL; in BDAT the chunk size */
    bool last;              /* BDAT ... LAST */
    bool smtputf8;          /* RFC 6531: MAIL; VRFY and EXPN of themselves */
    bool requiretls;        /* RFC 8689, MAIL */
    bool has_notify;        /* RFC 3461, RCPT */
    uint8_t body;           /* enum command_body, MAIL (RFC 6152, 3030) */
    uint8_t ret;            /* enum command_ret, MAIL (RFC 3461 4.3) */
    uint8_t notify;         /* enum command_notify bits, RCPT (RFC 3461 4.1) */
    uint8_t asks;           /* enum command_asks bits, MAIL */
    bool by_return;         /* BY: "R", else "N" */
    bool by_trace;          /* BY: "T" */
    int8_t priority;        /* MT-PRIORITY: -9..9 */
    int32_t by_s;           /* BY: from now; not above 0 only with "N" */
    uint32_t hold_s;        /* HOLDFOR: from now; 0: HOLDUNTIL was said */
    uint64_t hold_until_s;  /* HOLDUNTIL: seconds since 1970 */
    uint64_t size;          /* octets; saturates at UINT64_MAX, so that a comparison stays right */
    struct bytes envid;     /* ENVID= as written (xtext, checked; RFC 3461 4.4), MAIL */
    struct bytes orcpt;     /* ORCPT= as written, addr-type;xtext (checked; RFC 3461 4.2), RCPT */
    struct bytes auth;      /* AUTH= as written (xtext or <>, checked; RFC 4954 5), MAIL */
};

/* command_parse reads one line, given without its CR LF, into `out`, which it sets in every case;
 * verb and name are right also when the result is not COMMAND_OK, the rest is then for the log
 * only. Verbs and parameter names in any case (RFC 5321 2.4). White space at the end is ignored
 * (RFC 5321 4.1.1). Only when `lenient`, spaces may follow "FROM:" and "TO:" and the brackets of a
 * path may be missing (many senders do it; RFC 5321 3.3 says not to), and local parts may be as
 * long as ADDRESS_LONG_LOCAL says. UTF-8 in a MAIL address needs the SMTPUTF8 parameter on the same
 * line; in RCPT, VRFY, EXPN it needs `utf8`: the MAIL of this transaction had it (VRFY and EXPN may
 * also say SMTPUTF8 themselves, RFC 6531 3.7.4.2). Commands that take no argument (DATA, RSET,
 * QUIT, STARTTLS) refuse one (501); NOOP, HELP ignore theirs, AUTH, XCLIENT are not looked into;
 * VRFY, EXPN want one. HELO, EHLO, LHLO want one without white space and controls, domain or not.
 * VERB_FOREIGN and VERB_PROXY are COMMAND_OK. */
enum command_result command_parse(struct bytes line, bool utf8, bool lenient, struct command *out)
    __attribute__((warn_unused_result));

/* command_verb_name returns the verb in capitals, "HTTP" for VERB_FOREIGN, "?" for VERB_UNKNOWN;
 * constant. */
const char *command_verb_name(enum verb verb);

#endif
