/* See place.h. */
#include "bench/load/place.h"

#include "bench/load/client_parts.h"
#include "bench/load/connection.h"
#include "bench/load/endpoint.h"

#include <stdlib.h>
#include <unistd.h>

static const uint64_t retry_ns = 20000000;

/* Places of this kind are filled by arrivals, one connection each. */
static bool is_filled_by_arrivals(const struct client *client, const struct place *place)
{
    return place->kind == PLACE_SENDS && client->options->loop == LOAD_LOOP_CONNECTIONS;
}

bool place_start(struct client *client)
{
    const struct client_task *task = &client->task;
    client->place_count = task->connections + task->idle + task->slow;
    client->places = calloc(client->place_count + 1, sizeof(*client->places));
    if (client->places == NULL)
        return false;
    for (uint32_t i = 0; i < client->place_count; i++) {
        struct place *place = &client->places[i];
        place->kind = i < task->connections                ? PLACE_SENDS
                      : i < task->connections + task->idle ? PLACE_HOLDS
                                                           : PLACE_SLOW;
        bool later = is_filled_by_arrivals(client, place);
        place->arrived = later; /* the start does not wait for it */
        client->to_come += !later;
        list_append(later ? &client->spare : &client->waiting, &place->node);
    }
    client->alive = client->place_count;
    client->senders_alive = task->connections;
    return true;
}

void place_arrived(struct client *client, struct place *place)
{
    client->arrived += !place->arrived;
    if (!place->arrived)
        client->progress_ns = client_now_ns();
    place->arrived = true;
}

void place_settle(struct client *client, struct place *place, uint64_t now_ns)
{
    struct meter *meter = &client->meter;
    if (place->intended_ns != 0)
        meter_time_begun(meter, TALLY_CONNECTION, place->intended_ns, now_ns);
    if (place->message_ns != 0)
        meter_time_begun(meter, TALLY_MESSAGE, place->message_ns, now_ns);
    place->intended_ns = place->message_ns = 0;
}

static void give_up(struct client *client, struct place *place)
{
    place_settle(client, place, client_now_ns());
    client->alive--;
    client->senders_alive -= place->kind == PLACE_SENDS;
}

void place_closed(struct client *client, struct place *place, enum place_end end, uint64_t now_ns)
{
    const struct load_options *options = client->options;
    bool enough = place->kind == PLACE_SENDS && client->task.messages > 0 &&
                  client->begun >= client->task.messages;
    bool draining = client->stage >= CLIENT_DRAINING;
    bool again = end == PLACE_FAILED && options->reconnect &&
                 (!is_filled_by_arrivals(client, place) || place_has_more(place));
    place_arrived(client, place);
    if (client->stage == CLIENT_OVER) {
        give_up(client, place);
    } else if (is_filled_by_arrivals(client, place) && !again) {
        place_settle(client, place, now_ns);
        client->taken--;
        list_append(&client->spare, &place->node);
    } else if (draining && (options->loop == LOAD_LOOP_CLOSED || place->kind != PLACE_SENDS)) {
        give_up(client, place);
    } else if (again) {
        place->retry_ns = now_ns + retry_ns;
        list_append(&client->retrying, &place->node);
    } else if (end == PLACE_DONE && !enough) {
        list_append(&client->waiting, &place->node);
    } else {
        give_up(client, place);
    }
}

static uint32_t messages_limit(struct client *client, const struct place *place)
{
    struct words_range range = client->options->messages_per_connection;
    if (range.max == 0)
        return is_filled_by_arrivals(client, place) ? 1 : 0;
    if (range.min == range.max)
        return range.max;
    return range.min +
           (uint32_t)(schedule_random(&client->chance) % ((uint64_t)range.max - range.min + 1));
}

bool place_take(struct client *client, uint64_t intended_ns)
{
    struct list_node *node = list_pop(&client->spare);
    if (node == NULL)
        return false;
    struct place *place = list_entry(node, struct place, node);
    place->intended_ns = place->message_ns = intended_ns;
    place->messages = 0;
    place->messages_limit = messages_limit(client, place);
    client->taken++;
    list_append(&client->waiting, node);
    return true;
}

/* --- opening --- */

/* False: it has to be tried again later. */
static bool open_connection(struct client *client, struct place *place)
{
    char message[256];
    const struct load_options *options = client->options;
    uint64_t number = client->task.index + client->connects * client->task.threads;
    int descriptor = endpoint_open(options, number, message, sizeof(message));
    if (descriptor < 0) {
        client_fail(client, descriptor, message);
        return false;
    }
    struct connection *connection = worker_connect(
        &client->worker, descriptor, (const struct sockaddr *)&options->peer, options->peer_len);
    if (connection == NULL) {
        close(descriptor);
        return false;
    }
    if (!is_filled_by_arrivals(client, place)) {
        place->messages = 0;
        place->messages_limit = messages_limit(client, place);
    }
    client->connects++;
    connection->client = client;
    connection->place = place;
    connection->number = number;
    connection->sends = place->kind == PLACE_SENDS;
    connection->slow = place->kind == PLACE_SLOW;
    connection->opening = true;
    connection->begun_ns = client_now_ns();
    client->opening++;
    client->open++;
    return true;
}

void place_open_waiting(struct client *client, uint64_t now_ns)
{
    struct list_node *node;
    while ((node = list_first(&client->retrying)) != NULL &&
           list_entry(node, struct place, node)->retry_ns <= now_ns) {
        list_remove(node);
        list_append(&client->waiting, node);
    }
    while (client->opening < client->opening_max && (node = list_pop(&client->waiting)) != NULL) {
        client->active = true;
        if (open_connection(client, list_entry(node, struct place, node)))
            continue;
        list_append(&client->waiting, node);
        return;
    }
}

uint64_t place_next_ns(const struct client *client)
{
    struct list_node *first = list_first(&client->retrying);
    return first == NULL ? UINT64_MAX : list_entry(first, struct place, node)->retry_ns;
}

void place_forget(struct client *client,
                  void (*forgotten)(struct client *client, const struct place *place))
{
    struct list_node *node;
    list_move_all(&client->waiting, &client->retrying);
    while ((node = list_pop(&client->waiting)) != NULL) {
        struct place *place = list_entry(node, struct place, node);
        if (is_filled_by_arrivals(client, place) && forgotten != NULL)
            forgotten(client, place);
        give_up(client, place);
    }
}
