/* Changing: contents, directories, names, modes, owners, attributes. Never through a link. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "helper.h"

#define XATTR_BYTES_MAX 65536
#define TEMPORARY_TRIES_MAX 8
#define RENAME_NO_REPLACE 1u

static void make_parents(struct helper *helper, enum tag tag) {
    if (!(helper->flags & FILE_PARENTS)) return;
    if (path_make_parents(&helper->user, request_string(helper->request, tag)) < 0)
        helper_fail(helper, errno, NULL);
}

static _Noreturn void answer_stat(struct helper *helper, const struct target *target) {
    struct stat stat;
    if (target_stat(target, &stat) < 0) helper_fail(helper, errno, NULL);
    put_stat(&helper->out, SAY_OK, target->name, target, &stat);
    helper_done(helper);
}

/* Copies DATA frames to fd until END. Returns an errno, or -1 when the client has gone. */
static int receive_body(int fd) {
    static uint8_t data[DATA_BYTES_MAX];
    for (;;) {
        uint8_t header[FRAME_HEADER_BYTES];
        uint32_t length;
        if (!helper_read(header, sizeof header)) return -1;
        if (!frame_header_parse(header, DATA_BYTES_MAX, &length)) return EBADMSG;
        if (header[4] == SEND_END && length == 0) return 0;
        if (header[4] != SEND_DATA) return EBADMSG;
        if (!helper_read(data, length)) return -1;
        for (uint32_t at = 0; at < length;) {
            ssize_t count = write(fd, data + at, length - at);
            if (count < 0 && errno == EINTR) continue;
            if (count < 0) return errno;
            at += (uint32_t)count;
        }
    }
}

/* Watchers read from the name whether the rename will create a file or change one. */
static int open_temporary(const struct target *target, struct target *temporary) {
    struct stat stat;
    int fd = -1;
    const char *prefix = target_stat(target, &stat) < 0 ? TEMPORARY_NEW : TEMPORARY_OLD;
    temporary->dir = target->dir;
    for (int i = 0; i < TEMPORARY_TRIES_MAX; i++) {
        uint64_t random = 0;
        if (getrandom(&random, sizeof random, 0) < 0) return -1;
        snprintf(temporary->name, sizeof temporary->name, "%s%016llx", prefix,
                 (unsigned long long)random);
        fd = path_open(temporary, O_WRONLY | O_CREAT | O_EXCL);
        if (fd >= 0 || errno != EEXIST) break;
    }
    return fd;
}

/* What may be written over: nothing yet, or a regular file. Gives the mode to use. */
static mode_t check_existing(struct helper *helper, const struct target *target) {
    struct stat stat;
    mode_t mode = (mode_t)request_u32(helper->request, TAG_MODE, 0644);
    if (target_stat(target, &stat) < 0) {
        if (errno != ENOENT) helper_fail(helper, errno, NULL);
        return mode;
    }
    if (S_ISLNK(stat.st_mode)) helper_fail(helper, ELOOP, "the path is a symbolic link");
    if (S_ISDIR(stat.st_mode)) helper_fail(helper, EISDIR, NULL);
    if (!S_ISREG(stat.st_mode)) helper_fail(helper, EMEDIUMTYPE, "not a regular file");
    if (helper->flags & FILE_NO_REPLACE) helper_fail(helper, EEXIST, NULL);
    return request_has(helper->request, TAG_MODE) ? mode : stat.st_mode & 07777;
}

static _Noreturn void append(struct helper *helper, const struct target *target, mode_t mode) {
    struct stat stat;
    bool fresh = target_stat(target, &stat) < 0;
    int fd = path_open(target, O_WRONLY | O_APPEND | O_CREAT);
    if (fd < 0 || fstat(fd, &stat) < 0) helper_fail(helper, errno, NULL);
    if (!S_ISREG(stat.st_mode)) helper_fail(helper, EMEDIUMTYPE, "not a regular file");
    if (fresh) fchmod(fd, mode);
    int error = receive_body(fd);
    if (error == 0 && (helper->flags & FILE_SYNC) && fsync(fd) < 0) error = errno;
    if (error) helper_fail(helper, error < 0 ? ECONNABORTED : error, NULL);
    answer_stat(helper, target);
}

_Noreturn void op_write(struct helper *helper) {
    struct target target, temporary;
    if (request_u32(helper->request, TAG_MODE, 0) > 07777) helper_fail(helper, EINVAL, "mode");
    make_parents(helper, TAG_PATH);
    helper_resolve(helper, TAG_PATH, false, &target);
    if (strcmp(target.name, ".") == 0) helper_fail(helper, EISDIR, NULL);
    mode_t mode = check_existing(helper, &target);
    if (helper->flags & FILE_APPEND) append(helper, &target, mode);
    int fd = open_temporary(&target, &temporary);
    if (fd < 0) helper_fail(helper, errno, NULL);
    int error = receive_body(fd);
    if (error == 0 && fchmod(fd, mode) < 0) error = errno;
    if (error == 0 && (helper->flags & FILE_SYNC) && fsync(fd) < 0) error = errno;
    if (close(fd) < 0 && error == 0) error = errno;
    unsigned flags = helper->flags & FILE_NO_REPLACE ? RENAME_NO_REPLACE : 0;
    if (error == 0
        && syscall(SYS_renameat2, temporary.dir, temporary.name, target.dir, target.name, flags) < 0)
        error = errno;
    if (error) {
        unlinkat(temporary.dir, temporary.name, 0);
        helper_fail(helper, error < 0 ? ECONNABORTED : error, NULL);
    }
    if (helper->flags & FILE_SYNC) {
        int dir = openat(target.dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir < 0 || fsync(dir) < 0) helper_fail(helper, errno, "the rename is not on disk");
    }
    answer_stat(helper, &target);
}

