/* A server that plays a scene: see scene.h. */
#include "tests/support/scene.h"

#include "gateway/base/check.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { PATIENCE_S = 8, LINE_MAX_LEN = 4096 };

__attribute__((format(printf, 2, 3))) static bool wrong(struct scene *scene, const char *format,
                                                        ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (scene->fault[0] == '\0')
        vsnprintf(scene->fault, sizeof(scene->fault), format, arguments);
    va_end(arguments);
    return false;
}

/* --- octets --- */

static bool send_all(struct scene *scene, const void *data, size_t len)
{
    const char *at = data;
    while (len > 0) {
        ssize_t sent = send(scene->descriptor, at, scene->drips ? 1 : len, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        at += sent;
        len -= (size_t)sent;
    }
    return true;
}

/* pass_out sends what the TLS peer has to say. */
static bool pass_out(struct scene *scene)
{
    uint8_t out[16384];
    size_t len;
    while ((len = peer_take(&scene->peer, out, sizeof(out))) > 0)
        if (!send_all(scene, out, len))
            return false;
    return true;
}

static bool say(struct scene *scene, const void *data, size_t len)
{
    if (!scene->secure)
        return send_all(scene, data, len);
    return peer_write(&scene->peer, data, len) == PEER_DONE && pass_out(scene);
}

/* fill gets more octets; false: there will be none. */
static bool fill(struct scene *scene)
{
    uint8_t room[16384];
    scene->in_at = scene->in_len = 0;
    for (;;) {
        if (scene->secure) {
            enum peer_result result =
                peer_read(&scene->peer, (uint8_t *)scene->in, sizeof(scene->in), &scene->in_len);
            if (result == PEER_DONE || result != PEER_WAITS)
                return result == PEER_DONE;
            if (!pass_out(scene))
                return false;
        }
        ssize_t got = recv(scene->descriptor, scene->secure ? (void *)room : scene->in,
                           scene->secure ? sizeof(room) : sizeof(scene->in), 0);
        if (got <= 0)
            return false;
        if (scene->secure) {
            peer_give(&scene->peer, room, (size_t)got);
            continue;
        }
        scene->in_len = (size_t)got;
        return true;
    }
}

static int next_octet(struct scene *scene)
{
    if (scene->in_at == scene->in_len && !fill(scene))
        return -1;
    return (uint8_t)scene->in[scene->in_at++];
}

static bool keep(struct scene *scene, char octet)
{
    if (scene->text_len == SCENE_TEXT_MAX)
        return wrong(scene, "too much text");
    scene->text[scene->text_len++] = octet;
    return true;
}

/* --- steps --- */

static bool hear_line(struct scene *scene, const char *wanted, bool whole, const char *ending)
{
    char line[LINE_MAX_LEN + 1];
    size_t len = 0, ending_len = strlen(ending);
    int octet = 0;
    while (len < LINE_MAX_LEN && octet != '\n') {
        octet = next_octet(scene);
        if (octet < 0)
            return wrong(scene, "wanted \"%s\", heard the end", wanted);
        line[len++] = (char)octet;
    }
    line[len] = '\0';
    if (len < ending_len || strcmp(line + len - ending_len, ending) != 0)
        return wrong(scene, "no %s: %s", ending_len == 2 ? "CR LF" : "LF", line);
    line[len - ending_len] = '\0';
    if (whole ? strcmp(line, wanted) != 0 : strncmp(line, wanted, strlen(wanted)) != 0)
        return wrong(scene, "wanted \"%s\", heard \"%.500s\"", wanted, line);
    return true;
}

static bool hear_text(struct scene *scene)
{
    static const char end[] = "\r\n.\r\n";
    size_t from = scene->text_len;
    for (;;) {
        int octet = next_octet(scene);
        if (octet < 0)
            return wrong(scene, "the end in the midst of text");
        if (!keep(scene, (char)octet))
            return false;
        size_t len = scene->text_len - from;
        const char *last = scene->text + scene->text_len;
        if ((len >= 5 && memcmp(last - 5, end, 5) == 0) ||
            (len == 3 && memcmp(last - 3, end + 2, 3) == 0))
            return true;
    }
}

static bool hear_octets(struct scene *scene, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int octet = next_octet(scene);
        if (octet < 0)
            return wrong(scene, "the end after %zu of %zu octets", i, count);
        if (!keep(scene, (char)octet))
            return false;
    }
    return true;
}

static bool hear_end(struct scene *scene)
{
    int octet = next_octet(scene);
    return octet < 0 || wrong(scene, "wanted the end, heard octet %d", octet);
}

