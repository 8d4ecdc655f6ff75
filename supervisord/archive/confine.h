/* The sandbox of hearth-archive, entered before the first byte of an archive is read. */
#pragma once

/* For what reads descriptor 0 and writes descriptors 1 and 2: no user anybody else is, no network,
 * no new descriptors, processes or files. Exits with a line on stderr where that cannot be had. */
void confine_reader(void);

/* For what makes files in a directory, which becomes its root: the same, but that it may make them
 * there, and whose they are. input_fd (a file or directory) stays readable. */
void confine_unpacker(const char *directory, int input_fd);
