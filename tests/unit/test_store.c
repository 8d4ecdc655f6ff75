/* The content store: what is put comes back, what nobody refers to goes, and a store that was left
 * at any point is whole after the next start. */
#include "storage/store.h"

#include "base/cleanup.h"
#include "suite.h"

#include <check.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[] = "/tmp/hearth-store-XXXXXX";
static char base[sizeof directory];
static int dir_fd;
static struct store *store;
static struct hearth_failure failure;

static void open_store(void)
{
    ck_assert_int_eq(store_open(&store, dir_fd, "tenant", &failure), 0);
}

static void setup(void)
{
    ck_assert_int_ge(sodium_init(), 0);
    memcpy(base, directory, sizeof base);
    ck_assert_ptr_nonnull(mkdtemp(base));
    dir_fd = open(base, O_RDONLY | O_DIRECTORY);
    open_store();
}

static void teardown(void)
{
    char command[128];
    store_close(store);
    close(dir_fd);
    snprintf(command, sizeof command, "rm -rf '%s'", base);
    ck_assert_int_eq(system(command), 0);
}

/* As a start does it: with the roots that the database would name. */
static void reopen(const struct store_hash *roots, size_t count)
{
    store_close(store);
    open_store();
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(store_keep(store, &roots[i], &failure), 0);
    ck_assert_int_eq(store_collect(store, false, &failure), 0);
}

static struct store_report report(void)
{
    struct store_report result;
    ck_assert_int_eq(store_verify(store, true, &result, &failure), 0);
    ck_assert_uint_eq(result.damaged, 0);
    ck_assert_uint_eq(result.missing, 0);
    ck_assert_uint_eq(result.miscounted, 0);
    return result;
}

static uint64_t disk_bytes(void)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < 100; i++) {
        char path[64];
        struct stat status;
        snprintf(path, sizeof path, "tenant/pack-%08u", i);
        if (fstatat(dir_fd, path, &status, 0) == 0)
            total += (uint64_t)status.st_size;
    }
    return total;
}

/* A root over blobs of text made from seeds. */
static struct store_hash put_tree(const unsigned *seeds, size_t count, bool commit)
{
    struct store_session *session = store_begin(store);
    struct store_hash children[64], root;
    for (size_t i = 0; i < count; i++) {
        char text[4000];
        memset(text, 'a' + (int)(seeds[i] % 26), sizeof text);
        randombytes_buf_deterministic(text, 1000,
                                      (unsigned char[randombytes_SEEDBYTES]){
                                          (unsigned char)seeds[i], (unsigned char)(seeds[i] >> 8)});
        ck_assert_int_eq(store_put(session, text, sizeof text, &children[i], &failure), 0);
    }
    ck_assert_int_eq(store_put_node(session, children, (uint32_t)count, "tree", 4, &root, &failure),
                     0);
    if (commit)
        ck_assert_int_eq(store_commit(session, &root, &failure), 0);
    else
        store_abort(session);
    return root;
}

START_TEST(test_what_is_put_comes_back_also_after_a_start)
{
    static unsigned char out[PACK_BLOB_MAX];
    auto_free unsigned char *large = malloc(PACK_BLOB_MAX);
    size_t length;
    struct store_hash hashes[4], root;
    struct store_node node;
    randombytes_buf(large, PACK_BLOB_MAX);
    struct store_session *session = store_begin(store);
    ck_assert_int_eq(store_put(session, "", 0, &hashes[0], &failure), 0);
    ck_assert_int_eq(store_put(session, "x", 1, &hashes[1], &failure), 0);
    ck_assert_int_eq(store_put(session, large, PACK_BLOB_MAX, &hashes[2], &failure), 0);
    ck_assert_int_eq(store_put(session, large, PACK_BLOB_MAX - 1, &hashes[3], &failure), 0);
    ck_assert_int_eq(store_put_node(session, hashes, 4, "payload", 7, &root, &failure), 0);
    ck_assert_int_eq(store_commit(session, &root, &failure), 0);
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(store_get(store, &hashes[0], out, &length, &failure), 0);
        ck_assert_uint_eq(length, 0);
        ck_assert_int_eq(store_get(store, &hashes[2], out, &length, &failure), 0);
        ck_assert_uint_eq(length, PACK_BLOB_MAX);
        ck_assert_mem_eq(out, large, length);
        ck_assert_int_eq(store_get(store, &root, out, &length, &failure), 0);
        ck_assert(store_node_parse(out, length, &node));
        ck_assert_uint_eq(node.count, 4);
        ck_assert_mem_eq(node.payload, "payload", 7);
        reopen(&root, 1);
    }
    ck_assert_uint_eq(report().roots, 1);
}
END_TEST

