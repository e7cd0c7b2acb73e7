/* Mailboxes by their meaning: see mailbox.h. */
#include "gateway/policy/mailbox.h"

#include "gateway/base/check.h"

size_t mailbox_split(struct bytes mailbox, uint8_t local[ADDRESS_LOCAL_LEN_MAX],
                     struct bytes *domain)
{
    bool quoted = mailbox.len > 0 && mailbox.data[0] == '"';
    size_t at = quoted ? 1 : 0;
    size_t len = 0;
    for (; at < mailbox.len && mailbox.data[at] != (quoted ? '"' : '@'); at++) {
        if (quoted && mailbox.data[at] == '\\' && at + 1 < mailbox.len)
            at++;
        CHECK(len < ADDRESS_LOCAL_LEN_MAX);
        local[len++] = mailbox.data[at];
    }
    *domain = bytes_skip(mailbox, at + (quoted ? 2 : 1));
    return len;
}

/* What a domain adds to the hash must not be mistaken for local part, so "@" goes between. */
static uint32_t add(uint32_t hash, struct bytes text, bool fold)
{
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (fold ? byte_lower(text.data[i]) : text.data[i])) * 16777619u;
    return hash;
}

uint32_t mailbox_hash(struct bytes mailbox, bool fold)
{
    uint8_t local[ADDRESS_LOCAL_LEN_MAX];
    struct bytes domain;
    size_t len = mailbox_split(mailbox, local, &domain);
    uint32_t hash = add(2166136261u, bytes_make(local, len), fold);
    hash = add(add(hash, BYTES("@"), false), domain, true);
    return hash ^ hash >> 15; /* the low bits choose a bucket */
}

bool mailbox_same(struct bytes a, struct bytes b, bool fold)
{
    uint8_t local_a[ADDRESS_LOCAL_LEN_MAX];
    uint8_t local_b[ADDRESS_LOCAL_LEN_MAX];
    struct bytes domain_a;
    struct bytes domain_b;
    struct bytes of_a = bytes_make(local_a, mailbox_split(a, local_a, &domain_a));
    struct bytes of_b = bytes_make(local_b, mailbox_split(b, local_b, &domain_b));
    return bytes_equal_nocase(domain_a, domain_b) &&
           (fold ? bytes_equal_nocase(of_a, of_b) : bytes_equal(of_a, of_b));
}

/* Appends to `out` (ADDRESS_LEN_MAX octets); false: no room. */
static bool append(char *out, size_t *len, const void *text, size_t count)
{
    if (count > ADDRESS_LEN_MAX - *len)
        return false;
    if (count > 0)
        memcpy(out + *len, text, count);
    *len += count;
    return true;
}

static bool append_quoted(char *out, size_t *len, struct bytes local)
{
    bool fits = append(out, len, "\"", 1);
    for (size_t i = 0; i < local.len && fits; i++) {
        uint8_t c = local.data[i];
        fits = (c != '"' && c != '\\') || append(out, len, "\\", 1);
        fits = fits && append(out, len, &c, 1);
    }
    return fits && append(out, len, "\"", 1);
}

/* The grammar decides: what is no mailbox without quotes may be one with them. */
static size_t try(struct bytes local, struct bytes domain, bool quoted, char *out)
{
    struct address address;
    size_t len = 0;
    bool fits = quoted ? append_quoted(out, &len, local) : append(out, &len, local.data, local.len);
    if (!fits || !append(out, &len, "@", 1) || !append(out, &len, domain.data, domain.len))
        return 0;
    enum address_result result = address_mailbox(bytes_make(out, len), true, &address);
    bool good = result == ADDRESS_OK || result == ADDRESS_LONG_LOCAL;
    return good && address.quoted == quoted ? len : 0;
}

size_t mailbox_write(struct bytes local, struct bytes domain, char *out)
{
    size_t len = try(local, domain, false, out);
    return len > 0 ? len : try(local, domain, true, out);
}
