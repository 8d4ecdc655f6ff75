#include "base/redact.h"

#include "base/buf.h"
#include "base/redact_forms.h"
#include "base/secret_memory.h"

#include <stdint.h>
#include <string.h>

#define LINES_MAX 64
#define FORMS_OF_ONE 23 /* the value itself and what redact_forms visits */
#define IDLE_SHOWN_MAX 3
#define IDLE_SHOWN_PART 4

/* One form and, for each of its bytes, how much of its beginning is still matched where the next
 * byte is another one (Knuth, Morris and Pratt). */
struct form {
    const unsigned char *bytes;
    uint32_t *back;
    uint32_t length;
};

struct redact_values {
    size_t size; /* of all of it */
    unsigned references;
    size_t longest, count;
    struct form *forms;
    unsigned char *free_bytes; /* while it is made */
    uint32_t *free_back;
    bool begins[256];               /* some form begins with this byte */
    unsigned char pairs[65536 / 8]; /* … with these two */
};

/* Bytes of the window that are not to be shown. */
struct find {
    size_t from, to;
    bool marked; /* its [REDACTED] has been shown */
};

struct redact_stream {
    struct redact_values *values;
    uint32_t *states; /* how much of each form the text ends with */
    size_t active;    /* states that are not 0 */
    char *held;       /* the window: what is not decided */
    size_t held_length, held_capacity;
    size_t shown; /* bytes at the window's start that were shown while it was idle */
    struct find *finds;
    size_t find_count, find_capacity;
    bool blind; /* memory ran out: what follows cannot be looked through */
};

/* The values. */

static bool known(const struct redact_values *values, const char *bytes, size_t length)
{
    for (size_t i = 0; i < values->count; i++)
        if (values->forms[i].length == length && memcmp(values->forms[i].bytes, bytes, length) == 0)
            return true;
    return false;
}

static void fill_back(struct form *form)
{
    uint32_t matched = 0;
    form->back[0] = 0;
    for (uint32_t i = 1; i < form->length; i++) {
        while (matched && form->bytes[matched] != form->bytes[i])
            matched = form->back[matched - 1];
        if (form->bytes[matched] == form->bytes[i])
            matched++;
        form->back[i] = matched;
    }
}

static void add(struct redact_values *values, const char *bytes, size_t length)
{
    if (known(values, bytes, length))
        return;
    struct form *form = &values->forms[values->count++];
    unsigned pair = (unsigned)(unsigned char)bytes[0] << 8 | (unsigned char)bytes[1];
    *form = (struct form){values->free_bytes, values->free_back, (uint32_t)length};
    memcpy(values->free_bytes, bytes, length);
    values->free_bytes += length;
    values->free_back += length;
    fill_back(form);
    values->begins[(unsigned char)bytes[0]] = true;
    values->pairs[pair / 8] |= (unsigned char)(1u << pair % 8);
    if (length > values->longest)
        values->longest = length;
}

static void add_form(void *arg, const char *form, size_t length)
{
    if (length >= REDACT_FORM_MIN)
        add(arg, form, length);
}

/* Of all forms of one value together: itself and as a terminal shows it, quoted, its lines, ten of
 * base64, ten percent-encoded or in hex. */
static size_t bytes_bound(size_t length)
{
    return 4 * length + redact_form_room(length) + 10 * (4 * length / 3 + 8) + 10 * 3 * length;
}

/* The ends of lines that a value ends with are often lost on its way: $(…) drops them. */
static size_t without_ends(const char *value, size_t length)
{
    while (length && (value[length - 1] == '\n' || value[length - 1] == '\r'))
        length--;
    return length;
}

/* A key of several lines is shown a line at a time by a diff, a search, `sed -n 2p`. */
static void add_lines(struct redact_values *values, const char *value, size_t length)
{
    const char *end = value + length;
    if (!memchr(value, '\n', length))
        return;
    for (size_t i = 0; i < LINES_MAX && value < end; i++) {
        const char *newline = memchr(value, '\n', (size_t)(end - value));
        size_t size = without_ends(value, (size_t)((newline ? newline : end) - value));
        if (size >= REDACT_LINE_MIN)
            add(values, value, size);
        value = newline ? newline + 1 : end;
    }
}

