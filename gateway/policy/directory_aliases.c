/* Aliases: how they are kept, and what can be said of them before any mail comes. All that an alias
 * leads to is a list, in the order in which it was given. */
#include "gateway/base/check.h"
#include "gateway/policy/directory_inside.h"
#include "gateway/policy/mailbox.h"

#include <errno.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    CHUNKS_FIRST = 16,
    CHUNKS_MAX = 1 << 11, /* 2 GiB of links */
    LINK_HEAD = offsetof(struct directory_link, text),
    LINK_ALIGN = alignof(struct directory_link),
};

/* --- building --- */

static size_t link_size(size_t text_len)
{
    return ((size_t)LINK_HEAD + text_len + LINK_ALIGN - 1) & -(size_t)LINK_ALIGN;
}

/* add_chunk begins another chunk. Places are 32 bits wide. */
static bool add_chunk(struct directory *directory)
{
    if (directory->chunk_count == directory->chunk_size) {
        uint32_t size = directory->chunk_size == 0 ? CHUNKS_FIRST : directory->chunk_size * 2;
        uint8_t **chunks = size > CHUNKS_MAX
                               ? NULL
                               : realloc(directory->chunks, size * sizeof(directory->chunks[0]));
        if (chunks == NULL) {
            errno = ENOMEM;
            return false;
        }
        directory->chunks = chunks;
        directory->chunk_size = size;
    }
    uint8_t *chunk = calloc(1, DIRECTORY_CHUNK);
    if (chunk == NULL)
        return false;
    directory->chunks[directory->chunk_count++] = chunk;
    directory->chunk_used = 0;
    return true;
}

static struct directory_link *link_to_change(struct directory *directory, uint32_t place)
{
    uint8_t *chunk = directory->chunks[place >> DIRECTORY_CHUNK_BITS];
    return (struct directory_link *)(void *)(chunk + (place & (DIRECTORY_CHUNK - 1)));
}

/* add_link appends a link to the list at *list. */
static bool add_link(struct directory *directory, uint32_t *list, uint8_t kind, struct bytes text)
{
    size_t size = link_size(text.len);
    if ((directory->chunk_count == 0 || DIRECTORY_CHUNK - directory->chunk_used < size) &&
        !add_chunk(directory))
        return false;
    uint32_t place = (directory->chunk_count - 1) << DIRECTORY_CHUNK_BITS | directory->chunk_used;
    struct directory_link *link = link_to_change(directory, place);
    link->next = place;
    link->kind = kind;
    link->len = (uint8_t)text.len;
    memcpy(link->text, text.data, text.len);
    if (*list != 0) {
        struct directory_link *last = link_to_change(directory, *list - 1);
        link->next = last->next;
        last->next = place;
    }
    *list = place + 1;
    directory->chunk_used += (uint32_t)size;
    directory->alias_count++;
    return true;
}

/* ends_tagged: an unquoted local part that ends with "+*", behind something. */
static bool ends_tagged(const struct address *address)
{
    return !address->quoted && address->local.len > 2 &&
           bytes_equal(bytes_skip(address->local, address->local.len - 2), BYTES("+*"));
}

static bool is_star(const struct address *address)
{
    return !address->quoted && bytes_equal(address->local, BYTES("*"));
}

/* Any other star was meant to mean something. */
static bool has_stray_star(const struct address *address)
{
    size_t len = address->local.len - (ends_tagged(address) ? 2 : 0);
    return !is_star(address) && directory_has_star(address, len);
}

/* find_user returns the entry of a user, made if it must be; NULL: no memory. */
static struct table_entry *find_user(struct directory *directory, uint32_t domain,
                                     const struct address *from)
{
    struct table_key key;
    uint8_t text[ADDRESS_LOCAL_LEN_MAX];
    struct bytes local = bytes_make(text, address_local_unquoted(from, text));
    if (ends_tagged(from))
        local.len -= 2;
    bool fits = table_key_set(&key, domain, local);
    CHECK(fits);
    struct table_entry *entry = table_at(&directory->table, table_find(&directory->table, &key));
    return entry != NULL ? entry : table_insert(&directory->table, &key);
}

