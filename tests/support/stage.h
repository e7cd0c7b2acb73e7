/* One client, one scene, one or two parcels: what the tests of deliver/client have in common. */
#ifndef TESTS_SUPPORT_STAGE_H
#define TESTS_SUPPORT_STAGE_H

#include "tests/support/postman.h"

/* The beginning of a script with the last line(s) of the reply to EHLO, its end, and a script. */
#define STAGE_GREET(...) "S 220 mx.test", "C EHLO mx.example.com", "S 250-mx.test", __VA_ARGS__
#define STAGE_BYE        "C QUIT", "S 221 2.0.0 bye", "E", NULL
#define SCRIPT(...)      ((const char *const[]){__VA_ARGS__})

/* The text of both parcels, 36 octets, and as DATA has it. */
extern const char stage_letter[], stage_stuffed[];

extern struct scene stage_scene;
extern struct postman postman;
extern struct parcel parcel, second;

/* stage_begin starts a scene with one connection and makes both parcels, of which the first is for
 * the client; stage_start the same with the scene as it was set. */
void stage_begin(void **state, const char *const *script);
void stage_start(void **state);

/* stage_end plays it, and checks that all was as written, and that this text came; stage_play
 * leaves that to the test. */
void stage_end(const char *text);
void stage_play(void);

/* stage_expect checks a verdict. */
void stage_expect(const struct parcel *from, uint32_t index, enum verdict_kind kind, uint16_t code,
                  const char *text);

#endif
