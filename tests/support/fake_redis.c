/* A client of Redis with a server that plays a scene: see fake_redis.h. */
#include "tests/support/fake_redis.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/clock.h"

enum { WAIT_MS = 8000 };

static const struct fake_answer *wanted; /* by the run at hand */
static const char *wanted_why;

static void on_turn(struct turner *turner)
{
    struct fake_redis *fake = turner->user;
    if (fake->redis != NULL)
        redis_turn(fake->redis);
}

static uint64_t next_us(struct turner *turner)
{
    const struct fake_redis *fake = turner->user;
    return fake->redis == NULL ? UINT64_MAX : redis_next_us(fake->redis);
}

void fake_redis_start(struct fake_redis *fake, void **state, const char *const *script,
                      const char *const *later)
{
    static const char *const closes[] = {NULL};
    memset(fake, 0, sizeof(*fake));
    fake->scene.scripts[0] = script;
    for (int i = 1; i < SCENES_MAX; i++)
        fake->scene.scripts[i] = later == NULL ? closes : later;
    scene_start(&fake->scene);
    memcpy(&fake->options.address, &fake->scene.address, sizeof(fake->options.address));
    fake->options.timeout_ms = FAKE_REDIS_TIMEOUT_MS;
    fake->options.pending_max = 16;
    fake->turner = turner_new(*state != NULL);
    fake->turner->user = fake;
    fake->turner->on_turn = on_turn;
    fake->turner->next_us = next_us;
}

void fake_redis_stop(struct fake_redis *fake)
{
    redis_free(fake->redis);
    turner_free(fake->turner);
    scene_stop(&fake->scene);
    free(fake->scene.text);
}

static void make(struct fake_redis *fake)
{
    if (fake->redis == NULL)
        fake->redis = redis_new(&fake->turner->worker, &fake->options);
    assert_non_null(fake->redis);
}

static bool connected(struct turner *turner)
{
    return redis_is_connected(((struct fake_redis *)turner->user)->redis);
}

void fake_redis_begin(struct fake_redis *fake)
{
    make(fake);
    assert_true(turner_run(fake->turner, connected, WAIT_MS));
}

static bool says_why(struct turner *turner)
{
    return strcmp(redis_why(((struct fake_redis *)turner->user)->redis), wanted_why) == 0;
}

void fake_redis_until(struct fake_redis *fake, const char *why)
{
    make(fake);
    wanted_why = why;
    if (!turner_run(fake->turner, says_why, WAIT_MS))
        assert_string_equal(redis_why(fake->redis), why);
    assert_false(redis_is_connected(fake->redis));
}

void fake_redis_run(struct fake_redis *fake, uint32_t ms)
{
    make(fake);
    (void)turner_run(fake->turner, NULL, ms);
}

static void note(void *user, uint64_t token, const struct redis_answer *answer)
{
    struct fake_redis *fake = user;
    struct fake_answer *at = &fake->answers[token];
    at->times++;
    at->status = answer->status;
    at->number = answer->number;
    at->has_text = answer->text != NULL;
    at->at_us = clock_monotonic_us();
    if (answer->text != NULL)
        snprintf(at->text, sizeof(at->text), "%.*s", (int)answer->len, answer->text);
}

struct fake_answer *fake_redis_ask(struct fake_redis *fake, const char *word)
{
    const char *words[] = {"GET", word};
    const size_t lens[] = {3, strlen(word)};
    assert_true(fake->asked < FAKE_REDIS_ANSWERS);
    struct fake_answer *answer = &fake->answers[fake->asked];
    redis_ask(fake->redis, words, lens, 2, note, fake, fake->asked++);
    return answer;
}

static bool has_come(struct turner *turner)
{
    (void)turner;
    return wanted->times > 0;
}

void fake_redis_wait(struct fake_redis *fake, const struct fake_answer *answer)
{
    wanted = answer;
    assert_true(turner_run(fake->turner, has_come, WAIT_MS));
    assert_int_equal(answer->times, 1);
}
