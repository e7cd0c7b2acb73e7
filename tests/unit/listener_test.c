/* Socket addresses as the configuration writes them, and sockets that really listen. */
#include "gateway/io/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void parses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *again; /* what listener_format makes of it; NULL: refused */
    } cases[] = {
        {"127.0.0.1:25",                                                     "127.0.0.1:25"               },
        {"0.0.0.0:25",                                                       "0.0.0.0:25"                 },
        {"255.255.255.255:65535",                                            "255.255.255.255:65535"      },
        {"0.0.0.0:0",                                                        "0.0.0.0:0"                  },
        {"1.2.3.4:0025",                                                     "1.2.3.4:25"                 },
        {"[::1]:25",                                                         "[::1]:25"                   },
        {"[::]:0",                                                           "[::]:0"                     },
        {"[2001:db8::1]:587",                                                "[2001:db8::1]:587"          },
        {"[2001:0DB8:0:0:0:0:0:1]:587",                                      "[2001:db8::1]:587"          },
        {"[::ffff:192.0.2.1]:25",                                            "[::ffff:192.0.2.1]:25"      },
        {"",                                                                 NULL                         },
        {":",                                                                NULL                         },
        {":25",                                                              NULL                         },
        {"25",                                                               NULL                         },
        {"127.0.0.1",                                                        NULL                         },
        {"127.0.0.1:",                                                       NULL                         },
        {"127.0.0.1:65536",                                                  NULL                         },
        {"127.0.0.1:99999999999999999999",                                   NULL                         },
        {"127.0.0.1:-1",                                                     NULL                         },
        {"127.0.0.1:+25",                                                    NULL                         },
        {"127.0.0.1: 25",                                                    NULL                         },
        {"127.0.0.1:25 ",                                                    NULL                         },
        {"127.0.0.1:25x",                                                    NULL                         },
        {"127.0.0.1:0x19",                                                   NULL                         },
        {" 127.0.0.1:25",                                                    NULL                         },
        {"127.0.0.1 :25",                                                    NULL                         },
        {"127.0.0:25",                                                       NULL                         },
        {"127.0.0.1.1:25",                                                   NULL                         },
        {"256.0.0.1:25",                                                     NULL                         },
        {"localhost:25",                                                     NULL                         },
        {"*:25",                                                             NULL                         },
        {"::1:25",                                                           NULL                         },
        {"[::1]",                                                            NULL                         },
        {"[::1]:",                                                           NULL                         },
        {"[::1]25",                                                          NULL                         },
        {"[::1:25",                                                          NULL                         },
        {"::1]:25",                                                          NULL                         },
        {"[]:25",                                                            NULL                         },
        {"[:25",                                                             NULL                         },
        {"]:25",                                                             NULL                         },
        {"[]]:25",                                                           NULL                         },
        {"[::1%lo]:25",                                                      NULL                         },
        {"[127.0.0.1]:25",                                                   NULL                         },
        {"[::12345]:25",                                                     NULL                         },
        {"[[::1]]:25",                                                       NULL                         },
        {"[1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc]:25", NULL                         },
        {"[0000:0000:0000:0000:0000:ffff:255.255.255.255]:25",               "[::ffff:255.255.255.255]:25"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        union address_any address;
        char again[64];
        bool taken = listener_parse(cases[i].text, &address);
        if (taken != (cases[i].again != NULL))
            fail_msg("\"%s\" was %s", cases[i].text, taken ? "taken" : "refused");
        if (taken)
            assert_string_equal(listener_format(&address, again), cases[i].again);
    }
}

static int option(int descriptor, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    assert_int_equal(getsockopt(descriptor, level, name, &value, &len), 0);
    return value;
}

