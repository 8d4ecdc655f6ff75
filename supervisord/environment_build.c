#include "supervisord/environment_job.h"
#include "supervisord/environment_sources.h"

#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUITE "bookworm"
#define SOURCES_MAX 12
/* The second that what is built says it was made in (Debian 12's release), wherever a package
 * writes one down (/etc/shadow does): the same packages are the same tree on any day. */
#define BUILD_EPOCH "SOURCE_DATE_EPOCH=1686355200"
#define BUILD_TIMEOUT_MS (60 * 60 * 1000)
#define OUTPUT_KEPT ((size_t)256 << 10)

/* Every command is a login shell's. Debian's /etc/profile starts a process to learn who it is,
 * which takes longer than most commands do, and puts its own PATH over the one that was asked for:
 * this one does neither. Nor does root's own profile start a process to keep other users' messages
 * from a terminal: there are no others. */
#define PROFILE_HOOK                                                                               \
    "printf '%s\\n' "                                                                              \
    "'PATH=\"${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}\"' "            \
    "'export PATH' "                                                                               \
    "'if [ \"${PS1-}\" ] && [ \"${BASH-}\" ] && [ -f /etc/bash.bashrc ]; then . "                  \
    "/etc/bash.bashrc; fi' "                                                                       \
    "'for i in /etc/profile.d/*.sh; do if [ -r \"$i\" ]; then . \"$i\"; fi; done' 'unset i' "      \
    ">\"$1/etc/profile\" && (cd \"$1/root\" && sed -i '/^mesg /d' .profile)"

/* What a guest finds in its root besides the packages: a place to work in, and empty files where
 * those of the host have been or where the guest's own are put over. "$1" is the tree. */
#define FINISH_HOOK                                                                                \
    "rm -f \"$1/etc/resolv.conf\" \"$1/etc/hostname\" && : >\"$1/etc/resolv.conf\" && "            \
    ": >\"$1/etc/machine-id\" && mkdir -p -m 0755 \"$1/workspace\" && " PROFILE_HOOK
#define ARCHIVES "/var/cache/apt/archives"

static const struct {
    const char *text, *stage;
} marks[] = {
    {"running apt-get update", "downloading"}, {"downloading packages", "downloading"},
    {"extracting archives", "unpacking"},      {"installing essential", "configuring"},
    {"installing remaining", "configuring"},   {"cleaning package lists", "configuring"},
};

/* mmdebstrap says what it does in lines "I: extracting archives...". A piece of output holds whole
 * lines, as it writes them; one that is cut is a progress message less. */
static void on_output(void *arg, const char *data, size_t length)
{
    struct environment_job *job = arg;
    char text[2048], *cursor = text;
    snprintf(text, sizeof text, "%.*s", (int)(length < sizeof text ? length : sizeof text), data);
    for (char *line; (line = strsep(&cursor, "\r\n"));)
        for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
            if (text_starts_with(line, "I: ") && text_starts_with(line + 3, marks[i].text))
                environment_job_progress(job, marks[i].stage, line + 3);
}

/* The first error, which the further ones follow from; else the last line. */
static void find_reason(char *out, size_t size, const char *text)
{
    const char *chosen = "";
    for (const char *line = text; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        if (*line != '\n')
            chosen = line;
        if (text_starts_with(line, "E: "))
            break;
    }
    snprintf(out, size, "%.*s", (int)strcspn(chosen, "\n"), chosen);
    for (char *at = out; *at; at++)
        if (!isprint((unsigned char)*at))
            *at = '?';
}

static void on_built(void *arg, const struct child_result *result)
{
    struct environment_job *job = arg;
    char reason[300];
    int error = 0;
    if (result->exit_code != 0 || result->timed_out) {
        find_reason(reason, sizeof reason, result->errors);
        error = hearth_fail(&job->failure, HEARTH_EUNAVAILABLE, "environment_build_failed",
                            "mmdebstrap %s: %s",
                            result->timed_out ? "was ended after an hour" : "failed", reason);
        hearth_failure_hint(&job->failure,
                            "Can this host reach its Debian mirror? What was downloaded is kept, "
                            "so that a new try goes on from there.");
    }
    environment_job_next(job, error);
}

