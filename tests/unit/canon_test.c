/* Relaxed canonicalization: the examples of RFC 6376, the cases around white space and line ends;
 * every text whole, cut at every octet, octet by octet, and at random, against a plain model that
 * follows the words of the RFC step by step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "parser/canon.h"
#include "tests/support/canonical.h"
#include "tests/unit/guard.h"

static struct guard guard;

static const struct {
    struct bytes in, out;
} bodies[] = {
    {BYTES(""),                                                                      BYTES("")                       },
    {BYTES("\r\n"),                                                                  BYTES("")                       },
    {BYTES("\r\n\r\n\r\n"),                                                          BYTES("")                       },
    {BYTES(" \t\r\n\t\r\n"),                                                         BYTES("")                       },
    {BYTES(" \t"),                                                                   BYTES("")                       },
    {BYTES("a"),                                                                     BYTES("a\r\n")                  },
    {BYTES("a\r\n"),                                                                 BYTES("a\r\n")                  },
    {BYTES("a \t \r\n"),                                                             BYTES("a\r\n")                  },
    {BYTES("a \t "),                                                                 BYTES("a\r\n")                  },
    {BYTES(" a"),                                                                    BYTES(" a\r\n")                 },
    {BYTES("\t \ta\tb \t c\r\n"),                                                    BYTES(" a b c\r\n")             },
    {BYTES("a b  c\r\nd\r\n"),                                                       BYTES("a b c\r\nd\r\n")         },
    {BYTES("a\r\n\r\n \r\nb\r\n\r\n"),                                               BYTES("a\r\n\r\n\r\nb\r\n")     },
    {BYTES("a\r\n\r\n b\r\n"),                                                       BYTES("a\r\n\r\n b\r\n")        },
    {BYTES("\r\n\r\na"),                                                             BYTES("\r\n\r\na\r\n")          },
 /* What BINARYMIME may bring: only CR LF ends a line. */
    {BYTES("a\rb\nc \r \n d\r"),                                                     BYTES("a\rb\nc \r \n d\r\r\n")  },
    {BYTES("\r\r\n\n\r\n"),                                                          BYTES("\r\r\n\n\r\n")           },
    {BYTES(" \r"),                                                                   BYTES(" \r\r\n")                },
    {BYTES("\0\v\f\xc3\xa9 \xff\r\n"),                                               BYTES("\0\v\f\xc3\xa9 \xff\r\n")},
 /* RFC 6376 3.4.5 */
    {BYTES(" C \r\nD \t E\r\n\r\n\r\n"),                                             BYTES(" C\r\nD E\r\n")          },
 /* RFC 8463 A.2 */
    {BYTES("Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n"),
     BYTES("Hi.\r\n\r\nWe lost the game. Are you hungry yet?\r\n\r\nJoe.\r\n")                                       },
};

static void assert_canonical(const struct canonical *canonical, struct bytes out)
{
    assert_int_equal(canonical->len, out.len);
    assert_memory_equal(canonical->text, out.data, out.len);
}

/* In pieces of `step`, the first of `first`. */
static void check_body(struct bytes in, struct bytes out, size_t first, size_t step)
{
    struct canonical canonical = {0};
    struct canon_body body = {0};
    for (size_t start = 0, end = first; start < in.len; start = end, end += step) {
        end = end < in.len ? end : in.len;
        canon_body_text(&body, bytes_slice(in, start, end), canonical_take, &canonical);
    }
    canon_body_end(&body, canonical_take, &canonical);
    assert_canonical(&canonical, out);
    canonical_free(&canonical);
}

static void bodies_come_to_the_same_wherever_they_are_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct bytes in = guard_at_end(&guard, bodies[i].in);
        struct canonical model = {0};
        canonical_body(in, &model);
        assert_canonical(&model, bodies[i].out);
        canonical_free(&model);
        for (size_t first = 0; first <= in.len; first++)
            check_body(in, bodies[i].out, first, in.len + 1);
        check_body(in, bodies[i].out, 1, 1);
    }
}

