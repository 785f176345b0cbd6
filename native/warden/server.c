/* One thread, one epoll, framed requests on a unix socket. */
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/vfs.h>

#include "warden.h"

#define OUT_BYTES_MAX (8u * 1024u * 1024u)
#define ANSWER_BYTES_MAX (1024u * 1024u)

struct connection {
    struct source source;
    uint32_t index, generation;
    struct buffer in, out;
    bool wants_events, is_writing;
};

static struct {
    int epoll;
    struct source deadlines; /* a ring; few operations wait at any time */
    struct source listener;
    struct connection *connections[CONNECTIONS_MAX];
    uint32_t generations[CONNECTIONS_MAX];
} server;

void server_start(void)
{
    server.deadlines.next = server.deadlines.previous = &server.deadlines;
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (server.epoll < 0)
        die(71, "epoll");
}

void source_add(struct source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    /* Only ENOMEM and ENOSPC (max_user_watches) can fail here: nothing would ever be reported again. */
    if (epoll_ctl(server.epoll, EPOLL_CTL_ADD, source->fd, &event) < 0)
        die(71, "epoll");
}

void source_deadline(struct source *source, int64_t in_ms)
{
    source->deadline_ms = now_ms() + in_ms;
    if (source->next)
        return;
    source->next = server.deadlines.next;
    source->previous = &server.deadlines;
    source->next->previous = source->previous->next = source;
}

void source_remove(struct source *source)
{
    if (source->next) {
        source->next->previous = source->previous;
        source->previous->next = source->next;
        source->next = source->previous = NULL;
    }
    if (source->fd >= 0)
        epoll_ctl(server.epoll, EPOLL_CTL_DEL, source->fd, NULL);
    close_fd(&source->fd);
}

bool reserve(struct buffer *buffer, size_t extra)
{
    if (buffer->data && buffer->used + extra <= buffer->size)
        return true;
    size_t size = buffer->size ? buffer->size * 2 : 1024;
    while (size < buffer->used + extra)
        size *= 2;
    uint8_t *data = size <= OUT_BYTES_MAX ? realloc(buffer->data, size) : NULL;
    if (!data)
        return false;
    buffer->data = data;
    buffer->size = size;
    return true;
}

void put(struct buffer *buffer, uint16_t tag, const void *value, size_t length)
{
    uint16_t head[2] = {tag, (uint16_t)length};
    if (length > UINT16_MAX || !reserve(buffer, length + sizeof head))
        return;
    memcpy(buffer->data + buffer->used, head, sizeof head);
    memcpy(buffer->data + buffer->used + sizeof head, value, length);
    buffer->used += sizeof head + length;
}

void put_string(struct buffer *buffer, uint16_t tag, const char *text)
{
    put(buffer, tag, text, strlen(text) + 1);
}

static void connection_close(struct connection *connection)
{
    server.connections[connection->index] = NULL;
    server.generations[connection->index]++;
    source_remove(&connection->source);
    free(connection->in.data);
    free(connection->out.data);
    free(connection);
}

/* Returns false when the peer is gone; then the connection is closed by the caller's turn of the loop. */
static bool connection_flush(struct connection *connection, int fd)
{
    struct buffer *out = &connection->out;
    size_t sent = 0;
    while (sent < out->used) {
        struct iovec part = {out->data + sent, out->used - sent};
        union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {0};
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
        if (fd >= 0) {
            message.msg_control = control.bytes;
            message.msg_controllen = sizeof control.bytes;
            struct cmsghdr *head = CMSG_FIRSTHDR(&message);
            *head = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
            memcpy(CMSG_DATA(head), &fd, sizeof fd);
        }
        ssize_t n = sendmsg(connection->source.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno != EAGAIN || fd >= 0))
            return false;
        if (n < 0)
            break;
        fd = -1;
        sent += (size_t)n;
    }
    memmove(out->data, out->data + sent, out->used - sent);
    out->used -= sent;
    if (connection->is_writing != (out->used > 0)) {
        connection->is_writing = out->used > 0;
        struct epoll_event event = {EPOLLIN | (connection->is_writing ? EPOLLOUT : 0u),
                                    {.ptr = &connection->source}};
        epoll_ctl(server.epoll, EPOLL_CTL_MOD, connection->source.fd, &event);
    }
    return true;
}

