/* SRS: see srs.h. An address is made of a tag, fields divided by "=", and a hash over them in lower
 * case:
 *   SRS0=HASH=DAY=host=user@ours          mail from user@host
 *   SRS1=HASH=other=REST@ours             mail from SRS0REST@other, REST with its separator */
#include "gateway/policy/srs.h"

#include "gateway/base/clock.h"
#include "gateway/policy/mailbox.h"
#include "tls/crypto.h"

#include <assert.h>
#include <stdlib.h>

enum {
    HASH_MAX = 27, /* characters of base64 that 160 bits come to */
    HASH_DEFAULT = 4,
    AGE_DEFAULT = 21,
    DAYS = 1024, /* two characters of base32: then they begin again */
    DAY_S = 24 * 60 * 60,
    TAG_LEN = 5, /* with its separator */
    SIGNED_MAX = 2 + 2 * SRS_LEN_MAX,
};

static_assert(SRS_LEN_MAX >= (int)ADDRESS_LEN_MAX, "a mailbox fits");

static const char base32[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
static const char base64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

struct srs {
    uint8_t domain[ADDRESS_DOMAIN_LEN_MAX];
    size_t domain_len;
    uint8_t *secrets[SRS_SECRETS_MAX];
    size_t secret_lens[SRS_SECRETS_MAX];
    uint32_t secret_count;
    uint32_t age_max;
    uint32_t hash_len;
    char separator;
    struct budget *failures; /* NULL: any number */
};

/* What is signed, folded and joined. */
struct signed_text {
    size_t len;
    uint8_t text[SIGNED_MAX];
};

struct srs *srs_new(const struct srs_options *options)
{
    uint32_t hash_len = options->hash_length == 0 ? HASH_DEFAULT : options->hash_length;
    char separator = options->separator == 0 ? '=' : options->separator;
    if (options->secret_count == 0 || options->secret_count > SRS_SECRETS_MAX ||
        hash_len > HASH_MAX || options->domain.len == 0 ||
        options->domain.len > ADDRESS_DOMAIN_LEN_MAX || options->max_age_days >= DAYS - 1 ||
        strchr("=+-", separator) == NULL)
        return NULL;
    struct srs *srs = calloc(1, sizeof(*srs));
    if (srs == NULL)
        return NULL;
    memcpy(srs->domain, options->domain.data, options->domain.len);
    srs->domain_len = options->domain.len;
    srs->age_max = options->max_age_days == 0 ? AGE_DEFAULT : options->max_age_days;
    srs->hash_len = hash_len;
    srs->separator = separator;
    srs->failures = hash_len < SRS_HASH_SAFE ? options->failures : NULL;
    for (uint32_t i = 0; i < options->secret_count; i++) {
        struct bytes secret = options->secrets[i];
        srs->secrets[i] = secret.len == 0 ? NULL : malloc(secret.len);
        if (srs->secrets[i] == NULL) {
            srs_free(srs);
            return NULL;
        }
        memcpy(srs->secrets[i], secret.data, secret.len);
        srs->secret_lens[i] = secret.len;
        srs->secret_count++;
    }
    return srs;
}

void srs_free(struct srs *srs)
{
    if (srs == NULL)
        return;
    for (uint32_t i = 0; i < srs->secret_count; i++) {
        explicit_bzero(srs->secrets[i], srs->secret_lens[i]);
        free(srs->secrets[i]);
    }
    free(srs);
}

bool srs_is_ours(const struct srs *srs, struct bytes domain)
{
    return bytes_equal_nocase(domain, bytes_make(srs->domain, srs->domain_len));
}

/* --- what both ways need --- */

static void sign(struct signed_text *out, struct bytes part)
{
    for (size_t i = 0; i < part.len && out->len < SIGNED_MAX; i++)
        out->text[out->len++] = byte_lower(part.data[i]);
}

/* hash_of writes all HASH_MAX characters. False: no memory. */
static bool hash_of(const struct srs *srs, uint32_t secret, const struct signed_text *text,
                    char out[HASH_MAX])
{
    uint8_t octets[CRYPTO_SHA1_LEN + 1];
    if (!crypto_hmac_sha1(srs->secrets[secret], srs->secret_lens[secret], text->text, text->len,
                          octets))
        return false;
    octets[CRYPTO_SHA1_LEN] = 0;
    for (size_t i = 0; i < HASH_MAX; i++) {
        size_t bit = i * 6;
        unsigned pair = (unsigned)octets[bit / 8] << 8 | octets[bit / 8 + 1];
        out[i] = base64[pair >> (10 - bit % 8) & 63];
    }
    return true;
}

/* is_same compares in constant time, and without regard to case, which does not survive every
 * server. */
static bool is_same(const struct srs *srs, struct bytes hash, const struct signed_text *text)
{
    bool genuine = false;
    for (uint32_t secret = 0; secret < srs->secret_count; secret++) {
        char want[HASH_MAX];
        unsigned different = 0;
        if (!hash_of(srs, secret, text, want))
            return false;
        for (size_t i = 0; i < hash.len; i++)
            different |= byte_lower((uint8_t)want[i]) ^ byte_lower(hash.data[i]);
        genuine |= different == 0;
    }
    return genuine;
}

/* judge: SRS_OK, SRS_FORGED, or SRS_LATER. The hash may be longer than ours are, but not shorter.
 * When the budget is used up a right guess must look like a wrong one, so it is taken from before
 * anything is compared. */
static enum srs_result judge(const struct srs *srs, struct bytes hash,
                             const struct signed_text *text)
{
    if (hash.len < srs->hash_len || hash.len > HASH_MAX)
        return SRS_FORGED;
    if (srs->failures != NULL && !budget_take(srs->failures, clock_monotonic_us()))
        return SRS_LATER;
    if (!is_same(srs, hash, text))
        return SRS_FORGED;
    if (srs->failures != NULL)
        budget_return(srs->failures);
    return SRS_OK;
}

/* is_public: a name with a dot, and no address. Nobody answers mail to the others, but our own
 * house might take them for its own. */
static bool is_public(struct bytes host)
{
    enum address_domain_kind kind;
    size_t dot = host.len;
    bool letters = false;
    if (address_domain(host, true, &kind) != ADDRESS_OK || kind != ADDRESS_NAME)
        return false;
    while (dot > 0 && host.data[dot - 1] != '.')
        letters |= host.data[--dot] < '0' || host.data[dot] > '9';
    return dot > 0 && letters;
}

static bool is_separator(uint8_t c)
{
    return c == '=' || c == '+' || c == '-';
}

/* Is `local` the tag "SRS0" or "SRS1" and a separator? */
static bool has_tag(struct bytes local, const char *tag)
{
    return local.len >= TAG_LEN &&
           bytes_equal_nocase(bytes_slice(local, 0, TAG_LEN - 1), bytes_of_string(tag)) &&
           is_separator(local.data[TAG_LEN - 1]);
}

/* take_field takes what stands before the next "=" from the front; false: there is none, or nothing
 * before or behind it. */
static bool take_field(struct bytes *rest, struct bytes *field)
{
    size_t end = bytes_find(*rest, '=');
    if (end == 0 || end + 1 >= rest->len)
        return false;
    *field = bytes_slice(*rest, 0, end);
    *rest = bytes_skip(*rest, end + 1);
    return true;
}

/* The local part of an answer, piece by piece. */
struct local {
    size_t len;
    uint8_t text[SRS_LEN_MAX];
};

static void append(struct local *local, struct bytes piece)
{
    if (piece.len > SRS_LEN_MAX - local->len)
        piece.len = SRS_LEN_MAX - local->len; /* too long for a mailbox in any case */
    if (piece.len > 0)
        memcpy(local->text + local->len, piece.data, piece.len);
    local->len += piece.len;
}

static enum srs_result finish(struct bytes local, struct bytes domain, char *out, size_t *len)
{
    *len = mailbox_write(local, domain, out);
    return *len == 0 ? SRS_TOO_LONG : SRS_OK;
}

/* first_address writes the address that the first forwarder made, out of an SRS1 address. */
static enum srs_result first_address(struct bytes host, struct bytes rest, char *out, size_t *len)
{
    struct local local = {0};
    append(&local, BYTES("SRS0"));
    append(&local, rest);
    return finish(bytes_make(local.text, local.len), host, out, len);
}

/* --- making --- */

/* wrap makes the address: tag, hash over the pieces, and the pieces behind it. */
static enum srs_result wrap(const struct srs *srs, const char *tag, const struct bytes *pieces,
                            size_t piece_count, char *out, size_t *len)
{
    struct signed_text text = {0};
    struct local local = {0};
    char hash[HASH_MAX];
    for (size_t i = 0; i < piece_count; i++)
        sign(&text, pieces[i]);
    if (!hash_of(srs, 0, &text, hash))
        return SRS_TOO_LONG;
    append(&local, bytes_of_string(tag));
    append(&local, bytes_make(&srs->separator, 1));
    append(&local, bytes_make(hash, srs->hash_len));
    for (size_t i = 0; i < piece_count; i++) {
        append(&local, BYTES("="));
        append(&local, pieces[i]);
    }
    return finish(bytes_make(local.text, local.len), bytes_make(srs->domain, srs->domain_len), out,
                  len);
}

enum srs_result srs_forward(const struct srs *srs, struct bytes mailbox, uint64_t now_s, char *out,
                            size_t *len)
{
    struct address address;
    uint8_t unquoted[ADDRESS_LOCAL_LEN_MAX];
    if (mailbox.len == 0)
        return SRS_NOT_OURS;
    enum address_result parsed = address_mailbox(mailbox, true, &address);
    if (parsed != ADDRESS_OK && parsed != ADDRESS_LONG_LOCAL)
        return SRS_TOO_LONG;
    if (srs_is_ours(srs, address.domain))
        return SRS_NOT_OURS;
    struct bytes local = bytes_make(unquoted, address_local_unquoted(&address, unquoted));
    if (!is_public(address.domain))
        return SRS_NOT_OURS;
    /* These could not be taken apart again. */
    if (local.len == 0 || bytes_find(address.domain, '=') < address.domain.len)
        return SRS_TOO_LONG;
    if (has_tag(local, "SRS0")) {
        const struct bytes pieces[] = {address.domain, bytes_skip(local, TAG_LEN - 1)};
        return wrap(srs, "SRS1", pieces, 2, out, len);
    }
    struct bytes rest = bytes_skip(local, TAG_LEN);
    struct bytes hash;
    struct bytes host;
    if (has_tag(local, "SRS1") && take_field(&rest, &hash) && take_field(&rest, &host) &&
        is_public(host) && is_separator(rest.data[0]) &&
        first_address(host, rest, out, len) == SRS_OK) {
        const struct bytes pieces[] = {host, rest};
        return wrap(srs, "SRS1", pieces, 2, out, len);
    }
    uint64_t day = now_s / DAY_S;
    char stamp[2] = {base32[day >> 5 & 31], base32[day & 31]};
    const struct bytes pieces[] = {bytes_make(stamp, 2), address.domain, local};
    return wrap(srs, "SRS0", pieces, 3, out, len);
}

/* --- reading --- */

/* is_fresh: the day of the stamp is at most age_max days ago. The days begin again after 1024, so
 * tomorrow, by the clock of another gateway of ours, is 1023 days ago. */
static bool is_fresh(const struct srs *srs, struct bytes stamp, uint64_t now_s)
{
    uint32_t day = 0;
    if (stamp.len != 2)
        return false;
    for (size_t i = 0; i < stamp.len; i++) {
        uint8_t c = stamp.data[i];
        const char *at = strchr(base32, c >= 'a' && c <= 'z' ? c - 32 : c);
        if (at == NULL || *at == '\0')
            return false;
        day = day << 5 | (uint32_t)(at - base32);
    }
    uint32_t age = ((uint32_t)(now_s / DAY_S % DAYS) + DAYS - day) % DAYS;
    return age <= srs->age_max || age == DAYS - 1;
}

static enum srs_result reverse_first(const struct srs *srs, struct bytes rest, uint64_t now_s,
                                     char *out, size_t *len)
{
    struct signed_text text = {0};
    struct bytes hash;
    struct bytes stamp;
    struct bytes host;
    if (!take_field(&rest, &hash) || !take_field(&rest, &stamp) || !take_field(&rest, &host) ||
        !is_public(host))
        return SRS_FORGED;
    sign(&text, stamp);
    sign(&text, host);
    sign(&text, rest);
    enum srs_result result = judge(srs, hash, &text);
    if (result != SRS_OK)
        return result;
    if (!is_fresh(srs, stamp, now_s))
        return SRS_EXPIRED;
    return finish(rest, host, out, len);
}

/* The age of an SRS1 address is for the forwarder to judge that made the SRS0 address. */
static enum srs_result reverse_later(const struct srs *srs, struct bytes rest, char *out,
                                     size_t *len)
{
    struct signed_text text = {0};
    struct bytes hash;
    struct bytes host;
    if (!take_field(&rest, &hash) || !take_field(&rest, &host) || !is_public(host) ||
        !is_separator(rest.data[0]))
        return SRS_FORGED;
    sign(&text, host);
    sign(&text, rest);
    enum srs_result result = judge(srs, hash, &text);
    return result == SRS_OK ? first_address(host, rest, out, len) : result;
}

enum srs_result srs_reverse(const struct srs *srs, const struct address *address, uint64_t now_s,
                            char *out, size_t *len)
{
    uint8_t unquoted[ADDRESS_LOCAL_LEN_MAX];
    if (!srs_is_ours(srs, address->domain))
        return SRS_NOT_OURS;
    struct bytes local = bytes_make(unquoted, address_local_unquoted(address, unquoted));
    if (has_tag(local, "SRS0"))
        return reverse_first(srs, bytes_skip(local, TAG_LEN), now_s, out, len);
    if (has_tag(local, "SRS1"))
        return reverse_later(srs, bytes_skip(local, TAG_LEN), out, len);
    return SRS_NOT_OURS;
}
