/* The visitor: see visitor.h. */
#include "tests/support/visitor.h"

#include "gateway/base/check.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The owner of a stream. */
struct guest {
    struct visit *visit;
};

static struct visit *visit_of(void *owner, const struct stream *stream)
{
    struct visit *visit = ((struct guest *)owner)->visit;
    CHECK(visit->stream == stream);
    return visit;
}

/* --- callbacks --- */

static void opened(struct worker *worker, struct stream *stream, void *owner)
{
    struct visit *visit = visit_of(owner, stream);
    CHECK(worker == &visit->visitor->worker && visit->closed == 0);
    CHECK(stream->state == STREAM_OPEN);
    visit->opened++;
    if (visit->on_opened != NULL)
        visit->on_opened(visit);
}

static size_t received(struct stream *stream, void *owner, const uint8_t *data, size_t len)
{
    struct visit *visit = visit_of(owner, stream);
    CHECK(visit->opened == 1 && visit->closed == 0);
    size_t taken = visit->on_received == NULL ? len : visit->on_received(visit, data, len);
    CHECK(taken <= len);
    if (visit->got_len + taken > visit->got_room) {
        visit->got_room = 2 * (visit->got_len + taken);
        visit->got = realloc(visit->got, visit->got_room);
        CHECK(visit->got != NULL);
    }
    if (taken > 0)
        memcpy(visit->got + visit->got_len, data, taken);
    visit->got_len += taken;
    return taken;
}

static void writable(struct stream *stream, void *owner)
{
    struct visit *visit = visit_of(owner, stream);
    CHECK(visit->closed == 0 && stream->paused);
    if (visit->on_writable != NULL)
        visit->on_writable(visit);
}

static void returned(struct stream *stream, void *owner)
{
    struct visit *visit = visit_of(owner, stream);
    visit->returned++;
    CHECK(visit->returned == visit->lent && !stream->lent);
    if (visit->on_returned != NULL)
        visit->on_returned(visit);
}

static void secured(struct stream *stream, void *owner)
{
    struct visit *visit = visit_of(owner, stream);
    CHECK(visit->closed == 0 && stream_is_secure(stream));
    visit->secured++;
    visit->info = *tls_info(stream_tls(stream));
    if (visit->on_secured != NULL)
        visit->on_secured(visit);
}

static void ticket(struct stream *stream, void *owner, struct tls_session *session)
{
    struct visit *visit = visit_of(owner, stream);
    CHECK(visit->closed == 0 && session != NULL);
    tls_session_free(visit->ticket);
    visit->ticket = session;
    visit->tickets++;
}

static void timed_out(struct stream *stream, void *owner)
{
    struct visit *visit = visit_of(owner, stream);
    CHECK(visit->closed == 0);
    visit->timed_out++;
    if (visit->on_timed_out != NULL)
        visit->on_timed_out(visit);
    else
        visit_abort(visit);
}

static void closed(struct stream *stream, void *owner, int error)
{
    struct visit *visit = visit_of(owner, stream);
    CHECK(visit->closed == 0);
    visit->closed++;
    visit->error = error;
    visit->failure =
        stream_tls(stream) == NULL ? TLS_FAILURE_NONE : tls_failure(stream_tls(stream));
    if (visit->on_closed != NULL)
        visit->on_closed(visit);
}

/* --- hooks --- */

static void turn_end(void *user)
{
    struct visitor *visitor = user;
    if (visitor->options.on_turn != NULL)
        visitor->options.on_turn(visitor);
}

static bool falling_asleep(void *user)
{
    struct visitor *visitor = user;
    visitor->sleeps++;
    return true;
}

static void nothing(void *user)
{
    (void)user;
}

static void noted(void *user, uint32_t notes)
{
    (void)user;
    CHECK(notes == 0);
}

static uint64_t next_us(void *user)
{
    struct visitor *visitor = user;
    return visitor->options.next_us(visitor);
}

/* --- life --- */

static uint32_t or_else(uint32_t wanted, uint32_t otherwise)
{
    return wanted != 0 ? wanted : otherwise;
}

