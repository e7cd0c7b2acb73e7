/* Callaheads: see callahead.h. What is known about a mailbox is an entry of the cache; what is
 * being asked is an inquiry, with all the questions that wait for it. */
#include "gateway/deliver/callahead.h"

#include "gateway/base/check.h"
#include "gateway/base/hash.h"
#include "gateway/base/id.h"
#include "gateway/deliver/patience.h"
#include "gateway/spool/envelope.h"
#include "tls/crypto.h"

#include <stdlib.h>
#include <string.h>

enum {
    ENTRIES_USUAL = 65536,
    INQUIRY_BUCKETS = 1024, /* a power of two */
    STALLS = 256,           /* a power of two */
    STALL_US = 10000000,    /* one that had let us wait is not asked for so long */
    NO_SHARE = 6,           /* a no is believed for the cache's time divided by this */
    KEY_MAX = 512,
};

/* A mailbox as it is looked up: the domain in lower case. */
struct key {
    uint64_t hash;
    size_t len;
    uint8_t text[KEY_MAX];
};

struct entry {
    struct entry *next;   /* in its bucket */
    struct list_node age; /* in callaheads->ages */
    uint64_t hash, until_us;
    bool yes;
    uint16_t code; /* of a no, as are status and text */
    struct reply_status status;
    uint16_t mailbox_len;
    uint8_t octets[]; /* the mailbox, and behind it the text, NUL-terminated */
};

struct inquiry {
    struct inquiry *next; /* in its bucket, until `done` */
    struct callaheads *callaheads;
    struct delivery delivery;
    struct delivery_recipient recipient;
    struct hop_question *first, *last; /* that wait for it */
    uint32_t destination;
    bool done; /* answered, or nobody waits any more */
    bool retried;
    bool late; /* somebody has waited for it in vain */
    struct key key;
};

/* A destination that has not answered in time; index 0: none. */
struct stall {
    uint32_t destination;
    uint64_t until_us; /* then one question tries it */
};

struct callaheads {
    struct callaheads_options options;
    struct patience patience;
    struct list ages[2]; /* entries with a no, with a yes; the one asked for longest ago first */
    uint32_t age_counts[2];
    struct entry **buckets;
    uint32_t bucket_mask;
    struct inquiry *inquiries[INQUIRY_BUCKETS];
    struct stall stalls[STALLS]; /* by index; of two in one place the later is known */
    struct callaheads_counters counters;
    uint64_t seed[2];
    uint64_t now_us;      /* of the last call that told it */
    uint32_t alive_count; /* inquiries */
    bool stopping;
};

struct callaheads *callaheads_new(const struct callaheads_options *options)
{
    struct callaheads *callaheads = calloc(1, sizeof(*callaheads));
    if (callaheads == NULL)
        return NULL;
    callaheads->options = *options;
    if (options->entries_max == 0)
        callaheads->options.entries_max = ENTRIES_USUAL;
    uint32_t buckets = 1;
    while (buckets < callaheads->options.entries_max && buckets < 1u << 30)
        buckets *= 2;
    callaheads->bucket_mask = buckets - 1;
    callaheads->buckets = calloc(buckets, sizeof(callaheads->buckets[0]));
    if (callaheads->buckets == NULL) {
        free(callaheads);
        return NULL;
    }
    patience_init(&callaheads->patience);
    list_init(&callaheads->ages[false]);
    list_init(&callaheads->ages[true]);
    crypto_random(callaheads->seed, sizeof(callaheads->seed));
    return callaheads;
}

bool callaheads_at_rest(const struct callaheads *callaheads)
{
    return callaheads->alive_count == 0 && list_empty(&callaheads->patience.waiting);
}

const struct callaheads_counters *callaheads_counters(const struct callaheads *callaheads)
{
    return &callaheads->counters;
}

/* --- the cache --- */

static void make_key(const struct callaheads *callaheads, struct bytes mailbox, struct key *key)
{
    struct bytes domain = route_mailbox_domain(mailbox);
    size_t local_len = mailbox.len - domain.len;
    key->len = mailbox.len;
    memcpy(key->text, mailbox.data, mailbox.len);
    for (size_t i = local_len; i < mailbox.len; i++)
        if (key->text[i] >= 'A' && key->text[i] <= 'Z')
            key->text[i] = (uint8_t)(key->text[i] + ('a' - 'A'));
    key->hash = hash_keyed(callaheads->seed, 0, key->text, key->len);
}

static bool is_for(const struct entry *entry, const struct key *key)
{
    return entry->hash == key->hash && entry->mailbox_len == key->len &&
           memcmp(entry->octets, key->text, key->len) == 0;
}

static struct entry **bucket_of(struct callaheads *callaheads, uint64_t hash)
{
    return &callaheads->buckets[hash & callaheads->bucket_mask];
}

