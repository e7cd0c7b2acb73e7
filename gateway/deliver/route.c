/* The table of routes: an open-addressed hash of lower-cased domains. Its strings lie in blocks
 * that are only freed with the whole; the usual case of a million domains with one template keeps
 * that template once. */
#include "gateway/deliver/route.h"

#include <stdlib.h>

#include "gateway/deliver/folder.h"

enum { BLOCK_SIZE = 64 * 1024, SLOTS_FIRST = 64 };

struct block {
    struct block *next;
    size_t used, size;
    char data[];
};

struct routes {
    struct route *list;
    uint32_t count, capacity;
    uint32_t *slots; /* index + 1 into `list`, 0: free; at most half full */
    uint32_t slot_count;
    uint32_t maildir_count;
    struct block *blocks;
};

static uint64_t domain_hash(struct bytes domain);
static uint32_t slot_of(const struct routes *routes, struct bytes domain);
static bool grow(struct routes *routes);
static char *keep(struct routes *routes, struct bytes text);
static const char *keep_template(struct routes *routes, const char *template);

struct routes *routes_new(void)
{
    return calloc(1, sizeof(struct routes));
}

void routes_free(struct routes *routes)
{
    if (routes == NULL)
        return;
    while (routes->blocks != NULL) {
        struct block *block = routes->blocks;
        routes->blocks = block->next;
        free(block);
    }
    free(routes->slots);
    free(routes->list);
    free(routes);
}

bool routes_add(struct routes *routes, struct bytes domain, const char *target, const char **error)
{
    static const char scheme[] = "maildir:";
    struct route route = {.kind = ROUTE_DISCARD};

    if (domain.len == 0) {
        *error = "the domain is empty";
        return false;
    }
    if (strncmp(target, scheme, sizeof scheme - 1) == 0) {
        route.kind = ROUTE_MAILDIR;
        *error = folder_template_error(target + sizeof scheme - 1);
        if (*error != NULL)
            return false;
    } else if (strcmp(target, "discard:") != 0) {
        *error = "the target is neither maildir:TEMPLATE nor discard:";
        return false;
    }
    *error = "out of memory";
    if (!grow(routes))
        return false;
    uint32_t slot = slot_of(routes, domain);
    if (routes->slots[slot] != 0) {
        *error = "the domain has a route already";
        return false;
    }
    char *name = keep(routes, domain);
    if (name == NULL)
        return false;
    for (size_t i = 0; i < domain.len; i++)
        name[i] = (char)byte_lower((uint8_t)name[i]);
    route.domain = bytes_make(name, domain.len);
    if (route.kind == ROUTE_MAILDIR) {
        route.maildir = keep_template(routes, target + sizeof scheme - 1);
        if (route.maildir == NULL)
            return false;
        routes->maildir_count++;
    }
    routes->list[routes->count++] = route;
    routes->slots[slot] = routes->count;
    *error = NULL;
    return true;
}

const struct route *routes_find(const struct routes *routes, struct bytes mailbox)
{
    if (routes->count == 0)
        return NULL;
    /* A quoted local part may contain "@"; a domain cannot: the last one divides. */
    size_t at = mailbox.len;
    while (at > 0 && mailbox.data[at - 1] != '@')
        at--;
    if (at == 0)
        return bytes_equal_nocase(mailbox, BYTES("postmaster")) ? &routes->list[0] : NULL;
    uint32_t index = routes->slots[slot_of(routes, bytes_skip(mailbox, at))];
    return index == 0 ? NULL : &routes->list[index - 1];
}

bool routes_discard_only(const struct routes *routes)
{
    return routes->count > 0 && routes->maildir_count == 0;
}

/* FNV-1a over the lower-cased octets. Only configured names are keys, so nobody outside chooses
 * collisions. */
static uint64_t domain_hash(struct bytes domain)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < domain.len; i++)
        hash = (hash ^ byte_lower(domain.data[i])) * 1099511628211u;
    return hash ^ hash >> 32;
}

/* The slot that holds the domain, or the free one where it belongs. */
static uint32_t slot_of(const struct routes *routes, struct bytes domain)
{
    uint32_t mask = routes->slot_count - 1;
    uint32_t slot = (uint32_t)domain_hash(domain) & mask;
    while (routes->slots[slot] != 0 &&
           !bytes_equal_nocase(routes->list[routes->slots[slot] - 1].domain, domain))
        slot = (slot + 1) & mask;
    return slot;
}

/* Makes room for one more route, doubling list and slots together. */
static bool grow(struct routes *routes)
{
    if (routes->count < routes->capacity)
        return true;
    uint32_t capacity = routes->capacity == 0 ? SLOTS_FIRST / 2 : routes->capacity * 2;
    struct route *list = realloc(routes->list, capacity * sizeof *list);
    if (list == NULL)
        return false;
    routes->list = list;
    uint32_t *slots = calloc((size_t)capacity * 2, sizeof *slots);
    if (slots == NULL)
        return false;
    free(routes->slots);
    routes->slots = slots;
    routes->slot_count = capacity * 2;
    routes->capacity = capacity;
    for (uint32_t i = 0; i < routes->count; i++)
        routes->slots[slot_of(routes, routes->list[i].domain)] = i + 1;
    return true;
}

/* Copies text, and a NUL behind it, into a block. */
static char *keep(struct routes *routes, struct bytes text)
{
    struct block *block = routes->blocks;
    if (block == NULL || block->size - block->used < text.len + 1) {
        size_t size = text.len + 1 > BLOCK_SIZE ? text.len + 1 : BLOCK_SIZE;
        block = malloc(sizeof *block + size);
        if (block == NULL)
            return NULL;
        *block = (struct block){.next = routes->blocks, .size = size};
        routes->blocks = block;
    }
    char *copy = block->data + block->used;
    memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    block->used += text.len + 1;
    return copy;
}

static const char *keep_template(struct routes *routes, const char *template)
{
    const char *last = routes->count == 0 ? NULL : routes->list[routes->count - 1].maildir;
    if (last != NULL && strcmp(last, template) == 0)
        return last;
    return keep(routes, bytes_of_string(template));
}
