/* The warden applies plans; it decides nothing. This header is the map of its files:
 * main.c (start), server.c (connections), worker.c (slow work), plan.c (parser), sandbox.c (made and ended),
 * prepare.c (before the first process), spare.c (network namespaces made ahead), child.c and mounts.c (what runs
 * inside), adopt.c (written down and found again), operate.c (freeze, dial, measure), volume.c (disks). */
#ifndef WARDEN_H
#define WARDEN_H

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WIRE_VERSION 1u
#define HEADER_BYTES 12u
#define FRAME_BYTES_MAX (256u * 1024u)
#define RECORDS_MAX 192u
#define ID_CHARS 20u
#define ROOTS_MAX 8u
#define CONNECTIONS_MAX 256u
#define SANDBOXES_MAX 8192u
#define WAITERS_MAX 8u
#define SETUP_MS_MAX 20000
#define FREEZE_MS_MAX 3000
#define DIAL_MS_MAX 2000
#define CLEAN_RETRY_MS 4
#define REAP_REST_MS 10
#define CLEAN_TRIES_MAX 500
#define PATH_BYTES 4096u

enum op {
    OP_HELLO = 1, OP_CREATE, OP_KILL, OP_FREEZE, OP_THAW, OP_LIST, OP_USAGE, OP_DIAL, OP_CHECK,
    OP_POOL_MOUNT = 20, OP_VOLUME_CREATE, OP_VOLUME_REMOVE, OP_VOLUME_USAGE, OP_VOLUME_LIST,
    OP_EXIT = 100,
};

/* Records of a request or plan. Values are u32/u64 little endian, then NUL-ended strings. */
enum tag {
    T_ID = 1, T_GUEST, T_ARG, T_ENV, T_USERNS, T_CGROUP, T_CGFILE,
    T_LAYER = 20, T_OVERLAY, T_BIND, T_TMPFS, T_PROC, T_DEVPTS, T_NODE, T_MKDIR, T_SYMLINK, T_MASK, T_SCRATCH,
    T_HOSTNAME = 40, T_LOOPBACK, T_SYSCTL, T_RLIMIT,
    T_PIVOT = 60, T_ENTER, T_CAPS, T_NO_NEW_PRIVS, T_LANDLOCK, T_SECCOMP,
    T_PORT = 80, T_VOLUME, T_POOL, T_EVENTS,
    T_ERROR = 100, T_FACTS, T_ROOT, T_SANDBOX, T_FILE, T_STATUS, T_STEP_TIME, T_NUMBERS,
};

enum bind_flags { BIND_IDMAP = 1, BIND_READ_ONLY = 2, BIND_RECURSIVE = 4, BIND_NOEXEC = 8 };
enum overlay_flags { OVERLAY_USERXATTR = 1, OVERLAY_REDIRECT = 2 };

struct record {
    uint16_t tag;
    uint64_t n[6];
    const char *s[3];
    const uint8_t *bytes;
    size_t byte_count;
};

struct plan {
    const char *id;
    const struct record *guest, *userns;
    struct record records[RECORDS_MAX];
    unsigned record_count;
};

struct buffer { uint8_t *data; size_t used, size; };

/* Anything that epoll or the clock can wake. `ready` and `expired` may free the source. */
struct source {
    int fd;
    int64_t deadline_ms;
    void (*ready)(struct source *source, uint32_t events);
    void (*expired)(struct source *source);
    struct source *previous, *next;
};

struct reply_to { uint32_t connection, generation, request, op; };

struct sandbox {
    struct source exit; /* .fd is the pidfd of an adopted one; children of our own tell by SIGCHLD */
    struct source setup; /* .fd is the child's status socket while it sets up */
    char id[ID_CHARS + 1];
    pid_t pid;
    uint64_t start_time, namespace_inode;
    int64_t created_ms;
    char *cgroups[ROOTS_MAX];
    unsigned cgroup_count;
    struct reply_to waiters[WAITERS_MAX];
    unsigned waiter_count;
    struct buffer final_usage;
    int status, error, clean_tries;
    char step[48];
    bool creating, exited, frozen, adopted, killed;
    struct sandbox *next;
};

