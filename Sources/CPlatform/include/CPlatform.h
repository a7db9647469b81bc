#ifndef WEIR_CPLATFORM_H
#define WEIR_CPLATFORM_H
// Linux calls that Swift cannot reach by itself: macros, variadics and system calls without a
// glibc wrapper on Debian 12. Each shim does one call and nothing else.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/// accept4(2): a connected descriptor, non-blocking and close-on-exec; -1 with errno.
static inline int weir_accept4(int fd, struct sockaddr *address, socklen_t *length) {
    return accept4(fd, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/// fcntl(F_SETFL, O_NONBLOCK), which is variadic.
static inline int weir_set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL, 0);
    return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/// pidfd_open(2): a descriptor that becomes readable when the process ends.
static inline int weir_pidfd_open(pid_t pid) {
    return (int)syscall(SYS_pidfd_open, pid, 0);
}

/// prctl(PR_SET_NAME) for the calling thread; at most 15 bytes count.
static inline void weir_set_thread_name(const char *name) {
    prctl(PR_SET_NAME, name, 0, 0, 0);
}

/// prctl(PR_SET_CHILD_SUBREAPER): orphans among our descendants become our children.
static inline int weir_set_child_subreaper(void) {
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

static inline int weir_wexitstatus(int status) { return WEXITSTATUS(status); }
static inline int weir_wtermsig(int status) { return WTERMSIG(status); }
static inline int weir_wifexited(int status) { return WIFEXITED(status); }
static inline int weir_wifsignaled(int status) { return WIFSIGNALED(status); }

#endif
