/* Passwords as Dovecot and doveadm store them: "{SCHEME}hash". Hashing is slow on purpose (up to
 * seconds, and ARGON2ID takes memory): it belongs to a helper thread. The only user of libxcrypt
 * and libargon2. */
#ifndef GATEWAY_POLICY_PASSWORD_H
#define GATEWAY_POLICY_PASSWORD_H

#include "parser/bytes.h"

enum password_scheme {
    PASSWORD_UNKNOWN = 0,
    PASSWORD_SHA512_CRYPT,  /* $6$ */
    PASSWORD_BLF_CRYPT,     /* $2y$ */
    PASSWORD_ARGON2ID,      /* $argon2id$ */
    PASSWORD_SCRAM_SHA_256, /* iterations,salt,StoredKey,ServerKey */
    PASSWORD_CRYPT, /* {CRYPT}, {SHA256-CRYPT}: whatever crypt(3) takes, as long as it is no toy */
    PASSWORD_SCHEME_COUNT,
};

enum { PASSWORD_TEXT_MAX = 512, PASSWORD_MEMORY_MAX = 256 << 20 };

/* password_read checks a stored password and sets *hash to what follows the braces (borrowed from
 * `stored`). PASSWORD_UNKNOWN: *error (constant) says why: no scheme, one that is not taken (plain
 * text, MD5, DES), a malformed hash, or one whose cost is out of bounds (an ARGON2ID that wants
 * more than PASSWORD_MEMORY_MAX). */
enum password_scheme password_read(struct bytes stored, struct bytes *hash, const char **error);

/* password_matches compares, in time that does not tell where they differ. Any thread; slow. False
 * also without memory (*failed is set then; may be NULL). */
bool password_matches(enum password_scheme scheme, struct bytes hash, struct bytes password,
                      bool *failed) __attribute__((warn_unused_result));

/* password_make hashes a new password the way doveadm does, with a random salt, and writes
 * "{SCHEME}hash" to `out` of PASSWORD_TEXT_MAX, NUL-terminated. False: no memory, or nothing that
 * can be hashed. Slow. password_scheme_find knows the names, in any case; password_scheme_name
 * writes them. */
bool password_make(enum password_scheme scheme, struct bytes password, char *out)
    __attribute__((warn_unused_result));
enum password_scheme password_scheme_find(struct bytes name);
const char *password_scheme_name(enum password_scheme scheme);

/* password_memory returns the octets that comparing with this hash needs, for the memory contract;
 * password_work a number that tells its cost from others of the same scheme. */
uint64_t password_memory(enum password_scheme scheme, struct bytes hash);
uint64_t password_work(enum password_scheme scheme, struct bytes hash);

#endif
