/* The commands: their pipes, their viewers, how they end. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define PUMP_READS_MAX 8

/* One for all commands; only the pages that output really filled are ever touched. */
static uint8_t scratch[32768];

void proc_mark(struct proc *proc) {
    if (proc->dirty || proc->dead) return;
    proc->dirty = true;
    proc->dirty_next = guest.dirty;
    guest.dirty = proc;
}

void proc_viewer_add(struct proc *proc, struct conn *conn, bool owner) {
    conn_leave_waiting(conn);
    conn->state = CONN_STREAM;
    conn->deadline = 0;
    conn->owner = owner;
    conn->proc = proc;
    conn->viewer_next = proc->viewers;
    proc->viewers = conn;
}

void proc_viewer_remove(struct conn *conn) {
    struct proc *proc = conn->proc;
    conn->proc = NULL;
    for (struct conn **at = &proc->viewers; *at; at = &(*at)->viewer_next) {
        if (*at != conn) continue;
        *at = conn->viewer_next;
        break;
    }
    if (conn->owner && !proc->keep && !proc->exited) proc_stop(proc, EXIT_CANCELLED);
    proc_mark(proc); /* who was slow may have been this one */
}

/* Keeps the newest output as finished frames, so that attaching is one copy. */
static void ring_put(struct proc *proc, uint8_t type, const uint8_t *data, size_t bytes) {
    struct buffer *ring = &proc->ring;
    while (bytes) {
        size_t part = bytes < RING_FRAME_BYTES_MAX ? bytes : RING_FRAME_BYTES_MAX;
        size_t evicted = 0;
        while (ring->length - evicted + part + FRAME_HEADER_BYTES > RING_BYTES_MAX)
            evicted += FRAME_HEADER_BYTES + get_u32(ring->data + evicted);
        if (evicted) memmove(ring->data, ring->data + evicted, ring->length - evicted);
        ring->length -= evicted;
        if (ring->sent > evicted) ring->sent -= evicted;
        else ring->sent = 0;
        /* `sent` is where the last frame starts: small writes of one stream share a frame. */
        uint8_t *last = ring->length ? ring->data + ring->sent : NULL;
        uint32_t length = last ? get_u32(last) : 0;
        if (last && last[4] == type && length + part <= RING_FRAME_BYTES_MAX) {
            buffer_put(ring, data, part);
            if (!ring->failed) set_u32(ring->data + ring->sent, length + (uint32_t)part);
        } else {
            size_t start = ring->length;
            frame_put(ring, type, data, part);
            if (!ring->failed) ring->sent = start;
        }
        if (ring->failed) buffer_free(ring); /* losing old output beats dying */
        data += part;
        bytes -= part;
    }
}

static bool proc_has_room(const struct proc *proc) {
    for (struct conn *conn = proc->viewers; conn; conn = conn->viewer_next)
        if (buffer_pending(&conn->out) >= OUTPUT_BYTES_HIGH) return false;
    return true;
}

static void proc_deliver(struct proc *proc, uint8_t type, const uint8_t *data, size_t bytes) {
    if (proc->discard) return;
    for (struct conn *conn = proc->viewers; conn; conn = conn->viewer_next)
        frame_put(&conn->out, type, data, bytes);
    if (!proc->keep) return;
    proc->delivered[type == SAY_STDERR] += bytes;
    ring_put(proc, type, data, bytes);
}

static void proc_read(struct proc *proc, struct source *from, uint8_t type) {
    uint32_t *tail_left = &proc->tail_left[from == &proc->err];
    for (int i = 0; i < PUMP_READS_MAX && from->ready && from->fd >= 0; i++) {
        if (!proc->discard && !proc_has_room(proc)) return;
        size_t want = sizeof scratch;
        if (proc->tail && !proc->discard && *tail_left < want) want = *tail_left;
        if (!want) return;
        ssize_t count = read(from->fd, scratch, want);
        if (count > 0) {
            proc_deliver(proc, type, scratch, (size_t)count);
            if (proc->tail) *tail_left -= (uint32_t)count < *tail_left ? (uint32_t)count : *tail_left;
        } else if (count < 0 && errno == EAGAIN) {
            from->ready = false;
            *tail_left = 0;
        } else if (count == 0 || errno != EINTR) {
            unwatch_source(from); /* end, or EIO: the last user of the terminal is gone */
            *tail_left = 0;
        }
    }
    if (from->ready && from->fd >= 0) proc_mark(proc);
}

/* The status pipe is empty when execve closed it, or holds the reason why there is no command. */
static bool proc_check_started(struct proc *proc) {
    struct spawn_failure failure;
    ssize_t count = read(proc->status.fd, &failure, sizeof failure);
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    unwatch_source(&proc->status);
    if (count == 0 && !proc->failed) {
        uint8_t pid[4];
        set_u32(pid, (uint32_t)proc->pid);
        for (struct conn *conn = proc->viewers; conn; conn = conn->viewer_next)
            frame_put(&conn->out, SAY_STARTED, pid, sizeof pid);
        proc->started = true;
        proc->cork_at = guest.now + CORK_MS;
        wake_by(proc->cork_at);
        return true;
    }
    proc->failed = true;
    bool whole = count == (ssize_t)sizeof failure;
    if (whole) failure.code[sizeof failure.code - 1] = 0;
    while (proc->viewers)
        conn_refuse(proc->viewers, whole ? failure.error : EIO, whole ? failure.code : NULL, NULL);
    if (proc->exited) proc_free(proc);
    return false;
}

