/* The client's side of Dovecot's authentication protocol: see dovecot.h. Lines of words between
 * tabs. An exchange has a place here; its number on the wire is the place and a generation, so that
 * what comes late for one that is over finds nobody. An exchange waits for Dovecot, with a time
 * when that is over, or for the client, whose time others watch.
 *
 * A Dovecot that is reloaded or ended leaves its old process, with what that knew, to those who are
 * still connected: so a connection is replaced every few seconds. What is under way on the old one
 * is finished there. */
#include "gateway/io/dovecot.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/counter.h"
#include "gateway/base/list.h"
#include "gateway/io/dovecot_words.h"
#include "gateway/io/upstream.h"
#include "gateway/io/worker.h"
#include "tls/crypto.h"

enum {
    OUT_MAX = 128 * 1024,     /* octets of lines that Dovecot has not taken */
    LINE_OUT_MAX = 14 * 1024, /* Dovecot ends the connection for a line of 16 KiB */
    LINE_IN_MAX = 16 * 1024,
    WORDS_MAX = 512, /* octets of a line besides the response */
    MECHANISMS_MAX = 32,
    MECHANISM_LEN_MAX = 20, /* RFC 4422 3.1 */
    PLACE_BITS = 12,
    PENDING_MAX = 1 << PLACE_BITS,
    GENERATION_MAX = (1 << (32 - PLACE_BITS)) - 1,
    RENEW_US = 10 * 1000 * 1000,
};

struct mechanisms {
    uint32_t count;
    char names[MECHANISMS_MAX][MECHANISM_LEN_MAX + 1];
};

struct connection {
    struct upstream upstream; /* first: what its hooks are given */
    struct dovecot *dovecot;
    bool there;               /* somebody listens: it came to a greeting */
    bool versioned;           /* VERSION has come */
    struct mechanisms coming; /* since then */
    uint64_t heard_us;
    uint32_t exchanges; /* on it */
    size_t in_len;
    char in[LINE_IN_MAX];
};

struct exchange {
    struct list_node node;      /* linked: it waits for Dovecot */
    dovecot_answered *answered; /* NULL: free */
    void *user;
    struct connection *connection;
    uint64_t asked_us, due_us;
    uint32_t generation;
    uint32_t next_free; /* place + 1 */
};

struct dovecot {
    const struct dovecot_options *options;
    struct worker *worker;
    struct connection connections[2];
    struct connection *current, *old; /* what is under way on the old one ends there */
    struct exchange *exchanges;       /* pending_max */
    uint32_t free;                    /* place + 1; 0: none is free */
    struct list waiting;              /* for Dovecot, the oldest first */
    bool renewing;                    /* `current` greets, the old one serves meanwhile */
    bool kept;                        /* `old` was to follow `current`, and failed */
    bool announced;                   /* there was a DONE */
    struct mechanisms mechanisms;     /* of the last one */
    _Atomic bool connected;
    _Atomic uint64_t asked, passed, refused, away;
};

/* --- exchanges --- */

static uint32_t number_of(const struct dovecot *dovecot, const struct exchange *exchange)
{
    return exchange->generation << PLACE_BITS | (uint32_t)(exchange - dovecot->exchanges);
}

/* exchange_of returns what a number stands for; NULL: it is over, or never was. */
static struct exchange *exchange_of(struct dovecot *dovecot, uint32_t number)
{
    uint32_t place = number & (PENDING_MAX - 1);
    if (place >= dovecot->options->pending_max)
        return NULL;
    struct exchange *exchange = &dovecot->exchanges[place];
    return exchange->answered != NULL && exchange->generation == number >> PLACE_BITS ? exchange
                                                                                      : NULL;
}

