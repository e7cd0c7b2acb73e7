/* Loans of streams: see loan.h. In clear the kernel gets the pieces; through TLS it gets records,
 * in memory that exists only while the loan is out. */
#include "gateway/io/loan.h"

#include "gateway/base/check.h"
#include "gateway/io/secure.h"
#include "gateway/io/stream_inside.h"
#include "gateway/io/worker.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_TEXT = 16 * TLS_TEXT_MAX }; /* 256 KiB are sealed at a time */

/* skip_sent takes octets that have gone, and empty pieces, from the front of the message. */
static void skip_sent(struct msghdr *message, size_t len)
{
    while (message->msg_iovlen > 0 && message->msg_iov->iov_len <= len) {
        len -= message->msg_iov->iov_len;
        message->msg_iov++;
        message->msg_iovlen--;
    }
    if (len == 0)
        return;
    CHECK(message->msg_iovlen > 0);
    message->msg_iov->iov_base = (uint8_t *)message->msg_iov->iov_base + len;
    message->msg_iov->iov_len -= len;
}

void stream_lend(struct worker *worker, struct stream *stream, struct stream_loan *loan,
                 uint32_t count)
{
    CHECK(stream->state == STREAM_OPEN && !stream->lent && count <= STREAM_LOAN_PIECES);
    CHECK(stream->secure == NULL || secure_ready(stream->secure));
    uint8_t *written = stream->collecting;
    bool sealed = stream->secure == NULL || written == NULL || secure_seal(stream);
    uint32_t before = stream->secure == NULL && written != NULL ? 1 : 0;
    loan->rest[0] = (struct iovec){written, stream->collecting_len};
    memcpy(loan->rest + before, loan->pieces, count * sizeof(*loan->pieces));
    loan->message = (struct msghdr){.msg_iov = loan->rest, .msg_iovlen = before + count};
    loan->written = written;
    loan->window = NULL;
    loan->window_room = loan->window_len = loan->window_sent = 0;
    stream->loan = loan;
    stream->lent = true;
    stream_touch(worker, stream);
    if (!sealed)
        stream_abort(worker, stream);
}

/* --- through TLS --- */

static size_t text_len(const struct msghdr *message)
{
    size_t len = 0;
    for (size_t i = 0; i < message->msg_iovlen; i++)
        len += message->msg_iov[i].iov_len;
    return len;
}

/* fill_window seals as much of the loan as a window holds, behind what was written before. Empty
 * when nothing is left. False: no memory, or the keys are used up. */
static bool fill_window(struct worker *worker, struct stream *stream)
{
    struct stream_loan *loan = stream->loan;
    size_t written_len = loan->written == NULL ? 0 : stream->collecting_len;
    size_t len = text_len(&loan->message);
    if (secure_error(stream->secure) < 0)
        len = 0; /* we are breaking off: only what is sealed already goes before the alert */
    len = len < WINDOW_TEXT ? len : WINDOW_TEXT;
    loan->window_len = loan->window_sent = 0;
    if (len == 0 && written_len == 0)
        return true;
    size_t room = written_len + secure_window_room(len);
    if (loan->window_room < room) {
        free(loan->window);
        loan->window = malloc(room);
        loan->window_room = loan->window == NULL ? 0 : room;
    }
    if (loan->window == NULL)
        return false;
    if (written_len > 0)
        memcpy(loan->window, loan->written, written_len);
    blocks_give(&worker->blocks, loan->written);
    loan->written = NULL;
    size_t sealed =
        len == 0 ? 0 : secure_window(stream, &loan->message, len, loan->window + written_len);
    loan->window_len = written_len + sealed;
    return len == 0 || sealed > 0;
}

/* --- sending --- */

static void let_go(struct worker *worker, struct stream *stream)
{
    blocks_give(&worker->blocks, stream->loan->written);
    free(stream->loan->window);
    stream->loan = NULL;
    stream->lent = false;
}

void loan_return(struct worker *worker, struct stream *stream)
{
    let_go(worker, stream);
    worker->options.callbacks.returned(stream, stream_owner(stream));
}

/* finish: all of it has left. */
static void finish(struct worker *worker, struct stream *stream)
{
    let_go(worker, stream);
    if (stream->secure != NULL && stream->state == STREAM_DRAINING)
        secure_end(worker, stream); /* our last word has waited for the loan */
    worker->options.callbacks.returned(stream, stream_owner(stream));
    if (stream->paused && stream->state == STREAM_OPEN && !stream->lent)
        worker->options.callbacks.writable(stream, stream_owner(stream));
}

void loan_send(struct worker *worker, struct stream *stream)
{
    struct stream_loan *loan = stream->loan;
    bool secure = stream->secure != NULL;
    if (secure && loan->window_sent == loan->window_len && !fill_window(worker, stream)) {
        stream_broken(worker, stream, -ENOMEM);
        return;
    }
    skip_sent(&loan->message, 0);
    if (secure ? loan->window_len == 0 : loan->message.msg_iovlen == 0) {
        finish(worker, stream);
        return;
    }
    stream->lending = true;
    stream->send_us = worker->now_us;
    stream->send_in_flight = true;
    stream->requests_out++;
    uint64_t tag =
        tag_make(REQUEST_LEND, slots_generation(&worker->slots, stream->slot), stream->slot);
    if (secure)
        uring_send_all(worker->ring, tag, stream->descriptor, loan->window + loan->window_sent,
                       loan->window_len - loan->window_sent);
    else
        uring_send_message(worker->ring, tag, stream->descriptor, &loan->message);
}

void loan_send_done(struct worker *worker, struct stream *stream, int result)
{
    stream->send_in_flight = false;
    stream->lending = false;
    stream->requests_out--;
    stream_touch(worker, stream);
    if (result < 0) {
        stream_broken(worker, stream, result);
        return;
    }
    if (stream->state == STREAM_CLOSING)
        return; /* it settles, and then the loan goes back */
    if (stream->secure != NULL)
        stream->loan->window_sent += (size_t)result;
    else
        skip_sent(&stream->loan->message, (size_t)result);
    loan_send(worker, stream); /* the rest, the next window, or nothing */
}
