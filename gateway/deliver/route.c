/* The table of routes: an open-addressed hash of lower-cased domains. Its strings lie in blocks
 * that are only freed with the whole; the usual case of a million domains with one target keeps
 * what that says once. */
#include "gateway/deliver/route.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/deliver/folder.h"

enum {
    BLOCK_SIZE = 64 * 1024,
    SLOTS_FIRST = 64,
    ERROR_SIZE = 256,
    TEXT_MAX = 8192, /* of all targets of a route, with its options */
    HOST_LEN_MAX = 255,
    PATH_LEN_MAX = 107, /* of a unix socket: sun_path and its NUL */
    WEIGHT_MAX = 1000,
    PORT_SMTP = 25,
    PORT_SUBMISSIONS = 465,
};

struct block {
    struct block *next;
    size_t used, size;
    char data[];
};

struct routes {
    struct routes *self;
    _Atomic uint32_t claims;
    struct route *list;
    uint32_t count, capacity;
    uint32_t *slots; /* index + 1 into `list`, 0: free; at most half full */
    uint32_t slot_count;
    uint32_t discard_count;
    struct route foreign; /* `text` NULL: nobody has set it */
    struct block *blocks;
    char error[ERROR_SIZE];
};

/* A target that was read; borrows from its text. */
struct target {
    enum route_kind kind;
    struct bytes host; /* or the path of a socket, the domain of mx:, the template */
    uint16_t port, weight;
};

static const struct route unset_foreign = {.kind = ROUTE_MX, .text = "mx:"};

static uint64_t domain_hash(struct bytes domain);
static uint32_t slot_of(const struct routes *routes, struct bytes domain);
static bool grow(struct routes *routes);
static char *keep(struct routes *routes, struct bytes text);
static bool build(struct routes *routes, const char *const *targets, uint32_t target_count,
                  const struct route_options *options, struct route *route);

struct routes *routes_new(void)
{
    struct routes *routes = calloc(1, sizeof *routes);
    if (routes == NULL)
        return NULL;
    routes->self = routes;
    atomic_init(&routes->claims, 1);
    return routes;
}

