/* What a person would see of a terminal's output: its bytes taken by a terminal's screen logic
 * (libvterm), and the text of what has scrolled away and of the screen at the end. Cursor moves,
 * erasing, backspace, wide and combining characters, the alternate screen: all as on a screen.
 * Pure, any thread; takes its time. */
#pragma once

#include "base/buf.h"

#define TERMINAL_COLS_MIN 10 /* narrower ones are not safe with libvterm and wide characters */
#define TERMINAL_ROWS_MIN 2
#define TERMINAL_COLS_MAX 500
#define TERMINAL_ROWS_MAX 200
#define TERMINAL_TEXT_MAX ((size_t)4 << 20)

/* The first `before` bytes are what the terminal was sent before: nothing of them is shown, but
 * they tell where a sequence ends that began in them, and what is on the alternate screen, which is
 * shown whole.
 *
 * Appends lines, blanks at their ends taken off, to out; no control character but newline is among
 * them. 0, HEARTH_ENOMEMORY, or HEARTH_ETOOLARGE where the bytes take too much time, or give more
 * than TERMINAL_TEXT_MAX bytes of text. Sizes past the limits are taken as the limits. */
int terminal_render(struct buf *out, const char *data, size_t length, size_t before, unsigned cols,
                    unsigned rows);
