/*
 * From a path to a directory descriptor and a last name, so that what is looked at is what is used.
 * Links in the middle are followed only when root or the acting user made them: a directory that
 * several users write to must not let one of them steer another.
 */
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "helper.h"

#define LINK_COUNT_MAX 40
#define DIR_FLAGS (O_PATH | O_DIRECTORY | O_CLOEXEC)

void close_keeping_errno(int fd) {
    int error = errno;
    close(fd);
    errno = error;
}

static int open_without_links(const char *path) {
    struct open_how how = {.flags = DIR_FLAGS,
                           .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}

/* Links of procfs that jump instead of naming a path; the kernel tells them apart for us. */
static bool is_magic(int dir, const char *name, int link) {
    struct statfs fs;
    if (fstatfs(link, &fs) < 0 || fs.f_type != PROC_SUPER_MAGIC) return false;
    struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_MAGICLINKS};
    int fd = (int)syscall(SYS_openat2, dir, name, &how, sizeof how);
    if (fd >= 0) close(fd);
    return fd < 0 && errno != ENOENT;
}

struct walk {
    const struct user *user;
    int dir;
    int links;
    bool follow_leaf;
    char rest[2 * PATH_BYTES_MAX + 2];
    char name[256];
};

/* Takes the next component off walk->rest. Returns 1, 0 at the end, -1 when it is too long. */
static int next_component(struct walk *walk, bool *last) {
    char *at = walk->rest + strspn(walk->rest, "/");
    size_t length = strcspn(at, "/");
    *last = at[length + strspn(at + length, "/")] == 0;
    if (length == 0) return 0;
    if (length >= sizeof walk->name) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(walk->name, at, length);
    walk->name[length] = 0;
    memmove(walk->rest, at + length, strlen(at + length) + 1);
    return 1;
}

static int enter(struct walk *walk, int fd) {
    if (fd < 0) return -1;
    close(walk->dir);
    walk->dir = fd;
    return 0;
}

static int follow(struct walk *walk, int link, const struct stat *stat, bool last) {
    char target[PATH_BYTES_MAX + 1], joined[sizeof walk->rest];
    bool trusted = last || stat->st_uid == 0 || stat->st_uid == walk->user->uid;
    ssize_t length = -1;
    errno = ELOOP;
    if (trusted && ++walk->links <= LINK_COUNT_MAX && !is_magic(walk->dir, walk->name, link))
        length = readlinkat(link, "", target, sizeof target - 1);
    else errno = ELOOP;
    if (length < 0) return -1;
    target[length] = 0;
    int total = snprintf(joined, sizeof joined, "%s/%s", target, walk->rest);
    if (total < 0 || (size_t)total >= sizeof joined) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(walk->rest, joined, (size_t)total + 1);
    return target[0] == '/' ? enter(walk, open("/", DIR_FLAGS)) : 0;
}

/* One component. Returns 1 when walk->dir and walk->name are the answer. */
static int step(struct walk *walk) {
    bool last;
    int found = next_component(walk, &last);
    if (found <= 0) {
        snprintf(walk->name, sizeof walk->name, ".");
        return found < 0 ? -1 : 1;
    }
    if (strcmp(walk->name, ".") == 0) return 0;
    if (strcmp(walk->name, "..") == 0) return enter(walk, openat(walk->dir, "..", DIR_FLAGS));
    if (last && !walk->follow_leaf) return 1;
    int fd = openat(walk->dir, walk->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return last && errno == ENOENT ? 1 : -1;
    struct stat stat;
    int result = fstat(fd, &stat);
    if (result == 0 && S_ISLNK(stat.st_mode)) result = follow(walk, fd, &stat, last);
    else if (result == 0 && last) result = 1;
    else if (result == 0 && S_ISDIR(stat.st_mode)) return enter(walk, fd);
    else if (result == 0) {
        errno = ENOTDIR;
        result = -1;
    }
    close_keeping_errno(fd);
    return result;
}

static int walk_links(struct walk *walk, const char *path, struct target *out) {
    walk->links = 0;
    walk->dir = open(path[0] == '/' ? "/" : walk->user->home, DIR_FLAGS);
    if (walk->dir < 0) return -1;
    snprintf(walk->rest, sizeof walk->rest, "%s", path);
    int result;
    while ((result = step(walk)) == 0) continue;
    if (result < 0) {
        close_keeping_errno(walk->dir);
        return -1;
    }
    out->dir = walk->dir;
    memcpy(out->name, walk->name, sizeof out->name);
    return 0;
}

/* The usual case: no link in the directories, one call. -1 says nothing, the walk decides. */
static int resolve_fast(const char *path, bool follow_leaf, struct target *out) {
    char parent[PATH_BYTES_MAX + 1];
    snprintf(parent, sizeof parent, "%s", path);
    size_t length = strlen(parent);
    while (length > 1 && parent[length - 1] == '/') parent[--length] = 0;
    char *slash = strrchr(parent, '/');
    if (!slash || parent[0] != '/') return -1;
    const char *name = slash + 1;
    bool dots = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
    if (!*name || dots || strlen(name) >= sizeof out->name) return -1;
    memcpy(out->name, name, strlen(name) + 1);
    slash[slash == parent ? 1 : 0] = 0;
    out->dir = open_without_links(parent);
    if (out->dir < 0) return -1;
    struct stat stat;
    bool link = follow_leaf && target_stat(out, &stat) == 0 && S_ISLNK(stat.st_mode);
    if (!link) return 0;
    close(out->dir);
    return -1;
}

int path_resolve(const struct user *user, const char *path, bool follow_leaf, struct target *out) {
    if (resolve_fast(path, follow_leaf, out) == 0) return 0;
    struct walk walk = {.user = user, .follow_leaf = follow_leaf};
    return walk_links(&walk, path, out);
}

int path_make_parents(const struct user *user, const char *path) {
    char part[PATH_BYTES_MAX + 1];
    snprintf(part, sizeof part, "%s", path);
    for (char *slash = part + 1; (slash = strchr(slash, '/')); slash++) {
        struct target target;
        *slash = 0;
        if (path_resolve(user, part, false, &target) < 0) return -1;
        int made = mkdirat(target.dir, target.name, 0755);
        close_keeping_errno(target.dir);
        *slash = '/';
        /* Whatever else is wrong with it shows when the next part is looked up below it. */
        if (made < 0 && errno != EEXIST && errno != EACCES && errno != EPERM && errno != EROFS)
            return -1;
    }
    return 0;
}

int target_stat(const struct target *target, struct stat *stat) {
    return fstatat(target->dir, target->name, stat, AT_SYMLINK_NOFOLLOW);
}

/* Never through a link, and never waiting for the other end of a FIFO. */
int path_open(const struct target *target, int flags) {
    return openat(target->dir, target->name, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                  0600);
}
