/* The SMTP server of one worker: see server.h. Messages wait for the writer in the order in which
 * they were staged, so one word from the writer ("settled up to here") answers all of them. */
#include "gateway/receive/server.h"

#include "gateway/base/check.h"
#include "gateway/base/limits.h"
#include "gateway/receive/asking.h"
#include "gateway/receive/fixups.h"
#include "gateway/receive/gate.h"
#include "gateway/receive/server_log.h"
#include "gateway/receive/signing.h"
#include "gateway/receive/submission.h"
#include "gateway/receive/tarpit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESUME_ROOM = LIMIT_PIECE * 2 }; /* staging room at which stalled sessions go on */

/* --- ids and connections --- */

uint64_t server_id_next(struct server *server)
{
    /* Microseconds with the thread's number below: unique among threads; never less than before, so
     * unique in time; and above every id that recovery has seen, so unique over restarts. */
    uint64_t id = server->worker->now_wall_us * LIMIT_PORTS + server->index;
    if (id <= server->id_last)
        id = server->id_last + LIMIT_PORTS;
    server->id_last = id;
    return id;
}

enum reply server_unready(const struct server *server)
{
    if (server->unwelcome)
        return REPLY_SHUTTING_DOWN;
    return spool_state(server->spool) == SPOOL_OPEN ? REPLY_NONE : REPLY_NOT_READY;
}

const struct server_listener *server_listener(const struct server *server, uint32_t index)
{
    const struct server_options *options = server->options;
    return index < options->listener_count ? &options->listeners[index] : NULL;
}

enum server_tls server_tls_of(const struct server *server, uint32_t listener)
{
    const struct server_listener *found = server_listener(server, listener);
    return found != NULL ? found->tls : SERVER_TLS_NONE;
}

/* connections_max: what a reload says counts up to what there is room for. */
static uint32_t connections_max(const struct server *server)
{
    uint32_t wanted = server->options->connections_max;
    return wanted < server->connections_max ? wanted : server->connections_max;
}

static bool accepted(void *user, int descriptor, const union address_any *peer)
{
    struct server *server = user;
    enum reply refusal = REPLY_TOO_MANY_CONNECTIONS;
    if (admission_enter(server->admission, connections_max(server))) {
        if (server->worker->slots.used < server->worker->slots.count)
            refusal = gate_arrive(server, peer);
        if (refusal == REPLY_NONE) {
            counter_add(&server->counters.connections, 1);
            return true;
        }
        admission_leave(server->admission);
    }
    counter_add(&server->counters.replies[refusal], 1);
    server_log_turned_away(server, peer, refusal);
    if (server->trace.filters != NULL)
        trace_refused(server, peer, reply_line(refusal));
    if (server_tls_of(server, server->worker->accepted_listener) == SERVER_TLS_IMPLICIT)
        return false; /* a word in clear would only confuse */
    struct bytes line = reply_line(refusal);
    (void)!send(descriptor, line.data, line.len, MSG_NOSIGNAL | MSG_DONTWAIT);
    return false;
}

/* --- TLS --- */

void server_secured(struct server *server, const struct session *session,
                    const struct tls_info *info)
{
    struct server_tls_counters *counters = &server->counters.tls;
    CHECK(info->version_index < 2 && info->cipher_index < TLS_CIPHER_COUNT);
    counter_add(&counters->versions[info->version_index], 1);
    counter_add(&counters->ciphers[info->cipher_index], 1);
    if (info->resumed)
        counter_add(&counters->resumed, 1);
    histogram_add(&server->counters.phases[SERVER_PHASE_HANDSHAKE],
                  server->worker->now_us - session->handshake_us);
    server_log_tls(server, session, info);
}

