/* One hash table for all: domains, and recipients below the index of their domain. Keys lie one
 * after another in one arena; a slot has their place and half of their hash, so that growing reads
 * no keys and a miss seldom does. A million recipients of 12 octets take 18 MB of arena and 16 MB
 * of slots. The hash is keyed with a random seed: what strangers send at RCPT can't be made to
 * collide. */
#include "gateway/policy/directory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "gateway/base/check.h"

enum {
    SLOTS_FIRST = 64,
    ARENA_FIRST = 4096,
    KEY_LEN_MAX = ADDRESS_DOMAIN_LEN_MAX,
    /* An entry: index of the domain (4 octets), flags (1), length of the key (1), key. */
    ENTRY_FLAGS = 4,
    ENTRY_KEY_LEN = 5,
    ENTRY_KEY = 6,
};

enum entry_flags {
    ENTRY_DOMAIN = 1 << 0,    /* the index is its own; without it, a recipient */
    ENTRY_TAGGED = 1 << 1,    /* "user+*" was listed: any tag may follow */
    ENTRY_CATCH_ALL = 1 << 2, /* of a domain: "*" was listed */
};

static_assert(KEY_LEN_MAX <= UINT8_MAX, "the length of a key fits in one octet");
static_assert((int)ADDRESS_LOCAL_LEN_MAX <= (int)KEY_LEN_MAX, "a local part is a key");

struct slot {
    uint32_t place; /* of the entry in the arena + 1; 0: free */
    uint32_t hash;  /* the low half, which also says where the search begins */
};

struct directory {
    uint64_t seed[2];
    struct slot *slots; /* at most three quarters full */
    uint32_t slot_count;
    uint32_t used_count;
    uint8_t *arena;
    size_t arena_len;
    size_t arena_size;
    uint32_t *domains; /* index -> place of its entry in the arena */
    uint32_t domain_count;
    uint32_t domain_size;
    size_t recipient_count;
};

/* What a lookup is for: the folded name, and where it belongs. */
struct key {
    uint32_t domain; /* not looked at when flags have ENTRY_DOMAIN */
    uint8_t flags;   /* ENTRY_DOMAIN or none */
    uint8_t len;
    uint8_t text[KEY_LEN_MAX];
};

static bool key_of_domain(struct key *key, struct bytes name);
static bool grow_domains(struct directory *directory);
static uint8_t *find(const struct directory *directory, const struct key *key);
static uint8_t *insert(struct directory *directory, const struct key *key);
static bool parse_pattern(struct bytes pattern, struct key *key, uint8_t *flags);
static bool is_tagged_recipient(const struct directory *directory, struct key *key);

struct directory *directory_new(void)
{
    struct directory *directory = calloc(1, sizeof(*directory));
    if (directory == NULL)
        return NULL;
    /* Without random octets (no Linux that we run on) the seed stays weak, and everything still
     * works. */
    ssize_t got = getrandom(directory->seed, sizeof(directory->seed), 0);
    if (got != sizeof(directory->seed))
        directory->seed[0] = (uint64_t)(uintptr_t)directory;
    directory->slots = calloc(SLOTS_FIRST, sizeof(struct slot));
    directory->slot_count = SLOTS_FIRST;
    directory->arena = malloc(ARENA_FIRST);
    directory->arena_size = ARENA_FIRST;
    if (directory->slots == NULL || directory->arena == NULL) {
        directory_free(directory);
        return NULL;
    }
    return directory;
}

void directory_free(struct directory *directory)
{
    if (directory == NULL)
        return;
    free(directory->slots);
    free(directory->arena);
    free(directory->domains);
    free(directory);
}

int directory_add_domain(struct directory *directory, struct bytes name)
{
    struct key key;
    CHECK(name.len > 0);
    if (!key_of_domain(&key, name) || !grow_domains(directory))
        return -1;
    if (find(directory, &key) != NULL)
        return -2;
    key.domain = directory->domain_count;
    uint8_t *entry = insert(directory, &key);
    if (entry == NULL)
        return -1;
    directory->domains[key.domain] = (uint32_t)(entry - directory->arena);
    return (int)directory->domain_count++;
}

