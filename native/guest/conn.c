/* Connections of PID 1: the request phase, answers, and saying goodbye. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper.h"

#define ACCEPT_BATCH 64
#define DISCARD_READS_MAX 256

/*
 * Room for one more unfinished request. Whoever is silent for a while makes room for newcomers; until
 * then these wait in the kernel's backlog: a client may open many connections before it writes.
 */
static bool make_room(void) {
    if (guest.waiting_count < WAITING_COUNT_MAX) return true;
    struct conn *oldest = NULL;
    for (struct conn *conn = guest.conns; conn; conn = conn->next)
        if (conn->state == CONN_REQUEST) oldest = conn; /* the newest is at the head */
    if (!oldest) return true;
    int64_t patient_until = oldest->deadline - REQUEST_TIMEOUT_MS + CROWDED_TIMEOUT_MS;
    if (patient_until <= guest.now) {
        conn_close(oldest);
        return true;
    }
    guest.listener.ready = false;
    guest.accept_at = patient_until;
    wake_by(patient_until);
    return false;
}

static struct conn *conn_new(int fd) {
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn) return NULL;
    conn->io = (struct source){.kind = SOURCE_CONN, .fd = fd, .ready = true, .owner = conn};
    conn->state = CONN_REQUEST;
    conn->deadline = guest.now + REQUEST_TIMEOUT_MS;
    wake_by(conn->deadline);
    conn->next = guest.conns;
    if (conn->next) conn->next->previous = conn;
    guest.conns = conn;
    guest.waiting_count++;
    return conn;
}

void conn_accept(void) {
    for (int i = 0; i < ACCEPT_BATCH; i++) {
        if (!make_room()) return;
        int fd = accept4(guest.listener.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            guest.listener.ready = false;
            if (errno == EAGAIN) return;
            guest.accept_at = guest.now + ACCEPT_RETRY_MS;
            wake_by(guest.accept_at);
            return;
        }
        struct conn *conn = conn_new(fd);
        if (!conn) {
            close(fd);
            continue;
        }
        /* The request usually is there already; a helper's connection never needs the epoll. */
        conn_step(conn, 0);
        if (conn->state == CONN_DEAD) continue;
        if (watch_source(&conn->io, EPOLLIN | EPOLLOUT | EPOLLRDHUP) < 0) conn_close(conn);
    }
}

void conn_leave_waiting(struct conn *conn) {
    if (conn->state != CONN_REQUEST) return;
    if (guest.waiting_count-- == WAITING_COUNT_MAX) guest.listener.ready = true;
}

void conn_close(struct conn *conn) {
    if (conn->state == CONN_DEAD) return;
    conn_leave_waiting(conn);
    conn->state = CONN_DEAD;
    if (conn->proc) proc_viewer_remove(conn);
    unwatch_source(&conn->io);
    if (conn->previous) conn->previous->next = conn->next;
    else guest.conns = conn->next;
    if (conn->next) conn->next->previous = conn->previous;
    free(conn->payload);
    conn->payload = NULL;
    buffer_free(&conn->out);
    conn->next = guest.dead_conns;
    guest.dead_conns = conn;
}

void conn_flush(struct conn *conn) {
    struct buffer *out = &conn->out;
    if (out->failed) {
        conn_close(conn);
        return;
    }
    while (out->sent < out->length && !conn->blocked) {
        ssize_t count = send(conn->io.fd, out->data + out->sent, out->length - out->sent,
                             MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count > 0) out->sent += (size_t)count;
        else if (errno == EAGAIN) conn->blocked = true;
        else if (errno != EINTR) {
            conn_close(conn);
            return;
        }
    }
    /* A reader that always leaves a rest must not make the buffer as long as all it was ever sent. */
    if (out->sent < out->length && out->sent >= OUTPUT_BYTES_HIGH) {
        out->length -= out->sent;
        memmove(out->data, out->data + out->sent, out->length);
        out->sent = 0;
    }
    if (out->sent < out->length) return;
    buffer_free(out);
    if (conn->state == CONN_CLOSING && !conn->deadline) {
        shutdown(conn->io.fd, SHUT_WR);
        conn->deadline = guest.now + CLOSING_MS;
        wake_by(conn->deadline);
    }
}

/*
 * The answer is complete. The client may still be sending: closing now would turn what it has not
 * read yet into ECONNRESET, so what it sends is thrown away until it closes.
 */
void conn_finish(struct conn *conn) {
    if (conn->state == CONN_DEAD || conn->state == CONN_CLOSING) return;
    conn_leave_waiting(conn);
    conn->state = CONN_CLOSING;
    conn->deadline = 0;
    if (conn->proc) proc_viewer_remove(conn);
    conn_flush(conn);
}

void conn_refuse(struct conn *conn, int error, const char *code, const char *message) {
    put_error(&conn->out, error, code, message);
    conn_finish(conn);
}

static void conn_discard(struct conn *conn) {
    uint8_t scrap[4096];
    for (int i = 0; i < DISCARD_READS_MAX; i++) {
        ssize_t count = recv(conn->io.fd, scrap, sizeof scrap, MSG_DONTWAIT);
        if (count > 0 || (count < 0 && errno == EINTR)) continue;
        if (count < 0 && errno == EAGAIN) return;
        break;
    }
    /* Gone, or sending without end. */
    if (!buffer_pending(&conn->out)) conn_close(conn);
}

