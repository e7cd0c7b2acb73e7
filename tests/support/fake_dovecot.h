/* What a scene says and hears as Dovecot, and a client of it in a turner, with a note of each
 * answer. There is one at a time. */
#ifndef TESTS_SUPPORT_FAKE_DOVECOT_H
#define TESTS_SUPPORT_FAKE_DOVECOT_H

#include "gateway/io/dovecot.h"
#include "tests/support/scene.h"
#include "tests/support/turner.h"

enum { FAKE_DOVECOT_TIMEOUT_MS = 400, FAKE_DOVECOT_NOTES = 64 };

/* The first number of a place, and what is said for it. */
#define FIRST       "4096"
#define SECOND      "4097"
#define AGAIN       "8192" /* the first place again */
#define HELLO       "L VERSION\t1\t1", "l CPID\t"
#define ANNOUNCE    "s VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\n"
#define REST        "s SPID\t77\nCUID\t1\nCOOKIE\t0123456789abcdef\nDONE\n"
#define GREET       HELLO, ANNOUNCE, REST
#define SCRIPT(...) ((const char *const[]){__VA_ARGS__, NULL})

/* What an exchange has heard. */
struct dovecot_note {
    struct dovecot *goes_on; /* at a challenge, at once, with "cmVzcG9uc2U=" */
    uint32_t times, number;
    enum dovecot_status status;
    bool has_text;
    char text[128], user[128];
    size_t user_len;
    uint64_t at_us;
};

extern struct fake_dovecot {
    struct turner *turner;
    struct scene scene;
    struct dovecot_options options;
    struct dovecot *dovecot;
    struct dovecot_note notes[FAKE_DOVECOT_NOTES];
    uint32_t asked;
} fake_dovecot;

/* fake_dovecot_start prepares a client, and a server that plays `script` once, and `later` to those
 * that come then (NULL: it closes at once); _start_on does so on a unix socket. _stop ends both;
 * _stop_well also wants all to have been as written. */
void fake_dovecot_start(void **state, const char *const *script, const char *const *later);
void fake_dovecot_start_on(void **state, const char *path, const char *const *script,
                           const char *const *later);
void fake_dovecot_stop(void);
void fake_dovecot_stop_well(void);

/* fake_dovecot_begin waits until it is connected, _until until it says why it is not, _run so many
 * milliseconds. */
void fake_dovecot_begin(void);
void fake_dovecot_until(const char *why);
void fake_dovecot_run(uint32_t ms);

/* fake_dovecot_ask asks and returns where the answer will be; _wait_for waits for it. _away_at_once
 * wants it to be refused. */
struct dovecot_note *fake_dovecot_ask(const char *mechanism, const char *response);
struct dovecot_note *fake_dovecot_ask_with(const struct dovecot_request *request);
void fake_dovecot_wait_for(struct dovecot_note *note);
void fake_dovecot_away_at_once(void);
struct dovecot_snapshot fake_dovecot_snapshot(void);
void fake_dovecot_answered(void *user, uint32_t number, const struct dovecot_answer *answer);

#endif
