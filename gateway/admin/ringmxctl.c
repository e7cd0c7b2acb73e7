/* ringmxctl: looks at the queue of a running gateway, and acts on it, through its control socket.
 * Everything is decided in the gateway; this program asks and shows. docs/control.md. */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "gateway/admin/ringmxctl_dkim.h"
#include "gateway/admin/ringmxctl_options.h"
#include "gateway/admin/ringmxctl_print.h"
#include "gateway/admin/ringmxctl_user.h"
#include "gateway/admin/ringmxctl_wire.h"

/* A script learns from the exit code what people are told. */
static int code_of_end(const struct options *options, const json_t *end, size_t rows)
{
    if (json_integer_value(json_object_get(end, "busy")) +
            json_integer_value(json_object_get(end, "missing")) >
        0)
        return 1;
    if (json_is_false(json_object_get(end, "durable")))
        return EX_TEMPFAIL;
    if (options->view == OPTIONS_RELOAD)
        return (int)json_integer_value(json_object_get(end, "code"));
    return options->view == OPTIONS_SHOW && rows == 0;
}

/* Objects go on as they came. Of lists, the last one says nothing that is not known. */
static int pass_on(const struct options *options, struct wire *wire)
{
    bool end_counts = options->view == OPTIONS_ACT || options->view == OPTIONS_STATUS ||
                      options->view == OPTIONS_DRAIN || options->view == OPTIONS_RELOAD;
    size_t rows = 0;
    for (;;) {
        json_t *object = wire_next(wire);
        if (object == NULL)
            return EX_PROTOCOL;
        bool end = json_object_get(object, "end") != NULL;
        if (!end || end_counts)
            puts(wire_line(wire));
        if (options->view == OPTIONS_TRACE)
            fflush(stdout); /* somebody looks on */
        int code = end ? code_of_end(options, object, rows) : 0;
        rows += !end;
        json_decref(object);
        if (end)
            return code;
    }
}

static int show(const struct options *options, struct wire *wire)
{
    struct print *print = print_new(options);
    if (print == NULL)
        return EX_OSERR;
    for (;;) {
        json_t *object = wire_next(wire);
        if (object == NULL) {
            print_free(print);
            return EX_PROTOCOL;
        }
        if (json_object_get(object, "end") != NULL) {
            int code = print_end(print, object);
            json_decref(object);
            print_free(print);
            return code;
        }
        print_object(print, object);
        json_decref(object);
    }
}

int main(int count, char **values)
{
    struct options options;
    int exit_code;
    if (count > 1 && strcmp(values[1], "user") == 0)
        return user_command(count - 1, values + 1);
    if (count > 1 && strcmp(values[1], "dkim") == 0)
        return dkim_command(count - 1, values + 1);
    if (options_parse(count, values, &options, &exit_code)) {
        struct wire *wire = wire_open(options.socket, options.request, &exit_code);
        if (wire != NULL)
            exit_code = options.json ? pass_on(&options, wire) : show(&options, wire);
        if (wire != NULL && exit_code == 0 && options.wait && !wire_await(wire)) {
            fputs("ringmxctl: its end can't be seen from here\n", stderr);
            exit_code = EX_UNAVAILABLE;
        }
        wire_close(wire);
    }
    json_decref(options.request);
    if (fflush(stdout) != 0 && exit_code == 0)
        exit_code = EX_IOERR;
    return exit_code;
}
