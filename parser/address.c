/* The envelope's address grammar as a hand-written reader: one position that only moves forward,
 * one function per rule of RFC 5321 4.1.2 and 4.1.3, named after it. A rule returns false when the
 * input does not match; a limit that is passed, and UTF-8 that is met, are only noted, so that a
 * malformed address is always ADDRESS_BAD, whatever else may be said of it. */
#include "parser/address.h"

#include "parser/octet.h"

enum { LABEL_LEN_MAX = 63 }; /* RFC 1035 2.3.4 */

struct reader {
    const uint8_t *data;
    size_t len;
    size_t at;
    bool utf8;     /* octets above 127 were met */
    bool too_long; /* a limit was passed */
    bool long_local;
};

static struct reader reader_of(struct bytes in);
static bool take(struct reader *reader, uint8_t wanted);
static bool mailbox(struct reader *reader, struct address *out);
static bool source_route(struct reader *reader);
static bool domain_or_literal(struct reader *reader, struct address *out);
static enum address_result judge(const struct reader *reader, bool matches, bool allow_utf8);
static bool is_found(enum address_result result);

enum address_result address_mailbox(struct bytes in, bool allow_utf8, struct address *out)
{
    struct reader reader = reader_of(in);
    struct address found = {0};
    bool matches = mailbox(&reader, &found) && reader.at == reader.len;
    enum address_result result = judge(&reader, matches, allow_utf8);
    *out = is_found(result) ? found : (struct address){0};
    return result;
}

enum address_result address_path(struct bytes in, bool allow_utf8, struct address *out,
                                 size_t *used)
{
    struct reader reader = reader_of(in);
    struct address found = {0};
    bool matches = take(&reader, '<') && source_route(&reader) && mailbox(&reader, &found) &&
                   take(&reader, '>');
    enum address_result result = judge(&reader, matches, allow_utf8);
    *out = is_found(result) ? found : (struct address){0};
    *used = is_found(result) ? reader.at : 0;
    return result;
}

enum address_result address_reverse_path(struct bytes in, bool allow_utf8, struct address *out,
                                         size_t *used)
{
    if (in.len >= 2 && in.data[0] == '<' && in.data[1] == '>') {
        *out = (struct address){.text = bytes_slice(in, 1, 1)};
        *used = 2;
        return ADDRESS_OK;
    }
    return address_path(in, allow_utf8, out, used);
}

enum address_result address_forward_path(struct bytes in, bool allow_utf8, struct address *out,
                                         size_t *used)
{
    const struct bytes postmaster = BYTES("<postmaster>");
    if (in.len >= postmaster.len &&
        bytes_equal_nocase(bytes_slice(in, 0, postmaster.len), postmaster)) {
        struct bytes text = bytes_slice(in, 1, postmaster.len - 1);
        *out = (struct address){.text = text, .local = text};
        *used = postmaster.len;
        return ADDRESS_OK;
    }
    return address_path(in, allow_utf8, out, used);
}

enum address_result address_domain(struct bytes in, bool allow_utf8, enum address_domain_kind *kind)
{
    struct reader reader = reader_of(in);
    struct address found = {0};
    bool matches = domain_or_literal(&reader, &found) && reader.at == reader.len;
    enum address_result result = judge(&reader, matches, allow_utf8);
    *kind = result == ADDRESS_OK ? (enum address_domain_kind)found.domain_kind : ADDRESS_NO_DOMAIN;
    return result;
}

size_t address_local_unquoted(const struct address *address, uint8_t *out)
{
    struct bytes in = address->local;
    if (address->quoted)
        in = bytes_slice(in, 1, in.len - 1);
    size_t len = 0;
    for (size_t i = 0; i < in.len && len < ADDRESS_LOCAL_LEN_MAX; i++) {
        /* The grammar has an octet after every backslash inside quotes, and no backslash outside.
         */
        if (in.data[i] == '\\')
            i++;
        out[len++] = in.data[i];
    }
    return len;
}

static struct reader reader_of(struct bytes in)
{
    return (struct reader){.data = in.data, .len = in.len};
}

