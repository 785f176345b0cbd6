/* The child's side of starting a command, from fork to execve. */
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#define PATH_DEFAULT "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static _Noreturn void fail(const struct spawn *spawn, const char *code) {
    struct spawn_failure failure = {.error = errno};
    snprintf(failure.code, sizeof failure.code, "%s", code);
    /* Shorter than PIPE_BUF, so whole or not at all. */
    ssize_t written = write(spawn->status, &failure, sizeof failure);
    _exit(written < 0 ? 126 : 127);
}

static void take_stdio(const struct spawn *spawn, uid_t uid) {
    if (spawn->terminal >= 0) {
        for (int fd = 0; fd < 3; fd++)
            if (dup2(spawn->terminal, fd) < 0) fail(spawn, "stdio-failed");
        if (ioctl(0, TIOCSCTTY, 0) < 0) fail(spawn, "stdio-failed");
        /* Programs that open their terminal by name need it to be theirs; one uid mapped: as is. */
        if (fchown(0, uid, (gid_t)-1) == 0) fchmod(0, 0620);
        return;
    }
    if (dup2(spawn->in >= 0 ? spawn->in : guest.null_fd, 0) < 0 || dup2(spawn->out, 1) < 0
        || dup2(spawn->err, 2) < 0)
        fail(spawn, "stdio-failed");
}

static void env_default(char **envp, size_t *count, const char *name, const char *value) {
    size_t length = strlen(name);
    for (size_t i = 0; i < *count; i++)
        if (strncmp(envp[i], name, length) == 0 && envp[i][length] == '=') return;
    size_t size = length + strlen(value) + 2;
    char *entry = malloc(size);
    if (!entry) return;
    snprintf(entry, size, "%s=%s", name, value);
    envp[(*count)++] = entry;
}

static void env_complete(struct request *request, const struct user *user) {
    size_t *count = &request->envc;
    env_default(request->envp, count, "HOME", user->home);
    env_default(request->envp, count, "USER", user->name);
    env_default(request->envp, count, "LOGNAME", user->name);
    env_default(request->envp, count, "SHELL", user->shell);
    env_default(request->envp, count, "PATH", PATH_DEFAULT);
}

_Noreturn void spawn_child(const struct spawn *spawn) {
    struct request *request = spawn->request;
    struct user user;
    setsid();
    syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    if (!user_find(request_string(request, TAG_USER), &user)) {
        errno = EINVAL;
        fail(spawn, "unknown-user");
    }
    take_stdio(spawn, user.uid);
    setrlimit(RLIMIT_NOFILE, &guest.open_files);
    if (user_become(&user) < 0) fail(spawn, "user-failed");
    const char *cwd = request_string(request, TAG_CWD);
    if (cwd && chdir(cwd) < 0) fail(spawn, "cwd-failed");
    if (!cwd && chdir(user.home) < 0 && chdir("/") < 0) fail(spawn, "cwd-failed");
    env_complete(request, &user);
    environ = request->envp; /* execvp searches the command's own PATH */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execvp(request->argv[0], request->argv);
    fail(spawn, "exec-failed");
}