static bool shake(struct scene *scene)
{
    enum peer_result result;
    if (scene->in_at < scene->in_len)
        return wrong(scene, "octets in clear before the handshake");
    peer_new(&scene->peer, scene->tls);
    scene->secure = true;
    while ((result = peer_handshake(&scene->peer)) == PEER_WAITS) {
        uint8_t room[16384];
        if (!pass_out(scene))
            return false;
        ssize_t got = recv(scene->descriptor, room, sizeof(room), 0);
        if (got <= 0)
            return false;
        peer_give(&scene->peer, room, (size_t)got);
    }
    return pass_out(scene) && result == PEER_DONE;
}

static bool say_many(struct scene *scene, size_t count)
{
    char room[4096];
    memset(room, 'x', sizeof(room));
    for (size_t left = count; left > 0;) {
        size_t part = left < sizeof(room) ? left : sizeof(room);
        if (!say(scene, room, part))
            return false;
        left -= part;
    }
    return true;
}

static bool reset(struct scene *scene)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    setsockopt(scene->descriptor, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    return false;
}

static bool play(struct scene *scene, const char *step)
{
    char line[LINE_MAX_LEN];
    const char *rest = strlen(step) > 2 ? step + 2 : "";
    if (strcmp(step, "TLS") == 0)
        return shake(scene);
    switch (step[0]) {
    case 'S': snprintf(line, sizeof(line), "%s\r\n", rest); return say(scene, line, strlen(line));
    case 's': return say(scene, rest, strlen(rest));
    case 'C': return hear_line(scene, rest, true, "\r\n");
    case 'c': return hear_line(scene, rest, false, "\r\n");
    case 'L': return hear_line(scene, rest, true, "\n");
    case 'l': return hear_line(scene, rest, false, "\n");
    case 'T': return hear_text(scene);
    case 'B': return hear_octets(scene, strtoul(rest, NULL, 10));
    case 'D': scene->drips = true; return true;
    case 'W': usleep((useconds_t)strtoul(rest, NULL, 10) * 1000); return true;
    case 'E': return hear_end(scene);
    case 'Z': return say_many(scene, strtoul(rest, NULL, 10));
    case 'R': return reset(scene);
    default: break;
    }
    CHECK(false);
}

static void serve(struct scene *scene)
{
    const char *const *script = scene->scripts[scene->served];
    struct timeval patience = {.tv_sec = PATIENCE_S};
    int on = 1;
    CHECK(script != NULL);
    setsockopt(scene->descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(scene->descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    setsockopt(scene->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    scene->secure = scene->drips = false;
    scene->in_at = scene->in_len = 0;
    while (*script != NULL && play(scene, *script))
        script++;
    if (scene->secure)
        peer_free(&scene->peer);
}

static void *run(void *argument)
{
    struct scene *scene = argument;
    while ((scene->descriptor = accept4(scene->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        serve(scene);
        close(scene->descriptor);
        scene->served++;
    }
    return NULL;
}

void scene_start(struct scene *scene)
{
    struct sockaddr_un *local = (struct sockaddr_un *)&scene->address;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&scene->address;
    bool unix_socket = scene->path != NULL;
    if (unix_socket) {
        local->sun_family = AF_UNIX;
        snprintf(local->sun_path, sizeof(local->sun_path), "%s", scene->path);
    } else {
        *v4 =
            (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    }
    scene->address_len = unix_socket ? sizeof(*local) : sizeof(*v4);
    scene->text = malloc(SCENE_TEXT_MAX);
    scene->listener = socket(scene->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(scene->text != NULL && scene->listener >= 0);
    if (scene->receive_room > 0)
        setsockopt(scene->listener, SOL_SOCKET, SO_RCVBUF, &scene->receive_room,
                   sizeof(scene->receive_room));
    CHECK(bind(scene->listener, (struct sockaddr *)&scene->address, scene->address_len) == 0);
    CHECK(listen(scene->listener, 16) == 0);
    if (!unix_socket)
        CHECK(getsockname(scene->listener, (struct sockaddr *)&scene->address,
                          &scene->address_len) == 0);
    CHECK(pthread_create(&scene->thread, NULL, run, scene) == 0);
}

void scene_stop(struct scene *scene)
{
    shutdown(scene->listener, SHUT_RDWR); /* accept ends */
    pthread_join(scene->thread, NULL);
    close(scene->listener);
    if (scene->path != NULL)
        unlink(scene->path);
}
