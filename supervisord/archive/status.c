#include "supervisord/archive/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool archive_leads_out(int error)
{
    return error == -EXDEV || error == -ELOOP;
}

int archive_fail(const char *why)
{
    fprintf(stderr, "%s\n", why);
    return 1;
}

int archive_fail_errno(int error)
{
    return archive_leads_out(error) ? ARCHIVE_LEADS_OUT : archive_fail(strerror(-error));
}
