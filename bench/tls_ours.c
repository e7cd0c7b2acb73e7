/* See tls_side.h: the server as ringmx has it, without sockets. */
#include "bench/tls_keys.h"
#include "bench/tls_side.h"

#include "tls/context.h"
#include "tls/tls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *ours_context_new(const struct tls_keys *keys, bool rsa)
{
    char error[512] = "";
    struct certificate *certificate =
        certificate_load(rsa ? keys->rsa_chain : keys->ecdsa_chain,
                         rsa ? keys->rsa_key : keys->ecdsa_key, error, sizeof(error));
    must(certificate != NULL, error);
    struct ticket_secret secret;
    ticket_secret_random(&secret, 43200);
    const struct tls_server_options options = {
        .certificates = &certificate, .certificate_count = 1, .tickets = &secret};
    struct tls_context *context = tls_context_server(&options, error, sizeof(error));
    must(context != NULL, error);
    certificate_drop(certificate);
    return context;
}

static void ours_context_free(void *context)
{
    tls_context_drop(context);
}

static void *ours_server_new(void *context)
{
    struct tls *tls = tls_server(context);
    must(tls != NULL, "no memory");
    return tls;
}

static void ours_server_free(void *server)
{
    tls_free(server);
}

static bool ours_step(void *server, struct pipe *in, struct pipe *out)
{
    struct tls_io io = {.in = in->data,
                        .in_len = in->len,
                        .out = out->data + out->len,
                        .out_room = PIPE_ROOM - out->len};
    enum tls_status status = tls_handshake(server, &io);
    must(status == TLS_INPUT || status == TLS_READY, tls_failure_text(server));
    must(io.in_taken == in->len, "octets behind the handshake");
    in->len = 0;
    out->len += io.out_len;
    return status == TLS_READY;
}

static void ours_reply(void *server, const uint8_t *text, size_t len, struct pipe *out)
{
    must(PIPE_ROOM - out->len >= TLS_PRELUDE_MAX + len + TLS_FRONT_MAX + TLS_BACK_MAX,
         "the pipe is full");
    out->len += tls_prelude(server, out->data + out->len);
    size_t sealed = tls_seal(server, out->data + out->len, text, len);
    must(sealed > 0, "cannot seal");
    out->len += sealed;
}

static size_t ours_open(void *server, uint8_t *data, size_t len)
{
    size_t total = 0;
    for (size_t at = 0; at < len;) {
        size_t record_len = tls_record_len(data + at, len - at);
        uint8_t *text;
        size_t text_len;
        must(record_len > 0 && record_len <= len - at &&
                 tls_open(server, data + at, record_len, &text, &text_len) == TLS_TEXT,
             "a record is broken");
        total += text_len;
        at += record_len;
    }
    return total;
}

static size_t ours_seal(void *server, uint8_t *text, size_t len, uint8_t *out)
{
    size_t sealed = tls_seal(server, out, text, len);
    must(sealed > 0, "cannot seal");
    return sealed;
}

static size_t ours_memory(void *server)
{
    return tls_memory(server);
}

const struct server_kind server_ours = {
    "ringmx",  ours_context_new, ours_context_free, ours_server_new, ours_server_free,
    ours_step, ours_reply,       ours_open,         ours_seal,       ours_memory,
};
