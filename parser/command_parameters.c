/* One row per parameter says which command it belongs to, where its "seen" bit is, and which
 * function reads its value. A value is a slice of the line; only what the extension's RFC allows
 * gets into the command. */
#include "parser/command_parameters.h"

#include "parser/date_time.h"
#include "parser/octet.h"

enum {
    NUMBER_LEN_MAX = 20, /* RFC 1870 5 */
    ENVID_LEN_MAX = 100, /* RFC 3461 4.4 */
    ORCPT_LEN_MAX = 500, /* RFC 3461 4.2 */
    AUTH_LEN_MAX = 500,  /* RFC 4954 3 (6): what the command line grows by */
    EMBEDDED_DIGITS_MAX = 6,
    SECONDS_DIGITS_MAX = 9, /* RFC 2852 4, RFC 4865 4 */
};

static bool read_size(struct bytes value, struct command *out);
static bool read_body(struct bytes value, struct command *out);
static bool read_smtputf8(struct bytes value, struct command *out);
static bool read_requiretls(struct bytes value, struct command *out);
static bool read_ret(struct bytes value, struct command *out);
static bool read_envid(struct bytes value, struct command *out);
static bool read_auth(struct bytes value, struct command *out);
static bool read_hold_for(struct bytes value, struct command *out);
static bool read_hold_until(struct bytes value, struct command *out);
static bool read_by(struct bytes value, struct command *out);
static bool read_priority(struct bytes value, struct command *out);
static bool read_notify(struct bytes value, struct command *out);
static bool read_orcpt(struct bytes value, struct command *out);

/* `take` gets an empty value when there was no "=", and returns false when the value is not
 * allowed. */
struct parameter {
    struct bytes keyword;
    enum verb verb;
    bool (*take)(struct bytes value, struct command *out);
};

static const struct parameter parameters[] = {
    {BYTES("SIZE"),        VERB_MAIL, read_size      },
    {BYTES("BODY"),        VERB_MAIL, read_body      },
    {BYTES("SMTPUTF8"),    VERB_MAIL, read_smtputf8  },
    {BYTES("REQUIRETLS"),  VERB_MAIL, read_requiretls},
    {BYTES("RET"),         VERB_MAIL, read_ret       },
    {BYTES("ENVID"),       VERB_MAIL, read_envid     },
    {BYTES("AUTH"),        VERB_MAIL, read_auth      },
    {BYTES("HOLDFOR"),     VERB_MAIL, read_hold_for  },
    {BYTES("HOLDUNTIL"),   VERB_MAIL, read_hold_until},
    {BYTES("BY"),          VERB_MAIL, read_by        },
    {BYTES("MT-PRIORITY"), VERB_MAIL, read_priority  },
    {BYTES("NOTIFY"),      VERB_RCPT, read_notify    },
    {BYTES("ORCPT"),       VERB_RCPT, read_orcpt     },
};
enum { PARAMETER_COUNT = sizeof(parameters) / sizeof(parameters[0]) };

/* esmtp-param = esmtp-keyword ["=" esmtp-value], all of `text` */
static bool split(struct bytes text, struct bytes *keyword, struct bytes *value)
{
    *keyword = bytes_slice(text, 0, bytes_find(text, '='));
    *value = bytes_skip(text, keyword->len + 1);
    if (keyword->len == 0 || !octet_is(keyword->data[0], OCTET_LET_DIG))
        return false;
    for (size_t i = 0; i < keyword->len; i++)
        if (!octet_is(keyword->data[i], OCTET_LDH))
            return false;
    for (size_t i = 0; i < value->len; i++) {
        if (octet_is(value->data[i], OCTET_VALUE))
            continue;
        size_t len = octet_utf8_len(bytes_skip(*value, i)); /* RFC 6531 3.3 */
        if (len == 0)
            return false;
        i += len - 1;
    }
    return value->len > 0 || keyword->len == text.len;
}

static const struct parameter *find(struct bytes keyword, enum verb verb)
{
    for (size_t i = 0; i < PARAMETER_COUNT; i++)
        if (parameters[i].verb == verb && bytes_equal_nocase(keyword, parameters[i].keyword))
            return &parameters[i];
    return NULL;
}

enum command_result command_parameters(struct bytes text, struct command *out)
{
    unsigned seen = 0;
    while (text.len > 0) {
        size_t start = 0;
        while (start < text.len && text.data[start] == ' ')
            start++;
        struct bytes rest = bytes_skip(text, start);
        struct bytes keyword, value;
        struct bytes one = bytes_slice(rest, 0, bytes_find(rest, ' '));
        if (start == 0 || !split(one, &keyword, &value))
            return COMMAND_SYNTAX;
        const struct parameter *parameter = find(keyword, out->verb);
        if (parameter == NULL)
            return COMMAND_UNKNOWN_PARAMETER;
        unsigned bit = 1u << (parameter - parameters);
        if ((seen & bit) != 0 || !parameter->take(value, out))
            return COMMAND_BAD_PARAMETER;
        seen |= bit;
        text = bytes_skip(rest, one.len);
    }
    return COMMAND_OK;
}

