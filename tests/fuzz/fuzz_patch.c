/* supervisord/patch: a patch, a NUL, and the content of every file that it names. Whatever comes,
 * names stay in the workspace, and a patch that applies gives content for all that is left. */
#include "fuzz.h"

#include "supervisord/patch/tree.h"

#include <stdlib.h>
#include <string.h>

static bool leads_out(const char *path)
{
    return path[0] == '/' || strcmp(path, "..") == 0 || strncmp(path, "../", 3) == 0 ||
           strstr(path, "/../") || (strlen(path) > 2 && !strcmp(path + strlen(path) - 3, "/.."));
}

static void fill(struct patch_tree *tree, const char *content, size_t length)
{
    for (struct patch_node *node = tree->first; node; node = node->next) {
        PROMISE(!leads_out(node->path) && node->path[0]);
        if (strlen(node->path) % 4 == 3)
            continue; /* not there */
        node->base.type = PATCH_FILE;
        node->base.mode = 0644;
        node->base.content = malloc(length + 1);
        memcpy(node->base.content, content, length);
        node->base.length = length;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct patch patch;
    struct patch_tree tree;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = '\0';
    size_t length = strlen(text);
    const char *content = length < size ? text + length + 1 : "";
    if (patch_parse(&patch, text, length, &failure) == 0) {
        int error = patch_tree_begin(&tree, &patch, &failure);
        if (!error) {
            fill(&tree, content, length < size ? size - length - 1 : 0);
            error = patch_tree_apply(&tree, &patch, &failure);
        }
        PROMISE(error == (int)failure.error);
        for (const struct patch_node *node = tree.first; !error && node; node = node->next)
            PROMISE(node->now.type == PATCH_NOTHING || node->now.content);
        patch_tree_free(&tree);
        patch_free(&patch);
    } else {
        PROMISE(failure.error && failure.code[0] && failure.detail[0]);
    }
    free(text);
    return 0;
}
