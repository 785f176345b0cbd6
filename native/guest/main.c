/* Start-up, the one event loop, signals and shutdown. */
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

#define EVENT_BATCH 64

enum start_failure { START_USAGE = 64, START_SOCKET = 65, START_KERNEL = 66 };

struct guest guest;

static _Noreturn void die(enum start_failure status, const char *what) {
    fprintf(stderr, "guest: %s: %s\n", what, strerror(errno));
    exit((int)status);
}

static int64_t now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

void wake_by(int64_t when) {
    if (!guest.wake_at || when < guest.wake_at) guest.wake_at = when;
}

/* Edge-triggered: a source that is left alone on purpose must not wake the loop again. */
int watch_source(struct source *source, uint32_t events) {
    struct epoll_event event = {.events = events | EPOLLET, .data.ptr = source};
    return epoll_ctl(guest.epoll, EPOLL_CTL_ADD, source->fd, &event);
}

void unwatch_source(struct source *source) {
    if (source->fd < 0) return;
    /* A forked child may share the description, so closing alone would not end the watch. */
    epoll_ctl(guest.epoll, EPOLL_CTL_DEL, source->fd, NULL);
    close(source->fd);
    source->fd = -1;
    source->ready = false;
}

static void oom_score_set(int score) {
    char text[16];
    int length = snprintf(text, sizeof text, "%d", score);
    /* Where the score may not be changed, all have the same one. */
    ssize_t written = pwrite(guest.oom_fd, text, (size_t)length, 0);
    (void)written;
}

/* Never more protected than anything else on the machine, whatever our starter was. */
static void oom_prepare(void) {
    char text[16] = {0};
    guest.oom_fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (guest.oom_fd >= 0 && read(guest.oom_fd, text, sizeof text - 1) > 0)
        guest.oom_score = (int)strtol(text, NULL, 10);
    if (guest.oom_score < 0) guest.oom_score = 0;
    oom_score_set(guest.oom_score);
}

/*
 * When memory runs out the kernel shall end a command or a helper, not PID 1 and all with it. A child
 * has the higher score from its first page on; setting it there would cost ten times as much.
 */
pid_t guest_fork(void) {
    oom_score_set(guest.oom_score + OOM_SCORE_MORE);
    pid_t pid = fork();
    int error = errno;
    if (pid != 0) oom_score_set(guest.oom_score);
    errno = error;
    return pid;
}

static void kill_everything(int signal) {
    /* Only as PID 1 does -1 mean this sandbox and nothing else. */
    if (guest.is_init) kill(-1, signal);
    else for (struct proc *proc = guest.procs; proc; proc = proc->next)
            if (!proc->exited) kill(-proc->pid, signal);
}

static void reap(void) {
    struct rusage usage;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG | WUNTRACED, &usage)) != 0) {
        if (pid < 0 && errno == EINTR) continue;
        if (pid < 0) break;
        size_t helper = 0;
        while (helper < guest.helper_count && guest.helpers[helper] != pid) helper++;
        bool stopped = WIFSTOPPED(status), ours = helper < guest.helper_count;
        /* Its user may stop a helper, but stopped it would hold its place for ever. */
        if (ours && stopped) kill(pid, SIGCONT);
        else if (ours) guest.helpers[helper] = guest.helpers[--guest.helper_count];
        else if (!stopped) proc_exited(pid, status, &usage);
    }
    /* ECHILD: not even an orphan is left. */
    if (guest.shutting_down && pid < 0 && errno == ECHILD) exit(0);
}

void shutdown_begin(uint32_t grace_ms) {
    if (guest.shutting_down) return;
    guest.shutting_down = true;
    guest.shutdown_at = guest.now + grace_ms;
    wake_by(guest.shutdown_at);
    kill_everything(SIGTERM);
    kill_everything(SIGCONT);
    /* Where nothing runs there is nothing to wait for, and no SIGCHLD that would say so. */
    reap();
}

static void read_signals(void) {
    struct signalfd_siginfo info;
    while (read(guest.signals.fd, &info, sizeof info) == (ssize_t)sizeof info) {
        /* A sender without a PID here is outside. Root inside could queue PID 0, but not this code. */
        bool outside = info.ssi_pid == 0 && info.ssi_code == SI_USER;
        if (info.ssi_signo == SIGTERM && (outside || !guest.is_init)) shutdown_begin(GRACE_MS_DEFAULT);
    }
    reap();
}

static void dispatch(const struct epoll_event *event) {
    struct source *source = event->data.ptr;
    if (source->fd < 0) return; /* closed earlier in this batch */
    switch (source->kind) {
    case SOURCE_LISTEN: source->ready = true; break;
    case SOURCE_SIGNAL: read_signals(); break;
    case SOURCE_CONN: conn_step(source->owner, event->events); break;
    case SOURCE_PROC:
        source->ready = true;
        proc_mark(source->owner);
        break;
    default: break;
    }
}