bool command_number(struct bytes text, uint64_t *value)
{
    if (text.len == 0 || text.len > NUMBER_LEN_MAX)
        return false;
    uint64_t number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (!octet_is_digit(text.data[i]))
            return false;
        uint64_t digit = (uint64_t)text.data[i] - '0';
        number = number > (UINT64_MAX - digit) / 10 ? UINT64_MAX : number * 10 + digit;
    }
    *value = number;
    return true;
}

/* xtext (RFC 3461 4). What "+" and two digits stand for must be printable, as 4.2 and 4.4 ask: else
 * it could end a line of the delivery report that it is meant for. */
static bool is_xtext(struct bytes in)
{
    for (size_t i = 0; i < in.len; i++) {
        if (octet_is(in.data[i], OCTET_XCHAR))
            continue;
        if (in.data[i] != '+' || in.len - i < 3)
            return false;
        unsigned high = octet_hex_value(in.data[i + 1]);
        unsigned low = octet_hex_value(in.data[i + 2]);
        bool capitals = in.data[i + 1] <= 'F' && in.data[i + 2] <= 'F';
        unsigned decoded = high * 16 + low;
        if (!capitals || high > 15 || low > 15 || decoded < ' ' || decoded > '~')
            return false;
        i += 2;
    }
    return true;
}

/* Returns the length of the EmbeddedUnicodeChar "\x{...}" at the front of `in`, or 0 when there is
 * none of a printable character, written in 1 to 6 digits. */
static size_t embedded_len(struct bytes in)
{
    const struct bytes opening = BYTES("\\x{");
    if (in.len > opening.len + EMBEDDED_DIGITS_MAX + 1)
        in.len = opening.len + EMBEDDED_DIGITS_MAX + 1;
    size_t close = bytes_find(in, '}');
    if (close == in.len || close <= opening.len ||
        !bytes_equal(bytes_slice(in, 0, opening.len), opening))
        return 0;
    uint32_t code = 0;
    for (size_t i = opening.len; i < close; i++) {
        unsigned digit = octet_hex_value(in.data[i]);
        if (digit > 15)
            return 0;
        code = code * 16 + digit;
    }
    bool printable = code >= ' ' && code <= 0x10ffff && (code < 0x7f || code >= 0xa0);
    return printable && (code < 0xd800 || code > 0xdfff) ? close + 1 : 0;
}

/* utf-8-addr-xtext or utf-8-addr-unitext (RFC 6533 3): printable octets but for "\", "+" and "=",
 * with EmbeddedUnicodeChar and UTF-8; command.c sees to it that the latter comes only with
 * SMTPUTF8. */
static bool is_utf8_address(struct bytes in)
{
    size_t at = 0;
    while (at < in.len) {
        size_t len = 1;
        if (in.data[at] == '\\')
            len = embedded_len(bytes_skip(in, at));
        else if (!octet_is(in.data[at], OCTET_XCHAR))
            len = octet_utf8_len(bytes_skip(in, at));
        if (len == 0)
            return false;
        at += len;
    }
    return in.len > 0;
}

static bool read_size(struct bytes value, struct command *out)
{
    out->has_size = command_number(value, &out->size);
    return out->has_size;
}

static bool read_body(struct bytes value, struct command *out)
{
    if (bytes_equal_nocase(value, BYTES("8BITMIME")))
        out->body = COMMAND_BODY_8BITMIME;
    else if (bytes_equal_nocase(value, BYTES("BINARYMIME")))
        out->body = COMMAND_BODY_BINARYMIME;
    else
        return bytes_equal_nocase(value, BYTES("7BIT"));
    return true;
}

static bool read_smtputf8(struct bytes value, struct command *out)
{
    out->smtputf8 = value.len == 0;
    return out->smtputf8;
}

static bool read_requiretls(struct bytes value, struct command *out)
{
    out->requiretls = value.len == 0;
    return out->requiretls;
}

static bool read_ret(struct bytes value, struct command *out)
{
    if (bytes_equal_nocase(value, BYTES("FULL")))
        out->ret = COMMAND_RET_FULL;
    else if (bytes_equal_nocase(value, BYTES("HDRS")))
        out->ret = COMMAND_RET_HDRS;
    return out->ret != COMMAND_RET_NONE;
}

static bool read_envid(struct bytes value, struct command *out)
{
    out->envid = value;
    return value.len > 0 && value.len <= ENVID_LEN_MAX && is_xtext(value);
}

