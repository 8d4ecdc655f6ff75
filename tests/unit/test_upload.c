/* Uploads with the real writer, database and hearth-archive, in a directory of the test's own. */
#include "supervisord/tenant.h"
#include "supervisord/upload.h"

#include "base/cleanup.h"
#include "base/path_at.h"
#include "storage/change.h"
#include "suite.h"

#include <check.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCK 512
#define ID_LIKE "up_aaaaaaaaaaaaaaaa"

static struct tenant tenant = {.tenant_id = "ours", .max_kept_upload_bytes = 1 << 30};
static const struct principal principal = {.tenant = &tenant, .token_id = "token"};

static char directory[64], database[96];
static struct loop *loop;
static struct writer *writer;
static struct uploads *uploads;
static struct upload_limits limits;

static int64_t shifted;

/* The wall clock goes on by so much. */
static void pass_time(int64_t us)
{
    shifted += us;
    clock_shift(0, us);
}

/* The last upload_done or end of a tree. */
static int ended, last_error;
static struct hearth_failure last_failure;
static struct upload last;

static void note_end(void *arg, int error, const struct hearth_failure *failure)
{
    ended++;
    last_error = error;
    last_failure = error ? *failure : HEARTH_FAILURE_NONE;
    loop_stop(loop);
}

static void note_upload(void *arg, int error, const struct hearth_failure *failure,
                        const struct upload *upload)
{
    ck_assert((error != 0) == (upload == NULL));
    last = error ? (struct upload){0} : *upload;
    note_end(arg, error, failure);
}

static int load(void *arg, const struct row_upload *row)
{
    return uploads_load(uploads, &tenant, row);
}

/* What a daemon does at its start. */
static void start(void)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct db *db;
    ck_assert_int_eq(loop_new(&loop, NULL), 0);
    ck_assert_int_eq(writer_start(&writer, database, DB_STATE, loop_post, loop, NULL), 0);
    ck_assert_int_eq(uploads_new(&uploads, loop, writer, directory, "aa", &limits, &failure), 0);
    ck_assert_int_eq(db_open(&db, database, DB_STATE, DB_READER, &failure), 0);
    ck_assert_int_eq(rows_each_upload(db, load, NULL, &failure), 0);
    db_close(db);
    uploads_loaded(uploads);
}

static void stop(void)
{
    uploads_free(uploads);
    writer_stop(writer);
    loop_free(loop);
}

static void put_tenant(const char *tenant_id)
{
    struct change *change = change_new();
    change_put_tenant(change, &(struct row_tenant){.tenant_id = tenant_id,
                                                   .name = tenant_id,
                                                   .created_at = 1,
                                                   .max_workspaces = 1,
                                                   .max_running_execs = 1,
                                                   .max_mem_mib = 1,
                                                   .retention_us = 1,
                                                   .host_roots = "",
                                                   .network = "open\n"});
    change_commit(change, writer, note_end, NULL);
    loop_run(loop);
    ck_assert_int_eq(last_error, 0);
    ended = 0;
}

static void setup(void)
{
    snprintf(directory, sizeof directory, "/tmp/hearth-upload-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    snprintf(database, sizeof database, "%s/test.db", directory);
    limits = (struct upload_limits){
        .max_bytes = 1 << 20, .max_content_bytes = 1 << 20, .max_entries = 100};
    ended = 0;
    start();
    put_tenant("ours");
    put_tenant("theirs");
}

static void teardown(void)
{
    stop();
    pass_time(-shifted);
    auto_close int tmp = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    path_remove_tree(tmp, directory + strlen("/tmp/"));
}

static void upload_path(char out[128], const char *name)
{
    snprintf(out, 128, "%s/uploads/%s", directory, name);
}

static int file_count(void)
{
    char path[128];
    int count = 0;
    upload_path(path, "");
    auto_closedir DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *file; (file = readdir(dir));)
        count += file->d_name[0] != '.';
    return count;
}

