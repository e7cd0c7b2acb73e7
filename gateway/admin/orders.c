/* A few words behind a mutex, and an eventfd: see orders.h. */
#include "gateway/admin/orders.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct orders {
    pthread_mutex_t lock; /* of all below */
    int bell;
    bool drain;
    uint64_t reload_asked, reload_taken, reload_done; /* numbers; 0: none */
    char *text;                                       /* of the last one that is done */
    int code;
    int descriptor; /* who wants to take over; -1: nobody */
    pid_t pid;
};

struct orders *orders_new(void)
{
    struct orders *orders = calloc(1, sizeof(*orders));
    if (orders == NULL)
        return NULL;
    orders->descriptor = -1;
    orders->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (orders->bell < 0) {
        free(orders);
        return NULL;
    }
    pthread_mutex_init(&orders->lock, NULL);
    return orders;
}

void orders_free(struct orders *orders)
{
    if (orders == NULL)
        return;
    if (orders->descriptor >= 0)
        close(orders->descriptor);
    close(orders->bell);
    pthread_mutex_destroy(&orders->lock);
    free(orders->text);
    free(orders);
}

/* --- the control thread --- */

static void ring(struct orders *orders)
{
    while (write(orders->bell, &(uint64_t){1}, sizeof(uint64_t)) < 0 && errno == EINTR)
        continue;
}

void orders_drain(struct orders *orders)
{
    pthread_mutex_lock(&orders->lock);
    orders->drain = true;
    pthread_mutex_unlock(&orders->lock);
    ring(orders);
}

uint64_t orders_reload(struct orders *orders)
{
    pthread_mutex_lock(&orders->lock);
    uint64_t number = ++orders->reload_asked;
    pthread_mutex_unlock(&orders->lock);
    ring(orders);
    return number;
}

bool orders_reloaded(struct orders *orders, uint64_t number, struct output *output)
{
    pthread_mutex_lock(&orders->lock);
    bool done = orders->reload_done >= number;
    char *text = done && orders->text != NULL ? strdup(orders->text) : NULL;
    char *rest = text, *line;
    int code = orders->code;
    pthread_mutex_unlock(&orders->lock);
    while (rest != NULL && (line = strsep(&rest, "\n")) != NULL)
        if (*line != '\0')
            output_add(output, json_pack("{s:o}", "line", output_text(bytes_of_string(line))));
    if (done)
        output_add(output, json_pack("{s:b, s:i}", "end", 1, "code", code));
    free(text);
    return done;
}

bool orders_hand_over(struct orders *orders, int descriptor, pid_t pid)
{
    pthread_mutex_lock(&orders->lock);
    bool taken = orders->descriptor < 0;
    if (taken) {
        orders->descriptor = descriptor;
        orders->pid = pid;
    }
    pthread_mutex_unlock(&orders->lock);
    if (taken)
        ring(orders);
    return taken;
}

/* --- the main thread --- */

int orders_bell(const struct orders *orders)
{
    return orders->bell;
}

void orders_hear(struct orders *orders)
{
    uint64_t count;
    (void)!read(orders->bell, &count, sizeof(count));
}

bool orders_take_drain(struct orders *orders)
{
    pthread_mutex_lock(&orders->lock);
    bool drain = orders->drain;
    orders->drain = false;
    pthread_mutex_unlock(&orders->lock);
    return drain;
}

uint64_t orders_take_reload(struct orders *orders)
{
    pthread_mutex_lock(&orders->lock);
    bool wanted = orders->reload_taken < orders->reload_asked;
    orders->reload_taken = orders->reload_asked;
    uint64_t number = wanted ? orders->reload_taken : 0;
    pthread_mutex_unlock(&orders->lock);
    return number;
}

void orders_reload_done(struct orders *orders, uint64_t number, char *text, int code)
{
    pthread_mutex_lock(&orders->lock);
    free(orders->text);
    orders->text = text;
    orders->code = code;
    orders->reload_done = number;
    pthread_mutex_unlock(&orders->lock);
}

int orders_take_hand_over(struct orders *orders, pid_t *pid)
{
    pthread_mutex_lock(&orders->lock);
    int descriptor = orders->descriptor;
    orders->descriptor = -1;
    *pid = orders->pid;
    pthread_mutex_unlock(&orders->lock);
    return descriptor;
}
