/* Domains and their recipients: see directory.h. Users stand in one table below the index of their
 * domain; aliases hang on them (directory_aliases.c, directory_expand.c). */
#include "gateway/policy/directory.h"

#include "gateway/base/check.h"
#include "gateway/policy/directory_inside.h"

#include <errno.h>
#include <stdlib.h>

static bool grow_domains(struct directory *directory);
static bool parse_pattern(struct bytes pattern, struct table_key *key, uint8_t *flags);

struct directory *directory_new(void)
{
    struct directory *directory = calloc(1, sizeof(*directory));
    if (directory == NULL || table_init(&directory->table))
        return directory;
    free(directory);
    return NULL;
}

void directory_free(struct directory *directory)
{
    if (directory == NULL)
        return;
    table_cleanup(&directory->table);
    free(directory->domains);
    for (uint32_t i = 0; i < directory->chunk_count; i++)
        free(directory->chunks[i]);
    free(directory->chunks);
    free(directory);
}

int directory_add_domain(struct directory *directory, struct bytes name)
{
    struct table_key key;
    CHECK(name.len > 0);
    if (!table_key_set(&key, DIRECTORY_DOMAINS, name) || !grow_domains(directory))
        return -1;
    if (table_find(&directory->table, &key) < directory->table.slot_count)
        return -2;
    struct table_entry *entry = table_insert(&directory->table, &key);
    if (entry == NULL)
        return -1;
    entry->value = directory->domain_count;
    directory->domains[entry->value] = (struct directory_domain){
        .place = (uint32_t)((uint8_t *)entry - directory->table.arena),
    };
    return (int)directory->domain_count++;
}

bool directory_add_recipient(struct directory *directory, int domain, struct bytes pattern)
{
    struct table_key key;
    uint8_t flags;
    CHECK(domain >= 0 && (uint32_t)domain < directory->domain_count);
    directory->domains[domain].has_users = true;
    if (bytes_equal(pattern, BYTES("*"))) {
        directory->domains[domain].catch_all = true;
        directory->recipient_count++;
        return true;
    }
    if (!parse_pattern(pattern, &key, &flags))
        return false;
    key.scope = (uint32_t)domain;
    struct table_entry *entry = table_at(&directory->table, table_find(&directory->table, &key));
    if (entry == NULL)
        entry = table_insert(&directory->table, &key);
    if (entry == NULL)
        return false;
    entry->flags |= flags;
    directory->recipient_count++;
    return true;
}

bool directory_has_aliases(const struct directory *directory, int domain)
{
    CHECK(domain >= 0 && (uint32_t)domain < directory->domain_count);
    return directory->domains[domain].has_aliases;
}

void directory_set_flags(struct directory *directory, int domain, uint32_t flags)
{
    CHECK(domain >= 0 && (uint32_t)domain < directory->domain_count);
    directory->domains[domain].flags = flags;
}

void directory_set_srs(struct directory *directory, const struct srs *srs)
{
    directory->srs = srs;
}

enum directory_verdict directory_check(const struct directory *directory,
                                       const struct address *address)
{
    uint8_t text[ADDRESS_LOCAL_LEN_MAX];
    struct bytes local = bytes_make(text, address_local_unquoted(address, text));
    if (address->domain.len == 0)
        return bytes_equal_nocase(local, BYTES("postmaster")) ? DIRECTORY_ACCEPT
                                                              : DIRECTORY_RELAY_DENIED;
    uint32_t domain = directory_domain_of(directory, address->domain);
    if (domain == directory->domain_count)
        return DIRECTORY_RELAY_DENIED;
    return directory_match_local(directory, domain, local).found == DIRECTORY_NOBODY
               ? DIRECTORY_NO_SUCH_USER
               : DIRECTORY_ACCEPT;
}

size_t directory_recipient_count(const struct directory *directory)
{
    return directory->recipient_count;
}

size_t directory_alias_count(const struct directory *directory)
{
    return directory->alias_count;
}

/* --- looking up --- */

uint32_t directory_domain_of(const struct directory *directory, struct bytes name)
{
    struct table_key key;
    if (!table_key_set(&key, DIRECTORY_DOMAINS, name))
        return directory->domain_count;
    const struct table_entry *entry =
        table_at(&directory->table, table_find(&directory->table, &key));
    return entry == NULL ? directory->domain_count : entry->value;
}

/* Users may have a "+" of their own ("a+b+*" is listed), so each is tried as the one before the
 * tag, the longest user first. */
