/* A line of a dialogue: time, session, client; > is what the client says, < what we say, and - what
 * happens. See ringmxctl_trace.h. */
#include "gateway/admin/ringmxctl_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/admin/sheet.h"

static const char *text_of(const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value == NULL ? "" : value;
}

/* print_head writes what all lines begin with. Times are those of the log: UTC. */
static void print_head(const json_t *object, char sign)
{
    const char *time = text_of(object, "time");
    const char *clock = strchr(time, 'T');
    printf("%.12s  %-13s  %-15s  %c ", clock == NULL ? "" : clock + 1, text_of(object, "session"),
           text_of(object, "client"), sign);
}

static void print_line(const json_t *object, char sign, const char *text, size_t len)
{
    char *line = strndup(text, len);
    print_head(object, sign);
    puts(line == NULL ? "?" : sheet_clean(line));
    free(line);
}

/* print_reply: each line of it has its own. */
static void print_reply(const json_t *object)
{
    const char *at = text_of(object, "text");
    do {
        size_t len = strcspn(at, "\r\n");
        print_line(object, '<', at, len);
        at += len;
        at += strspn(at, "\r\n");
    } while (*at != '\0');
}

static void print_command(const json_t *object)
{
    const char *text = text_of(object, "text");
    const char *verb = text_of(object, "verb");
    if (verb[0] == '\0') {
        print_line(object, '>', text, strlen(text));
        return;
    }
    print_head(object, '>');
    printf("%s (%lld octets, not shown)\n", strcmp(verb, "?") == 0 ? "no command" : verb,
           (long long)json_integer_value(json_object_get(object, "octets")));
}

/* print_event shows what no other line has: its name and the rest of its keys. */
static void print_event(const json_t *object)
{
    static const char *const shown[] = {"time", "event", "session", "client"};
    const char *key;
    json_t *value;
    print_head(object, '-');
    fputs(text_of(object, "event"), stdout);
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        bool again = false;
        for (size_t i = 0; i < sizeof(shown) / sizeof(shown[0]); i++)
            again = again || strcmp(key, shown[i]) == 0;
        if (again)
            continue;
        char *text = json_is_string(value) ? strdup(json_string_value(value))
                                           : json_dumps(value, JSON_ENCODE_ANY);
        printf(" %s=%s", key, text == NULL ? "?" : sheet_clean(text));
        free(text);
    }
    putchar('\n');
}

void print_trace(const json_t *object)
{
    const char *event = text_of(object, "event");
    if (strcmp(event, "reply") == 0)
        print_reply(object);
    else if (strcmp(event, "command") == 0)
        print_command(object);
    else
        print_event(object);
    fflush(stdout);
}