static void random_bodies_are_as_the_model_says(void **state)
{
    (void)state;
    static const char octets[] = "aab  \t\r\n\r\n\r\n.";
    uint8_t text[64];
    uint32_t seed = 1;
    for (int i = 0; i < 20000; i++) {
        size_t len = 0;
        for (; len < sizeof(text) - 1 && (seed = seed * 1664525 + 1013904223) >> 27 != 0; len++)
            text[len] = (uint8_t)octets[(seed >> 16) % (sizeof(octets) - 1)];
        struct bytes in = guard_at_start(&guard, bytes_make(text, len));
        struct canonical model = {0};
        canonical_body(in, &model);
        check_body(in, bytes_make(model.text, model.len), (seed >> 8) % 8, 1 + (seed >> 12) % 9);
        canonical_free(&model);
    }
}

/* What has no white space to be changed is given out in one piece. */
static void count_pieces(void *user, struct bytes piece)
{
    (void)piece;
    ++*(size_t *)user;
}

static void canonical_text_is_given_out_whole(void **state)
{
    (void)state;
    struct canon_body body = {0};
    size_t count = 0;
    canon_body_text(&body, BYTES("one line of words\r\nand a second one\r\nno end"), count_pieces,
                    &count);
    assert_int_equal(count, 1);
}

static const struct {
    struct bytes name, value, out;
} fields[] = {
  /* RFC 6376 3.4.5 */
    {BYTES("A"),       BYTES(" X"),                              BYTES("a:X\r\n")              },
    {BYTES("B"),       BYTES(" Y\t\r\n\tZ  "),                   BYTES("b:Y Z\r\n")            },
    {BYTES("SUBJect"), BYTES(""),                                BYTES("subject:\r\n")         },
    {BYTES("X"),       BYTES(" \t\r\n "),                        BYTES("x:\r\n")               },
    {BYTES("X"),       BYTES("a"),                               BYTES("x:a\r\n")              },
    {BYTES("X"),       BYTES(" \r\n a  b\r\n \r\n\tc:d\r\n\t "), BYTES("x:a b c:d\r\n")        },
    {BYTES("X"),       BYTES("a\r\n b"),                         BYTES("x:a b\r\n")            },
    {BYTES("X"),       BYTES("\xc3\x84 \xff\tZ"),                BYTES("x:\xc3\x84 \xff Z\r\n")},
};

static void fields_are_unfolded(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        struct canonical canonical = {0};
        struct bytes value = guard_at_end(&guard, fields[i].value);
        canon_field(fields[i].name, value, true, canonical_take, &canonical);
        assert_canonical(&canonical, fields[i].out);
        canonical.len = 0;
        canon_field(fields[i].name, value, false, canonical_take, &canonical);
        assert_canonical(&canonical, bytes_slice(fields[i].out, 0, fields[i].out.len - 2));
        canonical_free(&canonical);
    }
}

static void long_names_are_made_lower_case_to_their_end(void **state)
{
    (void)state;
    uint8_t name[200], lower[202];
    struct canonical canonical = {0};
    memset(name, 'Q', sizeof(name));
    memset(lower, 'q', sizeof(lower));
    memcpy(lower + 200, ":v", 2);
    canon_field(bytes_make(name, 200), BYTES("v"), false, canonical_take, &canonical);
    assert_canonical(&canonical, bytes_make(lower, 202));
    canonical_free(&canonical);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_come_to_the_same_wherever_they_are_cut),
        cmocka_unit_test(random_bodies_are_as_the_model_says),
        cmocka_unit_test(canonical_text_is_given_out_whole),
        cmocka_unit_test(fields_are_unfolded),
        cmocka_unit_test(long_names_are_made_lower_case_to_their_end),
    };
    guard = guard_make(4096);
    return cmocka_run_group_tests_name("canon", tests, NULL, NULL);
}
