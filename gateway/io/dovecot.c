/* The client's side of Dovecot's authentication protocol: see dovecot.h. Lines of words between
 * tabs. An exchange has a place here; its number on the wire is the place and a generation, so that
 * what comes late for one that is over finds nobody. An exchange waits for Dovecot, with a time
 * when that is over, or for the client, whose time others watch. */
#include "gateway/io/dovecot.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/counter.h"
#include "gateway/base/list.h"
#include "gateway/io/upstream.h"
#include "gateway/io/worker.h"
#include "tls/crypto.h"

enum {
    OUT_MAX = 256 * 1024,     /* octets of lines that Dovecot has not taken */
    LINE_OUT_MAX = 14 * 1024, /* Dovecot ends the connection for a line of 16 KiB */
    LINE_IN_MAX = 16 * 1024,
    WORDS_MAX = 512, /* octets of a line besides the response */
    MECHANISMS_MAX = 32,
    MECHANISM_LEN_MAX = 20, /* RFC 4422 3.1 */
    PLACE_BITS = 12,
    PENDING_MAX = 1 << PLACE_BITS,
    GENERATION_MAX = (1 << (32 - PLACE_BITS)) - 1,
};

struct exchange {
    struct list_node node;      /* linked: it waits for Dovecot */
    dovecot_answered *answered; /* NULL: free */
    void *user;
    uint64_t asked_us, due_us;
    uint32_t generation;
    uint32_t next_free; /* place + 1 */
};

struct mechanisms {
    uint32_t count;
    char names[MECHANISMS_MAX][MECHANISM_LEN_MAX + 1];
};

struct dovecot {
    struct upstream upstream; /* first: what its hooks are given */
    const struct dovecot_options *options;
    struct exchange *exchanges; /* pending_max */
    uint32_t free;              /* place + 1; 0: none is free */
    struct list waiting;        /* for Dovecot, the oldest first */
    uint64_t heard_us;
    bool versioned;                       /* VERSION has come on this connection */
    bool announced;                       /* there was a DONE on any */
    struct mechanisms mechanisms, coming; /* of the last DONE; since the last VERSION */
    size_t in_len;
    _Atomic uint64_t asked, passed, refused, away;
    char in[LINE_IN_MAX];
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
    exchange->answered = NULL;
    exchange->generation = exchange->generation == GENERATION_MAX ? 1 : exchange->generation + 1;
    exchange->next_free = dovecot->free;
    dovecot->free = (uint32_t)(exchange - dovecot->exchanges) + 1;
}

/* wait_for_answer: the time runs. */
static void wait_for_answer(struct dovecot *dovecot, struct exchange *exchange)
{
    exchange->asked_us = dovecot->upstream.worker->now_us;
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

/* lost: who waits hears of it now, who does not by dovecot_continue. */
static void lost(struct upstream *upstream)
{
    static const struct dovecot_answer away = {.status = DOVECOT_AWAY};
    struct dovecot *dovecot = (struct dovecot *)(void *)upstream;
    struct list_node *node;
    for (uint32_t i = 0; i < dovecot->options->pending_max; i++) {
        struct exchange *exchange = &dovecot->exchanges[i];
        if (exchange->answered != NULL && !list_linked(&exchange->node))
            let_go(dovecot, exchange);
    }
    while ((node = list_first(&dovecot->waiting)) != NULL)
        give_answer(dovecot, list_entry(node, struct exchange, node), &away);
}

/* --- what Dovecot says --- */

/* next_word cuts off the word before the next tab; NULL: there is none. */
static char *next_word(char **rest)
{
    char *word = *rest;
    if (word == NULL)
        return NULL;
    char *tab = strchr(word, '\t');
    if (tab != NULL)
        *tab = '\0';
    *rest = tab == NULL ? NULL : tab + 1;
    return word;
}

/* value_of returns what follows "name="; NULL: the word is another. */
static char *value_of(char *word, const char *name)
{
    size_t len = strlen(name);
    return strncmp(word, name, len) == 0 && word[len] == '=' ? word + len + 1 : NULL;
}

/* unescape undoes, in place, what Dovecot does to octets that would end a word. */
static size_t unescape(char *text)
{
    static const char plain[] = {'\0', '\1', '\t', '\r', '\n'}, escaped[] = "01trn";
    size_t len = 0;
    for (const char *at = text; *at != '\0'; at++) {
        const char *found = at[0] == '\1' && at[1] != '\0' ? strchr(escaped, at[1]) : NULL;
        text[len++] = found == NULL ? *at : plain[found - escaped];
        at += found != NULL;
    }
    return len;
}

static bool number_at(const char *text, uint32_t *out)
{
    uint64_t number = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 10)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    *out = (uint32_t)number;
    return number <= UINT32_MAX;
}

