/* A sandbox's life on the host: made from a plan, watched through its pidfd, ended, cleaned up. */
#include <arpa/inet.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "warden.h"

#define GUEST_BYTES_MAX (4 * 1024 * 1024)
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif


struct sandbox *sandbox_find(const char *id)
{
    struct sandbox *box = warden.sandboxes;
    while (box && strcmp(box->id, id))
        box = box->next;
    return box;
}

struct sandbox *sandbox_new(const char *id)
{
    struct sandbox *box = warden.sandbox_count < SANDBOXES_MAX ? calloc(1, sizeof *box) : NULL;
    if (!box)
        return NULL;
    memcpy(box->id, id, ID_CHARS);
    box->exit.fd = box->setup.fd = -1;
    box->status = -1;
    box->next = warden.sandboxes;
    warden.sandboxes = box;
    warden.sandbox_count++;
    return box;
}

void sandbox_forget(struct sandbox *box)
{
    struct sandbox **at = &warden.sandboxes;
    while (*at != box)
        at = &(*at)->next;
    *at = box->next;
    warden.sandbox_count--;
    source_remove(&box->exit);
    source_remove(&box->setup);
    for (unsigned i = 0; i < box->cgroup_count; i++)
        free(box->cgroups[i]);
    free(box->final_usage.data);
    free(box);
}

static void file_name(char *out, size_t size, const char *id, const char *suffix)
{
    snprintf(out, size, "%s.%s", id, suffix);
}

static void put_exit(const struct sandbox *box, struct buffer *out)
{
    uint32_t status[2] = {(uint32_t)box->status, box->status >= 0};
    put_string(out, T_ID, box->id);
    put(out, T_STATUS, status, sizeof status);
    put(out, T_NUMBERS, &box->created_ms, sizeof box->created_ms);
}

/* The process is gone; its cgroups may be busy for a moment more. Everybody hears when all is away. */
static void sandbox_clean(struct source *source)
{
    struct sandbox *box = (struct sandbox *)source;
    if (!cgroups_remove(box) && box->clean_tries++ < CLEAN_TRIES_MAX) {
        source_deadline(source, CLEAN_RETRY_MS);
        return;
    }
    char name[32];
    file_name(name, sizeof name, box->id, "sock");
    unlinkat(warden.run_fd, name, 0);
    file_name(name, sizeof name, box->id, "state");
    unlinkat(warden.run_fd, name, 0);
    struct buffer out = {0};
    put_exit(box, &out);
    for (unsigned i = 0; i < box->waiter_count; i++) {
        if (box->waiters[i].op == OP_CREATE)
            reply_error(&box->waiters[i], box->error ? box->error : ECHILD, box->step[0] ? box->step : "guest");
        else
            reply(&box->waiters[i], &out, -1);
    }
    if (!box->creating) {
        if (box->final_usage.used) {
            uint8_t *data = realloc(out.data, out.used + box->final_usage.used);
            if (data) {
                memcpy(data + out.used, box->final_usage.data, box->final_usage.used);
                out = (struct buffer){data, out.used + box->final_usage.used, out.used + box->final_usage.used};
            }
        }
        broadcast(OP_EXIT, &out);
    }
    free(out.data);
    sandbox_forget(box);
}

static void sandbox_ended(struct sandbox *box)
{
    char step[4 + sizeof box->step] = {0};
    if (box->setup.fd >= 0 && recv(box->setup.fd, step, sizeof step - 1, MSG_DONTWAIT) > 4 && !box->error) {
        memcpy(&box->error, step, 4);
        memcpy(box->step, step + 4, sizeof box->step - 1);
    }
    usage_read(box, &box->final_usage);
    box->exited = true;
    source_remove(&box->setup);
    source_remove(&box->exit);
    sandbox_clean(&box->exit);
}

/* No descriptor is kept for a child of our own: every clone would copy a thousand of them. Until it is
 * reaped, here and nowhere else, its pid stays its own. Workers end with no signal and are not seen here. */
