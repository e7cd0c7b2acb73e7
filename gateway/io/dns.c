/* The resolver: see dns.h. One table has the questions under way and the answers that are known;
 * equal questions share an entry. Servers are only asked from dns_turn, and askers are only told
 * from there, so neither is ever entered twice. */
#include "gateway/io/dns.h"

#include "gateway/base/check.h"
#include "gateway/base/hash.h"
#include "gateway/base/list.h"
#include "gateway/io/dns_answer.h"
#include "gateway/io/dns_channel.h"
#include "gateway/io/worker.h"
#include "tls/crypto.h"

#include <stdlib.h>
#include <string.h>

enum { OCTETS_AN_ANSWER = 256 /* on the average: with cache_max that bounds what all have */ };

enum pending_state {
    PENDING_LINED = 0, /* waits to be asked */
    PENDING_ASKED = 1, /* is under way */
    PENDING_KNOWN = 2, /* has an answer, fresh or not */
};

/* A question that somebody has, and then its answer. */
struct dns_pending {
    struct dns_request request; /* first: what `heard` is given */
    struct dns *dns;
    char *name;                        /* folded; behind it */
    struct dns_pending *chain;         /* in its bucket */
    struct list_node node;             /* LINED: in dns->line; KNOWN, with askers: in dns->known */
    struct list_node used;             /* KNOWN: in dns->cache, the one used longest ago first */
    struct dns_question *first, *last; /* who ask, in the order in which they came */
    uint64_t hash;
    uint64_t expires_us; /* KNOWN */
    uint8_t *packed;     /* KNOWN: records, see dns_answer_pack; NULL: none */
    uint32_t packed_len;
    uint8_t state;  /* enum pending_state */
    uint8_t status; /* enum dns_status */
    bool fixed;     /* one of those that `struct dns` has */
    uint16_t type;
};

struct dns {
    struct worker *worker;
    struct dns_options options;
    struct dns_channels *channels;
    uint64_t seed[2];
    struct dns_pending **buckets;
    uint64_t bucket_mask;
    struct list line;  /* to be asked */
    uint32_t lined;    /* how many */
    struct list known; /* to be told */
    struct list cache;
    size_t octets;   /* of all packed records */
    uint32_t asking; /* ASKED */
    bool telling;
    struct dns_pending no_name, no_memory; /* what can be said at once */
    struct dns_pending told; /* has those who are being told just now, for dns_cancel */
    struct dns_snapshot counts;
    struct dns_reading reading; /* scratch */
};

static void heard(struct dns_request *request, const uint8_t *message, size_t len,
                  enum dns_status why);

/* --- the table --- */

static uint64_t hash_of(const struct dns *dns, const char *name, enum dns_type type)
{
    return hash_keyed(dns->seed, type, name, strlen(name));
}

static struct dns_pending **bucket_of(struct dns *dns, uint64_t hash)
{
    return &dns->buckets[hash & dns->bucket_mask];
}

static struct dns_pending *find(struct dns *dns, const char *name, enum dns_type type)
{
    uint64_t hash = hash_of(dns, name, type);
    struct dns_pending *at = *bucket_of(dns, hash);
    while (at != NULL && (at->hash != hash || at->type != type || strcmp(at->name, name) != 0))
        at = at->chain;
    return at;
}

/* add makes an entry, LINED. NULL: no memory. */
static struct dns_pending *add(struct dns *dns, const char *name, enum dns_type type)
{
    size_t size = strlen(name) + 1;
    struct dns_pending *pending = calloc(1, sizeof(*pending) + size);
    if (pending == NULL)
        return NULL;
    pending->name = (char *)(pending + 1);
    memcpy(pending->name, name, size);
    pending->request.heard = heard;
    pending->dns = dns;
    pending->type = (uint16_t)type;
    pending->hash = hash_of(dns, name, type);
    struct dns_pending **bucket = bucket_of(dns, pending->hash);
    pending->chain = *bucket;
    *bucket = pending;
    list_append(&dns->line, &pending->node);
    dns->lined++;
    return pending;
}