struct visitor *visitor_new(const struct visitor_options *options)
{
    struct visitor *visitor = calloc(1, sizeof(*visitor));
    const char *what;
    CHECK(visitor != NULL);
    visitor->options = *options;
    struct worker_options worker = {
        .cpu = -1,
        .streams_max = or_else(options->streams_max, 64),
        .buffer_count = or_else(options->buffer_count, 64),
        .buffer_size = or_else(options->buffer_size, 4096),
        .owner_size = sizeof(struct guest),
        .baseline = options->baseline,
        .spin = options->spin,
        .callbacks = {.opened = opened,
                      .received = received,
                      .writable = writable,
                      .returned = returned,
                      .secured = secured,
                      .ticket = ticket,
                      .timed_out = timed_out,
                      .closed = closed},
        .hooks = {.turn_end = turn_end,
                      .falling_asleep = falling_asleep,
                      .awake = nothing,
                      .noted = noted,
                      .next_us = options->next_us == NULL ? NULL : next_us},
        .user = visitor,
    };
    worker.blocks_max = or_else(options->blocks_max, 2 * worker.streams_max);
    worker.records_max = worker.streams_max;
    CHECK(worker_init(&visitor->worker, &worker, &what) == 0);
    return visitor;
}

void visitor_free(struct visitor *visitor)
{
    for (uint32_t i = 0; i < visitor->visit_count; i++) {
        tls_session_free(visitor->visits[i].ticket);
        free(visitor->visits[i].got);
    }
    worker_cleanup(&visitor->worker);
    free(visitor);
}

struct visit *visitor_call(struct visitor *visitor, const union address_any *address)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return visitor_call_at(visitor, descriptor, &address->any, sizeof(address->v4));
}

struct visit *visitor_call_at(struct visitor *visitor, int descriptor,
                              const struct sockaddr *address, socklen_t len)
{
    CHECK(visitor->visit_count < VISITOR_VISITS_MAX && descriptor >= 0);
    struct guest *guest = worker_connect(&visitor->worker, descriptor, address, len);
    if (guest == NULL) {
        close(descriptor);
        return NULL;
    }
    struct visit *visit = &visitor->visits[visitor->visit_count++];
    CHECK(guest->visit == NULL); /* zeroed */
    guest->visit = visit;
    visit->visitor = visitor;
    visit->stream = stream_of(guest);
    CHECK(stream_room(&visitor->worker, visit->stream) == 0);
    CHECK(!stream_write(&visitor->worker, visit->stream, "x", 1));
    return visit;
}

static void check_home(const struct visitor *visitor)
{
    const struct worker *worker = &visitor->worker;
    CHECK(uring_in_kernel(worker->ring) == 0);
    CHECK(worker->slots.used == 0 && worker->blocks.used == 0 && worker->records.used == 0);
    CHECK(worker->buffers.given + worker->buffers.home_count == worker->buffers.count);
    CHECK(list_empty(&worker->streams) && list_empty(&worker->dirty));
    CHECK(list_empty(&worker->starved) && worker->expected == 0);
    for (uint32_t i = 0; i < visitor->visit_count; i++) {
        const struct visit *visit = &visitor->visits[i];
        CHECK(visit->closed == 1 && visit->opened <= 1);
        CHECK(visit->returned == visit->lent);
    }
}

void visitor_run(struct visitor *visitor)
{
    worker_stop(&visitor->worker);
    CHECK(worker_run(&visitor->worker) == 0);
    check_home(visitor);
}

/* --- what a visit does --- */

void visit_say(struct visit *visit, const char *text)
{
    CHECK(stream_write(&visit->visitor->worker, visit->stream, text, strlen(text)));
}

void visit_lend(struct visit *visit, const void *data, size_t len, uint32_t pieces)
{
    const uint8_t *at = data;
    for (uint32_t i = 0; i < pieces; i++) {
        size_t part = i + 1 == pieces ? len : len / 3; /* uneven, and some of them empty */
        visit->loan.pieces[i] = (struct iovec){(void *)(uintptr_t)at, part};
        at += part;
        len -= part;
    }
    visit->lent++;
    stream_lend(&visit->visitor->worker, visit->stream, &visit->loan, pieces);
    CHECK(stream_room(&visit->visitor->worker, visit->stream) == 0);
    CHECK(stream_sending(visit->stream));
}

void visit_end(struct visit *visit)
{
    stream_end(&visit->visitor->worker, visit->stream);
}

void visit_abort(struct visit *visit)
{
    stream_abort(&visit->visitor->worker, visit->stream);
}

void visit_deadline(struct visit *visit, uint32_t ms)
{
    struct worker *worker = &visit->visitor->worker;
    stream_set_deadline(worker, visit->stream, worker->now_us + (uint64_t)ms * 1000);
}