static bool file_is_there(const char *name)
{
    char path[128];
    upload_path(path, name);
    return access(path, F_OK) == 0;
}

static void make_file(const char *name)
{
    char path[128];
    upload_path(path, name);
    auto_fclose FILE *file = fopen(path, "w");
    ck_assert_ptr_nonnull(file);
}

/* A tar of one file of `size` zeros; gives its length. */
static size_t make_tar(char *out, const char *name, size_t size)
{
    size_t padded = (size + BLOCK - 1) / BLOCK * BLOCK, length = BLOCK + padded + 2 * BLOCK;
    unsigned sum = 0;
    memset(out, 0, length);
    snprintf(out, 100, "%s", name);
    memcpy(out + 100, "0000640", 8);
    memcpy(out + 108, "0000000", 8);
    memcpy(out + 116, "0000000", 8);
    snprintf(out + 124, 12, "%011zo", size);
    memcpy(out + 136, "00000000000", 12);
    memset(out + 148, ' ', 8);
    out[156] = '0';
    memcpy(out + 257, "ustar\00000", 8);
    for (size_t i = 0; i < BLOCK; i++)
        sum += (unsigned char)out[i];
    snprintf(out + 148, 8, "%06o", sum);
    return length;
}

static struct upload_sink *begin(void)
{
    struct upload_sink *sink;
    ck_assert_int_eq(upload_begin(&sink, uploads, &tenant, NULL), 0);
    return sink;
}

static void write_all(struct upload_sink *sink, const char *data, size_t length)
{
    /* In pieces, as bodies come. */
    for (size_t at = 0; at < length; at += 700) {
        size_t piece = length - at < 700 ? length - at : 700;
        ck_assert_int_eq(upload_write(sink, data + at, piece, NULL), 0);
    }
}

static void send(const char *name, size_t size)
{
    static char archive[1 << 18];
    ck_assert(size < sizeof archive - 4 * BLOCK);
    struct upload_sink *sink = begin();
    write_all(sink, archive, make_tar(archive, name, size));
    ended = 0;
    upload_finish(sink, &principal, "request", note_upload, NULL);
    ck_assert_int_eq(ended, 0);
    loop_run(loop);
    ck_assert_int_eq(ended, 1);
}

static void restart(void)
{
    stop();
    start();
}

static int count_row(void *arg, const struct row_upload *row)
{
    ++*(int *)arg;
    return 0;
}

static int row_count(void)
{
    struct db *db;
    int count = 0;
    ck_assert_int_eq(db_open(&db, database, DB_STATE, DB_READER, NULL), 0);
    ck_assert_int_eq(rows_each_upload(db, count_row, &count, NULL), 0);
    db_close(db);
    return count;
}

/* Removals and rows of theirs are behind this: both threads work in order. */
static void settle(void)
{
    send("settle", 0);
    send("settle", 0);
}

START_TEST(an_upload_is_told_what_it_is)
{
    send("file", 1000);
    ck_assert_msg(last_error == 0, "%s", last_failure.detail);
    ck_assert_uint_eq(last.size_bytes, 5 * BLOCK);
    ck_assert_uint_eq(last.entry_count, 1);
    ck_assert_uint_eq(last.content_bytes, 1000);
    ck_assert_int_eq(strlen(last.sha256), 64);
    ck_assert_str_eq(last.tenant_id, "ours");
    ck_assert(file_is_there(last.upload_id));
    ck_assert_int_eq(file_count(), 1);
    const struct upload *found = upload_find(uploads, "ours", last.upload_id);
    ck_assert_ptr_nonnull(found);
    ck_assert_str_eq(found->sha256, last.sha256);
}
END_TEST

