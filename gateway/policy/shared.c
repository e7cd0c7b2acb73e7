/* What several gateways know together: see shared.h, and docs/scaling.md for the keys. Two kinds of
 * places wait for Redis: questions about triplets, and counts that were told. What an answer
 * belongs to is said by a token, place and generation, so a place may be taken back meanwhile. */
#include "gateway/policy/shared.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/clock.h"
#include "gateway/base/hash.h"
#include "gateway/policy/networks.h"
#include "tls/crypto.h"

enum {
    ASKS_MAX = 1024,     /* questions about triplets */
    GATHERED_MAX = 1024, /* networks that are counted until they are told; a power of two */
    GATHERED_FULL = GATHERED_MAX / 2, /* then they are told at once */
    TOLD_MAX = 4096,                  /* counts whose sum is to come back */
    TELL_US = 50 * 1000,
    MINUTE_S = 60,
    RATE_KEEP_S = 120, /* of a minute's count */
    KEY_MAX = 192,
    WORDS_MAX = 6,
    NUMBER_MAX = 24,
};

/* A triplet that was asked about. */
struct ask {
    struct shared_question *question; /* NULL: taken back, or free */
    struct greylist_rules rules;
    uint32_t generation;
    uint32_t next_free; /* place + 1 */
    bool network_known;
};

/* What one address or network has done since it was told last. */
struct gathered {
    union address_any peer;
    uint32_t count; /* 0: free */
    uint32_t limit;
    uint8_t kind, scope;
    uint8_t network[16]; /* whose text rates_network writes when it is told */
};

/* A count that was told. */
struct told {
    union address_any peer;
    uint32_t limit;
    uint32_t next_free; /* place + 1 */
    uint64_t until_us;  /* the end of its minute, monotonic */
    uint8_t kind, scope;
};

/* Words of a command. */
struct words {
    const char *words[WORDS_MAX];
    size_t lens[WORDS_MAX];
    size_t count;
};

struct shared {
    const struct shared_options *options;
    struct redis *redis;
    struct log_port *log;
    uint64_t seed[2];
    uint64_t tell_us; /* when the gathered are told; 0: there are none */
    uint32_t gathered_count;
    uint32_t ask_free, told_free; /* place + 1; 0: none is free */
    bool asking;                  /* inside shared_ask */
    enum { SEEN_NOTHING, SEEN_AWAY, SEEN_CONNECTED, SEEN_REFUSED } seen; /* and logged */
    uint64_t failures, errors; /* of Redis, when it was looked at last */
    struct ask asks[ASKS_MAX];
    struct told told[TOLD_MAX];
    struct gathered gathered[GATHERED_MAX];
};

/* --- words --- */

static void add_word(struct words *words, const char *text, size_t len)
{
    CHECK(words->count < WORDS_MAX);
    words->words[words->count] = text;
    words->lens[words->count++] = len;
}

static void add_text(struct words *words, const char *text)
{
    add_word(words, text, strlen(text));
}

static void send_words(struct shared *shared, const struct words *words, redis_answered *answered,
                       uint64_t token)
{
    redis_ask(shared->redis, words->words, words->lens, words->count, answered, shared, token);
}

/* key_of writes "PREFIX:grey:n:0123456789abcdef". */
static void key_of(const struct shared *shared, char kind, uint64_t key, char out[KEY_MAX])
{
    int len = snprintf(out, KEY_MAX, "%s:grey:%c:%016llx", shared->options->prefix, kind,
                       (unsigned long long)key);
    CHECK(len > 0 && len < KEY_MAX);
}

/* --- rates --- */

static void summed(void *user, uint64_t token, const struct redis_answer *answer)
{
    struct shared *shared = user;
    struct told *told = &shared->told[token];
    if (answer->status == REDIS_OK && answer->text == NULL && answer->number > told->limit)
        rates_close(shared->options->rates, (enum rate_kind)told->kind,
                    (enum rate_scope)told->scope, &told->peer, clock_monotonic_us(),
                    told->until_us);
    told->next_free = shared->told_free;
    shared->told_free = (uint32_t)token + 1;
}

