/* Whom the connections log in as (RFC 4954). What each user says is composed once; connections take
 * the users in turn. */
#ifndef BENCH_LOAD_LOGIN_H
#define BENCH_LOAD_LOGIN_H

#include <stdint.h>

enum login_mechanism {
    LOGIN_PLAIN = 0, /* RFC 4616, with its initial response: one round trip */
    LOGIN_LOGIN = 1, /* three round trips */
};

enum { LOGIN_LINES_MAX = 3 };

struct login {
    char *lines[LOGIN_LINES_MAX]; /* in this order, with CR LF; each but the first answers a 334 */
    uint32_t count;
};

struct logins {
    struct login *list; /* NULL: nobody logs in */
    uint32_t count;
};

/* logins_read takes the value of --auth: USER:PASSWORD, or @FILE, which has a line of that kind for
 * each user. A password in `text` is overwritten there, so that the process list does not show it
 * for long. Exits through words_die when something is wrong; no message has a password. */
void logins_read(struct logins *logins, char *text, enum login_mechanism mechanism);

/* logins_free wipes and frees all of it. */
void logins_free(struct logins *logins);

#endif
