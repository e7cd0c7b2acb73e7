/* What waits to be sent to a client of the control socket: JSON objects, a line each. */
#ifndef GATEWAY_ADMIN_OUTPUT_H
#define GATEWAY_ADMIN_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "gateway/spool/envelope.h"

/* The zero value is empty. */
struct output {
    char *data;
    size_t len, capacity; /* octets */
    size_t sent;          /* of them */
    bool failed;          /* no memory: the client can't be answered any more */
};

/* output_add adds an object as a line, and takes it; NULL: no memory. */
void output_add(struct output *output, json_t *object);

/* output_send sends what the socket takes without waiting. False: the client is gone. */
bool output_send(struct output *output, int descriptor);

size_t output_waiting(const struct output *output);
void output_free(struct output *output);

/* output_text makes a JSON string of octets from anywhere: what is no UTF-8 becomes "?". */
json_t *output_text(struct bytes text);

/* output_terms adds to an object what its message asks for besides delivery: release, by and
 * by_return, priority; only what it asks for. */
void output_terms(json_t *object, const struct envelope_terms *terms);

#endif
