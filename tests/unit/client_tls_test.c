/* The client of SMTP with TLS, against a foreign peer: what each setting of `tls` and `tls_verify`
 * makes of servers that offer it, do not, refuse, fail, are others than they say, or put words into
 * the clear part (RFC 3207 5). */
#include "gateway/spool/envelope.h"
#include "tests/support/pki.h"
#include "tests/support/stage.h"
#include "tests/support/twice.h"
#include "tls/context.h"
#include "tls/tls.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define GREET   STAGE_GREET
#define MAIL    "C MAIL FROM:<sender@example.com>", "C RCPT TO:<user0@example.org>"
#define DELIVER MAIL, "C DATA", "S 250 ok", "S 250 ok", "S 354 go", "T", "S 250 ok", STAGE_BYE
#define SECURED(...)                                                                               \
    GREET("S 250 STARTTLS"), "C STARTTLS", "S 220 go", "TLS", "C EHLO mx.example.com", __VA_ARGS__

static struct tls_context *plain, *verifying;
static const struct pki_request root = {
    .chain_path = "root.pem", .key_path = "root.key", .common_name = "Test Root", .is_ca = true};
static const struct pki_request leaf = {
    .chain_path = "leaf.pem", .key_path = "leaf.key", .names = {"mx.example.net"}, .issuer = &root};
static const struct peer_options server = {
    .server = true, .chain = "leaf.pem", .key = "leaf.key", .version_min = TLS1_3_VERSION};
static const struct peer_options old_server = {
    .server = true, .chain = "leaf.pem", .key = "leaf.key", .version_max = TLS1_2_VERSION};
static const struct peer_options ancient_server = {.server = true,
                                                   .chain = "leaf.pem",
                                                   .key = "leaf.key",
                                                   .version_min = TLS1_1_VERSION,
                                                   .version_max = TLS1_1_VERSION};
static const struct peer_options picky_server = {.server = true,
                                                 .chain = "leaf.pem",
                                                 .key = "leaf.key",
                                                 .ca = "root.pem",
                                                 .version_min = TLS1_3_VERSION};

static int set_up(void **state)
{
    char error[200];
    const struct tls_client_options options = {.version_min = TLS_1_2, .version_max = TLS_1_3};
    struct tls_client_options trusting = options;
    trusting.ca = "root.pem";
    if (pki_set_up(state) != 0 || !pki_make(&root) || !pki_make(&leaf))
        return -1;
    plain = tls_context_client(&options, error, sizeof(error));
    verifying = tls_context_client(&trusting, error, sizeof(error));
    return plain != NULL && verifying != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    tls_context_drop(plain);
    tls_context_drop(verifying);
    return pki_tear_down(state);
}

static void begin(void **state, const struct peer_options *tls, enum route_tls mode, bool verify,
                  const char *const *script)
{
    stage_scene = (struct scene){.scripts = {script}, .tls = tls};
    stage_start(state);
    postman.setup.tls = plain;
    postman.setup.tls_verifying = verifying;
    postman.peer.tls = mode;
    postman.peer.tls_verify = verify;
    memcpy(postman.peer.name, "mx.example.net", 15);
}

static void delivers(uint32_t version)
{
    stage_end(stage_stuffed);
    stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
    assert_int_equal(parcel.delivery.tls_version, version);
    assert_memory_equal(parcel.delivery.peer, "mx.example.net [127.0.0.1]:", 27);
    assert_false(postman.why_given || postman.tls_failed);
}

/* waits: the mail goes nowhere; `again`: the same host may be tried in clear. */
static void waits(const char *text, uint16_t detail, bool again)
{
    stage_play();
    free(stage_scene.text);
    assert_int_equal(postman.idles, 0);
    assert_true(postman.why_given);
    assert_memory_equal(postman.why.text, text, strlen(text));
    assert_int_equal(postman.why.kind, VERDICT_DEFERRED);
    assert_int_equal(postman.why.status.class, 4);
    assert_int_equal(postman.why.status.subject, 7);
    assert_int_equal(postman.why.status.detail, detail);
    assert_int_equal(postman.why.code, 0);
    assert_int_equal(postman.tls_failed, again);
}

static void starttls(void **state)
{
    const char *const *script = SCRIPT(SECURED("S 250-mx.test", "S 250 PIPELINING"), DELIVER);
    for (int i = 0; i < 6; i++) {
        begin(state, i % 2 ? &server : &old_server,
              i < 2 ? ROUTE_TLS_OPPORTUNISTIC : ROUTE_TLS_REQUIRED, i >= 4, script);
        delivers(i % 2 ? 13 : 12);
    }
}

