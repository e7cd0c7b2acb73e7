/* The client against servers that mostly do what they should, and now and then, by chance, anything
 * else: another reply, two, none, a part of one, the end. Whatever they do: each delivery comes
 * back once, with verdicts that somebody has earned, nothing is left behind, and nobody waits for
 * ever (tests/support/postman checks it). RINGMX_SEED repeats the choices. */
#include "gateway/base/check.h"
#include "tests/support/postman.h"

#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROUNDS = 200, LINE_ROOM = 4096, TEXT_LEN = 400000 };

/* The server's thread owns its own random numbers, so that its choices are its own. */
struct random {
    uint64_t state;
};

static uint32_t below(struct random *random, uint32_t limit)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return (uint32_t)((random->state >> 32) * limit >> 32);
}

/* --- the server --- */

struct server {
    struct random random;
    int listener, descriptor;
    struct sockaddr_in address;
    pthread_t thread;
    uint32_t oddness; /* of a thousand replies so many are odd */
    bool lmtp;
    char in[LINE_ROOM];
    size_t in_len, in_at;
    uint32_t accepted, delivered; /* recipients of this transaction; texts it said 250 to */
};

static bool say(struct server *server, const char *text)
{
    size_t len = strlen(text);
    return send(server->descriptor, text, len, MSG_NOSIGNAL) == (ssize_t)len;
}

/* odd says something that fits no rule. False: it was the end. */
static bool odd(struct server *server)
{
    static const char *const words[] = {
        "250 ok\r\n",
        "550 5.1.1 no\r\n",
        "450 later\r\n",
        "354 go\r\n",
        "421 bye\r\n",
        "250-and\r\n",
        "220 hi\r\n",
        "250 a\r\n250 b\r\n",
        "354 a\r\n354 b\r\n",
        "25",
        "x\r\n",
        "\r\n",
        "550 a\r\n250 b\r\n",
        "250 a\r\n421 b\r\n",
        "\n250 ok\n",
        "250-a\r\n550 b\r\n",
        "503 a\r\n503 b\r\n503 c\r\n",
        "552 too big\r\n",
    };
    switch (below(&server->random, 4)) {
    case 0: return false;
    case 1: return true; /* nothing */
    default: return say(server, words[below(&server->random, sizeof(words) / sizeof(*words))]);
    }
}

/* answer says a reply, as a rule. */
static bool answer(struct server *server, const char *reply)
{
    if (below(&server->random, 1000) < server->oddness)
        return odd(server);
    if (below(&server->random, 50) == 0)
        usleep(below(&server->random, 3000));
    return say(server, reply);
}

static int next_octet(struct server *server)
{
    if (server->in_at == server->in_len) {
        ssize_t got = recv(server->descriptor, server->in, sizeof(server->in), 0);
        if (got <= 0)
            return -1;
        server->in_at = 0;
        server->in_len = (size_t)got;
    }
    return (uint8_t)server->in[server->in_at++];
}

static bool read_line(struct server *server, char *line)
{
    size_t len = 0;
    for (int octet = 0; octet != '\n'; line[len++] = (char)octet) {
        octet = next_octet(server);
        if (octet < 0 || len == LINE_ROOM - 1)
            return false;
    }
    line[len] = '\0';
    return true;
}

static bool read_text(struct server *server)
{
    char line[LINE_ROOM];
    do
        if (!read_line(server, line))
            return false;
    while (strcmp(line, ".\r\n") != 0);
    return true;
}

static bool finals(struct server *server)
{
    uint32_t count = server->lmtp ? server->accepted : 1;
    const char *reply = server->accepted == 0 ? "503 nobody\r\n" : "250 2.0.0 saved\r\n";
    if (server->accepted == 0 && server->lmtp)
        count = below(&server->random, 2);
    server->accepted = 0;
    while (count-- > 0)
        if (!answer(server, below(&server->random, 8) == 0 ? "451 4.3.0 hm\r\n" : reply))
            return false;
    return true;
}

static bool obey(struct server *server, const char *line)
{
    static const char *const offers[] = {
        "250 HELP\r\n",
        "250-a\r\n250 PIPELINING\r\n",
        "250-a\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
        "250-a\r\n250-DSN\r\n250-SIZE 100000\r\n250 CHUNKING\r\n",
    };
    bool refuse = below(&server->random, 5) == 0;
    if (strncmp(line + 1, "HLO", 3) == 0)
        return answer(server, offers[below(&server->random, 4)]);
    if (strncmp(line, "MAIL", 4) == 0) {
        server->accepted = 0;
        return answer(server, "250 2.1.0 ok\r\n");
    }
    if (strncmp(line, "RCPT", 4) == 0) {
        server->accepted += !refuse;
        return answer(server, refuse ? "550 5.1.1 who\r\n" : "250 2.1.5 ok\r\n");
    }
    if (strncmp(line, "DATA", 4) == 0) {
        if (server->accepted == 0 && below(&server->random, 2) == 0)
            return answer(server, "503 nobody\r\n");
        return answer(server, "354 go\r\n") && read_text(server) && finals(server);
    }
    if (strncmp(line, "BDAT ", 5) == 0) {
        for (unsigned long left = strtoul(line + 5, NULL, 10); left > 0; left--)
            if (next_octet(server) < 0)
                return false;
        return finals(server);
    }
    if (strncmp(line, "QUIT", 4) == 0)
        return answer(server, "221 bye\r\n") && false;
    return answer(server, strncmp(line, "RSET", 4) == 0 ? "250 ok\r\n" : "500 what\r\n");
}

