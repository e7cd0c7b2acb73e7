/* The arguments of XCLIENT: see xclient.h. */
#include "parser/xclient.h"

#include "parser/ip.h"
#include "parser/octet.h"

/* What XCLIENT_README names, in the order of its table. */
enum attribute { NAME, ADDR, PORT, PROTO, HELO, LOGIN, DESTADDR, DESTPORT, ATTRIBUTES };

static const struct bytes names[ATTRIBUTES] = {
    [NAME] = BYTES("NAME"),         [ADDR] = BYTES("ADDR"),         [PORT] = BYTES("PORT"),
    [PROTO] = BYTES("PROTO"),       [HELO] = BYTES("HELO"),         [LOGIN] = BYTES("LOGIN"),
    [DESTADDR] = BYTES("DESTADDR"), [DESTPORT] = BYTES("DESTPORT"),
};

static enum attribute attribute_of(struct bytes name)
{
    enum attribute attribute = NAME;
    while (attribute < ATTRIBUTES && !bytes_equal_nocase(name, names[attribute]))
        attribute++;
    return attribute;
}

static bool is_unknown(struct bytes value)
{
    return bytes_equal_nocase(value, BYTES("[UNAVAILABLE]")) ||
           bytes_equal_nocase(value, BYTES("[TEMPUNAVAIL]"));
}

/* decode_octet takes one octet of xtext (RFC 3461 4; its digits in either case) from the front of
 * *in. False: it is none. */
static bool decode_octet(struct bytes *in, uint8_t *out)
{
    size_t len = 1;
    *out = in->data[0];
    if (*out == '+') {
        unsigned high = in->len < 3 ? 16 : octet_hex_value(in->data[1]);
        unsigned low = in->len < 3 ? 16 : octet_hex_value(in->data[2]);
        if (high > 15 || low > 15)
            return false;
        *out = (uint8_t)(high << 4 | low);
        len = 3;
    }
    *in = bytes_skip(*in, len);
    return true;
}

/* decode_text reads xtext. Names are for log lines and Received fields: as in EHLO there is neither
 * space nor control in them, encoded or not. A login may have spaces. */
static bool decode_text(struct bytes value, uint8_t least, struct xclient_text *out)
{
    size_t len = 0;
    if (is_unknown(value)) {
        out->state = XCLIENT_UNAVAILABLE;
        return true;
    }
    while (value.len > 0) {
        uint8_t octet;
        if (len == XCLIENT_VALUE_MAX || !decode_octet(&value, &octet) || octet < least ||
            octet == 127)
            return false;
        out->text[len++] = (char)octet;
    }
    out->len = (uint8_t)len;
    out->state = XCLIENT_GIVEN;
    return len > 0;
}

/* parse_address takes "192.0.2.1" and "IPV6:2001:db8::1"; a bare IPv6 address, too, as nginx says
 * it. */
static bool parse_address(struct bytes value, uint8_t *family, uint8_t *address)
{
    const struct bytes tag = BYTES("IPV6:");
    *family = 6;
    if (value.len > tag.len && bytes_equal_nocase(bytes_slice(value, 0, tag.len), tag))
        return ip_parse_v6(bytes_skip(value, tag.len), address);
    if (ip_parse_v6(value, address))
        return true;
    *family = 4;
    return ip_parse_v4(value, address);
}

static bool parse_value(enum attribute attribute, struct bytes value, struct xclient *out)
{
    uint8_t ignored_address[16], ignored_family;
    uint16_t ignored_port;
    bool known = !is_unknown(value);
    uint8_t state = known ? XCLIENT_GIVEN : XCLIENT_UNAVAILABLE;
    switch (attribute) {
    case NAME: return decode_text(value, '!', &out->name);
    case HELO: return decode_text(value, '!', &out->helo);
    case LOGIN: return decode_text(value, ' ', &out->login);
    case ADDR:
        out->address_state = state;
        return !known || parse_address(value, &out->family, out->address);
    case PORT: out->port_state = state; return !known || ip_parse_port(value, &out->port);
    case PROTO:
        out->proto_state = state;
        out->esmtp = bytes_equal_nocase(value, BYTES("ESMTP"));
        return !known || out->esmtp || bytes_equal_nocase(value, BYTES("SMTP"));
    case DESTADDR: return !known || parse_address(value, &ignored_family, ignored_address);
    case DESTPORT: return !known || ip_parse_port(value, &ignored_port);
    case ATTRIBUTES: break;
    }
    return false;
}

bool xclient_parse(struct bytes arguments, struct xclient *out)
{
    unsigned seen = 0;
    *out = (struct xclient){0};
    for (size_t end; arguments.len > 0; arguments = bytes_skip(arguments, end)) {
        end = bytes_find(arguments, ' ');
        if (end == 0) { /* spaces, more than one between two */
            end = 1;
            continue;
        }
        struct bytes word = bytes_slice(arguments, 0, end);
        size_t equals = bytes_find(word, '=');
        enum attribute attribute = attribute_of(bytes_slice(word, 0, equals));
        if (equals == end || attribute == ATTRIBUTES || (seen & 1u << attribute) ||
            !parse_value(attribute, bytes_skip(word, equals + 1), out))
            return false;
        seen |= 1u << attribute;
    }
    return seen != 0;
}