struct redact_values *redact_values_new(const struct redact_secret *secrets, size_t count)
{
    size_t bytes = 0, scratch_size = 1;
    for (size_t i = 0; i < count; i++) {
        size_t room = redact_form_room(secrets[i].length);
        bytes += bytes_bound(secrets[i].length);
        scratch_size = room > scratch_size ? room : scratch_size;
    }
    size_t forms = count * (FORMS_OF_ONE + LINES_MAX), header = sizeof(struct redact_values);
    size_t size = header + forms * sizeof(struct form) + bytes * (1 + sizeof(uint32_t));
    struct redact_values *values = secret_memory_new(size);
    char *scratch = secret_memory_new(scratch_size);
    if (values && scratch) {
        values->size = size;
        values->references = 1;
        values->forms = (struct form *)(values + 1);
        values->free_back = (uint32_t *)(values->forms + forms);
        values->free_bytes = (unsigned char *)(values->free_back + bytes);
        for (size_t i = 0; i < count; i++) {
            size_t length = without_ends(secrets[i].value, secrets[i].length);
            if (length < REDACT_VALUE_MIN)
                length = secrets[i].length; /* nearly all ends of lines, or too short anyway */
            if (length < REDACT_VALUE_MIN)
                continue;
            add(values, secrets[i].value, length);
            add_lines(values, secrets[i].value, length);
            redact_forms(secrets[i].value, length, scratch, add_form, values);
        }
    } else {
        secret_memory_free(values, size);
        values = NULL;
    }
    secret_memory_free(scratch, scratch_size);
    return values;
}

struct redact_values *redact_values_ref(struct redact_values *values)
{
    values->references++;
    return values;
}

void redact_values_free(struct redact_values *values)
{
    if (values && --values->references == 0)
        secret_memory_free(values, values->size);
}

size_t redact_longest(const struct redact_values *values)
{
    return values->longest;
}

/* Finding. */

/* Finds come in the order of their ends; those that overlap are one. */
static bool found(struct redact_stream *stream, size_t from, size_t to)
{
    struct find find = {from, to, false};
    while (stream->find_count && stream->finds[stream->find_count - 1].to > find.from) {
        const struct find *last = &stream->finds[--stream->find_count];
        find.marked = find.marked || last->marked;
        if (last->from < find.from)
            find.from = last->from;
    }
    if (stream->find_count == stream->find_capacity) {
        size_t capacity = stream->find_capacity ? 2 * stream->find_capacity : 16;
        struct find *grown = realloc(stream->finds, capacity * sizeof *grown);
        if (!grown)
            return false;
        stream->finds = grown;
        stream->find_capacity = capacity;
    }
    stream->finds[stream->find_count++] = find;
    return true;
}

/* Takes one byte, the one before `end` of the window. */
static bool step(struct redact_stream *stream, unsigned char byte, size_t end)
{
    const struct redact_values *values = stream->values;
    stream->active = 0;
    for (size_t i = 0; i < values->count; i++) {
        const struct form *form = &values->forms[i];
        uint32_t state = stream->states[i];
        while (state && form->bytes[state] != byte)
            state = form->back[state - 1];
        if (form->bytes[state] == byte)
            state++;
        if (state == form->length) {
            /* What lies before the window has been shown or marked already. */
            if (!found(stream, end > state ? end - state : 0, end))
                return false;
            state = form->back[state - 1];
        }
        stream->states[i] = state;
        stream->active += state != 0;
    }
    return true;
}

/* From at on, where nothing is matched yet: the next byte that a form may begin with. */
static size_t skip(const struct redact_values *values, const unsigned char *text, size_t at,
                   size_t length)
{
    for (; at + 1 < length; at++) {
        unsigned pair = (unsigned)text[at] << 8 | text[at + 1];
        if (values->pairs[pair / 8] & 1u << pair % 8)
            return at;
    }
    return at < length && values->begins[text[at]] ? at : length;
}