START_TEST(test_the_same_content_is_kept_once)
{
    struct store_hash first = put_tree((unsigned[]){1, 2, 3}, 3, true);
    uint64_t before = disk_bytes();
    struct store_hash again = put_tree((unsigned[]){1, 2, 3}, 3, true);
    ck_assert_mem_eq(&first, &again, sizeof first);
    ck_assert_uint_eq(disk_bytes(), before);
    put_tree((unsigned[]){1, 2, 3, 4}, 4, true);
    ck_assert_uint_lt(disk_bytes() - before, 1700); /* one blob and a node, not four */
    store_release(store, &first);
    ck_assert_uint_eq(report().blobs, 4 + 2);
    store_release(store, &again);
    ck_assert_uint_eq(report().blobs, 4 + 1);
}
END_TEST

START_TEST(test_what_nobody_refers_to_goes_and_gives_its_room_back)
{
    struct store_hash one = put_tree((unsigned[]){1, 2, 3}, 3, true);
    struct store_hash two = put_tree((unsigned[]){3, 4}, 2, true);
    store_release(store, &one);
    ck_assert_uint_eq(report().blobs, 2 + 1);
    ck_assert_int_eq(store_collect(store, true, &failure), 0);
    struct store_report after = report();
    ck_assert_uint_eq(after.dead_bytes, 0);
    ck_assert_uint_eq(disk_bytes(), after.stored_bytes);
    reopen(&two, 1);
    ck_assert_uint_eq(report().blobs, 3);
    store_release(store, &two);
    ck_assert_int_eq(store_collect(store, false, &failure), 0);
    ck_assert_uint_eq(report().blobs, 0);
    ck_assert_uint_eq(disk_bytes(), 0);
}
END_TEST

START_TEST(test_a_session_that_is_given_up_leaves_nothing)
{
    struct store_hash kept = put_tree((unsigned[]){1, 2}, 2, true);
    put_tree((unsigned[]){2, 3, 4}, 3, false);
    ck_assert_uint_eq(report().blobs, 3);
    reopen(&kept, 1);
    ck_assert_uint_eq(report().blobs, 3);
}
END_TEST

START_TEST(test_what_a_session_found_stays_while_it_lasts)
{
    struct store_hash root = put_tree((unsigned[]){7}, 1, true), other, data;
    char text[4000];
    memset(text, 'a' + 7, sizeof text);
    randombytes_buf_deterministic(text, 1000, (unsigned char[randombytes_SEEDBYTES]){7});
    store_hash_blob(&data, STORE_DATA, text, sizeof text);
    struct store_session *session = store_begin(store);
    ck_assert(store_hold(session, &data));
    store_release(store, &root);
    ck_assert_int_eq(store_collect(store, true, &failure), 0);
    ck_assert_int_eq(store_put_node(session, &data, 1, "", 0, &other, &failure), 0);
    ck_assert_int_eq(store_commit(session, &other, &failure), 0);
    ck_assert_uint_eq(report().blobs, 2);
}
END_TEST

START_TEST(test_a_node_whose_child_is_not_there_is_refused)
{
    struct store_hash nothing = {{1}}, root;
    struct store_session *session = store_begin(store);
    ck_assert_int_eq(store_put_node(session, &nothing, 1, "", 0, &root, &failure), HEARTH_EIO);
    store_abort(session);
    ck_assert_uint_eq(report().blobs, 0);
    ck_assert_int_eq(store_keep(store, &nothing, &failure), HEARTH_EIO);
}
END_TEST

