/* gateway/contexts: who shares contexts and who keeps them over a reload. That none is left, and
 * none let go of too early, is for AddressSanitizer to see; so each one that is kept is used. */
#include "gateway/contexts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/support/scratch.h"
#include "tls/tls.h"

#define NEEDED SCRATCH_NEEDED
#define PAIR   "certificate \"mx\" { chain = \"mx.pem\" key = \"mx.key\" }\n"
#define FOUR                                                                                       \
    "hostname = mx.example.org\n" SCRATCH_DOMAIN                                                   \
    "listener a { address = {\"127.0.0.1:1\", \"127.0.0.1:2\"} tls = required }\n"                 \
    "listener b { address = {\"127.0.0.1:3\"} tls = implicit tls_min = 1.3 }\n"                    \
    "listener c { address = {\"127.0.0.1:4\"} tls = none }\n"

enum { WORKERS = 3 };

static int begin(void **state)
{
    char error[512];
    if (scratch_begin(state) != 0)
        return -1;
    return certificate_make_self_signed("mx.example.org", scratch_path("mx.pem"),
                                        scratch_path("mx.key"), error, sizeof(error))
               ? 0
               : -1;
}

static struct contexts *try(const struct config *config, const struct config *running,
                            const struct contexts *present, char *error, size_t error_size)
{
    struct ticket_secret secret;
    ticket_secret_random(&secret, 60);
    struct contexts_options options = {
        .config = config,
        .running = running,
        .present = present,
        .tickets = &secret,
        .worker_count = WORKERS,
        .offload = true,
    };
    return contexts_new(&options, error, error_size);
}

static struct contexts *made(const struct config *config, const struct config *running,
                             const struct contexts *present)
{
    char error[512] = "";
    struct contexts *contexts = try(config, running, present, error, sizeof(error));
    if (contexts == NULL)
        fail_msg("%s", error);
    return contexts;
}

/* A context that was let go of too early is seen here. */
static void use(struct tls_context *context)
{
    struct tls *tls = tls_server(context);
    assert_non_null(tls);
    tls_free(tls);
}

static void alike_listeners_share_and_workers_do_not(void **state)
{
    (void)state;
    struct config *config = scratch_good(FOUR PAIR);
    struct contexts *contexts = made(config, config, NULL);
    const struct server_listener *listeners = contexts->listeners;
    assert_int_equal(contexts->listener_count, 4);
    assert_int_equal(listeners[0].tls, SERVER_TLS_REQUIRED);
    assert_int_equal(listeners[1].tls, SERVER_TLS_REQUIRED);
    assert_int_equal(listeners[2].tls, SERVER_TLS_IMPLICIT);
    assert_int_equal(listeners[3].tls, SERVER_TLS_NONE);
    assert_null(listeners[3].contexts);
    for (size_t n = 0; n < WORKERS; n++) {
        struct tls_context *context = listeners[0].contexts[n];
        assert_ptr_equal(context, listeners[1].contexts[n]);
        assert_ptr_not_equal(context, listeners[2].contexts[n]);
        for (size_t m = 0; m < n; m++)
            assert_ptr_not_equal(context, listeners[0].contexts[m]);
    }
    contexts_free(contexts);
    config_free(config);
}

static void connections_keep_what_they_use(void **state)
{
    (void)state;
    struct config *config = scratch_good(NEEDED PAIR);
    struct contexts *contexts = made(config, config, NULL);
    struct tls_context *used = tls_context_keep(contexts->listeners[0].contexts[1]);
    contexts_free(contexts);
    config_free(config);
    use(used);
    tls_context_drop(used);
}