void children_reap(void)
{
    siginfo_t info = {0};
    while (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) == 0 && info.si_pid) {
        struct sandbox *box = warden.sandboxes;
        while (box && (box->adopted || box->exited || box->pid != info.si_pid))
            box = box->next;
        if (box) {
            box->status = info.si_code == CLD_EXITED ? info.si_status : 0x100 | info.si_status;
            sandbox_ended(box);
        }
        info.si_pid = 0;
    }
}

static void adopted_ready(struct source *source, uint32_t events)
{
    (void)events; /* the status went to whoever is its parent by now */
    sandbox_ended((struct sandbox *)source);
}

void sandbox_adopt(struct sandbox *box, int pidfd)
{
    box->exit.fd = pidfd;
    box->exit.ready = adopted_ready;
    box->exit.expired = sandbox_clean;
    source_add(&box->exit, EPOLLIN);
}

/* The kernel ends a PID namespace with its first process. Without one there may be a child that never
 * began: cgroup.kill reaches that. A process frozen by v1 takes its signal only when it thaws. */
void sandbox_kill(struct sandbox *box)
{
    bool is_alive = box->exit.fd >= 0 || (box->pid > 0 && !box->adopted && !box->exited);
    if (box->exit.fd >= 0)
        syscall(SYS_pidfd_send_signal, box->exit.fd, SIGKILL, NULL, 0);
    else if (is_alive)
        kill(box->pid, SIGKILL);
    for (unsigned i = 0; i < box->cgroup_count && (box->frozen || !is_alive); i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/cgroup.kill", box->cgroups[i]);
        file_write(AT_FDCWD, path, "1");
        snprintf(path, sizeof path, "%s/freezer.state", box->cgroups[i]);
        file_write(AT_FDCWD, path, "THAWED");
    }
}

/* The end of file on the status socket means that the guest runs: exec closed the other end. */
static void setup_ready(struct source *source, uint32_t events)
{
    (void)events;
    struct sandbox *box = (struct sandbox *)((char *)source - offsetof(struct sandbox, setup));
    char message[4 + sizeof box->step] = {0};
    ssize_t n = recv(source->fd, message, sizeof message - 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    source_remove(source);
    if (n > 4) {
        memcpy(&box->error, message, 4);
        memcpy(box->step, message + 4, sizeof box->step - 1);
        sandbox_kill(box);
        return;
    }
    box->creating = false;
    struct buffer out = {0};
    put_exit(box, &out);
    unsigned kept = 0;
    for (unsigned i = 0; i < box->waiter_count; i++) {
        if (box->waiters[i].op == OP_CREATE)
            reply(&box->waiters[i], &out, -1);
        else
            box->waiters[kept++] = box->waiters[i];
    }
    box->waiter_count = kept;
    free(out.data);
}

static void setup_expired(struct source *source)
{
    struct sandbox *box = (struct sandbox *)((char *)source - offsetof(struct sandbox, setup));
    box->error = ETIMEDOUT;
    snprintf(box->step, sizeof box->step, "setup");
    sandbox_kill(box);
}

int userns_map(pid_t pid, const struct record *map)
{
    char path[64], text[64];
    CLEANUP_FD int proc = -1;
    snprintf(path, sizeof path, "/proc/%d", pid);
    proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc < 0)
        return errno;
    snprintf(text, sizeof text, "0 %lu %lu\n", map->n[0], map->n[2]);
    if (file_write(proc, "uid_map", text) < 0)
        return errno;
    if (!warden.privileged && file_write(proc, "setgroups", "deny") < 0)
        return errno;
    snprintf(text, sizeof text, "0 %lu %lu\n", map->n[1], map->n[2]);
    return file_write(proc, "gid_map", text) < 0 ? errno : 0;
}

static int userns_wait(void *ends)
{
    char byte;
    close(((int *)ends)[1]);
    /* The end of file comes when the warden is done, or dead. No errno is touched: the memory is shared. */
    return read(((int *)ends)[0], &byte, 1) == 0 ? 0 : 1;
}

