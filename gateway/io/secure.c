/* TLS on a stream: see secure.h. */
#include "gateway/io/secure.h"

#include "gateway/base/check.h"
#include "gateway/io/stream_inside.h"
#include "gateway/io/worker.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    RECORD_NONE = UINT16_MAX,
    /* What may still be added behind a record of ours that is being collected. */
    BEHIND = TLS_BACK_MAX + TLS_ALERT_MAX,
    BEFORE = TLS_PRELUDE_MAX + TLS_FRONT_MAX,
};

struct secure {
    struct tls *tls;
    struct worker *worker;
    struct stream *stream;   /* NULL: it has gone while a key operation was under way */
    struct helper_job job;   /* the key operation */
    struct tls_job *key_job; /* NULL: none */
    _Atomic bool gone;       /* nobody waits for the key operation any more: a helper looks */
    uint8_t *part;           /* block of worker->records with an unfinished record, or NULL */
    uint8_t *text;           /* opened, not yet taken by the owner */
    uint16_t part_len;
    uint16_t text_len;
    uint16_t record_rest; /* octets at the front of the input that belong to the opened record */
    uint16_t open_at;     /* where the record begins that is being collected, or RECORD_NONE */
    int error;            /* why we have ended the stream; 0: we have not */
    bool handshaking;
    bool heard;      /* anything, at all */
    bool wants_room; /* the handshake has more to say than there was room for */
    bool settled;    /* text has come, and before it all tickets for a client */
};

static_assert(TLS_RECORD_MAX <= UINT16_MAX, "lengths of records fit");

struct secure *secure_new(struct worker *worker, struct stream *stream, struct tls *tls)
{
    struct secure *secure = tls == NULL ? NULL : calloc(1, sizeof(*secure));
    if (secure == NULL) {
        tls_free(tls);
        return NULL;
    }
    secure->tls = tls;
    secure->worker = worker;
    secure->stream = stream;
    secure->open_at = RECORD_NONE;
    secure->handshaking = true;
    return secure;
}

void secure_free(struct worker *worker, struct stream *stream)
{
    struct secure *secure = stream->secure;
    if (secure == NULL)
        return;
    stream->secure = NULL;
    blocks_give(&worker->records, secure->part);
    tls_free(secure->tls);
    secure->tls = NULL;
    secure->stream = NULL;
    if (secure->key_job == NULL)
        free(secure);
    else /* the helper still has it */
        atomic_store_explicit(&secure->gone, true, memory_order_relaxed);
}

const struct tls *secure_tls(const struct secure *secure)
{
    return secure->tls;
}

bool secure_ready(const struct secure *secure)
{
    return !secure->handshaking;
}

bool secure_heard(const struct secure *secure)
{
    return secure->heard;
}

int secure_error(const struct secure *secure)
{
    return secure->error;
}

/* break_off ends the stream, with an alert, perhaps, that says why. The owner hears of it when the
 * stream is gone: who counts connections must not forget one that still has its slot. */
static void break_off(struct worker *worker, struct stream *stream, int error)
{
    stream->secure->error = error;
    stream_end(worker, stream);
}

/* --- the handshake --- */

static void go_on(struct worker *worker, struct stream *stream);

/* run_key_job is in a helper's thread. What waits in its queue is limited by the number of
 * connections only as long as those that have gone cost nothing. */
static void run_key_job(struct helper_job *job)
{
    struct secure *secure = list_entry(job, struct secure, job);
    if (!atomic_load_explicit(&secure->gone, memory_order_relaxed))
        tls_job_run(secure->key_job);
}

static void key_job_done(struct helper_job *job)
{
    struct secure *secure = list_entry(job, struct secure, job);
    tls_job_done(secure->key_job, secure->tls);
    secure->key_job = NULL;
    if (secure->stream == NULL)
        free(secure);
    else if (secure->stream->state == STREAM_OPEN)
        go_on(secure->worker, secure->stream);
}

