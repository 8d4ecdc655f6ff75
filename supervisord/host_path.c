#include "supervisord/host_path_internal.h"

#include "base/text.h"
#include "supervisord/archive/status.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS (60 * 60 * 1000)

/* Absolute, and every component plain. */
static bool is_plain(const char *path)
{
    if (path[0] != '/' || strlen(path) >= PATH_MAX)
        return false;
    for (const char *at = path; *at; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            return false;
    for (const char *at = path; *at; at += strcspn(at, "/")) {
        at += strspn(at, "/");
        size_t length = strcspn(at, "/");
        if ((length == 1 && at[0] == '.') || (length == 2 && at[0] == '.' && at[1] == '.'))
            return false;
    }
    return true;
}

size_t host_path_length(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return length;
}

int host_roots_join(const char *const *roots, size_t count, char **ret_roots,
                    struct hearth_failure *failure)
{
    struct buf joined = {0};
    int error = count > HOST_ROOTS_MAX ? HEARTH_EINVALID : buf_append(&joined, "", 0);
    for (size_t i = 0; !error && i < count; i++) {
        error = is_plain(roots[i]) && utf8_valid(roots[i], strlen(roots[i])) ? 0 : HEARTH_EINVALID;
        if (!error && i)
            error = buf_char(&joined, '\n');
        if (!error)
            error = buf_append(&joined, roots[i], host_path_length(roots[i]));
    }
    if (!error && (*ret_roots = joined.length ? buf_steal(&joined) : text_copy("")))
        return 0;
    buf_free(&joined);
    if (error != HEARTH_EINVALID)
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    hearth_fail(failure, HEARTH_EINVALID, "bad_host_root",
                "host_roots are at most %d absolute paths without . and ..", HOST_ROOTS_MAX);
    hearth_failure_field(failure, "/host_roots");
    return error;
}

bool host_roots_find(const char *roots, const char *path, char root[PATH_MAX],
                     const char **ret_below)
{
    if (!is_plain(path))
        return false;
    for (; *roots; roots += strcspn(roots, "\n"), roots += *roots == '\n') {
        size_t length = strcspn(roots, "\n");
        bool slash = length == 1;
        if (length >= PATH_MAX || strncmp(path, roots, length) != 0 ||
            !(slash || path[length] == '/' || !path[length]))
            continue;
        snprintf(root, PATH_MAX, "%.*s", (int)length, roots);
        const char *below = path + length;
        below += strspn(below, "/");
        *ret_below = *below ? below : ".";
        return true;
    }
    return false;
}

int host_path_spawn(struct child **ret_child, struct loop *loop, const struct spawn_spec *spec,
                    const char *verb, const char *root, const char *below, child_done done,
                    void *arg, struct hearth_failure *failure)
{
    auto_free char *program = spawn_sibling("hearth-archive");
    const char *words[] = {program, verb, "--", root, below, NULL};
    if (!program)
        return hearth_fail(failure, HEARTH_EUNSUPPORTED, "program_missing",
                           "hearth-archive is not installed");
    struct spawn_spec whole = *spec;
    whole.argv = words;
    whole.timeout_ms = TIMEOUT_MS;
    return spawn(ret_child, loop, &whole, done, arg, failure);
}

bool host_path_leads_out(const struct child_result *result, struct hearth_failure *failure)
{
    if (result->exit_code != ARCHIVE_LEADS_OUT)
        return false;
    hearth_fail(failure, HEARTH_EINVALID, "host_path_forbidden",
                "the host path leads out of the tenant's host_roots");
    return true;
}

void host_path_unreadable(const struct child_result *result, struct hearth_failure *failure)
{
    size_t length = strcspn(result->errors, "\n");
    bool shown = length && utf8_valid(result->errors, length);
    hearth_fail(
        failure, HEARTH_EINVALID, "host_path_unreadable", "the host path cannot be read: %.*s",
        shown ? (int)(length < 300 ? length : 300) : 14, shown ? result->errors : "no reason told");
}

/* Reading. */

struct packing {
    struct supervisor *supervisor;
    struct principal principal;
    char request_id[68];
    struct upload_sink *sink;
    struct child *child;
    struct hearth_failure failure;
    upload_done done;
    void *arg;
};

static void end_failed(void *arg)
{
    struct packing *packing = arg;
    if (packing->sink)
        upload_abort(packing->sink);
    packing->done(packing->arg, (int)packing->failure.error, &packing->failure, NULL);
    free(packing);
}

/* It says nothing on its other output before it has failed. */
static void on_output(void *arg, const char *data, size_t length)
{
    struct packing *packing = arg;
    if (!packing->failure.error && upload_write(packing->sink, data, length, &packing->failure))
        child_kill(packing->child);
}

static void packed(void *arg, const struct child_result *result)
{
    struct packing *packing = arg;
    struct hearth_failure *failure = &packing->failure;
    /* What it said when it failed has been taken for content: the upload goes. */
    if (!host_path_leads_out(result, failure) && !failure->error &&
        (result->exit_code || result->timed_out))
        host_path_unreadable(result, failure);
    if (failure->error) {
        end_failed(packing);
        return;
    }
    upload_finish(steal_pointer(packing->sink), &packing->principal, packing->request_id,
                  packing->done, packing->arg);
    free(packing);
}

static int start(struct packing *packing, const char *root, const char *below)
{
    const struct spawn_spec spec = {
        .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .on_output = on_output};
    int error = upload_begin(&packing->sink, packing->supervisor->uploads,
                             packing->principal.tenant, &packing->failure);
    return error ? error
                 : host_path_spawn(&packing->child, packing->supervisor->loop, &spec, "pack", root,
                                   below, packed, packing, &packing->failure);
}

void host_path_upload(struct supervisor *supervisor, const struct principal *principal,
                      const char *request_id, const char *path, upload_done done, void *arg)
{
    char root[PATH_MAX];
    const char *below = ".";
    struct packing *packing = calloc(1, sizeof *packing);
    if (!packing)
        abort();
    *packing = (struct packing){
        .supervisor = supervisor, .principal = *principal, .done = done, .arg = arg};
    /* The upload is not what an idempotent request is about. */
    packing->principal.intent = 0;
    snprintf(packing->request_id, sizeof packing->request_id, "%s", request_id);
    if (!host_roots_find(principal->tenant->host_roots, path, root, &below))
        hearth_fail(&packing->failure, HEARTH_EINVALID, "host_path_forbidden",
                    "no host_roots of the tenant allow the daemon to read %.100s", path);
    if (packing->failure.error || start(packing, root, below))
        loop_defer(supervisor->loop, end_failed, packing);
}
