#include "supervisord/terminal.h"

#include "base/failure.h"
#include "base/text.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <vterm.h>

/* A few bytes may ask for a whole screen to be written: time is looked at after so many. */
#define PIECE 64
#define CPU_MAX_MS 1000

struct rendering {
    VTerm *terminal;
    VTermScreen *screen;
    int cols, rows;
    struct buf *out;
    size_t begin; /* where our text begins in out */
    int error;
};

static int64_t cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Neither controls nor what turns the direction of text around it. */
static bool printable(uint32_t character)
{
    return character >= 0x20 && !(character >= 0x7f && character <= 0x9f) &&
           !(character >= 0xd800 && character <= 0xdfff) && character <= 0x10ffff &&
           !(character >= 0x202a && character <= 0x202e) &&
           !(character >= 0x2066 && character <= 0x2069) && character != 0x200e &&
           character != 0x200f && character != 0x061c;
}

static int append_character(struct buf *out, uint32_t character)
{
    char bytes[4];
    size_t length = 1;
    if (character < 0x80) {
        bytes[0] = (char)character;
    } else if (character < 0x800) {
        bytes[0] = (char)(0xc0 | character >> 6);
        length = 2;
    } else if (character < 0x10000) {
        bytes[0] = (char)(0xe0 | character >> 12);
        length = 3;
    } else {
        bytes[0] = (char)(0xf0 | character >> 18);
        length = 4;
    }
    for (size_t i = 1; i < length; i++)
        bytes[i] = (char)(0x80 | (character >> (6 * (length - 1 - i)) & 0x3f));
    return buf_append(out, bytes, length);
}

/* The right half of a wide character has no text of its own. */
static bool is_half(const VTermScreenCell *cell)
{
    return cell->chars[0] == UINT32_MAX;
}

static bool is_blank(const VTermScreenCell *cell)
{
    return cell->chars[0] == 0 || (cell->chars[0] == ' ' && cell->chars[1] == 0);
}

static int append_cell(struct buf *out, const VTermScreenCell *cell)
{
    int error = 0;
    if (is_half(cell))
        return 0;
    if (!cell->chars[0])
        return buf_char(out, ' ');
    for (int i = 0; i < VTERM_MAX_CHARS_PER_CELL && cell->chars[i] && !error; i++)
        if (printable(cell->chars[i]))
            error = append_character(out, cell->chars[i]);
    return error;
}

static int append_cells(struct buf *out, const VTermScreenCell *cells, int count)
{
    int error = 0;
    for (int i = 0; i < count && !error; i++)
        error = append_cell(out, &cells[i]);
    return error;
}

static int width_of(const VTermScreenCell *cells, int cols)
{
    while (cols && is_blank(&cells[cols - 1]))
        cols--;
    return cols;
}

/* A line has left the screen at its top. */
static int on_scrolled(int cols, const VTermScreenCell *cells, void *arg)
{
    struct rendering *rendering = arg;
    if (rendering->error)
        return 1;
    rendering->error = append_cells(rendering->out, cells, width_of(cells, cols));
    if (!rendering->error)
        rendering->error = buf_char(rendering->out, '\n');
    if (!rendering->error && rendering->out->length - rendering->begin > TERMINAL_TEXT_MAX)
        rendering->error = HEARTH_ETOOLARGE;
    return 1;
}

static int read_row(const struct rendering *rendering, int row, VTermScreenCell *cells)
{
    for (int col = 0; col < rendering->cols; col++) {
        VTermPos position = {.row = row, .col = col};
        memset(&cells[col], 0, sizeof cells[col]);
        vterm_screen_get_cell(rendering->screen, position, &cells[col]);
    }
    return width_of(cells, rendering->cols);
}

/* The screen down to its last line with text, or to the cursor where that is below; on the cursor's
 * line the blanks before it are text: a prompt ends in one. */
