/* One SMTP command line: the verb, known by its four letters as one number, then the rule of RFC
 * 5321 4.1.1 for its argument. The parameters of MAIL and RCPT are in command_parameters.c. */
#include "parser/command.h"

#include "parser/command_parameters.h"
#include "parser/octet.h"

static enum command_result parse_argument(bool utf8, bool lenient, struct command *out);
static enum command_result parse_client_name(const struct command *out);
static enum command_result parse_mail(bool lenient, struct command *out);
static enum command_result parse_rcpt(bool utf8, bool lenient, struct command *out);
static enum command_result parse_bdat(struct command *out);
static enum command_result parse_query(bool utf8, struct command *out);

#define LETTERS(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (d))

/* Bit 5 is the case of a letter, and only 'M' and 'm' become 'm' when it is set; the same holds for
 * every letter. */
static uint32_t four_letters(const uint8_t *data)
{
    return LETTERS(data[0], data[1], data[2], data[3]) | 0x20202020;
}

static enum verb verb_of_four(const uint8_t *data)
{
    switch (four_letters(data)) {
    case LETTERS('m', 'a', 'i', 'l'): return VERB_MAIL;
    case LETTERS('r', 'c', 'p', 't'): return VERB_RCPT;
    case LETTERS('d', 'a', 't', 'a'): return VERB_DATA;
    case LETTERS('b', 'd', 'a', 't'): return VERB_BDAT;
    case LETTERS('e', 'h', 'l', 'o'): return VERB_EHLO;
    case LETTERS('h', 'e', 'l', 'o'): return VERB_HELO;
    case LETTERS('l', 'h', 'l', 'o'): return VERB_LHLO;
    case LETTERS('r', 's', 'e', 't'): return VERB_RSET;
    case LETTERS('n', 'o', 'o', 'p'): return VERB_NOOP;
    case LETTERS('v', 'r', 'f', 'y'): return VERB_VRFY;
    case LETTERS('e', 'x', 'p', 'n'): return VERB_EXPN;
    case LETTERS('h', 'e', 'l', 'p'): return VERB_HELP;
    case LETTERS('q', 'u', 'i', 't'): return VERB_QUIT;
    case LETTERS('a', 'u', 't', 'h'): return VERB_AUTH;
    case LETTERS('p', 'o', 's', 't'):
    case LETTERS('h', 'e', 'a', 'd'): return VERB_FOREIGN;
    default: return VERB_UNKNOWN;
    }
}

static enum verb verb_of_name(struct bytes name)
{
    static const struct {
        const char *name;
        enum verb verb;
    } others[] = {
        {"starttls", VERB_STARTTLS},
        {"xclient",  VERB_XCLIENT },
        {"proxy",    VERB_PROXY   },
        {"get",      VERB_FOREIGN },
        {"put",      VERB_FOREIGN },
        {"options",  VERB_FOREIGN },
        {"connect",  VERB_FOREIGN },
        {"delete",   VERB_FOREIGN },
        {"patch",    VERB_FOREIGN },
        {"trace",    VERB_FOREIGN },
        {"pri",      VERB_FOREIGN },
    };
    if (name.len == 4)
        return verb_of_four(name.data);
    if (name.len == 1 && name.data[0] == '\0') /* of the first lines of version 2 of PROXY */
        return VERB_PROXY;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        if (bytes_equal_nocase(name, bytes_of_string(others[i].name)))
            return others[i].verb;
    return VERB_UNKNOWN;
}

const char *command_verb_name(enum verb verb)
{
    static const char *const names[VERB_COUNT] = {
        [VERB_UNKNOWN] = "?",    [VERB_HELO] = "HELO",       [VERB_EHLO] = "EHLO",
        [VERB_LHLO] = "LHLO",    [VERB_MAIL] = "MAIL",       [VERB_RCPT] = "RCPT",
        [VERB_DATA] = "DATA",    [VERB_BDAT] = "BDAT",       [VERB_RSET] = "RSET",
        [VERB_NOOP] = "NOOP",    [VERB_VRFY] = "VRFY",       [VERB_EXPN] = "EXPN",
        [VERB_HELP] = "HELP",    [VERB_QUIT] = "QUIT",       [VERB_STARTTLS] = "STARTTLS",
        [VERB_AUTH] = "AUTH",    [VERB_XCLIENT] = "XCLIENT", [VERB_PROXY] = "PROXY",
        [VERB_FOREIGN] = "HTTP",
    };
    return (unsigned)verb < VERB_COUNT ? names[verb] : "?";
}

/* One octet in each place of a word. */
#define EVERY(octet) ((octet)*UINT64_C(0x0101010101010101))

/* Not zero exactly when an octet of `word` is zero: subtracting borrows from its high bit first
 * there. */
static uint64_t has_zero(uint64_t word)
{
    return (word - EVERY(1)) & ~word & EVERY(0x80);
}

static uint64_t has_bad(uint64_t word)
{
    return has_zero(word) | has_zero(word ^ EVERY('\r')) | has_zero(word ^ EVERY('\n'));
}