static void a_reload_makes_new_ones(void **state)
{
    (void)state;
    struct config *config = scratch_good(FOUR PAIR);
    struct contexts *before = made(config, config, NULL);
    /* c is first now, and speaks; b has moved; a is less strict. */
    struct config *loaded =
        scratch_good("hostname = mx.example.org\n" SCRATCH_DOMAIN PAIR
                     "listener c { address = {\"127.0.0.1:4\"} }\n"
                     "listener b { address = {\"127.0.0.1:33\"} tls = none }\n"
                     "listener a { address = {\"127.0.0.1:2\", \"127.0.0.1:1\"} tls = none }\n");
    struct contexts *after = made(loaded, config, before);
    assert_int_equal(after->listener_count, 4);
    assert_int_equal(after->listeners[0].tls, SERVER_TLS_NONE);
    assert_int_equal(after->listeners[1].tls, SERVER_TLS_NONE);
    assert_int_equal(after->listeners[2].tls, SERVER_TLS_IMPLICIT);
    assert_int_equal(after->listeners[3].tls, SERVER_TLS_STARTTLS);
    for (size_t n = 0; n < WORKERS; n++) {
        struct tls_context *kept = after->listeners[2].contexts[n];
        assert_ptr_equal(kept, before->listeners[2].contexts[n]);
        assert_ptr_not_equal(after->listeners[3].contexts[n], before->listeners[0].contexts[n]);
    }
    contexts_free(before);
    for (size_t n = 0; n < WORKERS; n++)
        use(after->listeners[2].contexts[n]);

    /* And once more, from there. */
    struct contexts *last = made(config, config, after);
    contexts_free(after);
    use(last->listeners[1].contexts[0]);
    assert_int_equal(last->listeners[0].tls, SERVER_TLS_REQUIRED);
    assert_int_equal(last->listeners[3].tls, SERVER_TLS_NONE);
    contexts_free(last);
    config_free(loaded);
    config_free(config);
}

/* A socket that no reload names any more believes whom it believed last, not whom at the start. */
static void trust_that_was_taken_away_stays_away(void **state)
{
    (void)state;
    struct config *config = scratch_good("hostname = mx.example.org\n" SCRATCH_DOMAIN
                                         "listener a { address = \"127.0.0.1:1\" "
                                         "proxy = {\"10.0.0.0/8\"} xclient = {\"10.0.0.0/8\"} }\n");
    struct config *less = scratch_good("hostname = mx.example.org\n" SCRATCH_DOMAIN
                                       "listener a { address = \"127.0.0.1:1\" "
                                       "proxy = {\"192.0.2.0/24\"} }\n");
    struct config *gone = scratch_good("hostname = mx.example.org\n" SCRATCH_DOMAIN
                                       "listener b { address = \"127.0.0.1:2\" }\n");
    struct contexts *first = made(config, config, NULL);
    struct contexts *second = made(less, config, first);
    struct contexts *third = made(gone, config, second);
    contexts_free(first);
    contexts_free(second);
    config_free(less);
    struct contexts *fourth = made(gone, config, third);
    contexts_free(third);
    union address_any old, new;
    assert_true(listener_parse("10.1.2.3:4", &old) && listener_parse("192.0.2.9:4", &new));
    assert_false(networks_contain(fourth->listeners[0].proxy, &old));
    assert_true(networks_contain(fourth->listeners[0].proxy, &new));
    assert_null(fourth->listeners[0].xclient);
    contexts_free(fourth);
    config_free(gone);
    config_free(config);
}

static void without_tls_at_the_start_there_is_none_later(void **state)
{
    (void)state;
    struct config *plain = scratch_good(NEEDED);
    struct config *secure = scratch_good(NEEDED PAIR);
    struct contexts *before = made(plain, plain, NULL);
    struct contexts *after = made(secure, plain, before);
    assert_int_equal(before->listeners[0].tls, SERVER_TLS_NONE);
    assert_int_equal(after->listeners[0].tls, SERVER_TLS_NONE);
    assert_null(after->listeners[0].contexts);
    contexts_free(before);
    contexts_free(after);
    config_free(plain);
    config_free(secure);
}

static void what_cannot_be_made_is_told(void **state)
{
    (void)state;
    char error[512] = "";
    struct config *config = scratch_good(FOUR PAIR);
    config->listeners[1].client_ca = strdup(scratch_path("gone.pem"));
    assert_null(try(config, config, NULL, error, sizeof(error)));
    assert_non_null(strstr(error, scratch_path("gone.pem")));
    config_free(config);
    contexts_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alike_listeners_share_and_workers_do_not),
        cmocka_unit_test(connections_keep_what_they_use),
        cmocka_unit_test(a_reload_makes_new_ones),
        cmocka_unit_test(trust_that_was_taken_away_stays_away),
        cmocka_unit_test(without_tls_at_the_start_there_is_none_later),
        cmocka_unit_test(what_cannot_be_made_is_told),
    };
    return cmocka_run_group_tests_name("contexts", tests, begin, scratch_end);
}