static void let_go(struct dovecot *dovecot, struct exchange *exchange)
{
    if (list_linked(&exchange->node))
        list_remove(&exchange->node);
    if (exchange->answered != NULL)
        exchange->connection->exchanges--;
    exchange->answered = NULL;
    exchange->generation = exchange->generation == GENERATION_MAX ? 1 : exchange->generation + 1;
    exchange->next_free = dovecot->free;
    dovecot->free = (uint32_t)(exchange - dovecot->exchanges) + 1;
}

/* wait_for_answer: the time runs. */
static void wait_for_answer(struct dovecot *dovecot, struct exchange *exchange)
{
    exchange->asked_us = dovecot->worker->now_us;
    exchange->due_us = exchange->asked_us + (uint64_t)dovecot->options->timeout_ms * 1000;
    list_append(&dovecot->waiting, &exchange->node);
}

static void give_answer(struct dovecot *dovecot, struct exchange *exchange,
                        const struct dovecot_answer *answer)
{
    uint32_t number = number_of(dovecot, exchange);
    dovecot_answered *answered = exchange->answered;
    void *user = exchange->user;
    list_remove(&exchange->node);
    if (answer->status != DOVECOT_CONTINUE)
        let_go(dovecot, exchange);
    if (answer->status == DOVECOT_OK)
        counter_add(&dovecot->passed, 1);
    else if (answer->status == DOVECOT_FAIL)
        counter_add(&dovecot->refused, 1);
    else if (answer->status != DOVECOT_CONTINUE)
        counter_add(&dovecot->away, 1);
    answered(user, number, answer);
}

/* keep_old: the next one does not greet, so the one that works goes on, and after a pause another
 * is tried. Not where nobody listens: then Dovecot has ended, and what it left is out of date. */
static void keep_old(struct dovecot *dovecot)
{
    struct connection *failed = dovecot->current;
    dovecot->current = dovecot->old;
    dovecot->old = failed;
    dovecot->kept = true;
}

/* lost: who waits hears of it now, who does not by dovecot_continue. */
static void lost(struct upstream *upstream)
{
    static const struct dovecot_answer away = {.status = DOVECOT_AWAY};
    struct connection *connection = (struct connection *)(void *)upstream;
    struct dovecot *dovecot = connection->dovecot;
    bool next_failed = dovecot->renewing && connection == dovecot->current;
    if (next_failed)
        dovecot->renewing = false;
    if (next_failed && connection->there && dovecot->old->upstream.state == UPSTREAM_READY)
        keep_old(dovecot);
    for (uint32_t i = 0; i < dovecot->options->pending_max; i++) {
        struct exchange *exchange = &dovecot->exchanges[i];
        if (exchange->answered == NULL || exchange->connection != connection)
            continue;
        if (list_linked(&exchange->node))
            give_answer(dovecot, exchange, &away);
        else
            let_go(dovecot, exchange);
    }
}

/* --- what Dovecot says --- */

static bool nonsense(struct connection *connection)
{
    upstream_put_off(&connection->upstream, "%s", "it does not speak Dovecot's protocol");
    return false;
}

static void note_mechanism(struct mechanisms *mechanisms, const char *name)
{
    size_t len = strlen(name);
    if (mechanisms->count < MECHANISMS_MAX && len > 0 && len <= MECHANISM_LEN_MAX)
        memcpy(mechanisms->names[mechanisms->count++], name, len + 1);
}

/* hear_greeting takes a line of the time before DONE. SPID, CUID and COOKIE are for those who ask
 * another of its sockets, too. */
static bool hear_greeting(struct connection *connection, const char *verb, char *rest)
{
    const char *word = dovecot_word(&rest);
    uint32_t major;
    if (strcmp(verb, "VERSION") == 0) {
        if (connection->versioned || word == NULL || !dovecot_number(word, &major))
            return nonsense(connection);
        connection->versioned = true;
        if (major == 1)
            return true;
        upstream_put_off(&connection->upstream, "%s", "it speaks another version");
        return false;
    }
    if (!connection->versioned)
        return nonsense(connection);
    if (strcmp(verb, "MECH") == 0 && word != NULL)
        note_mechanism(&connection->coming, word);
    if (strcmp(verb, "DONE") != 0)
        return true;
    connection->dovecot->mechanisms = connection->coming;
    connection->dovecot->announced = true;
    connection->dovecot->renewing = false;
    connection->dovecot->kept = false;
    upstream_ready(&connection->upstream);
    return true;
}

