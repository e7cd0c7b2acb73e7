/* Who receives mail here, and where it is sent on to: domains, their recipients and aliases, from
 * the configuration and the files it names. Immutable once built; a reload builds a new one. Looked
 * up at every RCPT, so a lookup is one hash of the domain and one or two of the local part, whether
 * there are ten recipients or a million. docs/routing.md has the rules. */
#ifndef GATEWAY_POLICY_DIRECTORY_H
#define GATEWAY_POLICY_DIRECTORY_H

#include "gateway/policy/srs.h"
#include "parser/address.h"

struct directory;

enum directory_verdict {
    DIRECTORY_ACCEPT = 0,
    DIRECTORY_NO_SUCH_USER = 1, /* the domain is ours, the user is not: 550 5.1.1 */
    DIRECTORY_RELAY_DENIED = 2, /* the domain is not ours: 550 5.7.1 */
    DIRECTORY_LOOP = 3,         /* its aliases lead in a circle, or too deep: 550 5.4.6 */
    DIRECTORY_TOO_MANY = 4, /* its aliases lead to more recipients than there may be: 550 5.2.4 */
    DIRECTORY_BAD_SRS = 5,  /* an SRS address of ours that is forged or too old: 550 5.7.1 */
    DIRECTORY_BAD_ADDRESS = 6, /* no mailbox of ours is so long: 501 5.1.3 */
    DIRECTORY_LATER = 7,       /* an SRS address, and too many were forged of late: 451 4.7.1 */
    DIRECTORY_ROUTED = 8,      /* "u%x" or "x!u", which a "*" would carry to others: 550 5.7.1 */
};

/* What a domain's section says for RCPT. */
enum directory_flags {
    DIRECTORY_THROUGH = 1 << 0,   /* mode = through */
    DIRECTORY_CALLAHEAD = 1 << 1, /* verify = callahead */
    DIRECTORY_NO_TARGET = 1 << 2, /* no deliver: no mail can stay here */
};

enum { DIRECTORY_DEPTH_MAX = 16 /* aliases that lead to aliases */ };

/* A mailbox that an address stands for in the end. */
struct directory_target {
    struct bytes mailbox;
    bool forwarded; /* not ours: the route of foreign domains, and SRS */
};

struct directory_step; /* private */

/* Where directory_expand puts its answer; its memory is used again and again. Private but for the
 * first four. */
struct directory_expansion {
    struct directory_target *targets; /* without duplicates; valid until the next call */
    uint32_t target_count;            /* at least 1 with DIRECTORY_ACCEPT */
    uint32_t flags; /* enum directory_flags of the domain, when the address is its own one target */
    bool aliased;   /* the target is not the address as it was given */
    uint32_t target_max;
    uint32_t step_count, step_max;
    struct directory_step *steps; /* mailboxes on the way, in the order in which they were found */
    uint64_t *marks;              /* of steps, by hash: generation and index */
    uint32_t mark_count;
    uint32_t generation;
    uint8_t *text; /* of mailboxes that stand nowhere else */
    size_t text_len, text_max;
};

/* directory_new returns an empty directory, owned; NULL: no memory. directory_free takes it back.
 */
struct directory *directory_new(void);
void directory_free(struct directory *directory);

/* directory_add_domain adds a domain (any case; U-labels and A-labels are the same name only when
 * given both). Returns its index from 0, or -1: no memory, -2: already there. */
int directory_add_domain(struct directory *directory, struct bytes name);

/* directory_add_recipient adds one pattern to a domain: "alice", "alice+*" (alice and
 * alice+anything), "*" (catch-all). Local parts are compared without regard to ASCII case, as
 * unquoted text. False: no memory, or not a valid pattern. */
bool directory_add_recipient(struct directory *directory, int domain, struct bytes pattern)
    __attribute__((warn_unused_result));

/* directory_has_aliases: has any alias been added whose domain this is? */
bool directory_has_aliases(const struct directory *directory, int domain);

/* directory_set_flags sets a domain's flags (enum directory_flags). */
void directory_set_flags(struct directory *directory, int domain, uint32_t flags);

/* directory_set_srs: addresses of this SRS domain are taken when they are genuine, and stand for
 * whom they say. Borrowed. */
void directory_set_srs(struct directory *directory, const struct srs *srs);

/* directory_add_alias lets mail for `from` go to `to` (again for more: one to many). `from` is
 * "user@domain", "user+*@domain" (user, with any tag or none) or "*@domain" (whoever is neither
 * recipient nor alias there); its domain must have been added. `to` is a mailbox, "*@other" (the
 * same local part there), or, unless `from` is a plain user, "box+*@other" (the tag, or the local
 * part that "*" stood for, becomes the tag there). An alias goes before a recipient of that name;
 * one that leads to itself too keeps a copy here. False: *error (constant) says why. */
bool directory_add_alias(struct directory *directory, struct bytes from, struct bytes to,
                         const char **error) __attribute__((warn_unused_result));

/* directory_alias_loop looks for aliases that lead in a circle without an end; writes one of them
 * ("a@x -> b@y -> a@x") to `out` and returns true. What only a "*" can lead round is found at RCPT.
 * directory_alias_missing looks for an alias that leads to a user of ours who does not exist, and
 * writes "a@x -> b@y". Both in time proportional to the number of aliases. `size` >= 16. */
bool directory_alias_loop(const struct directory *directory, char *out, size_t size);
bool directory_alias_missing(const struct directory *directory, char *out, size_t size);

/* directory_alias_copy looks for an alias that keeps a copy in a domain with DIRECTORY_NO_TARGET,
 * and writes "a@x -> a@x". */
bool directory_alias_copy(const struct directory *directory, char *out, size_t size);

/* directory_expansion_init makes room for `target_max` targets. False: no memory. */
bool directory_expansion_init(struct directory_expansion *expansion, uint32_t target_max)
    __attribute__((warn_unused_result));
void directory_expansion_free(struct directory_expansion *expansion);

/* directory_expand says whether mail for `address` is taken, and whom it stands for: follows
 * aliases to their end. `now_s`: Unix time, for SRS. */
enum directory_verdict directory_expand(const struct directory *directory,
                                        const struct address *address, uint64_t now_s,
                                        struct directory_expansion *expansion);

/* directory_check says whether mail for `address` is taken. Postmaster, with or without one of our
 * domains, always is (RFC 5321 4.5.1), in any case; a domain without recipients has that of the
 * first domain. "user+tag" is taken where "user+*" is listed.
 */
enum directory_verdict directory_check(const struct directory *directory,
                                       const struct address *address);

/* How many patterns there are, and how many aliases (a pair of addresses each), for the log. */
size_t directory_recipient_count(const struct directory *directory);
size_t directory_alias_count(const struct directory *directory);

#endif
