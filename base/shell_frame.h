/* The frames of an attached shell, as docs/shells.md has them: a type, a length of 4 bytes
 * (big-endian) and so many bytes. Both ends, hearthd and hearth, write and read them by this. */
#pragma once

#include <stddef.h>

#define SHELL_PROTOCOL "hearth-shell" /* what the connection is upgraded to */
#define SHELL_FRAME_HEAD 5

static inline void shell_frame_write(unsigned char head[SHELL_FRAME_HEAD], char type, size_t length)
{
    head[0] = (unsigned char)type;
    for (int i = 0; i < 4; i++)
        head[1 + i] = (unsigned char)(length >> (24 - 8 * i));
}

static inline size_t shell_frame_length(const unsigned char head[SHELL_FRAME_HEAD])
{
    return (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | head[4];
}
