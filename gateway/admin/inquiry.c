/* Requests of the control socket: see inquiry.h. Everything is looked at: a key or a value that is
 * not known is an error, so that no misspelt filter makes "remove" mean more than was meant. */
#include "gateway/admin/inquiry.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/base/id.h"
#include "gateway/deliver/queue.h"
#include "gateway/policy/networks.h"
#include "parser/address.h"

static const char *const kinds[] = {
    [INQUIRY_LIST] = "list",         [INQUIRY_SHOW] = "show",
    [INQUIRY_SUMMARY] = "summary",   [INQUIRY_DESTINATIONS] = "destinations",
    [INQUIRY_STATUS] = "status",     [INQUIRY_TRACE] = "trace",
    [INQUIRY_DRAIN] = "drain",       [INQUIRY_RELOAD] = "reload",
    [INQUIRY_HANDOVER] = "handover", [INQUIRY_RETRY] = "retry",
    [INQUIRY_HOLD] = "hold",         [INQUIRY_RELEASE] = "release",
    [INQUIRY_REMOVE] = "remove",
};
enum { KIND_COUNT = sizeof(kinds) / sizeof(kinds[0]) };

static const char *const states[] = {
    [CONSIGNMENT_FREE] = "",           [CONSIGNMENT_READY] = "ready",
    [CONSIGNMENT_WAITING] = "waiting", [CONSIGNMENT_TAKEN] = "active",
    [CONSIGNMENT_LINED] = "lined",     [CONSIGNMENT_HELD] = "held",
};
enum { STATE_COUNT = sizeof(states) / sizeof(states[0]) };

const char *inquiry_state_name(uint8_t state)
{
    return state < STATE_COUNT ? states[state] : "";
}

__attribute__((format(printf, 2, 3))) static bool wrong(char *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, INQUIRY_ERROR_MAX, format, arguments);
    va_end(arguments);
    return false;
}

static int compare_ids(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool read_ids(struct inquiry_filter *filter, const json_t *value, char *error)
{
    size_t count = json_array_size(value);
    if (!json_is_array(value) || count == 0 || count > INQUIRY_IDS_MAX)
        return wrong(error, "\"ids\" must be a list of 1 to %d ids", INQUIRY_IDS_MAX);
    filter->ids = calloc(count, sizeof(*filter->ids));
    if (filter->ids == NULL)
        return wrong(error, "out of memory");
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(value, i));
        if (text == NULL || !id_parse(text, strlen(text), &filter->ids[i]))
            return wrong(error, "\"%.40s\" is not the id of a message", text == NULL ? "" : text);
    }
    qsort(filter->ids, count, sizeof(*filter->ids), compare_ids);
    for (size_t i = 0; i < count; i++)
        if (filter->id_count == 0 || filter->ids[i] != filter->ids[filter->id_count - 1])
            filter->ids[filter->id_count++] = filter->ids[i];
    return true;
}

static bool read_state(struct inquiry_filter *filter, const json_t *value, char *error)
{
    const char *text = json_string_value(value);
    for (uint8_t i = 1; text != NULL && i < STATE_COUNT; i++)
        if (strcmp(text, states[i]) == 0)
            filter->state = i;
    if (filter->state == 0)
        return wrong(error, "\"state\" is none of ready, waiting, active, lined, held");
    return true;
}

static bool read_text(char **to, const char *key, const json_t *value, char *error)
{
    const char *text = json_string_value(value);
    if (text == NULL || text[0] == '\0')
        return wrong(error, "\"%.40s\" must be a text that is not empty", key);
    *to = strdup(text);
    return *to != NULL || wrong(error, "out of memory");
}

static bool read_number(uint64_t *to, const char *key, const json_t *value, char *error)
{
    if (!json_is_integer(value) || json_integer_value(value) <= 0)
        return wrong(error, "\"%.40s\" must be a number above 0", key);
    *to = (uint64_t)json_integer_value(value);
    return true;
}

/* read_ip takes a network of which the set that will be made of it consists. */
static bool read_ip(struct inquiry *inquiry, const json_t *value, char *error)
{
    struct networks *networks = networks_new();
    const char *text = json_string_value(value);
    enum networks_result result = NETWORKS_NO_NETWORK;
    if (networks != NULL && text != NULL)
        result = networks_add(networks, text);
    networks_free(networks);
    switch (result) {
    case NETWORKS_ADDED: return read_text(&inquiry->trace_ip, "ip", value, error);
    case NETWORKS_HOST_BITS: return wrong(error, "\"ip\": bits are set behind the /length");
    default: return wrong(error, "\"ip\" must be an IP address, or a network with its /length");
    }
}

static bool read_rcpt(struct inquiry *inquiry, const json_t *value, char *error)
{
    struct address address;
    enum address_domain_kind kind;
    const char *text = json_string_value(value);
    struct bytes in = bytes_of_string(text == NULL ? "" : text);
    bool good = in.len > 0 && in.data[0] == '@'
                    ? address_domain(bytes_skip(in, 1), true, &kind) == ADDRESS_OK
                    : address_mailbox(in, true, &address) == ADDRESS_OK;
    if (!good)
        return wrong(error, "\"rcpt\" must be an address, or @ and a domain");
    return read_text(&inquiry->trace_rcpt, "rcpt", value, error);
}

