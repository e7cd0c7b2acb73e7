/* Fuzzes the words of Dovecot's lines: what comes out lies in the line, no longer than it was, and
 * holds no tab that was not escaped; OK has a user, CONT has a text. */
#include "gateway/io/dovecot_words.h"

#include "gateway/base/check.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool within(const char *text, size_t text_len, const char *line, size_t len)
{
    return text == NULL ? text_len == 0 : text >= line && text + text_len <= line + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (memchr(data, '\0', size) != NULL || memchr(data, '\n', size) != NULL)
        return 0; /* such a line does not come so far */
    char *line = malloc(size + 1), *rest = line;
    CHECK(line != NULL);
    if (size > 0)
        memcpy(line, data, size);
    line[size] = '\0';
    struct dovecot_answer answer;
    uint32_t number = 0;
    const char *verb = dovecot_word(&rest), *word = dovecot_word(&rest);
    CHECK(verb == line && strchr(verb, '\t') == NULL);
    if (word != NULL && dovecot_number(word, &number))
        CHECK(strtoull(word, NULL, 10) == number);
    if (word != NULL && dovecot_read(verb, rest, &answer)) {
        CHECK(within(answer.text, answer.text_len, line, size));
        CHECK(within(answer.user, answer.user_len, line, size));
        CHECK(answer.text_len == 0 || memchr(answer.text, '\t', answer.text_len) == NULL);
        CHECK(answer.status != DOVECOT_OK || answer.user != NULL);
        CHECK((answer.status == DOVECOT_CONTINUE) == (strcmp(verb, "CONT") == 0));
        CHECK((answer.status == DOVECOT_OK) == (strcmp(verb, "OK") == 0));
    }
    free(line);
    return 0;
}
