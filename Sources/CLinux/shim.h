#ifndef DCM_CLINUX_SHIM_H
#define DCM_CLINUX_SHIM_H

// Linux's own calls, which the C library declares only under _GNU_SOURCE: Swift's module of it is built without.

// Writes everything of the file system that `descriptor` is on, and waits for it. 0, or -1 and errno.
int syncfs(int descriptor);

// Begins to write a file's pages to the disk and does not wait. Only a hint: what it says is of no use.
int sync_file_range(int descriptor, long long offset, long long count, unsigned int flags);

enum { DCM_SYNC_FILE_RANGE_WRITE = 2 };

// Renames in one step: not over something that exists, or two names exchanged. 0, or -1 and errno (EINVAL: not on this file system).
int renameat2(int from, const char *path, int to, const char *other, unsigned int flags);

enum { DCM_RENAME_NOREPLACE = 1, DCM_RENAME_EXCHANGE = 2 };

#endif
