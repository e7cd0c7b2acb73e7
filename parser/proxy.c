/* The PROXY header: see proxy.h. Numbers of sections are those of HAProxy's proxy-protocol.txt.
 * What can't become a header any more is mostly seen before its end, so that nobody waits for the
 * rest of it. */
#include "parser/proxy.h"

#include "parser/ip.h"

enum {
    V2_FRONT = 16, /* signature, version and command, family and protocol, length (section 2.2) */
    V2_INET = 12,
    V2_INET6 = 36,
    V2_UNIX = 216,
    COMMAND_LOCAL = 0,
    COMMAND_PROXY = 1,
    FAMILY_UNSPEC = 0,
    FAMILY_INET = 1,
    FAMILY_INET6 = 2,
    FAMILY_UNIX = 3,
    TRANSPORT_STREAM = 1,
    TRANSPORT_DATAGRAM = 2,
};

/* Types of TLVs (section 2.2). */
enum {
    TLV_FRONT = 3, /* type and length */
    TLV_AUTHORITY = 0x02,
    TLV_CRC32C = 0x03,
    TLV_UNIQUE_ID = 0x05,
    TLV_SSL = 0x20,
    SSL_FRONT = 5, /* client and verify */
    SSL_VERSION = 0x21,
    SSL_NAME = 0x22,
    SSL_CIPHER = 0x23,
    SSL_CLIENT_TLS = 0x01,         /* PP2_CLIENT_SSL */
    SSL_CLIENT_CERTIFICATE = 0x06, /* PP2_CLIENT_CERT_CONN or PP2_CLIENT_CERT_SESS */
};

#define V1_FRONT     BYTES("PROXY ")
#define V2_SIGNATURE BYTES("\r\n\r\n\0\r\nQUIT\n")

/* fits: as far as there is any of it, `in` begins with `front`. */
static bool fits(struct bytes in, struct bytes front)
{
    size_t len = in.len < front.len ? in.len : front.len;
    return len == 0 || memcmp(in.data, front.data, len) == 0;
}

bool proxy_begins(struct bytes in)
{
    return (in.len >= V1_FRONT.len && fits(in, V1_FRONT)) ||
           (in.len >= V2_SIGNATURE.len && fits(in, V2_SIGNATURE));
}

/* --- version 1 (section 2.1) --- */

/* take_word takes what stands before the next space, or all there is, and the space. */
static struct bytes take_word(struct bytes *in)
{
    size_t len = bytes_find(*in, ' ');
    struct bytes word = bytes_slice(*in, 0, len);
    *in = bytes_skip(*in, len + 1);
    return word;
}

typedef bool address_parser(struct bytes in, uint8_t *out);

/* parse_v1_line reads a line without its CR LF. Exactly one space stands between two words, and
 * none behind the last. */
static bool parse_v1_line(struct bytes line, struct proxy *out)
{
    struct bytes rest = bytes_skip(line, V1_FRONT.len);
    struct bytes protocol = take_word(&rest);
    if (bytes_equal(protocol, BYTES("UNKNOWN")))
        return true; /* what stands behind it is to be ignored */
    bool v6 = bytes_equal(protocol, BYTES("TCP6"));
    if (!v6 && !bytes_equal(protocol, BYTES("TCP4")))
        return false;
    address_parser *parse = v6 ? ip_parse_v6 : ip_parse_v4;
    out->family = v6 ? PROXY_V6 : PROXY_V4;
    return parse(take_word(&rest), out->source) && parse(take_word(&rest), out->target) &&
           ip_parse_port(take_word(&rest), &out->source_port) &&
           ip_parse_port(rest, &out->target_port);
}

static enum proxy_result parse_v1(struct bytes in, struct proxy *out)
{
    size_t end = bytes_find(in, '\r');
    if (end + 2 > PROXY_V1_MAX || bytes_find(in, '\n') < end)
        return PROXY_BAD;
    if (end + 1 >= in.len)
        return PROXY_MORE;
    if (in.data[end + 1] != '\n' || !parse_v1_line(bytes_slice(in, 0, end), out))
        return PROXY_BAD;
    out->version = 1;
    out->len = end + 2;
    return PROXY_OK;
}

/* --- version 2 (section 2.2) --- */

static uint16_t number_16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t number_32(const uint8_t *at)
{
    return (uint32_t)number_16(at) << 16 | number_16(at + 2);
}

/* crc32c goes over some octets (RFC 3720 B.4), bit by bit: few headers bring one. */
static uint32_t crc32c(uint32_t crc, struct bytes in)
{
    for (size_t i = 0; i < in.len; i++) {
        crc ^= in.data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
    }
    return crc;
}

/* checks_out compares a CRC32C TLV with the whole header, in which its own value counts as zero
 * (section 2.2.3). */
static bool checks_out(struct bytes header, struct bytes value)
{
    if (value.len != 4)
        return false;
    size_t at = (size_t)(value.data - header.data);
    uint32_t crc = crc32c(UINT32_MAX, bytes_slice(header, 0, at));
    crc = crc32c(crc, BYTES("\0\0\0\0"));
    crc = crc32c(crc, bytes_skip(header, at + 4));
    return ~crc == number_32(value.data);
}

