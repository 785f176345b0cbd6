/* What the forked helpers share: blocking frames to one client, as one user, until _exit. */
#ifndef BELLJAR_HELPER_H
#define BELLJAR_HELPER_H

#include "guest.h"

#define HELPER_FD 3
#define HELPER_OUT_BYTES_HIGH 65536u
#define TEMPORARY_NEW ".belljar-new-"
#define TEMPORARY_OLD ".belljar-old-"
#define DRAIN_BYTES_MAX (64u << 20)

/* A directory and a name in it that is looked at without following links. */
struct target {
    int dir; /* O_PATH */
    char name[256];
};

struct helper {
    const struct request *request;
    struct user user;
    uint32_t flags;
    struct buffer out;
};

void helper_start(struct conn *conn, struct request *request);

/* All of these end the process when the client has gone. */
void helper_flush(struct helper *helper);
void helper_flush_if_full(struct helper *helper);
_Noreturn void helper_done(struct helper *helper);
_Noreturn void helper_fail(struct helper *helper, int error, const char *message);
bool helper_read(void *to, size_t bytes);
/* The path in a field of the request, or the end of the helper with the reason. */
void helper_resolve(struct helper *helper, enum tag tag, bool follow_leaf, struct target *out);
bool client_is_gone(void);

/* path.c */
int path_resolve(const struct user *user, const char *path, bool follow_leaf, struct target *out);
int path_make_parents(const struct user *user, const char *path);
int path_open(const struct target *target, int flags);

void close_keeping_errno(int fd);

/* file-read.c */
void put_stat(struct buffer *out, enum frame_type type, const char *name, const struct target *at,
              const struct stat *stat);
int target_stat(const struct target *target, struct stat *stat);
_Noreturn void op_stat(struct helper *helper);
_Noreturn void op_list(struct helper *helper);
_Noreturn void op_read(struct helper *helper);

/* file-change.c */
_Noreturn void op_write(struct helper *helper);
_Noreturn void op_mkdir(struct helper *helper);
_Noreturn void op_move(struct helper *helper);
_Noreturn void op_chmod(struct helper *helper);
_Noreturn void op_chown(struct helper *helper);
_Noreturn void op_xattr(struct helper *helper);

/* remove.c, watch.c, port.c, ports.c */
_Noreturn void op_remove(struct helper *helper);
_Noreturn void op_watch(struct helper *helper);
_Noreturn void op_port(struct helper *helper);
_Noreturn void op_ports(struct helper *helper);
_Noreturn void op_stats(struct helper *helper);

/* file-read.c: entries of a directory descriptor without the allocations of opendir */
struct entries {
    int fd;
    size_t at, length;
    _Alignas(8) char data[16384];
};
struct entry {
    const char *name;
    unsigned char type;
};
/* 1 with the next entry (never . or ..), 0 at the end, -1 with errno. */
int entries_next(struct entries *entries, struct entry *entry);

#endif
