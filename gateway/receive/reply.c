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
    [REPLY_NOT_READY] = LINE("421 4.3.2 Not ready for mail, try again later"),
    [REPLY_TOO_MANY_CONNECTIONS] = LINE("421 4.3.2 Too many connections, try again later"),
    [REPLY_TOO_MANY_FROM_ADDRESS] = LINE("421 4.7.0 Too many connections from your address"),
    [REPLY_TOO_MANY_FROM_NETWORK] = LINE("421 4.7.0 Too many connections from your network"),
    [REPLY_CONNECTS_TOO_OFTEN] = LINE("421 4.7.0 Your address connects too often"),
    [REPLY_NETWORK_CONNECTS_TOO_OFTEN] = LINE("421 4.7.0 Your network connects too often"),
    [REPLY_TOO_MANY_ERRORS] = LINE("421 4.7.0 Too many errors"),
    [REPLY_TIMED_OUT] = LINE("421 4.4.2 Timed out"),
    [REPLY_TOO_SLOW] = LINE("421 4.4.2 Too slow"),
    [REPLY_NO_MEMORY] = LINE("452 4.3.1 Short of memory, try again later"),
    [REPLY_SPOOL_BROKEN] = LINE("451 4.3.0 Storage error, try again later"),
    [REPLY_SPOOL_FULL] = LINE("452 4.3.1 Insufficient storage, try again later"),
    [REPLY_QUEUE_FULL] = LINE("452 4.3.1 Queue full, try again later"),
    [REPLY_TOO_MANY_MESSAGES] = LINE("450 4.7.1 Too many messages from your address"),
    [REPLY_TOO_MANY_MESSAGES_FROM_NETWORK] = LINE("450 4.7.1 Too many messages from your network"),
    [REPLY_GREYLISTED] = LINE("451 4.7.1 Greylisted, try again later"),
    [REPLY_TOO_MANY_RECIPIENTS] = LINE("452 4.5.3 Too many recipients"),
    [REPLY_OTHER_DESTINATION] = LINE("452 4.5.3 Send this recipient in another transaction"),
    [REPLY_SRS_LATER] = LINE("451 4.7.1 Too many forged return addresses, try again later"),
    [REPLY_TLS_UNAVAILABLE] = LINE("454 4.7.0 TLS not available due to temporary reason"),
    [REPLY_TOO_MANY_HANDSHAKES] = LINE("454 4.7.0 Too many TLS handshakes, try again later"),

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
    [REPLY_FOREIGN_PROXY] = LINE("554 5.5.0 No PROXY header is taken from you"),
    [REPLY_EARLY_TALKER] = LINE("554 5.5.1 Wait for the greeting"),
    [REPLY_CLEAR_BEHIND_STARTTLS] = LINE("554 5.5.1 Wait for the reply to STARTTLS"),
    [REPLY_LOOP] = LINE("554 5.4.6 Too many hops, mail loop suspected"),
    [REPLY_UNKNOWN_PARAMETER] = LINE("555 5.5.4 Unknown parameter"),
    [REPLY_BARE_NEWLINE] = LINE("550 5.6.11 Bare <CR> or <LF> in message"),
};

