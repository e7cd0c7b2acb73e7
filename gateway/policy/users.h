/* The users of a file that Dovecot's passwd-file reads, too: "user:{SCHEME}hash[:...]", what
 * follows a second colon is ignored. Immutable once built; a reload builds a new one. */
#ifndef GATEWAY_POLICY_USERS_H
#define GATEWAY_POLICY_USERS_H

#include "gateway/policy/password.h"

struct scram_secret;
struct users;

struct user {
    struct bytes name; /* as the file writes it */
    struct bytes hash; /* without its scheme */
    enum password_scheme scheme;
};

struct users *users_new(void) __attribute__((warn_unused_result));
void users_free(struct users *users); /* hashes are wiped; NULL is allowed */

/* users_add reads one line that is neither empty nor a comment. False: *error (constant) says why;
 * a name that is there already is an error. A password of "!" or "*", or with "!" before it, locks
 * the user out. */
bool users_add(struct users *users, struct bytes line, const char **error)
    __attribute__((warn_unused_result));

/* users_find looks a user up, in any case of ASCII letters; a name without "@" also as name@domain
 * (NULL: no domain), and one with that domain also without. NULL: there is none. Borrowed. */
const struct user *users_find(const struct users *users, struct bytes name, const char *domain);

/* users_stranger returns a user that nobody is, with a hash of the commonest kind and cost among
 * the others: what is compared when there is no such user, so that it takes as long. */
const struct user *users_stranger(const struct users *users);

size_t users_count(const struct users *users);

/* users_has tells whether the file has this very name; users_anybody, whether somebody in it is not
 * locked out. users_bare returns a name without "@", .len 0: there is none. */
bool users_has(const struct users *users, struct bytes name);
bool users_anybody(const struct users *users);
struct bytes users_bare(const struct users *users);
uint64_t users_memory(const struct users *users); /* the most that one comparison needs */

/* users_scram tells whether any user can log in with SCRAM-SHA-256. users_scram_stranger makes what
 * SCRAM shows for a name that has no such secret, in both its forms (users_find): iterations and
 * the salt's length are those of most others; the salt is always the same in this process, and
 * after users_keep_salts in all that have the same secret (false: no memory). */
bool users_scram(const struct users *users);
void users_scram_stranger(const struct users *users, struct bytes name, const char *domain,
                          struct scram_secret *out);
bool users_keep_salts(struct users *users, struct bytes secret) __attribute__((warn_unused_result));

#endif