void routes_free(struct routes *routes)
{
    if (routes == NULL || atomic_fetch_sub(&routes->claims, 1) > 1)
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

struct routes *routes_hold(const struct routes *routes)
{
    atomic_fetch_add(&routes->self->claims, 1);
    return routes->self;
}

/* Keeps what is wrong with a target; always false. */
static bool wrong(struct routes *routes, const char *target, const char *what)
{
    if (target == NULL)
        snprintf(routes->error, sizeof routes->error, "%s", what);
    else
        snprintf(routes->error, sizeof routes->error, "%.100s: %s", target, what);
    return false;
}

bool routes_add(struct routes *routes, struct bytes domain, const char *const *targets,
                uint32_t target_count, const struct route_options *options, const char **error)
{
    struct route route;

    *error = routes->error;
    if (domain.len == 0)
        return wrong(routes, NULL, "the domain is empty");
    if (!build(routes, targets, target_count, options, &route))
        return false;
    if (!grow(routes))
        return wrong(routes, NULL, "out of memory");
    uint32_t slot = slot_of(routes, domain);
    if (routes->slots[slot] != 0)
        return wrong(routes, NULL, "the domain has a route already");
    char *name = keep(routes, domain);
    if (name == NULL)
        return wrong(routes, NULL, "out of memory");
    for (size_t i = 0; i < domain.len; i++)
        name[i] = (char)byte_lower((uint8_t)name[i]);
    route.domain = bytes_make(name, domain.len);
    routes->discard_count += route.kind == ROUTE_DISCARD;
    routes->list[routes->count++] = route;
    routes->slots[slot] = routes->count;
    *error = NULL;
    return true;
}

bool routes_add_foreign(struct routes *routes, const char *const *targets, uint32_t target_count,
                        const struct route_options *options, const char **error)
{
    struct route route;

    *error = routes->error;
    if (!build(routes, targets, target_count, options, &route))
        return false;
    routes->foreign = route;
    *error = NULL;
    return true;
}

static bool same_route(const struct route *a, const struct route *b)
{
    const struct route_options *left = &a->options, *right = &b->options;
    return bytes_equal(a->domain, b->domain) &&
           (a->text == b->text || strcmp(a->text, b->text) == 0) && left->tls == right->tls &&
           left->tls_verify == right->tls_verify && left->through == right->through &&
           left->callahead == right->callahead && left->connections == right->connections &&
           left->rate == right->rate;
}

void routes_each(const struct routes *routes, void (*act)(void *user, const struct route *route),
                 void *user)
{
    for (uint32_t i = 0; i < routes->count; i++)
        act(user, &routes->list[i]);
    if (routes->foreign.text != NULL)
        act(user, &routes->foreign);
}

bool routes_same(const struct routes *a, const struct routes *b)
{
    const struct route *left = &a->foreign, *right = &b->foreign;

    if (a->count != b->count || (left->text == NULL) != (right->text == NULL) ||
        (left->text != NULL && !same_route(left, right)))
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (!same_route(&a->list[i], &b->list[i]))
            return false;
    return true;
}

struct bytes route_mailbox_domain(struct bytes mailbox)
{
    /* A quoted local part may contain "@"; a domain cannot: the last one divides. */
    size_t at = mailbox.len;
    while (at > 0 && mailbox.data[at - 1] != '@')
        at--;
    return at == 0 ? bytes_make(mailbox.data, 0) : bytes_skip(mailbox, at);
}

const struct route *routes_find(const struct routes *routes, struct bytes mailbox, bool forwarded)
{
    struct bytes domain = route_mailbox_domain(mailbox);

    if (domain.len == 0)
        return routes->count > 0 && bytes_equal_nocase(mailbox, BYTES("postmaster"))
                   ? &routes->list[0]
                   : NULL;
    uint32_t index = routes->count == 0 ? 0 : routes->slots[slot_of(routes, domain)];
    if (index != 0)
        return &routes->list[index - 1];
    if (!forwarded)
        return NULL;
    return routes->foreign.text != NULL ? &routes->foreign : &unset_foreign;
}

bool route_same_destination(const struct route *a, struct bytes a_domain, const struct route *b,
                            struct bytes b_domain)
{
    if (a == NULL || b == NULL)
        return a == b;
    if (a->kind != b->kind)
        return false;
    if (a->kind == ROUTE_MAILDIR || a->kind == ROUTE_DISCARD)
        return true; /* each file has a name of its own */
    if (a->text != b->text && strcmp(a->text, b->text) != 0)
        return false;
    return a->kind != ROUTE_MX || a->exchange != NULL || bytes_equal_nocase(a_domain, b_domain);
}

bool routes_discard_only(const struct routes *routes)
{
    return routes->count > 0 && routes->discard_count == routes->count &&
           routes->foreign.text == NULL;
}

/* --- targets --- */

/* Takes `prefix` off the front of `text`. */
static bool take(struct bytes *text, struct bytes prefix)
{
    if (text->len < prefix.len || !bytes_equal(bytes_slice(*text, 0, prefix.len), prefix))
        return false;
    *text = bytes_skip(*text, prefix.len);
    return true;
}

/* Reads a decimal number of all of `text`; 0: it is none, or above `max`. */
static uint32_t number_of(struct bytes text, uint32_t max)
{
    uint32_t number = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return 0;
        number = number * 10 + (text.data[i] - '0');
        if (number > max)
            return 0;
    }
    return number;
}

static bool is_address(int family, struct bytes text)
{
    char name[INET6_ADDRSTRLEN];
    uint8_t address[16];
    if (text.len == 0 || text.len >= sizeof name)
        return false;
    memcpy(name, text.data, text.len);
    name[text.len] = '\0';
    return inet_pton(family, name, address) == 1;
}

static bool is_host_name(struct bytes text)
{
    size_t label = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = byte_lower(text.data[i]);
        bool dot = c == '.';
        if (!dot && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
        if ((dot && label == 0) || label == 63)
            return false;
        label = dot ? 0 : label + 1;
    }
    return label > 0 && text.len <= HOST_LEN_MAX;
}

/* HOST[:PORT], with brackets around an IPv6 address; port 0: none was given. Returns what is wrong,
 * or NULL. */
static const char *read_host(struct bytes text, struct target *target)
{
    struct bytes port;
    if (text.len > 0 && text.data[0] == '[') {
        size_t end = bytes_find(text, ']');
        if (end == text.len)
            return "\"]\" is missing";
        target->host = bytes_slice(text, 1, end);
        port = bytes_skip(text, end + 1);
        if (!is_address(AF_INET6, target->host))
            return "not an IPv6 address";
    } else {
        size_t end = bytes_find(text, ':');
        target->host = bytes_slice(text, 0, end);
        port = bytes_skip(text, end);
        if (bytes_find(bytes_skip(port, 1), ':') != bytes_skip(port, 1).len)
            return "an IPv6 address stands in brackets: [2001:db8::1]:25";
        if (!is_host_name(target->host))
            return "not a host name";
    }
    target->port = 0;
    if (port.len == 0)
        return NULL;
    target->port = port.data[0] == ':' ? (uint16_t)number_of(bytes_skip(port, 1), 65535) : 0;
    return target->port == 0 ? "not a port" : NULL;
}

