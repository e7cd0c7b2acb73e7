/* The users file in memory: a table of names, and each user in memory of its own, so that what is
 * borrowed stays where it is. See users.h. */
#include "gateway/policy/users.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/policy/scram.h"
#include "gateway/policy/table.h"

enum {
    KINDS_MAX = 64, /* schemes with their costs; a file with more has no commonest one */
    FIRST_COUNT = 64,
    STRANGERS_SALT = 16, /* when nobody has one */
};

_Static_assert((int)SASL_NAME_MAX <= (int)TABLE_KEY_MAX, "a name is a key");

struct entry {
    struct user user;
    bool locked;
    size_t text_len;
    uint8_t text[]; /* name and hash */
};

struct kind {
    enum password_scheme scheme;
    uint64_t work;
    uint32_t count;
    const struct entry *first;
};

struct users {
    struct table names; /* value: index of the entry */
    struct entry **entries;
    size_t count, room;
    uint64_t memory;
    struct kind kinds[KINDS_MAX];
    uint32_t kind_count;
    const struct kind *commonest;       /* NULL: no user has a password */
    const struct kind *commonest_scram; /* NULL: none for SCRAM */
    uint8_t seed[CRYPTO_SHA256_LEN];    /* of salts for strangers */
    struct user stranger;
};

/* When no user has a password: SHA512-CRYPT of something that nobody knows. */
static const struct bytes nobody = BYTES(
    "$6$GkpuFsTSqmKcZqJ8$T4Qlqy9dhD1X7UYEMHR2oDfeGkBrtxEcuCZO/83PQRIrH5HtUAjuQmSUl.er/8xajIu5e."
    "ccx4yFjF3xVaW4t0");

/* process_seed is the same for all users of this process: a reload shows strangers no new salts. */
static uint8_t random_seed[CRYPTO_SHA256_LEN];

static void make_random_seed(void)
{
    crypto_random(random_seed, sizeof(random_seed));
}

static void process_seed(uint8_t out[CRYPTO_SHA256_LEN])
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_random_seed);
    memcpy(out, random_seed, sizeof(random_seed));
}

struct users *users_new(void)
{
    struct users *users = calloc(1, sizeof(*users));
    if (users == NULL)
        return NULL;
    users->stranger = (struct user){.hash = nobody, .scheme = PASSWORD_SHA512_CRYPT};
    users->memory = password_memory(users->stranger.scheme, nobody);
    process_seed(users->seed);
    if (table_init(&users->names))
        return users;
    free(users);
    return NULL;
}

void users_free(struct users *users)
{
    if (users == NULL)
        return;
    for (size_t i = 0; i < users->count; i++) {
        crypto_wipe(users->entries[i]->text, users->entries[i]->text_len);
        free(users->entries[i]);
    }
    free(users->entries);
    table_cleanup(&users->names);
    crypto_wipe(users->seed, sizeof(users->seed));
    free(users);
}

/* --- reading --- */

static const struct kind *more_of(const struct kind *one, const struct kind *other)
{
    return one == NULL || other->count > one->count ? other : one;
}

/* count_kind notes what the entry's comparisons cost. */
static void count_kind(struct users *users, const struct entry *entry)
{
    const struct user *user = &entry->user;
    uint64_t work = password_work(user->scheme, user->hash);
    uint32_t i = 0;
    while (i < users->kind_count &&
           (users->kinds[i].scheme != user->scheme || users->kinds[i].work != work))
        i++;
    if (i == KINDS_MAX)
        return;
    struct kind *kind = &users->kinds[i];
    if (i == users->kind_count)
        *kind = (struct kind){.scheme = user->scheme, .work = work, .first = entry};
    users->kind_count += i == users->kind_count;
    kind->count++;
    users->commonest = more_of(users->commonest, kind);
    users->stranger.scheme = users->commonest->scheme;
    users->stranger.hash = users->commonest->first->user.hash;
    if (user->scheme != PASSWORD_SCRAM_SHA_256)
        return;
    users->commonest_scram = more_of(users->commonest_scram, kind);
}

static bool make_room(struct users *users)
{
    if (users->count < users->room)
        return true;
    size_t room = users->room == 0 ? FIRST_COUNT : users->room * 2;
    struct entry **entries = reallocarray(users->entries, room, sizeof(struct entry *));
    if (entries == NULL)
        return false;
    users->entries = entries;
    users->room = room;
    return true;
}

static struct entry *make_entry(struct bytes name, struct bytes hash, enum password_scheme scheme)
{
    struct entry *entry = calloc(1, sizeof(*entry) + name.len + hash.len);
    if (entry == NULL)
        return NULL;
    memcpy(entry->text, name.data, name.len);
    if (hash.len > 0)
        memcpy(entry->text + name.len, hash.data, hash.len);
    entry->text_len = name.len + hash.len;
    entry->user = (struct user){
        .name = bytes_make(entry->text, name.len),
        .hash = bytes_make(entry->text + name.len, hash.len),
        .scheme = scheme,
    };
    return entry;
}

/* insert takes an entry. False: no memory; then it is still the caller's. */
static bool insert(struct users *users, const struct table_key *key, struct entry *entry)
{
    struct table_entry *named = make_room(users) ? table_insert(&users->names, key) : NULL;
    if (named == NULL)
        return false;
    named->value = (uint32_t)users->count;
    users->entries[users->count++] = entry;
    uint64_t memory = password_memory(entry->user.scheme, entry->user.hash);
    users->memory = memory > users->memory ? memory : users->memory;
    if (!entry->locked)
        count_kind(users, entry);
    return true;
}

