/*
 * The guest is PID 1 of a sandbox. One epoll loop accepts connections and starts commands; every
 * operation that touches files or networks runs in a forked helper that has become the chosen user,
 * so nothing in the sandbox can make PID 1 wait and the kernel checks every permission.
 */
#ifndef BELLJAR_GUEST_H
#define BELLJAR_GUEST_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "wire.h"

#define GUEST_VERSION "0.1.0"
#define PROTOCOL_VERSION 1u

#define REQUEST_TIMEOUT_MS 10000   /* a request that is not complete by then is closed */
#define CROWDED_TIMEOUT_MS 1000    /* the same while others queue for its place */
#define WAITING_COUNT_MAX 256      /* connections without a complete request */
#define PROCESS_COUNT_MAX 1024     /* commands that run at once */
#define FINISHED_COUNT_MAX 64      /* kept results of finished commands */
#define LINGER_COUNT_MAX 64        /* finished commands whose pipes a background child holds */
#define HELPER_COUNT_MAX 256       /* file, watch and port operations at once */
#define OUTPUT_BYTES_HIGH 65536u   /* unsent bytes at which a command's pipes are left alone */
#define CORK_BYTES_MAX 16384u      /* unsent bytes that end the wait for a short command */
#define CORK_MS 3                  /* a command that ends sooner costs its client one read */
#define DRAIN_MS 400               /* how long a background child may delay EXIT */
#define CLOSING_MS 2000            /* how long a refused client may keep sending */
#define GRACE_MS_DEFAULT 5000      /* between TERM and KILL */
#define GROUP_POLL_MS 50           /* how often a dying process group is looked at */
#define OOM_SCORE_MORE 100         /* what every child has more than PID 1 */
#define ACCEPT_RETRY_MS 50         /* after running out of descriptors or memory */
#define RING_BYTES_MAX 81920u      /* kept output: 64 KiB and the headers of its frames */
#define RING_FRAME_BYTES_MAX 8192u
#define SUPPLEMENTARY_GROUPS_MAX 64
#define USER_FILE_BYTES_MAX (1u << 20)

struct source {
    enum { SOURCE_LISTEN, SOURCE_SIGNAL, SOURCE_CONN, SOURCE_PROC } kind;
    int fd;
    bool ready;
    void *owner;
};

struct proc;

struct conn {
    struct source io;
    enum { CONN_REQUEST, CONN_STREAM, CONN_CLOSING, CONN_DEAD } state;
    bool blocked; /* the last send said EAGAIN */
    bool owner;   /* closing it cancels a command that is not kept */
    uint8_t header[FRAME_HEADER_BYTES];
    uint32_t got;    /* bytes of header and payload so far */
    uint32_t length; /* of the payload */
    uint32_t taken;  /* bytes of a STDIN payload already passed on */
    uint8_t *payload;
    struct buffer out;
    int64_t deadline;
    struct proc *proc;
    struct conn *viewer_next;
    struct conn *next, *previous;
};

struct proc {
    struct source out, err, in, status;
    pid_t pid;
    bool started, failed, exited, reported, keep, terminal, discard, tail, dirty, dead, stdin_ended;
    enum { STOP_NONE, STOP_TERM, STOP_KILL } stopping;
    uint8_t reason; /* enum exit_reason, when a stop was asked for */
    int wait_status;
    uint32_t grace_ms;
    uint32_t tail_left[2];
    int64_t kill_at, cork_at, drain_at, group_until;
    uint64_t started_at_ms, max_rss_bytes, cpu_time_us;
    uint64_t ended_as;     /* which end it was, counted: the oldest result makes room */
    uint64_t delivered[2]; /* bytes of stdout and stderr so far, of kept commands */
    struct buffer ring;
    struct conn *viewers;
    char *tag, *cwd, *command;
    size_t command_bytes;
    struct proc *next, *previous, *dirty_next;
};

struct user {
    uid_t uid;
    gid_t gid;
    size_t group_count;
    gid_t groups[SUPPLEMENTARY_GROUPS_MAX];
    char name[128], home[1024], shell[256];
};

struct guest {
    int epoll, null_fd, oom_fd, oom_score;
    bool is_init, can_switch_user;
    uid_t default_uid;
    uint32_t mapped_uid_count;
    struct rlimit open_files; /* what commands get; the guest itself has the hard limit */
    struct source listener, signals;
    int64_t now, wake_at, accept_at, shutdown_at;
    bool shutting_down;
    struct conn *conns, *dead_conns;
    struct proc *procs, *dead_procs, *dirty;
    uint64_t ended_count;
    size_t waiting_count, running_count, finished_count, linger_count, helper_count;
    pid_t helpers[HELPER_COUNT_MAX];
};

extern struct guest guest;

/* main.c */
void wake_by(int64_t when);
int watch_source(struct source *source, uint32_t events);
void unwatch_source(struct source *source);
void shutdown_begin(uint32_t grace_ms);
pid_t guest_fork(void);

/* conn.c */
void conn_accept(void);
void conn_leave_waiting(struct conn *conn);
void conn_step(struct conn *conn, uint32_t events);
void conn_deadlines(void);
void conn_refuse(struct conn *conn, int error, const char *code, const char *message);
void conn_flush(struct conn *conn);
void conn_finish(struct conn *conn);
void conn_close(struct conn *conn);
void conn_read_stream(struct conn *conn);

/* proc.c */
void proc_start(struct conn *conn, struct request *request);
void proc_mark(struct proc *proc);
void proc_pump(struct proc *proc);
void proc_viewer_add(struct proc *proc, struct conn *conn, bool owner);
void proc_viewer_remove(struct conn *conn);
int proc_signal(const struct proc *proc, int signal);
void proc_stop(struct proc *proc, uint8_t reason);
void proc_finish(struct proc *proc);
void proc_free(struct proc *proc);
void proc_exited(pid_t pid, int wait_status, const struct rusage *usage);
void proc_deadlines(void);
struct proc *proc_find(const struct request *request);

/* process-ops.c: what is answered from the table of commands */
void op_attach(struct conn *conn, const struct request *request);
void op_processes(struct conn *conn);
void op_signal(struct conn *conn, const struct request *request);
void op_forget(struct conn *conn, const struct request *request);
void op_hello(struct conn *conn);
void proc_client_frame(struct conn *conn, uint8_t type);

/* spawn.c */
struct spawn {
    struct request *request;
    int in, out, err, status, terminal; /* the child's ends, -1 where there is none */
};
struct spawn_failure {
    int error;
    char code[16];
};
_Noreturn void spawn_child(const struct spawn *spawn);

/* user.c */
bool user_find(const char *spec, struct user *user);
bool user_parse(const char *spec, char *passwd, char *group, struct user *user);
bool group_find(const char *spec, gid_t *gid);
void user_name_of(uid_t uid, char *name, size_t size);
void group_name_of(gid_t gid, char *name, size_t size);
int user_become(const struct user *user);
void user_detect_mapping(void);
char *read_small_file(const char *path, size_t bytes_max);

#endif
