/* See stage.h. */
#include "tests/support/stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

const char stage_letter[] = "Subject: test\r\n\r\n.dot\r\n..two\r\ntext\r\n";
const char stage_stuffed[] = "Subject: test\r\n\r\n..dot\r\n...two\r\ntext\r\n.\r\n";

struct scene stage_scene;
struct postman postman;
struct parcel parcel, second;

void stage_start(void **state)
{
    scene_start(&stage_scene);
    postman_init(&postman, state, &stage_scene);
    parcel_make(&parcel, stage_letter, strlen(stage_letter), 1);
    parcel_make(&second, stage_letter, strlen(stage_letter), 1);
    postman.parcels[0] = &parcel;
}

void stage_begin(void **state, const char *const *script)
{
    stage_scene = (struct scene){.scripts = {script}};
    stage_start(state);
}

void stage_play(void)
{
    postman_run(&postman);
    scene_stop(&stage_scene);
    postman_free(&postman);
}

void stage_end(const char *text)
{
    stage_play();
    assert_string_equal(stage_scene.fault, "");
    assert_int_equal(stage_scene.text_len, strlen(text));
    assert_memory_equal(stage_scene.text, text, stage_scene.text_len);
    free(stage_scene.text);
}

void stage_expect(const struct parcel *from, uint32_t index, enum verdict_kind kind, uint16_t code,
                  const char *text)
{
    const struct verdict *verdict = &from->recipients[index].verdict;
    assert_string_equal(verdict->text, text);
    assert_int_equal(verdict->kind, kind);
    assert_int_equal(verdict->code, code);
}
