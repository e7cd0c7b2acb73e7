/* See talk.h. */
#include "tests/support/talk.h"

#include "gateway/base/check.h"

#include <string.h>

void talk_new(struct talk *talk, struct tls *tls, const struct peer_options *peer)
{
    memset(talk, 0, sizeof(*talk));
    CHECK(tls != NULL);
    talk->tls = tls;
    peer_new(&talk->peer, peer);
}

void talk_free(struct talk *talk)
{
    tls_free(talk->tls);
    peer_free(&talk->peer);
}

static void from_peer(struct talk *talk)
{
    size_t len = peer_take(&talk->peer, talk->in + talk->in_len, TALK_ROOM - talk->in_len);
    CHECK(talk->in_len + len < TALK_ROOM);
    for (size_t i = 0; i < len && talk->received + i < sizeof(talk->heard); i++)
        talk->heard[talk->received + i] = talk->in[talk->in_len + i];
    if (talk->damage_at > talk->received && talk->damage_at <= talk->received + len)
        talk->in[talk->in_len + talk->damage_at - talk->received - 1] ^= 0x40;
    talk->received += len;
    talk->in_len += len;
}

static void to_peer(struct talk *talk)
{
    peer_give(&talk->peer, talk->out + talk->given, talk->out_len - talk->given);
    talk->given = talk->out_len;
}

static void do_job(struct talk *talk)
{
    struct tls_job *job = tls_job_take(talk->tls);
    CHECK(job != NULL);
    tls_job_run(job);
    tls_job_done(job, talk->tls);
    talk->keys++;
}

/* one_call gives tls_handshake a piece of input and some room, and checks what it did. */
static enum tls_status one_call(struct talk *talk, size_t in_len)
{
    size_t room = TALK_ROOM - talk->out_len;
    if (talk->pace.out > 0 && talk->pace.out < room)
        room = talk->pace.out;
    struct tls_io io = {.in = talk->in,
                        .in_len = in_len,
                        .in_taken = SIZE_MAX,
                        .out = talk->out + talk->out_len,
                        .out_room = room,
                        .out_len = SIZE_MAX};
    enum tls_status status = tls_handshake(talk->tls, &io);
    CHECK(io.in_taken <= io.in_len && io.out_len <= io.out_room);
    CHECK(status != TLS_OUTPUT || io.out_len == io.out_room);
    CHECK(status != TLS_INPUT || io.in_taken == io.in_len);
    CHECK((tls_failure(talk->tls) != TLS_FAILURE_NONE) == (status == TLS_FAILED));
    memmove(talk->in, talk->in + io.in_taken, talk->in_len - io.in_taken);
    talk->in_len -= io.in_taken;
    talk->out_len += io.out_len;
    if (status == TLS_KEY)
        do_job(talk);
    return status;
}

static size_t piece(struct talk *talk)
{
    size_t len = talk->pace.in > 0 ? talk->pace.in : TALK_ROOM;
    if (talk->pace.first_in > 0 && talk->in_len > 0) {
        len = talk->pace.first_in;
        talk->pace.first_in = 0;
    }
    return len < talk->in_len ? len : talk->in_len;
}

enum tls_status talk_turn(struct talk *talk)
{
    enum tls_status status = TLS_INPUT;
    if (!talk->peer_done && !talk->peer_failed) {
        enum peer_result result = peer_handshake(&talk->peer);
        talk->peer_done = result == PEER_DONE;
        talk->peer_failed = result == PEER_FAILED;
    }
    from_peer(talk);
    for (int call = 0; call < 100000; call++) {
        status = one_call(talk, piece(talk));
        if (status == TLS_READY || status == TLS_FAILED || (status == TLS_INPUT && !talk->in_len))
            break;
    }
    to_peer(talk);
    return status;
}

enum tls_status talk_handshake(struct talk *talk)
{
    enum tls_status status = TLS_INPUT;
    for (int turn = 0; turn < 10 && status != TLS_FAILED && status != TLS_READY; turn++)
        status = talk_turn(talk);
    if (!talk->peer_done && !talk->peer_failed) {
        enum peer_result result = peer_handshake(&talk->peer);
        talk->peer_done = result == PEER_DONE;
        talk->peer_failed = result == PEER_FAILED;
    }
    return status;
}

int talk_alert(const struct talk *talk)
{
    const uint8_t *end = talk->out + talk->out_len;
    static const uint8_t header[] = {21, 3, 3, 0, 2, 2};
    if (talk->out_len < 7 || end[-7] != header[0] || end[-6] != header[1] ||
        memcmp(end - 4, header + 3, 3) != 0)
        return -1;
    return end[-1];
}

size_t talk_next_record(struct talk *talk, uint8_t *record)
{
    from_peer(talk);
    size_t len = tls_record_len(talk->in, talk->in_len);
    if (len == 0 || len > talk->in_len)
        return 0;
    memcpy(record, talk->in, len);
    memmove(talk->in, talk->in + len, talk->in_len - len);
    talk->in_len -= len;
    return len;
}

void talk_send(struct talk *talk, const void *text, size_t len)
{
    static uint8_t out[TLS_PRELUDE_MAX + TLS_RECORD_MAX], got[TLS_TEXT_MAX];
    size_t out_len = tls_prelude(talk->tls, out), got_len;
    CHECK(out_len <= TLS_PRELUDE_MAX);
    size_t sealed = tls_seal(talk->tls, out + out_len, text, len);
    CHECK(sealed > len && sealed <= len + TLS_FRONT_MAX + TLS_BACK_MAX);
    peer_give(&talk->peer, out, out_len + sealed);
    CHECK(peer_read(&talk->peer, got, sizeof(got), &got_len) == PEER_DONE);
    CHECK(got_len == len && memcmp(got, text, len) == 0);
}

void talk_receive(struct talk *talk, const void *text, size_t len)
{
    static uint8_t record[TLS_RECORD_MAX];
    uint8_t *got;
    size_t got_len, record_len;
    CHECK(peer_write(&talk->peer, text, len) == PEER_DONE);
    while ((record_len = talk_next_record(talk, record)) > 0) {
        enum tls_opened opened = tls_open(talk->tls, record, record_len, &got, &got_len);
        CHECK(opened == TLS_TEXT || opened == TLS_NOTHING);
        if (opened == TLS_NOTHING)
            continue;
        CHECK(got_len == len && memcmp(got, text, len) == 0);
        return;
    }
    check_failed("the text has come", __FILE__, __LINE__);
}