static void forget(struct callaheads *callaheads, struct entry *entry)
{
    struct entry **link = bucket_of(callaheads, entry->hash);
    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    list_remove(&entry->age);
    callaheads->age_counts[entry->yes]--;
    callaheads->counters.entries--;
    free(entry);
}

/* forget_oldest takes from the kind that has more: guesses of names don't push out real ones. */
static void forget_oldest(struct callaheads *callaheads)
{
    bool yes = callaheads->age_counts[true] > callaheads->age_counts[false];
    struct list_node *node = list_first(&callaheads->ages[yes]);
    if (node != NULL)
        forget(callaheads, list_entry(node, struct entry, age));
}

static struct entry *find(struct callaheads *callaheads, const struct key *key, uint64_t now_us)
{
    struct entry *entry = *bucket_of(callaheads, key->hash);
    while (entry != NULL && !is_for(entry, key))
        entry = entry->next;
    if (entry == NULL || entry->until_us > now_us)
        return entry;
    forget(callaheads, entry);
    return NULL;
}

/* remember keeps an answer of the next hop: a yes, or a no with its reason. */
static void remember(struct callaheads *callaheads, const struct key *key,
                     const struct verdict *verdict, uint64_t now_us)
{
    bool yes = verdict->kind == VERDICT_ACCEPTED;
    uint64_t time_s = yes ? callaheads->options.cache_s : callaheads->options.cache_s / NO_SHARE;
    if (time_s == 0)
        return;
    struct entry *entry = find(callaheads, key, now_us);
    if (entry != NULL)
        forget(callaheads, entry);
    if (callaheads->counters.entries >= callaheads->options.entries_max)
        forget_oldest(callaheads);
    size_t text_len = yes ? 0 : strlen(verdict->text);
    entry = malloc(sizeof(*entry) + key->len + text_len + 1);
    if (entry == NULL)
        return;
    *entry = (struct entry){
        .hash = key->hash,
        .until_us = now_us + time_s * 1000000,
        .yes = yes,
        .code = verdict->code,
        .status = verdict->status,
        .mailbox_len = (uint16_t)key->len,
    };
    memcpy(entry->octets, key->text, key->len);
    memcpy(entry->octets + key->len, verdict->text, text_len);
    entry->octets[key->len + text_len] = '\0';
    struct entry **bucket = bucket_of(callaheads, key->hash);
    entry->next = *bucket;
    *bucket = entry;
    list_append(&callaheads->ages[yes], &entry->age);
    callaheads->age_counts[yes]++;
    callaheads->counters.entries++;
}

static void forget_all(struct callaheads *callaheads)
{
    while (callaheads->counters.entries > 0)
        forget_oldest(callaheads);
}

void callaheads_configure(struct callaheads *callaheads, const struct routes *routes,
                          uint32_t cache_s)
{
    callaheads->options.routes = routes;
    callaheads->options.cache_s = cache_s;
    forget_all(callaheads);
}

void callaheads_free(struct callaheads *callaheads)
{
    if (callaheads == NULL)
        return;
    CHECK(callaheads_at_rest(callaheads));
    forget_all(callaheads);
    free(callaheads->buckets);
    free(callaheads);
}

/* answer_from_cache answers a question about a known mailbox. */
static void answer_from_cache(struct callaheads *callaheads, struct hop_question *question,
                              struct entry *entry)
{
    struct verdict verdict = {.kind = entry->yes ? VERDICT_ACCEPTED : VERDICT_REFUSED,
                              .code = entry->code,
                              .status = entry->status};
    const char *text = (const char *)entry->octets + entry->mailbox_len;
    memcpy(verdict.text, text, strlen(text) + 1);
    list_remove(&entry->age);
    list_append(&callaheads->ages[entry->yes], &entry->age);
    callaheads->counters.cached++;
    callaheads->counters.refused += !entry->yes;
    patience_judge(question, &verdict);
    question->cached = true;
    hop_return(question);
}

/* --- destinations that let us wait --- */

static struct stall *stall_of(struct callaheads *callaheads, uint32_t destination)
{
    return &callaheads->stalls[destination & (STALLS - 1)];
}

static void stall_note(struct callaheads *callaheads, uint32_t destination, uint64_t now_us)
{
    *stall_of(callaheads, destination) = (struct stall){destination, now_us + STALL_US};
}

static void stall_forget(struct callaheads *callaheads, uint32_t destination)
{
    struct stall *stall = stall_of(callaheads, destination);
    if (stall->destination == destination)
        stall->destination = 0;
}

/* stalls says whether to spare us the wait. When the time is over, one question may try. */
static bool stalls(struct callaheads *callaheads, uint32_t destination, uint64_t now_us)
{
    struct stall *stall = stall_of(callaheads, destination);
    if (stall->destination != destination)
        return false;
    if (stall->until_us > now_us)
        return true;
    stall->until_us = now_us + STALL_US;
    return false;
}

