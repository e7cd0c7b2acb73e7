/* A server that plays a scene: what it says and what it wants to hear, step by step, one scene for
 * each connection that comes. In a thread of its own; TLS is a foreign peer's.
 *
 *   "S text"  says a line          "s text"  says octets as they are, without CR LF
 *   "C text"  hears this line      "c text"  hears a line that begins so
 *   "L text", "l text"             the same of lines that end with LF alone
 *   "T"       hears text up to CR LF "." CR LF, and keeps it, the end included
 *   "B n"     hears n octets, and keeps them
 *   "TLS"     shakes hands         "D"       from here on says one octet at a time
 *   "W ms"    waits                "E"       hears the end of the connection
 *   "Z n"     says n octets "x"    "R"       resets the connection */
#ifndef TESTS_SUPPORT_SCENE_H
#define TESTS_SUPPORT_SCENE_H

#include "tests/support/peer.h"

#include <pthread.h>
#include <sys/socket.h>

enum { SCENES_MAX = 8, SCENE_TEXT_MAX = 4 << 20 };

struct scene {
    /* Set before scene_start. */
    const char *const *scripts[SCENES_MAX]; /* each ends with NULL; the connection ends with it */
    const struct peer_options *tls;
    const char *path; /* of a unix socket; NULL: 127.0.0.1 */
    int receive_room; /* SO_RCVBUF; 0: the kernel's own */

    struct sockaddr_storage address;
    socklen_t address_len;
    uint32_t served;  /* connections */
    char fault[1024]; /* the first thing that was not as written; "": none */
    char *text;       /* what T and B kept, of all connections */
    size_t text_len;

    /* Private. */
    int listener, descriptor;
    pthread_t thread;
    bool secure, drips;
    struct peer peer;
    char in[65536];
    size_t in_len, in_at;
};

void scene_start(struct scene *scene);

/* scene_stop waits for the connection that is served. The text is the caller's to free. */
void scene_stop(struct scene *scene);

#endif
