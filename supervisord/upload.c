#include "supervisord/upload.h"
int uploads_new(struct uploads **u, struct loop *loop, struct writer *writer, const char *state_dir,
                const char *node_tag, const struct upload_limits *limits,
                struct hearth_failure *failure)
{
    *u = (void *)1;
    return 0;
}
void uploads_free(struct uploads *uploads)
{
}
int uploads_load(struct uploads *uploads, const struct row_upload *row)
{
    return 0;
}
void uploads_loaded(struct uploads *uploads)
{
}
int upload_begin(struct upload_sink **ret_sink, struct uploads *uploads, const char *tenant_id,
                 struct hearth_failure *failure)
{
    return -1;
}
int upload_write(struct upload_sink *sink, const void *data, size_t length,
                 struct hearth_failure *failure)
{
    return -1;
}
void upload_finish(struct upload_sink *sink, upload_done done, void *arg)
{
}
void upload_abort(struct upload_sink *sink)
{
}
const struct upload *upload_find(struct uploads *uploads, const char *tenant_id,
                                 const char *upload_id)
{
    return 0;
}
int upload_open_tree(struct uploads *uploads, const struct upload *upload, int *ret_fd,
                     void (*done)(void *arg, int error, const struct hearth_failure *failure),
                     void *arg, struct hearth_failure *failure)
{
    return -1;
}
