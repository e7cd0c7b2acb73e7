/* A certificate chain and its private key, loaded from PEM files; the names it is for. Immutable
 * and counted; shared by all contexts. */
#ifndef TLS_CERTIFICATE_H
#define TLS_CERTIFICATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct certificate;

/* certificate_load reads the chain (leaf first) and the key. NULL when a file is unreadable, is no
 * PEM, does not belong to the other, has a key of a kind we do not take (RSA of 2048 bits and more,
 * ECDSA P-256 and P-384 are taken), or when the leaf has expired or is not valid yet: `error` then
 * has a sentence that names the file. Otherwise one reference. */
struct certificate *certificate_load(const char *chain, const char *key, char *error,
                                     size_t error_size) __attribute__((warn_unused_result));
struct certificate *certificate_keep(struct certificate *certificate);
void certificate_drop(struct certificate *certificate); /* NULL is allowed */

/* certificate_matches: is it for `name` (lower case, no dot at its end)? `wildcard`: by a wildcard
 * of one label (RFC 6125 6.4.3); not: by its exact name. */
bool certificate_matches(const struct certificate *certificate, const char *name, bool wildcard);

/* certificate_names writes all names that it is for, wildcards too, with a comma between two, to
 * `out` (cut where its room ends; NUL at the end), and returns how many there are. For the log. */
size_t certificate_names(const struct certificate *certificate, char *out, size_t out_size);

bool certificate_is_rsa(const struct certificate *certificate);
bool certificate_is_self_signed(const struct certificate *certificate);
int64_t certificate_expires(const struct certificate *certificate);  /* Unix seconds */
const char *certificate_path(const struct certificate *certificate); /* of the chain */

/* certificate_make_self_signed writes a new ECDSA P-256 key (mode 0600) and a certificate for
 * `name` that it has signed itself, valid for ten years, to files that must not exist yet. False:
 * `error` has a sentence. */
bool certificate_make_self_signed(const char *name, const char *chain, const char *key, char *error,
                                  size_t error_size) __attribute__((warn_unused_result));

#endif