struct arguments {
    const char *argv[32 + SOURCES_MAX];
    char *include, *sync_in, *sync_out, *target;
    struct buf sources;
};

static void arguments_free(struct arguments *arguments)
{
    free(arguments->include);
    free(arguments->sync_in);
    free(arguments->sync_out);
    free(arguments->target);
    buf_free(&arguments->sources);
}

/* Packages go from the cache into the tree first and back whenever there are new ones, by
 * mmdebstrap's own hooks, which also work where the tree is another user's (rootless). */
static int make_texts(struct arguments *arguments, const struct environment_job *job)
{
    const char *image_dir = job->environments->image_dir;
    if (asprintf(&arguments->include, "--include=%s", job->builtin->packages) < 0)
        arguments->include = NULL;
    if (asprintf(&arguments->sync_in, "--setup-hook=sync-in '%s/cache' " ARCHIVES, image_dir) < 0)
        arguments->sync_in = NULL;
    if (asprintf(&arguments->sync_out, "hook=sync-out " ARCHIVES " '%s/cache'", image_dir) < 0)
        arguments->sync_out = NULL;
    if (asprintf(&arguments->target, "%s/%s/tree", image_dir, job->building) < 0)
        arguments->target = NULL;
    return arguments->include && arguments->sync_in && arguments->sync_out && arguments->target
               ? environment_sources_read(&arguments->sources, "/etc/apt", SUITE)
               : HEARTH_ENOMEMORY;
}

static void make_argv(struct arguments *arguments, const struct environment_job *job,
                      char extract_out[PATH_MAX], char customize_out[PATH_MAX])
{
    /* As root mmdebstrap mounts in the namespace it is started in: in one of its own nothing stays
     * mounted, and no process alive, when it is killed. (As a user it makes its own.) */
    static const char *const apart[] = {"unshare", "--mount",      "--propagation=private", "--pid",
                                        "--fork",  "--kill-child", "--mount-proc",          "--"};
    size_t count = 0;
    const char **argv = arguments->argv;
    snprintf(extract_out, PATH_MAX, "--essential-%s", arguments->sync_out);
    snprintf(customize_out, PATH_MAX, "--customize-%s", arguments->sync_out);
    if (geteuid() == 0)
        for (size_t i = 0; i < sizeof apart / sizeof apart[0]; i++)
            argv[count++] = apart[i];
    argv[count++] = "mmdebstrap";
    argv[count++] = "--variant=minbase";
    argv[count++] = geteuid() == 0 ? "--mode=root" : "--mode=unshare";
    /* A user's tree is that user's own: root in a guest is who runs the daemon. mmdebstrap would
     * give it to the first of the subordinate uids, so it makes an archive, which is then unpacked
     * without owners. */
    argv[count++] = geteuid() == 0 ? "--format=directory" : "--format=tar";
    argv[count++] = "--skip=essential/unlink,output/dev";
    if (*job->builtin->packages)
        argv[count++] = arguments->include;
    argv[count++] = "--setup-hook=mkdir -p \"$1" ARCHIVES "\"";
    argv[count++] = arguments->sync_in;
    argv[count++] = extract_out;
    argv[count++] = customize_out;
    argv[count++] = "--customize-hook=" FINISH_HOOK;
    argv[count++] = SUITE;
    argv[count++] = geteuid() == 0 ? arguments->target : "-";
    char *cursor = arguments->sources.data;
    for (char *line; count < 31 + SOURCES_MAX && (line = strsep(&cursor, "\n"));)
        if (*line)
            argv[count++] = line;
    argv[count] = NULL;
}

