/* IP addresses as text: see ip.h. The C library reads them; it wants a NUL behind them, and there
 * must be none inside. */
#include "parser/ip.h"

#include "parser/octet.h"

#include <arpa/inet.h>

static bool parse(int family, struct bytes in, uint8_t *out)
{
    char text[IP_TEXT_MAX + 1];
    if (in.len == 0 || in.len > IP_TEXT_MAX || bytes_find(in, '\0') < in.len)
        return false;
    memcpy(text, in.data, in.len);
    text[in.len] = '\0';
    return inet_pton(family, text, out) == 1;
}

bool ip_parse_v4(struct bytes in, uint8_t *out)
{
    return parse(AF_INET, in, out);
}

bool ip_parse_v6(struct bytes in, uint8_t *out)
{
    return parse(AF_INET6, in, out);
}

bool ip_parse_port(struct bytes in, uint16_t *out)
{
    uint32_t value = 0;
    if (in.len == 0 || in.len > 5 || (in.data[0] == '0' && in.len > 1))
        return false;
    for (size_t i = 0; i < in.len; i++) {
        if (!octet_is_digit(in.data[i]))
            return false;
        value = value * 10 + in.data[i] - '0';
    }
    *out = (uint16_t)value;
    return value <= UINT16_MAX;
}
