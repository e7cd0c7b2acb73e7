/* Questions to a Redis server: see redis.h. hiredis' reader takes the answers apart, with functions
 * of ours that keep the one that is being read and allocate nothing. Its own client is not used: it
 * ends the process when a server speaks unasked. Answers come in the order of the questions, so a
 * connection whose answers can't be matched any more, or are late, is given up as a whole. */
#include "gateway/io/redis.h"

#include <errno.h>
#include <hiredis/read.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/counter.h"
#include "gateway/io/worker.h"

enum {
    OUT_MAX = 256 * 1024, /* octets of questions that the server has not taken */
    IN_MAX = 64 * 1024,   /* octets of an answer that has no end */
    READ_MAX = 16 * 1024,
    READS_A_TURN = 8,
    NUMBER_MAX = 24, /* octets of "$NUMBER" CR LF */
    WHY_MAX = 96,
    PAUSE_US_MIN = 100 * 1000,
    PAUSE_US_MAX = 5 * 1000 * 1000,
    STEADY_US = 10 * 1000 * 1000, /* a connection that lasted so long was a good one */
    IDLE_US = 5 * 1000 * 1000, /* after that a PING finds out whether the server is still there */
};

enum redis_state {
    STATE_AWAY = 0, /* until pause_end_us */
    STATE_CONNECTING = 1,
    STATE_GREETING = 2, /* AUTH, SELECT and PING are out */
    STATE_READY = 3,
};

struct question {
    redis_answered *answered;
    void *user;
    uint64_t token;
    uint64_t due_us;
};

struct redis {
    struct watch watch; /* first: what `ready` is given */
    struct worker *worker;
    const struct redis_options *options;
    enum redis_state state;
    int descriptor;
    uint64_t deadline_us;       /* of connecting and greeting */
    uint64_t pause_end_us;      /* when it is tried again */
    uint64_t pause_us;          /* the next pause */
    uint64_t ready_us;          /* since when it is connected */
    uint64_t asked_us;          /* the last question */
    uint32_t greeting;          /* answers that the greeting still wants */
    struct question *questions; /* a ring of pending_max */
    uint32_t first, count;
    redisReader *reader;
    struct redis_answer answer; /* being read */
    bool confused;              /* it is of a kind that no question of ours has */
    bool blocked;               /* the kernel takes no more octets now */
    size_t out_at, out_len;
    char text[REDIS_TEXT_MAX];
    char why[WHY_MAX];
    _Atomic uint64_t asked, answered, errors, away, connects, failures;
    _Atomic bool connected;
    char in[READ_MAX];
    char out[OUT_MAX];
};

/* --- what hiredis' reader finds --- */

/* Only what stands outside of arrays is an answer; an array is none of ours. */
static struct redis_answer *answer_of(const redisReadTask *task)
{
    struct redis *redis = task->privdata;
    return task->parent == NULL ? &redis->answer : NULL;
}

static void *found_text(const redisReadTask *task, char *text, size_t len)
{
    struct redis *redis = task->privdata;
    struct redis_answer *answer = answer_of(task);
    if (answer == NULL)
        return redis;
    bool wrong = task->type == REDIS_REPLY_ERROR;
    bool fits = len <= sizeof(redis->text);
    *answer = (struct redis_answer){
        .status = wrong || !fits ? REDIS_ERROR : (enum redis_status)REDIS_OK,
        .text = redis->text,
        .len = fits ? len : sizeof(redis->text),
    };
    memcpy(redis->text, text, answer->len);
    return redis;
}

static void *found_number(const redisReadTask *task, long long number)
{
    struct redis_answer *answer = answer_of(task);
    if (answer != NULL)
        *answer = (struct redis_answer){.number = number};
    return task->privdata;
}

static void *found_nil(const redisReadTask *task)
{
    struct redis_answer *answer = answer_of(task);
    if (answer != NULL)
        *answer = (struct redis_answer){.status = REDIS_NIL};
    return task->privdata;
}