void server_insecure(struct server *server, const struct session *session, const struct tls *tls)
{
    enum tls_failure failure = tls == NULL ? TLS_FAILURE_NONE : tls_failure(tls);
    counter_add(&server->counters.tls.failures[failure], 1);
    if (failure == TLS_FAILURE_NONE)
        server_log_tls_failed(server, session, "unfinished", "the client left or took too long");
    else
        server_log_tls_failed(server, session, tls_failure_name(failure), tls_failure_text(tls));
}

/* --- messages on their way to the disk --- */

static void free_transaction(struct server *server, struct transaction *transaction)
{
    if (!transaction_free(&server->context, transaction))
        list_append(&server->aborting, &transaction->node);
}

void server_forget(struct server *server, struct transaction *transaction)
{
    /* Else the writer still has it: settle comes here again, as does the answer that is out. */
    if (!list_linked(&transaction->node) && signing_over(transaction) && asking_over(transaction))
        free_transaction(server, transaction);
}

void server_count_closed(struct server *server, const struct session *session, int error)
{
    uint32_t now_ms = (uint32_t)(server->worker->now_us / 1000);
    struct server_counters *counters = &server->counters;
    counter_add(&counters->closed, 1);
    if (error < 0)
        counter_add(&counters->resets, 1);
    histogram_add(&counters->phases[SERVER_PHASE_SESSION],
                  (uint64_t)(now_ms - session->opened_ms) * 1000);
}

void server_count_message(struct server *server, const struct transaction *transaction)
{
    counter_add(&server->counters.messages, 1);
    counter_add(&server->counters.octets, transaction->octets);
    counter_add(&server->counters.recipients, transaction->rcpt_count);
}

/* settle answers every message whose fate the writer has published. */
static void settle(struct server *server)
{
    uint64_t settled = staging_settled(server->staging);
    if (settled == server->settled_seen)
        return;
    server->settled_seen = settled;
    struct list_node *node;
    while ((node = list_first(&server->waiting)) != NULL) {
        struct transaction *transaction = list_entry(node, struct transaction, node);
        enum staging_outcome outcome =
            staging_outcome(server->staging, transaction->commit_position);
        if (outcome == STAGING_WAITING)
            break;
        list_remove(node);
        if (outcome == STAGING_DURABLE)
            server_count_message(server, transaction);
        if (transaction->session != NULL) {
            session_settled(transaction->session, outcome);
            continue;
        }
        server_log_message(server, NULL, transaction, 0);
        server_forget(server, transaction);
    }
    staging_acknowledge(server->staging, settled);
}

/* resume_stalled lets sessions go on when there is room; those that stall again wait for the next
 * turn. */
static void resume_stalled(struct server *server)
{
    if (list_empty(&server->stalled) && list_empty(&server->aborting))
        return;
    struct list now;
    list_init(&now);
    list_move_all(&now, &server->aborting);
    struct list_node *node;
    while ((node = list_pop(&now)) != NULL)
        free_transaction(server, list_entry(node, struct transaction, node));
    list_move_all(&now, &server->stalled);
    while (staging_room(server->staging) >= RESUME_ROOM && (node = list_pop(&now)) != NULL)
        session_room_again(list_entry(node, struct session, stalled));
    list_move_all(&now, &server->stalled);
    list_move_all(&server->stalled, &now); /* the longest waiting come first again */
}

/* turn_shared: what becomes of Redis ends with this thread, its counters are there for others. */
static void turn_shared(struct server *server)
{
    struct redis_snapshot now;
    shared_turn(server->shared);
    redis_snapshot(shared_redis(server->shared), &now);
    counter_publish(server->counters.redis, &now, sizeof(now));
    atomic_store_explicit(&server->counters.has_redis, true, memory_order_relaxed);
}

/* turn_authenticator: as turn_shared. */
static void turn_authenticator(struct server *server)
{
    struct authenticator_snapshot now;
    authenticator_turn(server->authenticator);
    authenticator_snapshot(server->authenticator, &now);
    counter_publish(server->counters.authenticator, &now, sizeof(now));
    atomic_store_explicit(&server->counters.has_authenticator, true, memory_order_relaxed);
}