static bool conn_header_done(struct conn *conn, uint32_t bytes_max) {
    if (!frame_header_parse(conn->header, bytes_max, &conn->length)) {
        bool large = conn->length > bytes_max;
        conn_refuse(conn, large ? E2BIG : EBADMSG, NULL,
                    large ? "the frame is longer than allowed" : "the frame header is malformed");
        return false;
    }
    conn->payload = malloc((size_t)conn->length + 1);
    if (!conn->payload) conn_refuse(conn, ENOMEM, NULL, NULL);
    return conn->payload != NULL;
}

/* Reads exactly one frame: what follows a request belongs to the helper. True when complete. */
static bool conn_fill(struct conn *conn, uint32_t bytes_max) {
    for (;;) {
        uint8_t *to = conn->header + conn->got;
        size_t want = FRAME_HEADER_BYTES - conn->got;
        if (conn->got >= FRAME_HEADER_BYTES) {
            want = conn->length + FRAME_HEADER_BYTES - conn->got;
            if (!want) return true;
            to = conn->payload + (conn->got - FRAME_HEADER_BYTES);
        }
        ssize_t count = recv(conn->io.fd, to, want, MSG_DONTWAIT);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && errno == EAGAIN) {
            conn->io.ready = false;
            return false;
        }
        if (count <= 0) {
            conn_close(conn);
            return false;
        }
        conn->got += (uint32_t)count;
        if (conn->got == FRAME_HEADER_BYTES && !conn_header_done(conn, bytes_max)) return false;
    }
}

static void conn_dispatch(struct conn *conn) {
    struct request request;
    uint8_t *payload = conn->payload;
    conn->payload = NULL;
    conn->got = 0;
    const char *wrong = request_parse(&request, conn->header[4], payload, conn->length);
    if (wrong) conn_refuse(conn, EINVAL, NULL, wrong);
    else if (guest.shutting_down) conn_refuse(conn, ECONNABORTED, NULL, "shutting down");
    else switch (request.type) {
        case OP_HELLO: op_hello(conn); break;
        case OP_EXEC: proc_start(conn, &request); break;
        case OP_ATTACH: op_attach(conn, &request); break;
        case OP_PROCESSES: op_processes(conn); break;
        case OP_SIGNAL: op_signal(conn, &request); break;
        case OP_FORGET: op_forget(conn, &request); break;
        case OP_SHUTDOWN:
            frame_put(&conn->out, SAY_OK, NULL, 0);
            conn_finish(conn);
            shutdown_begin(request_u32(&request, TAG_GRACE_MS, GRACE_MS_DEFAULT));
            break;
        default: helper_start(conn, &request);
        }
    request_free(&request);
    free(payload);
}

/* True when the whole STDIN payload has been passed on or is of no use any more. */
static bool conn_take_stdin(struct conn *conn) {
    struct source *in = &conn->proc->in;
    while (conn->taken < conn->length && in->fd >= 0) {
        if (!in->ready) return false;
        ssize_t count = write(in->fd, conn->payload + conn->taken, conn->length - conn->taken);
        if (count > 0) conn->taken += (uint32_t)count;
        else if (count < 0 && errno == EAGAIN) in->ready = false;
        else if (count < 0 && errno == EINTR) continue;
        else unwatch_source(in); /* the command closed its stdin */
    }
    return true;
}

void conn_read_stream(struct conn *conn) {
    while (conn->state == CONN_STREAM && conn->io.ready) {
        if (!conn_fill(conn, DATA_BYTES_MAX)) return;
        uint8_t type = conn->header[4];
        if (type == SEND_STDIN) {
            if (!conn_take_stdin(conn)) return;
        } else proc_client_frame(conn, type);
        if (conn->state != CONN_STREAM) return;
        free(conn->payload);
        conn->payload = NULL;
        conn->got = conn->taken = 0;
    }
}

void conn_step(struct conn *conn, uint32_t events) {
    if (conn->state == CONN_DEAD) return;
    if (events & (EPOLLHUP | EPOLLERR)) {
        conn_close(conn);
        return;
    }
    if (events & EPOLLOUT) conn->blocked = false;
    if (events & (EPOLLIN | EPOLLRDHUP)) conn->io.ready = true;
    if (conn->state == CONN_REQUEST && conn_fill(conn, REQUEST_BYTES_MAX)) conn_dispatch(conn);
    if (conn->state == CONN_STREAM) {
        conn_read_stream(conn);
        if (conn->state == CONN_STREAM && conn->proc) proc_mark(conn->proc);
    }
    if (conn->state == CONN_CLOSING) {
        conn_flush(conn);
        if (conn->state == CONN_CLOSING) conn_discard(conn);
    }
}

void conn_deadlines(void) {
    for (struct conn *conn = guest.conns, *next; conn; conn = next) {
        next = conn->next;
        if (!conn->deadline || conn->state == CONN_STREAM) continue;
        if (conn->deadline <= guest.now) conn_close(conn);
        else wake_by(conn->deadline);
    }
}
