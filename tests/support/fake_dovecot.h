/* What a scene says and hears as Dovecot. */
#ifndef TESTS_SUPPORT_FAKE_DOVECOT_H
#define TESTS_SUPPORT_FAKE_DOVECOT_H

#include "tests/support/scene.h"

/* The first number of a place, and what is said for it. */
#define FIRST       "4096"
#define SECOND      "4097"
#define AGAIN       "8192" /* the first place again */
#define HELLO       "L VERSION\t1\t1", "l CPID\t"
#define ANNOUNCE    "s VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nMECH\tSCRAM-SHA-256\tmutual-auth\n"
#define REST        "s SPID\t77\nCUID\t1\nCOOKIE\t0123456789abcdef\nDONE\n"
#define GREET       HELLO, ANNOUNCE, REST
#define SCRIPT(...) ((const char *const[]){__VA_ARGS__, NULL})

#endif