static void implicit(void **state)
{
    for (int verify = 0; verify < 2; verify++) {
        begin(state, &server, ROUTE_TLS_IMPLICIT, verify,
              SCRIPT("TLS", GREET("S 250-STARTTLS", "S 250 PIPELINING"), DELIVER));
        delivers(13);
    }
}

/* Text in windows of sealed records, and commands that do not fit in one block. */
static void much_text(void **state)
{
    enum { LEN = 1200000 };
    char *text = malloc(LEN + 6);
    for (int i = 0; i < LEN; i++)
        text[i] = i % 60 == 58 ? '\r' : i % 60 == 59 ? '\n' : 'a';
    memcpy(text + LEN, ".\r\n", 4);
    for (int round = 0; round < 2; round++) {
        begin(state, round ? &server : &old_server, ROUTE_TLS_REQUIRED, true,
              SCRIPT(SECURED("S 250-mx.test", "S 250 PIPELINING"), DELIVER));
        parcel.text = text;
        parcel.text_len = parcel.delivery.size = LEN;
        parcel.piece_max = 131072;
        stage_end(text);
        stage_expect(&parcel, 0, VERDICT_DELIVERED, 250, "ok");
    }
    free(text);
}

/* What was offered in clear is forgotten. */
static void offers_in_clear(void **state)
{
    begin(state, &server, ROUTE_TLS_OPPORTUNISTIC, false,
          SCRIPT(GREET("S 250-PIPELINING", "S 250-SIZE 3", "S 250 STARTTLS"), "C STARTTLS",
                 "S 220 go", "TLS", "C EHLO mx.example.com", "S 250 mx.test",
                 "C MAIL FROM:<sender@example.com>", "S 250 ok", "C RCPT TO:<user0@example.org>",
                 "S 250 ok", "C DATA", "S 354 go", "T", "S 250 ok", STAGE_BYE));
    delivers(13);
}

static void not_offered(void **state)
{
    const char *const *script = SCRIPT(GREET("S 250 PIPELINING"), DELIVER);
    begin(state, NULL, ROUTE_TLS_OPPORTUNISTIC, false, script);
    delivers(0);
    begin(state, NULL, ROUTE_TLS_REQUIRED, false, SCRIPT(GREET("S 250 PIPELINING"), "E", NULL));
    waits("TLS is required, and the server does not offer it", 4, false);
    begin(state, NULL, ROUTE_TLS_OPPORTUNISTIC, true, SCRIPT(GREET("S 250 PIPELINING"), "E", NULL));
    waits("TLS is required, and the server does not offer it", 4, false);
    begin(state, NULL, ROUTE_TLS_REQUIRED, false,
          SCRIPT("S 220 hi", "c EHLO", "S 500 what", "E", NULL));
    waits("TLS is required, and the server refuses EHLO", 4, false);
}

static void not_wanted(void **state)
{
    begin(state, NULL, ROUTE_TLS_NONE, false,
          SCRIPT(GREET("S 250-STARTTLS", "S 250 PIPELINING"), DELIVER));
    delivers(0);
    begin(state, NULL, ROUTE_TLS_OPPORTUNISTIC, false,
          SCRIPT(GREET("S 250-STARTTLS", "S 250 PIPELINING"), DELIVER));
    postman.setup.tls = NULL; /* there is no way */
    delivers(0);
}

static void refused(void **state)
{
    begin(state, NULL, ROUTE_TLS_OPPORTUNISTIC, false,
          SCRIPT(GREET("S 250-STARTTLS", "S 250 PIPELINING"), "C STARTTLS", "S 454 4.7.0 not now",
                 DELIVER));
    delivers(0);
    begin(state, NULL, ROUTE_TLS_REQUIRED, false,
          SCRIPT(GREET("S 250 STARTTLS"), "C STARTTLS", "S 454 4.7.0 not now", "E", NULL));
    waits("STARTTLS: 454 not now", 4, false);
}

/* Words in clear behind the 220: nobody can tell who said them. */
static void injected(void **state)
{
    for (int mode = 0; mode < 2; mode++) {
        begin(state, &server, mode ? ROUTE_TLS_REQUIRED : ROUTE_TLS_OPPORTUNISTIC, false,
              SCRIPT(GREET("S 250 STARTTLS"), "C STARTTLS",
                     "s 220 go\r\n250-mx.test\r\n250 PIPELINING\r\n", "E", NULL));
        stage_play();
        assert_string_equal(stage_scene.fault, "");
        free(stage_scene.text);
        assert_int_equal(postman.idles, 0);
        assert_string_equal(postman.why.text, "the server spoke before it was asked");
        assert_int_equal(postman.why.status.subject, 5);
        assert_false(postman.tls_failed);
    }
}

