/* libFuzzer: a whole SMTP session, from the PROXY header on, from receive buffers to records in the
 * staging ring. Real are the server, the session, the stream and the ring; this file plays the
 * kernel (it fills receive buffers and completes sends), the writer (tests/support/tape), and the
 * client, who sends the input in pieces that the input chooses.
 *
 * Besides that nothing crashes or leaks: the client's view is checked by tests/support/critic.
 *
 * The upper two bits of the first octet are the listener's enum server_tls. Where TLS is offered
 * the client sends its input in clear, also behind STARTTLS, and must hear nothing in clear after
 * 220. Where TLS is implicit it makes a good handshake and sends its input inside, a piece a
 * record.
 *
 * tests/support/oracle is the next hop of those domains that are asked about.
 *
 * Input: an octet of enum option bits; an octet n with bits of enum edge; n % 16 octets, one for
 * each piece in turn (see feed); what the client sends. */
#include "gateway/receive/server.c" /* its turn is private */

#include "gateway/io/stream_inside.h"
#include "gateway/receive/verbs.h"
#include "parser/proxy.h"
#include "tests/support/critic.h"
#include "tests/support/oracle.h"
#include "tests/support/tape.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum option {
    OPTION_SMALL_MESSAGES = 1 << 0,
    OPTION_FEW_BLOCKS = 1 << 1,
    OPTION_FEW_RECIPIENTS = 1 << 2,
    OPTION_FEW_ERRORS = 1 << 3,
    OPTION_FAILURES = 1 << 4, /* the writer fails now and then */
    OPTION_RESET = 1 << 5,    /* the client ends with a reset, in the middle of things */
    OPTION_TLS_SHIFT = 6,
};

enum edge {
    EDGE_NO_MEMORY = 1 << 4, /* for text that is passed through */
    EDGE_PROXY = 1 << 5,     /* a PROXY header is required, in front of everything */
    EDGE_XCLIENT = 1 << 6,   /* the client may say XCLIENT */
    EDGE_DELAY = 1 << 7,     /* there is a pause before the greeting; the client waits for it when
                                n % 16 is even */
};

enum { BUFFERS = 32, BUFFER_SIZE = 2048, REPLIES_MAX = 1 << 20, TURNS_MAX = 100000 };

static struct worker worker;
static struct server server;
static struct server_options options;
static struct server_listener listener;
static struct tls_context *client_context;
static struct tls *client;        /* the client's end of TLS; NULL: in clear */
static bool client_ready;         /* its handshake is done */
static uint8_t incoming[1 << 16]; /* what has come to the client, without its whole records */
static size_t incoming_len;
static struct bell bell;
static struct tape tape;
static struct oracle oracle;
static struct spool *spool;
static struct log *log_to_nowhere;
static struct stream *stream; /* NULL: freed */
static uint32_t buffer_head;  /* of the ring of buffers: the next that the kernel would take */
static uint32_t outcomes;     /* batches that the writer has finished */
static uint32_t kept;         /* messages answered 250 */
static bool failing;
static uint8_t edge; /* bits of enum edge */
static struct networks *everybody;
static uint8_t replies[REPLIES_MAX];
static size_t replies_len;

static void insist(bool truth)
{
    if (!truth)
        abort();
}

/* --- surroundings, made once --- */

static void recovered(void *user, const struct spool_recovered *message)
{
    (void)user;
    (void)message;
}

static void make_spool(void)
{
    static char path[] = "/tmp/ringmx-fuzz-XXXXXX";
    static const uint8_t uuid[16] = {1};
    char error[256];
    insist(mkdtemp(path) != NULL);
    struct spool_options with = {
        .path = path,
        .segment_size = 1 << 20,
        .sync = SPOOL_SYNC_NONE,
        .staging_size = 1 << 20,
        .ready_count = 1,
        .writer_cpu = -1,
        .uuid = uuid,
        .log = log_to_nowhere,
    };
    spool = spool_open(&with, recovered, NULL, error, sizeof(error));
    insist(spool != NULL);
    /* It is only asked for its state: nothing need lie about afterwards. */
    DIR *directory = opendir(path);
    struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL)
        (void)unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    (void)rmdir(path);
}

