/* What is answered from the table of commands, and the report at a command's end. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define SIGNAL_MAX 64u
#define EXIT_BYTES 28

static bool proc_matches(const struct proc *proc, const struct request *request) {
    const char *tag = request_string(request, TAG_TAG);
    if (tag) return proc->tag && strcmp(proc->tag, tag) == 0;
    return proc->pid == (pid_t)request_u32(request, TAG_PID, 0);
}

/* A running command before a finished one, the newest first. */
struct proc *proc_find(const struct request *request) {
    struct proc *finished = NULL;
    for (struct proc *proc = guest.procs; proc; proc = proc->next) {
        if (!proc->started || !proc_matches(proc, request)) continue;
        if (!proc->reported) return proc;
        if (proc->keep && !finished) finished = proc;
    }
    return finished;
}

static void encode_exit(const struct proc *proc, uint8_t frame[EXIT_BYTES]) {
    memset(frame, 0, EXIT_BYTES);
    bool exited = WIFEXITED(proc->wait_status);
    frame[0] = exited ? EXIT_EXITED : EXIT_SIGNALED;
    if (proc->stopping != STOP_NONE) frame[0] = proc->reason;
    set_u32(frame + 4, exited ? (uint32_t)WEXITSTATUS(proc->wait_status) : UINT32_MAX);
    set_u32(frame + 8, exited ? 0 : (uint32_t)WTERMSIG(proc->wait_status));
    set_u32(frame + 12, (uint32_t)proc->max_rss_bytes);
    set_u32(frame + 16, (uint32_t)(proc->max_rss_bytes >> 32));
    set_u32(frame + 20, (uint32_t)proc->cpu_time_us);
    set_u32(frame + 24, (uint32_t)(proc->cpu_time_us >> 32));
}

static void put_exit(struct buffer *out, const struct proc *proc) {
    uint8_t frame[EXIT_BYTES];
    encode_exit(proc, frame);
    frame_put(out, SAY_EXIT, frame, sizeof frame);
}

static void evict_finished(void) {
    struct proc *oldest = NULL;
    for (struct proc *proc = guest.procs; proc; proc = proc->next)
        if (proc->keep && proc->reported && (!oldest || proc->ended_as < oldest->ended_as)) oldest = proc;
    if (oldest) proc_free(oldest);
}

/* The command has ended and its output is in its viewers' buffers: say so. */
void proc_finish(struct proc *proc) {
    proc->reported = true;
    proc->ended_as = ++guest.ended_count;
    proc->drain_at = proc->cork_at = 0;
    while (proc->viewers) {
        put_exit(&proc->viewers->out, proc);
        conn_finish(proc->viewers);
    }
    if (proc->terminal) unwatch_source(&proc->out);
    if (proc->keep && ++guest.finished_count > FINISHED_COUNT_MAX) evict_finished();
    if (proc->out.fd < 0 && proc->err.fd < 0) return;
    if (guest.linger_count < LINGER_COUNT_MAX) {
        /* A server left in the background must not die of SIGPIPE: its output is thrown away. */
        proc->discard = true;
        guest.linger_count++;
        return;
    }
    unwatch_source(&proc->out);
    unwatch_source(&proc->err);
}

static struct proc *find_or_refuse(struct conn *conn, const struct request *request) {
    bool one = request_has(request, TAG_PID) != request_has(request, TAG_TAG);
    struct proc *proc = one ? proc_find(request) : NULL;
    if (!one) conn_refuse(conn, EINVAL, NULL, "give either a pid or a tag");
    else if (!proc) conn_refuse(conn, ESRCH, NULL, "no such command");
    return proc;
}

/* Where in each stream the kept output starts, so that who was here before knows what is new. */
static void put_attached(struct buffer *out, const struct proc *proc) {
    uint64_t from[2] = {proc->delivered[0], proc->delivered[1]};
    const struct buffer *ring = &proc->ring;
    for (size_t at = 0; at < ring->length; at += FRAME_HEADER_BYTES + get_u32(ring->data + at))
        from[ring->data[at + 4] == SAY_STDERR] -= get_u32(ring->data + at);
    uint8_t started[20];
    set_u32(started, (uint32_t)proc->pid);
    for (int i = 0; i < 2; i++) {
        set_u32(started + 4 + 8 * i, (uint32_t)from[i]);
        set_u32(started + 8 + 8 * i, (uint32_t)(from[i] >> 32));
    }
    frame_put(out, SAY_STARTED, started, sizeof started);
}

