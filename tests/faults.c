// The system's calls that fail when they are told to: fault("open", "part of the path", EIO) until the next fault(). Put in front of the C library by
// LD_PRELOAD, so that they fail for pyarrow and HDF5 as they do for Python. Nothing is synced: a test that is killed has nothing to keep.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <sys/types.h>
#include <unistd.h>

static char op[16], part[256];
static int number;
static int hits;
void fault(const char *what, const char *where, int error) { snprintf(op, sizeof op, "%s", what); snprintf(part, sizeof part, "%s", where); number = error; hits = 0; }
int fault_hits(void) { return hits; }

static int bad(const char *what, const char *path) {
  if (!number || strcmp(op, what) || !path || !strstr(path, part)) return 0;
  hits++; errno = number; return 1;
}
static int bad_fd(const char *what, int fd) {
  if (!number || strcmp(op, what)) return 0;
  char link[64], path[4096]; int saved = errno;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  errno = saved;
  if (n < 0) return 0;
  path[n] = 0;
  return bad(what, path);
}
#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, name)
#define OPEN(name) int name(const char *path, int flags, ...) { REAL(int, #name, const char *, int, ...); \
  mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); } \
  return bad("open", path) ? -1 : real(path, flags, mode); }
OPEN(open) OPEN(open64)
#define OPENAT(name) int name(int at, const char *path, int flags, ...) { REAL(int, #name, int, const char *, int, ...); \
  mode_t mode = 0; if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); mode = va_arg(a, mode_t); va_end(a); } \
  return bad("open", path) ? -1 : real(at, path, flags, mode); }
OPENAT(openat) OPENAT(openat64)
ssize_t read(int fd, void *b, size_t n) { REAL(ssize_t, "read", int, void *, size_t); return bad_fd("read", fd) ? -1 : real(fd, b, n); }
#define PREAD(name) ssize_t name(int fd, void *b, size_t n, off_t o) { REAL(ssize_t, #name, int, void *, size_t, off_t); return bad_fd("read", fd) ? -1 : real(fd, b, n, o); }
PREAD(pread) PREAD(pread64)
int fsync(int fd) { return bad_fd("fsync", fd) ? -1 : 0; }
int rename(const char *a, const char *b) { REAL(int, "rename", const char *, const char *); return bad("rename", b) ? -1 : real(a, b); }
int renameat(int x, const char *a, int y, const char *b) { REAL(int, "renameat", int, const char *, int, const char *); return bad("rename", b) ? -1 : real(x, a, y, b); }
#define STAT(name) int name(const char *path, void *s) { REAL(int, #name, const char *, void *); return bad("stat", path) ? -1 : real(path, s); }
STAT(stat) STAT(stat64) STAT(lstat) STAT(lstat64)
#define STATAT(name) int name(int at, const char *path, void *s, int f) { REAL(int, #name, int, const char *, void *, int); return bad("stat", path) ? -1 : real(at, path, s, f); }
STATAT(fstatat) STATAT(fstatat64)
