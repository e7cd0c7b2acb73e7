/* DKIM signing: see dkim.h. What is signed is chosen in one walk over the header section, hashed
 * once for all keys, and each key then goes on from there with its own field. */
#include "gateway/policy/dkim.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/policy/table.h"
#include "parser/base64.h"
#include "parser/header.h"

enum {
    RECORD_NAME_MAX = 253, /* SELECTOR._domainkey.DOMAIN (RFC 1035 2.3.4) */
    REPEATS_MAX = 8,       /* fields of one name that are signed, from the last one up */
    LINE_MAX_LEN = 76,
    BASE64_SIGNATURE_MAX = (SIGNATURE_LEN_MAX + 2) / 3 * 4,
};

/* What is there is signed; and a name that stands in h= once more than the field is there can not
 * be added on the way without breaking the signature (RFC 6376 5.4.2, 8.15). */
enum seal {
    SEAL_NONE = 0,    /* it may be added, as mailing lists and forwarders do */
    SEAL_PRESENT = 1, /* once more if it is there */
    SEAL_ALWAYS = 2,
};

struct rule {
    struct bytes name;
    enum seal seal;
};

#define RULE(name, seal)                                                                           \
    {                                                                                              \
        {(const uint8_t *)(name), sizeof(name) - 1}, seal                                          \
    }

/* In the order of h=. */
static const struct rule rules[] = {
    RULE("from", SEAL_ALWAYS),
    RULE("to", SEAL_ALWAYS),
    RULE("subject", SEAL_ALWAYS),
    RULE("date", SEAL_ALWAYS),
    RULE("cc", SEAL_ALWAYS),
    RULE("reply-to", SEAL_ALWAYS),
    RULE("message-id", SEAL_ALWAYS),
    RULE("mime-version", SEAL_ALWAYS),
    RULE("content-type", SEAL_ALWAYS),
    RULE("content-transfer-encoding", SEAL_ALWAYS),
    RULE("sender", SEAL_PRESENT),
    RULE("in-reply-to", SEAL_PRESENT),
    RULE("references", SEAL_PRESENT),
    RULE("content-disposition", SEAL_PRESENT),
    RULE("content-id", SEAL_PRESENT),
    RULE("content-description", SEAL_PRESENT),
    RULE("autocrypt", SEAL_PRESENT),
    RULE("feedback-id", SEAL_PRESENT),
    RULE("list-unsubscribe", SEAL_PRESENT),
    RULE("list-unsubscribe-post", SEAL_PRESENT),
    RULE("list-id", SEAL_NONE),
    RULE("list-help", SEAL_NONE),
    RULE("list-subscribe", SEAL_NONE),
    RULE("list-post", SEAL_NONE),
    RULE("list-owner", SEAL_NONE),
    RULE("list-archive", SEAL_NONE),
    RULE("resent-date", SEAL_NONE),
    RULE("resent-from", SEAL_NONE),
    RULE("resent-sender", SEAL_NONE),
    RULE("resent-to", SEAL_NONE),
    RULE("resent-cc", SEAL_NONE),
    RULE("resent-message-id", SEAL_NONE),
};

enum { RULE_COUNT = sizeof(rules) / sizeof(rules[0]) };

struct dkim_key {
    struct signature_key *key; /* owned */
    char *selector;
};

struct dkim_domain {
    struct dkim_keys *owner;
    char *name;
    uint32_t count;
    struct dkim_key keys[DKIM_KEYS_MAX];
};

struct dkim_keys {
    _Atomic uint32_t references; /* the configuration's, and those of domains that are kept */
    struct table table;          /* name -> index */
    struct dkim_domain **domains;
    uint32_t count, room;
};

/* --- keys --- */

struct dkim_keys *dkim_keys_new(void)
{
    struct dkim_keys *keys = calloc(1, sizeof(*keys));
    if (keys == NULL)
        return NULL;
    atomic_init(&keys->references, 1);
    if (table_init(&keys->table))
        return keys;
    free(keys);
    return NULL;
}

static void domain_free(struct dkim_domain *domain)
{
    for (uint32_t i = 0; i < domain->count; i++) {
        signature_key_free(domain->keys[i].key);
        free(domain->keys[i].selector);
    }
    free(domain->name);
    free(domain);
}

void dkim_keys_free(struct dkim_keys *keys)
{
    if (keys == NULL || atomic_fetch_sub_explicit(&keys->references, 1, memory_order_acq_rel) != 1)
        return;
    for (uint32_t i = 0; i < keys->count; i++)
        domain_free(keys->domains[i]);
    free(keys->domains);
    table_cleanup(&keys->table);
    free(keys);
}

void dkim_domain_keep(const struct dkim_domain *domain)
{
    atomic_fetch_add_explicit(&domain->owner->references, 1, memory_order_relaxed);
}

void dkim_domain_drop(const struct dkim_domain *domain)
{
    dkim_keys_free(domain->owner);
}

