/* A TCP connection on the worker's ring: see stream.h. One receive and one send are in flight at
 * most; what is to be sent next is collected meanwhile, because overlapping sends on one socket may
 * be reordered. */
#include "gateway/io/stream.h"

#include "gateway/base/check.h"
#include "gateway/io/secure.h"
#include "gateway/io/stream_inside.h"
#include "gateway/io/worker.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

enum {
    HELD_MAX = 1, /* buffers a paused stream may hold before its receive request is cancelled */
    DEAF_US = 2 * 1000 * 1000, /* after so long a peer that takes none of our octets may be ended */
    LINGER_US = 2 * 1000 * 1000, /* how long the peer's farewell is awaited */
};

static uint64_t tag_of(struct worker *worker, enum request kind, const struct stream *stream)
{
    return tag_make(kind, slots_generation(&worker->slots, stream->slot), stream->slot);
}

/* touch puts the stream on the list that is walked at the end of the turn. */
static inline void touch(struct worker *worker, struct stream *stream)
{
    if (!list_linked(&stream->dirty))
        list_append(&worker->dirty, &stream->dirty);
}

void stream_touch(struct worker *worker, struct stream *stream)
{
    touch(worker, stream);
}

static void *owner_of(struct stream *stream)
{
    return stream_owner(stream);
}

/* --- receiving --- */

/* arm_receive asks for octets until further notice. While others go without buffers it asks only
 * once: a multishot request could take dozens before we hear of it. */
static void arm_receive(struct worker *worker, struct stream *stream)
{
    CHECK(!stream->receive_armed);
    stream->receive_armed = true;
    stream->requests_out++;
    uint64_t tag = tag_of(worker, REQUEST_RECEIVE, stream);
    if (list_empty(&worker->starved))
        uring_receive_multishot(worker->ring, tag, stream->descriptor);
    else
        uring_receive_once(worker->ring, tag, stream->descriptor);
}

static void cancel(struct worker *worker, struct stream *stream, enum request kind)
{
    stream->requests_out++;
    uring_cancel(worker->ring, tag_of(worker, REQUEST_CANCEL, stream),
                 tag_of(worker, kind, stream));
}

static void cancel_receive(struct worker *worker, struct stream *stream)
{
    if (!stream->receive_armed || stream->cancelling)
        return;
    stream->cancelling = true;
    cancel(worker, stream, REQUEST_RECEIVE);
}

/* starve parks a stream that found no buffer. */
static void starve(struct worker *worker, struct stream *stream)
{
    counter_add(&worker->starvations, 1);
    buffers_starved(&worker->buffers);
    list_append(&worker->starved, &stream->starved);
}

/* held_max: before the farewell of the connection there is that of TLS. */
static uint16_t held_max(const struct stream *stream)
{
    return stream->attending ? HELD_MAX + 1 : HELD_MAX;
}

/* want_receive arms the receive request whenever it is missing and wanted: after every end of a
 * multishot, whatever its reason, and after a pause. */
static void want_receive(struct worker *worker, struct stream *stream)
{
    bool reading = stream->state == STREAM_OPEN || stream->state == STREAM_LINGERING;
    bool quiet = stream->paused && !(stream->attending && stream->held_count < held_max(stream));
    if (!reading || stream->receive_armed || stream->ended || quiet ||
        list_linked(&stream->starved))
        return;
    if (worker->buffers.given == 0) {
        starve(worker, stream);
        return;
    }
    arm_receive(worker, stream);
}

static void hold(struct worker *worker, struct stream *stream, uint16_t buffer, uint32_t len)
{
    worker->buffers.next[buffer] = BUFFER_NONE;
    worker->buffers.lens[buffer] = len;
    if (stream->held_count++ == 0) {
        stream->held_first = buffer;
        stream->held_offset = 0;
    } else {
        worker->buffers.next[stream->held_last] = buffer;
    }
    stream->held_last = buffer;
}

static void drop_held(struct worker *worker, struct stream *stream)
{
    while (stream->held_count > 0) {
        uint16_t buffer = stream->held_first;
        stream->held_first = worker->buffers.next[buffer];
        stream->held_count--;
        buffers_give(&worker->buffers, buffer);
    }
}