/* start_key_job gives the private-key operation to a helper. Without helpers it is done here: true,
 * the handshake goes on at once. */
static bool start_key_job(struct worker *worker, struct secure *secure)
{
    secure->key_job = tls_job_take(secure->tls);
    CHECK(secure->key_job != NULL);
    secure->job = (struct helper_job){
        .run = run_key_job,
        .done = key_job_done,
        .worker = worker,
    };
    if (worker->options.helpers != NULL) {
        helpers_submit(worker->options.helpers, &secure->job);
        return false;
    }
    tls_job_run(secure->key_job);
    tls_job_done(secure->key_job, secure->tls);
    secure->key_job = NULL;
    return true;
}

/* take_ticket is for what only a client gets, before the first text at the latest. A ticket that
 * nobody wants is taken, too: it would keep the server's certificates in memory as long as its
 * connection. */
static void take_ticket(struct worker *worker, struct stream *stream)
{
    struct tls_session *session = tls_session_take(stream->secure->tls);
    if (session == NULL)
        return;
    if (worker->options.callbacks.ticket == NULL)
        tls_session_free(session);
    else
        worker->options.callbacks.ticket(stream, stream_owner(stream), session);
}

/* shake goes on with the handshake, and tells how many octets it took. It leaves the stream paused
 * while the handshake waits for a key or for room. */
static size_t shake(struct worker *worker, struct stream *stream, const uint8_t *data, size_t len)
{
    struct secure *secure = stream->secure;
    struct tls_io io = {.in = data, .in_len = len};
    enum tls_status status;
    size_t taken = 0;
    do {
        uint8_t *block = stream_collecting(worker, stream);
        if (block == NULL) {
            break_off(worker, stream, -ENOMEM);
            return len;
        }
        io.in = data + taken;
        io.in_len = len - taken;
        io.out = block + stream->collecting_len;
        io.out_room = (size_t)BLOCK_SIZE - stream->collecting_len;
        status = tls_handshake(secure->tls, &io);
        stream_collected(worker, stream, io.out_len);
        taken += io.in_taken;
    } while (status == TLS_KEY && start_key_job(worker, secure));
    secure->wants_room = status == TLS_OUTPUT;
    if (status == TLS_OUTPUT || status == TLS_KEY) {
        stream_pause(stream);
    } else if (status == TLS_READY) {
        secure->handshaking = false;
        stream->paused = false;
        worker->options.callbacks.secured(stream, stream_owner(stream));
    } else if (status == TLS_FAILED) {
        break_off(worker, stream, -EPROTO);
    }
    return taken;
}

/* go_on continues a handshake that waited for a key or for room, and then with what the peer has
 * sent meanwhile. */
static void go_on(struct worker *worker, struct stream *stream)
{
    stream->paused = false;
    (void)shake(worker, stream, (const uint8_t *)"", 0);
    if (stream->state != STREAM_OPEN || stream->paused)
        return;
    stream->paused = true;
    stream_resume(worker, stream);
}

void secure_hello(struct worker *worker, struct stream *stream)
{
    (void)shake(worker, stream, (const uint8_t *)"", 0);
}

bool secure_writable(struct worker *worker, struct stream *stream)
{
    struct secure *secure = stream->secure;
    if (!secure->handshaking)
        return false;
    if (secure->wants_room)
        go_on(worker, stream);
    return true;
}

/* --- receiving --- */

/* next_record finds a whole record at the front of the input, or puts aside what there is of one.
 * Returns NULL when more octets are needed; *used tells how many of the input belong to it. */