bool directory_add_alias(struct directory *directory, struct bytes from, struct bytes to,
                         const char **error)
{
    struct address source;
    struct address target;
    *error = "the alias is not a mailbox";
    if (address_mailbox(from, true, &source) != ADDRESS_OK)
        return false;
    *error = "what the alias leads to is not a mailbox";
    if (address_mailbox(to, true, &target) != ADDRESS_OK)
        return false;
    uint32_t domain = directory_domain_of(directory, source.domain);
    *error = "the domain of the alias is not configured";
    if (domain == directory->domain_count)
        return false;
    uint8_t kind = is_star(&target)       ? DIRECTORY_LINK_SAME
                   : ends_tagged(&target) ? DIRECTORY_LINK_TAG
                                          : DIRECTORY_LINK_MAILBOX;
    *error = "a * stands alone, or behind a + at the end, or in quotes";
    if (has_stray_star(&source) || has_stray_star(&target))
        return false;
    *error = "+* on the right needs * or +* on the left";
    if (kind == DIRECTORY_LINK_TAG && !is_star(&source) && !ends_tagged(&source))
        return false;
    *error = "out of memory";
    directory->domains[domain].has_aliases = true;
    if (is_star(&source))
        return add_link(directory, &directory->domains[domain].aliases, kind, target.text);
    struct table_entry *entry = find_user(directory, domain, &source);
    uint8_t tagged = ends_tagged(&source) ? DIRECTORY_LINK_TAGGED : 0;
    if (entry == NULL || !add_link(directory, &entry->value, kind | tagged, target.text))
        return false;
    entry->flags |= tagged != 0 ? DIRECTORY_ALIAS_TAGGED : DIRECTORY_ALIAS;
    return true;
}

size_t directory_link_write(const struct directory_link *link, struct bytes local, struct bytes tag,
                            char *out)
{
    struct bytes to = bytes_make(link->text, link->len);
    size_t at = bytes_find(to, '@');
    struct bytes domain = bytes_skip(to, at + 1);
    uint8_t tagged[2 * ADDRESS_LOCAL_LEN_MAX + 1];
    if ((link->kind & ~DIRECTORY_LINK_TAGGED) == DIRECTORY_LINK_SAME)
        return mailbox_write(local, domain, out);
    size_t box = at - 2;
    memcpy(tagged, to.data, box + 1);
    if (tag.len > 0)
        memcpy(tagged + box + 1, tag.data, tag.len);
    return mailbox_write(bytes_make(tagged, tag.len > 0 ? box + 1 + tag.len : box), domain, out);
}

/* --- looking over all of them --- */

/* Where one link leads, as far as it can be said without an address. */
enum lead {
    LEAD_OUT = 0, /* to a mailbox, or somewhere that only a "*" knows */
    LEAD_NOBODY = 1,
    LEAD_ON = 2, /* to an alias: *node */
};

static enum lead lead_of(const struct directory *directory, const struct directory_link *link,
                         uint32_t *node)
{
    uint8_t text[ADDRESS_LOCAL_LEN_MAX];
    struct bytes name;
    if ((link->kind & ~DIRECTORY_LINK_TAGGED) != DIRECTORY_LINK_MAILBOX)
        return LEAD_OUT;
    size_t len = mailbox_split(bytes_make(link->text, link->len), text, &name);
    uint32_t domain = directory_domain_of(directory, name);
    if (domain == directory->domain_count ||
        (directory->srs != NULL && srs_is_ours(directory->srs, name)))
        return LEAD_OUT;
    struct directory_match match = directory_match_local(directory, domain, bytes_make(text, len));
    if (match.found == DIRECTORY_ALIASED)
        *node = 2 * match.node + (match.kind != 0);
    return match.found == DIRECTORY_NOBODY    ? LEAD_NOBODY
           : match.found == DIRECTORY_ALIASED ? LEAD_ON
                                              : LEAD_OUT;
}

/* find_lead looks for a link that leads so, in the order of memory: a million of them are walked in
 * a moment. Returns its place + 1; 0: there is none. */
static uint32_t find_lead(const struct directory *directory, enum lead wanted)
{
    uint32_t node;
    for (uint32_t i = 0; i < directory->chunk_count; i++) {
        uint32_t at = 0;
        while (at + LINK_HEAD < DIRECTORY_CHUNK) {
            uint32_t place = i << DIRECTORY_CHUNK_BITS | at;
            const struct directory_link *link = directory_link_at(directory, place);
            if (link->len == 0)
                break;
            if (lead_of(directory, link, &node) == wanted)
                return place + 1;
            at += (uint32_t)link_size(link->len);
        }
    }
    return 0;
}

/* A node is twice the slot of a user, or twice (slot_count + the index of a domain) for its "*";
 * and one more for what "user+*" leads to, for that hangs on the same list. */
static uint32_t node_count(const struct directory *directory)
{
    return 2 * (directory->table.slot_count + directory->domain_count);
}