/* forget_answer makes an entry that has no answer of one that has. */
static void forget_answer(struct dns *dns, struct dns_pending *pending)
{
    if (pending->state != PENDING_KNOWN)
        return;
    list_remove(&pending->used);
    list_remove(&pending->node);
    dns->counts.cached--;
    dns->octets -= pending->packed_len;
    free(pending->packed);
    pending->packed = NULL;
    pending->packed_len = 0;
}

static void drop(struct dns *dns, struct dns_pending *pending)
{
    CHECK(pending->first == NULL && pending->state != PENDING_ASKED);
    dns->lined -= pending->state == PENDING_LINED;
    forget_answer(dns, pending);
    list_remove(&pending->node);
    struct dns_pending **at = bucket_of(dns, pending->hash);
    while (*at != pending)
        at = &(*at)->chain;
    *at = pending->chain;
    free(pending);
}

/* drop_known drops answers that nobody waits for, until no more than `count` are left. */
static void drop_known(struct dns *dns, uint32_t count)
{
    struct list_node *node = dns->cache.head.next;
    size_t octets_max = (size_t)count * OCTETS_AN_ANSWER;
    while (node != &dns->cache.head && (dns->counts.cached > count || dns->octets > octets_max)) {
        struct dns_pending *pending = list_entry(node, struct dns_pending, used);
        node = node->next;
        if (pending->first == NULL)
            drop(dns, pending);
    }
}

/* --- life --- */

static void set_fixed(struct dns *dns, struct dns_pending *fixed, enum dns_status status)
{
    fixed->dns = dns;
    fixed->fixed = true;
    fixed->state = PENDING_KNOWN;
    fixed->status = (uint8_t)status;
    fixed->expires_us = UINT64_MAX;
}

static void set_defaults(struct dns_options *options)
{
    CHECK(options->server_count <= DNS_SERVERS_MAX);
    options->timeout_ms = options->timeout_ms == 0 ? 2000 : options->timeout_ms;
    options->tries = options->tries == 0 ? 2 : options->tries;
    options->cache_max = options->cache_max == 0 ? 65536 : options->cache_max;
    options->ttl_max_s = options->ttl_max_s == 0 ? 86400 : options->ttl_max_s;
    options->pending_max = options->pending_max == 0 ? 1000 : options->pending_max;
}

struct dns *dns_new(struct worker *worker, const struct dns_options *options)
{
    struct dns *dns = calloc(1, sizeof(*dns));
    if (dns == NULL)
        return NULL;
    dns->worker = worker;
    dns->options = *options;
    set_defaults(&dns->options);
    list_init(&dns->line);
    list_init(&dns->known);
    list_init(&dns->cache);
    set_fixed(dns, &dns->no_name, DNS_NO_NAME);
    set_fixed(dns, &dns->no_memory, DNS_FAILED);
    set_fixed(dns, &dns->told, DNS_FAILED);
    crypto_random(dns->seed, sizeof(dns->seed));
    uint64_t buckets = 64;
    while (buckets < dns->options.cache_max)
        buckets *= 2;
    dns->bucket_mask = buckets - 1;
    dns->buckets = calloc(buckets, sizeof(struct dns_pending *));
    dns->channels = dns_channels_new(worker, &dns->options);
    if (dns->buckets != NULL && dns->channels != NULL)
        return dns;
    dns_free(dns);
    return NULL;
}

void dns_free(struct dns *dns)
{
    if (dns == NULL)
        return;
    CHECK(!dns->telling);
    dns_channels_free(dns->channels);
    for (uint64_t i = 0; dns->buckets != NULL && i <= dns->bucket_mask; i++)
        while (dns->buckets[i] != NULL) {
            struct dns_pending *pending = dns->buckets[i];
            dns->buckets[i] = pending->chain;
            free(pending->packed);
            free(pending);
        }
    free(dns->buckets);
    free(dns);
}