/* Takes " weight=N" off the end. */
static const char *read_weight(struct bytes *text, struct target *target)
{
    size_t blank = bytes_find(*text, ' ');
    struct bytes rest = bytes_skip(*text, blank);

    target->weight = 1;
    *text = bytes_slice(*text, 0, blank);
    while (rest.len > 0 && rest.data[0] == ' ')
        rest = bytes_skip(rest, 1);
    if (rest.len == 0)
        return NULL;
    if (!take(&rest, BYTES("weight=")))
        return "behind the host only weight=N is known";
    target->weight = (uint16_t)number_of(rest, WEIGHT_MAX);
    return target->weight == 0 ? "the weight is a number from 1 to 1000" : NULL;
}

static const char *read_lmtp(struct bytes text, struct target *target)
{
    const char *error = read_weight(&text, target);
    if (error != NULL)
        return error;
    target->kind = ROUTE_LMTP;
    if (take(&text, BYTES("unix:"))) {
        target->host = text;
        target->port = 0;
        if (text.len == 0)
            return "the path of the socket is missing";
        return text.len > PATH_LEN_MAX ? "the path of the socket is too long" : NULL;
    }
    error = read_host(text, target);
    if (error == NULL && target->port == 0)
        error = "lmtp: needs a port, HOST:PORT, or unix:PATH";
    return error;
}

/* Returns what is wrong with a target, or NULL. */
static const char *read_target(const char *written, const struct route_options *options,
                               struct target *target)
{
    struct bytes text = bytes_of_string(written);

    *target = (struct target){.weight = 1};
    if (take(&text, BYTES("maildir:"))) {
        target->kind = ROUTE_MAILDIR;
        target->host = text;
        return folder_template_error(written + sizeof "maildir:" - 1);
    }
    if (bytes_equal(text, BYTES("discard:"))) {
        target->kind = ROUTE_DISCARD;
        return NULL;
    }
    if (bytes_equal(text, BYTES("smtp:[MX]")))
        text = BYTES("mx:");
    if (take(&text, BYTES("mx:"))) {
        target->kind = ROUTE_MX;
        target->host = text;
        return text.len == 0 || is_host_name(text) ? NULL : "not a domain";
    }
    if (take(&text, BYTES("lmtp:")))
        return read_lmtp(text, target);
    if (!take(&text, BYTES("smtp:")))
        return "the target is none of maildir:TEMPLATE, discard:, mx:, smtp:HOST[:PORT], "
               "lmtp:HOST:PORT, lmtp:unix:PATH";
    const char *error = read_weight(&text, target);
    target->kind = ROUTE_SMTP;
    if (error == NULL)
        error = read_host(text, target);
    if (target->port == 0)
        target->port = options->tls == ROUTE_TLS_IMPLICIT ? PORT_SUBMISSIONS : PORT_SMTP;
    return error;
}

/* Returns what options say that the targets can't have, or NULL. */
static const char *misfit(const struct target *target, const struct route_options *options)
{
    bool local = target->kind == ROUTE_MAILDIR || target->kind == ROUTE_DISCARD;
    bool unix_socket = target->kind == ROUTE_LMTP && target->port == 0;
    bool tls = options->tls == ROUTE_TLS_REQUIRED || options->tls == ROUTE_TLS_IMPLICIT;

    if (local && (options->tls != ROUTE_TLS_OPPORTUNISTIC || options->tls_verify))
        return "there is no connection to have tls or tls_verify";
    if (local && (options->connections != 0 || options->rate != 0))
        return "there are no connections to limit";
    if (local && (options->through || options->callahead))
        return "there is no next hop to ask (mode = through, verify = callahead)";
    if (unix_socket && (tls || options->tls_verify))
        return "a unix socket has no TLS";
    if (options->tls == ROUTE_TLS_NONE && options->tls_verify)
        return "tls_verify with tls = none";
    if (target->kind == ROUTE_MX && options->tls == ROUTE_TLS_IMPLICIT)
        return "an MX has no implicit TLS";
    return NULL;
}

/* --- routes --- */

/* Appends to a text of TEXT_MAX; what is too long is cut, and seen by the caller in *len. */
static void append(char *text, size_t *len, const char *more)
{
    size_t more_len = strlen(more);
    if (*len + more_len < TEXT_MAX)
        memcpy(text + *len, more, more_len + 1);
    *len += more_len;
}

