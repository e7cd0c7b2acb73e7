/* The clients' messages of SASL mechanisms: see sasl.h. */
#include "parser/sasl.h"

#include "parser/octet.h"

static const struct bytes names[SASL_MECHANISM_COUNT] = {
    [SASL_UNKNOWN] = BYTES(""),
    [SASL_PLAIN] = BYTES("PLAIN"),
    [SASL_LOGIN] = BYTES("LOGIN"),
    [SASL_SCRAM_SHA_256] = BYTES("SCRAM-SHA-256"),
    [SASL_SCRAM_SHA_256_PLUS] = BYTES("SCRAM-SHA-256-PLUS"),
    [SASL_OAUTHBEARER] = BYTES("OAUTHBEARER"),
    [SASL_XOAUTH2] = BYTES("XOAUTH2"),
};

enum { FIELD_END = 1 /* the octet between the fields of OAUTHBEARER */ };

enum sasl_mechanism sasl_mechanism_find(struct bytes name)
{
    for (int i = SASL_UNKNOWN + 1; i < SASL_MECHANISM_COUNT; i++)
        if (bytes_equal_nocase(name, names[i]))
            return (enum sasl_mechanism)i;
    return SASL_UNKNOWN;
}

const char *sasl_mechanism_name(enum sasl_mechanism mechanism)
{
    return (const char *)names[mechanism].data;
}

/* character_len returns the length of the character at the front of a text; 0: it is none, or a
 * control (C0, DEL, C1). */
static size_t character_len(struct bytes text)
{
    if (text.data[0] < 128)
        return text.data[0] >= ' ' && text.data[0] != 127;
    size_t len = octet_utf8_len(text);
    return len == 2 && text.data[0] == 0xc2 && text.data[1] < 0xa0 ? 0 : len;
}

bool sasl_name_valid(struct bytes name)
{
    if (name.len == 0 || name.len > SASL_NAME_MAX)
        return false;
    while (name.len > 0) {
        size_t len = character_len(name);
        if (len == 0)
            return false;
        name = bytes_skip(name, len);
    }
    return true;
}

/* --- PLAIN --- */

/* take returns what stands before the first `end`, and skips both. False: there is no `end`. */
static bool take(struct bytes *rest, uint8_t end, struct bytes *out)
{
    size_t at = bytes_find(*rest, end);
    if (at == rest->len)
        return false;
    *out = bytes_slice(*rest, 0, at);
    *rest = bytes_skip(*rest, at + 1);
    return true;
}

bool sasl_plain_parse(struct bytes message, struct sasl_plain *out)
{
    struct bytes rest = message;
    if (!take(&rest, 0, &out->authorization) || !take(&rest, 0, &out->user))
        return false;
    out->password = rest;
    return (out->authorization.len == 0 || sasl_name_valid(out->authorization)) &&
           sasl_name_valid(out->user) && rest.len > 0 && rest.len <= SASL_PASSWORD_MAX &&
           bytes_find(rest, 0) == rest.len;
}

/* --- SCRAM (RFC 5802 7) --- */

/* value_of takes "letter=value" without its letter. False: another one, or an empty value. */
static bool value_of(struct bytes attribute, char letter, struct bytes *value)
{
    if (attribute.len < 3 || attribute.data[0] != (uint8_t)letter || attribute.data[1] != '=')
        return false;
    *value = bytes_skip(attribute, 2);
    return true;
}

/* extension_valid: attr-val with a letter that says nothing to us; "m" says that who does not know
 * it must refuse (RFC 5802 5.1). */
static bool extension_valid(struct bytes attribute)
{
    struct bytes value;
    if (attribute.len < 3 || (uint8_t)(byte_lower(attribute.data[0]) - 'a') > 25)
        return false;
    if (attribute.data[0] == 'm' || !value_of(attribute, (char)attribute.data[0], &value))
        return false;
    while (value.len > 0) {
        size_t len = value.data[0] < 128 ? value.data[0] != 0 : octet_utf8_len(value);
        if (len == 0)
            return false;
        value = bytes_skip(value, len);
    }
    return true;
}

/* next takes an attribute up to its comma or the end. False: nothing is left. */
static bool next(struct bytes *rest, bool *more, struct bytes *attribute)
{
    if (!*more)
        return false;
    size_t comma = bytes_find(*rest, ',');
    *more = comma < rest->len;
    *attribute = bytes_slice(*rest, 0, comma);
    *rest = bytes_skip(*rest, comma + 1);
    return true;
}

static bool nonce_valid(struct bytes nonce, size_t len_max)
{
    if (nonce.len > len_max)
        return false;
    for (size_t i = 0; i < nonce.len; i++)
        if (nonce.data[i] <= ' ' || nonce.data[i] > '~')
            return false;
    return true;
}

/* binding_flag reads gs2-cbind-flag (RFC 5801 4). */
static bool binding_flag(struct bytes flag, struct sasl_scram_first *out)
{
    out->binding_name = bytes_skip(flag, flag.len);
    if (flag.len == 0)
        return false;
    out->binding = (char)flag.data[0];
    if (out->binding == 'n' || out->binding == 'y')
        return flag.len == 1;
    if (!value_of(flag, 'p', &out->binding_name))
        return false;
    for (size_t i = 0; i < out->binding_name.len; i++) {
        uint8_t c = byte_lower(out->binding_name.data[i]);
        if ((uint8_t)(c - 'a') > 25 && (uint8_t)(c - '0') > 9 && c != '.' && c != '-')
            return false;
    }
    return true;
}

