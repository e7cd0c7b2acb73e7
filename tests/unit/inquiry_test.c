/* gateway/admin/inquiry: requests of the control socket that are right, and what is said about
 * those that are not: no misspelt filter may make "remove" mean more than was meant. */
#include "gateway/admin/inquiry.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/base/id.h"
#include "gateway/deliver/queue.h"

static bool parse(const char *text, struct inquiry *inquiry, char *error)
{
    return inquiry_parse(bytes_of_string(text), inquiry, error);
}

static void everything_that_may_be_said(void **state)
{
    (void)state;
    char error[INQUIRY_ERROR_MAX], text[512], ids[2][ID_TEXT_LEN + 1];
    struct inquiry inquiry;
    id_format(77, ids[0]);
    id_format(5, ids[1]);
    snprintf(text, sizeof(text),
             "{\"do\":\"list\",\"ids\":[\"%s\",\"%s\",\"%s\"],\"domain\":\"b.example\","
             "\"sender\":\"<>\",\"reason\":\"grey\",\"destination\":\"mx:b.example\","
             "\"state\":\"held\",\"older_than\":7200,\"limit\":10}",
             ids[0], ids[1], ids[0]);
    assert_true(parse(text, &inquiry, error));
    assert_int_equal(inquiry.kind, INQUIRY_LIST);
    assert_int_equal(inquiry.filter.id_count, 2);
    assert_int_equal(inquiry.filter.ids[0], 5);
    assert_int_equal(inquiry.filter.ids[1], 77);
    assert_string_equal(inquiry.filter.domain, "b.example");
    assert_string_equal(inquiry.filter.sender, "<>");
    assert_string_equal(inquiry.filter.reason, "grey");
    assert_string_equal(inquiry.filter.destination, "mx:b.example");
    assert_int_equal(inquiry.filter.state, CONSIGNMENT_HELD);
    assert_int_equal(inquiry.filter.older_s, 7200);
    assert_int_equal(inquiry.limit, 10);
    inquiry_free(&inquiry);
    assert_true(
        parse("{\"do\":\"trace\",\"ip\":\"192.0.2.0/24\",\"rcpt\":\"@b.example\",\"limit\":5}",
              &inquiry, error));
    assert_int_equal(inquiry.kind, INQUIRY_TRACE);
    assert_string_equal(inquiry.trace_ip, "192.0.2.0/24");
    assert_string_equal(inquiry.trace_rcpt, "@b.example");
    assert_int_equal(inquiry.limit, 5);
    inquiry_free(&inquiry);
    static const struct {
        const char *text;
        enum inquiry_kind kind;
    } cases[] = {
        {"{\"do\":\"list\"}",                      INQUIRY_LIST        },
        {"{\"do\":\"summary\"}",                   INQUIRY_SUMMARY     },
        {"{\"do\":\"destinations\"}",              INQUIRY_DESTINATIONS},
        {" {\"do\" : \"status\"} \r",              INQUIRY_STATUS      },
        {"{\"do\":\"drain\"}",                     INQUIRY_DRAIN       },
        {"{\"do\":\"reload\"}",                    INQUIRY_RELOAD      },
        {"{\"do\":\"handover\"}",                  INQUIRY_HANDOVER    },
        {"{\"do\":\"retry\",\"all\":true}",        INQUIRY_RETRY       },
        {"{\"do\":\"hold\",\"domain\":\"x\"}",     INQUIRY_HOLD        },
        {"{\"do\":\"release\",\"older_than\":1}",  INQUIRY_RELEASE     },
        {"{\"do\":\"remove\",\"state\":\"held\"}", INQUIRY_REMOVE      },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_true(parse(cases[i].text, &inquiry, error));
        assert_int_equal(inquiry.kind, cases[i].kind);
        assert_int_equal(inquiry.limit, UINT64_MAX);
        inquiry_free(&inquiry);
    }
}