/* "<>" is xtext as it stands. */
static bool read_auth(struct bytes value, struct command *out)
{
    out->auth = value;
    return value.len > 0 && value.len <= AUTH_LEN_MAX && is_xtext(value);
}

/* A number of 1 to 9 digits, without a sign. */
static bool read_seconds(struct bytes value, uint32_t *seconds)
{
    uint64_t number;
    if (value.len > SECONDS_DIGITS_MAX || !command_number(value, &number))
        return false;
    *seconds = (uint32_t)number;
    return true;
}

/* future-release-integer (RFC 4865 4): above 0. Only one of HOLDFOR and HOLDUNTIL may be said. */
static bool read_hold_for(struct bytes value, struct command *out)
{
    bool twice = out->asks & COMMAND_ASKS_HOLD;
    out->asks |= COMMAND_ASKS_HOLD;
    return !twice && value.len > 0 && value.data[0] != '0' && read_seconds(value, &out->hold_s);
}

static bool read_hold_until(struct bytes value, struct command *out)
{
    bool twice = out->asks & COMMAND_ASKS_HOLD;
    out->asks |= COMMAND_ASKS_HOLD;
    return !twice && date_time_read(value, &out->hold_until_s);
}

/* by-value (RFC 2852 4): no time that is over with "R". */
static bool read_by(struct bytes value, struct command *out)
{
    out->asks |= COMMAND_ASKS_BY;
    size_t semicolon = bytes_find(value, ';');
    struct bytes time = bytes_slice(value, 0, semicolon);
    struct bytes mode = bytes_skip(value, semicolon + 1);
    bool minus = time.len > 0 && time.data[0] == '-';
    if (minus || (time.len > 0 && time.data[0] == '+'))
        time = bytes_skip(time, 1);
    uint32_t seconds;
    if (mode.len == 0 || mode.len > 2 || !read_seconds(time, &seconds))
        return false;
    out->by_s = minus ? -(int32_t)seconds : (int32_t)seconds;
    out->by_return = bytes_equal_nocase(bytes_slice(mode, 0, 1), BYTES("R"));
    out->by_trace = mode.len == 2;
    if (!out->by_return && !bytes_equal_nocase(bytes_slice(mode, 0, 1), BYTES("N")))
        return false;
    if (out->by_trace && !bytes_equal_nocase(bytes_skip(mode, 1), BYTES("T")))
        return false;
    return !out->by_return || out->by_s > 0;
}

/* priority-value (RFC 6710 4). */
static bool read_priority(struct bytes value, struct command *out)
{
    out->asks |= COMMAND_ASKS_PRIORITY;
    bool minus = value.len > 0 && value.data[0] == '-';
    if (minus)
        value = bytes_skip(value, 1);
    if (value.len != 1 || !octet_is_digit(value.data[0]) || (minus && value.data[0] == '0'))
        return false;
    int digit = value.data[0] - '0';
    out->priority = (int8_t)(minus ? -digit : digit);
    return true;
}

static unsigned notify_bit(struct bytes word)
{
    if (bytes_equal_nocase(word, BYTES("SUCCESS")))
        return COMMAND_NOTIFY_SUCCESS;
    if (bytes_equal_nocase(word, BYTES("FAILURE")))
        return COMMAND_NOTIFY_FAILURE;
    return bytes_equal_nocase(word, BYTES("DELAY")) ? COMMAND_NOTIFY_DELAY : 0;
}

/* "NEVER", alone, or a list of the others; a word that comes twice says nothing new (RFC 3461 4.1).
 */
static bool read_notify(struct bytes value, struct command *out)
{
    out->has_notify = true;
    if (bytes_equal_nocase(value, BYTES("NEVER"))) {
        out->notify = COMMAND_NOTIFY_NEVER;
        return true;
    }
    for (bool more = true; more;) {
        struct bytes word = bytes_slice(value, 0, bytes_find(value, ','));
        unsigned bit = notify_bit(word);
        if (bit == 0)
            return false;
        out->notify = (uint8_t)(out->notify | bit);
        more = word.len < value.len;
        value = bytes_skip(value, word.len + 1);
    }
    return true;
}

/* addr-type ";" and the address, encoded by its type; addr-type is an atom of RFC 822. */
static bool read_orcpt(struct bytes value, struct command *out)
{
    size_t semicolon = bytes_find(value, ';');
    if (semicolon == 0 || semicolon == value.len || value.len > ORCPT_LEN_MAX)
        return false;
    for (size_t i = 0; i < semicolon; i++)
        if (!octet_is(value.data[i], OCTET_ATEXT))
            return false;
    out->orcpt = value;
    struct bytes address = bytes_skip(value, semicolon + 1);
    if (bytes_equal_nocase(bytes_slice(value, 0, semicolon), BYTES("UTF-8")))
        return is_utf8_address(address);
    return is_xtext(address);
}