static void *found_array(const redisReadTask *task, int elements)
{
    struct redis *redis = task->privdata;
    (void)elements;
    redis->confused = true;
    return redis;
}

static void forget_found(void *found)
{
    (void)found; /* it is the struct redis itself */
}

static redisReplyObjectFunctions functions = {
    .createString = found_text,
    .createArray = found_array,
    .createInteger = found_number,
    .createNil = found_nil,
    .freeObject = forget_found,
};

/* --- questions --- */

static void give_answer(struct redis *redis, const struct question *question,
                        const struct redis_answer *answer)
{
    enum redis_status status = answer->status;
    counter_add(status == REDIS_AWAY    ? &redis->away
                : status == REDIS_ERROR ? &redis->errors
                                        : &redis->answered,
                1);
    if (question->answered != NULL)
        question->answered(question->user, question->token, answer);
}

static struct question take_first(struct redis *redis)
{
    CHECK(redis->count > 0);
    struct question question = redis->questions[redis->first];
    redis->first = (redis->first + 1) % redis->options->pending_max;
    redis->count--;
    return question;
}

/* put_off ends the connection, if there is one, and the questions that were out. */
static void put_off(struct redis *redis, const char *format, const char *detail)
{
    static const struct redis_answer away = {.status = REDIS_AWAY};
    uint64_t now_us = redis->worker->now_us;
    if (redis->state == STATE_READY && now_us - redis->ready_us > STEADY_US)
        redis->pause_us = PAUSE_US_MIN;
    if (redis->descriptor >= 0) {
        (void)!watch_set(redis->worker, &redis->watch, redis->descriptor, 0);
        close(redis->descriptor);
        redis->descriptor = -1;
    }
    snprintf(redis->why, sizeof(redis->why), format, detail);
    redis->state = STATE_AWAY;
    redis->pause_end_us = now_us + redis->pause_us;
    redis->pause_us = redis->pause_us * 2 < PAUSE_US_MAX ? redis->pause_us * 2 : PAUSE_US_MAX;
    redis->out_at = redis->out_len = 0;
    redis->blocked = false;
    atomic_store_explicit(&redis->connected, false, memory_order_relaxed);
    counter_add(&redis->failures, 1);
    for (uint32_t left = redis->count; left > 0; left--) {
        struct question question = take_first(redis);
        give_answer(redis, &question, &away);
    }
}

static void put_octets(struct redis *redis, const void *data, size_t len)
{
    memcpy(redis->out + redis->out_len, data, len);
    redis->out_len += len;
}

static void put_number(struct redis *redis, char kind, size_t number)
{
    int len = snprintf(redis->out + redis->out_len, NUMBER_MAX, "%c%zu\r\n", kind, number);
    redis->out_len += (size_t)len;
}

/* put_command writes a command as the protocol has it. (hiredis would allocate it each time.)
 * False: the server does not take what was written before. */
static bool put_command(struct redis *redis, const char *const *words, const size_t *lens,
                        size_t count)
{
    size_t size = NUMBER_MAX;
    for (size_t i = 0; i < count; i++)
        size += NUMBER_MAX + lens[i] + 2;
    if (OUT_MAX - redis->out_len < size && redis->out_at > 0) {
        memmove(redis->out, redis->out + redis->out_at, redis->out_len - redis->out_at);
        redis->out_len -= redis->out_at;
        redis->out_at = 0;
    }
    if (OUT_MAX - redis->out_len < size)
        return false;
    put_number(redis, '*', count);
    for (size_t i = 0; i < count; i++) {
        put_number(redis, '$', lens[i]);
        put_octets(redis, words[i], lens[i]);
        put_octets(redis, "\r\n", 2);
    }
    return true;
}

