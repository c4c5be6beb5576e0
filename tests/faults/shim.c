/* Counts what a process does to files, and lets one of those operations go wrong.

Loaded before libc (LD_PRELOAD). It does nothing until `shim_arm` is called, in the process that is
to be disturbed. Only files below the armed folder count. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, KILL, FULL, READ_ONLY, LOG };

static int mode = OFF;
static long place;       /* operations before the one that is killed; bytes that fit */
static long count;       /* operations, or bytes, so far */
static char root[PATH_MAX];
static char log_name[PATH_MAX];
static FILE *told;       /* where operations are written down */

void shim_arm(int kind, long limit, const char *folder, const char *file) {
    strncpy(root, folder, sizeof root - 1);
    place = limit;
    count = 0;
    strncpy(log_name, file, sizeof log_name - 1);
    told = *file ? fopen(file, "w") : NULL;
    mode = kind;
}

long shim_count(void) { return count; }

static int in_root(const char *path) {
    size_t length = strlen(root);
    return strncmp(path, root, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int name_of(int folder, const char *path, char *whole) {
    if (path[0] == '/') {
        snprintf(whole, PATH_MAX, "%s", path);
    } else if (folder == AT_FDCWD) {
        char here[PATH_MAX];
        if (!getcwd(here, sizeof here)) return 0;
        if (snprintf(whole, PATH_MAX, "%s/%s", here, path) >= PATH_MAX) return 0;
    } else {
        char link[64], base[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t size = readlink(link, base, sizeof base - 1);
        if (size < 0) return 0;
        base[size] = 0;
        if (!*path) snprintf(whole, PATH_MAX, "%s", base);
        else if (snprintf(whole, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    }
    return in_root(whole);
}

static int of_descriptor(int descriptor, char *whole) { return name_of(descriptor, "", whole); }

static void tell(const char *what, const char *one, const char *other) {
    if (!told) return;
    fprintf(told, "%s\t%s\t%s\n", what, one, other ? other : "");
    fflush(told);
}

/* What a file holds as it is flushed: a copy beside the log, named by the number of the line. */
static void keep(int descriptor) {
    struct stat status;
    if (!told || fstat(descriptor, &status) || !S_ISREG(status.st_mode)) return;
    char from[64], to[PATH_MAX + 32], block[1 << 16];
    snprintf(from, sizeof from, "/proc/self/fd/%d", descriptor);
    snprintf(to, sizeof to, "%s.%ld", log_name, count);
    FILE *source = fopen(from, "r"), *copy = fopen(to, "w");
    size_t size;
    while (source && copy && (size = fread(block, 1, sizeof block, source))) fwrite(block, 1, size, copy);
    if (source) fclose(source);
    if (copy) fclose(copy);
}

/* Before an operation; -1 with errno where it is refused. */
static int reach(const char *what, const char *one, const char *other, int grows) {
    if (mode == LOG) tell(what, one, other);
    if (mode == KILL && count == place) kill(getpid(), SIGKILL);
    if (mode == KILL || mode == LOG) count++;
    if (mode == READ_ONLY) { errno = EROFS; return -1; }
    if (mode == FULL && grows && count >= place) { errno = ENOSPC; return -1; }
    return 0;
}

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int is_writing(int flags) { return (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT); }

#define OPENED(folder, path) \
    char whole[PATH_MAX]; \
    mode_t access = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
        va_list list; va_start(list, flags); access = va_arg(list, mode_t); va_end(list); \
    } \
    int counts = mode && is_writing(flags) && name_of(folder, path, whole); \
    int fresh = counts && (flags & O_CREAT) && faccessat(folder, path, F_OK, 0) != 0; \
    if (counts && reach(fresh ? "create" : "open", whole, NULL, fresh)) return -1

int open(const char *path, int flags, ...) { REAL(open); OPENED(AT_FDCWD, path); return real(path, flags, access); }
int open64(const char *path, int flags, ...) { REAL(open64); OPENED(AT_FDCWD, path); return real(path, flags, access); }
int openat(int folder, const char *path, int flags, ...) { REAL(openat); OPENED(folder, path); return real(folder, path, flags, access); }
int openat64(int folder, const char *path, int flags, ...) { REAL(openat64); OPENED(folder, path); return real(folder, path, flags, access); }

/* A write on a full disk takes what still fits; one that is killed has written a half. */
static ssize_t before_write(int descriptor, size_t size) {
    char whole[PATH_MAX];
    if (!mode || !of_descriptor(descriptor, whole)) return size;
    if (mode == FULL) {
        if (count >= place) { errno = ENOSPC; return -1; }
        if ((long)size > place - count) size = place - count;
        count += size;
        return size;
    }
    if (mode == KILL && count == place) return size / 2;
    if (reach("write", whole, NULL, 1)) return -1;
    return size;
}

static void after_write(int descriptor) {
    char whole[PATH_MAX];
    if (mode == KILL && count == place && of_descriptor(descriptor, whole)) kill(getpid(), SIGKILL);
}

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(write);
    int dying = mode == KILL && count == place;
    ssize_t fits = before_write(descriptor, size);
    if (fits < 0) return -1;
    ssize_t done = real(descriptor, data, fits);
    if (dying) after_write(descriptor);
    return done;
}

#define SIMPLE_WRITE(name, ...) \
    REAL(name); \
    ssize_t fits = before_write(descriptor, size); \
    if (fits < 0) return -1; \
    return real(__VA_ARGS__)

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t at) { SIMPLE_WRITE(pwrite, descriptor, data, fits, at); }
ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t at) { SIMPLE_WRITE(pwrite64, descriptor, data, fits, at); }
ssize_t writev(int descriptor, const struct iovec *parts, int number) {
    size_t size = 0;
    for (int i = 0; i < number; i++) size += parts[i].iov_len;
    REAL(writev);
    ssize_t fits = before_write(descriptor, size);
    if (fits < 0) return -1;
    return real(descriptor, parts, number);
}
ssize_t sendfile64(int descriptor, int source, off64_t *at, size_t size) {
    static ssize_t (*real)(int, int, off64_t *, size_t);
    if (!real) real = (ssize_t (*)(int, int, off64_t *, size_t))dlsym(RTLD_NEXT, "sendfile64");
    ssize_t fits = before_write(descriptor, size > (1 << 20) ? 1 << 20 : size);
    if (fits < 0) return -1;
    return real(descriptor, source, at, fits);
}

#define ONE(name, folder, path, grows, ...) \
    REAL(name); \
    char whole[PATH_MAX] = ""; \
    if (mode && name_of(folder, path, whole) && reach(#name, whole, NULL, grows)) return -1; \
    return real(__VA_ARGS__)
#define TWO(name, folder, path, into, new, grows, ...) \
    REAL(name); \
    char whole[PATH_MAX] = "", other[PATH_MAX] = ""; \
    int counts = mode && (name_of(folder, path, whole) | name_of(into, new, other)); \
    if (counts && reach(#name, whole, other, grows)) return -1; \
    return real(__VA_ARGS__)

int rename(const char *path, const char *new) { TWO(rename, AT_FDCWD, path, AT_FDCWD, new, 0, path, new); }
int renameat(int folder, const char *path, int into, const char *new) { TWO(renameat, folder, path, into, new, 0, folder, path, into, new); }
int link(const char *path, const char *new) { TWO(link, AT_FDCWD, path, AT_FDCWD, new, 1, path, new); }
int linkat(int folder, const char *path, int into, const char *new, int flags) { TWO(linkat, folder, path, into, new, 1, folder, path, into, new, flags); }
int unlink(const char *path) { ONE(unlink, AT_FDCWD, path, 0, path); }
int unlinkat(int folder, const char *path, int flags) { ONE(unlinkat, folder, path, 0, folder, path, flags); }
int mkdir(const char *path, mode_t access) { ONE(mkdir, AT_FDCWD, path, 1, path, access); }
int mkdirat(int folder, const char *path, mode_t access) { ONE(mkdirat, folder, path, 1, folder, path, access); }
int rmdir(const char *path) { ONE(rmdir, AT_FDCWD, path, 0, path); }

int ftruncate(int descriptor, off_t size) { ONE(ftruncate, descriptor, "", 0, descriptor, size); }
int ftruncate64(int descriptor, off64_t size) { ONE(ftruncate64, descriptor, "", 0, descriptor, size); }
int fsync(int descriptor) {
    char of[PATH_MAX];
    if (mode == LOG && of_descriptor(descriptor, of)) keep(descriptor);
    ONE(fsync, descriptor, "", 0, descriptor);
}
