/* See secure_help.h. */
#include "tests/support/secure_help.h"

#include "tests/support/descriptors.h"
#include "tests/support/pki.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct tls_context *secure_ecdsa, *secure_rsa, *secure_both, *secure_long;
static struct ticket_secret secret;

const struct peer_options secure_old = {.version_max = TLS1_2_VERSION};
const struct peer_options secure_modern = {.version_min = TLS1_3_VERSION};

struct echo *secure_start(void **state, struct echo_options options)
{
    options.baseline = *state != NULL;
    if (options.tls == NULL)
        options.tls = secure_ecdsa;
    return echo_start(&options);
}

void secure_stop(struct echo *echo)
{
    assert_string_equal(echo_stop(echo), "");
}

void meet(struct caller *caller, const struct echo *echo, const struct peer_options *options)
{
    caller_new(caller, echo, options);
    if (!echo->options.tls_first) {
        char go[3];
        echo_send(caller->descriptor, "s", 1);
        assert_int_equal(socket_read(caller->descriptor, go, 3), 3);
        assert_memory_equal(go, "go\n", 3);
    }
    assert_true(caller_until(caller, CALLER_READY, 0));
}

void part(struct caller *caller)
{
    assert_null(caller->fault);
    caller_free(caller);
}

void expect(struct caller *caller, const void *text, size_t len)
{
    assert_true(caller_until(caller, CALLER_TEXT, len));
    assert_int_equal(caller->text_len, len);
    assert_memory_equal(caller->text, text, len);
    caller->text_len = 0;
}

void expect_end(struct caller *caller)
{
    assert_true(caller_until(caller, CALLER_ENDED, 0));
    assert_int_equal(caller->error, 0);
    assert_true(caller->farewell);
    assert_false(caller->cut || caller->failed);
}

/* --- set-up --- */

static struct tls_context *context_of(struct certificate *const *certificates, size_t count)
{
    char error[512] = "";
    struct tls_server_options options = {.certificates = certificates,
                                         .certificate_count = count,
                                         .tickets = &secret,
                                         .offload = true};
    return tls_context_server(&options, error, sizeof(error));
}

/* make_long makes a chain of four certificates with long names: some 8 KiB. */
static bool make_long(void)
{
    static char name[240];
    static const char *const paths[] = {"root", "upper", "lower", "long"};
    static char chains[4][16], keys[4][16];
    static struct pki_request requests[4];
    memset(name, 'a', sizeof(name) - 1);
    for (size_t i = 50; i < 200; i += 50)
        name[i] = '.';
    for (size_t i = 0; i < 4; i++) {
        snprintf(chains[i], sizeof(chains[i]), "%s.pem", paths[i]);
        snprintf(keys[i], sizeof(keys[i]), "%s.key", paths[i]);
        requests[i] = (struct pki_request){.chain_path = chains[i],
                                           .key_path = keys[i],
                                           .common_name = paths[i],
                                           .issuer = i == 0 ? NULL : &requests[i - 1],
                                           .is_ca = i < 3};
        for (size_t k = 0; k < PKI_NAMES_MAX; k++)
            requests[i].names[k] = name;
        if (!pki_make(&requests[i]))
            return false;
    }
    return true;
}

int secure_set_up(void **state)
{
    static const struct pki_request requests[] = {
        {.chain_path = "ecdsa.pem", .key_path = "ecdsa.key", .names = {"mx.example.org"}},
        { .chain_path = "rsa.pem",
         .key_path = "rsa.key",
         .names = {"mx.example.org"},
         .kind = PKI_RSA_2048},
    };
    static const char *const names[][2] = {
        {"ecdsa.pem", "ecdsa.key"},
        {"rsa.pem",   "rsa.key"  },
        {"long.pem",  "long.key" }
    };
    struct certificate *all[3];
    char error[512];
    if (pki_set_up(state) != 0 || !pki_make(&requests[0]) || !pki_make(&requests[1]) ||
        !make_long())
        return -1;
    for (size_t i = 0; i < 3; i++) {
        all[i] = certificate_load(names[i][0], names[i][1], error, sizeof(error));
        if (all[i] == NULL) {
            print_error("%s\n", error);
            return -1;
        }
    }
    ticket_secret_random(&secret, 3600);
    secure_ecdsa = context_of(all, 1);
    secure_rsa = context_of(all + 1, 1);
    secure_both = context_of(all, 2);
    secure_long = context_of(all + 2, 1);
    for (size_t i = 0; i < 3; i++)
        certificate_drop(all[i]);
    return secure_ecdsa != NULL && secure_rsa != NULL && secure_both != NULL && secure_long != NULL
               ? 0
               : -1;
}

int secure_tear_down(void **state)
{
    tls_context_drop(secure_ecdsa);
    tls_context_drop(secure_rsa);
    tls_context_drop(secure_both);
    tls_context_drop(secure_long);
    return pki_tear_down(state);
}
