/* Whose addresses are whose: see senders.h. Users and their patterns stand in one table; those of a
 * user below his index, as "local@domain" with the local part as what it means, or "@domain". */
#include "gateway/policy/senders.h"

#include "gateway/policy/mailbox.h"
#include "gateway/policy/table.h"

#include <stdlib.h>

enum { USERS = 0 /* the scope of names; their value is the scope of their patterns */ };

/* Of a user and of a pattern. */
enum sender_flags {
    SENDER_ANYTHING = 1 << 0, /* of a user: "*" */
    SENDER_EXACT = 1 << 1,
    SENDER_TAGGED = 1 << 2, /* "alice+*": with any tag, or none */
    SENDER_DOMAIN = 1 << 3, /* "*@example.org" */
};

struct senders {
    struct table table;
    const char *domain; /* NULL: none */
    uint32_t user_count;
    size_t count;
};

/* An address as it is compared. */
struct meaning {
    uint8_t text[ADDRESS_LOCAL_LEN_MAX];
    struct bytes local;
    struct bytes domain;
};

struct senders *senders_new(const char *domain)
{
    struct senders *senders = calloc(1, sizeof(*senders));
    if (senders == NULL)
        return NULL;
    senders->domain = domain;
    if (table_init(&senders->table))
        return senders;
    free(senders);
    return NULL;
}

void senders_free(struct senders *senders)
{
    if (senders == NULL)
        return;
    table_cleanup(&senders->table);
    free(senders);
}

size_t senders_count(const struct senders *senders)
{
    return senders->count;
}

/* --- building --- */

static bool understand(struct bytes mailbox, struct meaning *meaning)
{
    struct address address;
    enum address_result result = address_mailbox(mailbox, true, &address);
    if (result != ADDRESS_OK && result != ADDRESS_LONG_LOCAL)
        return false;
    meaning->local = bytes_make(meaning->text, address_local_unquoted(&address, meaning->text));
    meaning->domain = address.domain;
    return true;
}

/* key_of makes the key of "local@domain"; false: too long for any. */
static bool key_of(struct table_key *key, uint32_t scope, struct bytes local, struct bytes domain)
{
    uint8_t text[TABLE_KEY_MAX];
    if (local.len + 1 + domain.len > sizeof(text))
        return false;
    if (local.len > 0)
        memcpy(text, local.data, local.len);
    text[local.len] = '@';
    memcpy(text + local.len + 1, domain.data, domain.len);
    return table_key_set(key, scope, bytes_make(text, local.len + 1 + domain.len));
}

/* A pattern that was read: which flag, under which key (but for its scope). */
struct pattern {
    struct table_key key;
    uint8_t flags;
};

static bool parse_domain(struct bytes domain, struct pattern *pattern)
{
    enum address_domain_kind kind;
    pattern->flags = SENDER_DOMAIN;
    return address_domain(domain, true, &kind) == ADDRESS_OK && kind == ADDRESS_NAME &&
           key_of(&pattern->key, USERS, bytes_make(NULL, 0), domain);
}

/* Sets *pattern. A star that means nothing is refused, for it was meant to mean something. */
static bool parse(struct bytes text, struct pattern *pattern)
{
    uint8_t plain[ADDRESS_LEN_MAX];
    struct meaning meaning;
    pattern->flags = SENDER_ANYTHING;
    if (bytes_equal(text, BYTES("*")))
        return true;
    if (text.len > 2 && text.data[0] == '*' && text.data[1] == '@')
        return parse_domain(bytes_skip(text, 2), pattern);
    pattern->flags = SENDER_EXACT;
    bool quoted = text.len > 0 && text.data[0] == '"';
    size_t star = quoted ? text.len : bytes_find(text, '*');
    if (star < text.len) {
        pattern->flags = SENDER_TAGGED;
        if (text.len > sizeof(plain) || star < 2 || text.data[star - 1] != '+' ||
            star + 1 == text.len || text.data[star + 1] != '@')
            return false;
        memcpy(plain, text.data, star - 1);
        memcpy(plain + star - 1, text.data + star + 1, text.len - star - 1);
        text = bytes_make(plain, text.len - 2);
    }
    return understand(text, &meaning) &&
           key_of(&pattern->key, USERS, meaning.local, meaning.domain);
}

static struct table_entry *find_or_insert(struct table *table, const struct table_key *key)
{
    struct table_entry *entry = table_at(table, table_find(table, key));
    return entry != NULL ? entry : table_insert(table, key);
}

bool senders_add(struct senders *senders, struct bytes user, struct bytes text, const char **error)
{
    struct table_key name;
    struct pattern pattern;
    if (user.len == 0 || !table_key_set(&name, USERS, user)) {
        *error = "a user's name has 1 to 255 octets";
        return false;
    }
    if (!parse(text, &pattern)) {
        *error = "not \"user@domain\", \"user+*@domain\", \"*@domain\" or \"*\"";
        return false;
    }
    *error = "out of memory";
    struct table_entry *entry = find_or_insert(&senders->table, &name);
    if (entry == NULL)
        return false;
    if (entry->value == 0)
        entry->value = ++senders->user_count;
    if (pattern.flags == SENDER_ANYTHING) {
        entry->flags |= SENDER_ANYTHING;
    } else {
        pattern.key.scope = entry->value;
        entry = find_or_insert(&senders->table, &pattern.key);
        if (entry == NULL)
            return false;
        entry->flags |= pattern.flags;
    }
    senders->count++;
    return true;
}

