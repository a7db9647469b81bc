#ifndef WEIR_CPLATFORM_H
#define WEIR_CPLATFORM_H
// Linux calls that Swift cannot reach by itself: macros, variadics and system calls without a
// glibc wrapper on Debian 12. Each shim does one call and nothing else.
//
// _GNU_SOURCE stays undefined: with it glibc names a member of fd_set differently than in the modules
// that Swift and libevent bring, and the compiler refuses the three together, depending on the order
// in which it builds them. What it would declare is declared below instead.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef _GNU_SOURCE
extern int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags);
extern int pipe2(int ends[2], int flags);
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *, int);
extern int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *, const char *);
#endif
#ifndef POSIX_SPAWN_SETSID
#define POSIX_SPAWN_SETSID 0x80
#endif

/// accept4(2): a connected descriptor, non-blocking and close-on-exec; -1 with errno.
static inline int weir_accept4(int fd, struct sockaddr *address, socklen_t *length) {
    return accept4(fd, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/// recv(2) without flags. Not by glibc's function, which is a cancellation point: in a process of
/// several threads it says so before and after, which takes two locked instructions each time. Not
/// inlined, so that calls can be counted by name.
static inline __attribute__((noinline)) ssize_t weir_recv(int fd, void *buffer, size_t count) {
    return syscall(SYS_recvfrom, fd, buffer, count, 0, NULL, NULL);
}

/// send(2) without a signal for a peer that is gone; as `weir_recv`.
static inline __attribute__((noinline)) ssize_t weir_send(
    int fd, const void *buffer, size_t count) {
    return syscall(SYS_sendto, fd, buffer, count, MSG_NOSIGNAL, NULL, 0);
}

/// timerfd_create(2) on CLOCK_MONOTONIC: a descriptor that becomes readable at a time, to the
/// nanosecond as far as the kernel can.
static inline int weir_timer_open(void) {
    return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
}

/// timerfd_settime(2): once, at that many nanoseconds of CLOCK_MONOTONIC; 0 disarms it.
static inline int weir_timer_arm(int fd, uint64_t nanoseconds) {
    struct itimerspec at = {0};
    at.it_value.tv_sec = (time_t)(nanoseconds / 1000000000u);
    at.it_value.tv_nsec = (long)(nanoseconds % 1000000000u);
    return timerfd_settime(fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/// How a thread is scheduled, as sched_setattr(2) has it: the first 48 bytes of `sched_attr`.
struct weir_scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

/// sched_getattr(2) of the calling thread: 0, or -1 with errno.
static inline int weir_get_scheduling(struct weir_scheduling *scheduling) {
    return (int)syscall(SYS_sched_getattr, 0, scheduling, sizeof *scheduling, 0);
}

/// sched_setattr(2) of the calling thread: 0, or -1 with errno.
static inline int weir_set_scheduling(struct weir_scheduling *scheduling) {
    return (int)syscall(SYS_sched_setattr, 0, scheduling, 0);
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

/// pidfd_send_signal(2): reaches the process the descriptor was opened for, or nobody.
static inline int weir_pidfd_send_signal(int pidfd, int number) {
    return (int)syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0);
}

/// waitid(2) without blocking and without collecting: 1 when the child has ended, 0 when it has
/// not, -1 with errno. `code` is a CLD_ value; `status` the exit code or the signal's number.
static inline int weir_peek_exit(pid_t pid, int *code, int *status) {
    siginfo_t info = {0};
    if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0) return -1;
    *code = info.si_code;
    *status = info.si_status;
    return info.si_pid != 0;
}

/// pipe2(2) with O_CLOEXEC: the reading end first.
static inline int weir_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC); }

/// getrandom(2): 0 when all of `buffer` was filled, else -1 with errno.
static inline int weir_fill_random(void *buffer, size_t count) {
    return getrandom(buffer, count, 0) == (ssize_t)count ? 0 : -1;
}

/// posix_spawn(3): the child gets no descriptor from `lowest` on.
static inline int weir_spawn_close_from(posix_spawn_file_actions_t *actions, int lowest) {
    return posix_spawn_file_actions_addclosefrom_np(actions, lowest);
}

/// posix_spawn(3): the child starts in `path`.
static inline int weir_spawn_change_directory(
    posix_spawn_file_actions_t *actions, const char *path) {
    return posix_spawn_file_actions_addchdir_np(actions, path);
}

/// posix_spawn(3): a session of its own, an empty signal mask, all signals at their defaults.
static inline int weir_spawn_isolate(posix_spawnattr_t *attributes) {
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(attributes, &none);
    posix_spawnattr_setsigdefault(attributes, &all);
    return posix_spawnattr_setflags(
        attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
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