/* The proxy settings go through to apt; nothing else of the daemon's environment does. At most the
 * six names, the epoch and NULL. */
static const char *const *child_environment(const char *environment[8], struct buf *text)
{
    static const char *const names[] = {"PATH",        "HOME",     "http_proxy",
                                        "https_proxy", "no_proxy", "HTTPS_PROXY"};
    size_t offsets[8], count = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *value = getenv(names[i]);
        if (!value && i == 0)
            value = "/usr/sbin:/usr/bin:/sbin:/bin";
        offsets[count] = text->length;
        if (value && buf_printf(text, "%s=%s", names[i], value) == 0 &&
            buf_append(text, "", 1) == 0)
            count++;
    }
    for (size_t i = 0; i < count; i++)
        environment[i] = text->data + offsets[i];
    environment[count++] = BUILD_EPOCH;
    environment[count] = NULL;
    return environment;
}

#define ARCHIVE "tree.tar"

static int open_archive(struct environment_job *job, int *ret_fd)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/" ARCHIVE, job->building);
    *ret_fd =
        openat(job->environments->dir_fd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    return *ret_fd >= 0 ? 0
                        : hearth_fail_errno(&job->failure, errno, "environment_build_failed",
                                            "cannot write below the image directory");
}

static void on_unpacked(void *arg, const struct child_result *result)
{
    struct environment_job *job = arg;
    char path[PATH_MAX];
    int error = 0;
    snprintf(path, sizeof path, "%s/" ARCHIVE, job->building);
    unlinkat(job->environments->dir_fd, path, 0);
    if (result->exit_code != 0)
        error = hearth_fail(&job->failure, HEARTH_EIO, "environment_build_failed",
                            "the new tree cannot be unpacked: %.200s", result->errors);
    environment_job_next(job, error);
}

/* As a user only: the archive is our own, so plain tar will do. Devices are the guest's driver's to
 * give. */