/* A process of its own makes the user namespace, so that the sandbox's other namespaces, made by us,
 * belong to the host: its root owns nothing but its ids. The map serves id-mapped mounts as well. */
int userns_make(const struct record *map, int *fd_out)
{
    static _Alignas(16) char stack[16384];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return errno;
    pid_t pid = clone(userns_wait, stack + sizeof stack, CLONE_NEWUSER | CLONE_VM, ends);
    int error = pid < 0 ? errno : userns_map(pid, map);
    if (!error) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
        *fd_out = open(path, O_RDONLY | O_CLOEXEC);
        error = *fd_out < 0 ? errno : 0;
    }
    close(ends[1]);
    while (pid > 0 && waitpid(pid, NULL, (int)__WCLONE) < 0 && errno == EINTR)
        ;
    close(ends[0]);
    return error;
}

/* The guest is a sealed copy in memory: /proc/1/exe inside then leads to no file of the host, and
 * nobody who owns the file can change a running guest. */
int guest_open(const char *path)
{
    static struct { int fd; struct stat of; } cache = {.fd = -1};
    CLEANUP_FD int source = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat now;
    if (source < 0 || fstat(source, &now) < 0)
        return -1;
    bool is_same = cache.fd >= 0 && now.st_dev == cache.of.st_dev && now.st_ino == cache.of.st_ino &&
                   now.st_size == cache.of.st_size && now.st_ctim.tv_sec == cache.of.st_ctim.tv_sec &&
                   now.st_ctim.tv_nsec == cache.of.st_ctim.tv_nsec;
    if (is_same)
        return cache.fd;
    errno = ENOEXEC;
    if (!S_ISREG(now.st_mode) || now.st_size <= 0 || now.st_size > GUEST_BYTES_MAX)
        return -1;
    int copy = (int)syscall(SYS_memfd_create, "guest", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (copy < 0 && errno == EINVAL)
        copy = (int)syscall(SYS_memfd_create, "guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *bytes = mmap(NULL, (size_t)now.st_size, PROT_READ, MAP_PRIVATE, source, 0);
    bool is_copied = copy >= 0 && bytes != MAP_FAILED && fchmod(copy, 0555) == 0 &&
                     write(copy, bytes, (size_t)now.st_size) == now.st_size &&
                     fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
    if (bytes != MAP_FAILED)
        munmap(bytes, (size_t)now.st_size);
    if (!is_copied) {
        close_fd(&copy);
        return -1;
    }
    close_fd(&cache.fd);
    cache.fd = copy;
    cache.of = now;
    return copy;
}

static int listener_make(const char *id)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = sizeof address.sun_path;
    if ((size_t)snprintf(address.sun_path, size, "%s/%s.sock", warden.run_dir, id) >= size)
        return errno = ENAMETOOLONG, -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    bool is_bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    umask(mask);
    bool is_ready = is_bound && chown(address.sun_path, warden.client_uid, (gid_t)-1) == 0 && listen(fd, 511) == 0;
    if (!is_ready)
        close_fd(&fd);
    return fd;
}

static int cgroups_make(struct sandbox *box, const struct plan *plan, struct child *child, int *into)
{
    char path[PATH_BYTES];
    int root_to_cgroup[ROOTS_MAX];
    memset(root_to_cgroup, -1, sizeof root_to_cgroup);
    for (unsigned i = 0; i < plan->record_count; i++) {
        const struct record *r = &plan->records[i];
        if (r->tag == T_CGROUP) {
            if (root_to_cgroup[r->n[0]] >= 0)
                return errno = EEXIST, -1;
            snprintf(path, sizeof path, "%s/%s", warden.roots[r->n[0]], box->id);
            if (mkdir(path, 0755) < 0)
                return -1;
            root_to_cgroup[r->n[0]] = (int)box->cgroup_count;
            box->cgroups[box->cgroup_count++] = strdup(path);
            if (r->n[1] == 2) {
                close_fd(into);
                if ((*into = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
                    return -1;
                continue;
            }
            /* `tasks`, never cgroup.procs: the latter takes a lock that every fork of the host waits for. */
            strcat(path, "/tasks");
            if ((child->tasks[child->task_count++] = open(path, O_WRONLY | O_CLOEXEC)) < 0)
                return -1;
        } else if (r->tag == T_CGFILE) {
            int index = root_to_cgroup[r->n[0]];
            if (index < 0)
                return errno = ENOENT, -1;
            snprintf(path, sizeof path, "%s/%s", box->cgroups[index], r->s[0]);
            bool may_lack = r->n[1] == 1;
            if (file_write(AT_FDCWD, path, r->s[1]) < 0 && !(may_lack && errno == ENOENT)) {
                snprintf(box->step, sizeof box->step, "cgroup %.30s", r->s[0]);
                return -1;
            }
        }
    }
    return 0;
}

static int child_clone(struct sandbox *box, struct child *child, int into, int sockets[2])
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    args.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS;
    if (!warden.privileged)
        args.flags |= CLONE_NEWUSER;
    if (into >= 0) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (unsigned)into;
    }
    box->pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (box->pid == 0) {
        close(sockets[0]);
        child->status_fd = sockets[1];
        child_main(child);
    }
    return box->pid < 0 ? -1 : 0;
}

/* Everything up to "go" happens here; only then may the child begin. */
static int create_begin(struct sandbox *box, const struct plan *plan)
{
    struct child child = {.plan = plan, .userns_fd = -1, .listen_fd = -1};
    CLEANUP_FD int into = -1;
    int sockets[2] = {-1, -1};
    snprintf(box->step, sizeof box->step, "guest");
    int error = 0;
    if ((child.guest_fd = guest_open(plan->guest->s[0])) < 0)
        return errno;
    snprintf(box->step, sizeof box->step, "user-namespace");
    if (warden.privileged && (error = userns_make(plan->userns, &child.userns_fd)))
        return error;
    snprintf(box->step, sizeof box->step, "cgroup");
    if (cgroups_make(box, plan, &child, &into) < 0)
        error = errno;
    else if (snprintf(box->step, sizeof box->step, "socket"), (child.listen_fd = listener_make(box->id)) < 0)
        error = errno;
    else if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
        error = errno;
    else if (snprintf(box->step, sizeof box->step, "clone"), child_clone(box, &child, into, sockets) < 0)
        error = errno;
    else if (!warden.privileged && (error = userns_map(box->pid, plan->userns)))
        snprintf(box->step, sizeof box->step, "id-map");
    else if (snprintf(box->step, sizeof box->step, "state"),
             proc_facts(box->pid, &box->start_time, &box->namespace_inode) < 0 || state_write(box) < 0)
        error = errno;
    for (unsigned i = 0; i < child.task_count; i++)
        close_fd(&child.tasks[i]);
    close_fd(&child.userns_fd);
    close_fd(&child.listen_fd);
    close_fd(&sockets[1]);
    box->setup.fd = sockets[0];
    if (!error && send(box->setup.fd, "g", 1, MSG_NOSIGNAL) != 1)
        error = errno;
    if (!error)
        box->step[0] = 0;
    return error;
}

void sandbox_create(const struct plan *plan, const struct reply_to *to)
{
    struct sandbox *box = sandbox_find(plan->id) ? NULL : sandbox_new(plan->id);
    if (!box) {
        reply_error(to, warden.sandbox_count < SANDBOXES_MAX ? EEXIST : EMFILE, "id");
        return;
    }
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    box->created_ms = (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000;
    box->creating = true;
    box->waiters[box->waiter_count++] = *to;
    box->setup.ready = setup_ready;
    box->setup.expired = setup_expired;
    box->error = create_begin(box, plan);
    box->exit.expired = sandbox_clean;
    if (box->pid > 0) {
        if (box->error)
            sandbox_kill(box);
        else {
            source_add(&box->setup, EPOLLIN);
            source_deadline(&box->setup, SETUP_MS_MAX);
        }
        return;
    }
    sandbox_clean(&box->exit);
}