/* --- looking up --- */

size_t senders_main(const struct senders *senders, struct bytes user, char *out, size_t size)
{
    char made[ADDRESS_LEN_MAX];
    struct meaning meaning = {.local = user};
    if (bytes_find(user, '@') < user.len) {
        if (!understand(user, &meaning))
            return 0;
    } else if (senders->domain == NULL) {
        return 0;
    } else {
        meaning.domain = bytes_of_string(senders->domain);
    }
    size_t len = mailbox_write(meaning.local, meaning.domain, made);
    if (len > size)
        return 0;
    memcpy(out, made, len);
    return len;
}

/* is_own: it is the user's own address, perhaps with a tag. */
static bool is_own(const struct senders *senders, struct bytes user, const struct meaning *mailbox)
{
    char text[ADDRESS_LEN_MAX];
    struct meaning own;
    size_t len = senders_main(senders, user, text, sizeof(text));
    if (len == 0 || !understand(bytes_make(text, len), &own) ||
        !bytes_equal_nocase(own.domain, mailbox->domain) || mailbox->local.len < own.local.len)
        return false;
    struct bytes tag = bytes_skip(mailbox->local, own.local.len);
    return bytes_equal_nocase(bytes_slice(mailbox->local, 0, own.local.len), own.local) &&
           (tag.len == 0 || tag.data[0] == '+');
}

static bool has(const struct senders *senders, uint32_t scope, struct bytes local,
                struct bytes domain, uint8_t flags)
{
    struct table_key key;
    if (!key_of(&key, scope, local, domain))
        return false;
    const struct table_entry *entry = table_at(&senders->table, table_find(&senders->table, &key));
    return entry != NULL && (entry->flags & flags) != 0;
}

/* is_listed: one of the user's patterns says so. */
static bool is_listed(const struct senders *senders, uint32_t scope, const struct meaning *mailbox)
{
    struct bytes local = mailbox->local;
    if (has(senders, scope, local, mailbox->domain, SENDER_EXACT | SENDER_TAGGED) ||
        has(senders, scope, bytes_make(NULL, 0), mailbox->domain, SENDER_DOMAIN))
        return true;
    for (size_t i = 1; i < local.len; i++) /* the shortest first: who has a tag may have many */
        if (local.data[i] == '+' &&
            has(senders, scope, bytes_slice(local, 0, i), mailbox->domain, SENDER_TAGGED))
            return true;
    return false;
}

/* The entries of a user: that of the name, and that of its other form; NULL: none. */
enum { FORMS = 2 };
struct entries {
    const struct table_entry *of[FORMS];
};

static const struct table_entry *entry_of(const struct senders *senders, struct bytes name)
{
    struct table_key key;
    if (name.len == 0 || !table_key_set(&key, USERS, name))
        return NULL;
    return table_at(&senders->table, table_find(&senders->table, &key));
}

static struct entries find(const struct senders *senders, struct bytes user)
{
    struct entries entries = {.of = {entry_of(senders, user)}};
    char made[TABLE_KEY_MAX];
    size_t at = user.len;
    if (senders->domain == NULL)
        return entries;
    struct bytes domain = bytes_of_string(senders->domain);
    while (at > 0 && user.data[at - 1] != '@')
        at--;
    if (at > 1 && bytes_equal_nocase(bytes_skip(user, at), domain)) {
        entries.of[1] = entry_of(senders, bytes_slice(user, 0, at - 1));
    } else if (at == 0 && user.len > 0 && user.len + 1 + domain.len <= sizeof(made)) {
        memcpy(made, user.data, user.len);
        made[user.len] = '@';
        memcpy(made + user.len + 1, domain.data, domain.len);
        entries.of[1] = entry_of(senders, bytes_make(made, user.len + 1 + domain.len));
    }
    return entries;
}

bool senders_owns_all(const struct senders *senders, struct bytes user)
{
    struct entries entries = find(senders, user);
    for (size_t i = 0; i < FORMS; i++)
        if (entries.of[i] != NULL && (entries.of[i]->flags & SENDER_ANYTHING) != 0)
            return true;
    return false;
}

bool senders_owns(const struct senders *senders, struct bytes user, struct bytes mailbox)
{
    struct meaning meaning;
    if (user.len == 0)
        return false;
    if (senders_owns_all(senders, user))
        return true;
    if (!understand(mailbox, &meaning))
        return false;
    if (is_own(senders, user, &meaning))
        return true;
    struct entries entries = find(senders, user);
    for (size_t i = 0; i < FORMS; i++)
        if (entries.of[i] != NULL && is_listed(senders, entries.of[i]->value, &meaning))
            return true;
    return false;
}
