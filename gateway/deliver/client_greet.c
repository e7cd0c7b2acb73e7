/* From a fresh connection to IDLE: the greeting, EHLO (LHLO, HELO), what it offers, STARTTLS. */
#include "gateway/deliver/client_inside.h"
#include "tls/tls.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

/* must_encrypt: mail waits rather than go in clear. */
static bool must_encrypt(const struct client *client)
{
    return client->peer.tls == ROUTE_TLS_REQUIRED || client->peer.tls == ROUTE_TLS_IMPLICIT ||
           client->peer.tls_verify;
}

static struct tls_context *context_of(const struct client *client)
{
    const struct client_setup *setup = client->setup;
    return client->peer.tls_verify ? setup->tls_verifying : setup->tls;
}

/* enter begins a phase whose command is said when all that came with the last reply is heard. */
static void enter(struct client *client, enum client_phase phase)
{
    client->phase = (uint8_t)phase;
    client->due = true;
}

static void ready(struct client *client)
{
    enter(client, CLIENT_PHASE_IDLE);
}

/* --- TLS --- */

/* name_of returns what TLS may know of the peer's name; NULL: nothing. An address is no name (RFC
 * 6066 3), but who verifies has to fail, and not to pass. */
static const char *name_of(const struct client *client)
{
    const char *name = client->peer.name;
    uint8_t address[16];
    bool literal =
        inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
    return name[0] == '\0' || (literal && !client->peer.tls_verify) ? NULL : name;
}

static void shake_hands(struct client *client)
{
    const char *name = name_of(client);
    if (context_of(client) == NULL)
        client_break(client, 7, 5, "TLS: there are no certificates to verify the server's with");
    else if (client->peer.tls_verify && name == NULL)
        client_break(client, 7, 5, "TLS: there is no name to verify");
    else if (!stream_secure_client(client->setup->worker, stream_of(client), context_of(client),
                                   name, NULL))
        client_break(client, 3, 0, "TLS: no memory");
    client->due = false; /* from here on a failure is one of the handshake */
}

void client_greet_opened(struct client *client)
{
    if (client->peer.tls == ROUTE_TLS_IMPLICIT) {
        enter(client, CLIENT_PHASE_HANDSHAKE);
    } else {
        client->phase = CLIENT_PHASE_GREETING;
        client->awaits = true;
    }
}

void client_greet_secured(struct client *client)
{
    client->awaits = false;
    if (client->peer.tls == ROUTE_TLS_IMPLICIT) {
        client->phase = CLIENT_PHASE_GREETING;
        client->awaits = true;
    } else {
        enter(client, CLIENT_PHASE_EHLO); /* what was offered in clear counts no more */
    }
}

/* --- commands --- */

static void say_hello(struct client *client, const char *verb)
{
    char text[320];
    int len = snprintf(text, sizeof(text), "%s %.255s\r\n", verb, client->setup->hostname);
    client->offers = 0;
    client->size_max = client->by_min_s = 0;
    client->due = !client_say(client, text, (size_t)len);
}

void client_greet_say(struct client *client)
{
    switch ((enum client_phase)client->phase) {
    case CLIENT_PHASE_HANDSHAKE: shake_hands(client); break;
    case CLIENT_PHASE_EHLO: say_hello(client, client->peer.lmtp ? "LHLO" : "EHLO"); break;
    case CLIENT_PHASE_HELO: say_hello(client, "HELO"); break;
    case CLIENT_PHASE_STARTTLS: client->due = !client_say(client, "STARTTLS\r\n", 10); break;
    default: break;
    }
}

/* --- what EHLO offers --- */

static uint64_t read_number(struct bytes text)
{
    uint64_t size = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t digit = (uint8_t)(text.data[i] - '0');
        if (digit > 9)
            return 0; /* no limit that we could understand */
        size = size > (UINT64_MAX - 9) / 10 ? UINT64_MAX : size * 10 + digit;
    }
    return size;
}

/* least returns the min-by-time of DELIVERBY; extensions may follow (RFC 2852 2). */
static struct bytes least(struct bytes value)
{
    return bytes_slice(value, 0, bytes_find(value, ','));
}

