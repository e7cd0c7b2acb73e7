/* Who is connected to the admin address, as far as libmicrohttpd does not look after them: those
 * that have left, that do not get on, or that keep all places from others. */
#ifndef GATEWAY_ADMIN_HTTP_CLIENTS_H
#define GATEWAY_ADMIN_HTTP_CLIENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    HTTP_CLIENTS_MAX = 64,
    HTTP_CLIENTS_FULL = HTTP_CLIENTS_MAX * 3 / 4, /* more than these: the oldest make room */
};

/* Where a client stands. */
enum http_progress {
    HTTP_ASKING,    /* its first request is not there yet */
    HTTP_ANSWERING, /* a reply is under way */
    HTTP_IDLE,      /* it was answered */
    HTTP_ENDED,     /* it was hung up on; libmicrohttpd will hear of it */
};

struct http_client {
    int descriptor; /* -1: nobody */
    enum http_progress progress;
    bool leaving;      /* it seems so */
    uint64_t since_us; /* when it came, or its last request ended */
};

struct http_clients {
    struct http_client all[HTTP_CLIENTS_MAX];
};

void http_clients_init(struct http_clients *clients);

/* http_clients_add returns the place of a connection that has come, or NULL: none is free.
 * http_client_progress says how it gets on, http_client_gone that it is closed; NULL is allowed. */
struct http_client *http_clients_add(struct http_clients *clients, int descriptor);
void http_client_progress(struct http_client *client, enum http_progress progress);
void http_client_gone(struct http_client *client);

/* http_clients_tidy, after each turn of libmicrohttpd, hangs up on those that have left and, while
 * there are too many, on the oldest. libmicrohttpd takes no more than a few in a turn, so who has
 * just come and asks in one go is answered, however many do not. http_clients_end_slow, now and
 * then, hangs up on those whose request takes too long. */
void http_clients_tidy(struct http_clients *clients);
void http_clients_end_slow(struct http_clients *clients);

/* http_clients_answered: nobody waits for an answer. */
bool http_clients_answered(const struct http_clients *clients);

#endif
