/* A unix socket with lines of JSON: see ringmxctl_wire.h. */
#include "gateway/admin/ringmxctl_wire.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

struct wire {
    FILE *file;
    char *line;
    size_t size;
};

static int dial(const char *path)
{
    struct sockaddr_un place = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(place.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(place.sun_path, path, len);
    int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor >= 0 &&
        connect(descriptor, (const struct sockaddr *)&place, sizeof(place)) != 0) {
        int error = errno;
        close(descriptor);
        errno = error;
        return -1;
    }
    return descriptor;
}

/* send_request: there is an answer to read. */
static bool send_request(int descriptor, const json_t *request)
{
    char *text = json_dumps(request, JSON_COMPACT);
    size_t len = text == NULL ? 0 : strlen(text), sent = 0;
    int error = 0;
    if (text == NULL)
        return false;
    text[len] = '\n'; /* in place of the final NUL */
    while (sent <= len) {
        ssize_t more = send(descriptor, text + sent, len + 1 - sent, MSG_NOSIGNAL);
        if (more < 0 && errno == EINTR)
            continue;
        if (more < 0) {
            error = errno;
            break;
        }
        sent += (size_t)more;
    }
    free(text);
    /* Who has hung up may have said why before. */
    errno = error;
    return error == 0 || error == EPIPE || error == ECONNRESET;
}

struct wire *wire_open(const char *path, const json_t *request, int *exit_code)
{
    struct wire *wire = calloc(1, sizeof(*wire));
    int descriptor = wire == NULL ? -1 : dial(path);
    if (descriptor < 0) {
        *exit_code = errno == EACCES || errno == EPERM ? EX_NOPERM : EX_UNAVAILABLE;
        fprintf(stderr, "ringmxctl: no gateway to talk to at %s: %s%s\n", path, strerror(errno),
                *exit_code == EX_NOPERM ? "" : " (is it running, with admin.control set? see -s)");
        free(wire);
        return NULL;
    }
    wire->file = send_request(descriptor, request) ? fdopen(descriptor, "r") : NULL;
    if (wire->file != NULL)
        return wire;
    *exit_code = EX_PROTOCOL;
    fprintf(stderr, "ringmxctl: %s: %s\n", path, strerror(errno));
    close(descriptor);
    free(wire);
    return NULL;
}

json_t *wire_next(struct wire *wire)
{
    json_error_t mistake;
    ssize_t len = getline(&wire->line, &wire->size, wire->file);
    if (len <= 0) {
        fputs("ringmxctl: the gateway hung up before the end of its answer\n", stderr);
        return NULL;
    }
    wire->line[len - 1] = '\0';
    json_t *object = json_loads(wire->line, 0, &mistake);
    const char *error = json_string_value(json_object_get(object, "error"));
    if (json_is_object(object) && error == NULL)
        return object;
    fprintf(stderr, "ringmxctl: %s\n", error != NULL ? error : "the answer is no JSON object");
    json_decref(object);
    return NULL;
}

const char *wire_line(const struct wire *wire)
{
    return wire->line;
}

bool wire_await(struct wire *wire)
{
    struct ucred peer = {0};
    socklen_t peer_size = sizeof(peer);
    int result = -1;
    if (getsockopt(fileno(wire->file), SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) != 0 ||
        peer.pid <= 0)
        return false;
    int descriptor = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    if (descriptor < 0)
        return errno == ESRCH;
    struct pollfd polled = {.fd = descriptor, .events = POLLIN};
    do
        result = poll(&polled, 1, -1);
    while (result < 0 && errno == EINTR);
    close(descriptor);
    return result > 0;
}

void wire_close(struct wire *wire)
{
    if (wire == NULL)
        return;
    fclose(wire->file);
    free(wire->line);
    free(wire);
}
