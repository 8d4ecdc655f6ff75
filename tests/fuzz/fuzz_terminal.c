/* supervisord/terminal.c: the first two bytes are the terminal's size, the rest is what it is sent.
 * What comes out is text without control characters. */
#include "fuzz.h"

#include "base/failure.h"
#include "base/text.h"
#include "supervisord/terminal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf out = {0};
    if (size < 2)
        return 0;
    int error = terminal_render(&out, (const char *)data + 2, size - 2, data[0], data[1]);
    PROMISE(error == 0 || error == HEARTH_ETOOLARGE);
    PROMISE(!out.length || utf8_valid(out.data, out.length));
    for (size_t i = 0; i < out.length; i++)
        PROMISE(out.data[i] == '\n' || ((unsigned char)out.data[i] >= ' ' && out.data[i] != 0x7f));
    buf_free(&out);
    return 0;
}