static uint8_t *next_record(struct worker *worker, struct secure *secure, uint8_t *data, size_t len,
                            size_t *record_len, size_t *used)
{
    *used = 0;
    if (secure->part == NULL && len >= TLS_HEADER_LEN) {
        *record_len = tls_record_len(data, len);
        if (*record_len == 0 || *record_len <= len) {
            *record_len = *record_len == 0 ? TLS_HEADER_LEN : *record_len;
            *used = *record_len;
            return data;
        }
    }
    if (secure->part == NULL) {
        secure->part = blocks_take(&worker->records);
        CHECK(secure->part != NULL); /* there are as many as streams */
        secure->part_len = 0;
    }
    size_t wanted = TLS_HEADER_LEN;
    for (int step = 0; step < 2; step++) { /* the header, then what it announces */
        if (secure->part_len >= TLS_HEADER_LEN)
            wanted = tls_record_len(secure->part, secure->part_len);
        if (wanted <= secure->part_len)
            break;
        size_t missing = wanted - secure->part_len;
        size_t more = missing < len - *used ? missing : len - *used;
        memcpy(secure->part + secure->part_len, data + *used, more);
        secure->part_len = (uint16_t)(secure->part_len + more);
        *used += more;
        if (more < missing)
            return NULL;
    }
    *record_len = secure->part_len;
    return secure->part;
}

/* record_done lets go of a record whose text was taken. Returns the octets of input it had. */
static size_t record_done(struct worker *worker, struct secure *secure)
{
    size_t rest = secure->record_rest;
    secure->record_rest = 0;
    blocks_give(&worker->records, secure->part);
    secure->part = NULL;
    return rest;
}

/* give_text gives the owner what was opened. False: it took less than all, or ended the stream. */
static bool give_text(struct worker *worker, struct stream *stream)
{
    struct secure *secure = stream->secure;
    size_t taken = worker->options.callbacks.received(stream, stream_owner(stream), secure->text,
                                                      secure->text_len);
    if (stream->state != STREAM_OPEN)
        return false;
    secure->text += taken;
    secure->text_len = (uint16_t)(secure->text_len - taken);
    if (secure->text_len == 0)
        return true;
    stream_pause(stream);
    return false;
}

/* open_record opens the next record of the input. False: it is not complete, or it ends the
 * stream; the input is taken in both cases. */
static bool open_record(struct worker *worker, struct stream *stream, uint8_t *data, size_t len)
{
    struct secure *secure = stream->secure;
    size_t record_len, used, text_len = 0;
    uint8_t *record = next_record(worker, secure, data, len, &record_len, &used);
    if (record == NULL)
        return false;
    secure->record_rest = (uint16_t)used;
    enum tls_opened opened = tls_open(secure->tls, record, record_len, &secure->text, &text_len);
    if (!secure->settled) {
        secure->settled = opened == TLS_TEXT;
        take_ticket(worker, stream);
    }
    switch (opened) {
    case TLS_TEXT: secure->text_len = (uint16_t)text_len; return true;
    case TLS_NOTHING: return true;
    case TLS_CLOSED: stream_peer_ended(worker, stream); return false;
    case TLS_BROKEN: break_off(worker, stream, -EPROTO); return false;
    }
    CHECK(false);
}

size_t secure_received(struct worker *worker, struct stream *stream, uint8_t *data, size_t len)
{
    struct secure *secure = stream->secure;
    size_t taken = 0;
    while (stream->state == STREAM_OPEN && !stream->paused) {
        if (secure->text_len > 0) {
            if (!give_text(worker, stream))
                return taken;
            taken += record_done(worker, secure);
        } else if (taken == len) {
            return taken;
        } else if (secure->handshaking) {
            secure->heard = true;
            taken += shake(worker, stream, data + taken, len - taken);
        } else if (!open_record(worker, stream, data + taken, len - taken)) {
            return len;
        } else if (secure->text_len == 0) {
            taken += record_done(worker, secure);
        }
    }
    return taken;
}

/* --- sending --- */

size_t secure_room(struct worker *worker, const struct stream *stream)
{
    const struct secure *secure = stream->secure;
    if (secure->handshaking)
        return 0;
    if (stream->collecting == NULL)
        return worker->blocks.used < worker->blocks.count ? BLOCK_SIZE - BEFORE - BEHIND : 0;
    size_t taken = (size_t)stream->collecting_len + BEHIND;
    taken += secure->open_at == RECORD_NONE ? BEFORE : 0;
    return taken < BLOCK_SIZE ? BLOCK_SIZE - taken : 0;
}

