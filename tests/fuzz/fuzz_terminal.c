/* supervisord/terminal.c: the first two bytes are the terminal's size, the rest is what it is sent,
 * all of it new and then some of it old. What comes out is text without control characters. */
#include "fuzz.h"

#include "base/failure.h"
#include "base/text.h"
#include "supervisord/terminal.h"

static void show(const uint8_t *data, size_t size, size_t before)
{
    struct buf out = {0};
    int error = terminal_render(&out, (const char *)data + 2, size - 2, before, data[0], data[1]);
    PROMISE(error == 0 || error == HEARTH_ETOOLARGE);
    PROMISE(!out.length || utf8_valid(out.data, out.length));
    for (size_t i = 0; i < out.length; i++)
        PROMISE(out.data[i] == '\n' || ((unsigned char)out.data[i] >= ' ' && out.data[i] != 0x7f));
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    show(data, size, 0);
    show(data, size, (size_t)data[0] * data[1] % (size - 1));
    return 0;
}
