#include "supervisord/archive/reader.h"

#include "supervisord/archive/member_name.h"

#include "base/text.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define READ_SIZE ((size_t)64 << 10)
#define TAR_BLOCK 512
#define NS_PER_S INT64_C(1000000000)
#define ZEROS_SIZE ((size_t)64 << 10)
/* Content for each byte sent. Below the floor nothing is asked: small archives of one repeated byte
 * are common, and harmless. */
#define RATIO_MAX 200
#define RATIO_FLOOR ((uint64_t)256 << 20)

struct reader {
    struct archive *archive;
    const struct reader_source *source;
    const struct reader_limits *limits;
    const struct reader_visitor *visitor;
    struct reader_verdict *verdict;
    struct members members;
    uint64_t input_bytes; /* the whole of it; 0 where that is not known before */
    int64_t consumed;     /* of the unpacked stream, at the end of the last member */
    char path[MEMBER_PATH_MAX + 1], hard_link[MEMBER_PATH_MAX + 1];
    unsigned char input[READ_SIZE];
};

/* A member's name as a person may see it: no control characters, whole UTF-8, bounded. */
static const char *shown(char out[256], const char *name)
{
    size_t length = 0, left = strlen(name);
    while (left && length < 200) {
        size_t sequence = utf8_sequence(name, left);
        if (sequence > 1 || (sequence == 1 && *name >= ' ' && *name != 0x7f)) {
            memcpy(out + length, name, sequence);
            length += sequence;
        } else {
            out[length++] = '?';
            sequence = 1;
        }
        name += sequence;
        left -= sequence;
    }
    strcpy(out + length, left ? "..." : "");
    return out;
}

__attribute__((format(printf, 3, 4))) static bool refuse(struct reader *reader, const char *code,
                                                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reader->verdict->detail, sizeof reader->verdict->detail, format, arguments);
    va_end(arguments);
    reader->verdict->code = code;
    return false;
}

/* What libarchive found wrong with the bytes. */
static bool refuse_bytes(struct reader *reader)
{
    char text[256];
    const char *reason = archive_error_string(reader->archive);
    shown(text, reason ? reason : "it cannot be read");
    if (archive_errno(reader->archive) == ENOMEM)
        return refuse(reader, "archive_too_large", "it takes too much memory to read");
    if (strcasestr(text, "truncated") || strcasestr(text, "unexpected end"))
        return refuse(reader, "archive_truncated", "it is cut short: %s", text);
    return refuse(reader, "archive_unreadable", "it is not a readable tar (%s)", text);
}

static bool clean_name(struct reader *reader, char *out, const char *name, bool *ret_root)
{
    char text[256];
    shown(text, name);
    *ret_root = false;
    switch (member_name_clean(out, name)) {
    case MEMBER_NAME_GOOD:
        return true;
    case MEMBER_NAME_ROOT:
        *ret_root = true;
        return true;
    case MEMBER_NAME_ABSOLUTE:
        return refuse(reader, "archive_absolute_name", "the member %s has an absolute name", text);
    case MEMBER_NAME_PARENT:
        return refuse(reader, "archive_parent_name", "the member %s has \"..\" in its name", text);
    case MEMBER_NAME_LONG:
        return refuse(reader, "archive_name_too_long",
                      "the member %s has a name of over 255 bytes or a path of over 4095", text);
    case MEMBER_NAME_DEEP:
        return refuse(reader, "archive_too_deep", "the member %s is over 64 directories deep",
                      text);
    }
    return false;
}

static bool add_member(struct reader *reader, const struct member_header *header)
{
    char text[256];
    shown(text, header->path);
    switch (members_add(&reader->members, header->path, header->type)) {
    case MEMBERS_ADDED:
        return true;
    case MEMBERS_THROUGH_SYMLINK:
        return refuse(reader, "archive_through_symlink",
                      "the member %s would be written through a symlink of the archive", text);
    case MEMBERS_CONFLICT:
        return refuse(reader, "archive_type_conflict",
                      "the member %s needs a file where the archive has a directory, or the "
                      "other way",
                      text);
    case MEMBERS_TOO_MANY:
        return refuse(reader, "archive_too_many_entries",
                      "it has more than the allowed %llu members",
                      (unsigned long long)reader->limits->max_entries);
    case MEMBERS_NO_MEMORY:
        break;
    }
    return refuse(reader, "archive_too_large", "its names take too much memory");
}