static void *run(void *argument)
{
    struct server *server = argument;
    struct timeval patience = {.tv_usec = 100000}; /* one that hears nothing leaves */
    char line[LINE_ROOM];
    while ((server->descriptor = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        setsockopt(server->descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        server->in_at = server->in_len = 0;
        if (answer(server, "220 mx.test\r\n"))
            while (read_line(server, line) && obey(server, line))
                ;
        close(server->descriptor);
    }
    return NULL;
}

static void start(struct server *server, uint64_t seed)
{
    socklen_t len = sizeof(server->address);
    int room = 8192;
    memset(server, 0, sizeof(*server));
    server->random.state = seed * 88172645463325253U | 1;
    server->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(server->listener >= 0);
    setsockopt(server->listener, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
    CHECK(bind(server->listener, (struct sockaddr *)&server->address, len) == 0);
    CHECK(listen(server->listener, 4) == 0);
    CHECK(getsockname(server->listener, (struct sockaddr *)&server->address, &len) == 0);
}

/* --- the client's side --- */

static struct postman postman;
static struct parcel parcels[4];
static struct random chance;
static char text[TEXT_LEN];

static void go_on(struct parcel *from, uint32_t index)
{
    struct delivery *delivery = &from->delivery;
    if (index == UINT32_MAX)
        return;
    switch (below(&chance, 6)) {
    case 0: client_cancel(delivery->client); break;
    case 1: delivery->recipient_count += delivery->recipient_count < 20; break;
    default: delivery->text_ready = true; break;
    }
    client_continue(delivery->client);
}

/* A stepwise delivery that its owner has not ended in time is cancelled; some others, too. */
static void meddle(struct postman *from)
{
    if (from->client == NULL || from->turns % 64 != 0)
        return;
    from->inside = true;
    if (below(&chance, 3) == 0)
        client_cancel(from->client);
    else if (below(&chance, 40) == 0)
        client_quit(from->client);
    from->inside = false;
}

static void pack(uint32_t round)
{
    for (int i = 0; i < 3; i++) {
        static const uint32_t lens[] = {0, 30, 3000, 60000, TEXT_LEN};
        struct parcel *parcel = &parcels[i];
        parcel_make(parcel, text, lens[below(&chance, 5)], 1 + below(&chance, 8));
        parcel->piece_max = below(&chance, 2) == 0 ? 0 : 1 + below(&chance, 70000);
        parcel->delivery.stepwise = below(&chance, 3) == 0;
        parcel->on_answered = go_on;
        postman.parcels[i] = parcel;
    }
    postman.on_turn = round % 2 == 0 ? meddle : NULL;
    /* Who only waits for its owner would wait for ever without one that cancels. */
    for (int i = 0; i < 3 && round % 2 != 0; i++)
        parcels[i].delivery.stepwise = false;
}

static uint32_t play(struct server *server, uint32_t round)
{
    void *none = NULL, *baseline = &none;
    uint32_t delivered = 0;
    server->lmtp = round % 3 == 0;
    server->oddness = round % 5 == 0 ? 0 : 20 + round % 100;
    CHECK(pthread_create(&server->thread, NULL, run, server) == 0);
    postman_init(&postman, round % 4 == 0 ? &baseline : &none, NULL);
    memcpy(&postman.peer.address, &server->address, sizeof(server->address));
    postman.peer.address_len = sizeof(server->address);
    postman.peer.lmtp = server->lmtp;
    pack(round);
    postman_run(&postman);
    postman_free(&postman);
    shutdown(server->listener, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->listener);
    for (uint32_t i = 0; i < postman.next; i++)
        for (uint32_t j = 0; j < parcels[i].delivery.recipient_count; j++) {
            const struct verdict *verdict = &parcels[i].recipients[j].verdict;
            delivered += verdict->kind == VERDICT_DELIVERED;
            if (verdict->kind == VERDICT_DELIVERED)
                assert_int_equal(verdict->code / 100, 2);
            else
                assert_true(verdict->text[0] != '\0');
        }
    return delivered;
}

static void any_server(void **state)
{
    static struct server server;
    const char *given = getenv("RINGMX_SEED");
    uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)getpid();
    uint32_t delivered = 0;
    (void)state;
    print_message("seed: RINGMX_SEED=%llu\n", (unsigned long long)seed);
    chance.state = seed * 2862933555777941757U | 1;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = i % 30 == 28 ? '\r' : i % 30 == 29 ? '\n' : i % 90 == 0 ? '.' : 'a';
    for (uint32_t round = 0; round < ROUNDS; round++) {
        start(&server, seed + round);
        delivered += play(&server, round);
    }
    assert_in_range(delivered, ROUNDS / 2, UINT32_MAX); /* most do what they should */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(any_server)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