struct warden {
    const char *run_dir, *pool, *pool_image;
    const char *roots[ROOTS_MAX];
    unsigned root_count;
    uid_t client_uid;
    int run_fd, pool_fd, net_fd;
    bool privileged, is_btrfs;
    int userns_errno;
    char boot_id[40];
    struct sandbox *sandboxes;
    unsigned sandbox_count;
};
extern struct warden warden;

/* What the child needs, all opened before the clone. */
struct child {
    const struct plan *plan;
    int status_fd, listen_fd, userns_fd, net_fd, guest_fd, tasks[ROOTS_MAX];
    unsigned task_count;
};

/* main.c */
_Noreturn void die(int status, const char *what);
int64_t now_ms(void);
void close_fd(int *fd);
#define CLEANUP_FD __attribute__((cleanup(close_fd)))

/* server.c */
void server_start(void);
void server_listen(const char *path);
void server_run(void);
void source_add(struct source *source, uint32_t events);
void source_remove(struct source *source);
void source_deadline(struct source *source, int64_t in_ms);
void reply(const struct reply_to *to, struct buffer *payload, int fd);
void reply_error(const struct reply_to *to, int error, const char *step);
void broadcast(uint32_t op, struct buffer *payload);
bool reserve(struct buffer *buffer, size_t extra);
void put(struct buffer *buffer, uint16_t tag, const void *value, size_t length);
void put_error(struct buffer *buffer, int error, const char *step);
void put_string(struct buffer *buffer, uint16_t tag, const char *text);
/* worker.c */
void worker_run(const struct reply_to *to, const struct plan *plan,
                int (*work)(const struct plan *plan, struct buffer *out, const char **step));

/* plan.c */
int plan_parse(struct plan *plan, uint32_t op, const uint8_t *bytes, size_t length);
const struct record *plan_find(const struct plan *plan, uint16_t tag);
bool id_is_valid(const char *id);

/* child.c and mounts.c: only the child of a clone ever calls these. */
struct child_state {
    const struct child *child;
    const char *step;
    int root_fd, scratch_fd;
    unsigned layers;
};
extern struct child_state state;
_Noreturn void child_main(const struct child *child);
_Noreturn void fail(void);
int check(long result);
bool mount_apply(const struct record *r);

/* sandbox.c, adopt.c, operate.c */
void sandbox_create(const struct plan *plan, const struct reply_to *to);
void sandbox_request(uint32_t op, const struct plan *plan, const struct reply_to *to);
void sandbox_list(struct buffer *out);
struct sandbox *sandbox_find(const char *id);
struct sandbox *sandbox_new(const char *id);
void sandbox_forget(struct sandbox *box);
void sandbox_adopt(struct sandbox *box, int pidfd);
void child_ended(pid_t pid);
void sandbox_kill(struct sandbox *box);
void usage_read(const struct sandbox *box, struct buffer *out);
bool cgroups_remove(struct sandbox *box);
int state_write(const struct sandbox *box);
int proc_facts(pid_t pid, uint64_t *start_time, uint64_t *namespace_inode);
int guest_open(const char *path);
int userns_make(const struct record *map, int *fd_out);
int userns_map(pid_t pid, const struct record *map);
void adopt_all(void);
int file_write(int directory, const char *path, const char *text);
ssize_t file_read(int directory, const char *path, char *text, size_t size);

/* prepare.c */
int listener_make(const char *id);
int cgroups_make(struct sandbox *box, const struct plan *plan, struct child *child, int *into);

/* spare.c */
void spare_start(void);
int spare_take(void);

/* volume.c */
void pool_open(void);
void pool_release(void);
int volume_open(int pool, const char *id);
void volume_request(uint32_t op, const struct plan *plan, const struct reply_to *to);

/* glibc has wrappers only from 2.36 on, and its header clashes with <linux/mount.h>. */
static inline int sys_openat2(int dir, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
    uint64_t how[3] = {flags | O_CLOEXEC, mode, resolve};
    return (int)syscall(SYS_openat2, dir, path, how, sizeof how);
}

#endif