static int append_screen(struct rendering *rendering)
{
    VTermScreenCell cells[TERMINAL_COLS_MAX];
    VTermPos cursor;
    vterm_state_get_cursorpos(vterm_obtain_state(rendering->terminal), &cursor);
    int last = rendering->rows - 1, error = 0;
    while (last > cursor.row && read_row(rendering, last, cells) == 0)
        last--;
    for (int row = 0; row <= last && !error; row++) {
        int width = read_row(rendering, row, cells);
        if (row == cursor.row && cursor.col > width)
            width = cursor.col < rendering->cols ? cursor.col : rendering->cols;
        error = append_cells(rendering->out, cells, width);
        if (!error && row < last)
            error = buf_char(rendering->out, '\n');
    }
    return error;
}

/* libvterm is shown well-formed sequences alone, for more parameters than it has room for, or
 * larger ones, are not safe with it. What a sequence looks like: ECMA-48, section 5.4. */
#define LEADERS_MAX 2
#define PARAMETERS_MAX 12
#define DIGITS_MAX 4
#define INTERMEDIATES_MAX 1

struct sequence {
    size_t length; /* of what belongs together */
    bool shown;
};

static size_t count_between(const char *at, const char *end, unsigned char low, unsigned char high)
{
    size_t count = 0;
    while (at + count < end && (unsigned char)at[count] >= low && (unsigned char)at[count] <= high)
        count++;
    return count;
}

static bool good_parameters(const char *at, size_t length)
{
    size_t parameters = 1, digits = 0;
    for (size_t i = 0; i < length; i++) {
        bool separator = at[i] == ';' || at[i] == ':';
        digits = separator ? 0 : digits + 1;
        parameters += separator;
        if (digits > DIGITS_MAX || parameters > PARAMETERS_MAX)
            return false;
    }
    return true;
}

/* After ESC [ */
static struct sequence control_sequence(const char *begin, const char *end)
{
    size_t leaders = count_between(begin, end, 0x3c, 0x3f);
    const char *at = begin + leaders;
    size_t parameters = count_between(at, end, '0', ';');
    bool good = leaders <= LEADERS_MAX && good_parameters(at, parameters);
    at += parameters;
    size_t intermediates = count_between(at, end, 0x20, 0x2f);
    at += intermediates;
    bool whole = at < end && (unsigned char)*at >= 0x40 && (unsigned char)*at <= 0x7e;
    return (struct sequence){(size_t)(at - begin) + whole,
                             whole && good && intermediates <= INTERMEDIATES_MAX};
}

/* Titles, clipboards, pictures: nothing that is text on the screen. Ends with BEL, ESC \, CAN or
 * SUB. */
static struct sequence control_string(const char *begin, const char *end)
{
    for (const char *at = begin; at < end; at++) {
        if (*at == '\a' || *at == 0x18 || *at == 0x1a)
            return (struct sequence){(size_t)(at - begin) + 1, false};
        if (*at == 0x1b && at + 1 < end)
            return (struct sequence){(size_t)(at - begin) + (at[1] == '\\' ? 2 : 0), false};
    }
    return (struct sequence){(size_t)(end - begin), false};
}

/* From an ESC on. */
static struct sequence escape(const char *begin, const char *end)
{
    struct sequence inner;
    char kind = begin + 1 < end ? begin[1] : '\0';
    if (kind == '[') {
        inner = control_sequence(begin + 2, end);
        return (struct sequence){inner.length + 2, inner.shown};
    }
    if (kind && strchr("]P_^X", kind)) {
        inner = control_string(begin + 2, end);
        return (struct sequence){inner.length + 2, false};
    }
    size_t intermediates = count_between(begin + 1, end, 0x20, 0x2f);
    const char *at = begin + 1 + intermediates;
    bool whole = at < end && (unsigned char)*at >= 0x30 && (unsigned char)*at <= 0x7e;
    return (struct sequence){1 + intermediates + whole,
                             whole && intermediates <= INTERMEDIATES_MAX};
}