static void turn_end(void *user)
{
    struct server *server = user;
    settle(server);
    if (server->shared != NULL)
        turn_shared(server);
    if (server->authenticator != NULL)
        turn_authenticator(server);
    tarpit_turn(server);
    resume_stalled(server);
    bool pressed = !list_empty(&server->stalled) || !list_empty(&server->aborting);
    if (staging_unpublished(server->staging) || server->urgent || pressed)
        staging_publish(server->staging, server->urgent || pressed);
    server->urgent = false;
}

static uint64_t next_us(void *user)
{
    const struct server *server = user;
    uint64_t next_us = tarpit_next_us(server);
    uint64_t shared_us = server->shared == NULL ? UINT64_MAX : shared_next_us(server->shared);
    uint64_t login_us =
        server->authenticator == NULL ? UINT64_MAX : authenticator_next_us(server->authenticator);
    next_us = shared_us < next_us ? shared_us : next_us;
    return login_us < next_us ? login_us : next_us;
}

static bool falling_asleep(void *user)
{
    struct server *server = user;
    staging_set_sleeping(server->staging, true);
    if (staging_settled(server->staging) == server->settled_seen)
        return true;
    staging_set_sleeping(server->staging, false);
    return false;
}

static void awake(void *user)
{
    struct server *server = user;
    staging_set_sleeping(server->staging, false);
}

/* --- notes from other threads --- */

static void make_ehlo(struct server *server, bool submission, enum server_ehlo which,
                      const char *more)
{
    const struct server_options *options = server->options;
    const struct submission_rules *rules = submission ? options->submission : NULL;
    uint64_t size_max = rules != NULL ? rules->message_size_max : options->message_size_max;
    uint32_t recipients_max = rules != NULL ? rules->recipients_max : options->recipients_max;
    int len = snprintf(server->ehlo[submission][which], SERVER_EHLO_LEN_MAX,
                       "250-%s\r\n250-PIPELINING\r\n250-SIZE %llu\r\n250-8BITMIME\r\n"
                       "250-SMTPUTF8\r\n250-CHUNKING\r\n250-BINARYMIME\r\n"
                       "250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n%s250-LIMITS RCPTMAX=%u\r\n"
                       "250 HELP\r\n",
                       options->hostname, (unsigned long long)size_max, more, recipients_max);
    CHECK(len > 0 && len < SERVER_EHLO_LEN_MAX);
    server->ehlo_len[submission][which] = (uint16_t)len;
}

struct bytes server_ehlo(const struct server *server, bool submission, enum server_ehlo which)
{
    return bytes_make(server->ehlo[submission][which], server->ehlo_len[submission][which]);
}

static void make_texts(struct server *server)
{
    const struct server_options *options = server->options;
    int len = snprintf(server->greeting, sizeof(server->greeting), "220 %s ESMTP ringmx\r\n",
                       options->hostname);
    CHECK(len > 0 && len < SERVER_GREETING_LEN_MAX);
    server->greeting_len = (uint16_t)len;
    for (int submission = false; submission <= true; submission++) {
        make_ehlo(server, submission, SERVER_EHLO_CLEAR, "");
        make_ehlo(server, submission, SERVER_EHLO_STARTTLS, "250-STARTTLS\r\n");
        make_ehlo(server, submission, SERVER_EHLO_SECURE, "250-REQUIRETLS\r\n");
    }
}

/* silent_listeners: the worker, too, says nothing in clear where TLS comes first. */
static uint32_t silent_listeners(const struct server_options *options)
{
    uint32_t silent = 0;
    for (uint32_t i = 0; i < options->listener_count; i++)
        if (options->listeners[i].tls == SERVER_TLS_IMPLICIT)
            silent |= 1u << i;
    return silent;
}

