/* Images: what order which layers come in. One thread. */
#pragma once

#include "supervisord/archive/image_source.h"
#include "supervisord/archive/reader.h"

enum image_format { IMAGE_ROOTFS_TAR, IMAGE_OCI_LAYOUT, IMAGE_DOCKER_ARCHIVE };

/* Unpacks an image into the process's own root. Every digest that the image tells is verified. */
void image_unpack(const struct image_source *source, enum image_format format,
                  const struct reader_limits *limits, struct reader_verdict *ret_verdict);