/* give_octets hands octets from the network on, through TLS if there is any. Returns how many were
 * taken. */
static size_t give_octets(struct worker *worker, struct stream *stream, uint8_t *data, size_t len)
{
    if (stream->secure != NULL)
        return secure_received(worker, stream, data, len);
    size_t taken = worker->options.callbacks.received(stream, owner_of(stream), data, len);
    if (stream->secure == NULL || taken == len)
        return taken;
    return taken + secure_received(worker, stream, data + taken, len - taken); /* TLS begins here */
}

/* deliver_held gives held octets to the owner until it pauses or all are taken. */
static void deliver_held(struct worker *worker, struct stream *stream)
{
    while (stream->held_count > 0 && stream->state == STREAM_OPEN && !stream->paused) {
        uint16_t buffer = stream->held_first;
        uint32_t len = worker->buffers.lens[buffer] - stream->held_offset;
        uint8_t *data = buffers_data(&worker->buffers, buffer) + stream->held_offset;
        size_t taken = give_octets(worker, stream, data, len);
        if (stream->state != STREAM_OPEN)
            return; /* ended by the owner: what was held has been given back */
        if (taken < len) {
            stream->held_offset += (uint32_t)taken;
            stream->paused = true;
            return;
        }
        stream->held_first = worker->buffers.next[buffer];
        stream->held_offset = 0;
        stream->held_count--;
        buffers_give(&worker->buffers, buffer);
    }
}

static void tell_ended(struct worker *worker, struct stream *stream, int error)
{
    if (stream->ended_told)
        return;
    stream->ended_told = true;
    if (stream->secure != NULL && secure_error(stream->secure) < 0)
        error = secure_error(stream->secure); /* the first reason counts */
    worker->options.callbacks.closed(stream, owner_of(stream), error);
}

/* peer_ended: no more octets will come. What is held is for the owner first. */
static void peer_ended(struct worker *worker, struct stream *stream, int error)
{
    stream->ended = true;
    if (stream->state == STREAM_LINGERING || error < 0) {
        stream_broken(worker, stream, error);
        return;
    }
    if (stream->state != STREAM_OPEN || (stream->paused && !stream->attending))
        return; /* the last reply is still to leave, or held octets are still to be read */
    tell_ended(worker, stream, 0);
    stream_end(worker, stream);
}

void stream_broken(struct worker *worker, struct stream *stream, int error)
{
    if (stream->state == STREAM_CLOSING)
        error = 0; /* it was us: this is what the cancel brought */
    stream_abort(worker, stream);
    tell_ended(worker, stream, error);
}

void stream_peer_ended(struct worker *worker, struct stream *stream)
{
    stream->ended = true;
    tell_ended(worker, stream, 0);
    stream_end(worker, stream);
}

static void received(struct worker *worker, struct stream *stream, uint16_t buffer, uint32_t len)
{
    if (stream->state != STREAM_OPEN) {
        buffers_give(&worker->buffers, buffer); /* nobody listens any more */
        return;
    }
    if (stream->held_count > 0 || stream->paused) {
        hold(worker, stream, buffer, len);
        if (stream->held_count >= held_max(stream))
            cancel_receive(worker, stream);
        return;
    }
    size_t taken = give_octets(worker, stream, buffers_data(&worker->buffers, buffer), len);
    if (taken == len || stream->state != STREAM_OPEN) {
        buffers_give(&worker->buffers, buffer);
        return;
    }
    hold(worker, stream, buffer, len);
    stream->held_offset = (uint32_t)taken;
    stream->paused = true;
}

void stream_receive_done(struct worker *worker, struct stream *stream, int result, uint16_t buffer,
                         bool has_buffer, bool more)
{
    if (!more) {
        stream->receive_armed = false;
        stream->requests_out--;
    }
    if (has_buffer && result > 0) {
        received(worker, stream, buffer, (uint32_t)result);
    } else if (has_buffer) {
        buffers_give(&worker->buffers, buffer);
    }
    if (result == 0)
        peer_ended(worker, stream, 0);
    else if (result < 0 && result != -ENOBUFS && result != -ECANCELED && result != -EINTR)
        peer_ended(worker, stream, result);
    else if (result == -ENOBUFS && stream->state == STREAM_OPEN && !list_linked(&stream->starved)) {
        starve(worker, stream);
    }
    want_receive(worker, stream);
    if (stream->state != STREAM_OPEN)
        touch(worker, stream);
}