static bool take_hard_link(struct reader *reader, struct member_header *header, const char *target)
{
    char text[256], path[256];
    bool root = reader->limits->root_filesystem;
    enum member_type type =
        member_name_clean(reader->hard_link, target) == MEMBER_NAME_GOOD
            ? root ? MEMBER_FILE : members_find(&reader->members, reader->hard_link)
            : 0;
    if (!type || type == MEMBER_DIRECTORY || strcmp(reader->hard_link, header->path) == 0)
        return refuse(reader, "archive_hard_link",
                      "the member %s is a hard link to %s, which is no earlier file of the archive",
                      shown(path, header->path), shown(text, target));
    header->hard_link = reader->hard_link;
    header->type = type;
    header->size = 0;
    return true;
}

static bool take_type(struct reader *reader, struct member_header *header,
                      struct archive_entry *entry)
{
    char text[256];
    const char *hard_link = archive_entry_hardlink(entry);
    if (hard_link)
        return take_hard_link(reader, header, hard_link);
    switch (archive_entry_filetype(entry)) {
    case AE_IFREG:
        header->type = MEMBER_FILE;
        int64_t size = archive_entry_size(entry);
        header->size = size > 0 ? (uint64_t)size : 0;
        return true;
    case AE_IFDIR:
        header->type = MEMBER_DIRECTORY;
        return true;
    case AE_IFLNK:
        header->type = MEMBER_SYMLINK;
        header->link_target = archive_entry_symlink(entry);
        if (header->link_target && *header->link_target &&
            strlen(header->link_target) <= MEMBER_PATH_MAX)
            return true;
        return refuse(reader, "archive_bad_symlink",
                      "the symlink %s has no target, or one of over 4095 bytes",
                      shown(text, header->path));
    default:
        if (reader->limits->root_filesystem)
            return true; /* with type 0: left out */
        return refuse(reader, "archive_special_file",
                      "the member %s is a device, a FIFO or a socket", shown(text, header->path));
    }
}

static uint64_t input_so_far(const struct reader *reader)
{
    if (reader->input_bytes)
        return reader->input_bytes;
    int64_t bytes = archive_filter_bytes(reader->archive, -1);
    return bytes > 0 ? (uint64_t)bytes : 0;
}

/* Adds to the content; asked with a file's size before its data is read. */
static bool add_content(struct reader *reader, uint64_t more)
{
    uint64_t *total = &reader->verdict->content_bytes;
    if (more > reader->limits->max_bytes - *total)
        return refuse(reader, "archive_too_large",
                      "its files are larger than the allowed %llu bytes together",
                      (unsigned long long)reader->limits->max_bytes);
    *total += more;
    if (*total > RATIO_FLOOR && *total / RATIO_MAX > input_so_far(reader))
        return refuse(reader, "archive_ratio", "it unpacks to over %d times its own size",
                      RATIO_MAX);
    return true;
}

static bool give(struct reader *reader, const void *data, size_t length)
{
    return reader->visitor->on_data(reader->visitor->arg, data, length);
}

static bool give_zeros(struct reader *reader, uint64_t count)
{
    static const char zeros[ZEROS_SIZE];
    while (count) {
        size_t length = count < sizeof zeros ? (size_t)count : sizeof zeros;
        if (!give(reader, zeros, length))
            return false;
        count -= length;
    }
    return true;
}

/* Exactly size bytes, holes filled: what follows depends on that, whatever the archive says. */
static bool read_content(struct reader *reader, uint64_t size)
{
    uint64_t at = 0;
    const void *data;
    size_t length;
    la_int64_t offset;
    int result;
    while ((result = archive_read_data_block(reader->archive, &data, &length, &offset)) ==
           ARCHIVE_OK) {
        if (offset < 0 || (uint64_t)offset < at || (uint64_t)offset > size ||
            length > size - (uint64_t)offset)
            return refuse(reader, "archive_unreadable", "a file's data is out of place");
        if (reader->visitor &&
            (!give_zeros(reader, (uint64_t)offset - at) || !give(reader, data, length)))
            return false;
        at = (uint64_t)offset + length;
    }
    if (result != ARCHIVE_EOF)
        return refuse_bytes(reader);
    return !reader->visitor || give_zeros(reader, size - at);
}

/* The nearest that 64 bits hold: a header may name any second. */
static int64_t mtime_ns(struct archive_entry *entry)
{
    int64_t seconds = archive_entry_mtime(entry), result;
    if (__builtin_mul_overflow(seconds, NS_PER_S, &result) ||
        __builtin_add_overflow(result, (int64_t)archive_entry_mtime_nsec(entry), &result))
        return seconds < 0 ? INT64_MIN : INT64_MAX;
    return result;
}

/* What a guest's user namespace has. */
static uint32_t id_of(int64_t id)
{
    return id >= 0 && id < 65536 ? (uint32_t)id : 0;
}

