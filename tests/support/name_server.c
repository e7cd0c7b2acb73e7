/* The DNS server of tests: see name_server.h. */
#include "tests/support/name_server.h"

#include "gateway/base/check.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/time.h>
#include <unistd.h>

enum { HEAD_LEN = 12, UDP_MAX = 512, NAME_ROOM = 300 };

/* A question, and the answer that is being written. */
struct talk {
    struct name_server *server;
    bool tcp;
    const uint8_t *question; /* the whole message */
    size_t question_len;     /* up to the end of its question */
    char name[NAME_ROOM];    /* in lower case */
    unsigned type;
    uint8_t reply[65536];
    size_t len;
    uint32_t silent[64]; /* how often each line has been silent */
};

/* --- reading --- */

/* read_question takes a message apart. False: it is none that we answer. */
static bool read_question(struct talk *talk, const uint8_t *message, size_t len)
{
    size_t at = HEAD_LEN, out = 0;
    if (len < HEAD_LEN + 5 || ns_get16(message + 4) != 1)
        return false;
    while (at < len && message[at] != 0) {
        size_t label = message[at++];
        if (label > 63 || at + label >= len || out + label + 2 > NAME_ROOM)
            return false;
        if (out > 0)
            talk->name[out++] = '.';
        for (size_t i = 0; i < label; i++, at++) {
            uint8_t c = message[at];
            talk->name[out++] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
    }
    if (at + 5 > len)
        return false;
    talk->name[out] = '\0';
    talk->type = ns_get16(message + at + 1);
    talk->question = message;
    talk->question_len = at + 5;
    return true;
}

/* --- writing --- */

static void put(struct talk *talk, const void *data, size_t len)
{
    CHECK(talk->len + len <= sizeof(talk->reply));
    memcpy(talk->reply + talk->len, data, len);
    talk->len += len;
}

static void put_number(struct talk *talk, uint32_t value, size_t octets)
{
    uint8_t text[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
                       (uint8_t)value};
    put(talk, text + 4 - octets, octets);
}

static void put_name(struct talk *talk, const char *name)
{
    while (*name != '\0' && strcmp(name, ".") != 0) {
        size_t label = strcspn(name, ".");
        put_number(talk, (uint32_t)label, 1);
        put(talk, name, label);
        name += label + (name[label] == '.');
    }
    put_number(talk, 0, 1);
}

static void add_count(struct talk *talk, size_t section)
{
    uint8_t *at = talk->reply + 6 + 2 * section;
    ns_put16(ns_get16(at) + 1u, at);
}

enum { ANSWER = 0, AUTHORITY = 1 };

/* begin_record writes a record up to its length, and returns where that stands. */
static size_t begin_record(struct talk *talk, size_t section, const char *owner, unsigned type,
                           uint32_t ttl_s)
{
    add_count(talk, section);
    if (strcmp(owner, talk->name) == 0)
        put_number(talk, 0xc000 | HEAD_LEN, 2);
    else
        put_name(talk, owner);
    put_number(talk, type, 2);
    put_number(talk, ns_c_in, 2);
    put_number(talk, ttl_s, 4);
    put_number(talk, 0, 2);
    return talk->len;
}

static void end_record(struct talk *talk, size_t start)
{
    ns_put16((unsigned)(talk->len - start), talk->reply + start - 2);
}

static void put_record(struct talk *talk, const char *owner, uint32_t ttl_s, const char *type,
                       const char *data)
{
    uint8_t address[16];
    char name[NAME_ROOM];
    unsigned preference;
    size_t start;
    if (strcmp(type, "A") == 0) {
        CHECK(inet_pton(AF_INET, data, address) == 1);
        start = begin_record(talk, ANSWER, owner, ns_t_a, ttl_s);
        put(talk, address, 4);
    } else if (strcmp(type, "AAAA") == 0) {
        CHECK(inet_pton(AF_INET6, data, address) == 1);
        start = begin_record(talk, ANSWER, owner, ns_t_aaaa, ttl_s);
        put(talk, address, 16);
    } else if (strcmp(type, "CNAME") == 0) {
        start = begin_record(talk, ANSWER, owner, ns_t_cname, ttl_s);
        put_name(talk, data);
    } else {
        CHECK(strcmp(type, "MX") == 0 && sscanf(data, "%u %299s", &preference, name) == 2);
        start = begin_record(talk, ANSWER, owner, ns_t_mx, ttl_s);
        put_number(talk, preference, 2);
        put_name(talk, name);
    }
    end_record(talk, start);
}

static void put_soa(struct talk *talk)
{
    size_t start = begin_record(talk, AUTHORITY, "test", ns_t_soa, talk->server->negative_s + 1);
    put_name(talk, "ns.test");
    put_name(talk, "hostmaster.test");
    for (uint32_t i = 1; i <= 4; i++)
        put_number(talk, i, 4);
    put_number(talk, talk->server->negative_s, 4);
    end_record(talk, start);
}

static void begin_reply(struct talk *talk)
{
    memset(talk->reply, 0, HEAD_LEN);
    memcpy(talk->reply, talk->question, 6); /* id, and one question */
    talk->reply[2] = 0x81;                  /* a response, recursion was desired */
    talk->reply[3] = 0x80;                  /* and is available */
    talk->len = HEAD_LEN;
    put(talk, talk->question + HEAD_LEN, talk->question_len - HEAD_LEN);
}

static void set_code(struct talk *talk, unsigned code)
{
    talk->reply[3] = (uint8_t)(0x80 | code);
}

/* --- the table --- */

struct line {
    char name[NAME_ROOM], type[32], data[NAME_ROOM];
    uint32_t ttl_s;
};

static void read_line(const char *text, struct line *line)
{
    line->data[0] = '\0';
    CHECK(sscanf(text, "%299s %u %31s %299[^\n]", line->name, &line->ttl_s, line->type,
                 line->data) >= 3);
}

static unsigned type_of(const char *text)
{
    static const struct {
        const char *text;
        unsigned type;
    } types[] = {
        {"A",     ns_t_a    },
        {"AAAA",  ns_t_aaaa },
        {"CNAME", ns_t_cname},
        {"MX",    ns_t_mx   },
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(types[i].text, text) == 0)
            return types[i].type;
    return 0; /* a habit */
}

/* answer_truly answers as an honest resolver does. */
static void answer_truly(struct talk *talk)
{
    const char *const *lines = atomic_load(&talk->server->lines);
    char at[NAME_ROOM];
    memcpy(at, talk->name, sizeof(at));
    begin_reply(talk);
    for (int step = 0; step < 20; step++) {
        bool exists = false, answered = false, moved = false;
        char next[NAME_ROOM] = "";
        for (size_t i = 0; lines[i] != NULL; i++) {
            struct line line;
            read_line(lines[i], &line);
            if (strcasecmp(line.name, at) != 0)
                continue;
            exists = true;
            unsigned type = type_of(line.type);
            if (type == 0 || (type != talk->type && type != ns_t_cname))
                continue;
            put_record(talk, at, line.ttl_s, line.type, line.data);
            answered |= type == talk->type;
            moved |= type == ns_t_cname;
            if (type == ns_t_cname)
                memcpy(next, line.data, sizeof(next));
        }
        if (answered)
            return;
        if (!moved) {
            set_code(talk, exists ? ns_r_noerror : ns_r_nxdomain);
            put_soa(talk);
            return;
        }
        memcpy(at, next, sizeof(at));
    }
    set_code(talk, ns_r_servfail);
}

/* --- habits --- */

static void put_many(struct talk *talk, uint32_t ttl_s, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char data[32];
        snprintf(data, sizeof(data), "127.1.%u.%u", i / 250, i % 250 + 1);
        put_record(talk, talk->name, ttl_s, "A", data);
    }
}