/* tell_one adds a count to its minute; the key goes by itself when that is long over. It is made
 * with its end, so that none is left for ever where the connection breaks between two commands, and
 * told of it again, so that none is where this was refused. */
static void tell_one(struct shared *shared, const struct gathered *gathered, uint64_t wall_us,
                     uint64_t now_us)
{
    static const char *const kinds[] = {
        [RATE_CONNECTIONS] = "connections", [RATE_MESSAGES] = "messages"};
    char network[RATES_TEXT], key[KEY_MAX], count[NUMBER_MAX], keep[NUMBER_MAX];
    uint64_t minute_us = (uint64_t)MINUTE_S * 1000000;
    size_t network_len = rates_network(&gathered->peer, (enum rate_scope)gathered->scope, network);
    int len = snprintf(key, sizeof(key), "%s:rate:%s:%.*s:%llu", shared->options->prefix,
                       kinds[gathered->kind], (int)network_len, network,
                       (unsigned long long)(wall_us / minute_us));
    CHECK(len > 0 && len < KEY_MAX);
    snprintf(count, sizeof(count), "%u", gathered->count);
    snprintf(keep, sizeof(keep), "%d", RATE_KEEP_S);
    struct words make = {.count = 0}, add = {.count = 0}, expire = {.count = 0};
    add_text(&make, "SET");
    add_word(&make, key, (size_t)len);
    add_text(&make, "0");
    add_text(&make, "NX");
    add_text(&make, "EX");
    add_text(&make, keep);
    add_text(&add, "INCRBY");
    add_word(&add, key, (size_t)len);
    add_text(&add, count);
    add_text(&expire, "EXPIRE");
    add_word(&expire, key, (size_t)len);
    add_text(&expire, keep);
    uint32_t place = shared->told_free;
    send_words(shared, &make, NULL, 0);
    if (place != 0) {
        struct told *told = &shared->told[place - 1];
        shared->told_free = told->next_free;
        *told = (struct told){
            .peer = gathered->peer,
            .limit = gathered->limit,
            .until_us = now_us + minute_us - wall_us % minute_us,
            .kind = gathered->kind,
            .scope = gathered->scope,
        };
        send_words(shared, &add, summed, place - 1);
    } else {
        send_words(shared, &add, NULL, 0); /* counted all the same */
    }
    send_words(shared, &expire, NULL, 0);
}

static void tell(struct shared *shared)
{
    uint64_t wall_us = clock_wall_us(), now_us = clock_monotonic_us();
    bool connected = redis_is_connected(shared->redis);
    for (uint32_t i = 0; i < GATHERED_MAX && shared->gathered_count > 0; i++) {
        struct gathered *gathered = &shared->gathered[i];
        if (gathered->count == 0)
            continue;
        if (connected)
            tell_one(shared, gathered, wall_us, now_us);
        gathered->count = 0;
        shared->gathered_count--;
    }
    shared->tell_us = 0;
}

/* gather counts one of this kind and scope: for each message, so only the address is masked. */
static void gather(struct shared *shared, const union address_any *peer, enum rate_kind kind,
                   enum rate_scope scope, uint32_t limit)
{
    bool wide = scope == RATE_NETWORK;
    uint8_t network[16];
    (void)networks_mask(peer, wide ? 24 : 32, wide ? 48 : 64, network);
    uint64_t hash =
        hash_keyed(shared->seed, (uint64_t)kind * RATE_SCOPES + scope, network, sizeof(network));
    if (shared->gathered_count >= GATHERED_FULL)
        tell(shared);
    for (uint32_t i = 0; i < GATHERED_MAX; i++) { /* half of them are free */
        struct gathered *at = &shared->gathered[(hash + i) & (GATHERED_MAX - 1)];
        if (at->count > 0 && (at->kind != kind || at->scope != scope ||
                              memcmp(at->network, network, sizeof(network)) != 0))
            continue;
        shared->gathered_count += at->count == 0;
        at->count++;
        at->peer = *peer;
        at->limit = limit;
        at->kind = (uint8_t)kind;
        at->scope = (uint8_t)scope;
        memcpy(at->network, network, sizeof(network));
        break;
    }
    if (shared->tell_us == 0)
        shared->tell_us = clock_monotonic_us() + TELL_US;
}