/* make_contexts makes both ends of TLS, with a certificate made on the spot. */
static void make_contexts(void)
{
    static struct tls_context *context;
    char chain[] = "/tmp/ringmx-fuzz-chain-XXXXXX", key[] = "/tmp/ringmx-fuzz-key-XXXXXX";
    char error[256];
    close(mkstemp(chain)); /* names that are free again */
    close(mkstemp(key));
    insist(unlink(chain) == 0 && unlink(key) == 0);
    insist(certificate_make_self_signed("mx.example.org", chain, key, error, sizeof(error)));
    struct certificate *certificate = certificate_load(chain, key, error, sizeof(error));
    insist(certificate != NULL && unlink(chain) == 0 && unlink(key) == 0);
    const struct tls_server_options server_side = {.certificates = &certificate,
                                                   .certificate_count = 1};
    const struct tls_client_options client_side = {.version_max = TLS_1_3};
    context = tls_context_server(&server_side, error, sizeof(error));
    client_context = tls_context_client(&client_side, error, sizeof(error));
    insist(context != NULL && client_context != NULL);
    listener.contexts = &context;
}

static void make_surroundings(void)
{
    const struct log_options quiet = {.descriptor = open("/dev/null", O_WRONLY),
                                      .level = LOG_ERROR};
    const struct uring_options ring_options = {.entries = 64, .cq_entries = 256};
    int error;
    log_to_nowhere = log_new(&quiet);
    make_spool();
    make_contexts();
    everybody = networks_new();
    insist(everybody != NULL && networks_add(everybody, "0.0.0.0/0") == NETWORKS_ADDED &&
           networks_add(everybody, "::/0") == NETWORKS_ADDED);
    options = (struct server_options){
        .hostname = "mx.example.org",
        .directory = oracle_directory(),
        .listeners = &listener,
        .listener_count = 1,
        .connections_max = 10,
        .connections_per_ip_max = 10,
        .command_timeout_s = 300,
        .data_timeout_s = 600,
        .data_rate_min = 1,
        .message_size_max = 1 << 20,
        .recipients_max = 100,
        .bad_commands_max = 20,
    };
    worker.ring = uring_new(&ring_options, &error);
    insist(worker.ring != NULL &&
           buffers_init(&worker.buffers, worker.ring, BUFFERS, BUFFER_SIZE) == 0 &&
           blocks_init_sized(&worker.records, 1, TLS_RECORD_MAX));
    insist(slots_init(&worker.slots, sizeof(struct stream) + sizeof(struct session), 4));
    list_init(&worker.dirty);
    list_init(&worker.starved);
    list_init(&worker.streams);
    worker.now_us = 1000000000;
    worker.now_wall_us = 1795292715000000;
    timer_wheel_init(&worker.timers, worker.now_us);
    worker.options.callbacks = callbacks;
    worker.options.user = &server;
    tape.staging = staging_new(1 << 20, &bell, NULL, NULL);
    insist(tape.staging != NULL);
    static const struct hop hop = {oracle_ask, &oracle};
    struct server_setup setup = {
        .hop = &hop,
        .through_memory = 4 * COLLECTION_CHUNK,
        .options = &options,
        .spool = spool,
        .staging = tape.staging,
        .admission = admission_new(10),
        .log = log_to_nowhere,
    };
    setup.worker.streams_max = 1;
    insist(setup.admission != NULL && init(&server, &worker, &setup) == 0);
}

/* --- the kernel's part --- */

static void flush_dirty(void)
{
    struct list_node *node;
    while ((node = list_pop(&worker.dirty)) != NULL) {
        stream_flush(&worker, list_entry(node, struct stream, dirty));
        if (worker.slots.used == 0)
            stream = NULL;
    }
}

static void hear(const uint8_t *text, size_t len)
{
    insist(replies_len + len <= REPLIES_MAX);
    memcpy(replies + replies_len, text, len);
    replies_len += len;
}

static void forget_incoming(size_t len)
{
    memmove(incoming, incoming + len, incoming_len - len);
    incoming_len -= len;
}

