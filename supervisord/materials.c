#include "supervisord/materials.h"

#include "supervisord/environment_kernel.h"
#include "supervisord/supervisor_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct materials {
    struct supervisor *supervisor;
    char version[72];
    guest_done done;
    void *arg;
    struct hearth_failure failure;
};

static void finish(struct materials *materials, int error, const struct hearth_failure *failure)
{
    materials->done(materials->arg, error, failure);
    free(materials);
}

static void image_made(void *arg, int error, const struct hearth_failure *failure,
                       const struct environment *environment)
{
    (void)environment;
    finish(arg, error, failure);
}

static void kernel_made(void *arg, int error, const struct hearth_failure *failure)
{
    struct materials *materials = arg;
    struct environments *environments = materials->supervisor->environments;
    struct environment_job *job;
    if (!error)
        error = environment_ensure_image(&job, environments, materials->version, NULL, image_made,
                                         materials, &materials->failure);
    else
        materials->failure = *failure;
    if (error)
        finish(materials, error, &materials->failure);
}

static void begin(void *arg)
{
    struct materials *materials = arg;
    struct environments *environments = materials->supervisor->environments;
    if (strcmp(materials->supervisor->config->kernel, "auto") != 0)
        kernel_made(materials, 0, NULL);
    else if (environment_kernel_present(environments))
        kernel_made(materials, 0, NULL);
    else
        environment_ensure_kernel(environments, kernel_made, materials);
}

void materials_ensure(struct supervisor *supervisor, const char *environment_version,
                      guest_done done, void *arg)
{
    struct materials *materials = malloc(sizeof *materials);
    if (!materials)
        abort();
    *materials = (struct materials){.supervisor = supervisor, .done = done, .arg = arg};
    snprintf(materials->version, sizeof materials->version, "%s", environment_version);
    loop_defer(supervisor->loop, begin, materials);
}