static void put_chain(struct talk *talk, uint32_t ttl_s, unsigned count)
{
    char owner[NAME_ROOM], next[NAME_ROOM];
    memcpy(owner, talk->name, sizeof(owner));
    for (unsigned i = 0; i < count; i++) {
        snprintf(next, sizeof(next), "C%u.Chain.test", i);
        put_record(talk, owner, ttl_s - i, "CNAME", next);
        memcpy(owner, next, sizeof(owner));
    }
    put_record(talk, owner, ttl_s, "A", "127.0.0.9");
}

/* break_record writes what no server should send. */
static void break_record(struct talk *talk, const struct line *line)
{
    if (strcmp(line->type, "GARBAGE") == 0) {
        add_count(talk, ANSWER);
        add_count(talk, ANSWER);
        for (uint32_t i = 0; i < 200; i++)
            put_number(talk, i * 2654435761u, 4);
    } else if (strcmp(line->type, "CUT") == 0) {
        put_record(talk, talk->name, line->ttl_s, "A", "127.0.0.1");
        talk->len -= 2;
    } else if (strcmp(line->type, "LOOP") == 0) {
        add_count(talk, ANSWER);
        put_number(talk, 0xc000 | (uint32_t)talk->len, 2); /* it leads to itself */
        put_number(talk, 0, 4);
        put_number(talk, 0, 4);
        put_number(talk, 0, 2);
    } else if (strcmp(line->type, "SHORT") == 0) {
        size_t start = begin_record(talk, ANSWER, talk->name, talk->type, line->ttl_s);
        put_number(talk, 0x010203, 3);
        end_record(talk, start);
    } else if (strcmp(line->type, "ODD-NAME") == 0) {
        static const char *const odd[] = {"10 a b.test", "20 x\ny.test", "30 -.test\"",
                                          "40 good.test", "50 \xff\xfe.test"};
        for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
            size_t start = begin_record(talk, ANSWER, talk->name, ns_t_mx, line->ttl_s);
            put_number(talk, (uint32_t)(10 * (i + 1)), 2);
            put_name(talk, odd[i] + 3);
            end_record(talk, start);
        }
    }
}

