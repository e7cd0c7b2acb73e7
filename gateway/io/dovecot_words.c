/* The words of Dovecot's lines: see dovecot_words.h. */
#include "gateway/io/dovecot_words.h"

#include <string.h>

char *dovecot_word(char **rest)
{
    char *word = *rest;
    if (word == NULL)
        return NULL;
    char *tab = strchr(word, '\t');
    if (tab != NULL)
        *tab = '\0';
    *rest = tab == NULL ? NULL : tab + 1;
    return word;
}

/* value_of returns what follows "name="; NULL: the word is another. */
static char *value_of(char *word, const char *name)
{
    size_t len = strlen(name);
    return strncmp(word, name, len) == 0 && word[len] == '=' ? word + len + 1 : NULL;
}

/* unescape undoes, in place, what Dovecot does to octets that would end a word. */
static size_t unescape(char *text)
{
    static const char plain[] = {'\0', '\1', '\t', '\r', '\n'}, escaped[] = "01trn";
    size_t len = 0;
    for (const char *at = text; *at != '\0'; at++) {
        const char *found = at[0] == '\1' && at[1] != '\0' ? strchr(escaped, at[1]) : NULL;
        text[len++] = found == NULL ? *at : plain[found - escaped];
        at += found != NULL;
    }
    return len;
}

bool dovecot_number(const char *text, uint32_t *out)
{
    uint64_t number = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 10)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(text[i] - '0');
    }
    *out = (uint32_t)number;
    return number <= UINT32_MAX;
}

bool dovecot_read(const char *verb, char *rest, struct dovecot_answer *answer)
{
    char *word, *value;
    *answer = (struct dovecot_answer){.status = DOVECOT_FAIL};
    if (strcmp(verb, "CONT") == 0) {
        answer->status = DOVECOT_CONTINUE;
        answer->text = dovecot_word(&rest);
        answer->text_len = answer->text == NULL ? 0 : strlen(answer->text);
        return answer->text != NULL;
    }
    if (strcmp(verb, "OK") == 0)
        answer->status = DOVECOT_OK;
    while ((word = dovecot_word(&rest)) != NULL) {
        if ((value = value_of(word, "user")) != NULL) {
            answer->user_len = unescape(value);
            answer->user = value;
        } else if ((value = value_of(word, "resp")) != NULL && answer->status == DOVECOT_OK) {
            answer->text = value;
            answer->text_len = strlen(value);
        } else if (answer->status == DOVECOT_FAIL &&
                   (strcmp(word, "temp") == 0 || strcmp(word, "code=temp_fail") == 0)) {
            answer->status = DOVECOT_TEMPORARY;
        }
    }
    return answer->status != DOVECOT_OK || answer->user != NULL;
}