static void mistakes_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *text, *error;
    } cases[] = {
        {"",                                                          "no JSON: "                              },
        {"{\"do\":",                                                  "no JSON: "                              },
        {"[]",                                                        "no JSON object"                         },
        {"null",                                                      "no JSON: "                              },
        {"{}",                                                        "there is no \"do\""                     },
        {"{\"do\":1}",                                                "\"do\" is nothing known: "              },
        {"{\"do\":\"List\"}",                                         "\"do\" is nothing known: List"          },
        {"{\"do\":\"list\",\"do\":\"remove\"}",                       "no JSON: duplicate"                     },
        {"{\"do\":\"remove\"}",                                       "remove needs ids, a filter, or"         },
        {"{\"do\":\"hold\"}",                                         "hold needs ids, a filter, or"           },
        {"{\"do\":\"remove\",\"domian\":\"x\"}",                      "unknown key, or not its value: domian"  },
        {"{\"do\":\"remove\",\"all\":1}",                             "unknown key, or not its value: all"     },
        {"{\"do\":\"remove\",\"all\":false}",                         "unknown key, or not its value: all"     },
        {"{\"do\":\"remove\",\"all\":true,\"domain\":\"x\"}",         "remove: \"all\" and a filter"           },
        {"{\"do\":\"remove\",\"domain\":\"\"}",                       "\"domain\" must be a text"              },
        {"{\"do\":\"remove\",\"reason\":null}",                       "\"reason\" must be a text"              },
        {"{\"do\":\"remove\",\"older_than\":0}",                      "\"older_than\" must be a number above"  },
        {"{\"do\":\"remove\",\"older_than\":\"2h\"}",                 "\"older_than\" must be a number above"  },
        {"{\"do\":\"remove\",\"ids\":[]}",                            "\"ids\" must be a list of 1 to 4096 ids"},
        {"{\"do\":\"remove\",\"ids\":\"x\"}",                         "\"ids\" must be a list of 1 to 4096 ids"},
        {"{\"do\":\"remove\",\"ids\":[1]}",                           "\"\" is not the id of a message"        },
        {"{\"do\":\"remove\",\"ids\":[\"abc\"]}",                     "\"abc\" is not the id of a message"     },
        {"{\"do\":\"list\",\"state\":\"stuck\"}",                     "\"state\" is none of ready"             },
        {"{\"do\":\"list\",\"state\":\"\"}",                          "\"state\" is none of ready"             },
        {"{\"do\":\"show\"}",                                         "show needs \"ids\""                     },
        {"{\"do\":\"show\",\"domain\":\"x\"}",                        "show needs \"ids\""                     },
        {"{\"do\":\"summary\",\"limit\":1}",                          "only list and trace have a \"limit\""   },
        {"{\"do\":\"trace\"}",                                        "trace needs \"ip\" or \"rcpt\""         },
        {"{\"do\":\"trace\",\"ip\":\"::1\",\"state\":\"held\"}",      "trace needs"                            },
        {"{\"do\":\"trace\",\"ip\":\"10.0.0.1/8\"}",                  "\"ip\": bits are set behind"            },
        {"{\"do\":\"trace\",\"ip\":null}",                            "\"ip\" must be an IP address"           },
        {"{\"do\":\"trace\",\"rcpt\":\"@\"}",                         "\"rcpt\" must be an address"            },
        {"{\"do\":\"remove\",\"rcpt\":\"a@b.example\",\"all\":true}", "only trace has \"ip\""                  },
        {"{\"do\":\"trace\",\"ip\":\"::1\",\"ip\":\"::2\"}",          "no JSON: duplicate"                     },
        {"{\"do\":\"status\",\"domain\":\"x\"}",                      "status has no filter"                   },
        {"{\"do\":\"drain\",\"domain\":\"x\"}",                       "drain has no filter"                    },
        {"{\"do\":\"reload\",\"ids\":[\"aerukz4jvpg66\"]}",           "reload has no filter"                   },
        {"{\"do\":\"handover\",\"state\":\"held\"}",                  "handover has no filter"                 },
        {"{\"do\":\"drain\",\"limit\":1}",                            "only list"                              },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char error[INQUIRY_ERROR_MAX] = "";
        struct inquiry inquiry;
        assert_false(parse(cases[i].text, &inquiry, error));
        if (strncmp(error, cases[i].error, strlen(cases[i].error)) != 0)
            fail_msg("%s: %s", cases[i].text, error);
    }
}

/* Cut off anywhere, or with any octet replaced: an answer, never a crash, and never another action.
 */
static void damaged_requests_get_an_answer(void **state)
{
    (void)state;
    static const char text[] = "{\"do\":\"remove\",\"domain\":\"b.example\",\"older_than\":60}";
    char error[INQUIRY_ERROR_MAX];
    struct inquiry inquiry;
    for (size_t len = 0; len + 1 < sizeof(text); len++)
        assert_false(inquiry_parse(bytes_make(text, len), &inquiry, error));
    for (size_t i = 0; i + 1 < sizeof(text); i++)
        for (unsigned octet = 0; octet < 256; octet++) {
            char copy[sizeof(text)];
            memcpy(copy, text, sizeof(text));
            copy[i] = (char)octet;
            if (!inquiry_parse(bytes_make(copy, sizeof(text) - 1), &inquiry, error))
                continue;
            assert_int_equal(inquiry.kind, INQUIRY_REMOVE);
            assert_non_null(inquiry.filter.domain);
            assert_true(inquiry.filter.older_s > 0);
            inquiry_free(&inquiry);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_that_may_be_said),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(damaged_requests_get_an_answer),
    };
    return cmocka_run_group_tests_name("inquiry", tests, NULL, NULL);
}