bool users_add(struct users *users, struct bytes line, const char **error)
{
    struct table_key key;
    struct bytes hash = {0};
    enum password_scheme scheme = PASSWORD_UNKNOWN;
    size_t colon = bytes_find(line, ':');
    *error = "a line is user:{SCHEME}hash";
    if (colon == line.len)
        return false;
    struct bytes name = bytes_slice(line, 0, colon);
    struct bytes stored = bytes_skip(line, colon + 1);
    stored.len = bytes_find(stored, ':');
    if (!sasl_name_valid(name) || !table_key_set(&key, 0, name))
        return false;
    *error = "this user is there already";
    if (table_find(&users->names, &key) != users->names.slot_count)
        return false;
    bool locked = stored.len > 0 && (stored.data[0] == '!' || stored.data[0] == '*');
    *error = "an empty password";
    if (stored.len == 0)
        return false;
    if (!locked) {
        scheme = password_read(stored, &hash, error);
        if (scheme == PASSWORD_UNKNOWN)
            return false;
    }
    struct entry *entry = make_entry(name, hash, scheme);
    *error = "out of memory";
    if (entry == NULL)
        return false;
    entry->locked = locked;
    if (insert(users, &key, entry))
        return true;
    free(entry);
    return false;
}

/* --- finding --- */

static const struct entry *find(const struct users *users, struct bytes name)
{
    struct table_key key;
    if (!table_key_set(&key, 0, name))
        return NULL;
    const struct table_entry *entry = table_at(&users->names, table_find(&users->names, &key));
    return entry == NULL ? NULL : users->entries[entry->value];
}

/* domain_at returns where the domain of a name begins, after the last "@": a local part may have
 * others. 0: it has none. */
static size_t domain_at(struct bytes name)
{
    size_t at = name.len;
    while (at > 0 && name.data[at - 1] != '@')
        at--;
    return at;
}

/* without_domain: both forms of a name have the same salt. */
static struct bytes without_domain(struct bytes name, const char *domain)
{
    size_t at = domain == NULL ? 0 : domain_at(name);
    bool ours = at > 0 && bytes_equal_nocase(bytes_skip(name, at), bytes_of_string(domain));
    return ours ? bytes_slice(name, 0, at - 1) : name;
}

/* other_form gives a name its domain, or takes it away; .len 0: it has no other form. `room` has
 * SASL_NAME_MAX octets. */
static struct bytes other_form(struct bytes name, const char *domain, uint8_t *room)
{
    const struct bytes none = {0};
    if (domain == NULL)
        return none;
    struct bytes tail = bytes_of_string(domain);
    if (domain_at(name) > 0) {
        struct bytes bare = without_domain(name, domain);
        return bare.len < name.len ? bare : none;
    }
    if (name.len + 1 + tail.len > SASL_NAME_MAX)
        return none;
    memcpy(room, name.data, name.len);
    room[name.len] = '@';
    memcpy(room + name.len + 1, tail.data, tail.len);
    return bytes_make(room, name.len + 1 + tail.len);
}

const struct user *users_find(const struct users *users, struct bytes name, const char *domain)
{
    uint8_t room[SASL_NAME_MAX];
    if (name.len == 0 || name.len > SASL_NAME_MAX)
        return NULL;
    const struct entry *entry = find(users, name);
    if (entry == NULL) {
        struct bytes other = other_form(name, domain, room);
        entry = other.len > 0 ? find(users, other) : NULL;
    }
    return entry == NULL || entry->locked ? NULL : &entry->user;
}

const struct user *users_stranger(const struct users *users)
{
    return &users->stranger;
}

size_t users_count(const struct users *users)
{
    return users->count;
}

bool users_has(const struct users *users, struct bytes name)
{
    return name.len > 0 && find(users, name) != NULL;
}

bool users_anybody(const struct users *users)
{
    return users->commonest != NULL;
}

struct bytes users_bare(const struct users *users)
{
    for (size_t i = 0; i < users->count; i++)
        if (domain_at(users->entries[i]->user.name) == 0)
            return users->entries[i]->user.name;
    return bytes_make(NULL, 0);
}

uint64_t users_memory(const struct users *users)
{
    return users->memory;
}

bool users_scram(const struct users *users)
{
    return users->commonest_scram != NULL;
}

/* users_keep_salts: nothing that stands in the file would do. Whoever guesses a password could tell
 * by a stranger's salt whether it is right, without ever logging in. */
bool users_keep_salts(struct users *users, struct bytes secret)
{
    static const char label[] = "ringmx: salts of those who are no users";
    return crypto_hmac_sha256(secret.data, secret.len, label, sizeof(label) - 1, users->seed);
}

void users_scram_stranger(const struct users *users, struct bytes name, const char *domain,
                          struct scram_secret *out)
{
    struct scram_secret like = {.iterations = SCRAM_ITERATIONS_MIN, .salt_len = STRANGERS_SALT};
    const struct kind *kind = users->commonest_scram;
    CHECK(kind == NULL || scram_secret_read(kind->first->user.hash, &like)); /* users_add has */
    scram_secret_stranger(users->seed, without_domain(name, domain), &like, out);
    crypto_wipe(&like, sizeof(like));
}
