/* Addresses that clients come from. */
#ifndef TESTS_SUPPORT_CLIENTS_H
#define TESTS_SUPPORT_CLIENTS_H

#include "gateway/io/listener.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* client_at is the address that a text names, with its port, as the configuration writes it. */
static inline union address_any client_at(const char *text)
{
    union address_any client;
    assert_true(listener_parse(text, &client));
    return client;
}

/* client_v4 is the IPv4 address with this number; its port follows from it. */
static inline union address_any client_v4(uint32_t number)
{
    union address_any client = {0};
    client.v4.sin_family = AF_INET;
    client.v4.sin_port = (in_port_t)(number * 7);
    client.v4.sin_addr.s_addr = htonl(number);
    return client;
}

#endif
