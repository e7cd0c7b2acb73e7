/* Hundreds of TLS connections at once that do what chance says: any cut of what they send, texts
 * and KeyUpdates in any order, and any end: in order, the end of file anywhere, a reset, garbage,
 * commands to the server to pause, end or abort. A model knows which text must come back. The
 * server's owner is shy, takes odd parts and pauses. RINGMX_SEED repeats a run. */
#include "gateway/base/clock.h"
#include "gateway/io/helpers.h"
#include "tests/support/descriptors.h"
#include "tests/support/secure_help.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum {
    TOTAL = 500,
    AT_ONCE = 100,
    PATIENCE_US = 60 * 1000 * 1000,
};

static uint32_t seed;

static uint32_t draw(uint32_t below)
{
    seed = seed * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)(seed >> 8) * below) >> 24);
}

/* How a connection ends. */
enum end {
    END_IN_ORDER = 0, /* close_notify, when all has come back */
    END_BYE,          /* the command to end */
    END_ABORT,        /* the command to abort */
    END_FILE,         /* end of file, anywhere */
    END_RESET,
    END_GARBAGE, /* octets in clear, anywhere */
    END_COUNT,
};

struct visitor {
    struct caller caller;
    enum end end;
    bool active, invited, end_sent; /* invited: TLS may begin */
    bool idle;                      /* the last step found nothing to do */
    uint8_t *model;                 /* what comes back if all goes well */
    size_t model_len;
    uint32_t writes_left;
    size_t budget; /* octets up to the end, for those that end anywhere */
};

static void visitor_new(struct visitor *visitor, const struct echo *echo)
{
    struct peer_options options = {.library = draw(2) == 0 ? peer_openssl() : NULL};
    memset(visitor, 0, sizeof(*visitor));
    if (draw(2) == 0)
        options.version_max = TLS1_2_VERSION;
    if (draw(2) == 0) /* RSA: through the helpers, if it is TLS 1.2 */
        options.cipher = "ECDHE-RSA-AES128-GCM-SHA256";
    caller_new(&visitor->caller, echo, &options);
    visitor->active = true;
    visitor->end = (enum end)draw(END_COUNT);
    visitor->writes_left = 1 + draw(12);
    visitor->model = malloc(16 * 16384);
    assert_non_null(visitor->model);
    visitor->caller.piece_max = draw(3) == 0 ? 1 + draw(70) : draw(3) == 0 ? 0 : 1 + draw(5000);
    if (visitor->end >= END_FILE)
        visitor->caller.budget = draw(3) == 0 ? draw(700) : draw(50000);
    visitor->invited = echo->options.tls_first;
    if (!visitor->invited)
        echo_send(visitor->caller.descriptor, "s", 1);
}

/* Text of letters that are no commands, and a 'p' now and then, which brings nothing back. */
static void write_some(struct visitor *visitor)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789\r\n";
    uint8_t text[16384];
    size_t len = 1 + draw(draw(2) == 0 ? 40 : draw(2) == 0 ? 3000 : sizeof(text) - 1);
    for (size_t i = 0; i < len; i++) {
        text[i] = (uint8_t)letters[draw(sizeof(letters) - 1)];
        if (draw(6000) == 0)
            text[i] = 'p';
        else
            visitor->model[visitor->model_len++] = text[i];
    }
    if (draw(4) == 0 && strcmp(peer_version(&visitor->caller.peer), "TLSv1.3") == 0)
        peer_update(&visitor->caller.peer, draw(2) == 0);
    caller_write(&visitor->caller, text, len);
    visitor->writes_left--;
}

static void send_end(struct visitor *visitor)
{
    struct caller *caller = &visitor->caller;
    visitor->end_sent = true;
    switch (visitor->end) {
    case END_IN_ORDER: caller_close(caller); break;
    case END_BYE:
        memcpy(visitor->model + visitor->model_len, "bye\n", 4);
        visitor->model_len += 4;
        caller_write(caller, "qXXX", 4);
        break;
    case END_ABORT: caller_write(caller, "aXXX", 4); break;
    case END_FILE: caller_hush(caller); break;
    case END_RESET: caller_reset(caller); break;
    case END_GARBAGE:
        caller->budget = SIZE_MAX;
        caller->out_len = 0;
        caller_raw(caller, "MAIL FROM:<eve@example.com>\r\nMAIL FROM:<eve@example.com>\r\n", 58);
        break;
    case END_COUNT: fail();
    }
}

/* hear_invitation: the last words in clear may take long, when the server has no buffer. */
static bool hear_invitation(struct visitor *visitor)
{
    char go[3];
    int descriptor = visitor->caller.descriptor;
    if (recv(descriptor, go, 3, MSG_DONTWAIT | MSG_PEEK) < 3)
        return false;
    assert_int_equal(socket_read(descriptor, go, 3), 3);
    assert_memory_equal(go, "go\n", 3);
    visitor->invited = true;
    return true;
}