static void handshake_fails(void **state)
{
    for (int again = 0; again < 2; again++) {
        enum route_tls mode = again ? ROUTE_TLS_OPPORTUNISTIC : ROUTE_TLS_REQUIRED;
        begin(state, &ancient_server, mode, false, SCRIPT(SECURED(NULL)));
        waits("TLS: ", 5, again);
        begin(state, NULL, mode, false,
              SCRIPT(GREET("S 250 STARTTLS"), "C STARTTLS", "S 220 go", NULL));
        waits("TLS: the connection broke in the handshake", 5, again);
        begin(state, NULL, mode, false,
              SCRIPT(GREET("S 250 STARTTLS"), "C STARTTLS", "S 220 go", "W 50", "S 554 sorry",
                     "W 50", NULL));
        waits("TLS: ", 5, again);
        begin(state, NULL, mode, false,
              SCRIPT(GREET("S 250 STARTTLS"), "C STARTTLS", "S 220 go", "W 2500", NULL));
        postman.setup.timeouts.command_s = 1;
        waits("TLS: the handshake timed out", 5, again);
    }
}

/* A server of TLS 1.3 that wants a certificate of ours says so when we are done. */
static void server_finds_fault(void **state)
{
    begin(state, &picky_server, ROUTE_TLS_OPPORTUNISTIC, false, SCRIPT(SECURED(NULL)));
    stage_play();
    free(stage_scene.text);
    assert_int_equal(postman.idles, 0);
    assert_true(postman.why_given);
}

static void not_verified(void **state)
{
    for (int mode = 0; mode < 2; mode++) {
        begin(state, &server, mode ? ROUTE_TLS_OPPORTUNISTIC : ROUTE_TLS_REQUIRED, true,
              SCRIPT(SECURED(NULL)));
        memcpy(postman.peer.name, "mx.example.com", 15);
        waits("TLS: certificate", 5, false);
    }
    begin(state, &server, ROUTE_TLS_REQUIRED, true,
          SCRIPT(GREET("S 250 STARTTLS"), "C STARTTLS", "S 220 go", "E", NULL));
    postman.peer.name[0] = '\0';
    waits("TLS: there is no name to verify", 5, false);
    begin(state, &server, ROUTE_TLS_REQUIRED, true,
          SCRIPT(GREET("S 250 STARTTLS"), "C STARTTLS", "S 220 go", "E", NULL));
    postman.setup.tls_verifying = NULL;
    waits("TLS: there are no certificates to verify", 5, false);
    begin(state, NULL, ROUTE_TLS_NONE, true, SCRIPT(GREET("S 250 PIPELINING"), "E", NULL));
    waits("the certificate is to be verified, without TLS", 4, false);
    begin(state, &server, ROUTE_TLS_REQUIRED, true, SCRIPT(SECURED(NULL)));
    memcpy(postman.peer.name, "127.0.0.1", 10);
    waits("TLS: ", 5, false);
}

/* REQUIRETLS (RFC 8689) needs a server that offers it and TLS that was verified. */
static void requiretls(void **state)
{
    for (int verify = 0; verify < 2; verify++) {
        begin(state, &server, ROUTE_TLS_REQUIRED, verify,
              verify
                  ? SCRIPT(SECURED("S 250-mx", "S 250 REQUIRETLS"),
                           "C MAIL FROM:<sender@example.com> REQUIRETLS", "S 550 seen", STAGE_BYE)
                  : SCRIPT(SECURED("S 250-mx", "S 250 REQUIRETLS"), STAGE_BYE));
        parcel.delivery.flags = ENVELOPE_REQUIRETLS;
        stage_end("");
        assert_int_equal(parcel.recipients[0].verdict.kind, VERDICT_REFUSED);
        assert_int_equal(parcel.recipients[0].verdict.status.subject, verify ? 0 : 7);
        assert_int_equal(parcel.recipients[0].verdict.status.detail, verify ? 0 : 30);
    }
}

/* The farewell of TLS in the midst of a delivery; and broken records. */
static void breaks_in_delivery(void **state)
{
    begin(state, &server, ROUTE_TLS_REQUIRED, true,
          SCRIPT(SECURED("S 250-mx.test", "S 250 PIPELINING"), MAIL, "C DATA", "S 250 ok", NULL));
    stage_end("");
    assert_int_equal(parcel.recipients[0].verdict.kind, VERDICT_DEFERRED);
    assert_true(postman.why_given);
    assert_false(postman.tls_failed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TWICE(starttls),
        TWICE(implicit),
        TWICE(much_text),
        TWICE(offers_in_clear),
        TWICE(not_offered),
        TWICE(not_wanted),
        TWICE(refused),
        TWICE(injected),
        TWICE(handshake_fails),
        TWICE(server_finds_fault),
        TWICE(not_verified),
        TWICE(requiretls),
        TWICE(breaks_in_delivery),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