static struct dkim_domain *find(const struct dkim_keys *keys, struct bytes name)
{
    struct table_key key;
    if (!table_key_set(&key, 0, name))
        return NULL;
    const struct table_entry *entry = table_at(&keys->table, table_find(&keys->table, &key));
    return entry == NULL ? NULL : keys->domains[entry->value];
}

const struct dkim_domain *dkim_keys_find(const struct dkim_keys *keys, struct bytes domain)
{
    return find(keys, domain);
}

uint32_t dkim_domain_count(const struct dkim_domain *domain)
{
    return domain->count;
}

bool dkim_domain_slow(const struct dkim_domain *domain)
{
    bool slow = false;
    for (uint32_t i = 0; i < domain->count; i++)
        slow = slow || signature_key_kind(domain->keys[i].key) == SIGNATURE_RSA;
    return slow;
}

static char *copy_lower(struct bytes in)
{
    char *out = malloc(in.len + 1);
    if (out == NULL)
        return NULL;
    for (size_t i = 0; i < in.len; i++)
        out[i] = (char)byte_lower(in.data[i]);
    out[in.len] = '\0';
    return out;
}

/* domain_new adds a domain without keys. */
static struct dkim_domain *domain_new(struct dkim_keys *keys, struct bytes name)
{
    struct table_key key;
    if (keys->count == keys->room) {
        uint32_t room = keys->room * 2 + 8;
        struct dkim_domain **more = realloc(keys->domains, room * sizeof(struct dkim_domain *));
        if (more == NULL)
            return NULL;
        keys->domains = more;
        keys->room = room;
    }
    struct dkim_domain *domain = calloc(1, sizeof(*domain));
    if (domain == NULL)
        return NULL;
    domain->owner = keys;
    domain->name = copy_lower(name);
    CHECK(table_key_set(&key, 0, name));
    struct table_entry *entry = domain->name == NULL ? NULL : table_insert(&keys->table, &key);
    if (entry == NULL) {
        domain_free(domain);
        return NULL;
    }
    entry->value = keys->count;
    keys->domains[keys->count++] = domain;
    return domain;
}

static bool is_name(struct bytes text)
{
    enum address_domain_kind kind;
    return address_domain(text, true, &kind) == ADDRESS_OK && kind == ADDRESS_NAME;
}

/* complaint_about says what is wrong with a further key; NULL: nothing. `domain` NULL: it has none
 * yet. */
static const char *complaint_about(struct bytes name, const struct dkim_domain *domain,
                                   struct bytes selector)
{
    if (!is_name(name))
        return "the domain is not a domain name";
    if (!is_name(selector))
        return "the selector is not like a domain name: letters, digits, hyphens, dots";
    if (selector.len + (sizeof("._domainkey.") - 1) + name.len > RECORD_NAME_MAX)
        return "selector and domain are too long for the name of a DNS record";
    if (domain != NULL && domain->count == DKIM_KEYS_MAX)
        return "a domain has 4 keys at most";
    for (uint32_t i = 0; domain != NULL && i < domain->count; i++)
        if (bytes_equal_nocase(bytes_of_string(domain->keys[i].selector), selector))
            return "the domain has another key with this selector";
    return NULL;
}

bool dkim_keys_add(struct dkim_keys *keys, struct bytes domain, struct bytes selector,
                   struct signature_key *key, const char **error)
{
    struct dkim_domain *to = find(keys, domain);
    *error = complaint_about(domain, to, selector);
    if (*error != NULL)
        return false;
    char *copy = copy_lower(selector);
    if (to == NULL && copy != NULL)
        to = domain_new(keys, domain);
    if (to == NULL || copy == NULL) {
        free(copy);
        *error = "out of memory";
        return false;
    }
    to->keys[to->count++] = (struct dkim_key){key, copy};
    return true;
}

/* --- what is signed --- */

/* The fields of one name: how many, and the values of the last of them; value[i % REPEATS_MAX] is
 * that of the i-th. */
struct found {
    size_t count;
    struct bytes name[REPEATS_MAX], value[REPEATS_MAX];
};

static void hash_take(void *user, struct bytes piece)
{
    crypto_hash_add(user, piece.data, piece.len);
}

static void look_through(struct bytes header, struct found found[RULE_COUNT])
{
    struct header_field field;
    size_t used;
    while (header_next(header, &field, &used) == HEADER_FIELD) {
        header = bytes_skip(header, used);
        for (size_t i = 0; i < RULE_COUNT; i++)
            if (header_is(&field, rules[i].name)) {
                size_t at = found[i].count++ % REPEATS_MAX;
                found[i].name[at] = field.name;
                found[i].value[at] = field.value;
                break;
            }
    }
}

/* add_name adds one to h=, folded; false: it is full. */
static bool add_name(struct dkim_header *header, struct bytes name)
{
    static const char fold[] = ":\r\n\t";
    bool folds = header->line_len + 1 + name.len > LINE_MAX_LEN - 8;
    size_t between = header->names_len == 0 ? 0 : folds ? sizeof(fold) - 1 : 1;
    if (header->names_len + between + name.len > DKIM_NAMES_MAX)
        return false;
    memcpy(header->names + header->names_len, fold, between);
    memcpy(header->names + header->names_len + between, name.data, name.len);
    header->names_len += between + name.len;
    header->line_len = between > 1 ? name.len : header->line_len + between + name.len;
    return true;
}