/* end_if_deaf ends a stream that holds buffers because its peer does not read our replies: nobody
 * else can hold one for long. */
static void end_if_deaf(struct worker *worker, struct stream *stream)
{
    if (stream->state == STREAM_OPEN && stream->held_count > 0 && stream->send_in_flight &&
        !stream->lending && worker->now_us - stream->send_us > DEAF_US)
        stream_abort(worker, stream);
}

void stream_feed_starved(struct worker *worker)
{
    if (list_empty(&worker->starved))
        return;
    if (worker->now_us >= worker->deaf_us) {
        worker->deaf_us = worker->now_us + DEAF_US / 4;
        worker_each_stream(worker, end_if_deaf);
        buffers_lend(&worker->buffers);
    }
    /* Each of them takes one buffer, so that is how many can be fed. */
    for (uint32_t left = worker->buffers.given; left > 0; left--) {
        struct list_node *node = list_pop(&worker->starved);
        if (node == NULL)
            return;
        want_receive(worker, list_entry(node, struct stream, starved));
    }
    /* Somebody must look again even if nothing happens meanwhile. */
    if (!list_linked(&worker->starved_timer.node))
        timer_start(&worker->timers, &worker->starved_timer, worker->now_us + DEAF_US / 4);
}

void stream_pause(struct stream *stream)
{
    stream->paused = true;
    stream->attending = false;
}

void stream_attend(struct stream *stream)
{
    stream->paused = stream->attending = true;
}

void stream_resume(struct worker *worker, struct stream *stream)
{
    if (stream->state != STREAM_OPEN || !stream->paused)
        return;
    stream->paused = stream->attending = false;
    deliver_held(worker, stream);
    if (stream->paused || stream->state != STREAM_OPEN)
        return;
    if (stream->ended)
        peer_ended(worker, stream, 0);
    else
        want_receive(worker, stream);
}

/* --- sending --- */

size_t stream_room(struct worker *worker, const struct stream *stream)
{
    if (stream->state != STREAM_OPEN || stream->lent)
        return 0;
    if (stream->secure != NULL)
        return secure_room(worker, stream);
    if (stream->collecting == NULL)
        return worker->blocks.used < worker->blocks.count ? BLOCK_SIZE : 0;
    return (size_t)BLOCK_SIZE - stream->collecting_len;
}

uint8_t *stream_collecting(struct worker *worker, struct stream *stream)
{
    if (stream->collecting == NULL) {
        stream->collecting = blocks_take(&worker->blocks);
        stream->collecting_len = 0;
    }
    return stream->collecting;
}

void stream_collected(struct worker *worker, struct stream *stream, size_t len)
{
    stream->collecting_len = (uint16_t)(stream->collecting_len + len);
    touch(worker, stream);
}

bool stream_write(struct worker *worker, struct stream *stream, const void *data, size_t len)
{
    if (len == 0 || stream_room(worker, stream) < len)
        return len == 0; /* nothing makes no record, least of all before there are keys */
    if (stream->secure != NULL) {
        secure_write(worker, stream, data, len);
        return true;
    }
    memcpy(stream_collecting(worker, stream) + stream->collecting_len, data, len);
    stream_collected(worker, stream, len);
    return true;
}

static void start_send(struct worker *worker, struct stream *stream)
{
    stream->send_us = worker->now_us;
    stream->send_in_flight = true;
    stream->requests_out++;
    uring_send(worker->ring, tag_of(worker, REQUEST_SEND, stream), stream->descriptor,
               stream->sending + stream->sending_at,
               (size_t)(stream->sending_len - stream->sending_at));
}