/* open_records is the client that reads its whole records. */
static void open_records(void)
{
    while (client_ready && incoming_len >= TLS_HEADER_LEN) {
        uint8_t *text;
        size_t text_len;
        size_t len = tls_record_len(incoming, incoming_len);
        insist(len > 0);
        if (len > incoming_len)
            return;
        enum tls_opened opened = tls_open(client, incoming, len, &text, &text_len);
        insist(opened != TLS_BROKEN);
        if (opened == TLS_TEXT)
            hear(text, text_len);
        forget_incoming(len);
    }
}

/* complete_send lets what is on its way arrive. */
static void complete_send(void)
{
    if (stream == NULL || !stream->send_in_flight)
        return;
    size_t len = (size_t)(stream->sending_len - stream->sending_at);
    const uint8_t *octets = stream->sending + stream->sending_at;
    if (client == NULL) {
        hear(octets, len);
    } else {
        insist(incoming_len + len <= sizeof(incoming));
        memcpy(incoming + incoming_len, octets, len);
        incoming_len += len;
        open_records();
    }
    stream_send_done(&worker, stream, (int)len);
}

static void turn(bool settle_too, bool send_too)
{
    static const enum staging_outcome failures[] = {STAGING_FAILED, STAGING_DISK_FULL};
    if (settle_too) {
        bool fail = failing && ++outcomes % 3 == 0;
        tape_read(&tape, fail ? failures[outcomes % 2] : STAGING_DURABLE);
        insist(tape.fault[0] == '\0');
    }
    if (send_too)
        complete_send();
    oracle_turn(&oracle);
    post_hear(&worker);
    turn_end(&server);
    flush_dirty();
    worker.now_us += 1000;
    worker.now_wall_us += 1000;
}

/* is_held: a reply waits for its time. */
static bool is_held(void)
{
    const struct session *session = stream == NULL ? NULL : stream_owner(stream);
    return session != NULL && stream->state == STREAM_OPEN && session->mode == SESSION_TARPIT;
}

/* settle_all turns until nothing moves any more. */
static void settle_all(void)
{
    for (int i = 0; i < TURNS_MAX; i++) {
        turn(true, true);
        bool quiet = (stream == NULL || !stream->send_in_flight) && list_empty(&worker.dirty) &&
                     list_empty(&server.waiting) && list_empty(&server.aborting) &&
                     list_empty(&server.stalled) && !staging_unpublished(tape.staging) &&
                     oracle.out_count == 0;
        if (quiet && !is_held())
            return;
        if (quiet) {
            worker.now_us += (uint64_t)options.tarpit_s * 1000000;
            stream_timer_fired(&worker, &stream->timer);
        }
        if (staging_unpublished(tape.staging))
            staging_publish(tape.staging, true);
    }
    insist(false); /* it never comes to rest */
}

/* receive brings octets in one buffer, as the kernel does. */
static void receive(const uint8_t *data, size_t len)
{
    buffers_lend(&worker.buffers);
    insist(worker.buffers.given > 0);
    struct io_uring_buf_ring *ring = worker.buffers.ring;
    uint16_t buffer = ring->bufs[buffer_head++ & (BUFFERS - 1)].bid;
    buffers_taken(&worker.buffers);
    memcpy(buffers_data(&worker.buffers, buffer), data, len);
    memset(buffers_data(&worker.buffers, buffer) + len, '\n', BUFFER_SIZE - len);
    stream_receive_done(&worker, stream, (int)len, buffer, true, true);
}

/* arrive brings octets in as many buffers as they need. */
static void arrive(const uint8_t *data, size_t len)
{
    while (len > 0 && stream != NULL && stream->state == STREAM_OPEN) {
        size_t part = len < BUFFER_SIZE ? len : BUFFER_SIZE;
        buffers_lend(&worker.buffers);
        if (worker.buffers.given == 0)
            settle_all(); /* held ones come home */
        if (stream == NULL || stream->state != STREAM_OPEN)
            return;
        receive(data, part);
        data += part;
        len -= part;
    }
}

