/* A disk that hangs: syncs do not return as long as there is the file that HANG names. To be loaded before the C library. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int after_hanging(const char *name, int file) {
    const char *hang = getenv("HANG");
    while (hang && access(hang, F_OK) == 0) usleep(20000);
    int (*sync)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return sync(file);
}

int fdatasync(int file) { return after_hanging("fdatasync", file); }
int fsync(int file) { return after_hanging("fsync", file); }