START_TEST(its_hash_is_that_of_the_bytes_as_sent)
{
    char command[160], digest[65] = "";
    send("file", 12345);
    snprintf(command, sizeof command, "sha256sum %s/uploads/%s", directory, last.upload_id);
    FILE *sum = popen(command, "r");
    ck_assert_ptr_nonnull(sum);
    ck_assert_int_eq(fscanf(sum, "%64s", digest), 1);
    pclose(sum);
    ck_assert_str_eq(digest, last.sha256);
}
END_TEST

START_TEST(a_tenants_uploads_have_a_sum)
{
    char block[2000] = {0};
    struct hearth_failure failure;
    send("file", 10);
    uint64_t kept = last.size_bytes;
    ck_assert_uint_eq(tenant.upload_bytes, kept);
    tenant.max_kept_upload_bytes = kept + 3000;
    struct upload_sink *one = begin(), *two = begin();
    ck_assert_int_eq(upload_write(one, block, sizeof block, &failure), 0);
    ck_assert_int_eq(upload_write(two, block, sizeof block, &failure), HEARTH_EQUOTA);
    ck_assert_str_eq(failure.code, "quota_uploads");
    upload_abort(one); /* what is given up makes room */
    ck_assert_int_eq(upload_write(two, block, sizeof block, &failure), 0);
    upload_abort(two);
    ck_assert_uint_eq(tenant.upload_bytes, kept);
    restart();
    ck_assert_uint_eq(tenant.upload_bytes, kept);
    tenant.max_kept_upload_bytes = 1 << 30;
}
END_TEST

START_TEST(another_tenant_finds_nothing)
{
    send("file", 10);
    ck_assert_ptr_null(upload_find(uploads, "theirs", last.upload_id));
    ck_assert_ptr_null(upload_find(uploads, "ours", ID_LIKE));
    ck_assert_ptr_null(upload_find(uploads, "ours", "../test.db"));
}
END_TEST

START_TEST(a_refused_archive_leaves_nothing)
{
    send("../out", 10);
    ck_assert_int_eq(last_error, HEARTH_EINVALID);
    ck_assert_str_eq(last_failure.code, "archive_refused");
    ck_assert_ptr_nonnull(strstr(last_failure.detail, "../out"));
    settle();
    ck_assert_int_eq(file_count(), 2);
    restart();
    ck_assert_int_eq(file_count(), 2);
}
END_TEST

START_TEST(what_unpacks_to_more_than_allowed_is_too_large)
{
    limits.max_content_bytes = 999;
    restart();
    send("file", 1000);
    ck_assert_int_eq(last_error, HEARTH_ETOOLARGE);
    ck_assert_str_eq(last_failure.code, "archive_too_large");
    send("file", 999);
    ck_assert_int_eq(last_error, 0);
}
END_TEST

START_TEST(a_body_may_have_so_many_bytes_and_not_one_more)
{
    static char body[4 * BLOCK];
    struct hearth_failure failure;
    limits.max_bytes = sizeof body;
    restart();
    (void)make_tar(body, "file", 100);
    struct upload_sink *sink = begin();
    write_all(sink, body, sizeof body);
    ck_assert_int_eq(upload_write(sink, "", 0, NULL), 0);
    ck_assert_int_eq(upload_write(sink, "x", 1, &failure), HEARTH_ETOOLARGE);
    ck_assert_str_eq(failure.code, "upload_too_large");
    upload_abort(sink);
    send("file", 100);
    ck_assert_int_eq(last_error, 0);
    ck_assert_int_eq(file_count(), 1);
}
END_TEST

START_TEST(a_body_that_is_cut_short_is_refused)
{
    static char archive[8192];
    struct upload_sink *sink = begin();
    (void)make_tar(archive, "file", 4000);
    write_all(sink, archive, 2000);
    upload_finish(sink, &principal, "request", note_upload, NULL);
    loop_run(loop);
    ck_assert_int_eq(last_error, HEARTH_EINVALID);
    ck_assert_str_eq(last_failure.code, "archive_truncated");
}
END_TEST

