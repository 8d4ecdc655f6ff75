/* Applies a patch to a directory by supervisord/patch alone, for the property tests: what git apply
 * and patch make of it is held against this. Usage: patch_tool DIRECTORY < PATCH. What does not
 * apply is told on stderr, with exit status 1. */
#include "supervisord/patch/tree.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int read_all(int fd, struct buf *out)
{
    for (ssize_t got;
         (buf_reserve(out, 65536), got = read(fd, out->data + out->length, 65536)) > 0;)
        out->length += (size_t)got;
    return buf_append(out, "", 0);
}

static void look(struct patch_node *node)
{
    struct stat status;
    char above[4200];
    snprintf(above, sizeof above, "%s", node->path);
    for (char *slash = above; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        node->behind_link = lstat(above, &status) == 0 && !S_ISDIR(status.st_mode);
        *slash = '/';
        if (node->behind_link)
            return;
    }
    if (lstat(node->path, &status) < 0)
        return;
    node->base.mode = status.st_mode & 0777;
    node->base.type = S_ISREG(status.st_mode)   ? PATCH_FILE
                      : S_ISLNK(status.st_mode) ? PATCH_SYMLINK
                      : S_ISDIR(status.st_mode) ? PATCH_DIRECTORY
                                                : PATCH_OTHER;
    struct buf content = {0};
    if (S_ISREG(status.st_mode)) {
        int fd = open(node->path, O_RDONLY);
        read_all(fd, &content);
        close(fd);
    } else if (S_ISLNK(status.st_mode)) {
        buf_reserve(&content, 4096);
        content.length = (size_t)readlink(node->path, content.data, 4096);
    }
    node->base.length = content.length;
    node->base.content = buf_steal(&content);
}

static void remove_node(const struct patch_node *node)
{
    char path[4200];
    unlink(node->path);
    snprintf(path, sizeof path, "%s", node->path);
    for (char *slash; (slash = strrchr(path, '/'));) {
        *slash = '\0';
        if (rmdir(path) < 0)
            break;
    }
}

static void put_node(const struct patch_node *node)
{
    char path[4200];
    snprintf(path, sizeof path, "%s", node->path);
    for (char *slash = path; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    unlink(node->path);
    if (node->now.type == PATCH_SYMLINK) {
        snprintf(path, sizeof path, "%.*s", (int)node->now.length, node->now.content);
        if (symlink(path, node->path) < 0)
            perror(node->path);
        return;
    }
    int fd = open(node->path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    if (fd < 0 || write(fd, node->now.content, node->now.length) != (ssize_t)node->now.length ||
        fchmod(fd, node->now.mode) < 0)
        perror(node->path);
    close(fd);
}

int main(int argc, char **argv)
{
    auto_buf struct buf text = {0};
    struct patch patch = {0};
    struct patch_tree tree = {0};
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    if (argc != 2 || chdir(argv[1]) < 0 || read_all(STDIN_FILENO, &text))
        return 2;
    int error = patch_parse(&patch, text.data, text.length, &failure);
    if (!error)
        error = patch_tree_begin(&tree, &patch, &failure);
    for (struct patch_node *node = tree.first; !error && node; node = node->next)
        look(node);
    if (!error)
        error = patch_tree_apply(&tree, &patch, &failure);
    for (int removals = 1; !error && removals >= 0; removals--)
        for (struct patch_node *node = tree.first; node; node = node->next) {
            enum patch_status status = patch_node_status(node);
            if (removals && status == PATCH_DELETED)
                remove_node(node);
            else if (!removals && (status == PATCH_ADDED || status == PATCH_MODIFIED))
                put_node(node);
        }
    if (error)
        fprintf(stderr, "%s: %s (%s)\n", failure.code, failure.detail, failure.hint);
    patch_tree_free(&tree);
    patch_free(&patch);
    return error ? 1 : 0;
}
