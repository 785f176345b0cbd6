/* Work that may take long is done by a forked child, so that the loop never waits for a disk. */
#include <linux/sched.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "warden.h"

#define CHUNK_BYTES 65536u

/* Its answer comes back through a pipe. */
struct worker { struct source source; struct reply_to to; struct buffer out; pid_t pid; };

static void worker_ready(struct source *source, uint32_t events)
{
    (void)events;
    struct worker *worker = (struct worker *)source;
    ssize_t n = -1;
    if (reserve(&worker->out, CHUNK_BYTES))
        n = read(source->fd, worker->out.data + worker->out.used, CHUNK_BYTES);
    if (n > 0)
        worker->out.used += (size_t)n;
    if (n > 0 || (n < 0 && errno == EINTR))
        return;
    int status = 0;
    while (waitpid(worker->pid, &status, (int)__WALL) < 0 && errno == EINTR)
        ;
    if (status == 0 && n == 0)
        reply(&worker->to, &worker->out, -1);
    else
        reply_error(&worker->to, EIO, "worker");
    source_remove(source);
    free(worker->out.data);
    free(worker);
}

static _Noreturn void worker_main(int fd, const struct plan *plan,
                                  int (*work)(const struct plan *, struct buffer *, const char **))
{
    struct buffer out = {0};
    const char *step = "worker";
    /* Clients must see the warden's death, and the next warden has this one's sockets to itself. */
    if (dup2(fd, 0) < 0 || dup2(warden.pool_fd, 1) < 0 || syscall(SYS_close_range, 3, ~0u, 0) < 0)
        _exit(1);
    fd = 0;
    warden.pool_fd = 1;
    int error = work(plan, &out, &step);
    if (error) {
        out.used = 0;
        put_error(&out, error, step);
    }
    for (size_t at = 0; at < out.used;) {
        ssize_t n = write(fd, out.data + at, out.used - at);
        if (n < 0)
            _exit(1);
        at += (size_t)n;
    }
    _exit(0);
}

void worker_run(const struct reply_to *to, const struct plan *plan,
                int (*work)(const struct plan *, struct buffer *, const char **))
{
    int ends[2];
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker || pipe2(ends, O_CLOEXEC) < 0) {
        free(worker);
        reply_error(to, errno, "worker");
        return;
    }
    struct clone_args args = {0}; /* no exit signal: children_reap is for sandboxes */
    worker->pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (worker->pid == 0)
        worker_main(ends[1], plan, work);
    close(ends[1]);
    worker->source.fd = ends[0];
    worker->source.ready = worker_ready;
    worker->to = *to;
    if (worker->pid < 0) {
        reply_error(to, errno, "worker");
        close(ends[0]);
        free(worker);
        return;
    }
    source_add(&worker->source, EPOLLIN);
}