static void run_deadlines(void) {
    if (!guest.wake_at || guest.now < guest.wake_at) return;
    guest.wake_at = 0;
    if (guest.accept_at && guest.accept_at <= guest.now) {
        guest.accept_at = 0;
        guest.listener.ready = true;
    } else if (guest.accept_at) wake_by(guest.accept_at);
    if (guest.shutting_down && guest.shutdown_at <= guest.now) {
        kill_everything(SIGKILL);
        exit(0);
    } else if (guest.shutting_down) wake_by(guest.shutdown_at);
    conn_deadlines();
    proc_deadlines();
}

static void free_dead(void) {
    while (guest.dead_conns) {
        struct conn *conn = guest.dead_conns;
        guest.dead_conns = conn->next;
        free(conn);
    }
    for (struct proc **at = &guest.dead_procs, *proc; (proc = *at);) {
        if (proc->dirty) { /* still linked for the next round */
            at = &proc->next;
            continue;
        }
        *at = proc->next;
        free(proc);
    }
}

static void run_dirty(void) {
    struct proc *proc = guest.dirty;
    guest.dirty = NULL; /* what is marked from here on waits for the next round */
    while (proc) {
        struct proc *next = proc->dirty_next;
        proc->dirty = false;
        proc_pump(proc);
        proc = next;
    }
}

static int loop_timeout(void) {
    if (guest.dirty || guest.listener.ready) return 0;
    if (!guest.wake_at) return -1;
    int64_t left = guest.wake_at - guest.now;
    return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

static _Noreturn void loop(void) {
    struct epoll_event events[EVENT_BATCH];
    for (;;) {
        int count = epoll_wait(guest.epoll, events, EVENT_BATCH, loop_timeout());
        guest.now = now_ms();
        for (int i = 0; i < count; i++) dispatch(&events[i]);
        if (guest.listener.ready) conn_accept();
        run_deadlines();
        run_dirty();
        free_dead();
    }
}

static void signals_prepare(void) {
    for (int signal = 1; signal < NSIG; signal++) {
        struct sigaction action = {.sa_handler = SIG_DFL};
        sigaction(signal, &action, NULL); /* commands must not inherit an ignored signal */
    }
    sigset_t all, wanted;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    sigaddset(&wanted, SIGTERM);
    int fd = signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
    if (fd < 0) die(START_KERNEL, "signalfd");
    guest.signals = (struct source){.kind = SOURCE_SIGNAL, .fd = fd};
}

static void prepare(int listen_fd) {
    int listening = 0;
    socklen_t size = sizeof listening;
    if (getsockopt(listen_fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening)
        die(START_SOCKET, "the descriptor is not a listening socket");
    fcntl(listen_fd, F_SETFD, FD_CLOEXEC);
    fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK);
    guest.listener = (struct source){.kind = SOURCE_LISTEN, .fd = listen_fd, .ready = true};
    guest.is_init = getpid() == 1;
    if (!guest.is_init) prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_DUMPABLE, 0); /* nobody inside reads our memory or takes our descriptors */
    umask(022);
    guest.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (guest.null_fd < 0) die(START_KERNEL, "/dev/null");
    oom_prepare();
    getrlimit(RLIMIT_NOFILE, &guest.open_files);
    struct rlimit raised = {guest.open_files.rlim_max, guest.open_files.rlim_max};
    setrlimit(RLIMIT_NOFILE, &raised);
    signals_prepare();
    guest.now = now_ms();
    guest.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (guest.epoll < 0) die(START_KERNEL, "epoll_create1");
    if (watch_source(&guest.listener, EPOLLIN) < 0 || watch_source(&guest.signals, EPOLLIN) < 0)
        die(START_KERNEL, "epoll_ctl");
    user_detect_mapping();
}

static unsigned long number(const char *text, unsigned long max) {
    char *end;
    errno = 0;
    unsigned long value = text ? strtoul(text, &end, 10) : 0;
    if (!text || errno || *end || end == text || *text == '-' || value > max) {
        errno = EINVAL;
        die(START_USAGE, "usage: guest --listen-fd N [--user-uid N]");
    }
    return value;
}

int main(int argc, char **argv) {
    unsigned long listen_fd = 0;
    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--listen-fd") == 0) listen_fd = number(value, INT_MAX);
        else if (strcmp(argv[i], "--user-uid") == 0)
            guest.default_uid = (uid_t)number(value, UINT32_MAX - 1);
        else number(NULL, 0);
    }
    if (listen_fd < 3) number(NULL, 0);
    prepare((int)listen_fd);
    loop();
}