/* gs2_header reads a GS2 header, with both commas, from the front. */
static bool gs2_header(struct bytes *rest, struct sasl_scram_first *out)
{
    struct bytes whole = *rest, flag, authorization;
    if (!take(rest, ',', &flag) || !take(rest, ',', &authorization) || !binding_flag(flag, out))
        return false;
    out->gs2_header = bytes_slice(whole, 0, whole.len - rest->len);
    out->authorization = bytes_skip(authorization, authorization.len);
    return authorization.len == 0 || value_of(authorization, 'a', &out->authorization);
}

bool sasl_scram_first_parse(struct bytes message, struct sasl_scram_first *out)
{
    struct bytes rest = message, attribute;
    bool more = true;
    *out = (struct sasl_scram_first){0};
    if (!gs2_header(&rest, out))
        return false;
    out->bare = rest;
    if (!next(&rest, &more, &attribute) || !value_of(attribute, 'n', &out->user))
        return false;
    if (!next(&rest, &more, &attribute) || !value_of(attribute, 'r', &out->nonce) ||
        !nonce_valid(out->nonce, SASL_NONCE_MAX))
        return false;
    while (next(&rest, &more, &attribute))
        if (!extension_valid(attribute))
            return false;
    return true;
}

bool sasl_scram_final_parse(struct bytes message, struct sasl_scram_final *out)
{
    struct bytes rest = message, attribute;
    bool more = true;
    *out = (struct sasl_scram_final){0};
    if (!next(&rest, &more, &attribute) || !value_of(attribute, 'c', &out->binding))
        return false;
    if (!next(&rest, &more, &attribute) || !value_of(attribute, 'r', &out->nonce) ||
        !nonce_valid(out->nonce, message.len))
        return false;
    while (next(&rest, &more, &attribute)) {
        if (!more && value_of(attribute, 'p', &out->proof)) {
            out->without_proof = bytes_slice(message, 0, message.len - attribute.len - 1);
            return true;
        }
        if (!extension_valid(attribute))
            return false;
    }
    return false;
}

size_t sasl_scram_name(struct bytes encoded, uint8_t *out)
{
    size_t len = 0;
    while (encoded.len > 0) {
        bool escaped = encoded.data[0] == '=';
        bool comma = escaped && encoded.len > 2 && memcmp(encoded.data, "=2C", 3) == 0;
        bool equals = escaped && encoded.len > 2 && memcmp(encoded.data, "=3D", 3) == 0;
        if ((escaped && !comma && !equals) || encoded.data[0] == ',' || len == SASL_NAME_MAX)
            return 0;
        out[len++] = comma ? ',' : equals ? '=' : encoded.data[0];
        encoded = bytes_skip(encoded, escaped ? 3 : 1);
    }
    return sasl_name_valid(bytes_make(out, len)) ? len : 0;
}

/* --- tokens (RFC 7628 3.1) --- */

static bool token_valid(struct bytes token)
{
    if (token.len == 0)
        return false;
    for (size_t i = 0; i < token.len; i++)
        if (token.data[i] <= ' ' || token.data[i] > '~')
            return false;
    return true;
}

/* take_bearer takes "auth=Bearer token" of a field; *found is set once. False: twice, or no token.
 */
static bool take_bearer(struct bytes field, bool *found, struct sasl_bearer *out)
{
    const struct bytes name = BYTES("auth="), scheme = BYTES("Bearer ");
    if (field.len < name.len || !bytes_equal_nocase(bytes_slice(field, 0, name.len), name))
        return true;
    field = bytes_skip(field, name.len);
    if (*found || field.len < scheme.len ||
        !bytes_equal_nocase(bytes_slice(field, 0, scheme.len), scheme))
        return false;
    *found = true;
    out->token = bytes_skip(field, scheme.len);
    while (out->token.len > 0 && out->token.data[0] == ' ')
        out->token = bytes_skip(out->token, 1);
    return token_valid(out->token);
}

bool sasl_bearer_parse(enum sasl_mechanism mechanism, struct bytes message, struct sasl_bearer *out)
{
    struct sasl_scram_first header = {0};
    struct bytes rest = message, field;
    bool found = false;
    *out = (struct sasl_bearer){0};
    if (mechanism == SASL_OAUTHBEARER) {
        if (!gs2_header(&rest, &header) || !take(&rest, FIELD_END, &field) || field.len > 0)
            return false;
        out->user = header.authorization;
    } else {
        if (!take(&rest, FIELD_END, &field) || field.len < 6 ||
            !bytes_equal_nocase(bytes_slice(field, 0, 5), BYTES("user=")))
            return false;
        out->user = bytes_skip(field, 5);
    }
    while (take(&rest, FIELD_END, &field) && field.len > 0)
        if (!take_bearer(field, &found, out))
            return false;
    /* The last field is empty, and nothing follows. */
    return found && field.len == 0 && rest.len == 0 &&
           (out->user.len == 0 || sasl_name_valid(out->user));
}