void shared_count(struct shared *shared, const struct rate_limits *limits, enum rate_kind kind,
                  const union address_any *peer)
{
    if (!redis_is_connected(shared->redis))
        return;
    for (int scope = 0; scope < RATE_SCOPES; scope++)
        if (limits->per_minute[kind][scope] > 0)
            gather(shared, peer, kind, (enum rate_scope)scope, limits->per_minute[kind][scope]);
}

/* --- the greylist --- */

static uint64_t token_of(const struct shared *shared, const struct ask *ask)
{
    return (uint64_t)ask->generation << 32 | (uint64_t)(ask - shared->asks);
}

/* ask_of returns what a token stands for; NULL: it was taken back. */
static struct ask *ask_of(struct shared *shared, uint64_t token)
{
    struct ask *ask = &shared->asks[(uint32_t)token];
    return token >> 32 == ask->generation && ask->question != NULL ? ask : NULL;
}

static void let_go(struct shared *shared, struct ask *ask)
{
    ask->question->token = 0;
    ask->question = NULL;
    ask->generation = ask->generation == UINT32_MAX ? 1 : ask->generation + 1; /* no token is 0 */
    ask->next_free = shared->ask_free;
    shared->ask_free = (uint32_t)(ask - shared->asks) + 1;
}

static void heard_of_network(void *user, uint64_t token, const struct redis_answer *answer)
{
    struct ask *ask = ask_of(user, token);
    if (ask != NULL)
        ask->network_known = answer->status == REDIS_OK;
}

/* number_of reads a time that a gateway wrote; 0: it is none. */
static uint64_t number_of(const struct redis_answer *answer)
{
    uint64_t number = 0;
    if (answer->status != REDIS_OK || answer->text == NULL || answer->len > 10)
        return 0;
    for (size_t i = 0; i < answer->len; i++) {
        if (answer->text[i] < '0' || answer->text[i] > '9')
            return 0;
        number = number * 10 + (uint64_t)(answer->text[i] - '0');
    }
    return number;
}

/* heard_of_triplet: the last answer to a question. */
static void heard_of_triplet(void *user, uint64_t token, const struct redis_answer *answer)
{
    struct shared *shared = user;
    struct ask *ask = ask_of(shared, token);
    if (ask == NULL)
        return;
    struct shared_question *question = ask->question;
    struct greylist_rules rules = ask->rules;
    bool network_known = ask->network_known;
    uint64_t first_s = number_of(answer);
    enum greylist_verdict verdict = GREYLIST_FIRST;
    let_go(shared, ask);
    if (shared->asking) /* it could not even be sent: shared_ask says so */
        return;
    if (network_known || first_s > 0)
        verdict =
            greylist_learn(shared->options->greylist, &rules, question->triplet, question->network,
                           network_known ? 0 : first_s, clock_wall_us() / 1000000);
    if (verdict == GREYLIST_PASSED)
        shared_passed(shared, &rules, question->network);
    question->answered(question, verdict);
}

bool shared_ask(struct shared *shared, const struct greylist_rules *rules,
                struct shared_question *question, uint64_t triplet, uint64_t network)
{
    char network_key[KEY_MAX], triplet_key[KEY_MAX], now[NUMBER_MAX], window[NUMBER_MAX];
    CHECK(question->token == 0 && shared->options->greylist != NULL);
    if (!redis_is_connected(shared->redis) || shared->ask_free == 0)
        return false;
    struct ask *ask = &shared->asks[shared->ask_free - 1];
    shared->ask_free = ask->next_free;
    ask->question = question;
    ask->rules = *rules;
    ask->network_known = false;
    question->triplet = triplet;
    question->network = network;
    question->token = token_of(shared, ask);
    uint64_t token = question->token;
    key_of(shared, 'n', network, network_key);
    key_of(shared, 't', triplet, triplet_key);
    snprintf(now, sizeof(now), "%llu", (unsigned long long)(clock_wall_us() / 1000000));
    snprintf(window, sizeof(window), "%u", rules->window_s);
    struct words get_network = {.count = 0}, note = {.count = 0}, get_triplet = {.count = 0};
    add_text(&get_network, "GET");
    add_text(&get_network, network_key);
    add_text(&note, "SET");
    add_text(&note, triplet_key);
    add_text(&note, now);
    add_text(&note, "NX");
    add_text(&note, "EX");
    add_text(&note, window);
    add_text(&get_triplet, "GET");
    add_text(&get_triplet, triplet_key);
    shared->asking = true;
    send_words(shared, &get_network, heard_of_network, token);
    send_words(shared, &note, NULL, 0);
    send_words(shared, &get_triplet, heard_of_triplet, token);
    shared->asking = false;
    return question->token != 0;
}

