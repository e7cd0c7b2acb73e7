/* The words on the command line of ringmxctl, and the request that they mean. */
#ifndef GATEWAY_ADMIN_RINGMXCTL_OPTIONS_H
#define GATEWAY_ADMIN_RINGMXCTL_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>

enum options_view {
    OPTIONS_LIST = 0,
    OPTIONS_SHOW = 1,
    OPTIONS_SUMMARY = 2,
    OPTIONS_DESTINATIONS = 3,
    OPTIONS_STATUS = 4,
    OPTIONS_ACT = 5, /* retry, hold, release, remove */
    OPTIONS_TRACE = 6,
    OPTIONS_DRAIN = 7,
    OPTIONS_RELOAD = 8,
};

struct options {
    const char *socket;
    enum options_view view;
    const char *action; /* the word of the request */
    bool json;
    bool wait;       /* drain: until the gateway has ended */
    json_t *request; /* as docs/control.md has it; owned */
};

/* options_parse reads the command line. False: end with *exit_code; it was said why, or --help or
 * --version did all that was asked for. */
bool options_parse(int count, char **values, struct options *options, int *exit_code)
    __attribute__((warn_unused_result));

#endif