/* text is at `offset` of the window. */
static bool scan(struct redact_stream *stream, const char *text, size_t length, size_t offset)
{
    const unsigned char *bytes = (const unsigned char *)text;
    for (size_t at = 0; at < length; at++) {
        if (!stream->active && (at = skip(stream->values, bytes, at, length)) == length)
            break;
        if (!step(stream, bytes[at], offset + at + 1))
            return false;
    }
    return true;
}

static size_t undecided(const struct redact_stream *stream)
{
    size_t most = 0;
    for (size_t i = 0; stream->active && i < stream->values->count; i++)
        if (stream->states[i] > most)
            most = stream->states[i];
    return most;
}

/* Showing. */

static void show(struct redact_stream *stream, const char *window, size_t from, size_t to,
                 redact_sink sink, void *arg)
{
    if (from < stream->shown)
        from = stream->shown < to ? stream->shown : to;
    if (from < to)
        sink(arg, window + from, to - from);
}

/* Decides the first `limit` bytes of the window, which has no more to be found in. */
static void decide(struct redact_stream *stream, const char *window, size_t limit, redact_sink sink,
                   void *arg)
{
    size_t at = 0, done = 0;
    for (; done < stream->find_count && stream->finds[done].from < limit; done++) {
        struct find *find = &stream->finds[done];
        show(stream, window, at, find->from, sink, arg);
        if (!find->marked)
            sink(arg, REDACT_MARK, sizeof REDACT_MARK - 1);
        find->marked = true;
        at = find->to < limit ? find->to : limit;
        if (find->to > limit)
            break;
    }
    show(stream, window, at, limit, sink, arg);
    stream->find_count -= done;
    if (done) /* before the first find there is no array */
        memmove(stream->finds, stream->finds + done, stream->find_count * sizeof *stream->finds);
    for (size_t i = 0; i < stream->find_count; i++) {
        struct find *find = &stream->finds[i];
        find->from = find->from > limit ? find->from - limit : 0;
        find->to -= limit;
    }
    stream->shown = stream->shown > limit ? stream->shown - limit : 0;
}

static void wipe_held(struct redact_stream *stream)
{
    if (stream->held)
        explicit_bzero(stream->held, stream->held_capacity);
    free(stream->held);
    stream->held = NULL;
    stream->held_length = stream->held_capacity = 0;
}

/* Keeps what is not decided of a window in memory of its own. */
static bool hold(struct redact_stream *stream, const char *window, size_t length)
{
    char *kept = length ? malloc(length) : NULL;
    if (length && !kept)
        return false;
    if (length)
        memcpy(kept, window, length);
    wipe_held(stream);
    stream->held = kept;
    stream->held_length = stream->held_capacity = length;
    return true;
}

/* Nothing more of this stream is shown. */
static void go_blind(struct redact_stream *stream, redact_sink sink, void *arg)
{
    stream->blind = true;
    wipe_held(stream);
    stream->find_count = 0;
    sink(arg, REDACT_MARK, sizeof REDACT_MARK - 1);
}

struct redact_stream *redact_stream_new(struct redact_values *values)
{
    struct redact_stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return NULL;
    stream->states = calloc(values->count + 1, sizeof *stream->states);
    if (!stream->states) {
        free(stream);
        return NULL;
    }
    stream->values = redact_values_ref(values);
    return stream;
}

void redact_stream_free(struct redact_stream *stream)
{
    if (!stream)
        return;
    wipe_held(stream);
    redact_values_free(stream->values);
    free(stream->states);
    free(stream->finds);
    free(stream);
}

