/* The table of replies: see reply.h. */
#include "gateway/receive/reply.h"

#define LINE(text) BYTES(text "\r\n")

static const struct bytes lines[REPLY_COUNT] = {
    [REPLY_START_TLS] = LINE("220 2.0.0 Ready to start TLS"),
    [REPLY_OK] = LINE("250 2.0.0 Ok"),
    [REPLY_SENDER_OK] = LINE("250 2.1.0 Sender ok"),
    [REPLY_RECIPIENT_OK] = LINE("250 2.1.5 Recipient ok"),
    [REPLY_RESET] = LINE("250 2.0.0 Reset"),
    [REPLY_START_DATA] = LINE("354 End data with <CR><LF>.<CR><LF>"),
    [REPLY_BYE] = LINE("221 2.0.0 Bye"),
    [REPLY_HELP] = LINE("214 2.0.0 See RFC 5321"),
    [REPLY_CANNOT_VERIFY] = LINE("252 2.5.0 Cannot verify, but will take mail for local users"),

    [REPLY_SHUTTING_DOWN] = LINE("421 4.3.2 Shutting down, try again later"),
    [REPLY_TOO_MANY_CONNECTIONS] = LINE("421 4.3.2 Too many connections, try again later"),
    [REPLY_TOO_MANY_FROM_ADDRESS] = LINE("421 4.7.0 Too many connections from your address"),
    [REPLY_TOO_MANY_ERRORS] = LINE("421 4.7.0 Too many errors"),
    [REPLY_TIMED_OUT] = LINE("421 4.4.2 Timed out"),
    [REPLY_TOO_SLOW] = LINE("421 4.4.2 Too slow"),
    [REPLY_NO_MEMORY] = LINE("452 4.3.1 Short of memory, try again later"),
    [REPLY_SPOOL_BROKEN] = LINE("451 4.3.0 Storage error, try again later"),
    [REPLY_SPOOL_FULL] = LINE("452 4.3.1 Insufficient storage, try again later"),
    [REPLY_TOO_MANY_RECIPIENTS] = LINE("452 4.5.3 Too many recipients"),
    [REPLY_OTHER_DESTINATION] = LINE("452 4.5.3 Send this recipient in another transaction"),
    [REPLY_SRS_LATER] = LINE("451 4.7.1 Too many forged return addresses, try again later"),
    [REPLY_TLS_UNAVAILABLE] = LINE("454 4.7.0 TLS not available due to temporary reason"),

    [REPLY_UNKNOWN_COMMAND] = LINE("500 5.5.2 Command not recognized"),
    [REPLY_LINE_TOO_LONG] = LINE("500 5.5.2 Line too long"),
    [REPLY_BARE_NEWLINE_COMMAND] = LINE("500 5.5.2 Command lines end with <CR><LF>"),
    [REPLY_BAD_OCTETS] = LINE("500 5.5.2 NUL, CR or LF inside a command"),
    [REPLY_BAD_ARGUMENT] = LINE("501 5.5.4 Syntax error in arguments"),
    [REPLY_BAD_REVERSE_PATH] = LINE("501 5.1.7 Bad sender address syntax"),
    [REPLY_BAD_FORWARD_PATH] = LINE("501 5.1.3 Bad recipient address syntax"),
    [REPLY_NOT_OFFERED] = LINE("502 5.5.1 Command not implemented"),
    [REPLY_BAD_SEQUENCE] = LINE("503 5.5.1 Bad sequence of commands"),
    [REPLY_GREET_FIRST] = LINE("503 5.5.1 Send EHLO or HELO first"),
    [REPLY_NESTED_MAIL] = LINE("503 5.5.1 Sender already given"),
    [REPLY_NEED_MAIL] = LINE("503 5.5.1 Need MAIL first"),
    [REPLY_NEED_RECIPIENT] = LINE("503 5.5.1 Need RCPT first"),
    [REPLY_NO_VALID_RECIPIENTS] = LINE("554 5.5.1 No valid recipients"),
    [REPLY_NEED_BDAT] = LINE("503 5.5.1 A BINARYMIME message needs BDAT"),
    [REPLY_DATA_AFTER_BDAT] = LINE("503 5.5.1 Chunks under way: BDAT, RSET or QUIT"),
    [REPLY_TLS_ACTIVE] = LINE("503 5.5.1 TLS is active already"),
    [REPLY_TLS_FIRST] = LINE("530 5.7.0 Must issue a STARTTLS command first"),
    [REPLY_REQUIRETLS_IN_CLEAR] = LINE("530 5.7.0 REQUIRETLS needs TLS"),
    [REPLY_NO_SUCH_USER] = LINE("550 5.1.1 No such user here"),
    [REPLY_RELAY_DENIED] = LINE("550 5.7.1 Relaying denied"),
    [REPLY_ALIAS_LOOP] = LINE("550 5.4.6 Routing loop detected"),
    [REPLY_ALIAS_TOO_LONG] = LINE("550 5.2.4 Mailing list expansion problem"),
    [REPLY_BAD_SRS] = LINE("550 5.7.1 Return address forged or too old"),
    [REPLY_MESSAGE_TOO_BIG] = LINE("552 5.3.4 Message too big"),
    [REPLY_UTF8_ADDRESS] = LINE("553 5.6.7 Address needs SMTPUTF8"),
    [REPLY_EARLY_INPUT] = LINE("554 5.5.0 Wait for the reply: improper pipelining"),
    [REPLY_FOREIGN_PROTOCOL] = LINE("554 5.7.0 This is SMTP"),
    [REPLY_CLEAR_BEHIND_STARTTLS] = LINE("554 5.5.1 Wait for the reply to STARTTLS"),
    [REPLY_LOOP] = LINE("554 5.4.6 Too many hops, mail loop suspected"),
    [REPLY_UNKNOWN_PARAMETER] = LINE("555 5.5.4 Unknown parameter"),
    [REPLY_BARE_NEWLINE] = LINE("550 5.6.11 Bare <CR> or <LF> in message"),
};

struct bytes reply_line(enum reply reply)
{
    return lines[reply];
}

unsigned reply_code(enum reply reply)
{
    const uint8_t *digits = lines[reply].data;
    if (digits == NULL)
        return 0;
    return (unsigned)(digits[0] - '0') * 100 + (unsigned)(digits[1] - '0') * 10 +
           (unsigned)(digits[2] - '0');
}