static bool send_question(struct redis *redis, const char *const *words, const size_t *lens,
                          size_t count, const struct question *question)
{
    if (redis->count == redis->options->pending_max || !put_command(redis, words, lens, count))
        return false;
    uint32_t place = (redis->first + redis->count) % redis->options->pending_max;
    redis->questions[place] = *question;
    redis->questions[place].due_us =
        redis->worker->now_us + (uint64_t)redis->options->timeout_ms * 1000;
    redis->count++;
    redis->asked_us = redis->worker->now_us;
    counter_add(&redis->asked, 1);
    return true;
}

void redis_ask(struct redis *redis, const char *const *words, const size_t *lens, size_t count,
               redis_answered *answered, void *user, uint64_t token)
{
    static const struct redis_answer away = {.status = REDIS_AWAY};
    struct question question = {.answered = answered, .user = user, .token = token};
    if (redis->state != STATE_READY || !send_question(redis, words, lens, count, &question))
        give_answer(redis, &question, &away);
}

/* --- the connection --- */

static void flush(struct redis *redis)
{
    uint32_t wanted = POLLIN;
    while (redis->out_at < redis->out_len) {
        ssize_t sent = send(redis->descriptor, redis->out + redis->out_at,
                            redis->out_len - redis->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            put_off(redis, "sending: %s", strerror(errno));
            return;
        }
        if (sent < 0) {
            wanted |= POLLOUT;
            break;
        }
        redis->out_at += (size_t)sent;
    }
    if (redis->out_at == redis->out_len)
        redis->out_at = redis->out_len = 0;
    redis->blocked = redis->out_len > 0;
    if (!watch_set(redis->worker, &redis->watch, redis->descriptor, wanted))
        put_off(redis, "%s", "the worker watches too much");
}

/* first_word keeps of an error what names it: "WRONGPASS". The rest may say anything. */
static void first_word(const struct redis_answer *answer, char *out, size_t size)
{
    size_t len = 0;
    while (answer->text != NULL && len < answer->len && len + 1 < size &&
           answer->text[len] >= 'A' && answer->text[len] <= 'Z') {
        out[len] = answer->text[len];
        len++;
    }
    out[len] = '\0';
}

static void greeted(void *user, uint64_t token, const struct redis_answer *answer)
{
    static const char *const refusals[] = {"AUTH was answered: %s", "SELECT was answered: %s",
                                           "PING was answered: %s"};
    struct redis *redis = user;
    char word[32];
    if (answer->status == REDIS_AWAY)
        return; /* it was put off, and it is known why */
    if (answer->status != REDIS_OK || answer->text == NULL) {
        first_word(answer, word, sizeof(word));
        put_off(redis, refusals[token], word[0] == '\0' ? "nonsense" : word);
        return;
    }
    if (--redis->greeting > 0)
        return;
    redis->state = STATE_READY;
    redis->ready_us = redis->worker->now_us;
    redis->why[0] = '\0';
    counter_add(&redis->connects, 1);
    atomic_store_explicit(&redis->connected, true, memory_order_relaxed);
}

/* greet_with sends a word with two more, which may be NULL. */
static void greet_with(struct redis *redis, uint64_t token, const char *verb, const char *a,
                       const char *b)
{
    const char *words[3] = {verb};
    size_t lens[3] = {strlen(verb)}, count = 1;
    if (a != NULL) {
        words[count] = a;
        lens[count++] = strlen(a);
    }
    if (b != NULL) {
        words[count] = b;
        lens[count++] = strlen(b);
    }
    struct question question = {.answered = greeted, .user = redis, .token = token};
    bool sent = send_question(redis, words, lens, count, &question);
    CHECK(sent); /* nothing else is out */
    redis->greeting++;
}

/* greet begins a connection. Only who has answered PING is there: a process that is stopped lets
 * the kernel accept for it. */