static enum address_result judge(const struct reader *reader, bool matches, bool allow_utf8)
{
    if (!matches)
        return ADDRESS_BAD;
    if (reader->too_long)
        return ADDRESS_TOO_LONG;
    if (reader->utf8 && !allow_utf8)
        return reader->long_local ? ADDRESS_TOO_LONG : ADDRESS_UTF8;
    return reader->long_local ? ADDRESS_LONG_LOCAL : ADDRESS_OK;
}

static bool is_found(enum address_result result)
{
    return result == ADDRESS_OK || result == ADDRESS_LONG_LOCAL;
}

static bool is_next(const struct reader *reader, uint8_t wanted)
{
    return reader->at < reader->len && reader->data[reader->at] == wanted;
}

static bool take(struct reader *reader, uint8_t wanted)
{
    if (!is_next(reader, wanted))
        return false;
    reader->at++;
    return true;
}

/* Takes a run of octets of `classes` and of UTF-8 characters, and returns its length in characters.
 * Broken UTF-8 ends it, too: no rule goes on with an octet above 127, so the address is refused
 * there. */
static size_t run(struct reader *reader, unsigned classes)
{
    const uint8_t *data = reader->data;
    size_t at = reader->at;
    size_t continuation_count = 0;
    for (;;) {
        while (at < reader->len && octet_is(data[at], classes))
            at++;
        if (at == reader->len || data[at] < 0x80)
            break;
        size_t len = octet_utf8_len(bytes_make(data + at, reader->len - at));
        if (len == 0)
            break;
        reader->utf8 = true;
        continuation_count += len - 1;
        at += len;
    }
    size_t character_count = at - reader->at - continuation_count;
    reader->at = at;
    return character_count;
}

/* Dot-string = Atom *("." Atom) */
static bool dot_string(struct reader *reader)
{
    do {
        if (run(reader, OCTET_ATEXT) == 0)
            return false;
    } while (take(reader, '.'));
    return true;
}

/* Quoted-string = DQUOTE *QcontentSMTP DQUOTE. A quoted pair escapes %d32-126 only, also by RFC
 * 6531. */
static bool quoted_string(struct reader *reader)
{
    if (!take(reader, '"'))
        return false;
    for (;;) {
        run(reader, OCTET_QTEXT);
        if (take(reader, '"'))
            return true;
        if (!take(reader, '\\') || reader->at == reader->len)
            return false;
        uint8_t escaped = reader->data[reader->at++];
        if (escaped < 32 || escaped > 126)
            return false;
    }
}

/* Domain = sub-domain *("." sub-domain); sub-domain = Let-dig [Ldh-str], or a U-label, whose length
 * is counted in characters: in octets it may be longer than the 63 of its A-label (RFC 5890 4.2).
 */
static bool domain_name(struct reader *reader)
{
    do {
        size_t start = reader->at;
        size_t character_count = run(reader, OCTET_LDH);
        if (character_count == 0 || reader->data[start] == '-' ||
            reader->data[reader->at - 1] == '-')
            return false;
        if (character_count > LABEL_LEN_MAX)
            reader->too_long = true;
    } while (take(reader, '.'));
    return true;
}

/* Snum 3("." Snum), all of `in`; Snum = 1*3DIGIT, 0 through 255 */
static bool is_ipv4(struct bytes in)
{
    size_t at = 0;
    for (unsigned i = 0; i < 4; i++) {
        if (i > 0 && (at == in.len || in.data[at++] != '.'))
            return false;
        unsigned value = 0;
        size_t start = at;
        for (; at < in.len && at - start < 3 && octet_is_digit(in.data[at]); at++)
            value = value * 10 + in.data[at] - '0';
        if (at == start || value > 255)
            return false;
    }
    return at == in.len;
}

/* IPv6-full, IPv6-comp, IPv6v4-full or IPv6v4-comp, all of `in`. "::" stands for two groups or
 * more, so beside it there are at most six, or four and an IPv4 tail, which has the weight of two.
 */