static int kind_of(uint32_t node)
{
    return (node & 1) != 0 ? DIRECTORY_LINK_TAGGED : 0;
}

/* domain_of_node returns the index of the domain of a node; domain_count: the slot is free, or a
 * domain's. */
static uint32_t domain_of_node(const struct directory *directory, uint32_t node)
{
    if (node / 2 >= directory->table.slot_count)
        return node / 2 - directory->table.slot_count;
    const struct table_entry *entry = table_at(&directory->table, node / 2);
    return entry == NULL || entry->scope == DIRECTORY_DOMAINS ? directory->domain_count
                                                              : entry->scope;
}

/* list_of returns the aliases of a node, among others of the same list; 0: there is none. */
static uint32_t list_of(const struct directory *directory, uint32_t node)
{
    if (node / 2 >= directory->table.slot_count)
        return directory->domains[node / 2 - directory->table.slot_count].aliases;
    const struct table_entry *entry = table_at(&directory->table, node / 2);
    return entry == NULL || entry->scope == DIRECTORY_DOMAINS ? 0 : entry->value;
}

/* next_link walks the links of a node from the first to the last; NULL: that was the last. *place
 * is 0 before the first, and then place + 1. */
static const struct directory_link *next_link(const struct directory *directory, uint32_t node,
                                              uint32_t *place)
{
    uint32_t list = list_of(directory, node);
    while (list != 0 && *place != list) {
        *place = directory_link_at(directory, (*place == 0 ? list : *place) - 1)->next + 1;
        const struct directory_link *link = directory_link_at(directory, *place - 1);
        if ((link->kind & DIRECTORY_LINK_TAGGED) == kind_of(node))
            return link;
    }
    return NULL;
}

/* has_link: does the list of this node have the link at this place + 1? */
static bool has_link(const struct directory *directory, uint32_t node, uint32_t wanted)
{
    uint32_t place = 0;
    while (next_link(directory, node, &place) != NULL)
        if (place == wanted)
            return true;
    return false;
}

/* write_way writes "a@x -> b@y". */
static void write_way(const struct directory *directory, uint32_t node,
                      const struct directory_link *link, char *out, size_t size)
{
    const struct table_entry *user = table_at(&directory->table, node / 2);
    const struct directory_domain *domain = &directory->domains[domain_of_node(directory, node)];
    const struct table_entry *host =
        (const struct table_entry *)(const void *)(directory->table.arena + domain->place);
    snprintf(out, size, "%.*s%s@%.*s -> %.*s", user == NULL ? 1 : user->len,
             user == NULL ? "*" : (const char *)user->text,
             link->kind & DIRECTORY_LINK_TAGGED ? "+*" : "", host->len, (const char *)host->text,
             link->len, (const char *)link->text);
}

bool directory_alias_missing(const struct directory *directory, char *out, size_t size)
{
    uint32_t wanted = find_lead(directory, LEAD_NOBODY);
    if (wanted == 0)
        return false;
    uint32_t node = 0;
    while (!has_link(directory, node, wanted))
        CHECK(++node < node_count(directory));
    write_way(directory, node, directory_link_at(directory, wanted - 1), out, size);
    return true;
}

/* keeps_copy: does this link of a node lead to the node itself? */
static bool keeps_copy(const struct directory *directory, uint32_t node,
                       const struct directory_link *link)
{
    struct bytes to = bytes_make(link->text, link->len);
    size_t at = bytes_find(to, '@');
    uint32_t next;
    uint32_t domain = domain_of_node(directory, node);
    const struct table_entry *user = table_at(&directory->table, node / 2);
    uint8_t kind = link->kind & (uint8_t)~DIRECTORY_LINK_TAGGED;
    if (kind == DIRECTORY_LINK_MAILBOX)
        return lead_of(directory, link, &next) == LEAD_ON && next == node;
    if (directory_domain_of(directory, bytes_skip(to, at + 1)) != domain)
        return false;
    return kind == DIRECTORY_LINK_SAME ||
           (user != NULL &&
            bytes_equal_nocase(bytes_slice(to, 0, at - 2), bytes_make(user->text, user->len)));
}

bool directory_alias_copy(const struct directory *directory, char *out, size_t size)
{
    for (uint32_t node = 0; node < node_count(directory); node++) {
        const struct directory_link *link;
        uint32_t place = 0;
        uint32_t domain = domain_of_node(directory, node);
        if (domain == directory->domain_count ||
            (directory->domains[domain].flags & DIRECTORY_NO_TARGET) == 0)
            continue;
        while ((link = next_link(directory, node, &place)) != NULL) {
            if (!keeps_copy(directory, node, link))
                continue;
            write_way(directory, node, link, out, size);
            return true;
        }
    }
    return false;
}

