/* What the tests of Redis have in common: a client in a turner, a scene as its server, and a note
 * of each answer. */
#ifndef TESTS_SUPPORT_FAKE_REDIS_H
#define TESTS_SUPPORT_FAKE_REDIS_H

#include "gateway/io/redis.h"
#include "tests/support/scene.h"
#include "tests/support/turner.h"

enum { FAKE_REDIS_ANSWERS = 64, FAKE_REDIS_TIMEOUT_MS = 400 };

/* Scripts: the server hears a command of one word, or of two. */
#define HEAR_1(word)     "C *1", "c $", "C " word
#define HEAR_2(one, two) "C *2", "c $", "C " one, "c $", "C " two
/* What policy/shared says about a triplet, and when a network has passed; with the prefix "p". */
#define HEAR_GET(kind) "C *2", "c $", "C GET", "c $", "c p:grey:" kind ":"
#define HEAR_SET_T                                                                                 \
    "C *6", "c $", "C SET", "c $", "c p:grey:t:", "c $", "c ", "c $", "C NX", "c $", "C EX",       \
        "c $", "c "
#define HEAR_PASSED                                                                                \
    "C *5", "c $", "C SET", "c $", "c p:grey:n:", "c $", "C 1", "c $", "C EX", "c $", "c "
#define HEAR_QUESTION HEAR_GET("n"), HEAR_SET_T, HEAR_GET("t")
#define GREET         HEAR_1("PING"), "S +PONG"
#define SCRIPT(...)   ((const char *const[]){__VA_ARGS__, NULL})

struct fake_answer {
    uint32_t times;
    enum redis_status status;
    int64_t number;
    char text[REDIS_TEXT_MAX + 1];
    bool has_text;
    uint64_t at_us;
};

struct fake_redis {
    struct turner *turner; /* its user is the fake */
    struct scene scene;
    struct redis_options options;
    struct redis *redis;
    struct fake_answer answers[FAKE_REDIS_ANSWERS];
    uint32_t asked;
};

/* fake_redis_start starts the client with a server that plays `script` once, and another one, or
 * none (NULL: it closes at once), to those that come later. */
void fake_redis_start(struct fake_redis *fake, void **state, const char *const *script,
                      const char *const *later);
void fake_redis_stop(struct fake_redis *fake);

/* fake_redis_begin waits until it is connected, fake_redis_until until it says why it is not,
 * fake_redis_run so many milliseconds. */
void fake_redis_begin(struct fake_redis *fake);
void fake_redis_until(struct fake_redis *fake, const char *why);
void fake_redis_run(struct fake_redis *fake, uint32_t ms);

/* fake_redis_ask asks "GET word" and returns where the answer will be; fake_redis_wait waits for
 * it. */
struct fake_answer *fake_redis_ask(struct fake_redis *fake, const char *word);
void fake_redis_wait(struct fake_redis *fake, const struct fake_answer *answer);

#endif
