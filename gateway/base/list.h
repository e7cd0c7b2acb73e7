/* Intrusive doubly linked list. A node belongs to at most one list; the zero node belongs to none.
 */
#ifndef GATEWAY_BASE_LIST_H
#define GATEWAY_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *next;
    struct list_node *previous;
};

/* A list is a node that is its own neighbour when empty. */
struct list {
    struct list_node head;
};

/* list_entry returns the struct of `type` whose member `member` is `node`. */
#define list_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void list_init(struct list *list)
{
    list->head.next = list->head.previous = &list->head;
}

static inline bool list_empty(const struct list *list)
{
    return list->head.next == &list->head;
}

/* list_linked tells whether `node` is in some list. */
static inline bool list_linked(const struct list_node *node)
{
    return node->next != NULL;
}

static inline void list_append(struct list *list, struct list_node *node)
{
    node->next = &list->head;
    node->previous = list->head.previous;
    node->previous->next = node;
    list->head.previous = node;
}

/* list_remove takes `node` out of its list; nothing happens when it is in none. */
static inline void list_remove(struct list_node *node)
{
    if (!list_linked(node))
        return;
    node->previous->next = node->next;
    node->next->previous = node->previous;
    node->next = node->previous = NULL;
}

/* list_first returns the first node, or NULL. */
static inline struct list_node *list_first(const struct list *list)
{
    return list_empty(list) ? NULL : list->head.next;
}

/* list_pop takes the first node out and returns it, or NULL. */
static inline struct list_node *list_pop(struct list *list)
{
    struct list_node *node = list_first(list);
    if (node != NULL)
        list_remove(node);
    return node;
}

/* list_move_all puts all nodes of `from` at the end of `to`. */
static inline void list_move_all(struct list *to, struct list *from)
{
    if (list_empty(from))
        return;
    from->head.next->previous = to->head.previous;
    from->head.previous->next = &to->head;
    to->head.previous->next = from->head.next;
    to->head.previous = from->head.previous;
    list_init(from);
}

#endif