/* The aliases as a graph against its direction: who leads to whom. */
struct graph {
    uint32_t *heads;     /* node -> 1 + the first edge that leads to it */
    uint32_t *edge_next; /* 1 + the next edge to the same node */
    uint32_t *edge_from; /* the node that it comes from */
    uint8_t *ends;       /* node -> it has an end */
    uint32_t *queue;     /* nodes with an end, whose edges are to be followed */
    uint32_t queue_len;
    uint32_t edge_count;
};

static void graph_free(struct graph *graph)
{
    free(graph->heads);
    free(graph->edge_next);
    free(graph->edge_from);
    free(graph->ends);
    free(graph->queue);
}

static bool graph_new(struct graph *graph, const struct directory *directory)
{
    size_t nodes = node_count(directory);
    size_t edges = directory->alias_count + 1;
    *graph = (struct graph){
        .heads = calloc(nodes, sizeof(uint32_t)),
        .edge_next = calloc(edges, sizeof(uint32_t)),
        .edge_from = calloc(edges, sizeof(uint32_t)),
        .ends = calloc(nodes, 1),
        .queue = calloc(nodes, sizeof(uint32_t)),
    };
    if (graph->heads != NULL && graph->edge_next != NULL && graph->edge_from != NULL &&
        graph->ends != NULL && graph->queue != NULL)
        return true;
    graph_free(graph);
    return false;
}

static void set_end(struct graph *graph, uint32_t node)
{
    if (graph->ends[node])
        return;
    graph->ends[node] = 1;
    graph->queue[graph->queue_len++] = node;
}

/* Leads to itself: keeps a copy, and that is an end. */
static void add_node(struct graph *graph, const struct directory *directory, uint32_t node)
{
    uint32_t place = 0;
    uint32_t next = node;
    const struct directory_link *link;
    while ((link = next_link(directory, node, &place)) != NULL) {
        if (lead_of(directory, link, &next) != LEAD_ON || next == node) {
            set_end(graph, node);
            continue;
        }
        uint32_t edge = graph->edge_count++;
        graph->edge_from[edge] = node;
        graph->edge_next[edge] = graph->heads[next];
        graph->heads[next] = edge + 1;
    }
}

/* In a node without an end every link leads on, to another one. */
static const struct directory_link *first_link(const struct directory *directory, uint32_t *node)
{
    uint32_t place = 0;
    const struct directory_link *link = next_link(directory, *node, &place);
    CHECK(link != NULL && lead_of(directory, link, node) == LEAD_ON);
    return link;
}

static void tell_loop(const struct graph *graph, const struct directory *directory, uint32_t node,
                      char *out, size_t size)
{
    enum { SEEN = 2 };
    const struct directory_link *link = NULL;
    while (graph->ends[node] != SEEN) { /* then it is in the circle, and `link` leads to it */
        graph->ends[node] = SEEN;
        link = first_link(directory, &node);
    }
    const uint32_t start = node;
    int len = snprintf(out, size, "%.*s", link->len, (const char *)link->text);
    do {
        link = first_link(directory, &node);
        if ((size_t)len < size)
            len += snprintf(out + len, size - (size_t)len, " -> %.*s", link->len,
                            (const char *)link->text);
    } while (node != start);
}

bool directory_alias_loop(const struct directory *directory, char *out, size_t size)
{
    struct graph graph;
    bool found = false;
    if (find_lead(directory, LEAD_ON) == 0)
        return false; /* none leads to another, as in most tables */
    if (!graph_new(&graph, directory))
        return false; /* found at RCPT, then */
    for (uint32_t node = 0; node < node_count(directory); node++)
        add_node(&graph, directory, node);
    for (uint32_t i = 0; i < graph.queue_len; i++)
        for (uint32_t edge = graph.heads[graph.queue[i]]; edge != 0;
             edge = graph.edge_next[edge - 1])
            set_end(&graph, graph.edge_from[edge - 1]);
    for (uint32_t node = 0; node < node_count(directory) && !found; node++) {
        uint32_t place = 0;
        found = !graph.ends[node] && next_link(directory, node, &place) != NULL;
        if (found)
            tell_loop(&graph, directory, node, out, size);
    }
    graph_free(&graph);
    return found;
}
