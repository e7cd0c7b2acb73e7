/* The connection of ringmxctl to the gateway: a request goes out, lines come back. */
#ifndef GATEWAY_ADMIN_RINGMXCTL_WIRE_H
#define GATEWAY_ADMIN_RINGMXCTL_WIRE_H

#include <jansson.h>
#include <stdbool.h>

struct wire;

/* wire_open connects and sends the request. NULL: it was said on standard error why not, and
 * *exit_code is set. */
struct wire *wire_open(const char *socket, const json_t *request, int *exit_code)
    __attribute__((warn_unused_result));

/* wire_next returns the next object of the answer, owned; NULL: the answer broke off, or was an
 * error, which was said. The last one has the key "end". */
json_t *wire_next(struct wire *wire) __attribute__((warn_unused_result));

/* wire_line is the last object as it came, without its line end; borrowed until the next one. */
const char *wire_line(const struct wire *wire);

/* wire_await waits until the process at the other end has ended. False: it can't be seen from
 * here. */
bool wire_await(struct wire *wire);

void wire_close(struct wire *wire);

#endif
