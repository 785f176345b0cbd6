/* A sandbox's life on the host: made from a plan, watched through its pidfd, ended, cleaned up. */
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>

#include "warden.h"

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
    snprintf(name, sizeof name, "%s.sock", box->id);
    unlinkat(warden.run_fd, name, 0);
    snprintf(name, sizeof name, "%s.state", box->id);
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
        if (box->final_usage.used && reserve(&out, box->final_usage.used)) {
            memcpy(out.data + out.used, box->final_usage.data, box->final_usage.used);
            out.used += box->final_usage.used;
        }
        broadcast(OP_EXIT, &out);
    }
    free(out.data);
    sandbox_forget(box);
}

/* What the child says of a step that failed; nothing but its end where the guest has begun. */
static ssize_t setup_read(struct sandbox *box)
{
    char message[4 + sizeof box->step] = {0};
    ssize_t n = recv(box->setup.fd, message, sizeof message - 1, MSG_DONTWAIT);
    if (n > 4 && !box->error) {
        memcpy(&box->error, message, 4);
        memcpy(box->step, message + 4, sizeof box->step - 1);
    }
    return n;
}

static void sandbox_ended(struct sandbox *box)
{
    if (box->setup.fd >= 0)
        setup_read(box);
    usage_read(box, &box->final_usage);
    box->exited = true;
    source_remove(&box->setup);
    source_remove(&box->exit);
    sandbox_clean(&box->exit);
}

static bool child_reap(idtype_t type, pid_t pid)
{
    siginfo_t info = {0};
    if (waitid(type, (id_t)pid, &info, WEXITED | WNOHANG) < 0 || info.si_pid == 0)
        return false;
    struct sandbox *box = warden.sandboxes;
    while (box && (box->adopted || box->exited || box->pid != info.si_pid))
        box = box->next;
    if (box) {
        box->status = info.si_code == CLD_EXITED ? info.si_status : 0x100 | info.si_status;
        sandbox_ended(box);
    }
    return true;
}

static void children_reap_all(struct source *source)
{
    (void)source;
    while (child_reap(P_ALL, 0))
        ;
}

/* No descriptor is kept for a child of our own: every clone would copy a thousand of them. Until it is
 * reaped, here and nowhere else, its pid stays its own. Workers end with no signal and are not seen here.
 * Signals of ends that come together are one; asking for all children costs by their number, so it waits a little. */
void child_ended(pid_t pid)
{
    static struct source rest = {.fd = -1, .expired = children_reap_all};
    if (pid > 0)
        child_reap(P_PID, pid);
    if (!rest.next) /* armed already; putting it off with every end could put it off for ever */
        source_deadline(&rest, REAP_REST_MS);
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
    box->killed = true; /* no freeze may begin or be finished from here on */
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
    ssize_t n = setup_read(box);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    source_remove(source);
    if (n > 4) {
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

static int child_clone(struct sandbox *box, struct child *child, int into, int sockets[2])
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    args.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
    child->net_fd = spare_take();
    if (child->net_fd < 0)
        args.flags |= CLONE_NEWNET;
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
    struct child child = {.plan = plan, .userns_fd = -1, .listen_fd = -1, .net_fd = -1};
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
    close_fd(&child.net_fd);
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
