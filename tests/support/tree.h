/* A folder for one test, with folders, files and Maildirs in it. What goes wrong fails the test. */
#ifndef TESTS_SUPPORT_TREE_H
#define TESTS_SUPPORT_TREE_H

#include <stddef.h>

/* tree_begin makes it below /tmp; tree_end removes it with all that is in it. */
int tree_begin(void **state);
int tree_end(void **state);
#define TREE_TEST(test) cmocka_unit_test_setup_teardown(test, tree_begin, tree_end)

/* tree_path returns the path of an entry, of the folder itself for "", in one of eight buffers
 * used in turn. */
const char *tree_path(const char *name);

/* tree_put writes a file, tree_put_octets one that may have NUL in it. tree_make makes a
 * folder, and tree_make_maildir one with new, cur and tmp. */
void tree_put(const char *name, const char *text);
void tree_put_octets(const char *name, const void *data, size_t len);
void tree_make(const char *name);
void tree_make_maildir(const char *name);

#endif