START_TEST(a_restart_keeps_uploads_and_removes_leftovers)
{
    char kept[24], lost[24];
    send("file", 1000);
    struct upload first = last;
    snprintf(kept, sizeof kept, "%s", first.upload_id);
    send("file", 20);
    snprintf(lost, sizeof lost, "%s", last.upload_id);
    char path[128];
    upload_path(path, lost);
    ck_assert_int_eq(unlink(path), 0);
    make_file(ID_LIKE);
    make_file(ID_LIKE ".part");
    restart();
    const struct upload *found = upload_find(uploads, "ours", kept);
    ck_assert_ptr_nonnull(found);
    ck_assert_uint_eq(found->entry_count, first.entry_count);
    ck_assert_uint_eq(found->content_bytes, first.content_bytes);
    ck_assert_str_eq(found->sha256, first.sha256);
    ck_assert_int_eq(found->last_used_at, first.last_used_at);
    ck_assert_ptr_null(upload_find(uploads, "ours", lost));
    settle();
    ck_assert(file_is_there(kept));
    ck_assert_int_eq(file_count(), 3);
}
END_TEST

START_TEST(a_file_that_lost_bytes_is_forgotten_at_the_start)
{
    char path[128];
    send("file", 1000);
    upload_path(path, last.upload_id);
    ck_assert_int_eq(truncate(path, BLOCK), 0);
    restart();
    ck_assert_ptr_null(upload_find(uploads, "ours", last.upload_id));
    settle();
    ck_assert_int_eq(file_count(), 2);
    ck_assert_int_eq(row_count(), 2);
}
END_TEST

START_TEST(an_unfinished_upload_is_gone_after_a_restart)
{
    struct upload_sink *sink = begin();
    ck_assert_int_eq(upload_write(sink, "x", 1, NULL), 0);
    ck_assert_int_eq(file_count(), 1);
    restart();
    ck_assert_int_eq(file_count(), 0);
}
END_TEST

START_TEST(a_stop_in_the_middle_of_a_check_is_harmless)
{
    static char archive[8192];
    struct upload_sink *sink = begin();
    write_all(sink, archive, make_tar(archive, "file", 4000));
    upload_finish(sink, &principal, "request", note_upload, NULL);
    restart();
    ck_assert_int_eq(ended, 0);
    settle();
    ck_assert_int_eq(file_count(), 2);
}
END_TEST

START_TEST(an_hour_after_its_last_use_it_is_gone)
{
    send("file", 10);
    char upload_id[24];
    snprintf(upload_id, sizeof upload_id, "%s", last.upload_id);
    pass_time(UPLOAD_LIFETIME_US - 60 * US_PER_S);
    ck_assert_ptr_nonnull(upload_find(uploads, "ours", upload_id));
    pass_time(60 * US_PER_S);
    ck_assert_ptr_null(upload_find(uploads, "ours", upload_id));
    restart();
    ck_assert(file_is_there(upload_id));
    settle();
    ck_assert(!file_is_there(upload_id));
    ck_assert_int_eq(row_count(), 2); /* those of settle */
}
END_TEST

static int open_tree(const char *upload_id)
{
    int fd;
    const struct upload *upload = upload_find(uploads, "ours", upload_id);
    ck_assert_ptr_nonnull(upload);
    ended = 0;
    ck_assert_int_eq(upload_open_tree(uploads, upload, &fd, note_end, NULL, NULL), 0);
    return fd;
}

static size_t read_frames(int fd, size_t *ret_bytes)
{
    static char data[1 << 20];
    size_t length = 0, count = 0;
    for (ssize_t got; (got = read(fd, data + length, sizeof data - length)) > 0;)
        length += (size_t)got;
    *ret_bytes = length;
    for (size_t at = 0; at < length; count++) {
        const unsigned char *prefix = (const unsigned char *)data + at;
        ck_assert(length - at >= 4);
        at += 4 + ((size_t)prefix[0] << 24 | (size_t)prefix[1] << 16 | (size_t)prefix[2] << 8 |
                   prefix[3]);
        ck_assert(at <= length);
    }
    return count;
}

