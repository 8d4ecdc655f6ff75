#include "supervisord/environment_internal.h"

#include "base/path_at.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

const struct builtin environment_builtins[] = {
    {"debian:12-base", "Debian 12: the essential packages and apt", ""},
    {"debian:12", "Debian 12 with git, Python 3 and CA certificates",
     "git,ca-certificates,python3,procps,less"},
    {"debian:12-build", "Debian 12 with git, Python 3 and a C/C++ tool chain",
     "git,ca-certificates,python3,procps,less,build-essential,pkg-config,python3-venv,python3-pip"},
};
const size_t environment_builtin_count =
    sizeof environment_builtins / sizeof environment_builtins[0];

const struct builtin *environment_builtin(const char *name)
{
    for (size_t i = 0; i < environment_builtin_count; i++)
        if (strcmp(environment_builtins[i].name, name) == 0)
            return &environment_builtins[i];
    return NULL;
}

static int open_image_dir(struct environments *environments, const char *image_dir)
{
    static const char *const parts[] = {"environments", "versions", "cache"};
    int error = path_make_own_directories(image_dir, 0755);
    environments->dir_fd = open(image_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (environments->dir_fd < 0)
        return error ? error : -errno;
    /* One that cannot be written to may still be read. */
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        (void)mkdirat(environments->dir_fd, parts[i], 0755);
    return 0;
}

int environments_new(struct environments **ret_environments, struct loop *loop,
                     struct worker_pool *workers, const char *image_dir,
                     struct hearth_failure *failure)
{
    struct environments *environments = calloc(1, sizeof *environments);
    if (!environments)
        return hearth_fail(failure, HEARTH_ENOMEMORY, "out_of_memory", "no memory");
    environments->loop = loop;
    environments->workers = workers;
    environments->dir_fd = environments->lease_fd = environments->owner_fd = -1;
    list_init(&environments->entries);
    list_init(&environments->jobs);
    environments->image_dir = text_copy(image_dir);
    int error = environments->image_dir ? open_image_dir(environments, image_dir) : -ENOMEM;
    if (error) {
        environments_free(environments);
        return hearth_fail_errno(failure, -error, "image_dir_unusable",
                                 "cannot use the image directory %.300s", image_dir);
    }
    environments_sweep(environments);
    *ret_environments = environments;
    return 0;
}

static void forget_entries(struct environments *environments)
{
    list_for_each(cursor, following, &environments->entries)
    {
        struct environment_entry *entry = container_of(cursor, struct environment_entry, link);
        list_remove(&entry->link);
        free(entry);
    }
}

void environments_free(struct environments *environments)
{
    if (!environments)
        return;
    environment_jobs_free(environments);
    forget_entries(environments);
    cleanup_close(&environments->owner_fd);
    cleanup_close(&environments->lease_fd);
    cleanup_close(&environments->dir_fd);
    free(environments->image_dir);
    free(environments);
}

static bool read_record(const struct environments *environments, const char *path,
                        struct environment_record *ret_record)
{
    char text[ENVIRONMENT_RECORD_MAX];
    return path_read_small(environments->dir_fd, path, text, sizeof text) > 0 &&
           environment_record_parse(ret_record, text);
}

static const char *existing_path(const struct environments *environments, char *out, size_t size,
                                 const char *version, const char *part)
{
    int length = snprintf(out, size, "%s/versions/%s/%s", environments->image_dir, version, part);
    return length < (int)size && faccessat(AT_FDCWD, out, F_OK, 0) == 0 ? out : NULL;
}

/* An entry of a record, or of a builtin that is not built (record NULL). */
static struct environment_entry *entry_add(struct environments *environments, const char *name,
                                           const struct environment_record *record)
{
    struct environment_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return NULL;
    const struct builtin *builtin = environment_builtin(name);
    struct environment *public = &entry->public;
    if (record) {
        entry->record = *record;
        public->version = entry->record.version;
        public->size_bytes = record->size_bytes;
        public->built_at = record->built_at;
        public->tree_path = existing_path(environments, entry->tree_path, sizeof entry->tree_path,
                                          record->version, "tree");
        public->image_path =
            existing_path(environments, entry->image_path, sizeof entry->image_path,
                          record->version, ENVIRONMENT_IMAGE);
    }
    snprintf(entry->record.name, sizeof entry->record.name, "%s", name);
    public->name = entry->record.name;
    public->source = record ? entry->record.source : "debian packages";
    public->description = record ? entry->record.description : builtin->description;
    public->builtin = builtin != NULL;
    public->building = environment_job_running(environments, name);
    if (record && !public->tree_path)
    public->version = NULL; /* it was taken away: known, not built */
    list_append(&environments->entries, &entry->link);
    return entry;
}

static struct environment_entry *load_name(struct environments *environments, const char *name)
{
    char path[ENVIRONMENT_NAME_SIZE + 32];
    struct environment_record record;
    snprintf(path, sizeof path, "environments/%s" REFERENCE_SUFFIX, name);
    if (read_record(environments, path, &record))
        return entry_add(environments, name, &record);
    return environment_builtin(name) ? entry_add(environments, name, NULL) : NULL;
}

const struct environment *environment_find(struct environments *environments, const char *name)
{
    if (!environment_name_valid(name))
        return NULL;
    forget_entries(environments);
    struct environment_entry *entry = load_name(environments, name);
    return entry ? &entry->public : NULL;
}

const struct environment *environment_find_version(struct environments *environments,
                                                   const char *version)
{
    char path[ENVIRONMENT_VERSION_SIZE + 32];
    struct environment_record record;
    if (!environment_version_valid(version))
        return NULL;
    forget_entries(environments);
    snprintf(path, sizeof path, "versions/%s/about", version);
    if (!read_record(environments, path, &record) || strcmp(record.version, version) != 0)
        return NULL;
    struct environment_entry *entry = entry_add(environments, record.name, &record);
    return entry && entry->public.tree_path ? &entry->public : NULL;
}

/* Is it a reference, to something other than a builtin? */
static int is_other_reference(const struct dirent *file)
{
    char name[ENVIRONMENT_NAME_SIZE];
    size_t length = strlen(file->d_name), suffix = strlen(REFERENCE_SUFFIX);
    if (length <= suffix || length - suffix >= sizeof name ||
        strcmp(file->d_name + length - suffix, REFERENCE_SUFFIX) != 0)
        return 0;
    snprintf(name, sizeof name, "%.*s", (int)(length - suffix), file->d_name);
    return environment_name_valid(name) && !environment_builtin(name);
}

static void load_all(struct environments *environments)
{
    forget_entries(environments);
    for (size_t i = 0; i < environment_builtin_count; i++)
        (void)load_name(environments, environment_builtins[i].name);
    struct dirent **files = NULL;
    int count =
        scandirat(environments->dir_fd, "environments", &files, is_other_reference, alphasort);
    for (int i = 0; i < count; i++) {
        files[i]->d_name[strlen(files[i]->d_name) - strlen(REFERENCE_SUFFIX)] = '\0';
        (void)load_name(environments, files[i]->d_name);
        free(files[i]);
    }
    free(files);
}

void environment_each(struct environments *environments,
                      int (*visit)(void *arg, const struct environment *environment), void *arg)
{
    load_all(environments);
    list_for_each(cursor, following, &environments->entries)
    {
        struct environment_entry *entry = container_of(cursor, struct environment_entry, link);
        if (visit(arg, &entry->public))
            return;
    }
}
