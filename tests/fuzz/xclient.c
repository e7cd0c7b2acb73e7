/* Fuzzes xclient_parse: what it takes keeps what xclient.h promises, and is taken again, with the
 * same meaning, when it is written anew, every octet of it encoded. */
#include "parser/xclient.h"

#include "gateway/base/check.h"

#include <arpa/inet.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct draft {
    char text[4096];
    size_t len;
};

static void add(struct draft *draft, const char *format, const char *name, unsigned value)
{
    int len =
        snprintf(draft->text + draft->len, sizeof(draft->text) - draft->len, format, name, value);
    CHECK(len > 0 && draft->len + (size_t)len < sizeof(draft->text));
    draft->len += (size_t)len;
}

/* add_text checks a text, and writes it. */
static void add_text(struct draft *draft, const char *name, const struct xclient_text *text)
{
    CHECK(text->text[text->len] == '\0' && strlen(text->text) == text->len);
    CHECK((text->state == XCLIENT_GIVEN) == (text->len > 0));
    if (text->state == XCLIENT_UNAVAILABLE)
        add(draft, " %s=[UNAVAILABLE]", name, 0);
    if (text->state == XCLIENT_GIVEN)
        add(draft, " %s=", name, 0);
    for (size_t i = 0; i < text->len; i++) {
        uint8_t octet = (uint8_t)text->text[i];
        CHECK(octet >= ' ' && octet != 127);
        add(draft, "%s%02X", "+", octet);
    }
}

static void add_address(struct draft *draft, const struct xclient *client)
{
    char text[INET6_ADDRSTRLEN];
    if (client->address_state == XCLIENT_UNAVAILABLE)
        add(draft, " %s=[TEMPUNAVAIL]", "ADDR", 0);
    if (client->address_state != XCLIENT_GIVEN)
        return;
    CHECK(client->family == 4 || client->family == 6);
    inet_ntop(client->family == 4 ? AF_INET : AF_INET6, client->address, text, sizeof(text));
    add(draft, client->family == 4 ? " ADDR=%s" : " ADDR=IPV6:%s", text, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct xclient client, again;
    struct draft draft = {.len = 0};
    if (!xclient_parse(bytes_make(data, size), &client))
        return 0;
    add_text(&draft, "NAME", &client.name);
    add_text(&draft, "HELO", &client.helo);
    add_text(&draft, "LOGIN", &client.login);
    add_address(&draft, &client);
    if (client.port_state == XCLIENT_GIVEN)
        add(&draft, " %s=%u", "PORT", client.port);
    if (client.port_state == XCLIENT_UNAVAILABLE)
        add(&draft, " %s=[UNAVAILABLE]", "PORT", 0);
    if (client.proto_state == XCLIENT_GIVEN)
        add(&draft, " PROTO=%s", client.esmtp ? "ESMTP" : "SMTP", 0);
    if (client.proto_state == XCLIENT_UNAVAILABLE)
        add(&draft, " %s=[UNAVAILABLE]", "PROTO", 0);
    if (draft.len == 0)
        return 0; /* DESTADDR or DESTPORT alone */
    CHECK(xclient_parse(bytes_make(draft.text, draft.len), &again));
    CHECK(memcmp(&client, &again, sizeof(client)) == 0);
    return 0;
}