/* A reader that is too slow for its answers loses its connection (shutdown wakes the loop, which closes it). */
static void connection_send(struct connection *c, uint32_t request, uint32_t op, struct buffer *payload, int fd)
{
    uint32_t length = payload ? (uint32_t)payload->used : 0;
    uint32_t head[3] = {length, request, op};
    bool is_queued = length <= ANSWER_BYTES_MAX && c->out.used + length <= OUT_BYTES_MAX / 2 &&
                     reserve(&c->out, length + sizeof head);
    if (is_queued) {
        memcpy(c->out.data + c->out.used, head, sizeof head);
        if (length)
            memcpy(c->out.data + c->out.used + sizeof head, payload->data, length);
        c->out.used += sizeof head + length;
    }
    if (!is_queued || !connection_flush(c, fd))
        shutdown(c->source.fd, SHUT_RDWR);
}

void reply(const struct reply_to *to, struct buffer *payload, int fd)
{
    struct connection *connection = server.connections[to->connection];
    if (connection && connection->generation == to->generation)
        connection_send(connection, to->request, to->op, payload, fd);
}

void put_error(struct buffer *buffer, int error, const char *step)
{
    uint8_t value[4 + 64];
    memcpy(value, &error, 4);
    snprintf((char *)value + 4, sizeof value - 4, "%s", step);
    put(buffer, T_ERROR, value, 4 + strlen((char *)value + 4) + 1);
}

void reply_error(const struct reply_to *to, int error, const char *step)
{
    struct buffer out = {0};
    put_error(&out, error, step);
    reply(to, &out, -1);
    free(out.data);
}

void broadcast(uint32_t op, struct buffer *payload)
{
    for (unsigned i = 0; i < CONNECTIONS_MAX; i++)
        if (server.connections[i] && server.connections[i]->wants_events)
            connection_send(server.connections[i], 0, op, payload, -1);
}

static void hello(const struct reply_to *to, bool wants_events)
{
    server.connections[to->connection]->wants_events = wants_events;
    struct buffer out = {0};
    struct rlimit files;
    struct utsname name;
    struct statfs pool = {0};
    getrlimit(RLIMIT_NOFILE, &files);
    uname(&name);
    if (warden.pool_fd >= 0)
        fstatfs(warden.pool_fd, &pool);
    uint64_t facts[] = {WIRE_VERSION, geteuid(), getegid(), (uint64_t)warden.userns_errno, files.rlim_max,
                        (uint64_t)pool.f_type, (uint64_t)getpid()};
    put(&out, T_FACTS, facts, sizeof facts);
    put_string(&out, T_FILE, name.release);
    for (unsigned i = 0; i < warden.root_count; i++)
        put_string(&out, T_ROOT, warden.roots[i]);
    reply(to, &out, -1);
    free(out.data);
}

static void dispatch(uint32_t op, const uint8_t *payload, size_t length, const struct reply_to *to)
{
    static struct plan plan;
    int error = plan_parse(&plan, op, payload, length);
    if (error)
        reply_error(to, error, "parse");
    else if (op == OP_HELLO)
        hello(to, plan_find(&plan, T_EVENTS) != NULL);
    else if (op == OP_CHECK)
        reply(to, NULL, -1);
    else if (op == OP_CREATE)
        sandbox_create(&plan, to);
    else if (op == OP_LIST) {
        struct buffer out = {0};
        sandbox_list(&out);
        reply(to, &out, -1);
        free(out.data);
    } else if (op >= OP_KILL && op <= OP_DIAL)
        sandbox_request(op, &plan, to);
    else if (op >= OP_POOL_MOUNT && op <= OP_VOLUME_LIST)
        volume_request(op, &plan, to);
    else
        reply_error(to, ENOSYS, "op");
}

static bool frames_take(struct connection *connection)
{
    struct buffer *in = &connection->in;
    size_t at = 0;
    while (in->used - at >= HEADER_BYTES) {
        uint32_t head[3];
        memcpy(head, in->data + at, sizeof head);
        if (head[0] > FRAME_BYTES_MAX || head[1] == 0 || head[2] > UINT16_MAX)
            return false;
        if (in->used - at - HEADER_BYTES < head[0])
            break;
        struct reply_to to = {connection->index, connection->generation, head[1], head[2]};
        dispatch(head[2], in->data + at + HEADER_BYTES, head[0], &to);
        at += HEADER_BYTES + head[0];
    }
    memmove(in->data, in->data + at, in->used - at);
    in->used -= at;
    return true;
}

