/* The front: see front.h. */
#include "tests/support/front.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "gateway/base/check.h"

enum { QUESTIONS_MAX = 64, WAIT_S = 10 };

struct front front;

/* The next hop: questions in the order in which they came. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t came;
    struct hop_question *questions[QUESTIONS_MAX];
    uint32_t count, taken;
} desk = {.mutex = PTHREAD_MUTEX_INITIALIZER, .came = PTHREAD_COND_INITIALIZER};

static void send_question(void *user, struct hop_question *question)
{
    (void)user;
    pthread_mutex_lock(&desk.mutex);
    CHECK(desk.count < QUESTIONS_MAX);
    desk.questions[desk.count++] = question;
    pthread_cond_signal(&desk.came);
    pthread_mutex_unlock(&desk.mutex);
}

static void wake(void *user)
{
    worker_wake(user);
}

static void *serve(void *user)
{
    const char *what;
    (void)user;
    CHECK(server_run(&front.server, &front.worker, &front.setup, &front.ready, &what) == 0);
    return NULL;
}

static struct directory *make_directory(void)
{
    static const struct {
        const char *name;
        uint32_t flags;
    } domains[] = {
        {"through.org", DIRECTORY_THROUGH  },
        {"ahead.org",   DIRECTORY_CALLAHEAD},
        {"plain.org",   0                  }
    };
    struct directory *directory = directory_new();
    const char *error;
    for (size_t i = 0; i < sizeof(domains) / sizeof(domains[0]); i++) {
        int index = directory_add_domain(directory, bytes_of_string(domains[i].name));
        CHECK(index >= 0 && directory_add_recipient(directory, index, BYTES("*")));
        directory_set_flags(directory, index, domains[i].flags);
    }
    CHECK(directory_add_alias(directory, BYTES("alias@through.org"), BYTES("bob@through.org"),
                              &error));
    return directory;
}

void front_start(uint64_t memory, bool asks)
{
    CHECK(help_try_open(&front.help));
    front.staging = spool_port(front.help.spool, wake, &front.worker);
    CHECK(front.staging != NULL && spool_start(front.help.spool) == 0);
    front.options = (struct server_options){
        .hostname = "mx.example.org",
        .directory = make_directory(),
        .connections_max = 20,
        .connections_per_ip_max = 20,
        .message_size_max = 10 << 20,
        .recipients_max = 5,
        .bad_commands_max = 10,
        .command_timeout_s = 60,
        .data_timeout_s = 60,
        .through_patience_ms = 5000,
        .greylist = front.rules,
        .listeners = front.words,
        .listener_count = front.words != NULL,
        .authentication = front.authentication != NULL ? front.authentication->rules : NULL,
        .attempts = front.attempt_limits,
        .auth_delay_ms = front.auth_delay_ms,
    };
    front.address = (union address_any){.v4 = {.sin_family = AF_INET}};
    front.address.v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    front.listener = listener_open(&front.address);
    assert_true(front.listener >= 0);
    front.hop = (struct hop){.send = send_question};
    front.setup = (struct server_setup){
        .options = &front.options,
        .spool = front.help.spool,
        .staging = front.staging,
        .admission = admission_new(20),
        .greylist = front.greylist,
        .sharing = front.sharing,
        .attempts = front.attempts,
        .authentication = front.authentication,
        .log = front.help.log,
        .hop = asks ? &front.hop : NULL,
        .through_memory = memory,
        .worker = {.cpu = -1,
                   .streams_max = 20,
                   .blocks_max = 400,
                   .buffer_count = 64,
                   .buffer_size = 8192,
                   .listeners = &front.listener,
                   .listener_count = 1},
    };
    desk.count = desk.taken = 0;
    front.ready = 0;
    assert_int_equal(pthread_create(&front.thread, NULL, serve, NULL), 0);
    while (atomic_load(&front.ready) == 0)
        usleep(1000);
    assert_int_equal(front.ready, 1);
}

int front_set_up(void **state)
{
    (void)state;
    memset(&front, 0, sizeof(front));
    help_new(&front.help);
    front.help.options.staging_size = 1 << 20; /* less than a big message */
    front.help.options.segment_size = 64 << 20;
    return 0;
}

void front_gone(void)
{
    pthread_join(front.thread, NULL);
    CHECK(front.worker.expected == 0 && front.server.chunks.used == 0);
    close(front.listener);
    admission_free(front.setup.admission);
    directory_free((struct directory *)(uintptr_t)front.options.directory);
}

void front_stop(void)
{
    worker_note(&front.worker, SERVER_NOTE_DRAIN);
    front_gone();
}

int front_tear_down(void **state)
{
    (void)state;
    help_free(&front.help);
    return 0;
}

/* --- the client --- */

int front_call(void)
{
    int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval limit = {.tv_sec = WAIT_S};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    assert_int_equal(connect(client, &front.address.any, sizeof(front.address.v4)), 0);
    return client;
}

void front_say(int client, const char *text)
{
    size_t len = strlen(text);
    assert_int_equal(send(client, text, len, MSG_NOSIGNAL), len);
}