START_TEST(a_tree_is_read_any_number_of_times)
{
    size_t bytes, again;
    send("file", 5000);
    for (int i = 0; i < 2; i++) {
        auto_close int fd = open_tree(last.upload_id);
        ck_assert_uint_ge(read_frames(fd, i ? &again : &bytes), 2);
        loop_run(loop);
        ck_assert_int_eq(ended, 1);
        ck_assert_msg(last_error == 0, "%s", last_failure.detail);
    }
    ck_assert_uint_gt(bytes, 5000);
    ck_assert_uint_eq(bytes, again);
}
END_TEST

START_TEST(a_use_makes_it_last_longer)
{
    send("file", 10);
    size_t bytes;
    pass_time(UPLOAD_LIFETIME_US - 60 * US_PER_S);
    auto_close int fd = open_tree(last.upload_id);
    read_frames(fd, &bytes);
    loop_run(loop);
    pass_time(UPLOAD_LIFETIME_US - 60 * US_PER_S);
    ck_assert_ptr_nonnull(upload_find(uploads, "ours", last.upload_id));
    restart();
    ck_assert_ptr_nonnull(upload_find(uploads, "ours", last.upload_id));
}
END_TEST

START_TEST(a_tree_that_nobody_reads_ends_with_an_error)
{
    send("file", 200000); /* more than a pipe holds: it cannot end before it is closed */
    close(open_tree(last.upload_id));
    loop_run(loop);
    ck_assert_int_eq(ended, 1);
    ck_assert_int_ne(last_error, 0);
}
END_TEST

START_TEST(a_file_that_changed_on_disk_is_refused_through_done)
{
    size_t bytes;
    char path[128];
    send("file", 5000);
    upload_path(path, last.upload_id);
    ck_assert_int_eq(truncate(path, 1000), 0);
    auto_close int fd = open_tree(last.upload_id);
    read_frames(fd, &bytes);
    loop_run(loop);
    ck_assert_int_eq(last_error, HEARTH_EINVALID);
    ck_assert_str_eq(last_failure.code, "archive_truncated");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("upload");
    TCase *tcase = tcase_create("upload");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, an_upload_is_told_what_it_is);
    tcase_add_test(tcase, its_hash_is_that_of_the_bytes_as_sent);
    tcase_add_test(tcase, a_tenants_uploads_have_a_sum);
    tcase_add_test(tcase, another_tenant_finds_nothing);
    tcase_add_test(tcase, a_refused_archive_leaves_nothing);
    tcase_add_test(tcase, what_unpacks_to_more_than_allowed_is_too_large);
    tcase_add_test(tcase, a_body_may_have_so_many_bytes_and_not_one_more);
    tcase_add_test(tcase, a_body_that_is_cut_short_is_refused);
    tcase_add_test(tcase, a_restart_keeps_uploads_and_removes_leftovers);
    tcase_add_test(tcase, a_file_that_lost_bytes_is_forgotten_at_the_start);
    tcase_add_test(tcase, an_unfinished_upload_is_gone_after_a_restart);
    tcase_add_test(tcase, a_stop_in_the_middle_of_a_check_is_harmless);
    tcase_add_test(tcase, an_hour_after_its_last_use_it_is_gone);
    tcase_add_test(tcase, a_tree_is_read_any_number_of_times);
    tcase_add_test(tcase, a_use_makes_it_last_longer);
    tcase_add_test(tcase, a_tree_that_nobody_reads_ends_with_an_error);
    tcase_add_test(tcase, a_file_that_changed_on_disk_is_refused_through_done);
    suite_add_tcase(suite, tcase);
    return run_and_free(suite);
}
