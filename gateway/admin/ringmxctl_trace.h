/* Dialogues for people: how ringmxctl shows the objects of a trace. */
#ifndef GATEWAY_ADMIN_RINGMXCTL_TRACE_H
#define GATEWAY_ADMIN_RINGMXCTL_TRACE_H

#include <jansson.h>

/* print_trace writes a line, or one for each line of a reply, and makes sure that it is seen. */
void print_trace(const json_t *object);

#endif
