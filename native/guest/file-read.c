/* Looking: one file, a directory, a file's bytes. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "helper.h"

#define LIST_DEPTH_MAX 32u

int entries_next(struct entries *entries, struct entry *entry) {
    for (;;) {
        if (entries->at >= entries->length) {
            long count = syscall(SYS_getdents64, entries->fd, entries->data, sizeof entries->data);
            if (count <= 0) return (int)count;
            entries->length = (size_t)count;
            entries->at = 0;
        }
        /* struct linux_dirent64: u64 inode, u64 offset, u16 length, u8 type, name */
        const char *record = entries->data + entries->at;
        unsigned short length;
        memcpy(&length, record + 16, sizeof length);
        entries->at += length;
        entry->type = (unsigned char)record[18];
        entry->name = record + 19;
        if (strcmp(entry->name, ".") != 0 && strcmp(entry->name, "..") != 0) return 1;
    }
}

static uint32_t file_type(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG: return 0;
    case S_IFDIR: return 1;
    case S_IFLNK: return 2;
    case S_IFIFO: return 3;
    case S_IFSOCK: return 4;
    default: return 5;
    }
}

/* Files of one directory mostly have one owner: the last answer is remembered. */
static void put_names(struct buffer *out, const struct stat *stat) {
    static char user_name[128], group_name[128];
    static uid_t last_uid = (uid_t)-1;
    static gid_t last_gid = (gid_t)-1;
    if (stat->st_uid != last_uid) user_name_of(stat->st_uid, user_name, sizeof user_name);
    if (stat->st_gid != last_gid) group_name_of(stat->st_gid, group_name, sizeof group_name);
    last_uid = stat->st_uid;
    last_gid = stat->st_gid;
    put_string(out, TAG_USER_NAME, user_name);
    put_string(out, TAG_GROUP_NAME, group_name);
}

void put_stat(struct buffer *out, enum frame_type type, const char *name, const struct target *at,
              const struct stat *stat) {
    int64_t mtime_ns = stat->st_mtim.tv_sec * INT64_C(1000000000) + stat->st_mtim.tv_nsec;
    size_t start = frame_begin(out, type);
    put_string(out, TAG_NAME, name);
    put_u32(out, TAG_TYPE, file_type(stat->st_mode));
    put_u64(out, TAG_SIZE, (uint64_t)stat->st_size);
    put_u32(out, TAG_MODE, stat->st_mode & 07777);
    put_u64(out, TAG_MTIME_NS, (uint64_t)mtime_ns);
    put_u32(out, TAG_UID, stat->st_uid);
    put_u32(out, TAG_GID, stat->st_gid);
    put_names(out, stat);
    if (S_ISLNK(stat->st_mode)) {
        char target[PATH_BYTES_MAX + 1];
        ssize_t length = readlinkat(at->dir, at->name, target, sizeof target);
        if (length >= 0) put_bytes(out, TAG_TARGET, target, (size_t)length);
    }
    frame_end(out, start);
}

static const char *base_name(const char *path) {
    const char *end = path + strlen(path), *slash;
    while (end > path && end[-1] == '/') end--;
    for (slash = end; slash > path && slash[-1] != '/'; slash--) continue;
    static char name[256];
    snprintf(name, sizeof name, "%.*s", (int)(end - slash), slash);
    return *name ? name : "/";
}

_Noreturn void op_stat(struct helper *helper) {
    struct target target;
    struct stat stat;
    helper_resolve(helper, TAG_PATH, !(helper->flags & FILE_NO_FOLLOW), &target);
    if (target_stat(&target, &stat) < 0) helper_fail(helper, errno, NULL);
    const char *name = base_name(request_string(helper->request, TAG_PATH));
    put_stat(&helper->out, SAY_OK, name, &target, &stat);
    helper_done(helper);
}