/* --- asking --- */

static bool fresh(const struct dns_pending *pending)
{
    return pending->state == PENDING_KNOWN && pending->dns->worker->now_us < pending->expires_us;
}

/* entry_for finds the entry of a question, or makes it, so that there is or will be an answer. */
static struct dns_pending *entry_for(struct dns *dns, const char *name, enum dns_type type)
{
    char folded[DNS_NAME_SIZE];
    if (!dns_name_fold(name, folded))
        return &dns->no_name;
    struct dns_pending *pending = find(dns, folded, type);
    if (pending == NULL)
        pending = add(dns, folded, type);
    if (pending == NULL)
        return &dns->no_memory;
    if (pending->state != PENDING_KNOWN)
        return pending;
    if (fresh(pending) || pending->first != NULL) { /* who waits already is told in a moment */
        dns->counts.hits++;
        list_remove(&pending->used);
        list_append(&dns->cache, &pending->used);
        return pending;
    }
    forget_answer(dns, pending);
    pending->state = PENDING_LINED;
    list_append(&dns->line, &pending->node);
    dns->lined++;
    return pending;
}

static void append_asker(struct dns_pending *pending, struct dns_question *question)
{
    question->next = NULL;
    question->pending = pending;
    if (pending->first == NULL)
        pending->first = question;
    else
        pending->last->next = question;
    pending->last = question;
}

void dns_ask(struct dns *dns, const char *name, enum dns_type type, struct dns_question *question)
{
    CHECK(question->pending == NULL);
    dns->counts.asked++;
    struct dns_pending *pending = entry_for(dns, name, type);
    append_asker(pending, question);
    if (pending->state == PENDING_KNOWN && !list_linked(&pending->node))
        list_append(&dns->known, &pending->node);
}

void dns_cancel(struct dns *dns, struct dns_question *question)
{
    struct dns_pending *pending = question->pending;
    if (pending == NULL)
        return;
    struct dns_question *before = NULL;
    struct dns_question *at = pending->first;
    while (at != question) { /* it is there */
        before = at;
        at = at->next;
    }
    if (before == NULL)
        pending->first = question->next;
    else
        before->next = question->next;
    if (pending->last == question)
        pending->last = before;
    question->pending = NULL;
    question->next = NULL;
    if (pending->first == NULL && pending->state == PENDING_LINED)
        drop(dns, pending); /* nobody wants to know any more */
}

/* --- answers --- */

static void count(struct dns_snapshot *counts, enum dns_status status)
{
    switch (status) {
    case DNS_FOUND: counts->found++; return;
    case DNS_NO_DATA: counts->no_data++; return;
    case DNS_NO_NAME: counts->no_name++; return;
    case DNS_FAILED: counts->failed++; return;
    case DNS_TIMED_OUT: counts->timed_out++; return;
    }
}

/* keep puts a reading into the entry. Without memory for the records it is a failure that holds no
 * longer than this turn. */
static void keep(struct dns *dns, struct dns_pending *pending, struct dns_reading *reading)
{
    uint8_t packed[DNS_PACKED_MAX];
    size_t len = dns_answer_pack(reading, pending->type, packed);
    if (reading->ttl_s > dns->options.ttl_max_s)
        reading->ttl_s = dns->options.ttl_max_s;
    pending->packed = len == 0 ? NULL : malloc(len);
    if (len > 0 && pending->packed == NULL) {
        reading->status = DNS_FAILED;
        reading->ttl_s = 0;
        len = 0;
    }
    if (len > 0)
        memcpy(pending->packed, packed, len);
    pending->packed_len = (uint32_t)len;
    pending->status = (uint8_t)reading->status;
    pending->state = PENDING_KNOWN;
    pending->expires_us = dns->worker->now_us + (uint64_t)reading->ttl_s * 1000000;
    dns->octets += len;
    dns->counts.cached++;
    list_append(&dns->cache, &pending->used);
    if (pending->first != NULL)
        list_append(&dns->known, &pending->node);
    count(&dns->counts, reading->status);
}