/* --- inquiries --- */

static struct inquiry **inquiries_of(struct callaheads *callaheads, uint64_t hash)
{
    return &callaheads->inquiries[hash & (INQUIRY_BUCKETS - 1)];
}

static struct inquiry *find_inquiry(struct callaheads *callaheads, const struct key *key)
{
    struct inquiry *inquiry = *inquiries_of(callaheads, key->hash);
    while (inquiry != NULL && (inquiry->key.hash != key->hash || inquiry->key.len != key->len ||
                               memcmp(inquiry->key.text, key->text, key->len) != 0))
        inquiry = inquiry->next;
    return inquiry;
}

/* finish: nothing more is to come of the inquiry but its end; the same may be asked anew. */
static void finish(struct inquiry *inquiry)
{
    struct inquiry **link = inquiries_of(inquiry->callaheads, inquiry->key.hash);
    CHECK(!inquiry->done && inquiry->first == NULL);
    while (*link != inquiry)
        link = &(*link)->next;
    *link = inquiry->next;
    inquiry->done = true;
}

/* conclude answers all who wait. A refusal is one only when it is `final`. */
static void conclude(struct inquiry *inquiry, const struct verdict *verdict, bool final)
{
    struct callaheads *callaheads = inquiry->callaheads;
    struct hop_question *next;
    for (struct hop_question *question = inquiry->first; question != NULL; question = next) {
        next = question->alike;
        patience_remove(question);
        patience_judge(question, verdict);
        if (question->answer == HOP_REFUSED && !final)
            question->answer = HOP_UNREACHABLE;
        callaheads->counters.refused += question->answer == HOP_REFUSED;
        callaheads->counters.unknown +=
            question->answer == HOP_DEFERRED || question->answer == HOP_UNREACHABLE;
        hop_return(question);
    }
    inquiry->first = inquiry->last = NULL;
    finish(inquiry);
}

static void log_inquiry(const struct inquiry *inquiry, const struct verdict *verdict)
{
    struct log_line line = log_begin(inquiry->callaheads->options.log, LOG_INFO, "callahead");
    if (inquiry->first != NULL) { /* of those who wait for the answer */
        char id[ID_TEXT_LEN + 1];
        id_format(inquiry->first->session_id, id);
        log_bytes(&line, "session", id, ID_TEXT_LEN);
    }
    log_bytes(&line, "to", inquiry->key.text, inquiry->key.len);
    log_string(&line, "peer", inquiry->delivery.peer);
    log_number(&line, "code", verdict->code);
    log_string(&line, "text", verdict->text);
    log_end(&line);
}

/* answered: RCPT was, or MAIL refused, which says nothing about the mailbox. */
static void answered(struct delivery *delivery, uint32_t index)
{
    struct inquiry *inquiry = delivery->user;
    struct callaheads *callaheads = inquiry->callaheads;
    const struct verdict *verdict = &inquiry->recipient.verdict;
    bool mail = index == UINT32_MAX;
    if (inquiry->done || patience_answer(verdict) == HOP_UNREACHABLE)
        return; /* `delivered` comes */
    log_inquiry(inquiry, verdict);
    stall_forget(callaheads, inquiry->destination);
    bool final = !mail && patience_concerns_mailbox(verdict);
    if (final && patience_answer(verdict) != HOP_DEFERRED)
        remember(callaheads, &inquiry->key, verdict, callaheads->now_us);
    conclude(inquiry, verdict, final);
    if (!mail)
        destinations_cancel(callaheads->options.destinations, delivery); /* RSET */
}

/* retry: as for a passage, a connection that had been idle may just have been closed. */
static bool retry(struct inquiry *inquiry)
{
    struct delivery *delivery = &inquiry->delivery;
    if (inquiry->done || inquiry->retried || delivery->peer[0] == '\0' ||
        inquiry->callaheads->stopping || inquiry->recipient.verdict.kind == VERDICT_REFUSED)
        return false;
    inquiry->retried = true;
    memset(&inquiry->recipient.verdict, 0, sizeof(inquiry->recipient.verdict));
    delivery->client = NULL;
    delivery->peer[0] = '\0';
    destinations_deliver(inquiry->callaheads->options.destinations, inquiry->destination, delivery);
    return true;
}

static void delivered(struct delivery *delivery)
{
    struct inquiry *inquiry = delivery->user;
    if (retry(inquiry))
        return;
    if (!inquiry->done) {
        struct verdict *verdict = &inquiry->recipient.verdict;
        if (verdict->kind != VERDICT_REFUSED)
            verdict->kind = VERDICT_OPEN; /* a greeting's 4xx says nothing about the mailbox */
        log_inquiry(inquiry, verdict);
        conclude(inquiry, verdict, true);
    }
    inquiry->callaheads->alive_count--;
    free(inquiry);
}

