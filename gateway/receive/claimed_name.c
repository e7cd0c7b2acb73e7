/* Names in first messages: see claimed_name.h. */
#include "gateway/receive/claimed_name.h"

#include <string.h>

#include "gateway/base/check.h"

static size_t complete(struct bytes name, const char *domain, uint8_t *out)
{
    const size_t domain_len = domain == NULL ? 0 : strlen(domain);
    CHECK(name.len <= SASL_NAME_MAX);
    if (name.len > 0)
        memcpy(out, name.data, name.len);
    if (name.len == 0 || domain_len == 0 || bytes_find(name, '@') < name.len ||
        name.len + 1 + domain_len > SASL_NAME_MAX)
        return name.len;
    out[name.len] = '@';
    memcpy(out + name.len + 1, domain, domain_len);
    return name.len + 1 + domain_len;
}

bool claimed_name_read(enum sasl_mechanism mechanism, struct bytes message, const char *domain,
                       uint8_t *out, size_t *len)
{
    uint8_t decoded[SASL_NAME_MAX];
    struct bytes name = message;
    struct sasl_plain plain;
    struct sasl_scram_first first;
    struct sasl_bearer bearer;
    switch (mechanism) {
    case SASL_PLAIN:
        if (!sasl_plain_parse(message, &plain))
            return false;
        name = plain.user;
        break;
    case SASL_LOGIN:
        if (!sasl_name_valid(message))
            return false;
        break;
    case SASL_SCRAM_SHA_256:
    case SASL_SCRAM_SHA_256_PLUS:
        if (!sasl_scram_first_parse(message, &first))
            return false;
        name = bytes_make(decoded, sasl_scram_name(first.user, decoded));
        if (name.len == 0)
            return false;
        break;
    case SASL_OAUTHBEARER:
    case SASL_XOAUTH2:
        if (!sasl_bearer_parse(mechanism, message, &bearer) || bearer.user.len > SASL_NAME_MAX)
            return false;
        name = bearer.user;
        break;
    case SASL_UNKNOWN:
    case SASL_MECHANISM_COUNT: CHECK(false);
    }
    *len = complete(name, domain, out);
    return true;
}