/* send_piece sends a piece of the input: as it is, or in a record, which comes in two parts. */
static void send_piece(const uint8_t *data, size_t len)
{
    static uint8_t record[BUFFER_SIZE + TLS_FRONT_MAX + TLS_BACK_MAX];
    if (client == NULL) {
        arrive(data, len);
        return;
    }
    size_t record_len = tls_seal(client, record, data, len);
    size_t first = (size_t)data[0] * 7 % record_len;
    insist(record_len > 0);
    arrive(record, first);
    arrive(record + first, record_len - first);
}

/* shake makes the client's handshake. It need not come to an end: there may be too few blocks. */
static void shake(void)
{
    static uint8_t out[BUFFER_SIZE];
    for (int i = 0; i < 10 && !client_ready && stream != NULL; i++) {
        struct tls_io io = {
            .in = incoming, .in_len = incoming_len, .out = out, .out_room = sizeof(out)};
        enum tls_status status = tls_handshake(client, &io);
        insist(status == TLS_INPUT || status == TLS_READY);
        client_ready = status == TLS_READY;
        forget_incoming(io.in_taken);
        arrive(out, io.out_len);
        turn(true, true);
    }
    open_records();
}

/* feed sends the input. Of a piece's octet the low six bits are its length (63: as much as there
 * is), the two above say what happens after it: nothing, or a turn with the writer or the sender
 * asleep, or a whole turn. */
static void feed(struct bytes in, struct bytes cuts)
{
    for (size_t number = 0; in.len > 0 && stream != NULL && stream->state == STREAM_OPEN;
         number++) {
        uint8_t cut = cuts.len == 0 ? 0xff : cuts.data[number % cuts.len];
        size_t len = (cut & 63) == 63 ? BUFFER_SIZE : (cut & 63) + 1u;
        len = len < in.len ? len : in.len;
        send_piece(in.data, len);
        in = bytes_skip(in, len);
        if (cut >> 6 != 0)
            turn(cut >> 6 != 1, cut >> 6 != 2);
    }
}

/* check_replies lets a reader that knows SMTP only from outside look at all that came. */
static void check_replies(struct bytes in)
{
    const struct critic_dialog dialog = {
        .said = in,
        .replies = bytes_make(replies, replies_len),
        .starttls = client == NULL &&
                    (listener.tls == SERVER_TLS_STARTTLS || listener.tls == SERVER_TLS_REQUIRED),
        .xclient = edge & EDGE_XCLIENT,
        .pause = edge & EDGE_DELAY,
    };
    insist(critic_judge(&dialog) == kept);
}

/* --- one session --- */

static void begin(uint8_t bits)
{
    server.chunks.count = edge & EDGE_NO_MEMORY ? 0 : 4;
    listener.proxy = edge & EDGE_PROXY ? everybody : NULL;
    listener.xclient = edge & EDGE_XCLIENT ? everybody : NULL;
    options.greet_delay_s = edge & EDGE_DELAY ? 1 : 0;
    options.message_size_max = bits & OPTION_SMALL_MESSAGES ? 100 : 1 << 20;
    options.recipients_max = bits & OPTION_FEW_RECIPIENTS ? 2 : 100;
    options.bad_commands_max = bits & OPTION_FEW_ERRORS ? 2 : 20;
    options.tarpit_s = bits & OPTION_FEW_RECIPIENTS ? 2 : 0;
    options.tarpit_after = 1;
    failing = bits & OPTION_FAILURES;
    listener.tls = (enum server_tls)(bits >> OPTION_TLS_SHIFT);
    use_options(&server, &options);
    insist(blocks_init(&worker.blocks, bits & OPTION_FEW_BLOCKS ? 6 : 600));
    server.draining = false;
    replies_len = 0;
    kept = 0;
    atomic_store(&server.counters.messages, 0);
    uint32_t slot;
    memset(&worker.accepted_address, 0, sizeof(worker.accepted_address));
    worker.accepted_address.v4.sin_family = AF_INET;
    insist(accepted(&server, -1, &worker.accepted_address));
    stream = slots_take(&worker.slots, &slot);
    stream->slot = slot;
    stream->descriptor = -1;
    stream->receive_armed = true; /* this file is the kernel */
    stream->cancelling = true;
    stream->requests_out = 1;
    incoming_len = 0;
    client_ready = false;
    if (listener.tls == SERVER_TLS_IMPLICIT) {
        client = tls_client(client_context, NULL, NULL);
        insist(client != NULL);
    }
    stream_start(&worker, stream);
}