_Noreturn void op_mkdir(struct helper *helper) {
    struct target target;
    struct stat stat;
    uint32_t mode = request_u32(helper->request, TAG_MODE, 0755);
    if (mode > 07777) helper_fail(helper, EINVAL, "mode");
    make_parents(helper, TAG_PATH);
    helper_resolve(helper, TAG_PATH, false, &target);
    if (mkdirat(target.dir, target.name, mode & 0777) < 0) {
        int error = errno;
        bool there = error == EEXIST && (helper->flags & FILE_PARENTS)
            && target_stat(&target, &stat) == 0 && S_ISDIR(stat.st_mode);
        if (!there) helper_fail(helper, error, NULL);
    } else if (request_has(helper->request, TAG_MODE)) {
        /* The umask, and mkdir itself, take bits away. */
        int fd = path_open(&target, O_RDONLY | O_DIRECTORY);
        if (fd < 0 || fchmod(fd, mode) < 0) helper_fail(helper, errno, NULL);
    }
    answer_stat(helper, &target);
}

_Noreturn void op_move(struct helper *helper) {
    struct target from, to;
    make_parents(helper, TAG_TO);
    helper_resolve(helper, TAG_PATH, false, &from);
    helper_resolve(helper, TAG_TO, false, &to);
    unsigned flags = helper->flags & FILE_NO_REPLACE ? RENAME_NO_REPLACE : 0;
    if (syscall(SYS_renameat2, from.dir, from.name, to.dir, to.name, flags) < 0)
        helper_fail(helper, errno, NULL);
    answer_stat(helper, &to);
}

/* The file itself as O_PATH: what is checked here is what changes, whatever its name becomes. */
static int open_itself(struct helper *helper, struct target *target, char *proc_path, size_t size) {
    struct stat stat;
    helper_resolve(helper, TAG_PATH, false, target);
    int fd = openat(target->dir, target->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) < 0) helper_fail(helper, errno, NULL);
    if (S_ISLNK(stat.st_mode)) helper_fail(helper, ELOOP, "the path is a symbolic link");
    snprintf(proc_path, size, "/proc/self/fd/%d", fd);
    return fd;
}

_Noreturn void op_chmod(struct helper *helper) {
    struct target target;
    char itself[40];
    uint32_t mode = request_u32(helper->request, TAG_MODE, 0);
    if (mode > 07777) helper_fail(helper, EINVAL, "mode");
    open_itself(helper, &target, itself, sizeof itself);
    if (chmod(itself, mode) < 0) helper_fail(helper, errno, NULL);
    answer_stat(helper, &target);
}

_Noreturn void op_chown(struct helper *helper) {
    struct target target;
    char itself[40];
    struct user user = {.uid = (uid_t)-1, .gid = (gid_t)-1};
    const char *owner = request_string(helper->request, TAG_OWNER);
    const char *group = request_string(helper->request, TAG_GROUP);
    if (owner && !user_find(owner, &user)) helper_fail(helper, 0, "no such user");
    if (group && !group_find(group, &user.gid)) helper_fail(helper, 0, "no such group");
    int fd = open_itself(helper, &target, itself, sizeof itself);
    if (fchownat(fd, "", user.uid, user.gid, AT_EMPTY_PATH) < 0) helper_fail(helper, errno, NULL);
    answer_stat(helper, &target);
}

static void put_names_of(struct buffer *out, const char *list, ssize_t length) {
    for (const char *name = list; name < list + length; name += strlen(name) + 1)
        if (strncmp(name, "user.", 5) == 0) put_string(out, TAG_NAME, name);
}

_Noreturn void op_xattr(struct helper *helper) {
    struct target target;
    char itself[40];
    const struct request *request = helper->request;
    const char *name = request_string(request, TAG_NAME);
    const struct span *value = &request->field[TAG_VALUE];
    if (name && strncmp(name, "user.", 5) != 0) helper_fail(helper, EINVAL, "not a user attribute");
    open_itself(helper, &target, itself, sizeof itself);
    ssize_t count = 0;
    static char data[XATTR_BYTES_MAX + 1]; /* one more: the list always ends in NUL */
    if (request->type == OP_XATTR_GET) count = getxattr(itself, name, data, XATTR_BYTES_MAX);
    else if (request->type == OP_XATTR_LIST) count = listxattr(itself, data, XATTR_BYTES_MAX);
    else if (request->type == OP_XATTR_SET) count = setxattr(itself, name, value->data, value->length, 0);
    else count = removexattr(itself, name);
    if (count < 0) helper_fail(helper, errno, NULL);
    size_t start = frame_begin(&helper->out, SAY_OK);
    if (request->type == OP_XATTR_GET) put_bytes(&helper->out, TAG_VALUE, data, (size_t)count);
    if (request->type == OP_XATTR_LIST) put_names_of(&helper->out, data, count);
    frame_end(&helper->out, start);
    helper_done(helper);
}
