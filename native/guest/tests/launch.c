/*
 * Starts a guest for the tests: launch [--namespaces | --single-uid] SOCKET PROGRAM [ARGS...].
 * Listens on SOCKET as descriptor 3 and runs PROGRAM there, in namespaces of its own when asked.
 */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int result, const char *what) {
    if (result >= 0) return;
    fprintf(stderr, "launch: %s: %s\n", what, strerror(errno));
    exit(70);
}

static void write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    check(fd, path);
    check((int)write(fd, text, strlen(text)), path);
    close(fd);
}

static void listen_on(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    check(fd, "socket");
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    check(bind(fd, (struct sockaddr *)&address, sizeof address), path);
    check(listen(fd, 1024), "listen");
    check(dup2(fd, 3), "dup2");
    if (fd != 3) close(fd);
    check((int)write(STDOUT_FILENO, "ready\n", 6), "stdout");
}

static void enter(bool single_uid) {
    char map[64];
    snprintf(map, sizeof map, "0 %u 1", (unsigned)getuid());
    int flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
    check(unshare(single_uid ? flags | CLONE_NEWUSER : flags), "unshare");
    if (!single_uid) return;
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", map);
    write_file("/proc/self/gid_map", map);
}

static void loopback_up(void) {
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check(fd, "socket");
    check(ioctl(fd, SIOCSIFFLAGS, &request), "loopback");
    close(fd);
}

int main(int argc, char **argv) {
    bool namespaces = argc > 1 && strcmp(argv[1], "--namespaces") == 0;
    bool single = argc > 1 && strcmp(argv[1], "--single-uid") == 0;
    char **rest = argv + 1 + (namespaces || single);
    if (argc - (rest - argv) < 2) return 64;
    listen_on(rest[0]);
    if (!namespaces && !single) {
        execv(rest[1], rest + 1);
        check(-1, rest[1]);
    }
    enter(single);
    loopback_up();
    pid_t pid = fork();
    check(pid, "fork");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "private");
        check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "proc");
        execv(rest[1], rest + 1);
        check(-1, rest[1]);
    }
    close(3);
    int status = 0;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