/* Every length that a kill may leave of what was not yet a promise. */
START_TEST(test_a_pack_that_was_cut_short_keeps_what_was_whole)
{
    struct store_hash root = put_tree((unsigned[]){1, 2}, 2, true);
    uint64_t whole = disk_bytes();
    put_tree((unsigned[]){5, 6}, 2, false);
    uint64_t longest = disk_bytes();
    for (uint64_t length = longest; length > whole; length -= 97) {
        auto_close int fd = openat(dir_fd, "tenant/pack-00000001", O_RDWR);
        ck_assert_int_ge(fd, 0);
        ck_assert_int_eq(ftruncate(fd, (off_t)length), 0);
        store_close(store);
        open_store();
        ck_assert_int_eq(store_keep(store, &root, &failure), 0);
        ck_assert_int_eq(store_collect(store, false, &failure), 0);
        ck_assert_uint_eq(report().blobs, 3);
        if (length < whole + 97)
            break;
    }
    put_tree((unsigned[]){5, 6}, 2, true);
    ck_assert_uint_eq(report().blobs, 6);
}
END_TEST

START_TEST(test_a_damaged_blob_is_found_and_never_given)
{
    struct store_hash root = put_tree((unsigned[]){1}, 1, true);
    static unsigned char out[PACK_BLOB_MAX];
    struct store_node node;
    struct store_hash child;
    struct store_report result;
    size_t length;
    auto_close int fd = openat(dir_fd, "tenant/pack-00000001", O_RDWR);
    ck_assert_int_eq(pwrite(fd, "?", 1, PACK_HEADER_SIZE + 500), 1);
    ck_assert_int_eq(store_get(store, &root, out, &length, &failure), 0);
    ck_assert(store_node_parse(out, length, &node));
    memcpy(&child, node.children, sizeof child);
    ck_assert_int_eq(store_get(store, &child, out, &length, &failure), HEARTH_EIO);
    ck_assert_str_eq(failure.code, "store_damaged");
    ck_assert_int_eq(store_verify(store, true, &result, &failure), 0);
    ck_assert_uint_eq(result.damaged, 1);
}
END_TEST

/* Any order of commits, releases, rewriting and starts, against a plain account of the roots. */
START_TEST(test_any_order_of_things_leaves_a_whole_store)
{
    struct store_hash roots[40];
    size_t count = 0;
    srand(20 + (unsigned)_i);
    for (int step = 0; step < 300; step++) {
        unsigned seeds[8], number = 1 + (unsigned)rand() % 8, what = (unsigned)rand() % 10;
        for (unsigned i = 0; i < number; i++)
            seeds[i] = (unsigned)rand() % 60;
        if (what < 4 && count < 40) {
            roots[count++] = put_tree(seeds, number, true);
        } else if (what < 5) {
            put_tree(seeds, number, false);
        } else if (what < 8 && count) {
            size_t gone = (size_t)rand() % count;
            store_release(store, &roots[gone]);
            roots[gone] = roots[--count];
        } else if (what < 9) {
            ck_assert_int_eq(store_collect(store, rand() % 2, &failure), 0);
        } else {
            reopen(roots, count);
        }
        if (step % 10 == 0)
            report();
    }
    for (size_t i = 0; i < count; i++)
        store_release(store, &roots[i]);
    ck_assert_uint_eq(report().blobs, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("store");
    TCase *tests = tcase_create("store");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, test_what_is_put_comes_back_also_after_a_start);
    tcase_add_test(tests, test_the_same_content_is_kept_once);
    tcase_add_test(tests, test_what_nobody_refers_to_goes_and_gives_its_room_back);
    tcase_add_test(tests, test_a_session_that_is_given_up_leaves_nothing);
    tcase_add_test(tests, test_what_a_session_found_stays_while_it_lasts);
    tcase_add_test(tests, test_a_node_whose_child_is_not_there_is_refused);
    tcase_add_test(tests, test_a_pack_that_was_cut_short_keeps_what_was_whole);
    tcase_add_test(tests, test_a_damaged_blob_is_found_and_never_given);
    tcase_add_loop_test(tests, test_any_order_of_things_leaves_a_whole_store, 0, 6);
    suite_add_tcase(suite, tests);
    return run_and_free(suite);
}
