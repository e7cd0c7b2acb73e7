/* Every reply of the SMTP server, code, enhanced status (RFC 3463, 5248) and text, in one table. */
#ifndef GATEWAY_RECEIVE_REPLY_H
#define GATEWAY_RECEIVE_REPLY_H

#include "parser/bytes.h"

enum reply {
    REPLY_NONE = 0,
    /* 2xx, 3xx */
    REPLY_OK,
    REPLY_SENDER_OK,
    REPLY_RECIPIENT_OK,
    REPLY_RESET,
    REPLY_START_DATA,
    REPLY_BYE,
    REPLY_HELP,
    REPLY_CANNOT_VERIFY,
    /* 4xx */
    REPLY_SHUTTING_DOWN,
    REPLY_TOO_MANY_CONNECTIONS,
    REPLY_TOO_MANY_FROM_ADDRESS,
    REPLY_TOO_MANY_ERRORS,
    REPLY_TIMED_OUT,
    REPLY_TOO_SLOW,
    REPLY_NO_MEMORY,
    REPLY_SPOOL_BROKEN,
    REPLY_SPOOL_FULL,
    REPLY_TOO_MANY_RECIPIENTS,
    /* 5xx */
    REPLY_UNKNOWN_COMMAND,
    REPLY_LINE_TOO_LONG,
    REPLY_BARE_NEWLINE_COMMAND,
    REPLY_BAD_OCTETS,
    REPLY_BAD_ARGUMENT,
    REPLY_BAD_REVERSE_PATH,
    REPLY_BAD_FORWARD_PATH,
    REPLY_NOT_OFFERED,
    REPLY_BAD_SEQUENCE,
    REPLY_GREET_FIRST,
    REPLY_NESTED_MAIL,
    REPLY_NEED_MAIL,
    REPLY_NEED_RECIPIENT,
    REPLY_NO_VALID_RECIPIENTS,
    REPLY_NEED_BDAT,
    REPLY_DATA_AFTER_BDAT,
    REPLY_NO_SUCH_USER,
    REPLY_RELAY_DENIED,
    REPLY_MESSAGE_TOO_BIG,
    REPLY_UTF8_ADDRESS,
    REPLY_EARLY_INPUT,
    REPLY_FOREIGN_PROTOCOL,
    REPLY_LOOP,
    REPLY_UNKNOWN_PARAMETER,
    REPLY_BARE_NEWLINE,
    REPLY_COUNT,
};

/* reply_line returns the whole line, CR LF included; constant. */
struct bytes reply_line(enum reply reply);

/* reply_code returns the three digits as a number. */
unsigned reply_code(enum reply reply);

#endif