static bool read_kind(struct inquiry *inquiry, const json_t *value, char *error)
{
    const char *text = json_string_value(value);
    for (unsigned i = 0; text != NULL && i < KIND_COUNT; i++)
        if (strcmp(text, kinds[i]) == 0) {
            inquiry->kind = (enum inquiry_kind)i;
            return true;
        }
    return wrong(error, "\"do\" is nothing known: %.40s", text == NULL ? "" : text);
}

static bool read_item(struct inquiry *inquiry, const char *key, const json_t *value, bool *all,
                      char *error)
{
    struct inquiry_filter *filter = &inquiry->filter;
    if (strcmp(key, "do") == 0)
        return read_kind(inquiry, value, error);
    if (strcmp(key, "ids") == 0)
        return read_ids(filter, value, error);
    if (strcmp(key, "domain") == 0)
        return read_text(&filter->domain, key, value, error);
    if (strcmp(key, "sender") == 0)
        return read_text(&filter->sender, key, value, error);
    if (strcmp(key, "reason") == 0)
        return read_text(&filter->reason, key, value, error);
    if (strcmp(key, "destination") == 0)
        return read_text(&filter->destination, key, value, error);
    if (strcmp(key, "state") == 0)
        return read_state(filter, value, error);
    if (strcmp(key, "older_than") == 0)
        return read_number(&filter->older_s, key, value, error);
    if (strcmp(key, "limit") == 0)
        return read_number(&inquiry->limit, key, value, error);
    if (strcmp(key, "ip") == 0)
        return read_ip(inquiry, value, error);
    if (strcmp(key, "rcpt") == 0)
        return read_rcpt(inquiry, value, error);
    if (strcmp(key, "all") == 0 && json_is_true(value))
        return *all = true;
    return wrong(error, "unknown key, or not its value: %.40s", key);
}

static bool is_empty(const struct inquiry_filter *filter)
{
    return filter->id_count == 0 && filter->domain == NULL && filter->sender == NULL &&
           filter->reason == NULL && filter->destination == NULL && filter->older_s == 0 &&
           filter->state == 0;
}

static bool check(const struct inquiry *inquiry, bool has_kind, bool all, char *error)
{
    bool empty = is_empty(&inquiry->filter);
    if (!has_kind)
        return wrong(error, "there is no \"do\"");
    if (inquiry->kind == INQUIRY_SHOW && inquiry->filter.id_count == 0)
        return wrong(error, "show needs \"ids\"");
    bool trace = inquiry->kind == INQUIRY_TRACE;
    if (inquiry->limit != UINT64_MAX && inquiry->kind != INQUIRY_LIST && !trace)
        return wrong(error, "only list and trace have a \"limit\"");
    bool chooses = inquiry->trace_ip != NULL || inquiry->trace_rcpt != NULL;
    if (chooses && !trace)
        return wrong(error, "only trace has \"ip\" and \"rcpt\"");
    if (trace && (!chooses || !empty || all))
        return wrong(error, "trace needs \"ip\" or \"rcpt\", and has no filter");
    if (inquiry->kind >= INQUIRY_RETRY && empty == !all)
        return wrong(error,
                     empty ? "%s needs ids, a filter, or \"all\": true"
                           : "%s: \"all\" and a filter exclude each other",
                     kinds[inquiry->kind]);
    if (inquiry->kind >= INQUIRY_DESTINATIONS && inquiry->kind < INQUIRY_RETRY && !empty)
        return wrong(error, "%s has no filter", kinds[inquiry->kind]);
    return true;
}

bool inquiry_parse(struct bytes line, struct inquiry *inquiry, char *error)
{
    json_error_t mistake;
    json_t *object =
        json_loadb((const char *)line.data, line.len, JSON_REJECT_DUPLICATES, &mistake);
    const char *key;
    json_t *value;
    bool good = json_is_object(object), all = false;
    *inquiry = (struct inquiry){.limit = UINT64_MAX};
    if (object == NULL)
        wrong(error, "no JSON: %.100s", mistake.text);
    else if (!good)
        wrong(error, "no JSON object");
    json_object_foreach(object, key, value)
    {
        good = good && read_item(inquiry, key, value, &all, error);
    }
    good = good && check(inquiry, json_object_get(object, "do") != NULL, all, error);
    json_decref(object);
    if (!good)
        inquiry_free(inquiry);
    return good;
}

void inquiry_free(struct inquiry *inquiry)
{
    free(inquiry->filter.ids);
    free(inquiry->filter.domain);
    free(inquiry->filter.sender);
    free(inquiry->filter.reason);
    free(inquiry->filter.destination);
    free(inquiry->trace_ip);
    free(inquiry->trace_rcpt);
    inquiry->filter = (struct inquiry_filter){0};
    inquiry->trace_ip = inquiry->trace_rcpt = NULL;
}