/* answer_oddly answers as a habit says. True: a true answer is to follow. */
static bool answer_oddly(struct talk *talk, const struct line *line)
{
    const char *habit = line->type;
    unsigned number = 0;
    (void)sscanf(line->data, "%u", &number);
    begin_reply(talk);
    if (strcmp(habit, "SERVFAIL") == 0)
        set_code(talk, ns_r_servfail);
    else if (strcmp(habit, "REFUSED") == 0)
        set_code(talk, ns_r_refused);
    else if (strcmp(habit, "SILENT") == 0)
        talk->len = 0;
    else if (strcmp(habit, "REFERRAL") == 0) {
        size_t start = begin_record(talk, AUTHORITY, "test", ns_t_ns, line->ttl_s);
        put_name(talk, "ns.elsewhere.test");
        end_record(talk, start);
    } else if (strcmp(habit, "FOREIGN") == 0)
        put_record(talk, "other.test", line->ttl_s, "A", "127.6.6.6");
    else if (strcmp(habit, "MANY") == 0)
        put_many(talk, line->ttl_s, number);
    else if (strcmp(habit, "CHAIN") == 0)
        put_chain(talk, line->ttl_s, number);
    else if (strcmp(habit, "WRONG-ID") == 0)
        talk->reply[0] ^= 1;
    else if (strcmp(habit, "WRONG-NAME") == 0)
        talk->reply[HEAD_LEN + 1] ^= 3;
    else if (strcmp(habit, "SLOW") == 0)
        usleep(number * 1000);
    else
        break_record(talk, line); /* NO-SOA: nothing at all */
    bool wrong = strncmp(habit, "WRONG", 5) == 0;
    if (wrong) {
        set_code(talk, ns_r_nxdomain);
        put_soa(talk);
    }
    return wrong || strcmp(habit, "SLOW") == 0;
}

/* is_over tells whether a habit does not apply, or no longer. */
static bool is_over(struct talk *talk, size_t index, const struct line *line)
{
    unsigned most = 0;
    if (strcmp(line->type, "TRUNCATED") == 0)
        return talk->tcp;
    if (strcmp(line->type, "SILENT") != 0 || sscanf(line->data, "%u", &most) != 1)
        return false;
    CHECK(index < sizeof(talk->silent) / sizeof(talk->silent[0]));
    return talk->silent[index]++ >= most;
}

static void truncate_reply(struct talk *talk)
{
    begin_reply(talk);
    talk->reply[2] |= 0x02; /* TC */
}

static void answer(struct talk *talk, void (*give)(struct talk *talk, void *where), void *where)
{
    const char *const *lines = atomic_load(&talk->server->lines);
    struct line line;
    bool truly = true;
    for (size_t i = 0; lines[i] != NULL; i++) {
        read_line(lines[i], &line);
        if (strcasecmp(line.name, talk->name) != 0 || type_of(line.type) != 0 ||
            is_over(talk, i, &line))
            continue;
        truly = strcmp(line.type, "TRUNCATED") != 0 && answer_oddly(talk, &line);
        if (strcmp(line.type, "TRUNCATED") == 0)
            truncate_reply(talk);
        bool delayed = strcmp(line.type, "SLOW") == 0;
        if (!delayed && talk->len > UDP_MAX && !talk->tcp)
            truncate_reply(talk);
        if (!delayed && talk->len > 0)
            give(talk, where);
        break;
    }
    if (!truly)
        return;
    answer_truly(talk);
    if (talk->len > UDP_MAX && !talk->tcp)
        truncate_reply(talk);
    give(talk, where);
}

/* --- sockets --- */

struct sender {
    struct sockaddr_storage address;
    socklen_t len;
};

static void send_udp(struct talk *talk, void *where)
{
    const struct sender *sender = where;
    (void)sendto(talk->server->udp_descriptor, talk->reply, talk->len, 0,
                 (const struct sockaddr *)&sender->address, sender->len);
}