/* act is one step of a visitor. False: it is over. */
static bool act(struct visitor *visitor)
{
    struct caller *caller = &visitor->caller;
    if (!visitor->invited && !hear_invitation(visitor))
        return true;
    visitor->idle = !caller_step(caller);
    if (caller->ended || caller->descriptor < 0)
        return false;
    if (caller->ready && visitor->writes_left > 0 && caller->out_len < 40000 && !visitor->end_sent)
        write_some(visitor);
    /* Inside a record that has begun garbage is its body, and only the end of file ends it. */
    if (visitor->end_sent && visitor->end == END_GARBAGE && caller->out_len == 0)
        caller_hush(caller);
    if (visitor->end_sent)
        return true;
    bool wrote = visitor->writes_left == 0 && caller->out_len == 0;
    if (visitor->end >= END_FILE       ? caller->budget == 0 || wrote
        : visitor->end == END_IN_ORDER ? wrote && caller->text_len == visitor->model_len
                                       : wrote)
        send_end(visitor);
    return true;
}

static void visitor_end(struct visitor *visitor)
{
    const struct caller *caller = &visitor->caller;
    if (caller->fault != NULL)
        fail_msg("%s (end %d)", caller->fault, visitor->end);
    assert_in_range(caller->text_len, 0, visitor->model_len);
    if (caller->text_len > 0)
        assert_memory_equal(caller->text, visitor->model, caller->text_len);
    if (visitor->end <= END_BYE) {
        assert_int_equal(caller->text_len, visitor->model_len);
        assert_false(caller->cut);
        assert_true(caller->farewell);
        assert_int_equal(caller->error, 0);
    }
    if (visitor->end != END_RESET)
        assert_true(visitor->end_sent); /* the server has not ended it before */
    free(visitor->model);
    caller_free(&visitor->caller);
    visitor->active = false;
}

static void crowd(struct echo_options options)
{
    static struct visitor visitors[AT_ONCE];
    struct helpers *helpers = helpers_new(1, HELPERS_LOW);
    uint32_t begun = 0, over = 0;
    uint64_t end_us = clock_monotonic_us() + PATIENCE_US;
    options.tls = secure_both;
    options.helpers = helpers;
    options.shy = seed | 1;
    struct echo *echo = echo_start(&options);
    printf("seed %u\n", seed);
    while (over < TOTAL && clock_monotonic_us() < end_us) {
        if (draw(4) == 0)
            echo_resume(echo);
        bool idle = true;
        for (int i = 0; i < AT_ONCE; i++) {
            idle &= visitors[i].idle;
            if (!visitors[i].active && begun < TOTAL) {
                visitor_new(&visitors[i], echo);
                begun++;
            } else if (visitors[i].active && draw(3) > 0 && !act(&visitors[i])) {
                visitor_end(&visitors[i]);
                over++;
            }
        }
        if (idle)
            usleep(200);
    }
    if (over < TOTAL)
        for (int i = 0; i < AT_ONCE; i++)
            if (visitors[i].active)
                printf("stuck: end %d sent %d ready %d out %zu text %zu of %zu\n", visitors[i].end,
                       visitors[i].end_sent, visitors[i].caller.ready, visitors[i].caller.out_len,
                       visitors[i].caller.text_len, visitors[i].model_len);
    assert_int_equal(over, TOTAL);
    uint64_t secured = atomic_load(&echo->counts.secured);
    assert_in_range(secured, TOTAL / 2, TOTAL);
    assert_string_equal(echo_stop(echo), "");
    helpers_free(helpers);
}

static void usual(void **state)
{
    (void)state;
    crowd((struct echo_options){.tls_first = true});
}

static void few_and_small_buffers(void **state)
{
    (void)state;
    crowd((struct echo_options){.buffer_size = 64, .buffer_count = 16});
}

static void of_linux_6_1(void **state)
{
    (void)state;
    crowd((struct echo_options){.baseline = true, .buffer_size = 1024, .buffer_count = 16});
}

/* --- set-up --- */

static int set_up(void **state)
{
    const char *wanted = getenv("RINGMX_SEED");
    seed = wanted != NULL ? (uint32_t)strtoul(wanted, NULL, 10) : (uint32_t)clock_wall_us();
    return secure_set_up(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(usual),
        cmocka_unit_test(few_and_small_buffers),
        cmocka_unit_test(of_linux_6_1),
    };
    return cmocka_run_group_tests(tests, set_up, secure_tear_down);
}
