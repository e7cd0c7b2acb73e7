/* DKIM signing (RFC 6376, 8463): keys by domain and selector, and the DKIM-Signature fields of one
 * message. relaxed/relaxed; rsa-sha256 and ed25519-sha256, one field for each key of the domain.
 * docs/submission.md lists the fields that are signed, and which of them once more than they are
 * there. */
#ifndef GATEWAY_POLICY_DKIM_H
#define GATEWAY_POLICY_DKIM_H

#include "parser/bytes.h"
#include "parser/canon.h"
#include "tls/signature.h"

/* The keys of all domains; immutable once built, a reload builds others while the old are in use.
 */
struct dkim_keys;

enum {
    DKIM_KEYS_MAX = 4 /* of a domain */,
    DKIM_FIELD_MAX = 2040 /* octets of one field of ours; two of them fit in a block */
};

/* dkim_keys_free: the keys go with the last domain of theirs that is dropped. NULL is allowed. */
struct dkim_keys *dkim_keys_new(void) __attribute__((warn_unused_result));
void dkim_keys_free(struct dkim_keys *keys);

/* dkim_keys_add gives `domain` a key, which it owns from then on. False: *error (constant) says why
 * (the domain or selector is no domain name, or both together are too long for one; the selector
 * is there already, or there are DKIM_KEYS_MAX; no memory); the key is the caller's then. */
bool dkim_keys_add(struct dkim_keys *keys, struct bytes domain, struct bytes selector,
                   struct signature_key *key, const char **error)
    __attribute__((warn_unused_result));

/* A domain's keys; borrowed. NULL: it has none. Any case. */
struct dkim_domain;
const struct dkim_domain *dkim_keys_find(const struct dkim_keys *keys, struct bytes domain);

/* dkim_domain_keep lets the domain live, whatever becomes of the configuration that it is part of,
 * until dkim_domain_drop. Any thread. */
void dkim_domain_keep(const struct dkim_domain *domain);
void dkim_domain_drop(const struct dkim_domain *domain);

uint32_t dkim_domain_count(const struct dkim_domain *domain);
bool dkim_domain_slow(const struct dkim_domain *domain); /* one is RSA: for a helper */

enum { DKIM_NAMES_MAX = 760 }; /* octets of h=: names that have no room are not signed */

/* What is signed of a header section; members are private. */
struct dkim_header {
    struct crypto_hash hash;
    size_t names_len, line_len;
    char names[DKIM_NAMES_MAX];
};

/* dkim_header_begin takes the header section as it will leave (without the empty line), which need
 * not be there any more afterwards. */
void dkim_header_begin(struct dkim_header *header, struct bytes section);

/* dkim_sign writes a DKIM-Signature field for each key, with its CR LF, to out[] of DKIM_FIELD_MAX
 * octets each, and their lengths to lens[], in the order in which the keys were added. False: a
 * signature failed. `body_hash` is that of the canonical body. Pure but for the keys: any thread.
 */
bool dkim_sign(const struct dkim_domain *domain, const struct dkim_header *header,
               const uint8_t body_hash[CRYPTO_SHA256_LEN], uint64_t now_s,
               char *const out[DKIM_KEYS_MAX], size_t lens[DKIM_KEYS_MAX])
    __attribute__((warn_unused_result));

#endif