static bool take_member(struct reader *reader, struct archive_entry *entry)
{
    bool root, system = reader->limits->root_filesystem;
    const char *name = archive_entry_pathname(entry);
    if (!name)
        return refuse(reader, "archive_bad_name", "a member has a name that cannot be read");
    if (++reader->verdict->entry_count > reader->limits->max_entries)
        return refuse(reader, "archive_too_many_entries",
                      "it has more than the allowed %llu members",
                      (unsigned long long)reader->limits->max_entries);
    if (!clean_name(reader, reader->path, name, &root))
        return false;
    struct member_header header = {
        .path = reader->path,
        .mode = (uint32_t)archive_entry_perm(entry) & (system ? 07777 : 0777),
        .uid = system ? id_of(archive_entry_uid(entry)) : 0,
        .gid = system ? id_of(archive_entry_gid(entry)) : 0,
        .mtime_ns = mtime_ns(entry),
    };
    if (!take_type(reader, &header, entry))
        return false;
    if (root) {
        char text[256];
        return header.type == MEMBER_DIRECTORY ||
               refuse(reader, "archive_bad_name", "the member %s has no name", shown(text, name));
    }
    if (!header.type)
        return true;
    if ((!system && !add_member(reader, &header)) || !add_content(reader, header.size))
        return false;
    if (reader->visitor && !reader->visitor->on_member(reader->visitor->arg, &header))
        return false;
    return header.type != MEMBER_FILE || header.hard_link || read_content(reader, header.size);
}

static bool check_filters(struct reader *reader)
{
    int count = archive_filter_count(reader->archive); /* the plain stream is one of them */
    int code = archive_filter_code(reader->archive, 0);
    if (count > 2)
        return refuse(reader, "archive_unreadable", "it is compressed more than once");
    reader->verdict->compression = code == ARCHIVE_FILTER_GZIP   ? "gzip"
                                   : code == ARCHIVE_FILTER_ZSTD ? "zstd"
                                                                 : "none";
    return true;
}

static la_ssize_t on_read(struct archive *archive, void *arg, const void **ret_data)
{
    struct reader *reader = arg;
    *ret_data = reader->input;
    ssize_t got = reader->source->read(reader->source->arg, reader->input, sizeof reader->input);
    if (got < 0)
        archive_set_error(archive, EIO, "it cannot be read");
    return got < 0 ? ARCHIVE_FATAL : got;
}

static bool open_source(struct reader *reader)
{
    int result = reader->source->read
                     ? archive_read_open(reader->archive, reader, NULL, on_read, NULL)
                     : archive_read_open_fd(reader->archive, reader->source->fd, READ_SIZE);
    return result == ARCHIVE_OK || refuse_bytes(reader);
}

static bool read_all(struct reader *reader)
{
    struct archive_entry *entry;
    struct archive *archive = reader->archive;
    archive_read_support_format_tar(archive);
    archive_read_support_filter_gzip(archive);
    archive_read_support_filter_zstd(archive);
    if (!open_source(reader))
        return false;
    for (;;) {
        int result = archive_read_next_header(archive, &entry);
        if (result == ARCHIVE_EOF)
            break;
        /* A warning is about metadata that is not kept. */
        if (result != ARCHIVE_OK && result != ARCHIVE_WARN)
            return refuse_bytes(reader);
        if (!reader->verdict->compression && !check_filters(reader))
            return false;
        if (!take_member(reader, entry))
            return false;
        if (archive_read_data_skip(archive) < ARCHIVE_WARN)
            return refuse_bytes(reader);
        reader->consumed = archive_filter_bytes(archive, 0);
    }
    /* libarchive takes an end between two members for the end of the archive. */
    if (archive_filter_bytes(archive, 0) - reader->consumed < TAR_BLOCK)
        return refuse(reader, "archive_truncated", "it is cut short: it has no end mark");
    return reader->verdict->compression || check_filters(reader);
}

void reader_run(const struct reader_source *source, const struct reader_limits *limits,
                const struct reader_visitor *visitor, struct reader_verdict *ret_verdict)
{
    struct stat status;
    *ret_verdict = (struct reader_verdict){0};
    struct reader reader = {
        .archive = archive_read_new(),
        .source = source,
        .limits = limits,
        .visitor = visitor,
        .verdict = ret_verdict,
        .input_bytes = source->size,
        .members.limit = limits->max_entries,
    };
    if (!source->read && fstat(source->fd, &status) == 0 && S_ISREG(status.st_mode))
        reader.input_bytes = (uint64_t)status.st_size;
    ret_verdict->good =
        reader.archive ? read_all(&reader) : refuse(&reader, "archive_too_large", "out of memory");
    if (!ret_verdict->good && !ret_verdict->code)
        refuse(&reader, "archive_abandoned", "nobody took what was read");
    archive_read_free(reader.archive);
    members_free(&reader.members);
}