void op_attach(struct conn *conn, const struct request *request) {
    struct proc *proc = find_or_refuse(conn, request);
    if (!proc) return;
    put_attached(&conn->out, proc);
    buffer_put(&conn->out, proc->ring.data, proc->ring.length);
    if (proc->reported) {
        put_exit(&conn->out, proc);
        conn_finish(conn);
        return;
    }
    proc_viewer_add(proc, conn, false);
    proc_mark(proc);
}

static void put_process(struct buffer *out, const struct proc *proc) {
    uint8_t exit_frame[EXIT_BYTES];
    size_t start = frame_begin(out, SAY_ENTRY);
    put_u32(out, TAG_PID, (uint32_t)proc->pid);
    put_string(out, TAG_TAG, proc->tag);
    for (size_t at = 0; at < proc->command_bytes; at += strlen(proc->command + at) + 1)
        put_string(out, TAG_ARG, proc->command + at);
    put_string(out, TAG_CWD, proc->cwd);
    put_u64(out, TAG_STARTED_AT_MS, proc->started_at_ms);
    put_u32(out, TAG_FLAGS, (proc->terminal ? EXEC_TERMINAL : 0u) | (proc->keep ? EXEC_KEEP : 0u));
    put_u32(out, TAG_STATE, proc->reported);
    if (proc->reported) {
        encode_exit(proc, exit_frame);
        put_bytes(out, TAG_EXIT, exit_frame, sizeof exit_frame);
    }
    frame_end(out, start);
}

void op_processes(struct conn *conn) {
    for (struct proc *proc = guest.procs; proc; proc = proc->next)
        if (proc->started && (!proc->reported || proc->keep)) put_process(&conn->out, proc);
    frame_put(&conn->out, SAY_END, NULL, 0);
    conn_finish(conn);
}

static void answer(struct conn *conn, int result, const char *message) {
    if (result < 0) {
        conn_refuse(conn, errno, NULL, message);
        return;
    }
    frame_put(&conn->out, SAY_OK, NULL, 0);
    conn_finish(conn);
}

void op_signal(struct conn *conn, const struct request *request) {
    uint32_t signal = request_u32(request, TAG_SIGNAL, 0);
    struct proc *proc = find_or_refuse(conn, request);
    if (!proc) return;
    errno = EINVAL;
    int result = -1;
    if (proc->exited) errno = ESRCH;
    else if (signal >= 1 && signal <= SIGNAL_MAX) result = proc_signal(proc, (int)signal);
    answer(conn, result, proc->exited ? "the command has ended" : NULL);
}

void op_forget(struct conn *conn, const struct request *request) {
    struct proc *proc = find_or_refuse(conn, request);
    if (!proc) return;
    errno = EBUSY;
    bool running = !proc->reported;
    if (!running) proc_free(proc);
    answer(conn, running ? -1 : 0, "the command still runs");
}

void op_hello(struct conn *conn) {
    size_t start = frame_begin(&conn->out, SAY_OK);
    put_u32(&conn->out, TAG_KIND, PROTOCOL_VERSION);
    put_string(&conn->out, TAG_VERSION, GUEST_VERSION);
    put_u32(&conn->out, TAG_PID, (uint32_t)getpid());
    put_u32(&conn->out, TAG_FLAGS, (guest.is_init ? 1u : 0u) | (guest.can_switch_user ? 2u : 0u));
    put_u32(&conn->out, TAG_UID, (uint32_t)getuid());
    put_u32(&conn->out, TAG_COUNT, guest.mapped_uid_count);
    frame_end(&conn->out, start);
    conn_finish(conn);
}

void proc_client_frame(struct conn *conn, uint8_t type) {
    struct proc *proc = conn->proc;
    const uint8_t *payload = conn->payload;
    if (type == SEND_STDIN_EOF && conn->length == 0) {
        /* A terminal has no end of input; its line discipline knows ^D. */
        if (!proc->terminal) unwatch_source(&proc->in);
        else if (proc->in.fd >= 0 && write(proc->in.fd, "\004", 1) < 0) proc->in.ready = false;
    } else if (type == SEND_RESIZE && conn->length == 4) {
        struct winsize size = {
            .ws_col = (unsigned short)(payload[0] | payload[1] << 8),
            .ws_row = (unsigned short)(payload[2] | payload[3] << 8),
        };
        if (proc->terminal && proc->out.fd >= 0) ioctl(proc->out.fd, TIOCSWINSZ, &size);
    } else if (type == SEND_SIGNAL && conn->length == 4) {
        uint32_t signal = get_u32(payload);
        if (signal >= 1 && signal <= SIGNAL_MAX && !proc->exited) proc_signal(proc, (int)signal);
    } else conn_refuse(conn, EBADMSG, NULL, "the frame does not belong here");
}