static void send_collected(struct worker *worker, struct stream *stream)
{
    if (stream->send_in_flight || stream->collecting == NULL)
        return;
    if (stream->lent) {
        loan_send(worker, stream);
        return;
    }
    if (stream->secure != NULL && !secure_seal(stream)) {
        stream_abort(worker, stream);
        return;
    }
    if (stream->collecting_len == 0) { /* a handshake that had nothing to say yet */
        blocks_give(&worker->blocks, stream->collecting);
        stream->collecting = NULL;
        return;
    }
    stream->sending = stream->collecting;
    stream->sending_len = stream->collecting_len;
    stream->sending_at = 0;
    stream->collecting = NULL;
    start_send(worker, stream);
}

void stream_send_done(struct worker *worker, struct stream *stream, int result)
{
    stream->send_in_flight = false;
    stream->requests_out--;
    touch(worker, stream);
    if (result < 0) {
        blocks_give(&worker->blocks, stream->sending);
        stream->sending = NULL;
        stream_broken(worker, stream, result);
        return;
    }
    stream->sending_at = (uint16_t)(stream->sending_at + result);
    if (stream->sending_at < stream->sending_len && stream->state != STREAM_CLOSING) {
        start_send(worker, stream); /* a short send is no error */
        return;
    }
    blocks_give(&worker->blocks, stream->sending);
    stream->sending = NULL;
    if (!stream->paused || stream->state != STREAM_OPEN)
        return;
    if (stream->secure == NULL || !secure_writable(worker, stream))
        worker->options.callbacks.writable(stream, owner_of(stream));
}

/* --- TLS --- */

bool stream_secure(struct worker *worker, struct stream *stream, struct tls_context *context,
                   const void *last, size_t last_len)
{
    CHECK(stream->secure == NULL && !stream->lent);
    struct secure *secure = secure_new(worker, stream, tls_server(context));
    if (secure == NULL)
        return false;
    bool written = last_len == 0 || stream_write(worker, stream, last, last_len);
    stream->secure = secure;
    if (!written)
        secure_free(worker, stream); /* which takes it from the stream again */
    return written;
}

bool stream_secure_client(struct worker *worker, struct stream *stream, struct tls_context *context,
                          const char *server_name, const struct tls_session *resume)
{
    CHECK(stream->state == STREAM_OPEN && stream->secure == NULL && !stream->lent);
    stream->secure = secure_new(worker, stream, tls_client(context, server_name, resume));
    if (stream->secure == NULL)
        return false;
    if (stream_collecting(worker, stream) == NULL) {
        secure_free(worker, stream);
        return false;
    }
    secure_hello(worker, stream);
    return true;
}

const struct tls *stream_tls(const struct stream *stream)
{
    return stream->secure == NULL ? NULL : secure_tls(stream->secure);
}

bool stream_is_secure(const struct stream *stream)
{
    return stream->secure != NULL && secure_ready(stream->secure);
}

bool stream_hears_tls(const struct stream *stream)
{
    return stream->secure != NULL && secure_heard(stream->secure);
}

/* --- time --- */

void stream_set_deadline(struct worker *worker, struct stream *stream, uint64_t deadline_us)
{
    stream->deadline_us = deadline_us;
    bool running = list_linked(&stream->timer.node);
    /* A running timer that fires too early looks at the deadline and goes on: moving it each time
     * would cost more. */
    if (deadline_us != 0 && (!running || stream->timer.due_us > deadline_us))
        timer_start(&worker->timers, &stream->timer, deadline_us);
}

void stream_timer_fired(struct worker *worker, struct timer *timer)
{
    struct stream *stream = list_entry(timer, struct stream, timer);
    if (stream->deadline_us == 0)
        return;
    if (stream->deadline_us > worker->now_us) {
        timer_start(&worker->timers, timer, stream->deadline_us);
        return;
    }
    stream->deadline_us = 0;
    if (stream->state == STREAM_OPEN || stream->state == STREAM_CONNECTING)
        worker->options.callbacks.timed_out(stream, owner_of(stream));
    else
        stream_abort(worker, stream);
}

/* --- the beginning --- */

static void open_stream(struct worker *worker, struct stream *stream)
{
    stream->state = STREAM_OPEN;
    stream->held_first = stream->held_last = BUFFER_NONE;
    worker->options.callbacks.opened(worker, stream, owner_of(stream));
    want_receive(worker, stream);
}