/* NUL, CR or LF, eight octets a step; the last step may look at some of them twice. */
static bool has_bad_octet(struct bytes line)
{
    uint64_t word;
    uint64_t bad = 0;
    if (line.len < sizeof(word)) {
        for (size_t i = 0; i < line.len; i++)
            bad |= has_bad(EVERY(line.data[i]));
        return bad != 0;
    }
    for (size_t at = 0; at < line.len - sizeof(word); at += sizeof(word)) {
        memcpy(&word, line.data + at, sizeof(word));
        bad |= has_bad(word);
    }
    memcpy(&word, line.data + line.len - sizeof(word), sizeof(word));
    return (bad | has_bad(word)) != 0;
}

static struct bytes without_space_at_end(struct bytes in)
{
    while (in.len > 0 && octet_is_space(in.data[in.len - 1]))
        in.len--;
    return in;
}

static struct bytes without_space_at_front(struct bytes in)
{
    size_t at = 0;
    while (at < in.len && octet_is_space(in.data[at]))
        at++;
    return bytes_skip(in, at);
}

/* Member by member: for the whole struct at once gcc makes "rep stos", a third of the time that a
 * short command takes. The unit test parses into dirty memory. */
static void clear(struct command *out)
{
    const struct bytes nothing = {0};
    out->verb = VERB_UNKNOWN;
    out->name = nothing;
    out->argument = nothing;
    out->address = (struct address){0};
    out->has_size = false;
    out->last = false;
    out->smtputf8 = false;
    out->requiretls = false;
    out->has_notify = false;
    out->body = COMMAND_BODY_7BIT;
    out->ret = COMMAND_RET_NONE;
    out->notify = 0;
    out->asks = 0;
    out->by_return = false;
    out->by_trace = false;
    out->priority = 0;
    out->by_s = 0;
    out->hold_s = 0;
    out->hold_until_s = 0;
    out->size = 0;
    out->envid = nothing;
    out->orcpt = nothing;
    out->auth = nothing;
}

enum command_result command_parse(struct bytes line, bool utf8, bool lenient, struct command *out)
{
    size_t name_len = 0;
    while (name_len < line.len && !octet_is_space(line.data[name_len]))
        name_len++;
    struct bytes name = bytes_slice(line, 0, name_len);
    struct bytes rest = bytes_slice(line, name_len, line.len);
    clear(out);
    out->verb = verb_of_name(name);
    out->name = name;
    out->argument = without_space_at_end(without_space_at_front(rest));
    if (has_bad_octet(line) && out->verb != VERB_PROXY)
        return COMMAND_BAD_OCTETS;
    return parse_argument(utf8, lenient, out);
}

static enum command_result parse_argument(bool utf8, bool lenient, struct command *out)
{
    switch (out->verb) {
    case VERB_MAIL: return parse_mail(lenient, out);
    case VERB_RCPT: return parse_rcpt(utf8, lenient, out);
    case VERB_BDAT: return parse_bdat(out);
    case VERB_HELO:
    case VERB_EHLO:
    case VERB_LHLO: return parse_client_name(out);
    case VERB_VRFY:
    case VERB_EXPN: return parse_query(utf8, out);
    case VERB_DATA:
    case VERB_RSET:
    case VERB_QUIT:
    case VERB_STARTTLS: return out->argument.len == 0 ? COMMAND_OK : COMMAND_SYNTAX;
    case VERB_NOOP:
    case VERB_HELP:
    case VERB_AUTH:
    case VERB_XCLIENT:
    case VERB_PROXY:
    case VERB_FOREIGN: return COMMAND_OK;
    case VERB_UNKNOWN:
    case VERB_COUNT: break;
    }
    return COMMAND_UNKNOWN;
}

/* Takes `keyword` ("FROM:", "TO:") and, if `lenient`, the spaces that many senders put behind it;
 * the path must follow in *path. */
static bool take_keyword(struct bytes argument, struct bytes keyword, bool lenient,
                         struct bytes *path)
{
    if (argument.len <= keyword.len ||
        !bytes_equal_nocase(bytes_slice(argument, 0, keyword.len), keyword))
        return false;
    *path = bytes_skip(argument, keyword.len);
    if (lenient)
        *path = without_space_at_front(*path);
    return path->len > 0 && (path->data[0] == '<' || lenient);
}

typedef enum address_result path_parser(struct bytes in, bool allow_utf8, struct address *out,
                                        size_t *used);

/* A path as `parse` takes it, or, when it does not begin with a bracket, a mailbox that ends at the
 * next space: senders that forget the brackets are as old as SMTP, and nothing else can be meant.
 */
static enum address_result take_path(struct bytes in, path_parser *parse, bool utf8, bool lenient,
                                     struct address *out, size_t *used)
{
    enum address_result result;
    if (in.data[0] == '<') {
        result = parse(in, utf8, out, used);
    } else {
        *used = bytes_find(in, ' ');
        result = address_mailbox(bytes_slice(in, 0, *used), utf8, out);
    }
    return result == ADDRESS_LONG_LOCAL && lenient ? ADDRESS_OK : result;
}

