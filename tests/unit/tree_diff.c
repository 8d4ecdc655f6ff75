/* tree_diff OLD NEW [CONTEXT [stat]]: the patch from one directory of this host to another, by what
 * the daemon uses for a workspace and its baseline. Run by tests/integration/test_diff_property.py.
 */
#include "supervisord/tree/content.h"
#include "supervisord/tree/manifest.h"
#include "supervisord/tree/render.h"

#include <dirent.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct hearth_failure failure;

static void check(int error)
{
    if (!error)
        return;
    fprintf(stderr, "tree_diff: %s: %s\n", failure.code, failure.detail);
    exit(1);
}

static void walk(struct tree_list *list, const char *root, const char *below)
{
    char path[9000], name[4200], target[4096];
    snprintf(path, sizeof path, "%s/%s", root, below);
    auto_closedir DIR *directory = opendir(path);
    for (struct dirent *file; directory && (file = readdir(directory));) {
        struct stat status;
        if (strcmp(file->d_name, ".") == 0 || strcmp(file->d_name, "..") == 0)
            continue;
        snprintf(name, sizeof name, "%s%s%s", below, *below ? "/" : "", file->d_name);
        snprintf(path, sizeof path, "%s/%s", root, name);
        lstat(path, &status);
        struct tree_entry entry = {.path = name,
                                   .type = S_ISLNK(status.st_mode)   ? TREE_SYMLINK
                                           : S_ISDIR(status.st_mode) ? TREE_DIRECTORY
                                                                     : TREE_FILE,
                                   .mode = status.st_mode & 07777,
                                   .size = S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0};
        if (S_ISLNK(status.st_mode)) {
            ssize_t length = readlink(path, target, sizeof target - 1);
            target[length < 0 ? 0 : length] = '\0';
            entry.link_target = target;
        }
        check(tree_list_add(list, &entry, &failure));
        if (S_ISDIR(status.st_mode)) {
            char *copy = strdup(name);
            walk(list, root, copy);
            free(copy);
        }
    }
}

/* Gives each piece of a file to take. */
static void read_file(const char *root, const char *name,
                      void (*take)(void *arg, const void *data, size_t length), void *arg)
{
    static char piece[65536];
    char path[4200];
    snprintf(path, sizeof path, "%s/%s", root, name);
    auto_close int fd = open(path, O_RDONLY);
    for (ssize_t got; (got = read(fd, piece, sizeof piece)) > 0;)
        take(arg, piece, (size_t)got);
}

static void add_content(void *content, const void *data, size_t length)
{
    check(content_add(content, data, length, &failure));
}

static void hash_file(struct tree_entry *entry, const char *root, struct content *content)
{
    read_file(root, entry->path, add_content, content);
    check(content_end(content, &entry->content, &failure));
    entry->hashed = true;
}

struct keeping {
    struct render *render;
    size_t index;
};

static void keep(void *arg, const void *data, size_t length)
{
    struct keeping *keeping = arg;
    check(render_keep(keeping->render, keeping->index, data, length, &failure));
}

int main(int argc, char **argv)
{
    char base[] = "/tmp/hearth-tree-diff-XXXXXX", command[64];
    if (argc < 3 || sodium_init() < 0 || !mkdtemp(base))
        return 2;
    auto_close int dir_fd = open(base, O_RDONLY | O_DIRECTORY);
    struct store *store;
    check(store_open(&store, dir_fd, "store", &failure));
    struct content content = {.session = store_begin(store)};
    struct tree_list old = {0}, new = {0};
    walk(&old, argv[1], "");
    walk(&new, argv[2], "");
    tree_list_sort(&old);
    tree_list_sort(&new);
    for (size_t i = 0; i < old.count; i++)
        if (old.entries[i].type == TREE_FILE)
            hash_file(&old.entries[i], argv[1], &content);
    struct render render = {.store = store,
                            .spec = {.context = argc > 3 ? (unsigned)atoi(argv[3]) : 3,
                                     .binary = true,
                                     .max_patch_bytes = 64 << 20,
                                     .max_entries = 100000}};
    check(manifest_write(content.session, &old, &render.baseline, &failure));
    struct tree_work work = {0};
    check(render_plan(&render, &new, &work, &failure));
    struct content hashing = {0};
    for (size_t i = 0; i < work.path_count; i++) {
        struct keeping keeping = {&render, i};
        read_file(argv[2], work.paths[i], keep, &keeping);
        hash_file(&new.entries[work.indexes[i]], argv[2], &hashing);
    }
    struct diff_result result = {0};
    check(render_conclude(&render, &new, work.paths, work.path_count, &result, &failure));
    fwrite(result.patch, 1, result.patch_length, stdout);
    fprintf(stderr, "%zu changes, %zu renamed\n", (size_t)result.total, ({
                size_t renamed = 0;
                for (size_t i = 0; i < result.entry_count; i++)
                    renamed += result.entries[i].renamed_from != NULL;
                renamed;
            }));
    render_free(&render);
    store_abort(content.session);
    store_close(store);
    snprintf(command, sizeof command, "rm -rf %s", base);
    return system(command);
}