static bool nonsense(struct dovecot *dovecot)
{
    upstream_put_off(&dovecot->upstream, "%s", "it does not speak Dovecot's protocol");
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
static bool hear_greeting(struct dovecot *dovecot, const char *verb, char *rest)
{
    const char *word = next_word(&rest);
    uint32_t major;
    if (strcmp(verb, "VERSION") == 0) {
        if (dovecot->versioned || word == NULL || !number_at(word, &major))
            return nonsense(dovecot);
        dovecot->versioned = true;
        if (major == 1)
            return true;
        upstream_put_off(&dovecot->upstream, "%s", "it speaks another version");
        return false;
    }
    if (!dovecot->versioned)
        return nonsense(dovecot);
    if (strcmp(verb, "MECH") == 0 && word != NULL)
        note_mechanism(&dovecot->coming, word);
    if (strcmp(verb, "DONE") != 0)
        return true;
    dovecot->mechanisms = dovecot->coming;
    dovecot->announced = true;
    upstream_ready(&dovecot->upstream);
    return true;
}

/* read_words takes apart what follows the number. False: it makes no sense. */
static bool read_words(const char *verb, char *rest, struct dovecot_answer *answer)
{
    char *word, *value;
    *answer = (struct dovecot_answer){.status = DOVECOT_FAIL};
    if (strcmp(verb, "CONT") == 0) {
        answer->status = DOVECOT_CONTINUE;
        answer->text = next_word(&rest);
        answer->text_len = answer->text == NULL ? 0 : strlen(answer->text);
        return answer->text != NULL;
    }
    if (strcmp(verb, "OK") == 0)
        answer->status = DOVECOT_OK;
    while ((word = next_word(&rest)) != NULL) {
        if ((value = value_of(word, "user")) != NULL) {
            answer->user_len = unescape(value);
            answer->user = value;
        } else if ((value = value_of(word, "resp")) != NULL && answer->status == DOVECOT_OK) {
            answer->text = value;
            answer->text_len = strlen(value);
        } else if (answer->status == DOVECOT_FAIL &&
                   (strcmp(word, "temp") == 0 || strcmp(word, "code=temp_fail") == 0)) {
            answer->status = DOVECOT_TEMPORARY;
        }
    }
    return answer->status != DOVECOT_OK || answer->user != NULL;
}

static bool hear_line(struct dovecot *dovecot, char *line)
{
    char *rest = line;
    struct dovecot_answer answer;
    const char *verb = next_word(&rest);
    uint32_t number;
    if (dovecot->upstream.state == UPSTREAM_GREETING)
        return hear_greeting(dovecot, verb, rest);
    if (strcmp(verb, "OK") != 0 && strcmp(verb, "FAIL") != 0 && strcmp(verb, "CONT") != 0)
        return true; /* of a later version */
    const char *word = next_word(&rest);
    if (word == NULL || !number_at(word, &number) || !read_words(verb, rest, &answer))
        return nonsense(dovecot);
    struct exchange *exchange = exchange_of(dovecot, number);
    if (exchange == NULL)
        return true;
    if (list_linked(&exchange->node))
        give_answer(dovecot, exchange, &answer);
    else /* it has waited long enough for the client */
        let_go(dovecot, exchange);
    return dovecot->upstream.state == UPSTREAM_READY;
}

/* hear_lines takes the whole lines off. False: it was put off. */
static bool hear_lines(struct dovecot *dovecot)
{
    char *at = dovecot->in, *end = dovecot->in + dovecot->in_len, *line_end;
    while ((line_end = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        if (memchr(at, '\0', (size_t)(line_end - at)) != NULL)
            return nonsense(dovecot);
        *line_end = '\0';
        if (!hear_line(dovecot, at))
            return false;
        at = line_end + 1;
    }
    dovecot->in_len = (size_t)(end - at);
    memmove(dovecot->in, at, dovecot->in_len);
    if (dovecot->in_len < sizeof(dovecot->in))
        return true;
    upstream_put_off(&dovecot->upstream, "%s", "a line is too long");
    return false;
}

static bool hear(struct upstream *upstream, const char *data, size_t len)
{
    struct dovecot *dovecot = (struct dovecot *)(void *)upstream;
    dovecot->heard_us = upstream->worker->now_us;
    while (len > 0) {
        size_t room = sizeof(dovecot->in) - dovecot->in_len;
        size_t part = len < room ? len : room;
        memcpy(dovecot->in + dovecot->in_len, data, part);
        dovecot->in_len += part;
        data += part;
        len -= part;
        if (!hear_lines(dovecot))
            return false;
    }
    return true;
}

/* --- what it hears --- */

/* greet begins a connection. Dovecot wants a number that no other client of it has: the number of
 * the process is the same for all workers, and in many a container. */
static bool greet(struct upstream *upstream)
{
    struct dovecot *dovecot = (struct dovecot *)(void *)upstream;
    char text[64];
    uint32_t number;
    crypto_random(&number, sizeof(number));
    int len = snprintf(text, sizeof(text), "VERSION\t1\t1\nCPID\t%u\n", number >> 1 | 1);
    upstream_put(upstream, text, (size_t)len);
    dovecot->in_len = 0;
    dovecot->versioned = false;
    dovecot->coming.count = 0;
    return true;
}

/* put_line writes words, and the response where there is one. False: nobody is there, it does not
 * fit, or is no base64: a tab or the end of a line must never be in it. */
static bool put_line(struct dovecot *dovecot, const char *words, const char *response, size_t len)
{
    static const char base64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=";
    size_t words_len = strlen(words);
    if (dovecot->upstream.state != UPSTREAM_READY || words_len + len + 1 > LINE_OUT_MAX ||
        !upstream_room(&dovecot->upstream, words_len + len + 1))
        return false;
    for (size_t i = 0; i < len; i++)
        if (memchr(base64, response[i], sizeof(base64) - 1) == NULL)
            return false;
    upstream_put(&dovecot->upstream, words, words_len);
    if (len > 0)
        upstream_put(&dovecot->upstream, response, len);
    upstream_put(&dovecot->upstream, "\n", 1);
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
static bool say_auth(struct dovecot *dovecot, uint32_t number,
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
    return put_line(dovecot, words, request->response, request->response_len);
}

uint32_t dovecot_ask(struct dovecot *dovecot, const struct dovecot_request *request,
                     dovecot_answered *answered, void *user)
{
    struct exchange *exchange = NULL;
    if (dovecot->upstream.state == UPSTREAM_READY && dovecot->free > 0 &&
        dovecot_mechanism(dovecot, request->mechanism)) /* for others it hangs up */
        exchange = &dovecot->exchanges[dovecot->free - 1];
    if (exchange == NULL || !say_auth(dovecot, number_of(dovecot, exchange), request)) {
        counter_add(&dovecot->away, 1);
        return 0;
    }
    dovecot->free = exchange->next_free;
    exchange->answered = answered;
    exchange->user = user;
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
    if (!put_line(dovecot, words, response, response_len)) {
        dovecot_cancel(dovecot, request);
        return false;
    }
    wait_for_answer(dovecot, exchange);
    return true;
}

void dovecot_cancel(struct dovecot *dovecot, uint32_t request)
{
    char words[32];
    struct exchange *exchange = exchange_of(dovecot, request);
    if (exchange == NULL)
        return;
    let_go(dovecot, exchange);
    snprintf(words, sizeof(words), "CANCEL\t%u", request);
    (void)put_line(dovecot, words, NULL, 0); /* else Dovecot's own time ends it */
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
    list_init(&dovecot->waiting);
    dovecot->exchanges = calloc(options->pending_max, sizeof(*dovecot->exchanges));
    if (!upstream_init(&dovecot->upstream, worker, &hooks, &upstream) ||
        dovecot->exchanges == NULL) {
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
    upstream_cleanup(&dovecot->upstream);
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
    return dovecot->upstream.state == UPSTREAM_READY;
}

const char *dovecot_why(const struct dovecot *dovecot)
{
    return dovecot->upstream.why;
}

/* give_up_late: an exchange that Dovecot does not answer is over. When nothing at all was heard
 * since, so are the others. */
static void give_up_late(struct dovecot *dovecot)
{
    static const struct dovecot_answer away = {.status = DOVECOT_AWAY};
    struct list_node *node;
    while ((node = list_first(&dovecot->waiting)) != NULL) {
        struct exchange *exchange = list_entry(node, struct exchange, node);
        if (exchange->due_us > dovecot->upstream.worker->now_us)
            return;
        if (dovecot->heard_us < exchange->asked_us) {
            upstream_put_off(&dovecot->upstream, "%s", "no answer in time");
            return;
        }
        char words[32];
        snprintf(words, sizeof(words), "CANCEL\t%u", number_of(dovecot, exchange));
        (void)put_line(dovecot, words, NULL, 0);
        give_answer(dovecot, exchange, &away);
    }
}

void dovecot_turn(struct dovecot *dovecot)
{
    struct upstream *upstream = &dovecot->upstream;
    upstream_turn(upstream);
    if (upstream->state == UPSTREAM_GREETING && upstream->worker->now_us >= upstream->deadline_us)
        upstream_put_off(upstream, "%s", "no answer in time");
    give_up_late(dovecot);
    upstream_flush_rest(upstream);
}

uint64_t dovecot_next_us(const struct dovecot *dovecot)
{
    uint64_t next_us = upstream_next_us(&dovecot->upstream);
    if (dovecot->upstream.state == UPSTREAM_GREETING && dovecot->upstream.deadline_us < next_us)
        next_us = dovecot->upstream.deadline_us;
    struct list_node *node = list_first(&dovecot->waiting);
    if (node == NULL)
        return next_us;
    uint64_t due_us = list_entry(node, struct exchange, node)->due_us;
    return due_us < next_us ? due_us : next_us;
}

void dovecot_snapshot(const struct dovecot *dovecot, struct dovecot_snapshot *out)
{
    const struct upstream *upstream = &dovecot->upstream;
    *out = (struct dovecot_snapshot){
        .asked = counter_read(&dovecot->asked),
        .passed = counter_read(&dovecot->passed),
        .refused = counter_read(&dovecot->refused),
        .away = counter_read(&dovecot->away),
        .connects = counter_read(&upstream->connects),
        .failures = counter_read(&upstream->failures),
        .connected = atomic_load_explicit(&upstream->connected, memory_order_relaxed),
    };
}
