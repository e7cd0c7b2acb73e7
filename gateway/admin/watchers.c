/* Lines from the workers to those who watch: see watchers.h. */
#include "gateway/admin/watchers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"

enum {
    WAITING_MAX = 256 * 1024, /* octets that wait for a watcher; what comes then is lost to it */
    READ_SIZE = 64 * 1024,    /* longer than any line of the log */
};

struct watcher {
    struct output *output; /* NULL: nobody */
    uint64_t since;        /* generation of the first line that is for it */
    uint64_t left;         /* objects that it still wants */
    uint64_t told;
    uint64_t lost;     /* for want of room, all */
    uint64_t lost_now; /* of them, not told yet */
};

struct watchers {
    struct trace *trace; /* NULL: nobody can watch */
    struct watcher list[TRACE_WATCHERS_MAX];
    char text[READ_SIZE]; /* lines, the last not whole */
    size_t text_len;
};

struct watchers *watchers_new(struct trace *trace)
{
    struct watchers *watchers = calloc(1, sizeof(*watchers));
    if (watchers != NULL)
        watchers->trace = trace;
    return watchers;
}

void watchers_free(struct watchers *watchers)
{
    if (watchers == NULL)
        return;
    for (int i = 0; i < TRACE_WATCHERS_MAX; i++)
        if (watchers->list[i].output != NULL)
            trace_unwatch(watchers->trace, i);
    free(watchers);
}

/* --- coming and going --- */

/* make_wish copies what the inquiry, which was checked, asks for. */
static bool make_wish(const struct inquiry *inquiry, struct trace_wish *wish)
{
    if (inquiry->trace_ip != NULL) {
        wish->networks = networks_new();
        if (wish->networks == NULL ||
            networks_add(wish->networks, inquiry->trace_ip) != NETWORKS_ADDED)
            return false;
    }
    if (inquiry->trace_rcpt != NULL)
        wish->mailbox = strdup(inquiry->trace_rcpt);
    return inquiry->trace_rcpt == NULL || wish->mailbox != NULL;
}

int watchers_add(struct watchers *watchers, const struct inquiry *inquiry, struct output *output,
                 const char **error)
{
    struct trace_wish wish = {0};
    uint64_t since = 0;
    *error = "out of memory";
    if (watchers->trace == NULL) {
        *error = "nothing can be watched here";
        return -1;
    }
    int number = make_wish(inquiry, &wish) ? trace_watch(watchers->trace, &wish, &since) : -ENOMEM;
    if (number < 0) {
        trace_wish_free(&wish);
        if (number == -EBUSY)
            *error = "too many watch already";
        else if (number == -EAGAIN)
            *error = "the workers are too busy now: try again";
        return -1;
    }
    CHECK(watchers->list[number].output == NULL);
    watchers->list[number] =
        (struct watcher){.output = output, .since = since, .left = inquiry->limit};
    return number;
}

void watchers_remove(struct watchers *watchers, int number)
{
    struct watcher *watcher = &watchers->list[number];
    CHECK(watcher->output != NULL);
    trace_unwatch(watchers->trace, number);
    output_add(watcher->output,
               json_pack("{s:b, s:I, s:I}", "end", 1, "rows", (json_int_t)watcher->told, "lost",
                         (json_int_t)watcher->lost));
    *watcher = (struct watcher){0};
}

bool watchers_ended(const struct watchers *watchers, int number)
{
    return watchers->list[number].left == 0;
}

/* --- lines --- */

static void lose(struct watcher *watcher, uint64_t count)
{
    watcher->lost += count;
    watcher->lost_now += count;
}

/* tell_lost tells what a watcher has missed, once it takes things again. */
static void tell_lost(struct watcher *watcher)
{
    if (watcher->output == NULL || watcher->lost_now == 0 ||
        output_waiting(watcher->output) >= WAITING_MAX / 2)
        return;
    output_add(watcher->output,
               json_pack("{s:s, s:I}", "event", "lost", "count", (json_int_t)watcher->lost_now));
    watcher->lost_now = 0;
}

/* tell hands an object to a watcher. Behind a gap nothing comes before the word of it. */
static void tell(struct watcher *watcher, json_t *object)
{
    if (watcher->output == NULL || watcher->left == 0)
        return;
    tell_lost(watcher);
    if (watcher->lost_now > 0 || output_waiting(watcher->output) >= WAITING_MAX) {
        lose(watcher, 1);
        return;
    }
    output_add(watcher->output, json_incref(object));
    watcher->told++;
    watcher->left -= watcher->left != UINT64_MAX;
}

/* hand_on takes a line apart: who it is for stands in it, and is not for them. */
static void hand_on(struct watchers *watchers, const char *text, size_t len)
{
    json_t *object = json_loadb(text, len, 0, NULL);
    const char *event = json_string_value(json_object_get(object, "event"));
    uint64_t mask = (uint64_t)json_integer_value(json_object_get(object, "watchers"));
    bool dropped = event != NULL && strcmp(event, "log_dropped") == 0;
    uint64_t count = (uint64_t)json_integer_value(json_object_get(object, "count"));
    uint64_t generation = (uint64_t)json_integer_value(json_object_get(object, "generation"));
    json_object_del(object, "watchers");
    json_object_del(object, "generation");
    json_object_del(object, "level");
    for (unsigned i = 0; i < TRACE_WATCHERS_MAX; i++) {
        if (dropped)
            lose(&watchers->list[i], count);
        else if ((mask & 1u << i) != 0 && generation >= watchers->list[i].since)
            tell(&watchers->list[i], object);
    }
    json_decref(object);
}

int watchers_descriptor(const struct watchers *watchers)
{
    return watchers->trace == NULL ? -1 : trace_descriptor(watchers->trace);
}

void watchers_read(struct watchers *watchers)
{
    if (watchers->trace == NULL)
        return;
    trace_settle(watchers->trace);
    for (unsigned i = 0; i < TRACE_WATCHERS_MAX; i++)
        tell_lost(&watchers->list[i]);
    int descriptor = trace_descriptor(watchers->trace);
    if (descriptor < 0) {
        watchers->text_len = 0;
        return;
    }
    ssize_t got =
        read(descriptor, watchers->text + watchers->text_len, READ_SIZE - watchers->text_len);
    if (got <= 0)
        return;
    watchers->text_len += (size_t)got;
    const char *at = watchers->text, *end = at + watchers->text_len, *newline;
    while ((newline = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        hand_on(watchers, at, (size_t)(newline - at));
        at = newline + 1;
    }
    watchers->text_len = (size_t)(end - at);
    CHECK(watchers->text_len < READ_SIZE);
    memmove(watchers->text, at, watchers->text_len);
}
