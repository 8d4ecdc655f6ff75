#include "base/clock.h"
#include "base/text.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* An update shows at once and is acknowledged once it is durable; where it cannot be made durable
 * it is taken back. */
struct update {
    struct supervisor *supervisor;
    char workspace_id[ID_SIZE];
    char *old_name;
    struct row_label *old_labels;
    size_t old_label_count;
    workspace_done done;
    void *arg;
};

static void committed(void *arg, int error, const struct hearth_failure *failure)
{
    struct update *update = arg;
    struct workspace *workspace = supervisor_workspace(update->supervisor, update->workspace_id);
    struct hearth_failure gone;
    if (workspace && error) {
        free(workspace->name);
        workspace->name = steal_pointer(update->old_name);
        workspace->details++;
        workspace_labels_set(workspace, update->old_labels, update->old_label_count);
    }
    if (workspace && !error)
        workspace_event(workspace, "updated", NULL);
    if (!workspace && !error) {
        error = hearth_fail(&gone, HEARTH_ENOTFOUND, "workspace_not_found",
                            "the workspace was deleted meanwhile");
        failure = &gone;
    }
    update->done(update->arg, error, failure, error ? NULL : workspace);
    for (size_t i = 0; i < update->old_label_count; i++) {
        free((char *)update->old_labels[i].key);
        free((char *)update->old_labels[i].value);
    }
    free(update->old_labels);
    free(update->old_name);
    free(update);
}

static bool listed(const char *key, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, list[i]) == 0)
            return true;
    return false;
}

static bool relabelled(const char *key, const struct row_label *labels, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(key, labels[i].key) == 0)
            return true;
    return false;
}

/* Old labels less the cleared and replaced ones, then the new ones, borrowed. Gives the count, at
 * most size. */
static size_t merge(const struct workspace *workspace, const struct workspace_update_spec *spec,
                    struct row_label *out, size_t size)
{
    size_t count = 0;
    for (size_t i = 0; i < workspace->label_count && count < size; i++) {
        const char *key = workspace->labels[i].key;
        if (!listed(key, spec->clear_labels, spec->clear_label_count) &&
            !relabelled(key, spec->labels, spec->label_count))
            out[count++] = workspace->labels[i];
    }
    for (size_t i = 0; i < spec->label_count && count < size; i++)
        out[count++] = spec->labels[i];
    return count;
}

static int check(const struct workspace_update_spec *spec, struct hearth_failure *failure)
{
    if (!spec->name && !spec->clear_name && !spec->label_count && !spec->clear_label_count) {
        int error =
            hearth_fail(failure, HEARTH_EINVALID, "empty_update", "the update changes nothing");
        hearth_failure_hint(failure, "Give name, clear_name, labels or clear_labels.");
        return error;
    }
    if (spec->name && spec->clear_name) {
        int error = hearth_fail(failure, HEARTH_EINVALID, "conflicting_arguments",
                                "name and clear_name exclude each other");
        hearth_failure_field(failure, "/clear_name");
        return error;
    }
    int error = spec->name ? workspace_name_check(spec->name, failure) : 0;
    return error ? error : workspace_labels_check(spec->labels, spec->label_count, failure);
}

void workspace_update(struct workspace *workspace, const struct principal *principal,
                      const struct workspace_update_spec *spec, workspace_done done, void *arg)
{
    struct supervisor *supervisor = workspace->supervisor;
    struct hearth_failure failure = HEARTH_FAILURE_NONE;
    struct row_label merged[2 * WORKSPACE_LABELS_MAX];
    int error = check(spec, &failure);
    size_t count = error ? 0 : merge(workspace, spec, merged, sizeof merged / sizeof *merged);
    if (!error)
        error = workspace_labels_check(merged, count, &failure);
    struct update *update = error ? NULL : calloc(1, sizeof *update);
    if (!error && !update)
        error = hearth_fail(&failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    if (error) {
        workspace_complete_later(supervisor, done, arg, error, &failure, NULL);
        return;
    }
    *update = (struct update){.supervisor = supervisor, .done = done, .arg = arg};
    memcpy(update->workspace_id, workspace->workspace_id, sizeof update->workspace_id);
    /* merged borrows from the old labels: they live on in update. */
    update->old_labels = workspace->labels;
    update->old_label_count = workspace->label_count;
    workspace->labels = NULL;
    workspace->label_count = 0;
    if (workspace_labels_set(workspace, merged, count))
        abort(); /* a few hundred bytes */
    update->old_name = text_copy(workspace->name);
    if (spec->name || spec->clear_name) {
        free(workspace->name);
        workspace->name = text_copy(spec->name);
        workspace->details++;
    }
    workspace_touch(workspace);
    struct row_workspace row;
    struct change *change = change_new();
    workspace_row(workspace, &row);
    change_put_workspace(change, &row);
    workspace_audit(workspace, change, principal, spec->request_id, "workspace_update", "ok");
    change_commit(change, supervisor->writer, committed, update);
}