static void listens(void **state)
{
    (void)state;
    static const char *const addresses[] = {"127.0.0.1:0", "[::1]:0"};
    for (int i = 0; i < 2; i++) {
        union address_any address;
        assert_true(listener_parse(addresses[i], &address));
        int first = listener_open(&address);
        if (first == -EADDRNOTAVAIL || first == -EAFNOSUPPORT) {
            print_message("no IPv6 here: skipped\n");
            continue;
        }
        assert_true(first >= 0);
        assert_int_not_equal(ntohs(i == 0 ? address.v4.sin_port : address.v6.sin6_port), 0);
        union address_any same = address;
        int second = listener_open(&same); /* each worker opens the same address */
        assert_true(second >= 0);
        assert_memory_equal(&same, &address, i == 0 ? sizeof(address.v4) : sizeof(address.v6));
        assert_int_equal(option(first, IPPROTO_TCP, TCP_NODELAY), 1);
        assert_int_equal(option(first, SOL_SOCKET, SO_ACCEPTCONN), 1);
        assert_int_equal(fcntl(first, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_int_equal(fcntl(first, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
        int client = socket(address.any.sa_family, SOCK_STREAM, 0);
        socklen_t len = i == 0 ? sizeof(address.v4) : sizeof(address.v6);
        assert_int_equal(connect(client, &address.any, len), 0);
        close(client);
        close(first);
        close(second);
    }
}

static void says_why_not(void **state)
{
    (void)state;
    union address_any address;
    assert_true(listener_parse("192.0.2.1:0", &address)); /* TEST-NET: nobody has it */
    assert_int_equal(listener_open(&address), -EADDRNOTAVAIL);
    /* An address that another program holds alone. */
    assert_true(listener_parse("127.0.0.1:0", &address));
    int other = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t len = sizeof(address.v4);
    assert_int_equal(bind(other, &address.any, len), 0);
    assert_int_equal(listen(other, 1), 0);
    assert_int_equal(getsockname(other, &address.any, &len), 0);
    assert_int_equal(listener_open(&address), -EADDRINUSE);
    close(other);
}

/* Bound only: the address is ours, and nobody is let in before listener_begin. */
static void binds_first(void **state)
{
    (void)state;
    union address_any address;
    assert_true(listener_parse("127.0.0.1:0", &address));
    int descriptor = listener_bind(&address);
    assert_true(descriptor >= 0);
    for (int i = 0; i < 2; i++) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        int result = connect(client, &address.any, sizeof(address.v4));
        assert_int_equal(result, i == 0 ? -1 : 0);
        close(client);
        assert_int_equal(listener_begin(descriptor), 0);
    }
    close(descriptor);
}

/* A socket from elsewhere: what kind it must be, and what it gets. */
static void adopts(void **state)
{
    (void)state;
    const char *what;
    union address_any address, found;
    assert_true(listener_parse("127.0.0.1:0", &address));
    int good = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t len = sizeof(address.v4);
    assert_int_equal(bind(good, &address.any, len), 0);
    assert_false(listener_adopt(good, &found, &what)); /* it does not listen yet */
    assert_non_null(strstr(what, "no TCP socket that listens"));
    assert_int_equal(listen(good, 1), 0);
    assert_int_equal(getsockname(good, &address.any, &len), 0);
    assert_true(listener_adopt(good, &found, &what));
    assert_memory_equal(&found, &address, sizeof(address.v4));
    assert_int_equal(option(good, IPPROTO_TCP, TCP_NODELAY), 1);
    assert_int_equal(option(good, SOL_SOCKET, SO_KEEPALIVE), 1);
    assert_int_equal(fcntl(good, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(fcntl(good, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
    close(good);
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_false(listener_adopt(pair[0], &found, &what));
    close(pair[0]);
    close(pair[1]);
    int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    assert_false(listener_adopt(datagrams, &found, &what));
    close(datagrams);
    assert_false(listener_adopt(-1, &found, &what));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parses),      cmocka_unit_test(listens), cmocka_unit_test(says_why_not),
        cmocka_unit_test(binds_first), cmocka_unit_test(adopts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