void stream_start(struct worker *worker, struct stream *stream)
{
    list_append(&worker->streams, &stream->all);
    open_stream(worker, stream);
}

void stream_connect(struct worker *worker, struct stream *stream, const struct sockaddr *address,
                    socklen_t address_len)
{
    stream->state = STREAM_CONNECTING;
    list_append(&worker->streams, &stream->all);
    stream->requests_out++;
    uring_connect(worker->ring, tag_of(worker, REQUEST_CONNECT, stream), stream->descriptor,
                  address, address_len);
}

void stream_connect_done(struct worker *worker, struct stream *stream, int result)
{
    stream->requests_out--;
    if (stream->state == STREAM_CLOSING) {
        touch(worker, stream); /* given up meanwhile */
        return;
    }
    if (result == 0) {
        open_stream(worker, stream);
        return;
    }
    stream->state = STREAM_CLOSING; /* the kernel has nothing of it that could be cancelled */
    tell_ended(worker, stream, result);
    touch(worker, stream);
}

/* --- the end --- */

void stream_end(struct worker *worker, struct stream *stream)
{
    if (stream->state == STREAM_CONNECTING)
        stream_abort(worker, stream);
    if (stream->state != STREAM_OPEN)
        return;
    if (stream->secure != NULL && !stream->lent)
        secure_end(worker, stream);
    stream->state = STREAM_DRAINING;
    stream->paused = false;
    list_remove(&stream->starved);
    drop_held(worker, stream);
    stream_set_deadline(worker, stream, worker->now_us + 5 * LINGER_US);
    touch(worker, stream);
}

void stream_abort(struct worker *worker, struct stream *stream)
{
    if (stream->state == STREAM_CLOSING)
        return;
    if (stream->state == STREAM_CONNECTING)
        cancel(worker, stream, REQUEST_CONNECT);
    stream->state = STREAM_CLOSING;
    stream->paused = false;
    list_remove(&stream->starved);
    drop_held(worker, stream);
    if (!stream->lent) { /* else it comes home when the stream settles */
        blocks_give(&worker->blocks, stream->collecting);
        stream->collecting = NULL;
    }
    cancel_receive(worker, stream);
    if (stream->send_in_flight) /* a peer that does not read would hold the send for ever */
        cancel(worker, stream, stream->lending ? REQUEST_LEND : REQUEST_SEND);
    touch(worker, stream);
}

void stream_cancel_done(struct worker *worker, struct stream *stream)
{
    stream->requests_out--;
    stream->cancelling = false;
    want_receive(worker, stream);
    touch(worker, stream);
}

/* settle gives the slot back. The kernel may still write into our buffers until it has answered
 * every request: requests_out is that debt, and only here, at the end of the turn, a stream is
 * freed. */
static void settle(struct worker *worker, struct stream *stream)
{
    if (stream->requests_out > 0)
        return;
    CHECK(!stream->receive_armed && !stream->send_in_flight && stream->held_count == 0);
    if (stream->lent)
        loan_return(worker, stream);
    tell_ended(worker, stream, 0);
    secure_free(worker, stream);
    timer_stop(&worker->timers, &stream->timer);
    list_remove(&stream->all);
    blocks_give(&worker->blocks, stream->sending);
    uring_close(worker->ring, tag_make(REQUEST_CLOSE, 0, 0), stream->descriptor);
    slots_give(&worker->slots, stream->slot);
}

void stream_flush(struct worker *worker, struct stream *stream)
{
    if (stream->state == STREAM_CLOSING) {
        settle(worker, stream);
        return;
    }
    send_collected(worker, stream);
    if (stream->state != STREAM_DRAINING || stream_sending(stream))
        return;
    if (stream->ended) { /* both sides have said farewell */
        stream_abort(worker, stream);
        return;
    }
    stream->state = STREAM_LINGERING;
    /* A call, not a request: Linux has a thread of its own do every IORING_OP_SHUTDOWN, and the way
     * there and back took a tenth of a connection with one message. The call never waits. */
    (void)shutdown(stream->descriptor, SHUT_WR);
    stream_set_deadline(worker, stream, worker->now_us + LINGER_US);
    want_receive(worker, stream);
}