static enum command_result result_of_address(enum address_result result)
{
    switch (result) {
    case ADDRESS_OK: return COMMAND_OK;
    case ADDRESS_LONG_LOCAL:
    case ADDRESS_TOO_LONG: return COMMAND_LONG_ADDRESS;
    case ADDRESS_UTF8: return COMMAND_UTF8_ADDRESS;
    case ADDRESS_BAD: break;
    }
    return COMMAND_BAD_ADDRESS;
}

/* RFC 5321 4.1.1.2. Whether UTF-8 was allowed is known only after the address, from a parameter: an
 * address that needs it, which is rare, is read a second time. */
static enum command_result parse_mail(bool lenient, struct command *out)
{
    struct bytes path;
    if (!take_keyword(out->argument, BYTES("FROM:"), lenient, &path))
        return COMMAND_SYNTAX;
    size_t used;
    enum address_result result =
        take_path(path, address_reverse_path, false, lenient, &out->address, &used);
    bool needs_utf8 = result == ADDRESS_UTF8;
    bool may_need = result == ADDRESS_TOO_LONG;
    if (needs_utf8 || may_need)
        result = take_path(path, address_reverse_path, true, lenient, &out->address, &used);
    needs_utf8 |= may_need && out->address.utf8;
    if (result != ADDRESS_OK)
        return result_of_address(result);
    enum command_result parameters = command_parameters(bytes_skip(path, used), out);
    if (parameters != COMMAND_OK)
        return parameters;
    return needs_utf8 && !out->smtputf8 ? COMMAND_UTF8_ADDRESS : COMMAND_OK;
}

/* RFC 5321 4.1.1.3. ORCPT is an address, too: of all parameters only it may hold UTF-8 (RFC 6533
 * 3). */
static enum command_result parse_rcpt(bool utf8, bool lenient, struct command *out)
{
    struct bytes path;
    if (!take_keyword(out->argument, BYTES("TO:"), lenient, &path))
        return COMMAND_SYNTAX;
    size_t used;
    enum address_result result =
        take_path(path, address_forward_path, utf8, lenient, &out->address, &used);
    if (result != ADDRESS_OK)
        return result_of_address(result);
    enum command_result parameters = command_parameters(bytes_skip(path, used), out);
    if (parameters != COMMAND_OK || utf8)
        return parameters;
    for (size_t i = 0; i < out->orcpt.len; i++)
        if (out->orcpt.data[i] >= 0x80)
            return COMMAND_UTF8_ADDRESS;
    return COMMAND_OK;
}

/* HELO, EHLO, LHLO (RFC 5321 4.1.1.1). Real clients send names that are no domains; only what could
 * break a log line or a Received field is refused here. */
static enum command_result parse_client_name(const struct command *out)
{
    for (size_t i = 0; i < out->argument.len; i++)
        if (out->argument.data[i] <= ' ' || out->argument.data[i] == 127)
            return COMMAND_SYNTAX;
    return out->argument.len == 0 ? COMMAND_SYNTAX : COMMAND_OK;
}

/* BDAT SP chunk-size [ SP "LAST" ] (RFC 3030 2) */
static enum command_result parse_bdat(struct command *out)
{
    size_t digit_count = 0;
    while (digit_count < out->argument.len && octet_is_digit(out->argument.data[digit_count]))
        digit_count++;
    if (!command_number(bytes_slice(out->argument, 0, digit_count), &out->size))
        return COMMAND_SYNTAX;
    out->has_size = true;
    struct bytes rest = bytes_skip(out->argument, digit_count);
    struct bytes marker = without_space_at_front(rest);
    if (marker.len == 0)
        return COMMAND_OK;
    if (marker.len == rest.len || !bytes_equal_nocase(marker, BYTES("LAST")))
        return COMMAND_SYNTAX;
    out->last = true;
    return COMMAND_OK;
}

/* VRFY and EXPN take any string (RFC 5321 4.1.1.6, 4.1.1.7), and SMTPUTF8 behind it (RFC
 * 6531 3.7.4.2). */
static enum command_result parse_query(bool utf8, struct command *out)
{
    const struct bytes keyword = BYTES("SMTPUTF8");
    struct bytes text = out->argument;
    if (text.len == 0)
        return COMMAND_SYNTAX;
    if (text.len > keyword.len) {
        size_t before = text.len - keyword.len;
        out->smtputf8 = octet_is_space(text.data[before - 1]) &&
                        bytes_equal_nocase(bytes_skip(text, before), keyword);
    }
    bool needs_utf8 = false;
    for (size_t at = 0; at < text.len; at++) {
        if (text.data[at] < 0x80)
            continue;
        size_t len = octet_utf8_len(bytes_skip(text, at));
        if (len == 0)
            return COMMAND_SYNTAX;
        needs_utf8 = true;
        at += len - 1;
    }
    return needs_utf8 && !utf8 && !out->smtputf8 ? COMMAND_UTF8_ADDRESS : COMMAND_OK;
}
