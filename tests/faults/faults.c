/* Fails the n-th file operation below a folder, as a disk would: loaded in front of libc (LD_PRELOAD).
 *
 * faults_arm says which: kinds is a set of letters (o open, r read, w write, s fsync, n rename and link, d mkdir and
 * unlink), nth the number of the operation that fails, lasting whether all after it fail too, action an errno, SHORT for
 * a write of half the bytes, or KILL for the process's end by SIGKILL. Only paths below the folder count, and file
 * descriptors that were opened there while armed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SHORT -1
#define KILL -2
#define FDS 65536

static char folder[4096], kinds[16];
static long nth;
static int lasting, action;
static atomic_int armed;
static atomic_long seen, struck, seen_of[128];
static atomic_uchar watched[FDS];

void faults_arm(const char *below, const char *which, long number, int stays, int what) {
    strncpy(folder, below, sizeof folder - 1);
    strncpy(kinds, which, sizeof kinds - 1);
    nth = number;
    lasting = stays;
    action = what;
    seen = 0;
    struck = 0;
    for (int kind = 0; kind < 128; kind++) seen_of[kind] = 0;
    armed = 1;
}
void faults_disarm(void) { armed = 0; }
long faults_seen(void) { return seen; }
long faults_seen_of(int kind) { return seen_of[kind & 127]; }
long faults_struck(void) { return struck; }

/* Whether this operation is to fail; errno is set where it is. */
static int strike(char kind) {
    if (!armed || !strchr(kinds, kind)) return 0;
    long number = ++seen;
    seen_of[kind & 127]++;
    if (!(number == nth || (lasting && number > nth))) return 0;
    if (action == KILL) kill(getpid(), SIGKILL);
    if (action == SHORT && kind != 'w') return 0;
    struck++;
    if (action != SHORT) errno = action;
    return 1;
}
static int below(const char *path) { return armed && path && !strncmp(path, folder, strlen(folder)); }
static void watch(int fd) { if (fd >= 0 && fd < FDS) watched[fd] = 1; }
static int is_watched(int fd) { return armed && fd >= 0 && fd < FDS && watched[fd]; }

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define OPEN(name)                                                            \
    int name(const char *path, int flags, ...) {                              \
        REAL(name);                                                           \
        va_list more; va_start(more, flags);                                  \
        mode_t mode = va_arg(more, mode_t); va_end(more);                     \
        if (!below(path)) return real(path, flags, mode);                     \
        if (strike('o')) return -1;                                           \
        int fd = real(path, flags, mode); watch(fd); return fd;               \
    }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                          \
    int name(int at, const char *path, int flags, ...) {                      \
        REAL(name);                                                           \
        va_list more; va_start(more, flags);                                  \
        mode_t mode = va_arg(more, mode_t); va_end(more);                     \
        if (!below(path)) return real(at, path, flags, mode);                 \
        if (strike('o')) return -1;                                           \
        int fd = real(at, path, flags, mode); watch(fd); return fd;           \
    }
OPENAT(openat)
OPENAT(openat64)
#define FOPEN(name)                                                           \
    FILE *name(const char *path, const char *mode) {                          \
        REAL(name);                                                           \
        if (below(path) && strike('o')) return NULL;                          \
        return real(path, mode);                                              \
    }
FOPEN(fopen)
FOPEN(fopen64)

int close(int fd) {
    REAL(close);
    if (fd >= 0 && fd < FDS) watched[fd] = 0;
    return real(fd);
}
ssize_t read(int fd, void *data, size_t size) {
    REAL(read);
    if (is_watched(fd) && strike('r')) return -1;
    return real(fd, data, size);
}
ssize_t write(int fd, const void *data, size_t size) {
    REAL(write);
    if (is_watched(fd) && strike('w')) {
        if (action != SHORT) return -1;
        size = size > 1 ? size / 2 : size;
    }
    return real(fd, data, size);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    if (is_watched(fd) && strike('w') && action != SHORT) return -1;
    return real(fd, parts, count);
}
ssize_t sendfile(int out, int in, off_t *from, size_t size) {
    REAL(sendfile);
    if (is_watched(out) && strike('w') && action != SHORT) return -1;
    return real(out, in, from, size);
}
int fsync(int fd) {
    REAL(fsync);
    if (is_watched(fd) && strike('s')) return -1;
    return real(fd);
}
int rename(const char *from, const char *to) {
    REAL(rename);
    if (below(to) && strike('n')) return -1;
    return real(from, to);
}
int link(const char *from, const char *to) {
    REAL(link);
    if (below(to) && strike('n')) return -1;
    return real(from, to);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    if (below(path) && strike('d')) return -1;
    return real(path, mode);
}
int unlink(const char *path) {
    REAL(unlink);
    if (below(path) && strike('d')) return -1;
    return real(path);
}