void client_greet_line(struct client *client, struct bytes line)
{
    static const struct {
        struct bytes keyword;
        uint16_t offer;
    } offers[] = {
        {BYTES("PIPELINING"),  CLIENT_OFFER_PIPELINING}, /* RFC 2920 */
        {BYTES("CHUNKING"),    CLIENT_OFFER_CHUNKING  }, /* RFC 3030 */
        {BYTES("BINARYMIME"),  CLIENT_OFFER_BINARYMIME}, /* RFC 3030 */
        {BYTES("8BITMIME"),    CLIENT_OFFER_8BITMIME  }, /* RFC 6152 */
        {BYTES("SMTPUTF8"),    CLIENT_OFFER_SMTPUTF8  }, /* RFC 6531 */
        {BYTES("DSN"),         CLIENT_OFFER_DSN       }, /* RFC 3461 */
        {BYTES("SIZE"),        CLIENT_OFFER_SIZE      }, /* RFC 1870 */
        {BYTES("STARTTLS"),    CLIENT_OFFER_STARTTLS  }, /* RFC 3207 */
        {BYTES("REQUIRETLS"),  CLIENT_OFFER_REQUIRETLS}, /* RFC 8689 */
        {BYTES("DELIVERBY"),   CLIENT_OFFER_DELIVERBY }, /* RFC 2852 */
        {BYTES("MT-PRIORITY"), CLIENT_OFFER_PRIORITY  }, /* RFC 6710 */
    };
    size_t end = bytes_find(line, ' ');
    struct bytes keyword = bytes_slice(line, 0, end);
    for (size_t i = 0; i < sizeof(offers) / sizeof(*offers); i++) {
        if (!bytes_equal_nocase(keyword, offers[i].keyword))
            continue;
        client->offers |= offers[i].offer;
        if (offers[i].offer == CLIENT_OFFER_SIZE)
            client->size_max = read_number(bytes_skip(line, end + 1));
        if (offers[i].offer == CLIENT_OFFER_DELIVERBY)
            client->by_min_s = read_number(least(bytes_skip(line, end + 1)));
    }
}

/* --- replies --- */

/* greeted: EHLO was answered. */
static void greeted(struct client *client)
{
    bool wanted = client->peer.tls != ROUTE_TLS_NONE;
    if (client_secure(client)) {
        ready(client);
    } else if (wanted && client_offers(client, CLIENT_OFFER_STARTTLS) &&
               (context_of(client) != NULL || must_encrypt(client))) {
        enter(client, CLIENT_PHASE_STARTTLS);
    } else if (must_encrypt(client)) {
        client_break(client, 7, 4,
                     wanted ? "TLS is required, and the server does not offer it"
                            : "the certificate is to be verified, without TLS");
    } else {
        ready(client);
    }
}

/* hello_refused: EHLO was. A server that does not know it may know HELO (RFC 5321 3.2). */
static void hello_refused(struct client *client)
{
    bool unknown = client->reply.code / 100 == 5 && !client->peer.lmtp;
    client->offers = 0;
    client->size_max = client->by_min_s = 0;
    if (unknown && must_encrypt(client) && !client_secure(client))
        client_break(client, 7, 4, "TLS is required, and the server refuses EHLO");
    else if (unknown)
        enter(client, CLIENT_PHASE_HELO);
    else
        client_break_reply(client, true);
}

static void starttls_replied(struct client *client)
{
    if (client->reply.code == 220)
        enter(client, CLIENT_PHASE_HANDSHAKE);
    else if (must_encrypt(client))
        client_break(client, 7, 4, "STARTTLS: %u %s", client->reply.code, client->reply.text);
    else if (client->reply.code >= 400)
        ready(client); /* which leaves all as it was (RFC 3207 4) */
    else
        client_break(client, 5, 0, "STARTTLS was answered %u", client->reply.code);
}

void client_greet_replied(struct client *client)
{
    bool good = client->reply.code / 100 == 2;
    client->awaits = false;
    switch ((enum client_phase)client->phase) {
    case CLIENT_PHASE_GREETING:
        if (good)
            enter(client, CLIENT_PHASE_EHLO);
        else
            client_break_reply(client, true);
        break;
    case CLIENT_PHASE_EHLO:
        if (good)
            greeted(client);
        else
            hello_refused(client);
        break;
    case CLIENT_PHASE_HELO:
        if (good)
            greeted(client);
        else
            client_break_reply(client, true);
        break;
    case CLIENT_PHASE_STARTTLS: starttls_replied(client); break;
    default: break;
    }
}

/* --- names --- */

char *client_peer_text(const struct client_peer *peer, char *out)
{
    char address[INET6_ADDRSTRLEN] = "?", rest[INET6_ADDRSTRLEN + 16];
    const struct sockaddr *any = (const struct sockaddr *)&peer->address;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&peer->address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&peer->address;
    const struct sockaddr_un *local = (const struct sockaddr_un *)&peer->address;
    if (any->sa_family == AF_UNIX) {
        snprintf(out, CLIENT_PEER_TEXT, "unix:%.70s", local->sun_path);
        return out;
    }
    bool is_v6 = any->sa_family == AF_INET6;
    (void)inet_ntop(any->sa_family, is_v6 ? (const void *)&v6->sin6_addr : &v4->sin_addr, address,
                    sizeof(address));
    int len = snprintf(rest, sizeof(rest), "[%s]:%u", address,
                       (unsigned)ntohs(is_v6 ? v6->sin6_port : v4->sin_port));
    int room = CLIENT_PEER_TEXT - 2 - len;
    if (peer->name[0] == '\0')
        snprintf(out, CLIENT_PEER_TEXT, "%s", rest);
    else
        snprintf(out, CLIENT_PEER_TEXT, "%.*s %s", room, peer->name, rest);
    return out;
}