/* choose hashes what is signed, from the last field of a name up (RFC 6376 5.4.2), and lists it. */
static void choose(const struct found found[RULE_COUNT], struct dkim_header *header)
{
    for (size_t i = 0; i < RULE_COUNT; i++) {
        size_t count = found[i].count < REPEATS_MAX ? found[i].count : REPEATS_MAX;
        bool listed = true;
        for (size_t j = 1; j <= count && listed; j++) {
            size_t at = (found[i].count - j) % REPEATS_MAX;
            listed = add_name(header, rules[i].name);
            if (listed)
                canon_field(found[i].name[at], found[i].value[at], true, hash_take, &header->hash);
        }
        bool seals = rules[i].seal == SEAL_ALWAYS || (rules[i].seal == SEAL_PRESENT && count > 0);
        if (seals && listed && found[i].count == count) /* else one more would mean one of these */
            (void)add_name(header, rules[i].name);
    }
}

/* --- the field --- */

/* begin_field writes the field up to its signature, and returns the length. */
static size_t begin_field(const struct dkim_domain *domain, const struct dkim_key *key,
                          const struct dkim_header *header,
                          const uint8_t body_hash[CRYPTO_SHA256_LEN], uint64_t now_s, char *out)
{
    char body[(CRYPTO_SHA256_LEN + 2) / 3 * 4];
    size_t body_len = base64_encode(bytes_make(body_hash, CRYPTO_SHA256_LEN), body);
    bool rsa = signature_key_kind(key->key) == SIGNATURE_RSA;
    int len =
        snprintf(out, DKIM_FIELD_MAX,
                 "DKIM-Signature: v=1; a=%s-sha256; c=relaxed/relaxed;\r\n"
                 "\td=%s; s=%s; t=%llu;\r\n\th=%.*s;\r\n\tbh=%.*s;\r\n\tb=",
                 rsa ? "rsa" : "ed25519", domain->name, key->selector, (unsigned long long)now_s,
                 (int)header->names_len, header->names, (int)body_len, body);
    CHECK(len > 0 && len < DKIM_FIELD_MAX);
    return (size_t)len;
}

/* end_field writes the signature behind it, folded, and returns the whole length. */
static size_t end_field(const uint8_t *signature, size_t signature_len, char *out, size_t len)
{
    char text[BASE64_SIGNATURE_MAX];
    size_t text_len = base64_encode(bytes_make(signature, signature_len), text);
    for (size_t at = 0; at < text_len;) {
        size_t piece = text_len - at < LINE_MAX_LEN - 4 ? text_len - at : LINE_MAX_LEN - 4;
        CHECK(len + piece + 4 <= DKIM_FIELD_MAX);
        if (at > 0) {
            memcpy(out + len, "\r\n\t", 3);
            len += 3;
        }
        memcpy(out + len, text + at, piece);
        len += piece;
        at += piece;
    }
    CHECK(len + 2 <= DKIM_FIELD_MAX);
    memcpy(out + len, "\r\n", 2);
    return len + 2;
}

/* sign_field: the field itself is hashed last, its signature empty and without its CR LF (RFC 6376
 * 3.7). Returns the length; 0: it failed. */
static size_t sign_field(const struct dkim_key *key, const struct crypto_hash *before, char *out,
                         size_t len)
{
    const size_t name_len = sizeof("DKIM-Signature") - 1;
    uint8_t digest[CRYPTO_SHA256_LEN], signature[SIGNATURE_LEN_MAX];
    struct crypto_hash hash = *before;
    canon_field(bytes_make(out, name_len), bytes_make(out + name_len + 1, len - name_len - 1),
                false, hash_take, &hash);
    crypto_hash_end(&hash, digest);
    size_t signature_len = signature_make(key->key, digest, signature);
    return signature_len == 0 ? 0 : end_field(signature, signature_len, out, len);
}

void dkim_header_begin(struct dkim_header *header, struct bytes section)
{
    struct found found[RULE_COUNT] = {0};
    memset(header, 0, sizeof(*header));
    crypto_hash_begin(&header->hash);
    look_through(section, found);
    choose(found, header);
}

bool dkim_sign(const struct dkim_domain *domain, const struct dkim_header *header,
               const uint8_t body_hash[CRYPTO_SHA256_LEN], uint64_t now_s,
               char *const out[DKIM_KEYS_MAX], size_t lens[DKIM_KEYS_MAX])
{
    bool good = true;
    for (uint32_t i = 0; i < domain->count && good; i++) {
        size_t len = begin_field(domain, &domain->keys[i], header, body_hash, now_s, out[i]);
        lens[i] = sign_field(&domain->keys[i], &header->hash, out[i], len);
        good = lens[i] > 0;
    }
    return good;
}