static void use_options(struct server *server, const struct server_options *options)
{
    server->options = options;
    server->worker->options.silent_listeners = silent_listeners(options);
    server->context.hostname = bytes_of_string(options->hostname);
    server->context.message_size_max = options->message_size_max;
    server->context.recipients_max = options->recipients_max;
    make_texts(server);
    if (server->authenticator != NULL)
        authenticator_configure(server->authenticator, options->authentication);
    atomic_store(&server->options_seen, options);
}

static void drain_stream(struct worker *worker, struct stream *stream)
{
    (void)worker;
    if (stream->state == STREAM_OPEN)
        session_drain(stream_owner(stream));
}

static void hurry_stream(struct worker *worker, struct stream *stream)
{
    (void)worker;
    if (stream->state == STREAM_OPEN)
        session_hurry(stream_owner(stream));
}

/* drain: also a connection that was accepted but not seen yet may send its message. */
static void drain(struct server *server)
{
    if (!server->draining)
        server->drain_ms = (uint32_t)(server->worker->now_us / 1000);
    server->draining = true;
    worker_stop_accepting(server->worker);
    worker_each_stream(server->worker, drain_stream);
}

static void note_life(struct server *server, uint32_t notes)
{
    if (notes & SERVER_NOTE_RESUME) {
        server->draining = server->unwelcome = false;
        worker_accept_again(server->worker);
    }
    if (notes & (SERVER_NOTE_NOTICE | SERVER_NOTE_HURRY))
        server->unwelcome = true;
    if (notes & (SERVER_NOTE_YIELD | SERVER_NOTE_DRAIN))
        drain(server);
    if (notes & SERVER_NOTE_DRAIN)
        worker_stop(server->worker);
    if (notes & SERVER_NOTE_HURRY)
        worker_each_stream(server->worker, hurry_stream);
    if (notes & SERVER_NOTE_ABORT)
        worker_each_stream(server->worker, stream_abort);
}

static void noted(void *user, uint32_t notes)
{
    struct server *server = user;
    if (notes & SERVER_NOTE_CONFIGURE)
        use_options(server, atomic_load(&server->options_next));
    if (notes & SERVER_NOTE_TRACE)
        trace_look(server);
    note_life(server, notes);
}

void server_configure(struct server *server, const struct server_options *options)
{
    atomic_store(&server->options_next, options);
    worker_note(server->worker, SERVER_NOTE_CONFIGURE);
}

bool server_configured(const struct server *server, const struct server_options *options)
{
    return atomic_load(&server->options_seen) == options;
}

/* --- life --- */

static const struct stream_callbacks callbacks = {
    .opened = session_opened,
    .received = session_received,
    .writable = session_writable,
    .secured = session_secured,
    .timed_out = session_timed_out,
    .closed = session_closed,
};

static const struct worker_hooks hooks = {
    .accepted = accepted,
    .turn_end = turn_end,
    .falling_asleep = falling_asleep,
    .awake = awake,
    .noted = noted,
    .next_us = next_us,
};

/* init_chunks reserves address space; memory it becomes when it is used. */
static bool init_chunks(struct server *server, const struct server_setup *setup)
{
    uint64_t count = setup->hop == NULL ? 0 : setup->through_memory / COLLECTION_CHUNK;
    if (count == 0)
        return true;
    return count <= UINT32_MAX &&
           blocks_init_sized(&server->chunks, (uint32_t)count, COLLECTION_CHUNK);
}

static bool init_identities(struct server *server, const struct server_setup *setup)
{
    return setup->authentication == NULL ||
           blocks_init_sized(&server->identities, setup->worker.streams_max,
                             AUTHENTICATING_IDENTITY_SIZE);
}