static bool hear_line(struct connection *connection, char *line)
{
    struct dovecot *dovecot = connection->dovecot;
    char *rest = line;
    struct dovecot_answer answer;
    const char *verb = dovecot_word(&rest);
    uint32_t number;
    if (connection->upstream.state == UPSTREAM_GREETING)
        return hear_greeting(connection, verb, rest);
    if (strcmp(verb, "OK") != 0 && strcmp(verb, "FAIL") != 0 && strcmp(verb, "CONT") != 0)
        return true; /* of a later version */
    const char *word = dovecot_word(&rest);
    if (word == NULL || !dovecot_number(word, &number) || !dovecot_read(verb, rest, &answer))
        return nonsense(connection);
    struct exchange *exchange = exchange_of(dovecot, number);
    if (exchange == NULL || exchange->connection != connection)
        return true;
    if (list_linked(&exchange->node))
        give_answer(dovecot, exchange, &answer);
    else /* it has waited long enough for the client */
        let_go(dovecot, exchange);
    return connection->upstream.state == UPSTREAM_READY;
}

/* hear_lines takes the whole lines off. False: it was put off. */
static bool hear_lines(struct connection *connection)
{
    char *at = connection->in, *end = connection->in + connection->in_len, *line_end;
    while ((line_end = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        if (memchr(at, '\0', (size_t)(line_end - at)) != NULL)
            return nonsense(connection);
        *line_end = '\0';
        if (!hear_line(connection, at))
            return false;
        at = line_end + 1;
    }
    connection->in_len = (size_t)(end - at);
    memmove(connection->in, at, connection->in_len);
    char *left = connection->in + connection->in_len;
    crypto_wipe(left, (size_t)(end - left)); /* Dovecot repeats tokens */
    if (connection->in_len < sizeof(connection->in))
        return true;
    upstream_put_off(&connection->upstream, "%s", "a line is too long");
    return false;
}

static bool hear(struct upstream *upstream, const char *data, size_t len)
{
    struct connection *connection = (struct connection *)(void *)upstream;
    connection->heard_us = upstream->worker->now_us;
    while (len > 0) {
        size_t room = sizeof(connection->in) - connection->in_len;
        size_t part = len < room ? len : room;
        memcpy(connection->in + connection->in_len, data, part);
        connection->in_len += part;
        data += part;
        len -= part;
        if (!hear_lines(connection)) {
            crypto_wipe(connection->in, sizeof(connection->in));
            return false;
        }
    }
    return true;
}

/* --- what it hears --- */

/* greet begins a connection. Dovecot wants a number that no other client of it has: the number of
 * the process is the same for all workers, and in many a container. */
static bool greet(struct upstream *upstream)
{
    struct connection *connection = (struct connection *)(void *)upstream;
    char text[64];
    uint32_t number;
    crypto_random(&number, sizeof(number));
    int len = snprintf(text, sizeof(text), "VERSION\t1\t1\nCPID\t%u\n", number >> 1 | 1);
    upstream_put(upstream, text, (size_t)len);
    connection->in_len = 0;
    connection->there = true;
    connection->versioned = false;
    connection->coming.count = 0;
    return true;
}

/* put_line writes words, and the response where there is one. False: nobody is there, it does not
 * fit, or is no base64: a tab or the end of a line must never be in it. */
static bool put_line(struct connection *connection, const char *words, const char *response,
                     size_t len)
{
    static const char base64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    size_t words_len = strlen(words);
    if (connection->upstream.state != UPSTREAM_READY || words_len + len + 1 > LINE_OUT_MAX ||
        !upstream_room(&connection->upstream, words_len + len + 1))
        return false;
    for (size_t i = 0; i < len; i++)
        if (memchr(base64, response[i], sizeof(base64) - 1) == NULL)
            return false;
    upstream_put(&connection->upstream, words, words_len);
    if (len > 0)
        upstream_put(&connection->upstream, response, len);
    upstream_put(&connection->upstream, "\n", 1);
    return true;
}

/* add_address writes "\tXip=ADDRESS\tXport=NUMBER". */
static int add_address(char *out, size_t size, char kind, const union address_any *address)
{
    char text[INET6_ADDRSTRLEN];
    bool v6 = address != NULL && address->any.sa_family == AF_INET6;
    if (address == NULL || (!v6 && address->any.sa_family != AF_INET))
        return 0;
    const void *octets = v6 ? (const void *)&address->v6.sin6_addr : &address->v4.sin_addr;
    if (inet_ntop(address->any.sa_family, octets, text, sizeof(text)) == NULL)
        return 0;
    return snprintf(out, size, "\t%cip=%s\t%cport=%u", kind, text, kind,
                    ntohs(v6 ? address->v6.sin6_port : address->v4.sin_port));
}

/* say_auth. "nologin": nobody will ask Dovecot's master for this login. "no-penalty": Dovecot makes
 * all clients of an address wait for seconds after failures; here they are counted by us. */
static bool say_auth(struct connection *connection, uint32_t number,
                     const struct dovecot_request *request)
{
    char words[WORDS_MAX];
    int len = snprintf(words, sizeof(words), "AUTH\t%u\t%s\tservice=smtp\tnologin\tno-penalty%s",
                       number, request->mechanism, request->secured ? "\tsecured" : "");
    len += add_address(words + len, sizeof(words) - (size_t)len, 'l', request->local);
    len += add_address(words + len, sizeof(words) - (size_t)len, 'r', request->peer);
    if (request->response != NULL) /* the last word: it is not looked into for others */
        len += snprintf(words + len, sizeof(words) - (size_t)len, "\tresp=");
    CHECK((size_t)len < sizeof(words));
    return put_line(connection, words, request->response, request->response_len);
}

static void say_cancel(struct connection *connection, uint32_t number)
{
    char words[32];
    snprintf(words, sizeof(words), "CANCEL\t%u", number);
    (void)put_line(connection, words, NULL, 0); /* else Dovecot's own time ends it */
}

/* usable returns the connection for what begins now: the old one, while the next greets. NULL:
 * Dovecot is away. */
static struct connection *usable(const struct dovecot *dovecot)
{
    if (dovecot->current->upstream.state == UPSTREAM_READY)
        return dovecot->current;
    bool old_serves = dovecot->renewing && dovecot->old->upstream.state == UPSTREAM_READY;
    return old_serves ? dovecot->old : NULL;
}

uint32_t dovecot_ask(struct dovecot *dovecot, const struct dovecot_request *request,
                     dovecot_answered *answered, void *user)
{
    struct exchange *exchange = NULL;
    struct connection *connection = usable(dovecot);
    if (connection != NULL && dovecot->free > 0 &&
        dovecot_mechanism(dovecot, request->mechanism)) /* for others it hangs up */
        exchange = &dovecot->exchanges[dovecot->free - 1];
    if (exchange == NULL || !say_auth(connection, number_of(dovecot, exchange), request)) {
        counter_add(&dovecot->away, 1);
        return 0;
    }
    dovecot->free = exchange->next_free;
    exchange->answered = answered;
    exchange->user = user;
    exchange->connection = connection;
    connection->exchanges++;
    wait_for_answer(dovecot, exchange);
    counter_add(&dovecot->asked, 1);
    return number_of(dovecot, exchange);
}

bool dovecot_continue(struct dovecot *dovecot, uint32_t request, const char *response,
                      size_t response_len)
{
    char words[32];
    struct exchange *exchange = exchange_of(dovecot, request);
    if (exchange == NULL)
        return false;
    CHECK(!list_linked(&exchange->node));
    snprintf(words, sizeof(words), "CONT\t%u\t", request);
    if (!put_line(exchange->connection, words, response, response_len)) {
        dovecot_cancel(dovecot, request);
        return false;
    }
    wait_for_answer(dovecot, exchange);
    return true;
}

void dovecot_cancel(struct dovecot *dovecot, uint32_t request)
{
    struct exchange *exchange = exchange_of(dovecot, request);
    if (exchange == NULL)
        return;
    say_cancel(exchange->connection, request);
    let_go(dovecot, exchange);
}

/* --- life --- */

struct dovecot *dovecot_new(struct worker *worker, const struct dovecot_options *options)
{
    static const struct upstream_hooks hooks = {.connected = greet, .heard = hear, .lost = lost};
    const struct upstream_options upstream = {
        .address = &options->address,
        .path = options->path,
        .timeout_ms = options->timeout_ms,
        .out_size = OUT_MAX,
    };
    CHECK(options->pending_max > 0 && options->pending_max <= PENDING_MAX &&
          options->timeout_ms > 0);
    struct dovecot *dovecot = calloc(1, sizeof(*dovecot));
    if (dovecot == NULL)
        return NULL;
    dovecot->options = options;
    dovecot->worker = worker;
    dovecot->current = &dovecot->connections[0];
    dovecot->old = &dovecot->connections[1];
    list_init(&dovecot->waiting);
    dovecot->exchanges = calloc(options->pending_max, sizeof(*dovecot->exchanges));
    bool whole = dovecot->exchanges != NULL;
    for (int i = 0; i < 2; i++) {
        dovecot->connections[i].dovecot = dovecot;
        whole &= upstream_init(&dovecot->connections[i].upstream, worker, &hooks, &upstream);
    }
    if (!whole) {
        dovecot_free(dovecot);
        return NULL;
    }
    for (uint32_t i = options->pending_max; i > 0; i--)
        let_go(dovecot, &dovecot->exchanges[i - 1]);
    return dovecot;
}

void dovecot_free(struct dovecot *dovecot)
{
    if (dovecot == NULL)
        return;
    for (int i = 0; i < 2; i++)
        upstream_cleanup(&dovecot->connections[i].upstream);
    free(dovecot->exchanges);
    free(dovecot);
}

bool dovecot_mechanism(const struct dovecot *dovecot, const char *name)
{
    if (!dovecot->announced)
        return strcmp(name, "PLAIN") == 0;
    for (uint32_t i = 0; i < dovecot->mechanisms.count; i++)
        if (strcmp(dovecot->mechanisms.names[i], name) == 0)
            return true;
    return false;
}

bool dovecot_is_connected(const struct dovecot *dovecot)
{
    return usable(dovecot) != NULL;
}

const char *dovecot_why(const struct dovecot *dovecot)
{
    return dovecot->current->upstream.why;
}

/* give_up_late: an exchange that Dovecot does not answer is over. When nothing at all was heard
 * since, so are the others. */
static void give_up_late(struct dovecot *dovecot)
{
    static const struct dovecot_answer away = {.status = DOVECOT_AWAY};
    struct list_node *node;
    while ((node = list_first(&dovecot->waiting)) != NULL) { /* each round takes one off */
        struct exchange *exchange = list_entry(node, struct exchange, node);
        if (exchange->due_us > dovecot->worker->now_us)
            return;
        if (exchange->connection->heard_us < exchange->asked_us) {
            upstream_put_off(&exchange->connection->upstream, "%s", "no answer in time");
            continue;
        }
        say_cancel(exchange->connection, number_of(dovecot, exchange));
        give_answer(dovecot, exchange, &away);
    }
}

static bool old_is_waited_for(const struct dovecot *dovecot)
{
    for (uint32_t i = 0; i < dovecot->options->pending_max && dovecot->old->exchanges > 0; i++)
        if (dovecot->exchanges[i].answered != NULL && list_linked(&dovecot->exchanges[i].node) &&
            dovecot->exchanges[i].connection == dovecot->old)
            return true;
    return false;
}

static uint64_t renew_us(const struct dovecot *dovecot)
{
    const struct upstream *upstream = &dovecot->current->upstream;
    uint32_t set_ms = dovecot->options->renew_ms;
    uint64_t after_us = set_ms == 0 ? RENEW_US : (uint64_t)set_ms * 1000;
    if (upstream->state != UPSTREAM_READY)
        return UINT64_MAX;
    uint64_t pause_end_us = dovecot->kept ? dovecot->old->upstream.pause_end_us : 0;
    return pause_end_us > upstream->ready_us + after_us ? pause_end_us
                                                        : upstream->ready_us + after_us;
}

/* renew lets the next connection begin. The old one ends when nothing is under way there any more,
 * or only clients that take their time. */
static void renew(struct dovecot *dovecot)
{
    struct connection *old = dovecot->old;
    bool over = dovecot->worker->now_us >= renew_us(dovecot);
    if (old->upstream.state != UPSTREAM_AWAY && !dovecot->renewing &&
        (old->exchanges == 0 || (over && !old_is_waited_for(dovecot))))
        upstream_close(&old->upstream);
    if (!over || old->upstream.state != UPSTREAM_AWAY)
        return;
    dovecot->old = dovecot->current;
    dovecot->current = old;
    dovecot->renewing = true;
    dovecot->current->there = false;
    if (dovecot->kept) /* the pauses grow */
        upstream_turn(&old->upstream);
    else
        upstream_begin(&old->upstream);
}

void dovecot_turn(struct dovecot *dovecot)
{
    struct upstream *upstream = &dovecot->current->upstream;
    upstream_turn(upstream);
    if (upstream->state == UPSTREAM_GREETING && dovecot->worker->now_us >= upstream->deadline_us)
        upstream_put_off(upstream, "%s", "no answer in time");
    give_up_late(dovecot);
    renew(dovecot);
    upstream_flush_rest(&dovecot->connections[0].upstream);
    upstream_flush_rest(&dovecot->connections[1].upstream);
    atomic_store_explicit(&dovecot->connected, usable(dovecot) != NULL, memory_order_relaxed);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t dovecot_next_us(const struct dovecot *dovecot)
{
    const struct upstream *upstream = &dovecot->current->upstream, *old = &dovecot->old->upstream;
    uint64_t next_us = upstream_next_us(upstream);
    if (old->state == UPSTREAM_READY)
        next_us = earlier(next_us, upstream_next_us(old));
    if (upstream->state == UPSTREAM_GREETING)
        next_us = earlier(next_us, upstream->deadline_us);
    if (old->state == UPSTREAM_AWAY || !old_is_waited_for(dovecot))
        next_us = earlier(next_us, renew_us(dovecot));
    struct list_node *node = list_first(&dovecot->waiting);
    if (node == NULL)
        return next_us;
    return earlier(next_us, list_entry(node, struct exchange, node)->due_us);
}

void dovecot_snapshot(const struct dovecot *dovecot, struct dovecot_snapshot *out)
{
    *out = (struct dovecot_snapshot){
        .asked = counter_read(&dovecot->asked),
        .passed = counter_read(&dovecot->passed),
        .refused = counter_read(&dovecot->refused),
        .away = counter_read(&dovecot->away),
        .connected = atomic_load_explicit(&dovecot->connected, memory_order_relaxed),
    };
    for (int i = 0; i < 2; i++) {
        out->connects += counter_read(&dovecot->connections[i].upstream.connects);
        out->failures += counter_read(&dovecot->connections[i].upstream.failures);
    }
}
