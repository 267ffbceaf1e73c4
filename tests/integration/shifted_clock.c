/* Preloaded, it makes the clock that Python sees in a driver and its trials jump: by as many seconds
   as stand, as text, in the file named by SHIFTED_CLOCK. Ray's own processes, and its native code in
   these, keep the machine's clock. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

static int (*real_clock_gettime)(clockid_t, struct timespec *);
static const volatile char *shift;

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), wanted = strlen(end);
    return length >= wanted && strcmp(text + length - wanted, end) == 0;
}

/* Ray's agents are Python too, and tell its native code until when to wait. */
static int is_shifted_process(void) {
    char line[4096] = {0};
    int file = open("/proc/self/cmdline", O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, line, sizeof line - 1);
    if (file >= 0) close(file);
    for (ssize_t at = 0; at < length; at += strlen(line + at) + 1) {
        if (ends_with(line + at, "/bin/mgstudy")) return 1;
        if (ends_with(line + at, "/default_worker.py")) return 1;
    }
    return 0;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("SHIFTED_CLOCK");
    real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    if (path == NULL || !is_shifted_process()) return;
    int file = open(path, O_RDONLY);
    if (file < 0) return;
    void *mapped = mmap(NULL, 32, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) shift = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    Dl_info caller;
    if (real_clock_gettime == NULL) real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real_clock_gettime(clock, now);
    if (!failed && clock == CLOCK_REALTIME && shift != NULL &&
        dladdr(__builtin_return_address(0), &caller) && caller.dli_fname != NULL) {
        const char *name = strrchr(caller.dli_fname, '/');
        name = name ? name + 1 : caller.dli_fname;
        if (strncmp(name, "python", 6) == 0 || strncmp(name, "libpython", 9) == 0)
            now->tv_sec += atol((const char *)shift);
    }
    return failed;
}
