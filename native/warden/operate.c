/* What can be done with a living sandbox: kill, freeze, thaw, measure, list, dial. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/epoll.h>

#include "warden.h"

#define POLL_V1_MS 2

/* An operation that waits for the kernel: a freeze or a thaw, or a connect. */
struct pending {
    struct source source;
    struct reply_to to;
    char id[ID_CHARS + 1];
    int64_t until_ms;
};

static void pending_end(struct pending *pending, int error, const char *step, int fd)
{
    error ? reply_error(&pending->to, error, step) : reply(&pending->to, NULL, fd);
    source_remove(&pending->source);
    free(pending);
}

static int freezer_open(const struct sandbox *box, const char *file, int flags)
{
    for (unsigned i = 0; i < box->cgroup_count; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", box->cgroups[i], file);
        int fd = open(path, flags | O_CLOEXEC);
        if (fd >= 0)
            return fd;
    }
    return -1;
}

static bool freezer_write(const struct sandbox *box, bool freeze, bool *is_v1)
{
    CLEANUP_FD int v2 = freezer_open(box, "cgroup.freeze", O_WRONLY);
    if (v2 >= 0)
        return write(v2, freeze ? "1" : "0", 1) == 1;
    CLEANUP_FD int v1 = freezer_open(box, "freezer.state", O_WRONLY);
    *is_v1 = true;
    const char *text = freeze ? "FROZEN" : "THAWED";
    return v1 >= 0 && write(v1, text, strlen(text)) == (ssize_t)strlen(text);
}

static void freeze_check(struct source *source)
{
    struct pending *pending = (struct pending *)source;
    struct sandbox *box = sandbox_find(pending->id);
    bool freeze = pending->to.op == OP_FREEZE, is_v1 = false;
    char text[256] = {0};
    if (!box || box->exited || box->killed) {
        pending_end(pending, ESRCH, "freezer", -1);
        return;
    }
    CLEANUP_FD int v1 = freezer_open(box, "freezer.state", O_RDONLY);
    int fd = source->fd >= 0 ? source->fd : v1;
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    bool is_there = n > 0 && strstr(text, source->fd >= 0 ? (freeze ? "frozen 1" : "frozen 0")
                                                          : (freeze ? "FROZEN" : "THAWED"));
    if (is_there) {
        box->frozen = freeze;
        pending_end(pending, 0, NULL, -1);
    } else if (now_ms() >= pending->until_ms) {
        freezer_write(box, !freeze, &is_v1); /* neither half frozen nor half thawed */
        box->frozen = !freeze;
        pending_end(pending, ETIMEDOUT, "freezer", -1);
    } else
        source_deadline(source, source->fd >= 0 ? pending->until_ms - now_ms() : POLL_V1_MS);
}

static void freeze_ready(struct source *source, uint32_t events)
{
    (void)events;
    freeze_check(source);
}

static void freeze(struct sandbox *box, const struct reply_to *to)
{
    bool is_v1 = false;
    struct pending *pending = calloc(1, sizeof *pending);
    if (!pending || !freezer_write(box, to->op == OP_FREEZE, &is_v1)) {
        reply_error(to, pending && errno ? errno : ENOMEM, "freezer");
        free(pending);
        return;
    }
    box->frozen = true; /* or about to be: whoever kills it now has to thaw it */
    pending->to = *to;
    memcpy(pending->id, box->id, sizeof pending->id);
    pending->until_ms = now_ms() + FREEZE_MS_MAX;
    pending->source.ready = freeze_ready;
    pending->source.expired = freeze_check;
    pending->source.fd = is_v1 ? -1 : freezer_open(box, "cgroup.events", O_RDONLY);
    if (pending->source.fd >= 0)
        source_add(&pending->source, EPOLLPRI);
    freeze_check(&pending->source);
}

static void dial_ready(struct source *source, uint32_t events)
{
    (void)events;
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
        error = errno;
    pending_end((struct pending *)source, error, "connect", source->fd);
}

static void dial_expired(struct source *source)
{
    pending_end((struct pending *)source, ETIMEDOUT, "connect", -1);
}

/* A socket belongs to the network namespace it was made in, wherever its descriptor goes afterwards. */
static int socket_inside(const struct sandbox *box, int family)
{
    CLEANUP_FD int pidfd = box->exit.fd < 0 ? (int)syscall(SYS_pidfd_open, box->pid, 0) : -1;
    struct stat here, ours;
    if (setns(box->exit.fd < 0 ? pidfd : box->exit.fd, CLONE_NEWNET) < 0)
        return -1;
    /* A child that has not joined its own namespace yet is in ours still: no dial reaches the host's loopback. */
    errno = ESRCH;
    bool is_inside = fstat(warden.net_fd, &ours) == 0 && stat("/proc/self/ns/net", &here) == 0 &&
                     here.st_ino != ours.st_ino;
    int fd = is_inside ? socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP) : -1;
    int error = errno;
    if (setns(warden.net_fd, CLONE_NEWNET) < 0)
        abort(); /* going on inside a sandbox's namespace is the one thing that must not happen */
    errno = error;
    return fd;
}

static void dial(struct sandbox *box, const struct record *port, const struct reply_to *to)
{
    struct pending *pending = calloc(1, sizeof *pending);
    int fd = pending ? socket_inside(box, (int)port->n[0]) : -1;
    if (fd < 0) {
        reply_error(to, errno, "socket");
        free(pending);
        return;
    }
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port->n[1]),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = v4.sin_port, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    bool is_v4 = port->n[0] == AF_INET;
    const struct sockaddr *address = is_v4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;
    int result = connect(fd, address, is_v4 ? sizeof v4 : sizeof v6);
    pending->to = *to;
    pending->source.fd = fd;
    if (result == 0 || errno != EINPROGRESS) {
        pending_end(pending, result ? errno : 0, "connect", fd);
        return;
    }
    pending->source.ready = dial_ready;
    pending->source.expired = dial_expired;
    source_add(&pending->source, EPOLLOUT);
    source_deadline(&pending->source, DIAL_MS_MAX);
}

void sandbox_list(struct buffer *out)
{
    for (const struct sandbox *box = warden.sandboxes; box; box = box->next) {
        struct { int64_t created_ms; uint32_t pid, flags; char id[ID_CHARS + 1]; } __attribute__((packed)) row;
        if (box->exited)
            continue;
        row.created_ms = box->created_ms;
        row.pid = (uint32_t)box->pid;
        row.flags = (box->frozen ? 1u : 0u) | (box->adopted ? 2u : 0u) | (box->creating ? 4u : 0u);
        memcpy(row.id, box->id, sizeof row.id);
        put(out, T_SANDBOX, &row, sizeof row);
    }
}

void sandbox_request(uint32_t op, const struct plan *plan, const struct reply_to *to)
{
    struct sandbox *box = sandbox_find(plan->id);
    const struct record *port = plan_find(plan, T_PORT);
    if (!box || ((box->exited || box->killed) && op != OP_KILL)) {
        reply_error(to, ESRCH, "id");
    } else if (op == OP_KILL && box->waiter_count == WAITERS_MAX) {
        reply_error(to, EBUSY, "kill");
    } else if (op == OP_KILL) {
        box->waiters[box->waiter_count++] = *to;
        sandbox_kill(box);
    } else if (op == OP_USAGE) {
        struct buffer out = {0};
        usage_read(box, &out);
        reply(to, &out, -1);
        free(out.data);
    } else if (op == OP_DIAL && !port) {
        reply_error(to, EBADMSG, "parse");
    } else if (op == OP_DIAL) {
        dial(box, port, to);
    } else
        freeze(box, to);
}