bool directory_add_recipient(struct directory *directory, int domain, struct bytes pattern)
{
    struct key key;
    uint8_t flags = 0;
    CHECK(domain >= 0 && (uint32_t)domain < directory->domain_count);
    if (bytes_equal(pattern, BYTES("*"))) {
        directory->arena[directory->domains[domain] + ENTRY_FLAGS] |= ENTRY_CATCH_ALL;
        directory->recipient_count++;
        return true;
    }
    if (!parse_pattern(pattern, &key, &flags))
        return false;
    key.domain = (uint32_t)domain;
    uint8_t *entry = find(directory, &key);
    if (entry == NULL)
        entry = insert(directory, &key);
    if (entry == NULL)
        return false;
    entry[ENTRY_FLAGS] |= flags;
    directory->recipient_count++;
    return true;
}

enum directory_verdict directory_check(const struct directory *directory,
                                       const struct address *address)
{
    struct key key;
    uint8_t local[ADDRESS_LOCAL_LEN_MAX];
    size_t len = address_local_unquoted(address, local);
    bool postmaster = bytes_equal_nocase(bytes_make(local, len), BYTES("postmaster"));
    if (address->domain.len == 0)
        return postmaster ? DIRECTORY_ACCEPT : DIRECTORY_RELAY_DENIED;
    if (address->domain_kind != ADDRESS_NAME || !key_of_domain(&key, address->domain))
        return DIRECTORY_RELAY_DENIED;
    const uint8_t *domain = find(directory, &key);
    if (domain == NULL)
        return DIRECTORY_RELAY_DENIED;
    if (postmaster || (domain[ENTRY_FLAGS] & ENTRY_CATCH_ALL) != 0)
        return DIRECTORY_ACCEPT;

    memcpy(&key.domain, domain, sizeof(key.domain));
    key.flags = 0;
    key.len = (uint8_t)len;
    for (size_t i = 0; i < len; i++)
        key.text[i] = byte_lower(local[i]);
    if (find(directory, &key) != NULL || is_tagged_recipient(directory, &key))
        return DIRECTORY_ACCEPT;
    return DIRECTORY_NO_SUCH_USER;
}

size_t directory_recipient_count(const struct directory *directory)
{
    return directory->recipient_count;
}

/* Users may have a "+" of their own ("a+b+*" is listed), so each is tried as the one before the
 * tag. */
static bool is_tagged_recipient(const struct directory *directory, struct key *key)
{
    for (uint8_t i = key->len; i > 1; i--) {
        if (key->text[i - 1] != '+')
            continue;
        key->len = (uint8_t)(i - 1);
        const uint8_t *entry = find(directory, key);
        if (entry != NULL && (entry[ENTRY_FLAGS] & ENTRY_TAGGED) != 0)
            return true;
    }
    return false;
}

static bool key_of_domain(struct key *key, struct bytes name)
{
    if (name.len > KEY_LEN_MAX)
        return false;
    key->flags = ENTRY_DOMAIN;
    key->len = (uint8_t)name.len;
    for (size_t i = 0; i < name.len; i++)
        key->text[i] = byte_lower(name.data[i]);
    return true;
}