static int no_text(void *user, struct bytes *piece)
{
    (void)user;
    *piece = bytes_make(NULL, 0);
    return 0;
}

static int no_rewind(void *user)
{
    (void)user;
    return 0;
}

/* begin asks the next hop. NULL: there is none that could be asked, it lets us wait, or no memory.
 */
static struct inquiry *begin(struct callaheads *callaheads, const struct hop_question *question,
                             const struct key *key)
{
    struct destinations *destinations = callaheads->options.destinations;
    const struct route *route =
        routes_find(callaheads->options.routes, question->forward_path, false);
    bool asks = route != NULL &&
                (route->kind == ROUTE_SMTP || route->kind == ROUTE_MX || route->kind == ROUTE_LMTP);
    struct inquiry *inquiry = asks ? calloc(1, sizeof(*inquiry)) : NULL;
    if (inquiry == NULL)
        return NULL;
    inquiry->destination =
        destinations_find(destinations, route, route_mailbox_domain(question->forward_path));
    if (inquiry->destination == 0 || stalls(callaheads, inquiry->destination, callaheads->now_us)) {
        free(inquiry);
        return NULL;
    }
    inquiry->callaheads = callaheads;
    inquiry->key = *key;
    inquiry->recipient.forward_path = bytes_make(inquiry->key.text, inquiry->key.len);
    inquiry->delivery = (struct delivery){
        .flags = question->flags & ENVELOPE_SMTPUTF8,
        .text = {no_text, no_rewind, NULL},
        .recipients = &inquiry->recipient,
        .recipient_count = 1,
        .stepwise = true,
        .user = inquiry,
        .answered = answered,
        .delivered = delivered,
    };
    struct inquiry **bucket = inquiries_of(callaheads, key->hash);
    inquiry->next = *bucket;
    *bucket = inquiry;
    callaheads->alive_count++;
    callaheads->counters.asked++;
    destinations_deliver(destinations, inquiry->destination, &inquiry->delivery);
    return inquiry;
}

/* --- questions --- */

static void decline(struct callaheads *callaheads, struct hop_question *question)
{
    callaheads->counters.unknown++;
    patience_give_up(question);
}

void callaheads_ask(struct callaheads *callaheads, struct hop_question *question, uint64_t now_us)
{
    struct key key;
    CHECK(question->ask == HOP_CALLAHEAD);
    callaheads->now_us = now_us;
    if (callaheads->stopping || question->forward_path.len > KEY_MAX) {
        decline(callaheads, question);
        return;
    }
    make_key(callaheads, question->forward_path, &key);
    struct entry *entry = find(callaheads, &key, now_us);
    if (entry != NULL) {
        answer_from_cache(callaheads, question, entry);
        return;
    }
    struct inquiry *inquiry = find_inquiry(callaheads, &key);
    callaheads->counters.merged += inquiry != NULL;
    if (inquiry == NULL)
        inquiry = begin(callaheads, question, &key);
    if (inquiry == NULL || inquiry->late) {
        decline(callaheads, question);
        return;
    }
    question->answerer = inquiry;
    question->alike = NULL;
    if (inquiry->last == NULL)
        inquiry->first = question;
    else
        inquiry->last->alike = question;
    inquiry->last = question;
    patience_add(&callaheads->patience, question, now_us);
}

/* give_up lets one question go without an answer, and with the last one its inquiry. */
static void give_up(struct callaheads *callaheads, struct hop_question *question)
{
    struct inquiry *inquiry = question->answerer;
    struct hop_question **link = &inquiry->first, *before = NULL;
    if (question->due_us <= callaheads->now_us && !callaheads->stopping) {
        stall_note(callaheads, inquiry->destination, callaheads->now_us);
        inquiry->late = true;
    }
    while (*link != question) { /* they expire in the order of the list: mostly the first */
        before = *link;
        link = &(*link)->alike;
    }
    *link = question->alike;
    if (inquiry->last == question)
        inquiry->last = before;
    decline(callaheads, question);
    if (inquiry->first != NULL)
        return;
    finish(inquiry);
    destinations_cancel(callaheads->options.destinations, &inquiry->delivery);
}

void callaheads_turn(struct callaheads *callaheads, uint64_t now_us)
{
    struct hop_question *question;
    callaheads->now_us = now_us;
    while ((question = patience_expired(&callaheads->patience, now_us)) != NULL)
        give_up(callaheads, question);
}

uint64_t callaheads_next_us(const struct callaheads *callaheads)
{
    return patience_next_us(&callaheads->patience);
}

void callaheads_stop(struct callaheads *callaheads)
{
    callaheads->stopping = true;
    callaheads_turn(callaheads, UINT64_MAX);
}