/* A reported command stays while its result is kept, its group dies or its pipes are held. */
static void proc_settle(struct proc *proc) {
    bool open = proc->out.fd >= 0 || proc->err.fd >= 0;
    if (proc->discard && !open) {
        proc->discard = false;
        guest.linger_count--;
    }
    if (!proc->keep && !proc->kill_at && !open) proc_free(proc);
}

void proc_pump(struct proc *proc) {
    if (proc->dead) return;
    if (!proc->started && (proc->status.fd < 0 || !proc_check_started(proc))) return;
    for (struct conn *conn = proc->viewers, *next; conn; conn = next) {
        next = conn->viewer_next;
        conn_read_stream(conn);
    }
    proc_read(proc, &proc->out, SAY_STDOUT);
    proc_read(proc, &proc->err, SAY_STDERR);
    bool drained = proc->out.fd < 0 && proc->err.fd < 0;
    if (proc->tail) drained |= !proc->tail_left[0] && !proc->tail_left[1];
    if (proc->exited && !proc->reported && drained) proc_finish(proc);
    for (struct conn *conn = proc->viewers, *next; conn; conn = next) {
        next = conn->viewer_next;
        bool corked = proc->cork_at && buffer_pending(&conn->out) < CORK_BYTES_MAX;
        if (!corked) conn_flush(conn);
    }
    if (proc->reported) proc_settle(proc);
}

int proc_signal(const struct proc *proc, int signal) {
    int result = kill(-proc->pid, signal);
    /* Between fork and setsid there is no group yet. */
    if (result < 0 && errno == ESRCH && !proc->exited) result = kill(proc->pid, signal);
    return result;
}

void proc_stop(struct proc *proc, uint8_t reason) {
    if (proc->stopping != STOP_NONE || proc->exited) return;
    proc->stopping = STOP_TERM;
    proc->reason = reason;
    proc->kill_at = proc->group_until = guest.now + proc->grace_ms;
    wake_by(proc->kill_at);
    proc_signal(proc, SIGTERM);
    proc_signal(proc, SIGCONT);
}

void proc_exited(pid_t pid, int wait_status, const struct rusage *usage) {
    struct proc *proc = guest.procs;
    while (proc && (proc->pid != pid || proc->exited)) proc = proc->next;
    if (!proc) return; /* an orphan */
    proc->exited = true;
    guest.running_count--;
    proc->wait_status = wait_status;
    proc->max_rss_bytes = (uint64_t)usage->ru_maxrss * 1024;
    proc->cpu_time_us = (uint64_t)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000
        + (uint64_t)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
    proc->kill_at = 0;
    if (proc->stopping == STOP_TERM) {
        /* The rest of the group keeps its grace; its number is watched while it exists. */
        proc->kill_at = guest.now + GROUP_POLL_MS;
        wake_by(proc->kill_at);
    }
    unwatch_source(&proc->in);
    proc->out.ready = proc->err.ready = true;
    proc->drain_at = guest.now + DRAIN_MS;
    wake_by(proc->drain_at);
    if (proc->failed && proc->status.fd < 0) proc_free(proc);
    else proc_mark(proc);
}

static void proc_kill_due(struct proc *proc) {
    if (!proc->exited && proc->stopping == STOP_NONE) {
        proc_stop(proc, EXIT_TIMEOUT);
        return;
    }
    if (!proc->exited || proc->group_until <= guest.now) {
        proc_signal(proc, SIGKILL);
        proc->stopping = STOP_KILL;
        proc->kill_at = 0;
    } else if (kill(-proc->pid, 0) < 0) proc->kill_at = 0;
    else proc->kill_at = guest.now + GROUP_POLL_MS;
    if (!proc->kill_at) proc_mark(proc);
}

static uint32_t bytes_waiting(const struct source *from) {
    int count = 0;
    if (from->fd < 0 || ioctl(from->fd, FIONREAD, &count) < 0 || count < 0) return 0;
    return (uint32_t)count;
}

static void proc_deadline(struct proc *proc) {
    if (proc->kill_at && proc->kill_at <= guest.now) proc_kill_due(proc);
    if (proc->cork_at && proc->cork_at <= guest.now) {
        proc->cork_at = 0;
        proc_mark(proc);
    }
    if (proc->drain_at && proc->drain_at <= guest.now) {
        /* Somebody else holds the pipes: what is in them now still belongs to the command. */
        proc->drain_at = 0;
        proc->tail = true;
        proc->tail_left[0] = bytes_waiting(&proc->out);
        proc->tail_left[1] = bytes_waiting(&proc->err);
        proc_mark(proc);
    }
    if (proc->kill_at) wake_by(proc->kill_at);
    if (proc->cork_at) wake_by(proc->cork_at);
    if (proc->drain_at) wake_by(proc->drain_at);
}

void proc_deadlines(void) {
    for (struct proc *proc = guest.procs, *next; proc; proc = next) {
        next = proc->next;
        proc_deadline(proc);
    }
}

void proc_free(struct proc *proc) {
    if (proc->dead) return;
    proc->dead = true;
    if (proc->discard) guest.linger_count--;
    if (proc->keep && proc->reported) guest.finished_count--;
    while (proc->viewers) conn_finish(proc->viewers);
    struct source *sources[] = {&proc->out, &proc->err, &proc->in, &proc->status};
    for (size_t i = 0; i < 4; i++) unwatch_source(sources[i]);
    if (proc->previous) proc->previous->next = proc->next;
    else guest.procs = proc->next;
    if (proc->next) proc->next->previous = proc->previous;
    buffer_free(&proc->ring);
    free(proc->tag);
    free(proc->cwd);
    free(proc->command);
    proc->next = guest.dead_procs;
    guest.dead_procs = proc;
}