/* hear reads one line, which must begin so, and returns it until the next call. */
const char *front_hear(int client, const char *start)
{
    static char line[2048];
    size_t len = 0;
    while (len < sizeof(line) - 1 && recv(client, line + len, 1, 0) == 1)
        if (line[len++] == '\n')
            break;
    line[len] = '\0';
    if (strncmp(line, start, strlen(start)) != 0)
        fprintf(stderr, "wanted: %s\nheard:  %s\n", start, line);
    assert_int_equal(strncmp(line, start, strlen(start)), 0);
    return line;
}

void front_hears_nothing(int client)
{
    char octet;
    usleep(50000);
    assert_int_equal(recv(client, &octet, 1, MSG_DONTWAIT), -1);
}

/* greet begins a session, and a transaction. */
int front_greet(void)
{
    int client = front_call();
    front_hear(client, "220 ");
    front_say(client, "HELO me.example\r\n");
    front_hear(client, "250 mx.example.org");
    front_say(client, "MAIL FROM:<sender@example.com>\r\n");
    front_hear(client, "250 2.1.0 ");
    return client;
}

/* --- the next hop --- */

/* asked waits for the next question. */
struct hop_question *front_asked(enum hop_ask ask)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += WAIT_S;
    pthread_mutex_lock(&desk.mutex);
    while (desk.taken == desk.count)
        assert_int_equal(pthread_cond_timedwait(&desk.came, &desk.mutex, &limit), 0);
    struct hop_question *question = desk.questions[desk.taken++];
    pthread_mutex_unlock(&desk.mutex);
    assert_int_equal(question->ask, ask);
    assert_int_equal(question->patience_us, 5000000);
    return question;
}

void front_nobody_asked(void)
{
    pthread_mutex_lock(&desk.mutex);
    assert_int_equal(desk.taken, desk.count);
    pthread_mutex_unlock(&desk.mutex);
}

void front_answer(struct hop_question *question, enum hop_answer answer, unsigned code,
                  const char *text)
{
    bool goes_on = question->ask == HOP_RECIPIENT && answer != HOP_UNREACHABLE;
    question->answer = answer;
    question->code = (uint16_t)code;
    question->status_class = (uint8_t)(code / 100);
    question->status_subject = 7;
    question->status_detail = 9;
    question->passage = goes_on ? (struct hop_passage *)(void *)&front.passage : NULL;
    snprintf(question->text, sizeof(question->text), "%s", text);
    hop_return(question);
}

/* ended answers a HOP_END. */
void front_ended(void)
{
    struct hop_question *question = front_asked(HOP_END);
    assert_ptr_equal(question->passage, &front.passage);
    front_answer(question, HOP_ACCEPTED, 0, "");
}

/* accept lets the next hop take a recipient. */
void front_accept(int client, const char *mailbox)
{
    char line[128];
    snprintf(line, sizeof(line), "RCPT TO:<%s>\r\n", mailbox);
    front_say(client, line);
    struct hop_question *question = front_asked(HOP_RECIPIENT);
    assert_true(bytes_equal(question->forward_path, bytes_of_string(mailbox)));
    assert_true(bytes_equal(question->reverse_path, BYTES("sender@example.com")));
    front_answer(question, HOP_ACCEPTED, 250, "taken");
    front_hear(client, "250 2.7.9 taken\r\n");
}

/* --- the spool --- */

static int add_octets(void *user, struct bytes text)
{
    struct front_message *seen = user;
    for (size_t i = 0; i < text.len; i++)
        CHECK(text.data[i] == (uint8_t)('a' + (seen->text_len + i) % 64 % 23) ||
              (seen->text_len + i) % 64 >= 62);
    seen->text_len += text.len;
    return 0;
}

/* spooled waits for a message and compares. */
void front_spooled(const struct front_message *expected)
{
    struct spool_message *message = help_arrivals(&front.help, 1);
    struct spool_reader reader = {0};
    struct envelope envelope;
    struct front_message seen = {.text_len = 0};
    assert_int_equal(spool_read(front.help.spool, message, &reader, &envelope), 0);
    assert_int_equal(envelope.recipient_count, expected->count);
    struct bytes form = spool_read_form(&reader);
    for (uint32_t i = 0; i < expected->count && i < 3; i++)
        assert_non_null(
            memmem(form.data, form.len, expected->recipients[i], strlen(expected->recipients[i])));
    assert_int_equal(spool_read_text(&reader, add_octets, &seen), 0);
    assert_int_equal(seen.text_len, expected->text_len);
    spool_read_close(&reader);
    free(message);
}

void front_nothing_spooled(void)
{
    struct spool_message message;
    assert_int_equal(spool_arrivals(front.help.spool, &message, 1), 0);
}

/* lines returns text of this length (a multiple of 64) in lines, owned. */
static char *lines(size_t len)
{
    char *text = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        text[i] = i % 64 == 62 ? '\r' : i % 64 == 63 ? '\n' : (char)('a' + i % 64 % 23);
    text[len] = '\0';
    return text;
}

void front_say_text(int client, size_t len)
{
    char *text = lines(len);
    front_say(client, "DATA\r\n");
    front_hear(client, "354 ");
    for (size_t at = 0; at < len;) {
        ssize_t sent = send(client, text + at, len - at, MSG_NOSIGNAL);
        assert_true(sent > 0);
        at += (size_t)sent;
    }
    free(text);
    front_say(client, ".\r\n");
}