void redact_stream_put(struct redact_stream *stream, const char *text, size_t length,
                       redact_sink sink, void *arg)
{
    if (!stream)
        sink(arg, text, length);
    if (!stream || stream->blind || !length)
        return;
    size_t before = stream->held_length;
    char *joined = NULL;
    const char *window = text;
    if (before) {
        joined = malloc(before + length);
        if (!joined) {
            go_blind(stream, sink, arg);
            return;
        }
        memcpy(joined, stream->held, before);
        memcpy(joined + before, text, length);
        window = joined;
    }
    bool whole = scan(stream, text, length, before);
    size_t kept = whole ? undecided(stream) : 0, total = before + length;
    if (whole)
        decide(stream, window, total - kept, sink, arg);
    if (!whole || !hold(stream, window + total - kept, kept))
        go_blind(stream, sink, arg);
    if (joined)
        explicit_bzero(joined, total);
    free(joined);
}

void redact_stream_end(struct redact_stream *stream, redact_sink sink, void *arg)
{
    if (!stream)
        return;
    if (!stream->blind && stream->held_length)
        decide(stream, stream->held, stream->held_length, sink, arg);
    wipe_held(stream);
    memset(stream->states, 0, stream->values->count * sizeof *stream->states);
    stream->active = stream->shown = stream->find_count = 0;
}

void redact_stream_idle(struct redact_stream *stream, redact_sink sink, void *arg)
{
    if (stream->blind || stream->held_length > IDLE_SHOWN_MAX || stream->find_count ||
        stream->shown >= stream->held_length)
        return;
    for (size_t i = 0; i < stream->values->count; i++)
        if (stream->states[i] &&
            stream->values->forms[i].length < IDLE_SHOWN_PART * stream->held_length)
            return;
    show(stream, stream->held, 0, stream->held_length, sink, arg);
    stream->shown = stream->held_length;
}

size_t redact_stream_held(const struct redact_stream *stream)
{
    return stream ? stream->held_length - stream->shown : 0;
}

/* Whole texts. */

/* A stream with all finds of the text, none decided; NULL without memory. */
static struct redact_stream *scan_whole(struct redact_values *values, const char *text,
                                        size_t length)
{
    struct redact_stream *stream = redact_stream_new(values);
    if (stream && scan(stream, text, length, 0))
        return stream;
    redact_stream_free(stream);
    return NULL;
}

static void collect(void *arg, const char *text, size_t length)
{
    buf_append(arg, text, length);
}

char *redact_part(struct redact_values *values, const char *text, size_t text_length, size_t from,
                  size_t length, size_t *ret_length)
{
    struct redact_stream *stream = scan_whole(values, text, text_length);
    struct buf out = {.limit = SIZE_MAX};
    size_t to = from + length, marks = stream ? stream->find_count : 0, kept = 0;
    if (!stream || buf_reserve(&out, length + marks * (sizeof REDACT_MARK - 1) + 1)) {
        redact_stream_free(stream);
        return NULL;
    }
    /* Those before the part are out of the way, and of what begins before it there is the rest. */
    for (size_t i = 0; i < stream->find_count; i++) {
        struct find find = stream->finds[i];
        if (find.to <= from || find.from >= to)
            continue;
        find.from = find.from > from ? find.from - from : 0;
        find.to = (find.to < to ? find.to : to) - from;
        stream->finds[kept++] = find;
    }
    stream->find_count = kept;
    decide(stream, text + from, length, collect, &out);
    redact_stream_free(stream);
    *ret_length = out.length;
    return buf_steal(&out);
}

char *redact_text(struct redact_values *values, const char *text, size_t length, size_t *ret_length)
{
    return redact_part(values, text, length, 0, length, ret_length);
}

bool redact_mask(struct redact_values *values, char *text, size_t length)
{
    struct redact_stream *stream = scan_whole(values, text, length);
    if (!stream)
        return false;
    for (size_t i = 0; i < stream->find_count; i++) {
        size_t from = stream->finds[i].from, size = stream->finds[i].to - from;
        size_t mark = sizeof REDACT_MARK - 1 < size ? sizeof REDACT_MARK - 1 : size;
        memset(text + from, '*', size);
        memcpy(text + from, REDACT_MARK, mark);
    }
    redact_stream_free(stream);
    return true;
}
