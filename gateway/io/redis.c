/* Questions to a Redis server: see redis.h. hiredis' reader takes the answers apart, with functions
 * of ours that keep the one that is being read and allocate nothing. Its own client is not used: it
 * ends the process when a server speaks unasked. Answers come in the order of the questions, so a
 * connection whose answers can't be matched any more, or are late, is given up as a whole. */
#include "gateway/io/redis.h"

#include <hiredis/read.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/counter.h"
#include "gateway/io/upstream.h"
#include "gateway/io/worker.h"

enum {
    OUT_MAX = 256 * 1024,      /* octets of questions that the server has not taken */
    IN_MAX = 64 * 1024,        /* octets of an answer that has no end */
    NUMBER_MAX = 24,           /* octets of "$NUMBER" CR LF */
    IDLE_US = 5 * 1000 * 1000, /* after that a PING finds out whether the server is still there */
};

struct question {
    redis_answered *answered;
    void *user;
    uint64_t token;
    uint64_t due_us;
};

struct redis {
    struct upstream upstream; /* first: what its hooks are given */
    const struct redis_options *options;
    uint64_t asked_us;          /* the last question */
    uint32_t greeting;          /* answers that the greeting still wants */
    struct question *questions; /* a ring of pending_max */
    uint32_t first, count;
    redisReader *reader;
    struct redis_answer answer; /* being read */
    bool confused;              /* it is of a kind that no question of ours has */
    char text[REDIS_TEXT_MAX];
    _Atomic uint64_t asked, answered, errors, away;
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

/* lost answers the questions that were out. */
static void lost(struct upstream *upstream)
{
    static const struct redis_answer away = {.status = REDIS_AWAY};
    struct redis *redis = (struct redis *)(void *)upstream;
    for (uint32_t left = redis->count; left > 0; left--) {
        struct question question = take_first(redis);
        give_answer(redis, &question, &away);
    }
}

static void put_number(struct redis *redis, char kind, size_t number)
{
    char text[NUMBER_MAX];
    int len = snprintf(text, sizeof(text), "%c%zu\r\n", kind, number);
    upstream_put(&redis->upstream, text, (size_t)len);
}

/* put_command writes a command as the protocol has it. (hiredis would allocate it each time.)
 * False: the server does not take what was written before. */
static bool put_command(struct redis *redis, const char *const *words, const size_t *lens,
                        size_t count)
{
    size_t size = NUMBER_MAX;
    for (size_t i = 0; i < count; i++)
        size += NUMBER_MAX + lens[i] + 2;
    if (!upstream_room(&redis->upstream, size))
        return false;
    put_number(redis, '*', count);
    for (size_t i = 0; i < count; i++) {
        put_number(redis, '$', lens[i]);
        upstream_put(&redis->upstream, words[i], lens[i]);
        upstream_put(&redis->upstream, "\r\n", 2);
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
        redis->upstream.worker->now_us + (uint64_t)redis->options->timeout_ms * 1000;
    redis->count++;
    redis->asked_us = redis->upstream.worker->now_us;
    counter_add(&redis->asked, 1);
    return true;
}

void redis_ask(struct redis *redis, const char *const *words, const size_t *lens, size_t count,
               redis_answered *answered, void *user, uint64_t token)
{
    static const struct redis_answer away = {.status = REDIS_AWAY};
    struct question question = {.answered = answered, .user = user, .token = token};
    if (redis->upstream.state != UPSTREAM_READY ||
        !send_question(redis, words, lens, count, &question))
        give_answer(redis, &question, &away);
}

/* --- the connection --- */

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
        upstream_put_off(&redis->upstream, refusals[token], word[0] == '\0' ? "nonsense" : word);
        return;
    }
    if (--redis->greeting > 0)
        return;
    upstream_ready(&redis->upstream);
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
static bool greet(struct upstream *upstream)
{
    struct redis *redis = (struct redis *)(void *)upstream;
    const struct redis_options *options = redis->options;
    char database[16];
    redis->greeting = 0;
    redis->confused = false;
    redisReaderFree(redis->reader);
    redis->reader = redisReaderCreateWithFunctions(&functions);
    if (redis->reader == NULL) {
        upstream_put_off(upstream, "%s", "out of memory");
        return false;
    }
    redis->reader->privdata = redis;
    if (options->password != NULL && options->user != NULL)
        greet_with(redis, 0, "AUTH", options->user, options->password);
    else if (options->password != NULL)
        greet_with(redis, 0, "AUTH", options->password, NULL);
    snprintf(database, sizeof(database), "%u", options->database);
    if (options->database > 0)
        greet_with(redis, 1, "SELECT", database, NULL);
    greet_with(redis, 2, "PING", NULL, NULL);
    return true;
}

/* hear_answers gives each complete answer to its question. False: the connection is over. */
static bool hear_answers(struct redis *redis)
{
    for (;;) { /* each round takes octets off the reader, or ends */
        void *found = NULL;
        if (redisReaderGetReply(redis->reader, &found) != REDIS_OK) {
            upstream_put_off(&redis->upstream, "%s", "it does not speak Redis");
            return false;
        }
        if (redis->confused || (found != NULL && redis->count == 0)) {
            upstream_put_off(&redis->upstream, "%s", "it said what nobody had asked");
            return false;
        }
        if (found == NULL)
            break;
        struct redis_answer answer = redis->answer;
        struct question question = take_first(redis);
        if (answer.status == REDIS_ERROR && redis->upstream.state == UPSTREAM_READY)
            first_word(&answer, redis->upstream.why, sizeof(redis->upstream.why));
        give_answer(redis, &question, &answer);
        if (redis->upstream.state < UPSTREAM_GREETING)
            return false; /* it was the answer to the greeting, and not a good one */
    }
    if (redis->reader->len - redis->reader->pos <= IN_MAX)
        return true;
    upstream_put_off(&redis->upstream, "%s", "an answer is too long");
    return false;
}

static bool hear(struct upstream *upstream, const char *data, size_t len)
{
    struct redis *redis = (struct redis *)(void *)upstream;
    if (redisReaderFeed(redis->reader, data, len) == REDIS_OK)
        return hear_answers(redis);
    upstream_put_off(upstream, "%s", "out of memory");
    return false;
}

/* --- life --- */

struct redis *redis_new(struct worker *worker, const struct redis_options *options)
{
    static const struct upstream_hooks hooks = {.connected = greet, .heard = hear, .lost = lost};
    const struct upstream_options upstream = {
        .address = &options->address,
        .path = options->path,
        .timeout_ms = options->timeout_ms,
        .out_size = OUT_MAX,
    };
    CHECK(options->pending_max > 2 && options->timeout_ms > 0);
    struct redis *redis = calloc(1, sizeof(*redis));
    if (redis == NULL)
        return NULL;
    redis->options = options;
    redis->questions = calloc(options->pending_max, sizeof(*redis->questions));
    if (!upstream_init(&redis->upstream, worker, &hooks, &upstream) || redis->questions == NULL) {
        redis_free(redis);
        return NULL;
    }
    return redis;
}

void redis_free(struct redis *redis)
{
    if (redis == NULL)
        return;
    upstream_cleanup(&redis->upstream);
    redisReaderFree(redis->reader);
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
    uint64_t now_us = redis->upstream.worker->now_us;
    upstream_turn(&redis->upstream);
    if (redis->upstream.state < UPSTREAM_GREETING)
        return;
    if (redis->count > 0 && now_us >= redis->questions[redis->first].due_us) {
        upstream_put_off(&redis->upstream, "%s", "no answer in time");
        return;
    }
    if (redis->upstream.state == UPSTREAM_READY && redis->count == 0 &&
        now_us >= redis->asked_us + IDLE_US)
        keep_alive(redis);
    upstream_flush_rest(&redis->upstream);
}

uint64_t redis_next_us(const struct redis *redis)
{
    uint64_t next_us = upstream_next_us(&redis->upstream);
    if (redis->upstream.state < UPSTREAM_GREETING || next_us == 0)
        return next_us;
    return redis->count > 0 ? redis->questions[redis->first].due_us : redis->asked_us + IDLE_US;
}

bool redis_is_connected(const struct redis *redis)
{
    return redis->upstream.state == UPSTREAM_READY;
}

const char *redis_why(const struct redis *redis)
{
    return redis->upstream.why;
}

void redis_snapshot(const struct redis *redis, struct redis_snapshot *out)
{
    *out = (struct redis_snapshot){
        .asked = counter_read(&redis->asked),
        .answered = counter_read(&redis->answered),
        .errors = counter_read(&redis->errors),
        .away = counter_read(&redis->away),
        .connects = counter_read(&redis->upstream.connects),
        .failures = counter_read(&redis->upstream.failures),
        .connected = atomic_load_explicit(&redis->upstream.connected, memory_order_relaxed),
    };
}
