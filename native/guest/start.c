/* Starting a command: descriptors, the fork, and what is remembered about it. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define COMMAND_BYTES_MAX 1024

static int pipe_pair(struct source *parent, int parent_end, int *child) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) return -1;
    parent->fd = ends[parent_end];
    *child = ends[!parent_end];
    return fcntl(parent->fd, F_SETFL, O_NONBLOCK);
}

static int open_terminal(struct proc *proc, struct spawn *spawn) {
    const struct request *request = spawn->request;
    int unlock = 0;
    struct winsize size = {
        .ws_col = (unsigned short)request_u32(request, TAG_COLUMNS, 80),
        .ws_row = (unsigned short)request_u32(request, TAG_ROWS, 24),
    };
    int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (master < 0) return -1;
    proc->out.fd = master;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0 || ioctl(master, TIOCSWINSZ, &size) < 0) return -1;
    spawn->terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    proc->in.fd = fcntl(master, F_DUPFD_CLOEXEC, 3);
    return spawn->terminal < 0 || proc->in.fd < 0 ? -1 : 0;
}

static int open_pipes(struct proc *proc, struct spawn *spawn, uint32_t flags) {
    if (pipe_pair(&proc->status, 0, &spawn->status) < 0) return -1;
    if (flags & EXEC_TERMINAL) return open_terminal(proc, spawn);
    if (pipe_pair(&proc->out, 0, &spawn->out) < 0 || pipe_pair(&proc->err, 0, &spawn->err) < 0)
        return -1;
    return flags & EXEC_STDIN ? pipe_pair(&proc->in, 1, &spawn->in) : 0;
}

static int watch_pipes(struct proc *proc) {
    struct source *sources[] = {&proc->out, &proc->err, &proc->status};
    for (size_t i = 0; i < 3; i++)
        if (sources[i]->fd >= 0 && watch_source(sources[i], EPOLLIN) < 0) return -1;
    proc->in.ready = true;
    return proc->in.fd >= 0 ? watch_source(&proc->in, EPOLLOUT) : 0;
}

/* The argument list as LIST shows it: each with its NUL, cut to a bound. */
static bool keep_command(struct proc *proc, char *const *argv, size_t argc) {
    size_t total = 0, at = 0;
    for (size_t i = 0; i < argc && total < COMMAND_BYTES_MAX; i++) total += strlen(argv[i]) + 1;
    if (total > COMMAND_BYTES_MAX) total = COMMAND_BYTES_MAX;
    proc->command = calloc(1, total);
    for (size_t i = 0; proc->command && at < total; i++) {
        size_t size = strlen(argv[i]) + 1;
        if (size > total - at) size = total - at;
        memcpy(proc->command + at, argv[i], size);
        at += size;
    }
    if (proc->command) proc->command[total - 1] = 0;
    proc->command_bytes = total;
    return proc->command != NULL;
}

static bool proc_describe(struct proc *proc, const struct request *request) {
    const char *tag = request_string(request, TAG_TAG), *cwd = request_string(request, TAG_CWD);
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    proc->started_at_ms = (uint64_t)time.tv_sec * 1000 + (uint64_t)time.tv_nsec / 1000000;
    proc->tag = tag ? strdup(tag) : NULL;
    proc->cwd = cwd ? strdup(cwd) : NULL;
    return keep_command(proc, request->argv, request->argc) && !proc->tag == !tag && !proc->cwd == !cwd;
}

static struct proc *proc_new(const struct request *request) {
    uint32_t flags = request_u32(request, TAG_FLAGS, 0);
    struct proc *proc = calloc(1, sizeof *proc);
    if (!proc) return NULL;
    struct source *sources[] = {&proc->out, &proc->err, &proc->in, &proc->status};
    for (size_t i = 0; i < 4; i++)
        *sources[i] = (struct source){.kind = SOURCE_PROC, .fd = -1, .owner = proc};
    proc->keep = flags & EXEC_KEEP;
    proc->terminal = flags & EXEC_TERMINAL;
    proc->grace_ms = request_u32(request, TAG_GRACE_MS, GRACE_MS_DEFAULT);
    uint32_t timeout_ms = request_u32(request, TAG_TIMEOUT_MS, 0);
    if (timeout_ms) {
        proc->kill_at = guest.now + timeout_ms;
        wake_by(proc->kill_at);
    }
    proc->next = guest.procs;
    if (proc->next) proc->next->previous = proc;
    guest.procs = proc;
    return proc;
}

static void spawn_close(const struct spawn *spawn) {
    const int ends[] = {spawn->in, spawn->out, spawn->err, spawn->status, spawn->terminal};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends[i] >= 0) close(ends[i]);
}

static const char *exec_check(const struct request *request, int *error) {
    uint32_t flags = request_u32(request, TAG_FLAGS, 0);
    *error = EINVAL;
    if (flags & ~(uint32_t)EXEC_FLAGS_ALL) return "unknown flags";
    if (request_u32(request, TAG_COLUMNS, 1) > UINT16_MAX) return "columns out of range";
    if (request_u32(request, TAG_ROWS, 1) > UINT16_MAX) return "rows out of range";
    *error = EUSERS;
    if (guest.running_count >= PROCESS_COUNT_MAX) return "too many commands run";
    *error = EEXIST;
    const char *tag = request_string(request, TAG_TAG);
    for (struct proc *proc = guest.procs; tag && proc; proc = proc->next)
        if (!proc->reported && proc->tag && strcmp(proc->tag, tag) == 0)
            return "a running command has this tag";
    return NULL;
}

void proc_start(struct conn *conn, struct request *request) {
    int error = 0;
    const char *wrong = exec_check(request, &error);
    if (wrong) {
        conn_refuse(conn, error, NULL, wrong);
        return;
    }
    struct proc *proc = proc_new(request);
    if (!proc) {
        conn_refuse(conn, ENOMEM, NULL, NULL);
        return;
    }
    struct spawn spawn = {request, -1, -1, -1, -1, -1};
    errno = ENOMEM;
    pid_t pid = -1;
    if (proc_describe(proc, request)
        && open_pipes(proc, &spawn, request_u32(request, TAG_FLAGS, 0)) == 0
        && watch_pipes(proc) == 0)
        pid = guest_fork();
    error = errno;
    if (pid == 0) spawn_child(&spawn);
    spawn_close(&spawn);
    if (pid < 0) {
        proc_free(proc);
        conn_refuse(conn, error, NULL, "the command could not be started");
        return;
    }
    proc->pid = pid;
    guest.running_count++;
    proc_viewer_add(proc, conn, true);
}
