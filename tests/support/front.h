/* The receiving half of a gateway: a server with one worker, a real spool, clients over loopback;
 * and behind it a next hop that the test plays: it answers when and as the test wants. What goes
 * wrong ends the test. One at a time. */
#ifndef TESTS_SUPPORT_FRONT_H
#define TESTS_SUPPORT_FRONT_H

#include "gateway/receive/asking.h"
#include "gateway/receive/server.h"
#include "tests/support/spool_help.h"

#include <pthread.h>

struct front {
    struct help help;
    struct staging *staging;
    struct server server;
    struct worker worker;
    struct server_setup setup;
    struct server_options options;
    union address_any address;
    int listener;
    pthread_t thread;
    _Atomic int ready;
    struct hop hop;
    uint64_t passage; /* whose address is a passage */
    /* Set before front_start, if they are wanted: the greylist, and what it shares. */
    struct greylist *greylist;
    struct greylist_rules rules;
    const struct shared_options *sharing;
    /* As are these: the listener's words, and who logs in at it. */
    const struct server_listener *words;
    const struct authenticator_options *authentication;
    struct attempts *attempts;
    struct attempt_limits attempt_limits;
    uint32_t auth_delay_ms;
};

extern struct front front;

/* As cmocka wants them. */
int front_set_up(void **state);
int front_tear_down(void **state);

/* front_start opens the spool and serves: everybody in through.org (mode = through), ahead.org
 * (verify = callahead) and plain.org; alias@through.org is bob@through.org. `memory` for texts;
 * `asks` false: there is no next hop. front_gone waits for the end, front_stop drains before. */
void front_start(uint64_t memory, bool asks);
void front_gone(void);
void front_stop(void);

/* Clients. front_hear reads a line, which must begin so, and returns it until the next call.
 * front_greet calls, and says HELO and MAIL. front_say_text says DATA and text of this length (a
 * multiple of 64). */
int front_call(void);
void front_say(int client, const char *text);
const char *front_hear(int client, const char *start);
void front_hears_nothing(int client);
int front_greet(void);
void front_say_text(int client, size_t len);

/* The next hop. front_asked waits for a question, front_answer answers it (enhanced status X.7.9),
 * front_ended waits for a HOP_END and answers it. front_accept lets a client say RCPT, which is
 * accepted. */
struct hop_question *front_asked(enum hop_ask ask);
void front_nobody_asked(void);
void front_answer(struct hop_question *question, enum hop_answer answer, unsigned code,
                  const char *text);
void front_ended(void);
void front_accept(int client, const char *mailbox);

/* A message as front_say_text said it; only the first recipients need be named. */
struct front_message {
    const char *recipients[3];
    uint32_t count;
    size_t text_len;
};

/* front_spooled waits for a message in the spool and compares. */
void front_spooled(const struct front_message *expected);
void front_nothing_spooled(void);

#endif
