/* The inside of a directory, for directory.c, directory_aliases.c and directory_expand.c only. */
#ifndef GATEWAY_POLICY_DIRECTORY_INSIDE_H
#define GATEWAY_POLICY_DIRECTORY_INSIDE_H

#include "gateway/policy/directory.h"
#include "gateway/policy/table.h"

enum { DIRECTORY_DOMAINS = INT32_MAX /* the scope of their names; their value is their index */ };

/* Of a user, whose scope is the index of the domain, and whose value is the list of its aliases. */
enum directory_user_flags {
    DIRECTORY_USER = 1 << 0,   /* listed as a recipient by that very name */
    DIRECTORY_TAGGED = 1 << 1, /* "user+*" was listed: any tag may follow, or none */
    DIRECTORY_ALIAS = 1 << 2,
    DIRECTORY_ALIAS_TAGGED = 1 << 3, /* "user+*" is an alias */
};

struct directory_domain {
    uint32_t place;   /* of its entry in the table's arena */
    uint32_t aliases; /* of "*", a list; 0: none */
    uint32_t flags;   /* enum directory_flags */
    bool catch_all;   /* "*" is a recipient */
    bool has_users;   /* it has any recipient */
    bool has_aliases;
};

/* Links lie in chunks that never move, so that a million of them take their own size and no more.
 */
enum { DIRECTORY_CHUNK_BITS = 20, DIRECTORY_CHUNK = 1 << DIRECTORY_CHUNK_BITS };

/* What one alias leads to. Its place is the number of its chunk and where it lies in it; a list is
 * the place + 1 of its last, whose next is its first. */
struct directory_link {
    uint32_t next;  /* place */
    uint8_t kind;   /* enum directory_link_kind */
    uint8_t len;    /* never 0 */
    uint8_t text[]; /* `to` as it was written */
};

enum directory_link_kind {
    DIRECTORY_LINK_MAILBOX = 0,
    DIRECTORY_LINK_SAME = 1,       /* "*@other" */
    DIRECTORY_LINK_TAG = 2,        /* "box+*@other" */
    DIRECTORY_LINK_TAGGED = 1 << 7 /* and: the alias is "user+*" */
};

struct directory {
    struct table table; /* domains and users */
    struct directory_domain *domains;
    uint32_t domain_count;
    uint32_t domain_size;
    uint8_t **chunks; /* links, DIRECTORY_CHUNK octets each, zeros behind the last link */
    uint32_t chunk_count;
    uint32_t chunk_size; /* of the array */
    uint32_t chunk_used; /* octets of the last chunk */
    size_t recipient_count;
    size_t alias_count;
    const struct srs *srs;
};

enum directory_found {
    DIRECTORY_NOBODY = 0,
    DIRECTORY_MAILBOX = 1, /* a recipient, or postmaster */
    DIRECTORY_ALIASED = 2,
    DIRECTORY_POSTMASTER = 3, /* of a domain without recipients: that of our first */
};

/* Who a local part is in a domain. */
struct directory_match {
    enum directory_found found;
    uint32_t aliases;  /* the list, with DIRECTORY_ALIASED */
    uint8_t kind;      /* DIRECTORY_LINK_TAGGED or 0: only these of the list */
    uint8_t tag_start; /* where in the local part the tag begins; its length: no tag */
    uint32_t node;     /* slot of the user, or slot_count + domain index: where the list hangs */
};

/* directory_domain_of returns the index of a domain, or domain_count: not ours. */
uint32_t directory_domain_of(const struct directory *directory, struct bytes name);

/* directory_match_local looks up a local part (its meaning, in any case) in a domain of ours. */
struct directory_match directory_match_local(const struct directory *directory, uint32_t domain,
                                             struct bytes local);

/* directory_has_star: is there a "*" among the first `len` octets of a local part that is not in
 * quotes? */
static inline bool directory_has_star(const struct address *address, size_t len)
{
    return !address->quoted && bytes_find(bytes_slice(address->local, 0, len), '*') < len;
}

/* directory_link_at returns the link at a place (without + 1). */
static inline const struct directory_link *directory_link_at(const struct directory *directory,
                                                             uint32_t place)
{
    const uint8_t *chunk = directory->chunks[place >> DIRECTORY_CHUNK_BITS];
    return (const struct directory_link *)(const void *)(chunk + (place & (DIRECTORY_CHUNK - 1)));
}

/* directory_link_write writes the mailbox that `link` makes of a local part to `out`
 * (ADDRESS_LEN_MAX octets); its length, 0: there is no such mailbox. DIRECTORY_LINK_MAILBOX needs
 * no writing. */
size_t directory_link_write(const struct directory_link *link, struct bytes local, struct bytes tag,
                            char *out);

#endif