static int init(struct server *server, struct worker *worker, const struct server_setup *setup)
{
    server->worker = worker;
    server->spool = setup->spool;
    server->staging = setup->staging;
    server->admission = setup->admission;
    server->rates = setup->rates;
    server->greylist = setup->greylist;
    server->signers = setup->signers;
    server->attempts = setup->attempts;
    server->quotas = setup->quotas;
    server->signers = setup->signers;
    server->index = setup->worker.index;
    server->connections_max = setup->options->connections_max;
    server->id_last =
        (spool_message_id_min(setup->spool) / LIMIT_PORTS + 1) * LIMIT_PORTS + server->index;
    server->log = log_port_new(setup->log, "worker");
    server->context.blocks = &worker->blocks;
    server->context.staging = setup->staging;
    server->context.chunks = &server->chunks;
    server->context.headers = &server->headers;
    server->hop = setup->hop;
    server->context.blocks_reserved = setup->worker.streams_max * 3;
    server->context.scratch = calloc(LIMIT_RECIPIENTS, sizeof(*server->context.scratch));
    list_init(&server->waiting);
    list_init(&server->aborting);
    list_init(&server->stalled);
    list_init(&server->handshakes);
    if (server->context.scratch == NULL ||
        !directory_expansion_init(&server->expansion, LIMIT_RECIPIENTS) ||
        !blocks_init_sized(&server->lines, setup->worker.streams_max, LIMIT_LINE) ||
        !blocks_init_sized(&server->names, setup->worker.streams_max, SESSION_HELO_MAX + 1) ||
        !fixups_pool_init(&server->headers, FIXUPS_LARGE) || !init_identities(server, setup) ||
        !init_chunks(server, setup))
        return -ENOMEM;
    use_options(server, setup->options);
    return 0;
}

/* stop lets go of what start has made. */
static void stop(struct server *server)
{
    if (server->authenticator != NULL)
        authenticator_free(server->authenticator);
    server->authenticator = NULL;
    shared_free(server->shared);
    server->shared = NULL;
    worker_cleanup(server->worker);
}

/* start makes what lives in the worker's turn. */
static int start(struct server *server, const struct server_setup *setup,
                 const struct worker_options *options, const char **what)
{
    int result = worker_init(server->worker, options, what);
    if (result < 0)
        return result;
    if (setup->sharing != NULL)
        server->shared = shared_new(server->worker, setup->sharing, server->log);
    if (setup->authentication != NULL)
        server->authenticator =
            authenticator_new(server->worker, setup->authentication, server->log);
    bool shares = setup->sharing == NULL || server->shared != NULL;
    if (shares && (setup->authentication == NULL || server->authenticator != NULL))
        return 0;
    *what = shares ? "memory for logins" : "memory for Redis";
    stop(server);
    return -ENOMEM;
}

/* wake_to_look is called by the thread that watches. */
static void wake_to_look(void *worker)
{
    worker_note(worker, SERVER_NOTE_TRACE);
}

int server_run(struct server *server, struct worker *worker, const struct server_setup *setup,
               _Atomic int *ready, const char **what)
{
    struct worker_options options = setup->worker;
    options.callbacks = callbacks;
    options.hooks = hooks;
    options.user = server;
    options.owner_size = sizeof(struct session);
    options.silent_listeners = silent_listeners(setup->options);
    *what = "memory";
    int result = init(server, worker, setup);
    if (result == 0)
        result = start(server, setup, &options, what);
    if (result == 0)
        trace_join(server, setup->trace, wake_to_look, worker);
    atomic_store(ready, result == 0 ? 1 : result);
    if (result == 0) {
        result = worker_run(worker);
        trace_leave(server);
        /* What clients were not told about is still published, so that it is not lost with this
         * thread. */
        staging_publish(server->staging, true);
        server_log_worker(server);
        stop(server);
    }
    blocks_cleanup(&server->lines);
    blocks_cleanup(&server->names);
    blocks_cleanup(&server->identities);
    blocks_cleanup(&server->chunks);
    fixups_pool_cleanup(&server->headers);
    directory_expansion_free(&server->expansion);
    free(server->context.scratch);
    server->context.scratch = NULL;
    return result;
}
