/* The intrusive list against an array that does the same. */
#include "gateway/base/list.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct item {
    int number;
    struct list_node node;
};

/* expect walks the list in both directions. */
static void expect(struct list *list, const int *numbers, size_t count)
{
    struct list_node *node = &list->head;
    for (size_t i = 0; i < count; i++) {
        assert_ptr_equal(node->next->previous, node);
        node = node->next;
        assert_true(node != &list->head);
        assert_int_equal(list_entry(node, struct item, node)->number, numbers[i]);
    }
    assert_ptr_equal(node->next, &list->head);
    assert_ptr_equal(list->head.previous, node);
    assert_int_equal(list_empty(list), count == 0);
}

static void zero_node_is_in_no_list(void **state)
{
    (void)state;
    struct item item = {0};
    assert_false(list_linked(&item.node));
    list_remove(&item.node);
    assert_false(list_linked(&item.node));
}

static void order_of_append_is_kept(void **state)
{
    (void)state;
    struct list list;
    struct item items[5] = {0};
    list_init(&list);
    expect(&list, NULL, 0);
    assert_null(list_first(&list));
    assert_null(list_pop(&list));
    for (int i = 0; i < 5; i++) {
        items[i].number = i;
        list_append(&list, &items[i].node);
        assert_true(list_linked(&items[i].node));
    }
    expect(&list, (int[]){0, 1, 2, 3, 4}, 5);
    list_remove(&items[2].node);
    list_remove(&items[2].node); /* twice does no harm */
    assert_false(list_linked(&items[2].node));
    expect(&list, (int[]){0, 1, 3, 4}, 4);
    list_remove(&items[0].node);
    list_remove(&items[4].node);
    expect(&list, (int[]){1, 3}, 2);
    assert_ptr_equal(list_first(&list), &items[1].node);
    assert_ptr_equal(list_pop(&list), &items[1].node);
    assert_ptr_equal(list_pop(&list), &items[3].node);
    assert_false(list_linked(&items[3].node));
    expect(&list, NULL, 0);
}

static void all_of_one_moves_behind_another(void **state)
{
    (void)state;
    for (int to_count = 0; to_count < 3; to_count++)
        for (int from_count = 0; from_count < 3; from_count++) {
            struct list to;
            struct list from;
            struct item items[4] = {0};
            int numbers[4];
            list_init(&to);
            list_init(&from);
            for (int i = 0; i < to_count + from_count; i++) {
                items[i].number = numbers[i] = i;
                list_append(i < to_count ? &to : &from, &items[i].node);
            }
            list_move_all(&to, &from);
            expect(&to, numbers, (size_t)(to_count + from_count));
            expect(&from, NULL, 0);
            if (from_count > 0) { /* nodes know nothing of the old list */
                list_remove(&items[to_count].node);
                expect(&from, NULL, 0);
            }
        }
}

static void random_walk(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    struct list list;
    struct item items[COUNT] = {0};
    int model[COUNT];
    size_t len = 0;
    uint32_t random = 7;
    list_init(&list);
    for (int step = 0; step < 20000; step++) {
        random = random * 1664525 + 1013904223;
        int number = (int)(random >> 16) % COUNT;
        struct item *item = &items[number];
        item->number = number;
        if (!list_linked(&item->node)) {
            list_append(&list, &item->node);
            model[len++] = number;
        } else {
            list_remove(&item->node);
            size_t at = 0;
            while (model[at] != number)
                at++;
            memmove(model + at, model + at + 1, (--len - at) * sizeof(model[0]));
        }
        expect(&list, model, len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zero_node_is_in_no_list),
        cmocka_unit_test(order_of_append_is_kept),
        cmocka_unit_test(all_of_one_moves_behind_another),
        cmocka_unit_test(random_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