static bool is_ipv6(struct bytes in)
{
    unsigned group_count = 0;
    bool compressed = in.len >= 2 && in.data[0] == ':' && in.data[1] == ':';
    size_t at = compressed ? 2 : 0;
    bool complete = compressed && at == in.len;
    while (!complete && group_count < 8) {
        size_t start = at;
        while (at < in.len && at - start < 4 && octet_hex_value(in.data[at]) < 16)
            at++;
        if (at == start)
            return false;
        if (at < in.len && in.data[at] == '.') {
            if (!is_ipv4(bytes_slice(in, start, in.len)))
                return false;
            group_count += 2;
            complete = true;
            break;
        }
        group_count++;
        if (at == in.len) {
            complete = true;
            break;
        }
        if (in.data[at++] != ':' || at == in.len)
            return false;
        if (in.data[at] == ':') {
            if (compressed)
                return false;
            compressed = true;
            complete = ++at == in.len;
        }
    }
    return complete && (compressed ? group_count <= 6 : group_count == 8);
}

/* Standardized-tag ":" 1*dcontent, all of `in`; Standardized-tag = Ldh-str */
static bool is_general(struct bytes in)
{
    size_t colon = bytes_find(in, ':');
    if (colon == 0 || colon + 1 >= in.len || !octet_is(in.data[colon - 1], OCTET_LET_DIG))
        return false;
    for (size_t i = 0; i < colon; i++)
        if (!octet_is(in.data[i], OCTET_LDH))
            return false;
    for (size_t i = colon + 1; i < in.len; i++)
        if (!octet_is(in.data[i], OCTET_DCONTENT))
            return false;
    return true;
}

/* address-literal. What has the tag of IPv6 must be one: it is never a general literal. */
static bool address_literal(struct reader *reader, uint8_t *kind)
{
    const struct bytes tag = BYTES("IPv6:");
    if (!take(reader, '['))
        return false;
    struct bytes rest = bytes_make(reader->data + reader->at, reader->len - reader->at);
    struct bytes inside = bytes_slice(rest, 0, bytes_find(rest, ']'));
    reader->at += inside.len;
    if (!take(reader, ']'))
        return false;
    if (inside.len >= tag.len && bytes_equal_nocase(bytes_slice(inside, 0, tag.len), tag)) {
        *kind = ADDRESS_IPV6;
        return is_ipv6(bytes_skip(inside, tag.len));
    }
    *kind = is_ipv4(inside) ? ADDRESS_IPV4 : ADDRESS_GENERAL;
    return *kind == ADDRESS_IPV4 || is_general(inside);
}

/* Domain / address-literal */
static bool domain_or_literal(struct reader *reader, struct address *out)
{
    size_t start = reader->at;
    bool literal = is_next(reader, '[');
    out->domain_kind = ADDRESS_NAME;
    if (literal ? !address_literal(reader, &out->domain_kind) : !domain_name(reader))
        return false;
    out->domain = bytes_make(reader->data + start, reader->at - start);
    if (out->domain.len > ADDRESS_DOMAIN_LEN_MAX)
        reader->too_long = true;
    return true;
}

/* Mailbox = Local-part "@" ( Domain / address-literal ) */
static bool mailbox(struct reader *reader, struct address *out)
{
    size_t start = reader->at;
    bool route_utf8 = reader->utf8;
    reader->utf8 = false;
    out->quoted = is_next(reader, '"');
    if (out->quoted ? !quoted_string(reader) : !dot_string(reader))
        return false;
    out->local = bytes_make(reader->data + start, reader->at - start);
    if (!take(reader, '@') || !domain_or_literal(reader, out))
        return false;
    out->text = bytes_make(reader->data + start, reader->at - start);
    if (out->local.len > ADDRESS_LOCAL_LEN_MAX || out->text.len > ADDRESS_LEN_MAX)
        reader->too_long = true;
    reader->long_local = out->local.len > ADDRESS_LOCAL_LEN_USUAL;
    out->utf8 = reader->utf8;
    reader->utf8 |= route_utf8;
    return true;
}

/* [ A-d-l ":" ]; A-d-l = At-domain *( "," At-domain ). Also true when there is none. */
static bool source_route(struct reader *reader)
{
    if (!is_next(reader, '@'))
        return true;
    do {
        size_t start = reader->at;
        if (!take(reader, '@') || !domain_name(reader))
            return false;
        if (reader->at - start - 1 > ADDRESS_DOMAIN_LEN_MAX)
            reader->too_long = true;
    } while (take(reader, ','));
    return take(reader, ':');
}
