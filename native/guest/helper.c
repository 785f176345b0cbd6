/* Forking a helper, becoming the user, and its blocking frames. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper.h"

bool client_is_gone(void) {
    struct pollfd client = {.fd = HELPER_FD, .events = POLLRDHUP};
    return poll(&client, 1, 0) > 0 && (client.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

void helper_flush(struct helper *helper) {
    struct buffer *out = &helper->out;
    if (out->failed) _exit(1);
    while (out->sent < out->length) {
        ssize_t count = send(HELPER_FD, out->data + out->sent, out->length - out->sent,
                             MSG_NOSIGNAL);
        if (count > 0) out->sent += (size_t)count;
        else if (errno != EINTR) _exit(1);
    }
    out->length = out->sent = 0;
}

void helper_flush_if_full(struct helper *helper) {
    if (helper->out.length >= HELPER_OUT_BYTES_HIGH) helper_flush(helper);
}

_Noreturn void helper_done(struct helper *helper) {
    helper_flush(helper);
    _exit(0);
}

/* A client that still sends would lose the reason to a reset, so what it sends is read away. */
static void drain_client(void) {
    static char scrap[16384];
    struct timeval patience = {.tv_sec = CLOSING_MS / 1000};
    shutdown(HELPER_FD, SHUT_WR);
    setsockopt(HELPER_FD, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    for (size_t total = 0; total < DRAIN_BYTES_MAX;) {
        ssize_t count = recv(HELPER_FD, scrap, sizeof scrap, 0);
        if (count <= 0) break;
        total += (size_t)count;
    }
}

_Noreturn void helper_fail(struct helper *helper, int error, const char *message) {
    put_error(&helper->out, error, error == 0 ? "unknown-user" : NULL, message);
    helper_flush(helper);
    if (helper->request->type == OP_WRITE) drain_client();
    _exit(1);
}

void helper_resolve(struct helper *helper, enum tag tag, bool follow_leaf, struct target *out) {
    const char *path = request_string(helper->request, tag);
    if (path_resolve(&helper->user, path, follow_leaf, out) < 0) helper_fail(helper, errno, NULL);
}

bool helper_read(void *to, size_t bytes) {
    for (size_t got = 0; got < bytes;) {
        ssize_t count = recv(HELPER_FD, (char *)to + got, bytes - got, 0);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return false;
        got += (size_t)count;
    }
    return true;
}

static _Noreturn void helper_run(struct helper *helper) {
    switch (helper->request->type) {
    case OP_STAT: op_stat(helper);
    case OP_LIST: op_list(helper);
    case OP_READ: op_read(helper);
    case OP_WRITE: op_write(helper);
    case OP_MKDIR: op_mkdir(helper);
    case OP_MOVE: op_move(helper);
    case OP_REMOVE: op_remove(helper);
    case OP_CHMOD: op_chmod(helper);
    case OP_CHOWN: op_chown(helper);
    case OP_WATCH: op_watch(helper);
    case OP_PORT: op_port(helper);
    case OP_PORTS: op_ports(helper);
    case OP_STATS: op_stats(helper);
    default: op_xattr(helper);
    }
}

static _Noreturn void helper_main(int fd, const struct request *request) {
    struct helper helper = {.request = request, .flags = request_u32(request, TAG_FLAGS, 0)};
    sigset_t none;
    setsid();
    if (dup2(fd, HELPER_FD) < 0) _exit(1);
    syscall(SYS_close_range, HELPER_FD + 1u, ~0u, 0u);
    fcntl(HELPER_FD, F_SETFL, 0); /* blocking: PID 1 closes its copy */
    setrlimit(RLIMIT_NOFILE, &guest.open_files);
    signal(SIGXFSZ, SIG_IGN);
    /* A write that was asked to stop would leave its temporary file; it ends by itself. */
    sigemptyset(&none);
    if (request->type != OP_WRITE) sigprocmask(SIG_SETMASK, &none, NULL);
    if (request->type < OP_PORT) {
        const char *spec = request_string(request, TAG_USER);
        if (helper.flags & ~(uint32_t)FILE_FLAGS_ALL) helper_fail(&helper, EINVAL, "unknown flags");
        if (!user_find(spec, &helper.user)) helper_fail(&helper, 0, "no such user");
        if (user_become(&helper.user) < 0) helper_fail(&helper, errno, "cannot become the user");
    }
    helper_run(&helper);
}

void helper_start(struct conn *conn, struct request *request) {
    if (guest.helper_count >= HELPER_COUNT_MAX) {
        conn_refuse(conn, EUSERS, NULL, "too many operations run");
        return;
    }
    pid_t pid = guest_fork();
    if (pid == 0) helper_main(conn->io.fd, request);
    if (pid < 0) {
        conn_refuse(conn, errno, NULL, "no helper could be started");
        return;
    }
    guest.helpers[guest.helper_count++] = pid;
    conn_close(conn);
}