/* Told to the world by docs/metrics.md: a name stays what it is. */
static const char *const names[REPLY_COUNT] = {
    [REPLY_NONE] = "none",
    [REPLY_START_TLS] = "start_tls",
    [REPLY_OK] = "ok",
    [REPLY_SENDER_OK] = "sender_ok",
    [REPLY_RECIPIENT_OK] = "recipient_ok",
    [REPLY_RESET] = "reset",
    [REPLY_START_DATA] = "start_data",
    [REPLY_BYE] = "bye",
    [REPLY_HELP] = "help",
    [REPLY_CANNOT_VERIFY] = "cannot_verify",
    [REPLY_SHUTTING_DOWN] = "shutting_down",
    [REPLY_NOT_READY] = "not_ready",
    [REPLY_TOO_MANY_CONNECTIONS] = "too_many_connections",
    [REPLY_TOO_MANY_FROM_ADDRESS] = "too_many_from_address",
    [REPLY_TOO_MANY_FROM_NETWORK] = "too_many_from_network",
    [REPLY_CONNECTS_TOO_OFTEN] = "connects_too_often",
    [REPLY_NETWORK_CONNECTS_TOO_OFTEN] = "network_connects_too_often",
    [REPLY_TOO_MANY_ERRORS] = "too_many_errors",
    [REPLY_TIMED_OUT] = "timed_out",
    [REPLY_TOO_SLOW] = "too_slow",
    [REPLY_NO_MEMORY] = "no_memory",
    [REPLY_SPOOL_BROKEN] = "spool_broken",
    [REPLY_SPOOL_FULL] = "spool_full",
    [REPLY_QUEUE_FULL] = "queue_full",
    [REPLY_TOO_MANY_MESSAGES] = "too_many_messages",
    [REPLY_TOO_MANY_MESSAGES_FROM_NETWORK] = "too_many_messages_from_network",
    [REPLY_GREYLISTED] = "greylisted",
    [REPLY_TOO_MANY_RECIPIENTS] = "too_many_recipients",
    [REPLY_OTHER_DESTINATION] = "other_destination",
    [REPLY_TLS_UNAVAILABLE] = "tls_unavailable",
    [REPLY_TOO_MANY_HANDSHAKES] = "too_many_handshakes",
    [REPLY_SRS_LATER] = "srs_later",
    [REPLY_UNKNOWN_COMMAND] = "unknown_command",
    [REPLY_LINE_TOO_LONG] = "line_too_long",
    [REPLY_BARE_NEWLINE_COMMAND] = "bare_newline_command",
    [REPLY_BAD_OCTETS] = "bad_octets",
    [REPLY_BAD_ARGUMENT] = "bad_argument",
    [REPLY_BAD_REVERSE_PATH] = "bad_reverse_path",
    [REPLY_BAD_FORWARD_PATH] = "bad_forward_path",
    [REPLY_NOT_OFFERED] = "not_offered",
    [REPLY_BAD_SEQUENCE] = "bad_sequence",
    [REPLY_GREET_FIRST] = "greet_first",
    [REPLY_NESTED_MAIL] = "nested_mail",
    [REPLY_NEED_MAIL] = "need_mail",
    [REPLY_NEED_RECIPIENT] = "need_recipient",
    [REPLY_NO_VALID_RECIPIENTS] = "no_valid_recipients",
    [REPLY_NEED_BDAT] = "need_bdat",
    [REPLY_DATA_AFTER_BDAT] = "data_after_bdat",
    [REPLY_TLS_ACTIVE] = "tls_active",
    [REPLY_TLS_FIRST] = "tls_first",
    [REPLY_REQUIRETLS_IN_CLEAR] = "requiretls_in_clear",
    [REPLY_NO_SUCH_USER] = "no_such_user",
    [REPLY_RELAY_DENIED] = "relay_denied",
    [REPLY_ALIAS_LOOP] = "alias_loop",
    [REPLY_ALIAS_TOO_LONG] = "alias_too_long",
    [REPLY_BAD_SRS] = "bad_srs",
    [REPLY_MESSAGE_TOO_BIG] = "message_too_big",
    [REPLY_UTF8_ADDRESS] = "utf8_address",
    [REPLY_EARLY_INPUT] = "early_input",
    [REPLY_FOREIGN_PROTOCOL] = "foreign_protocol",
    [REPLY_FOREIGN_PROXY] = "foreign_proxy",
    [REPLY_EARLY_TALKER] = "early_talker",
    [REPLY_CLEAR_BEHIND_STARTTLS] = "clear_behind_starttls",
    [REPLY_LOOP] = "loop",
    [REPLY_UNKNOWN_PARAMETER] = "unknown_parameter",
    [REPLY_BARE_NEWLINE] = "bare_newline",
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

const char *reply_name(enum reply reply)
{
    return names[reply];
}
