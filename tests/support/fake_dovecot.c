/* A client of Dovecot with a server that plays a scene: see fake_dovecot.h. */
#include "tests/support/fake_dovecot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/clock.h"

enum { WAIT_MS = 8000 };

struct fake_dovecot fake_dovecot;

static const struct dovecot_note *wanted;
static const char *wanted_why;

static void on_turn(struct turner *turner)
{
    (void)turner;
    if (fake_dovecot.dovecot != NULL)
        dovecot_turn(fake_dovecot.dovecot);
}

static uint64_t next_us(struct turner *turner)
{
    (void)turner;
    return fake_dovecot.dovecot == NULL ? UINT64_MAX : dovecot_next_us(fake_dovecot.dovecot);
}

void fake_dovecot_start_on(void **state, const char *path, const char *const *script,
                           const char *const *later)
{
    static const char *const closes[] = {NULL};
    memset(&fake_dovecot, 0, sizeof(fake_dovecot));
    fake_dovecot.scene.scripts[0] = script;
    fake_dovecot.scene.path = fake_dovecot.options.path = path;
    for (int i = 1; i < SCENES_MAX; i++)
        fake_dovecot.scene.scripts[i] = later == NULL ? closes : later;
    scene_start(&fake_dovecot.scene);
    if (path == NULL)
        memcpy(&fake_dovecot.options.address, &fake_dovecot.scene.address,
               sizeof(fake_dovecot.options.address));
    fake_dovecot.options.timeout_ms = FAKE_DOVECOT_TIMEOUT_MS;
    fake_dovecot.options.pending_max = 16;
    fake_dovecot.turner = turner_new(*state != NULL);
    fake_dovecot.turner->on_turn = on_turn;
    fake_dovecot.turner->next_us = next_us;
}

void fake_dovecot_start(void **state, const char *const *script, const char *const *later)
{
    fake_dovecot_start_on(state, NULL, script, later);
}

void fake_dovecot_stop(void)
{
    dovecot_free(fake_dovecot.dovecot);
    fake_dovecot.dovecot = NULL;
    turner_free(fake_dovecot.turner);
    scene_stop(&fake_dovecot.scene);
    free(fake_dovecot.scene.text);
}

/* stop_well: and all was as written. */
void fake_dovecot_stop_well(void)
{
    fake_dovecot_stop();
    assert_string_equal(fake_dovecot.scene.fault, "");
}

static void make(void)
{
    if (fake_dovecot.dovecot == NULL)
        fake_dovecot.dovecot = dovecot_new(&fake_dovecot.turner->worker, &fake_dovecot.options);
    assert_non_null(fake_dovecot.dovecot);
}

void fake_dovecot_run(uint32_t ms)
{
    make();
    (void)turner_run(fake_dovecot.turner, NULL, ms);
}

static bool connected(struct turner *turner)
{
    (void)turner;
    return dovecot_is_connected(fake_dovecot.dovecot);
}

void fake_dovecot_begin(void)
{
    make();
    assert_true(turner_run(fake_dovecot.turner, connected, WAIT_MS));
}

static bool says_why(struct turner *turner)
{
    (void)turner;
    return strcmp(dovecot_why(fake_dovecot.dovecot), wanted_why) == 0;
}

void fake_dovecot_until(const char *why)
{
    make();
    wanted_why = why;
    if (!turner_run(fake_dovecot.turner, says_why, WAIT_MS))
        assert_string_equal(dovecot_why(fake_dovecot.dovecot), why);
    assert_false(dovecot_is_connected(fake_dovecot.dovecot));
}

void fake_dovecot_answered(void *user, uint32_t number, const struct dovecot_answer *answer)
{
    struct dovecot_note *note = user;
    note->times++;
    note->number = number;
    note->status = answer->status;
    note->has_text = answer->text != NULL;
    note->user_len = answer->user_len;
    note->at_us = clock_monotonic_us();
    assert_true(answer->user_len < sizeof(note->user));
    memcpy(note->user, answer->user == NULL ? "" : answer->user, answer->user_len);
    if (answer->text != NULL)
        snprintf(note->text, sizeof(note->text), "%.*s", (int)answer->text_len, answer->text);
    if (note->goes_on != NULL && answer->status == DOVECOT_CONTINUE)
        assert_true(dovecot_continue(note->goes_on, number, "cmVzcG9uc2U=", 12));
}

struct dovecot_note *fake_dovecot_ask_with(const struct dovecot_request *request)
{
    assert_true(fake_dovecot.asked < FAKE_DOVECOT_NOTES);
    struct dovecot_note *note = &fake_dovecot.notes[fake_dovecot.asked++];
    note->number = dovecot_ask(fake_dovecot.dovecot, request, fake_dovecot_answered, note);
    return note;
}

struct dovecot_note *fake_dovecot_ask(const char *mechanism, const char *response)
{
    const struct dovecot_request request = {
        .mechanism = mechanism,
        .response = response,
        .response_len = response == NULL ? 0 : strlen(response),
    };
    return fake_dovecot_ask_with(&request);
}

static bool has_come(struct turner *turner)
{
    (void)turner;
    return wanted->times > 0;
}

void fake_dovecot_wait_for(struct dovecot_note *note)
{
    assert_int_not_equal(note->number, 0);
    wanted = note;
    assert_true(turner_run(fake_dovecot.turner, has_come, WAIT_MS));
    assert_int_equal(note->times, 1);
    note->times = 0; /* for what it hears next */
}

void fake_dovecot_away_at_once(void)
{
    struct dovecot_note *note = fake_dovecot_ask("PLAIN", "AGEAYg==");
    assert_int_equal(note->number, 0);
    assert_int_equal(note->times, 0);
}

struct dovecot_snapshot fake_dovecot_snapshot(void)
{
    struct dovecot_snapshot out;
    dovecot_snapshot(fake_dovecot.dovecot, &out);
    return out;
}