static void greet(struct redis *redis)
{
    const struct redis_options *options = redis->options;
    char database[16];
    redis->state = STATE_GREETING;
    redis->greeting = 0;
    if (options->password != NULL && options->user != NULL)
        greet_with(redis, 0, "AUTH", options->user, options->password);
    else if (options->password != NULL)
        greet_with(redis, 0, "AUTH", options->password, NULL);
    snprintf(database, sizeof(database), "%u", options->database);
    if (options->database > 0)
        greet_with(redis, 1, "SELECT", database, NULL);
    greet_with(redis, 2, "PING", NULL, NULL);
    flush(redis);
}

/* hear_answers gives each complete answer to its question. False: the connection is over. */
static bool hear_answers(struct redis *redis)
{
    for (;;) { /* each round takes octets off the reader, or ends */
        void *found = NULL;
        if (redisReaderGetReply(redis->reader, &found) != REDIS_OK) {
            put_off(redis, "%s", "it does not speak Redis");
            return false;
        }
        if (redis->confused || (found != NULL && redis->count == 0)) {
            put_off(redis, "%s", "it said what nobody had asked");
            return false;
        }
        if (found == NULL)
            break;
        struct redis_answer answer = redis->answer;
        struct question question = take_first(redis);
        if (answer.status == REDIS_ERROR && redis->state == STATE_READY)
            first_word(&answer, redis->why, sizeof(redis->why));
        give_answer(redis, &question, &answer);
        if (redis->state < STATE_GREETING)
            return false; /* it was the answer to the greeting, and not a good one */
    }
    if (redis->reader->len - redis->reader->pos <= IN_MAX)
        return true;
    put_off(redis, "%s", "an answer is too long");
    return false;
}

static void hear(struct redis *redis)
{
    for (int i = 0; i < READS_A_TURN; i++) {
        ssize_t len = recv(redis->descriptor, redis->in, sizeof(redis->in), MSG_DONTWAIT);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (len <= 0) {
            put_off(redis, "%s", len == 0 ? "it closed the connection" : strerror(errno));
            return;
        }
        if (redisReaderFeed(redis->reader, redis->in, (size_t)len) != REDIS_OK) {
            put_off(redis, "%s", "out of memory");
            return;
        }
        if (!hear_answers(redis) || (size_t)len < sizeof(redis->in))
            return;
    }
}

static void ready(struct watch *watch, uint32_t events)
{
    struct redis *redis = (struct redis *)(void *)watch;
    if (redis->state == STATE_CONNECTING) {
        int error = 0;
        socklen_t len = sizeof(error);
        (void)getsockopt(redis->descriptor, SOL_SOCKET, SO_ERROR, &error, &len);
        if (error != 0)
            put_off(redis, "connecting: %s", strerror(error));
        else
            greet(redis);
        return;
    }
    if (events & POLLOUT)
        flush(redis);
    if (redis->state >= STATE_GREETING && events & ~(uint32_t)POLLOUT)
        hear(redis);
}