static void heard(struct dns_request *request, const uint8_t *message, size_t len,
                  enum dns_status why)
{
    struct dns_pending *pending = (struct dns_pending *)(void *)request;
    struct dns *dns = pending->dns;
    CHECK(pending->state == PENDING_ASKED && !dns->telling);
    dns->asking--;
    struct dns_reading *reading = &dns->reading;
    reading->status = why;
    reading->ttl_s = DNS_FAILED_TTL_S;
    reading->count = 0;
    if (message != NULL)
        dns_answer_read(message, len, pending->name, pending->type, reading);
    keep(dns, pending, reading);
    drop_known(dns, dns->options.cache_max);
}

/* --- the turn --- */

static uint32_t seconds_left(const struct dns_pending *pending)
{
    if (pending->fixed)
        return DNS_FAILED_TTL_S;
    return fresh(pending)
               ? (uint32_t)((pending->expires_us - pending->dns->worker->now_us) / 1000000)
               : 0;
}

/* tell calls all who wait for an entry. They may ask again, the same, too, or take back what others
 * have asked, so nothing of the entry is used meanwhile. */
static void tell(struct dns *dns, struct dns_pending *pending)
{
    struct dns_reading *reading = &dns->reading;
    reading->status = pending->status;
    reading->ttl_s = seconds_left(pending);
    dns_answer_unpack(pending->packed, pending->packed_len, pending->type, reading);
    struct dns_answer answer = {
        .status = reading->status,
        .ttl_s = reading->ttl_s,
        .count = reading->count,
        .records = reading->records,
    };
    struct dns_pending *told = &dns->told;
    CHECK(told->first == NULL);
    told->first = pending->first;
    told->last = pending->last;
    pending->first = pending->last = NULL;
    for (struct dns_question *at = told->first; at != NULL; at = at->next)
        at->pending = told;
    while (told->first != NULL) { /* who asks again goes elsewhere */
        struct dns_question *question = told->first;
        told->first = question->next;
        question->next = NULL;
        question->pending = NULL;
        question->answered(question, &answer);
    }
}

static void tell_all(struct dns *dns)
{
    struct list now;
    struct list_node *node;
    list_init(&now);
    list_move_all(&now, &dns->known); /* what comes meanwhile is the next turn's */
    dns->telling = true;
    while ((node = list_pop(&now)) != NULL)
        tell(dns, list_entry(node, struct dns_pending, node));
    dns->telling = false;
}

static bool may_ask(const struct dns *dns)
{
    return !list_empty(&dns->line) && dns->asking < dns->options.pending_max;
}

void dns_turn(struct dns *dns)
{
    dns_channels_turn(dns->channels);
    tell_all(dns);
    while (may_ask(dns)) {
        struct dns_pending *pending = list_entry(list_pop(&dns->line), struct dns_pending, node);
        pending->state = PENDING_ASKED;
        dns->lined--;
        dns->asking++;
        dns_channels_ask(dns->channels, &pending->request, pending->name, pending->type);
    }
}

uint64_t dns_next_us(const struct dns *dns)
{
    if (!list_empty(&dns->known) || may_ask(dns))
        return 0;
    return dns_channels_next_us(dns->channels);
}

void dns_forget(struct dns *dns)
{
    drop_known(dns, 0);
    for (struct list_node *node = dns->cache.head.next; node != &dns->cache.head; node = node->next)
        list_entry(node, struct dns_pending, used)->expires_us = 0; /* is told, and then over */
    dns_channels_reload(dns->channels);
}

void dns_snapshot(const struct dns *dns, struct dns_snapshot *out)
{
    *out = dns->counts;
    out->pending = dns->asking + dns->lined;
}
