/* What the parts of ringmx-vectors share: how bytes get in from JSON and out into JSON. Everything
 * here belongs to one line of input: `struct request` owns it, and vectors.c frees it after the
 * answer. */
#ifndef TESTS_VECTORS_H
#define TESTS_VECTORS_H

#include <jansson.h>

#include "parser/bytes.h"

struct request {
    json_t *object;     /* borrowed: the whole line */
    struct bytes input; /* the bytes that the function works on */
    char error[128];    /* what is wrong with the request; empty when nothing is */
};

/* Each function takes a request whose `input` is set and returns the answer, a new object; when
 * request->error is set the answer is thrown away. */
json_t *vectors_address(struct request *request);
json_t *vectors_domain(struct request *request);
json_t *vectors_command(struct request *request);
json_t *vectors_header(struct request *request);
json_t *vectors_scan(struct request *request);
json_t *vectors_srs(struct request *request);

/* vectors_flag returns the boolean member `name`, false when it is absent; sets request->error when
 * it is no boolean. */
bool vectors_flag(struct request *request, const char *name);

/* vectors_piece_count returns how many pieces "splits", a rising list of offsets inside the input,
 * cuts it into; 1 when there is no such member; 0, with request->error set, when it is something
 * else. vectors_piece returns one of them, which may be empty. */
size_t vectors_piece_count(struct request *request);
struct bytes vectors_piece(const struct request *request, size_t index);

/* vectors_put adds a member. vectors_put_bytes adds `name` as a string, or, when the bytes are not
 * UTF-8, `name`_hex; vectors_put_hex always adds `name` in hexadecimal. All end the program when
 * memory does. */
void vectors_put(json_t *object, const char *name, json_t *value);
void vectors_put_bytes(json_t *object, const char *name, struct bytes value);
void vectors_put_hex(json_t *object, const char *name, struct bytes value);

#endif
