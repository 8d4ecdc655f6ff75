/* guestagent/agent/files.c: paths stay inside the workspace, and a write is there whole or not at
 * all. */
#include "agent_fixture.h"

#include "base/cleanup.h"
#include "guestagent/data_field.h"
#include "suite.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *inside(const char *name)
{
    static char path[192];
    snprintf(path, sizeof path, "%s/%s", workspace, name);
    return path;
}

static void put(const char *name, const char *text, mode_t mode)
{
    auto_close int fd = open(inside(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void check_content(const char *name, const char *text)
{
    char found[64] = "";
    auto_close int fd = open(inside(name), O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_ge(read(fd, found, sizeof found - 1), 0);
    ck_assert_str_eq(found, text);
}

static unsigned count_entries(void)
{
    unsigned count = 0;
    auto_closedir DIR *directory = opendir(workspace);
    ck_assert_ptr_nonnull(directory);
    for (struct dirent *entry; (entry = readdir(directory));)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    return count;
}

static enum link_status read_file(struct asked *asked, const char *path, uint64_t offset,
                                  uint64_t length)
{
    Hearth__Agent__V1__FileReadRequest request = HEARTH__AGENT__V1__FILE_READ_REQUEST__INIT;
    request.path = (char *)(uintptr_t)path;
    request.offset = offset;
    request.length = length;
    return ask(asked, "FileRead", &request.base);
}

/* One message of a write, the first with the path. */
static void write_piece(struct asked *asked, const char *path, const char *text, bool commit)
{
    Hearth__Agent__V1__FileWriteRequest request = HEARTH__AGENT__V1__FILE_WRITE_REQUEST__INIT;
    if (path)
        request.path = (char *)(uintptr_t)path;
    request.data.data = (uint8_t *)(uintptr_t)text;
    request.data.len = strlen(text);
    request.commit = commit;
    ck_assert_int_eq(link_call_send(asked->call, &request.base), 0);
}

static enum link_status write_file(struct asked *asked, const char *path, const char *text)
{
    ask_begin(asked, "FileWrite");
    write_piece(asked, path, text, true);
    link_call_finish(asked->call);
    return ask_end(asked);
}

/* Ways out of the workspace, none of which may lead there; "out" and "dir" are links. */
static const char *const outward[] = {
    "../secret", "/etc/passwd", "out", "dir/passwd", "sub/../../secret", "up/etc/passwd",
};

START_TEST(no_path_and_no_link_leads_out)
{
    ck_assert_int_eq(mkdir(inside("sub"), 0755), 0);
    ck_assert_int_eq(symlink("/etc/passwd", inside("out")), 0);
    ck_assert_int_eq(symlink("/etc", inside("dir")), 0);
    ck_assert_int_eq(symlink("../..", inside("up")), 0);
    struct asked got = {0}, wrote = {0};
    ck_assert_int_ne(read_file(&got, outward[_i], 0, 0), LINK_STATUS_OK);
    ck_assert_uint_eq(got.data.length, 0);
    ck_assert_int_ne(write_file(&wrote, outward[_i], "changed"), LINK_STATUS_OK);
    asked_free(&got);
    asked_free(&wrote);
    ck_assert_uint_eq(count_entries(), 4);
    ck_assert_int_eq(access("/tmp/secret", F_OK), -1);
}
END_TEST

START_TEST(a_link_that_stays_inside_is_followed)
{
    put("real", "content", 0644);
    ck_assert_int_eq(symlink("real", inside("link")), 0);
    struct asked got = {0}, wrote = {0};
    ck_assert_int_eq(read_file(&got, "link", 0, 0), LINK_STATUS_OK);
    ck_assert_str_eq(got.data.data, "content");
    ck_assert_int_eq(write_file(&wrote, "link", "new"), LINK_STATUS_OK);
    check_content("real", "new");
    asked_free(&got);
    asked_free(&wrote);
}
END_TEST

/* Longer than a message, and not a whole number of them. */
START_TEST(a_large_file_goes_in_and_out_as_it_is)
{
    enum { SIZE = 1000003 };
    char *text = malloc(SIZE + 1);
    struct asked wrote = {0}, got = {0}, end = {0};
    for (int i = 0; i < SIZE; i++)
        text[i] = (char)('a' + i % 23);
    text[SIZE] = '\0';
    ask_begin(&wrote, "FileWrite");
    write_piece(&wrote, "large", "", false);
    for (int at = 0, length = 1; at < SIZE; at += length, length = length * 3 + 1) {
        auto_free char *piece = strndup(text + at, (size_t)length);
        write_piece(&wrote, NULL, piece, at + length >= SIZE);
    }
    link_call_finish(wrote.call);
    ck_assert_int_eq(ask_end(&wrote), LINK_STATUS_OK);
    ck_assert_int_eq(read_file(&got, "large", 0, 0), LINK_STATUS_OK);
    ck_assert_uint_eq(got.data.length, SIZE);
    ck_assert(strcmp(got.data.data, text) == 0);
    ck_assert_int_eq(read_file(&end, "large", SIZE - 300000, 299999), LINK_STATUS_OK);
    ck_assert_uint_eq(end.data.length, 299999);
    ck_assert(strncmp(end.data.data, text + SIZE - 300000, 299999) == 0);
    asked_free(&wrote);
    asked_free(&got);
    asked_free(&end);
    free(text);
}
END_TEST

START_TEST(what_is_more_than_a_field_of_bytes_is_not_taken_for_one)
{
    static const char *const broken[] = {"",
                                         "\x22",
                                         "\x22\x05",
                                         "\x22\x05xxxx",
                                         "\x22\x05xxxxx\x28\x01",
                                         "\x1a\x05xxxxx",
                                         "\x22\xff\xff\xff\xff\xff\x01x"};
    uint8_t message[DATA_FIELD_HEAD + 5];
    const uint8_t *data;
    size_t length;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        ck_assert(
            !data_field_alone((const uint8_t *)broken[i], strlen(broken[i]), 4, &data, &length));
    ck_assert(data_field_alone((const uint8_t *)"\x22\x02xy", 4, 4, &data, &length));
    ck_assert(length == 2 && memcmp(data, "xy", 2) == 0);
    data_field_head(message, 4, 5);
    memcpy(message + DATA_FIELD_HEAD, "12345", 5);
    ck_assert(data_field_alone(message, sizeof message, 4, &data, &length));
    ck_assert(length == 5 && data == message + DATA_FIELD_HEAD);
    Hearth__Agent__V1__FileWriteRequest *request =
        hearth__agent__v1__file_write_request__unpack(NULL, sizeof message, message);
    ck_assert(request && request->data.len == 5 && memcmp(request->data.data, "12345", 5) == 0);
    hearth__agent__v1__file_write_request__free_unpacked(request, NULL);
}
END_TEST

START_TEST(a_range_is_read_as_it_is_asked_for)
{
    put("file", "0123456789", 0644);
    struct asked middle = {0}, end = {0}, beyond = {0};
    ck_assert_int_eq(read_file(&middle, "file", 2, 3), LINK_STATUS_OK);
    ck_assert_str_eq(middle.data.data, "234");
    ck_assert_int_eq(read_file(&end, "file", 8, 100), LINK_STATUS_OK);
    ck_assert_str_eq(end.data.data, "89");
    ck_assert_int_eq(read_file(&beyond, "file", 1000, 0), LINK_STATUS_OK);
    ck_assert_uint_eq(beyond.data.length, 0);
    asked_free(&middle);
    asked_free(&end);
    asked_free(&beyond);
}
END_TEST

START_TEST(what_is_no_regular_file_is_not_read)
{
    ck_assert_int_eq(mkfifo(inside("fifo"), 0600), 0);
    ck_assert_int_eq(mkdir(inside("sub"), 0700), 0);
    struct asked fifo = {0}, sub = {0};
    ck_assert_int_eq(read_file(&fifo, "fifo", 0, 0), LINK_STATUS_FAILED_PRECONDITION);
    ck_assert_int_eq(read_file(&sub, "sub", 0, 0), LINK_STATUS_FAILED_PRECONDITION);
    asked_free(&fifo);
    asked_free(&sub);
}
END_TEST

START_TEST(the_old_content_stands_until_the_commit)
{
    struct asked wrote = {0}, got = {0};
    struct stat status;
    put("file", "old", 0751);
    ask_begin(&wrote, "FileWrite");
    write_piece(&wrote, "file", "new, ", false);
    ck_assert_int_eq(read_file(&got, "file", 0, 0), LINK_STATUS_OK);
    ck_assert_str_eq(got.data.data, "old");
    ck_assert_uint_eq(count_entries(), 2);
    write_piece(&wrote, NULL, "whole", true);
    link_call_finish(wrote.call);
    ck_assert_int_eq(ask_end(&wrote), LINK_STATUS_OK);
    check_content("file", "new, whole");
    ck_assert_int_eq(stat(inside("file"), &status), 0);
    ck_assert_int_eq(status.st_mode & 07777, 0751); /* that of the file it replaced */
    ck_assert_uint_eq(count_entries(), 1);
    asked_free(&wrote);
    asked_free(&got);
}
END_TEST

START_TEST(a_write_without_its_commit_leaves_nothing)
{
    struct asked ended = {0}, left = {0}, got = {0};
    put("file", "old", 0644);
    ask_begin(&ended, "FileWrite");
    write_piece(&ended, "file", "half", false);
    link_call_finish(ended.call);
    ck_assert_int_eq(ask_end(&ended), LINK_STATUS_INVALID_ARGUMENT);
    ck_assert_uint_eq(count_entries(), 1);

    ask_begin(&left, "FileWrite");
    write_piece(&left, "file", "half", false);
    ck_assert_int_eq(read_file(&got, "file", 0, 0), LINK_STATUS_OK);
    ck_assert_uint_eq(count_entries(), 2); /* it has begun */
    asked_free(&got);
    got = (struct asked){0};
    link_call_cancel(left.call);
    ck_assert_int_eq(read_file(&got, "file", 0, 0), LINK_STATUS_OK);
    ck_assert_str_eq(got.data.data, "old");
    ck_assert_uint_eq(count_entries(), 1);
    asked_free(&ended);
    asked_free(&left);
    asked_free(&got);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("agent_files");
    TCase *test_case = tcase_create("agent_files");
    tcase_set_timeout(test_case, 120);
    tcase_add_checked_fixture(test_case, agent_setup, agent_teardown);
    tcase_add_loop_test(test_case, no_path_and_no_link_leads_out, 0,
                        sizeof outward / sizeof *outward);
    tcase_add_test(test_case, a_link_that_stays_inside_is_followed);
    tcase_add_test(test_case, a_range_is_read_as_it_is_asked_for);
    tcase_add_test(test_case, a_large_file_goes_in_and_out_as_it_is);
    tcase_add_test(test_case, what_is_more_than_a_field_of_bytes_is_not_taken_for_one);
    tcase_add_test(test_case, what_is_no_regular_file_is_not_read);
    tcase_add_test(test_case, the_old_content_stands_until_the_commit);
    tcase_add_test(test_case, a_write_without_its_commit_leaves_nothing);
    suite_add_tcase(suite, test_case);
    return run_and_free(suite);
}
