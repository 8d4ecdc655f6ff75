#include "supervisord/diff.h"

#include "base/text.h"
#include "supervisord/snapshot_internal.h"
#include "supervisord/supervisor_internal.h"
#include "supervisord/tree/content.h"
#include "supervisord/tree/manifest.h"
#include "supervisord/tree/render.h"

#include <stdlib.h>
#include <string.h>

struct diff {
    struct tree_work work;
    struct render render; /* the worker's: comparing and writing */
    char **paths;         /* normalised */
    bool clean;           /* nothing is changed, without a look at the baseline */
    struct content content;
    struct diff_result result;
    diff_done done;
    void *arg;
};

static struct diff *diff_of(struct tree_work *work)
{
    return container_of(work, struct diff, work);
}

static void finish(struct diff *diff)
{
    int error = (int)diff->work.failure.error;
    /* Entries point into known, which goes back to the workspace here: told first. */
    diff->done(diff->arg, error, &diff->work.failure, error ? NULL : &diff->result);
    render_free(&diff->render);
    tree_work_end(&diff->work);
    content_free(&diff->content);
    for (size_t i = 0; i < diff->render.spec.path_count; i++)
        free(diff->paths[i]);
    free(diff->paths);
    free(diff);
}

static void run_conclude(void *arg)
{
    struct diff *diff = arg;
    struct tree_work *work = &diff->work;
    struct known *known = &work->known;
    if (!diff->clean) {
        tree_list_compact(&known->list);
        if (render_conclude(&diff->render, &known->list, work->paths, work->path_count,
                            &diff->result, &work->failure))
            return;
        if (!diff->result.total && !diff->render.spec.path_count) {
            known->has_clean = true;
            known->clean = diff->render.baseline;
            work->known_changed = true;
        }
    }
    if (work->known_changed)
        known_save(known, work->store->dir_fd, work->known_name);
}

static void concluded(void *arg)
{
    finish(arg);
}

static int take_item(void *arg, size_t index, const Hearth__Agent__V1__TreeReadItem *item,
                     struct hearth_failure *failure)
{
    struct diff *diff = arg;
    struct tree_work *work = &diff->work;
    int error = render_keep(&diff->render, index, item->data.data, item->data.len, failure);
    work->known_changed = true;
    return error ? error
                 : tree_entry_read(work, &work->known.list.entries[work->indexes[index]],
                                   &diff->content, item, failure);
}

static void contents_read(void *arg, int error, const struct hearth_failure *failure)
{
    struct diff *diff = arg;
    if (error) {
        diff->work.failure = *failure;
        finish(diff);
        return;
    }
    stores_submit(diff->work.supervisor->stores, run_conclude, concluded, diff);
}

static const struct agent_read_events read_events = {.on_item = take_item, .done = contents_read};

static void run_plan(void *arg)
{
    struct diff *diff = arg;
    struct tree_work *work = &diff->work;
    struct known *known = &work->known;
    bool empty = manifest_is_empty(&diff->render.baseline) && !known->list.count;
    diff->clean = empty || (known->has_clean && memcmp(&known->clean, &diff->render.baseline,
                                                       sizeof known->clean) == 0);
    if (diff->clean)
        return;
    diff->render.store = work->store->store;
    render_plan(&diff->render, &known->list, work, &work->failure);
}

static void planned(void *arg)
{
    struct diff *diff = arg;
    struct tree_work *work = &diff->work;
    struct agentlink *link = work->path_count ? tree_work_link(work) : NULL;
    if (work->failure.error)
        finish(diff);
    else if (!work->path_count)
        stores_submit(work->supervisor->stores, run_conclude, concluded, diff);
    else
        agent_read(link, work->supervisor->stores, work->paths, work->path_count, &read_events,
                   diff);
}

static void scanned(struct tree_work *work)
{
    struct diff *diff = diff_of(work);
    if (work->failure.error)
        finish(diff);
    else
        stores_submit(work->supervisor->stores, run_plan, planned, diff);
}

static void start(struct tree_work *work)
{
    struct diff *diff = diff_of(work);
    struct snapshot *baseline =
        work->failure.error ? NULL
                            : snapshot_find(work->workspace, SNAPSHOT_BASELINE, &work->failure);
    if (work->failure.code[0] && strcmp(work->failure.code, "snapshot_not_found") == 0)
        hearth_fail(&work->failure, HEARTH_ECONFLICT, "baseline_missing",
                    "the workspace was made before there were baselines");
    if (!baseline) {
        finish(diff);
        return;
    }
    diff->render.baseline = baseline->root;
    tree_work_scan(work, NULL, scanned);
}

/* The paths that a tenant names, as trees have them. */
static int take_paths(struct diff *diff, const struct diff_spec *spec)
{
    char path[4096];
    diff->paths = calloc(spec->path_count + 1, sizeof *diff->paths);
    if (!diff->paths)
        abort();
    for (size_t i = 0; i < spec->path_count; i++) {
        int error = files_normalize(spec->paths[i], path, &diff->work.failure);
        if (error) {
            hearth_failure_field(&diff->work.failure, "/paths");
            return error;
        }
        diff->paths[i] = text_copy(path);
        if (!diff->paths[i])
            abort();
        diff->render.spec.path_count = i + 1;
    }
    diff->render.spec.paths = (const char *const *)diff->paths;
    return 0;
}

static void refused(void *arg)
{
    struct diff *diff = arg;
    diff->done(diff->arg, (int)diff->work.failure.error, &diff->work.failure, NULL);
    for (size_t i = 0; i < diff->render.spec.path_count; i++)
        free(diff->paths[i]);
    free(diff->paths);
    free(diff);
}

void workspace_diff(struct workspace *workspace, const struct diff_spec *spec, diff_done done,
                    void *arg)
{
    struct diff *diff = calloc(1, sizeof *diff);
    if (!diff)
        abort();
    diff->done = done;
    diff->arg = arg;
    diff->render.spec = *spec;
    diff->render.spec.path_count = 0;
    if (take_paths(diff, spec) || workspace_ready(workspace, &diff->work.failure))
        loop_defer(workspace->supervisor->loop, refused, diff);
    else
        tree_work_begin(&diff->work, workspace, start);
}