/* Writes the text by which destinations are told apart. False: too long. */
static bool write_text(const char *const *targets, uint32_t count,
                       const struct route_options *options, char *text)
{
    static const char *const tls[] = {"", " tls=none", " tls=required", " tls=implicit"};
    char number[40];
    size_t len = 0;

    for (uint32_t i = 0; i < count; i++) {
        append(text, &len, i == 0 ? "" : ", ");
        append(text, &len, strcmp(targets[i], "smtp:[MX]") == 0 ? "mx:" : targets[i]);
    }
    append(text, &len, tls[options->tls]);
    append(text, &len, options->tls_verify ? " tls_verify=true" : "");
    if (options->connections != 0) {
        snprintf(number, sizeof number, " connections=%u", options->connections);
        append(text, &len, number);
    }
    if (options->rate != 0) {
        snprintf(number, sizeof number, " rate=%u", options->rate);
        append(text, &len, number);
    }
    return len < TEXT_MAX;
}

/* Copies what a route points to into the table. */
static bool keep_route(struct routes *routes, struct route *route, const struct target *targets,
                       uint32_t count, const char *text)
{
    const struct target *first = &targets[0];
    struct route_host hosts[ROUTE_HOSTS_MAX];

    route->text = keep(routes, bytes_of_string(text));
    if (route->text == NULL)
        return false;
    if (route->kind == ROUTE_MAILDIR)
        return (route->maildir = keep(routes, first->host)) != NULL;
    if (route->kind == ROUTE_MX && first->host.len > 0)
        return (route->exchange = keep(routes, first->host)) != NULL;
    if (route->kind != ROUTE_SMTP && route->kind != ROUTE_LMTP)
        return true;
    for (uint32_t i = 0; i < count; i++) {
        hosts[i] =
            (struct route_host){keep(routes, targets[i].host), targets[i].port, targets[i].weight};
        if (hosts[i].name == NULL)
            return false;
    }
    route->hosts =
        (const struct route_host *)(void *)keep(routes, bytes_make(hosts, count * sizeof *hosts));
    route->host_count = count;
    return route->hosts != NULL;
}

static bool build(struct routes *routes, const char *const *targets, uint32_t target_count,
                  const struct route_options *options, struct route *route)
{
    static const struct route_options none;
    struct target read[ROUTE_HOSTS_MAX];
    char text[TEXT_MAX];

    if (options == NULL)
        options = &none;
    if (target_count == 0)
        return wrong(routes, NULL, "there is no target");
    if (target_count > ROUTE_HOSTS_MAX)
        return wrong(routes, NULL, "too many targets");
    for (uint32_t i = 0; i < target_count; i++) {
        const char *error = read_target(targets[i], options, &read[i]);
        if (error == NULL)
            error = misfit(&read[i], options);
        if (error != NULL)
            return wrong(routes, targets[i], error);
        if (target_count > 1 && (read[i].kind != read[0].kind ||
                                 (read[i].kind != ROUTE_SMTP && read[i].kind != ROUTE_LMTP)))
            return wrong(routes, targets[i], "several targets are all smtp:HOST or all lmtp:");
    }
    if (!write_text(targets, target_count, options, text))
        return wrong(routes, NULL, "the targets are too long");
    const struct route *last = routes->count == 0 ? NULL : &routes->list[routes->count - 1];
    *route = (struct route){.kind = read[0].kind};
    if (last != NULL && strcmp(last->text, text) == 0)
        *route = *last;
    else if (!keep_route(routes, route, read, target_count, text))
        return wrong(routes, NULL, "out of memory");
    route->options = *options;
    route->domain = bytes_make(NULL, 0);
    return true;
}

/* --- the table --- */

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

/* Copies octets, and a NUL behind them, into a block; aligned for a struct route_host. */
static char *keep(struct routes *routes, struct bytes text)
{
    struct block *block = routes->blocks;
    size_t size = (text.len + 1 + 7) & ~(size_t)7;
    static_assert(sizeof(struct block) % 8 == 0, "data is aligned");
    if (block == NULL || block->size - block->used < size) {
        size_t block_size = size > BLOCK_SIZE ? size : BLOCK_SIZE;
        block = malloc(sizeof *block + block_size);
        if (block == NULL)
            return NULL;
        *block = (struct block){.next = routes->blocks, .size = block_size};
        routes->blocks = block;
    }
    char *copy = block->data + block->used;
    if (text.len > 0)
        memcpy(copy, text.data, text.len);
    copy[text.len] = '\0';
    block->used += size;
    return copy;
}