static bool match_tagged(const struct directory *directory, struct table_key *key,
                         struct directory_match *match)
{
    for (uint8_t i = key->len; i > 1; i--) {
        if (key->text[i - 1] != '+')
            continue;
        key->len = (uint8_t)(i - 1);
        match->node = table_find(&directory->table, key);
        const struct table_entry *entry = table_at(&directory->table, match->node);
        if (entry == NULL || (entry->flags & (DIRECTORY_TAGGED | DIRECTORY_ALIAS_TAGGED)) == 0)
            continue;
        match->tag_start = i;
        match->kind = DIRECTORY_LINK_TAGGED;
        match->aliases = entry->value;
        match->found =
            entry->flags & DIRECTORY_ALIAS_TAGGED ? DIRECTORY_ALIASED : DIRECTORY_MAILBOX;
        return true;
    }
    return false;
}

/* The very name goes before "user+*" without a tag, and an alias before a recipient. */
static bool match_named(const struct table_entry *entry, struct directory_match *match)
{
    bool named = (entry->flags & (DIRECTORY_ALIAS | DIRECTORY_USER)) != 0;
    uint8_t aliased = named ? DIRECTORY_ALIAS : DIRECTORY_ALIAS_TAGGED;
    if (entry->flags & aliased) {
        match->found = DIRECTORY_ALIASED;
        match->aliases = entry->value;
        match->kind = named ? 0 : DIRECTORY_LINK_TAGGED;
    } else if (entry->flags & (DIRECTORY_USER | DIRECTORY_TAGGED)) {
        match->found = DIRECTORY_MAILBOX;
    }
    return match->found != DIRECTORY_NOBODY;
}

struct directory_match directory_match_local(const struct directory *directory, uint32_t domain,
                                             struct bytes local)
{
    struct table_key key;
    struct directory_match match = {.tag_start = (uint8_t)local.len};
    const struct directory_domain *host = &directory->domains[domain];
    if (!table_key_set(&key, domain, local))
        return match;
    match.node = table_find(&directory->table, &key);
    const struct table_entry *entry = table_at(&directory->table, match.node);
    if (entry != NULL && match_named(entry, &match))
        return match;
    if (match_tagged(directory, &key, &match))
        return match;
    if (host->aliases != 0) {
        match.found = DIRECTORY_ALIASED;
        match.aliases = host->aliases;
        match.kind = 0;
        match.tag_start = 0;
        match.node = directory->table.slot_count + domain;
        return match;
    }
    bool postmaster = bytes_equal_nocase(local, BYTES("postmaster"));
    if (postmaster && !host->has_users && host->has_aliases && domain > 0)
        match.found = DIRECTORY_POSTMASTER;
    else if (host->catch_all || postmaster)
        match.found = DIRECTORY_MAILBOX;
    return match;
}

/* --- building --- */

/* Sets *key but for its scope, and *flags. A star that means nothing is refused, for it was meant
 * to mean something. */
static bool parse_pattern(struct bytes pattern, struct table_key *key, uint8_t *flags)
{
    static const struct bytes domain = {(const uint8_t *)"@x", 2};
    uint8_t mailbox[ADDRESS_LOCAL_LEN_MAX + 2];
    uint8_t local[ADDRESS_LOCAL_LEN_MAX];
    struct address address;
    *flags = DIRECTORY_USER;
    if (pattern.len >= 2 && bytes_equal(bytes_skip(pattern, pattern.len - 2), BYTES("+*"))) {
        *flags = DIRECTORY_TAGGED;
        pattern.len -= 2;
    }
    if (pattern.len > ADDRESS_LOCAL_LEN_MAX)
        return false;
    memcpy(mailbox, pattern.data, pattern.len);
    memcpy(mailbox + pattern.len, domain.data, domain.len);
    if (address_mailbox(bytes_make(mailbox, pattern.len + domain.len), true, &address) !=
            ADDRESS_OK ||
        address.local.len != pattern.len || directory_has_star(&address, address.local.len))
        return false;
    size_t len = address_local_unquoted(&address, local);
    return table_key_set(key, 0, bytes_make(local, len));
}

static bool grow_domains(struct directory *directory)
{
    if (directory->domain_count < directory->domain_size)
        return true;
    uint32_t size = directory->domain_size == 0 ? 16 : directory->domain_size * 2;
    struct directory_domain *domains =
        size > INT32_MAX ? NULL : realloc(directory->domains, size * sizeof(*domains));
    if (domains == NULL) {
        errno = ENOMEM;
        return false;
    }
    directory->domains = domains;
    directory->domain_size = size;
    return true;
}