/* wait_greeting lets the pause before it pass. */
static void wait_greeting(void)
{
    turn(true, true);
    worker.now_us += 2000000;
    if (stream != NULL && stream->state == STREAM_OPEN)
        stream_timer_fired(&worker, &stream->timer);
    turn(true, true);
}

/* send_header sends the PROXY header before TLS, and nothing else. False: there is none. */
static bool send_header(struct bytes *in)
{
    struct proxy header;
    bool right = proxy_parse(*in, &header) == PROXY_OK;
    size_t len = right ? header.len : in->len;
    arrive(in->data, len);
    *in = bytes_skip(*in, len);
    return right;
}

/* skip_header takes the header off what the client has sent. False: there is none. */
static bool skip_header(struct bytes *in)
{
    struct proxy header;
    bool right = proxy_parse(*in, &header) == PROXY_OK;
    *in = bytes_skip(*in, right ? header.len : in->len);
    return right;
}

/* finish ends the connection from the client's side and waits until the kernel owes nothing. */
static void finish(int result)
{
    if (stream != NULL)
        stream_receive_done(&worker, stream, result, 0, false, false);
    for (int i = 0; i < 10 && stream != NULL; i++) {
        turn(true, true);
        if (stream != NULL && stream->send_in_flight && stream->state == STREAM_CLOSING)
            stream_send_done(&worker, stream, -ECANCELED);
        while (stream != NULL && stream->requests_out > stream->send_in_flight)
            stream_cancel_done(&worker, stream);
    }
    insist(stream == NULL);
    settle_all();
    tls_free(client);
    client = NULL;
}

static void check_home(void)
{
    struct completion completions[64];
    insist(server.lines.used == 0 && server.names.used == 0 && server.chunks.used == 0);
    insist(oracle_at_rest(&oracle) && worker.expected == 0);
    insist(worker.records.used == 0 && worker.blocks.used == 0 &&
           worker.buffers.given + worker.buffers.home_count == BUFFERS && worker.slots.used == 0);
    insist(list_empty(&worker.streams) && list_empty(&worker.starved) && worker.timers.count == 0);
    insist(admission_count(server.admission) == 0);
    insist(failing || tape_open_count(&tape) == 0);
    while (uring_wait(worker.ring, 0, completions, 64) > 0)
        ;
    for (int i = 0; i < TAPE_OPEN_MAX; i++) { /* what a failed batch has lost */
        free(tape.open[i].text);
        tape.open[i] = (struct tape_message){0};
    }
    blocks_cleanup(&worker.blocks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    if (spool == NULL)
        make_surroundings();
    uint8_t bits = data[0];
    size_t cut_count = data[1] % 16;
    struct bytes cuts = bytes_skip(bytes_make(data, size), 2);
    struct bytes in = bytes_skip(cuts, cut_count);
    cuts.len -= in.len;

    edge = data[1];
    begin(bits);
    flush_dirty();
    bool headed = true;
    if (client != NULL && (edge & EDGE_PROXY))
        headed = send_header(&in);
    if (client != NULL && headed)
        shake();
    if ((edge & EDGE_DELAY) && !(edge & EDGE_PROXY) && cut_count % 2 == 0)
        wait_greeting();
    if ((client == NULL || client_ready) && headed)
        feed(in, cuts);
    if (edge & EDGE_DELAY)
        wait_greeting();
    if (client == NULL && (edge & EDGE_PROXY))
        headed = skip_header(&in);
    if (!headed) {
        settle_all();
        insist(replies_len == 0);
    } else if (!(bits & OPTION_RESET)) {
        settle_all();
        insist(stream == NULL || stream->state != STREAM_OPEN || !stream->paused);
        kept = (uint32_t)atomic_load(&server.counters.messages);
        if (!(bits & OPTION_FEW_BLOCKS)) {
            insist(client == NULL || (client_ready && incoming_len == 0));
            check_replies(in);
        }
    }
    finish(bits & OPTION_RESET ? -ECONNRESET : 0);
    check_home();
    return 0;
}