/* take_tlv takes the next one from the front of *in. False: it is not whole. */
static bool take_tlv(struct bytes *in, uint8_t *type, struct bytes *value)
{
    if (in->len < TLV_FRONT || in->len - TLV_FRONT < number_16(in->data + 1))
        return false;
    size_t end = (size_t)TLV_FRONT + number_16(in->data + 1);
    *type = in->data[0];
    *value = bytes_slice(*in, TLV_FRONT, end);
    *in = bytes_skip(*in, end);
    return true;
}

/* parse_ssl reads PP2_TYPE_SSL (section 2.2.6). */
static bool parse_ssl(struct bytes in, struct proxy *out)
{
    if (in.len < SSL_FRONT)
        return false;
    uint8_t client = in.data[0];
    out->tls = client & SSL_CLIENT_TLS;
    /* `verify` is zero, too, when there was no certificate to verify. */
    out->tls_verified =
        out->tls && (client & SSL_CLIENT_CERTIFICATE) && number_32(in.data + 1) == 0;
    in = bytes_skip(in, SSL_FRONT);
    while (in.len > 0) {
        uint8_t type;
        struct bytes value;
        if (!take_tlv(&in, &type, &value))
            return false;
        if (type == SSL_VERSION)
            out->tls_version = value;
        else if (type == SSL_NAME)
            out->tls_name = value;
        else if (type == SSL_CIPHER)
            out->tls_cipher = value;
    }
    return true;
}

static bool parse_tlvs(struct bytes header, struct bytes in, struct proxy *out)
{
    while (in.len > 0) {
        uint8_t type;
        struct bytes value;
        bool right = take_tlv(&in, &type, &value);
        if (!right)
            return false;
        if (type == TLV_AUTHORITY)
            out->authority = value;
        else if (type == TLV_UNIQUE_ID && value.len <= PROXY_UNIQUE_ID_MAX)
            out->unique_id = value;
        else if (type == TLV_UNIQUE_ID)
            right = false;
        else if (type == TLV_CRC32C)
            right = checks_out(header, value);
        else if (type == TLV_SSL)
            right = parse_ssl(value, out);
        if (!right)
            return false;
    }
    return true;
}

/* read_addresses takes source and target, `len` octets each, and their ports. */
static void read_addresses(const uint8_t *at, size_t len, enum proxy_family family,
                           struct proxy *out)
{
    out->family = (uint8_t)family;
    memcpy(out->source, at, len);
    memcpy(out->target, at + len, len);
    out->source_port = number_16(at + 2 * len);
    out->target_port = number_16(at + 2 * len + 2);
}

/* parse_v2_whole reads a header of which all octets are there. The addresses of LOCAL are not
 * looked at, but must have the length that their family asks for, and no TLV of its is read. */
static bool parse_v2_whole(struct bytes header, struct proxy *out)
{
    static const uint16_t lens[] = {0, V2_INET, V2_INET6, V2_UNIX};
    unsigned family = header.data[13] >> 4, transport = header.data[13] & 15;
    struct bytes rest = bytes_skip(header, V2_FRONT);
    if (family > FAMILY_UNIX || transport > TRANSPORT_DATAGRAM || rest.len < lens[family])
        return false;
    out->local = (header.data[12] & 15) == COMMAND_LOCAL;
    if (out->local || family == FAMILY_UNSPEC)
        return true;
    if (family == FAMILY_INET && transport == TRANSPORT_STREAM)
        read_addresses(rest.data, 4, PROXY_V4, out);
    else if (family == FAMILY_INET6 && transport == TRANSPORT_STREAM)
        read_addresses(rest.data, 16, PROXY_V6, out);
    return parse_tlvs(header, bytes_skip(rest, lens[family]), out);
}

static enum proxy_result parse_v2(struct bytes in, struct proxy *out)
{
    if (in.len > 12 && (in.data[12] >> 4 != 2 || (in.data[12] & 15) > COMMAND_PROXY))
        return PROXY_BAD;
    if (in.len < V2_FRONT)
        return PROXY_MORE;
    size_t len = (size_t)V2_FRONT + number_16(in.data + 14);
    if (len > PROXY_V2_MAX)
        return PROXY_BAD;
    if (in.len < len)
        return PROXY_MORE;
    if (!parse_v2_whole(bytes_slice(in, 0, len), out))
        return PROXY_BAD;
    out->version = 2;
    out->len = len;
    return PROXY_OK;
}

enum proxy_result proxy_parse(struct bytes in, struct proxy *out)
{
    *out = (struct proxy){0};
    enum proxy_result result = PROXY_BAD;
    if (fits(in, V2_SIGNATURE))
        result = in.len <= V2_SIGNATURE.len ? PROXY_MORE : parse_v2(in, out);
    else if (fits(in, V1_FRONT))
        result = in.len <= V1_FRONT.len ? PROXY_MORE : parse_v1(in, out);
    if (result != PROXY_OK)
        *out = (struct proxy){0};
    return result;
}