static void connection_ready(struct source *source, uint32_t events)
{
    struct connection *connection = (struct connection *)source;
    bool is_alive = !(events & (EPOLLERR | EPOLLHUP));
    if (is_alive && (events & EPOLLOUT))
        is_alive = connection_flush(connection, -1);
    if (is_alive && (events & EPOLLIN)) {
        struct buffer *in = &connection->in;
        size_t room = FRAME_BYTES_MAX + HEADER_BYTES - in->used;
        if (room > 16384)
            room = 16384;
        ssize_t n = reserve(in, room) ? read(source->fd, in->data + in->used, room) : 0;
        if (n > 0)
            in->used += (size_t)n;
        is_alive = (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) && frames_take(connection);
    }
    if (!is_alive)
        connection_close(connection);
}

static void listener_ready(struct source *source, uint32_t events)
{
    (void)events;
    CLEANUP_FD int fd = accept4(source->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct ucred peer = {.uid = (uid_t)-1};
    socklen_t size = sizeof peer;
    if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
        return;
    if (peer.uid != warden.client_uid && peer.uid != geteuid())
        return;
    uint32_t index = 0;
    while (index < CONNECTIONS_MAX && server.connections[index])
        index++;
    struct connection *connection = index < CONNECTIONS_MAX ? calloc(1, sizeof *connection) : NULL;
    if (!connection)
        return;
    connection->source.fd = fd;
    connection->source.ready = connection_ready;
    connection->index = index;
    connection->generation = server.generations[index];
    server.connections[index] = connection;
    source_add(&connection->source, EPOLLIN);
    fd = -1;
}

static void deadlines_expire(void)
{
    int64_t now = now_ms();
    for (struct source *at = server.deadlines.next, *next; at != &server.deadlines; at = next) {
        next = at->next;
        if (at->deadline_ms > now)
            continue;
        at->next->previous = at->previous;
        at->previous->next = at->next;
        at->next = at->previous = NULL;
        at->expired(at);
        next = server.deadlines.next; /* `expired` may have freed any source: start over */
    }
}

static int wait_ms(void)
{
    int64_t soonest = -1;
    for (struct source *at = server.deadlines.next; at != &server.deadlines; at = at->next)
        if (soonest < 0 || at->deadline_ms < soonest)
            soonest = at->deadline_ms;
    int64_t left = soonest - now_ms();
    return soonest < 0 ? -1 : left < 0 ? 0 : (int)left + 1;
}

void server_listen(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        die(64, "--socket is too long");
    strcpy(address.sun_path, path);
    unlink(path);
    server.listener.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    umask(0177);
    if (server.listener.fd < 0 || bind(server.listener.fd, (struct sockaddr *)&address, sizeof address) < 0)
        die(71, path);
    umask(022);
    if (chown(path, warden.client_uid, (gid_t)-1) < 0 || listen(server.listener.fd, 128) < 0)
        die(71, path);
    server.listener.ready = listener_ready;
    source_add(&server.listener, EPOLLIN);
}

static volatile sig_atomic_t is_stopping, ended_child;

static void note_signal(int number, siginfo_t *info, void *context)
{
    (void)context;
    if (number == SIGCHLD)
        ended_child = info->si_pid;
    else
        is_stopping = 1;
}

/* Signals are blocked except while the loop waits, so none is lost in between. */
void server_run(void)
{
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigaddset(&blocked, SIGINT);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    const struct sigaction noting = {.sa_sigaction = note_signal, .sa_flags = SA_SIGINFO};
    sigaction(SIGTERM, &noting, NULL);
    sigaction(SIGINT, &noting, NULL);
    sigaction(SIGCHLD, &noting, NULL);
    sigset_t none;
    sigemptyset(&none);
    while (!is_stopping) {
        struct epoll_event event;
        /* One event a wait: a handler may free the source of a later event. */
        int count = epoll_pwait(server.epoll, &event, 1, wait_ms(), &none);
        if (count < 0 && errno != EINTR)
            die(71, "epoll");
        if (count > 0) {
            struct source *source = event.data.ptr;
            source->ready(source, event.events);
        }
        if (ended_child) {
            pid_t pid = ended_child;
            ended_child = 0;
            child_ended(pid);
        }
        deadlines_expire();
    }
}