static void send_tcp(struct talk *talk, void *where)
{
    const int *descriptor = where;
    uint8_t head[2];
    ns_put16((unsigned)talk->len, head);
    (void)!send(*descriptor, head, 2, MSG_NOSIGNAL);
    (void)!send(*descriptor, talk->reply, talk->len, MSG_NOSIGNAL);
}

static void note_new(uint8_t *seen, _Atomic uint32_t *count, unsigned value)
{
    if (seen[value / 8] & 1 << value % 8)
        return;
    seen[value / 8] |= (uint8_t)(1 << value % 8);
    atomic_fetch_add(count, 1);
}

static void serve_udp(struct talk *talk)
{
    uint8_t message[65536];
    struct sender sender = {.len = sizeof(sender.address)};
    struct name_server *server = talk->server;
    ssize_t len = recvfrom(server->udp_descriptor, message, sizeof(message), 0,
                           (struct sockaddr *)&sender.address, &sender.len);
    if (len < HEAD_LEN || !read_question(talk, message, (size_t)len))
        return;
    atomic_fetch_add(&server->udp, 1);
    note_new(server->port_seen, &server->ports,
             ntohs(((struct sockaddr_in *)(void *)&sender.address)->sin_port));
    note_new(server->id_seen, &server->ids, ns_get16(message));
    talk->tcp = false;
    answer(talk, send_udp, &sender);
}

static bool receive(int descriptor, uint8_t *out, size_t len)
{
    return recv(descriptor, out, len, MSG_WAITALL) == (ssize_t)len;
}

/* serve_tcp serves one connection until it ends, or for a second. */
static void serve_tcp(struct talk *talk)
{
    uint8_t head[2], message[65536];
    int descriptor = accept4(talk->server->tcp_descriptor, NULL, NULL, SOCK_CLOEXEC);
    if (descriptor < 0)
        return;
    struct timeval patience = {.tv_sec = 1};
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    while (receive(descriptor, head, 2) && receive(descriptor, message, ns_get16(head)) &&
           read_question(talk, message, ns_get16(head))) {
        atomic_fetch_add(&talk->server->tcp, 1);
        talk->tcp = true;
        answer(talk, send_tcp, &descriptor);
    }
    close(descriptor);
}

static void *serve(void *argument)
{
    struct name_server *server = argument;
    static _Thread_local struct talk talk;
    memset(&talk, 0, sizeof(talk));
    talk.server = server;
    for (;;) {
        struct pollfd polls[] = {
            {.fd = server->stop_descriptor, .events = POLLIN},
            {.fd = server->udp_descriptor,  .events = POLLIN},
            {.fd = server->tcp_descriptor,  .events = POLLIN},
        };
        CHECK(poll(polls, 3, -1) > 0 || errno == EINTR);
        if (polls[0].revents != 0)
            return NULL;
        if (polls[1].revents != 0)
            serve_udp(&talk);
        if (polls[2].revents != 0)
            serve_tcp(&talk);
    }
}

/* open_both binds UDP and TCP to one port that the kernel chooses. */
static bool open_both(struct name_server *server)
{
    socklen_t len = sizeof(server->address.v4);
    server->address.v4 =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    server->udp_descriptor = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    server->tcp_descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(server->udp_descriptor >= 0 && server->tcp_descriptor >= 0);
    CHECK(bind(server->udp_descriptor, &server->address.any, len) == 0);
    CHECK(getsockname(server->udp_descriptor, &server->address.any, &len) == 0);
    if (bind(server->tcp_descriptor, &server->address.any, len) == 0 &&
        listen(server->tcp_descriptor, 16) == 0)
        return true;
    close(server->udp_descriptor);
    close(server->tcp_descriptor);
    return false;
}

void name_server_start(struct name_server *server, const char *const *lines)
{
    memset(server, 0, sizeof(*server));
    server->lines = lines;
    server->negative_s = 60;
    bool opened = false;
    for (int attempt = 0; attempt < 20 && !opened; attempt++)
        opened = open_both(server);
    CHECK(opened);
    server->stop_descriptor = eventfd(0, EFD_CLOEXEC);
    CHECK(server->stop_descriptor >= 0);
    CHECK(pthread_create(&server->thread, NULL, serve, server) == 0);
}

void name_server_stop(struct name_server *server)
{
    uint64_t one = 1;
    CHECK(write(server->stop_descriptor, &one, sizeof(one)) == sizeof(one));
    pthread_join(server->thread, NULL);
    close(server->stop_descriptor);
    close(server->udp_descriptor);
    close(server->tcp_descriptor);
}