/* What comes next in well-formed UTF-8. Controls of two bytes are not what terminals of today know,
 * and libvterm takes their width for a negative number. */
static struct sequence next_sequence(const char *at, const char *end)
{
    if (*at == 0x1b)
        return escape(at, end);
    if ((unsigned char)*at == 0xc2 && (unsigned char)at[1] < 0xa0)
        return (struct sequence){2, false};
    return (struct sequence){1, (unsigned char)*at >= 0x20 || (*at && strchr("\b\t\n\v\f\r", *at))};
}

static bool is_one_of(const char *at, size_t length, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == length && memcmp(*list, at, length) == 0)
            return true;
    return false;
}

/* What a program that takes the whole screen begins and ends with. */
static const char *const enters[] = {"\033[?1049h", "\033[?1047h", "\033[?47h", NULL};
static const char *const leaves[] = {"\033[?1049l", "\033[?1047l", "\033[?47l", "\033c", NULL};

/* What libvterm is shown. What came before is, too, from where it went to the alternate screen and
 * did not leave it. */
static int clean(struct buf *out, const char *data, size_t length, size_t before)
{
    auto_buf struct buf text = {0};
    bool alternate = false;
    int error = utf8_repair(&text, data, before);
    size_t seam = text.length;
    if (!error)
        error = utf8_repair(&text, data + before, length - before);
    const char *end = text.data + text.length;
    for (const char *at = text.data; !error && at < end;) {
        struct sequence next = next_sequence(at, end);
        bool old = (size_t)(at - text.data) + next.length <= seam;
        if (old && (is_one_of(at, next.length, enters) || is_one_of(at, next.length, leaves))) {
            alternate = is_one_of(at, next.length, enters);
            buf_clear(out);
        }
        if (next.shown && (alternate || !old))
            error = buf_append(out, at, next.length);
        at += next.length;
    }
    return error;
}

static void feed(struct rendering *rendering, const char *data, size_t length)
{
    int64_t until = cpu_ms() + CPU_MAX_MS;
    while (length && !rendering->error) {
        /* Whole characters: one that is cut is decoded by two decoders, each of which has a part.
         */
        size_t piece = length < PIECE ? length : utf8_skip(data, length, PIECE - 1, 1);
        vterm_input_write(rendering->terminal, data, piece);
        data += piece;
        length -= piece;
        if (cpu_ms() > until)
            rendering->error = HEARTH_ETOOLARGE;
    }
}

static int bounded(unsigned value, int least, int most)
{
    return value < (unsigned)least ? least : value > (unsigned)most ? most : (int)value;
}

int terminal_render(struct buf *out, const char *data, size_t length, size_t before, unsigned cols,
                    unsigned rows)
{
    static const VTermScreenCallbacks callbacks = {.sb_pushline = on_scrolled};
    struct rendering rendering = {.cols = bounded(cols, TERMINAL_COLS_MIN, TERMINAL_COLS_MAX),
                                  .rows = bounded(rows, TERMINAL_ROWS_MIN, TERMINAL_ROWS_MAX),
                                  .out = out,
                                  .begin = out->length};
    auto_buf struct buf text = {0};
    int error = clean(&text, data, length, before < length ? before : length);
    if (error)
        return error;
    rendering.terminal = vterm_new(rendering.rows, rendering.cols);
    if (!rendering.terminal)
        return HEARTH_ENOMEMORY;
    vterm_set_utf8(rendering.terminal, 1);
    rendering.screen = vterm_obtain_screen(rendering.terminal);
    vterm_screen_set_callbacks(rendering.screen, &callbacks, &rendering);
    vterm_screen_enable_altscreen(rendering.screen, 1);
    vterm_screen_reset(rendering.screen, 1);
    feed(&rendering, text.data, text.length);
    if (!rendering.error)
        rendering.error = append_screen(&rendering);
    vterm_free(rendering.terminal);
    return rendering.error;
}