/* Sets *key but for its domain. `flags` gets ENTRY_TAGGED when the pattern says so. */
static bool parse_pattern(struct bytes pattern, struct key *key, uint8_t *flags)
{
    static const struct bytes domain = {(const uint8_t *)"@x", 2};
    uint8_t mailbox[ADDRESS_LOCAL_LEN_MAX + 2];
    uint8_t local[ADDRESS_LOCAL_LEN_MAX];
    struct address address;
    if (pattern.len >= 2 && bytes_equal(bytes_skip(pattern, pattern.len - 2), BYTES("+*"))) {
        *flags |= ENTRY_TAGGED;
        pattern.len -= 2;
    }
    if (pattern.len > ADDRESS_LOCAL_LEN_MAX)
        return false;
    memcpy(mailbox, pattern.data, pattern.len);
    memcpy(mailbox + pattern.len, domain.data, domain.len);
    if (address_mailbox(bytes_make(mailbox, pattern.len + domain.len), true, &address) !=
            ADDRESS_OK ||
        address.local.len != pattern.len)
        return false;
    size_t len = address_local_unquoted(&address, local);
    key->flags = 0;
    key->len = (uint8_t)len;
    for (size_t i = 0; i < len; i++)
        key->text[i] = byte_lower(local[i]);
    return true;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* wyhash's way: multiply 64 by 64 bits, fold, eight octets a step. */
static uint32_t hash(const struct directory *directory, const struct key *key)
{
    const uint64_t prime = 0xa0761d6478bd642fu;
    uint64_t scope = (key->flags & ENTRY_DOMAIN) != 0 ? UINT64_MAX : key->domain;
    uint64_t state = mix(directory->seed[0] ^ scope, directory->seed[1] ^ prime);
    for (size_t i = 0; i < key->len; i += 8) {
        uint64_t word = 0;
        memcpy(&word, key->text + i, key->len - i < 8 ? key->len - i : 8);
        state = mix(state ^ word, directory->seed[1] ^ prime);
    }
    return (uint32_t)mix(state ^ key->len, prime);
}

static bool matches(const uint8_t *entry, const struct key *key)
{
    uint32_t domain;
    memcpy(&domain, entry, sizeof(domain));
    bool same_scope = (key->flags & ENTRY_DOMAIN) != 0
                          ? (entry[ENTRY_FLAGS] & ENTRY_DOMAIN) != 0
                          : (entry[ENTRY_FLAGS] & ENTRY_DOMAIN) == 0 && domain == key->domain;
    return same_scope && entry[ENTRY_KEY_LEN] == key->len &&
           memcmp(entry + ENTRY_KEY, key->text, key->len) == 0;
}

static uint8_t *find(const struct directory *directory, const struct key *key)
{
    uint32_t wanted = hash(directory, key);
    uint32_t mask = directory->slot_count - 1;
    for (uint32_t i = wanted & mask; directory->slots[i].place != 0; i = (i + 1) & mask) {
        uint8_t *entry = directory->arena + directory->slots[i].place - 1;
        if (directory->slots[i].hash == wanted && matches(entry, key))
            return entry;
    }
    return NULL;
}

static void put(struct slot *slots, uint32_t slot_count, struct slot slot)
{
    uint32_t i = slot.hash & (slot_count - 1);
    while (slots[i].place != 0)
        i = (i + 1) & (slot_count - 1);
    slots[i] = slot;
}

static bool grow_slots(struct directory *directory)
{
    if (directory->used_count < directory->slot_count / 4 * 3)
        return true;
    uint32_t count = directory->slot_count * 2;
    struct slot *slots = count > INT32_MAX ? NULL : calloc(count, sizeof(*slots));
    if (slots == NULL) {
        errno = ENOMEM;
        return false;
    }
    for (uint32_t i = 0; i < directory->slot_count; i++)
        if (directory->slots[i].place != 0)
            put(slots, count, directory->slots[i]);
    free(directory->slots);
    directory->slots = slots;
    directory->slot_count = count;
    return true;
}

/* Makes room for one entry of any length. Places are 32 bits wide. */
static bool grow_arena(struct directory *directory)
{
    if (directory->arena_size - directory->arena_len >= ENTRY_KEY + KEY_LEN_MAX)
        return true;
    size_t size = directory->arena_size * 2;
    uint8_t *arena = size > UINT32_MAX ? NULL : realloc(directory->arena, size);
    if (arena == NULL) {
        errno = ENOMEM;
        return false;
    }
    directory->arena = arena;
    directory->arena_size = size;
    return true;
}

static bool grow_domains(struct directory *directory)
{
    if (directory->domain_count < directory->domain_size)
        return true;
    uint32_t size = directory->domain_size == 0 ? 16 : directory->domain_size * 2;
    uint32_t *domains =
        size > INT32_MAX ? NULL : realloc(directory->domains, size * sizeof(*domains));
    if (domains == NULL) {
        errno = ENOMEM;
        return false;
    }
    directory->domains = domains;
    directory->domain_size = size;
    return true;
}

/* Returns the new entry, which is borrowed until the next insert, or NULL: no memory. */
static uint8_t *insert(struct directory *directory, const struct key *key)
{
    if (!grow_slots(directory) || !grow_arena(directory))
        return NULL;
    uint8_t *entry = directory->arena + directory->arena_len;
    memcpy(entry, &key->domain, sizeof(key->domain));
    entry[ENTRY_FLAGS] = key->flags;
    entry[ENTRY_KEY_LEN] = key->len;
    memcpy(entry + ENTRY_KEY, key->text, key->len);
    put(directory->slots, directory->slot_count,
        (struct slot){(uint32_t)directory->arena_len + 1, hash(directory, key)});
    directory->arena_len += ENTRY_KEY + key->len;
    directory->used_count++;
    return entry;
}