/* Recursion is bounded by LIST_DEPTH_MAX levels of one descriptor and one buffer each. */
static void list_directory(struct helper *helper, int fd, const char *prefix, uint32_t depth) {
    struct entries *entries = calloc(1, sizeof *entries);
    struct entry entry;
    if (!entries) helper_fail(helper, ENOMEM, NULL);
    entries->fd = fd;
    while (entries_next(entries, &entry) == 1) {
        struct target target = {.dir = fd};
        struct stat stat;
        char path[PATH_BYTES_MAX + 1];
        int length = snprintf(path, sizeof path, "%s%s", prefix, entry.name);
        snprintf(target.name, sizeof target.name, "%s", entry.name);
        if (length < 0 || (size_t)length >= sizeof path) continue;
        if (target_stat(&target, &stat) < 0) continue; /* removed since */
        put_stat(&helper->out, SAY_ENTRY, path, &target, &stat);
        helper_flush_if_full(helper);
        if (depth <= 1 || !S_ISDIR(stat.st_mode) || (size_t)length + 1 >= sizeof path) continue;
        int child = path_open(&target, O_RDONLY | O_DIRECTORY);
        if (child < 0) continue; /* listed, but not this user's to look into */
        memcpy(path + length, "/", 2);
        list_directory(helper, child, path, depth - 1);
    }
    free(entries);
    close(fd);
}

_Noreturn void op_list(struct helper *helper) {
    struct target target;
    uint32_t depth = request_u32(helper->request, TAG_DEPTH, 1);
    if (depth < 1 || depth > LIST_DEPTH_MAX) helper_fail(helper, EINVAL, "depth is 1 to 32");
    helper_resolve(helper, TAG_PATH, true, &target);
    int fd = path_open(&target, O_RDONLY | O_DIRECTORY);
    if (fd < 0) helper_fail(helper, errno, NULL);
    list_directory(helper, fd, "", depth);
    frame_put(&helper->out, SAY_END, NULL, 0);
    helper_done(helper);
}

static void send_bytes(struct helper *helper, int fd, uint64_t left) {
    while (left > 0) {
        size_t want = left < DATA_BYTES_MAX ? (size_t)left : DATA_BYTES_MAX;
        size_t start = frame_begin(&helper->out, SAY_DATA);
        if (!buffer_reserve(&helper->out, want)) _exit(1);
        ssize_t count;
        do count = read(fd, helper->out.data + helper->out.length, want);
        while (count < 0 && errno == EINTR);
        if (count <= 0) {
            helper->out.length = start;
            if (count < 0) helper_fail(helper, errno, NULL);
            return;
        }
        helper->out.length += (size_t)count;
        frame_end(&helper->out, start);
        helper_flush_if_full(helper);
        left -= (uint64_t)count;
    }
}

_Noreturn void op_read(struct helper *helper) {
    struct target target;
    struct stat stat;
    uint64_t offset = request_u64(helper->request, TAG_OFFSET, 0);
    helper_resolve(helper, TAG_PATH, true, &target);
    int fd = path_open(&target, O_RDONLY);
    if (fd < 0) helper_fail(helper, errno, NULL);
    if (fstat(fd, &stat) < 0) helper_fail(helper, errno, NULL);
    if (S_ISDIR(stat.st_mode)) helper_fail(helper, EISDIR, NULL);
    if (!S_ISREG(stat.st_mode)) helper_fail(helper, EMEDIUMTYPE, "not a regular file");
    if (offset > INT64_MAX || lseek(fd, (off_t)offset, SEEK_SET) < 0)
        helper_fail(helper, EINVAL, "the offset is out of range");
    put_stat(&helper->out, SAY_ENTRY, base_name(request_string(helper->request, TAG_PATH)), &target,
             &stat);
    send_bytes(helper, fd, request_u64(helper->request, TAG_LENGTH, UINT64_MAX));
    frame_put(&helper->out, SAY_END, NULL, 0);
    helper_done(helper);
}