void shared_cancel(struct shared *shared, struct shared_question *question)
{
    struct ask *ask = question->token == 0 ? NULL : ask_of(shared, question->token);
    if (ask != NULL)
        let_go(shared, ask);
}

void shared_passed(struct shared *shared, const struct greylist_rules *rules, uint64_t network)
{
    char key[KEY_MAX], keep[NUMBER_MAX];
    struct words words = {.count = 0};
    key_of(shared, 'n', network, key);
    snprintf(keep, sizeof(keep), "%u", rules->keep_s);
    add_text(&words, "SET");
    add_text(&words, key);
    add_text(&words, "1");
    add_text(&words, "EX");
    add_text(&words, keep);
    send_words(shared, &words, NULL, 0);
}

/* --- the turn --- */

static void log_state(struct shared *shared, enum log_level level, const char *state)
{
    const char *why = redis_why(shared->redis);
    if (shared->log == NULL)
        return;
    struct log_line line = log_begin(shared->log, level, "redis");
    log_string(&line, "state", state);
    if (why[0] != '\0')
        log_string(&line, "reason", why);
    log_end(&line);
}

/* look logs when Redis has come or gone, and once for each connection that it refuses something. */
static void look(struct shared *shared)
{
    struct redis_snapshot now;
    redis_snapshot(shared->redis, &now);
    if (now.connected && shared->seen != SEEN_CONNECTED && shared->seen != SEEN_REFUSED) {
        log_state(shared, LOG_INFO, "connected");
        shared->seen = SEEN_CONNECTED;
        shared->errors = now.errors;
    } else if (now.connected && shared->seen == SEEN_CONNECTED && now.errors > shared->errors) {
        log_state(shared, LOG_WARN, "refuses");
        shared->seen = SEEN_REFUSED;
    } else if (!now.connected && shared->seen != SEEN_AWAY && now.failures > shared->failures) {
        log_state(shared, LOG_WARN, "away");
        shared->seen = SEEN_AWAY;
    }
    shared->failures = now.failures;
}

void shared_turn(struct shared *shared)
{
    if (shared->tell_us != 0 && clock_monotonic_us() >= shared->tell_us)
        tell(shared);
    redis_turn(shared->redis);
    look(shared);
}

uint64_t shared_next_us(const struct shared *shared)
{
    uint64_t next_us = redis_next_us(shared->redis);
    return shared->tell_us != 0 && shared->tell_us < next_us ? shared->tell_us : next_us;
}

const struct redis *shared_redis(const struct shared *shared)
{
    return shared->redis;
}

/* --- life --- */

struct shared *shared_new(struct worker *worker, const struct shared_options *options,
                          struct log_port *log)
{
    struct shared *shared = calloc(1, sizeof(*shared));
    if (shared == NULL)
        return NULL;
    shared->redis = redis_new(worker, &options->redis);
    if (shared->redis == NULL) {
        free(shared);
        return NULL;
    }
    shared->options = options;
    shared->log = log;
    crypto_random(shared->seed, sizeof(shared->seed));
    for (uint32_t i = ASKS_MAX; i-- > 0;) {
        shared->asks[i].generation = 1;
        shared->asks[i].next_free = shared->ask_free;
        shared->ask_free = i + 1;
    }
    for (uint32_t i = TOLD_MAX; i-- > 0;) {
        shared->told[i].next_free = shared->told_free;
        shared->told_free = i + 1;
    }
    return shared;
}

void shared_free(struct shared *shared)
{
    if (shared == NULL)
        return;
    redis_free(shared->redis);
    free(shared);
}