static void unpack(struct environment_job *job)
{
    auto_free char *archive = NULL, *tree = NULL;
    if (geteuid() == 0) {
        environment_job_next(job, 0);
        return;
    }
    int error = 0;
    if (asprintf(&archive, "--file=%s/%s/" ARCHIVE, job->environments->image_dir, job->building) <
            0 ||
        asprintf(&tree, "--directory=%s/%s/tree", job->environments->image_dir, job->building) <
            0) {
        error = hearth_fail(&job->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    } else {
        const char *const argv[] = {"tar",
                                    "--extract",
                                    archive,
                                    tree,
                                    "--no-same-owner",
                                    "--same-permissions",
                                    "--exclude=./dev/*",
                                    NULL};
        struct spawn_spec spec = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
        error = spawn(&job->child, job->environments->loop, &spec, on_unpacked, job, &job->failure);
    }
    if (error)
        environment_job_next(job, error);
}

void environment_step_build(struct environment_job *job)
{
    struct arguments arguments = {0};
    const char *environment[8];
    char extract_out[PATH_MAX], customize_out[PATH_MAX];
    auto_buf struct buf text = {0};
    auto_close int archive_fd = -1;
    int error = make_texts(&arguments, job);
    if (error)
        error = hearth_fail(&job->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    else if (strchr(job->environments->image_dir, '\''))
        error = hearth_fail(&job->failure, HEARTH_EUNSUPPORTED, "image_dir_unusable",
                            "the image directory's name has a quote in it");
    else if (geteuid() != 0)
        error = open_archive(job, &archive_fd);
    if (!error) {
        make_argv(&arguments, job, extract_out, customize_out);
        struct spawn_spec spec = {
            .argv = arguments.argv,
            .environment = child_environment(environment, &text),
            .stdin_fd = -1,
            .stdout_fd = archive_fd,
            .stderr_fd = -1,
            .pass_fds = &job->lock_fd, /* a build that outlives the daemon keeps the lock */
            .pass_count = 1,
            .capture_limit = OUTPUT_KEPT,
            .timeout_ms = BUILD_TIMEOUT_MS,
            .on_output = on_output,
        };
        environment_job_progress(job, "downloading", job->record.name);
        error = spawn(&job->child, job->environments->loop, &spec, on_built, job, &job->failure);
    }
    arguments_free(&arguments);
    if (error)
        environment_job_next(job, error);
}

static void on_settled(void *arg, const struct child_result *result)
{
    struct environment_job *job = arg;
    int error = 0;
    if (result->exit_code != 0)
        error = hearth_fail(&job->failure, HEARTH_EIO, "environment_build_failed",
                            "the new tree cannot be put in order: %.200s", result->errors);
    environment_job_next(job, error);
}

/* What can only be done after mmdebstrap. Devices are the guest's driver's to give, and mmdebstrap
 * has its own in /dev while its hooks run; an archive of its has no /dev at all. Modes and owners
 * of apt's directories depend on the cache and on whether there was something to download. */
static void settle(struct environment_job *job)
{
    static const char script[] =
        "set -e; cd \"$1\"; mkdir -p -m 0755 dev; find dev -xdev -mindepth 1 -delete; cd var; "
        "rm -rf cache/apt/archives lib/apt/lists; "
        "install -d -m 0755 cache/apt/archives lib/apt/lists; "
        "install -d -m 0700 cache/apt/archives/partial lib/apt/lists/partial";
    auto_free char *tree = NULL;
    int error = 0;
    if (asprintf(&tree, "%s/%s/tree", job->environments->image_dir, job->building) < 0) {
        error = hearth_fail(&job->failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    } else {
        const char *const argv[] = {"sh", "-c", script, "sh", tree, NULL};
        struct spawn_spec spec = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
        error = spawn(&job->child, job->environments->loop, &spec, on_settled, job, &job->failure);
    }
    if (error)
        environment_job_next(job, error);
}

static const environment_step build_steps[] = {environment_step_kernel_if_wanted,
                                               environment_step_lock,
                                               environment_step_sweep,
                                               environment_step_begin,
                                               environment_step_build,
                                               unpack,
                                               settle,
                                               environment_step_digest,
                                               environment_step_publish,
                                               environment_step_trim,
                                               environment_step_image_if_wanted,
                                               NULL};
static const environment_step present_steps[] = {environment_step_kernel_if_wanted, NULL};

static struct environment_job *build_job(struct environments *environments,
                                         const struct builtin *builtin)
{
    struct environment_job *job = environment_job_new(environments, builtin->name, build_steps);
    if (!job)
        return NULL;
    job->builtin = builtin;
    snprintf(job->record.source, sizeof job->record.source, "debian packages");
    snprintf(job->record.description, sizeof job->record.description, "%s", builtin->description);
    return job;
}

int environment_pull(struct environment_job **ret_job, struct environments *environments,
                     const char *name, bool force, environment_on_progress on_progress,
                     environment_done done, void *arg, struct hearth_failure *failure)
{
    const struct environment *there = environment_find(environments, name);
    const struct builtin *builtin = there ? environment_builtin(there->name) : NULL;
    if (!there)
        return hearth_fail(failure, HEARTH_ENOTFOUND, "unknown_environment",
                           "there is no such environment");
    bool present = there->version && !force;
    if (!builtin && !present)
        return hearth_fail(failure, HEARTH_ECONFLICT, "environment_imported",
                           "an imported environment cannot be built; import it again");
    struct environment_job *job = environment_job_find(environments, name);
    if (!job && present)
        job = environment_job_new(environments, name, present_steps);
    else if (!job) {
        int error = environment_check_writable(environments, failure);
        if (error)
            return error;
        job = build_job(environments, builtin);
    }
    if (!job || environment_job_listen(job, on_progress, done, arg))
        return hearth_fail(failure, HEARTH_ENOMEMORY, NULL, "out of memory");
    *ret_job = job;
    return 0;
}