void secure_write(struct worker *worker, struct stream *stream, const void *data, size_t len)
{
    struct secure *secure = stream->secure;
    uint8_t *block = stream_collecting(worker, stream);
    CHECK(block != NULL); /* the room was asked for */
    if (secure->open_at == RECORD_NONE) {
        stream_collected(worker, stream, tls_prelude(secure->tls, block + stream->collecting_len));
        secure->open_at = stream->collecting_len;
        stream_collected(worker, stream, tls_front(secure->tls));
    }
    memcpy(block + stream->collecting_len, data, len);
    stream_collected(worker, stream, len);
}

bool secure_seal(struct stream *stream)
{
    struct secure *secure = stream->secure;
    if (secure->open_at == RECORD_NONE)
        return true;
    uint8_t *record = stream->collecting + secure->open_at;
    size_t front = tls_front(secure->tls);
    size_t sealed = tls_seal(secure->tls, record, record + front,
                             (size_t)stream->collecting_len - secure->open_at - front);
    stream->collecting_len = (uint16_t)(secure->open_at + sealed);
    CHECK(stream->collecting_len <= BLOCK_SIZE); /* secure_room has kept room for it */
    secure->open_at = RECORD_NONE;
    return sealed > 0;
}

void secure_end(struct worker *worker, struct stream *stream)
{
    struct secure *secure = stream->secure;
    if (secure->handshaking)
        return; /* the handshake says its own last word */
    uint8_t *block = stream_collecting(worker, stream);
    if (block == NULL || !secure_seal(stream))
        return;
    /* In a block that holds records of ours the prelude has gone already. */
    if (stream->collecting_len + BEFORE <= BLOCK_SIZE)
        stream_collected(worker, stream, tls_prelude(secure->tls, block + stream->collecting_len));
    if (stream->collecting_len + TLS_ALERT_MAX <= BLOCK_SIZE)
        stream_collected(worker, stream, tls_alert(secure->tls, block + stream->collecting_len));
}

/* --- loans --- */

size_t secure_window_room(size_t len)
{
    size_t records = (len + TLS_TEXT_MAX - 1) / TLS_TEXT_MAX;
    return TLS_PRELUDE_MAX + len + records * (TLS_FRONT_MAX + TLS_BACK_MAX);
}

/* take_text takes the text of one record from the front of the message: `len` octets, which are
 * there. It is gathered at `place`, unless it lies together already. */
static const uint8_t *take_text(struct msghdr *message, uint8_t *place, size_t len)
{
    const uint8_t *whole = NULL;
    for (size_t at = 0; at < len;) {
        struct iovec *piece = message->msg_iov;
        size_t part = piece->iov_len < len - at ? piece->iov_len : len - at;
        if (part == len)
            whole = piece->iov_base;
        else if (part > 0)
            memcpy(place + at, piece->iov_base, part);
        at += part;
        piece->iov_base = (uint8_t *)piece->iov_base + part;
        piece->iov_len -= part;
        message->msg_iov += piece->iov_len == 0;
        message->msg_iovlen -= piece->iov_len == 0;
    }
    return whole != NULL ? whole : place;
}

size_t secure_window(struct stream *stream, struct msghdr *message, size_t len, uint8_t *out)
{
    struct tls *tls = stream->secure->tls;
    size_t front = tls_front(tls);
    size_t out_len = tls_prelude(tls, out);
    while (len > 0) {
        size_t text_len = len < TLS_TEXT_MAX ? len : TLS_TEXT_MAX;
        uint8_t *record = out + out_len;
        const uint8_t *text = take_text(message, record + front, text_len);
        size_t record_len = tls_seal(tls, record, text, text_len);
        if (record_len == 0)
            return 0;
        out_len += record_len;
        len -= text_len;
    }
    return out_len;
}