/* start_connecting returns what connect(2) does, on a new socket. */
static int start_connecting(struct redis *redis)
{
    const union address_any *address = &redis->options->address;
    struct sockaddr_un unix_address = {.sun_family = AF_UNIX};
    int one = 1;
    if (redis->options->path != NULL) {
        size_t len = strlen(redis->options->path);
        CHECK(len < sizeof(unix_address.sun_path));
        memcpy(unix_address.sun_path, redis->options->path, len + 1);
    }
    int family = redis->options->path != NULL ? AF_UNIX : address->any.sa_family;
    redis->descriptor = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (redis->descriptor < 0)
        return -1;
    if (family == AF_UNIX)
        return connect(redis->descriptor, (struct sockaddr *)&unix_address, sizeof(unix_address));
    (void)setsockopt(redis->descriptor, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    socklen_t len = family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
    return connect(redis->descriptor, &address->any, len);
}

static void try_again(struct redis *redis)
{
    redisReaderFree(redis->reader);
    redis->reader = redisReaderCreateWithFunctions(&functions);
    redis->confused = false;
    if (redis->reader == NULL) {
        put_off(redis, "%s", "out of memory");
        return;
    }
    redis->reader->privdata = redis;
    redis->deadline_us = redis->worker->now_us + (uint64_t)redis->options->timeout_ms * 1000;
    if (start_connecting(redis) == 0) {
        greet(redis);
        return;
    }
    redis->state = STATE_CONNECTING;
    if (errno != EINPROGRESS)
        put_off(redis, "connecting: %s", strerror(errno));
    else if (!watch_set(redis->worker, &redis->watch, redis->descriptor, POLLOUT))
        put_off(redis, "%s", "the worker watches too much");
}

/* --- life --- */

struct redis *redis_new(struct worker *worker, const struct redis_options *options)
{
    CHECK(options->pending_max > 2 && options->timeout_ms > 0);
    struct redis *redis = calloc(1, sizeof(*redis));
    if (redis == NULL)
        return NULL;
    redis->worker = worker;
    redis->options = options;
    redis->descriptor = -1;
    redis->pause_us = PAUSE_US_MIN;
    redis->watch.ready = ready;
    redis->questions = calloc(options->pending_max, sizeof(*redis->questions));
    if (redis->questions == NULL) {
        free(redis);
        return NULL;
    }
    return redis;
}

void redis_free(struct redis *redis)
{
    if (redis == NULL)
        return;
    if (redis->descriptor >= 0) {
        (void)!watch_set(redis->worker, &redis->watch, redis->descriptor, 0);
        close(redis->descriptor);
    }
    redisReaderFree(redis->reader);
    explicit_bzero(redis->out, sizeof(redis->out)); /* the password was there */
    free(redis->questions);
    free(redis);
}

/* keep_alive asks a server that was not asked for a while: so it is known that it is away before a
 * client has to wait for it. */
static void keep_alive(struct redis *redis)
{
    const char *words[] = {"PING"};
    const size_t lens[] = {4};
    const struct question question = {.answered = NULL};
    (void)send_question(redis, words, lens, 1, &question);
}

void redis_turn(struct redis *redis)
{
    uint64_t now_us = redis->worker->now_us;
    if (redis->state == STATE_AWAY && now_us >= redis->pause_end_us)
        try_again(redis);
    else if (redis->state == STATE_CONNECTING && now_us >= redis->deadline_us)
        put_off(redis, "%s", "no connection in time");
    if (redis->state < STATE_GREETING)
        return;
    if (redis->count > 0 && now_us >= redis->questions[redis->first].due_us) {
        put_off(redis, "%s", "no answer in time");
        return;
    }
    if (redis->state == STATE_READY && redis->count == 0 && now_us >= redis->asked_us + IDLE_US)
        keep_alive(redis);
    if (redis->out_len > 0 && !redis->blocked)
        flush(redis);
}

uint64_t redis_next_us(const struct redis *redis)
{
    if (redis->state == STATE_AWAY)
        return redis->pause_end_us;
    if (redis->state == STATE_CONNECTING)
        return redis->deadline_us;
    if (redis->out_len > 0 && !redis->blocked)
        return 0;
    return redis->count > 0 ? redis->questions[redis->first].due_us : redis->asked_us + IDLE_US;
}

bool redis_is_connected(const struct redis *redis)
{
    return redis->state == STATE_READY;
}

const char *redis_why(const struct redis *redis)
{
    return redis->why;
}

void redis_snapshot(const struct redis *redis, struct redis_snapshot *out)
{
    *out = (struct redis_snapshot){
        .asked = counter_read(&redis->asked),
        .answered = counter_read(&redis->answered),
        .errors = counter_read(&redis->errors),
        .away = counter_read(&redis->away),
        .connects = counter_read(&redis->connects),
        .failures = counter_read(&redis->failures),
        .connected = atomic_load_explicit(&redis->connected, memory_order_relaxed),
    };
}
