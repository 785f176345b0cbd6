/* The child's file system: mounts in the plan's order, targets resolved as the sandbox would see them. */
#include <linux/openat2.h>
#include <sys/sysmacros.h>

#include "warden.h"

#define LAYERS_MAX 64u
#define ASIDE_MAX 64u

static void mount_attributes(int fd, uint64_t set, int userns_fd)
{
    struct mount_attr attributes = {.attr_set = set};
    if (userns_fd >= 0) {
        attributes.attr_set = set | MOUNT_ATTR_IDMAP;
        attributes.userns_fd = (unsigned)userns_fd;
    }
    unsigned flags = AT_EMPTY_PATH | (userns_fd >= 0 ? 0u : (unsigned)AT_RECURSIVE);
    check(syscall(SYS_mount_setattr, fd, "", flags, &attributes, sizeof attributes));
}

static void mount_move(int mount_fd, int target_fd, const char *target)
{
    unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (*target ? 0 : MOVE_MOUNT_T_EMPTY_PATH);
    check(syscall(SYS_move_mount, mount_fd, "", target_fd, target, flags));
}

/* What the sandbox left where something of ours belongs goes, or is put aside: it must start whatever it did. */
static void obstacle_clear(int parent, const char *leaf)
{
    char aside[32];
    for (unsigned i = 0; unlinkat(parent, leaf, 0) < 0 && errno != ENOENT && i < ASIDE_MAX; i++) {
        snprintf(aside, sizeof aside, ".belljar-aside-%u", i);
        renameat2(parent, leaf, parent, aside, RENAME_NOREPLACE);
    }
}

/* Opens the directory that holds `path`'s last part, as the sandbox would see it: the upper layer is
 * the sandbox's own writing, so links in it must not lead out. Parents that lack are made. */
static int parent_open(const char *path, const char **leaf)
{
    char parent[PATH_BYTES];
    const char *slash = strrchr(path, '/');
    *leaf = slash + 1;
    int fd = -1;
    for (const char *end = path; end; end = end == slash ? NULL : strchr(end + 1, '/')) {
        size_t length = (size_t)(end - path);
        memcpy(parent, path, length);
        parent[length] = 0;
        int next = sys_openat2(state.root_fd, length ? parent : ".", O_PATH | O_DIRECTORY, 0,
                               RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
        if (next < 0 && length && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)) {
            obstacle_clear(fd, strrchr(parent, '/') + 1);
            check(mkdirat(fd, strrchr(parent, '/') + 1, 0755));
            next = sys_openat2(state.root_fd, parent, O_PATH | O_DIRECTORY, 0,
                               RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
        }
        check(next);
        close_fd(&fd);
        fd = next;
    }
    return fd;
}

/* The mount point itself; whatever the sandbox left in its place (a link, a file) is replaced. */
static int target_open(const char *path, bool is_directory)
{
    const char *leaf;
    CLEANUP_FD int parent = parent_open(path, &leaf);
    for (int tries = 0; tries < 2; tries++) {
        int fd = openat(parent, leaf, O_PATH | O_NOFOLLOW | O_CLOEXEC | (is_directory ? O_DIRECTORY : 0));
        struct stat found = {0};
        if (fd >= 0 && fstat(fd, &found) == 0 && S_ISDIR(found.st_mode) == is_directory && !S_ISLNK(found.st_mode))
            return fd;
        close_fd(&fd);
        obstacle_clear(parent, leaf);
        int made = check(is_directory ? mkdirat(parent, leaf, 0755)
                                      : openat(parent, leaf, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
        if (!is_directory)
            close_fd(&made);
    }
    errno = ELOOP;
    fail();
}

static int tree_clone(const char *path, uint64_t flags)
{
    unsigned clone_flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (flags & BIND_RECURSIVE ? AT_RECURSIVE : 0u);
    int fd = check(syscall(SYS_open_tree, AT_FDCWD, path, clone_flags));
    uint64_t set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (flags & BIND_READ_ONLY ? MOUNT_ATTR_RDONLY : 0) |
                   (flags & BIND_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
    mount_attributes(fd, set, flags & BIND_IDMAP ? state.child->userns_fd : -1);
    return fd;
}

static void apply_layer(const struct record *r)
{
    char name[8];
    snprintf(name, sizeof name, "l%u", state.layers++);
    errno = E2BIG;
    if (state.layers > LAYERS_MAX)
        fail();
    CLEANUP_FD int fd = tree_clone(r->s[0], r->n[0]);
    mount_move(fd, AT_FDCWD, name);
}

static void option(int fs, const char *key, const char *format, uint64_t value)
{
    char text[64];
    snprintf(text, sizeof text, format, value);
    check(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, key, text, 0));
}

static int fs_mount(int fs, uint64_t attributes)
{
    check(syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
    return check(syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes));
}

static void apply_overlay(const struct record *r)
{
    char lower[LAYERS_MAX * 5] = "", part[16];
    for (unsigned i = 0; i < state.layers; i++) {
        snprintf(part, sizeof part, "%sl%u", i ? ":" : "", i);
        strcat(lower, part);
    }
    /* By path again: a descriptor of the warden's mount namespace is of no use in this one. */
    CLEANUP_FD int pool = check(open(warden.pool, O_PATH | O_DIRECTORY | O_CLOEXEC));
    CLEANUP_FD int volume = check(volume_open(pool, state.child->plan->id));
    CLEANUP_FD int fs = check(syscall(SYS_fsopen, "overlay", FSOPEN_CLOEXEC));
    check(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "lowerdir", lower, 0));
    option(fs, "upperdir", "/proc/self/fd/%lu/upper", (uint64_t)volume);
    option(fs, "workdir", "/proc/self/fd/%lu/work", (uint64_t)volume);
    if (r->n[0] & OVERLAY_USERXATTR)
        check(syscall(SYS_fsconfig, fs, FSCONFIG_SET_FLAG, "userxattr", NULL, 0));
    if (r->n[0] & OVERLAY_REDIRECT)
        check(syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "redirect_dir", "on", 0));
    CLEANUP_FD int mount_fd = fs_mount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
    mount_move(mount_fd, AT_FDCWD, "root");
    state.root_fd = check(openat(AT_FDCWD, "root", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
}

static void apply_bind(const struct record *r)
{
    CLEANUP_FD int fd = tree_clone(r->s[0], r->n[0]);
    struct stat source;
    check(fstat(fd, &source));
    CLEANUP_FD int target = target_open(r->s[1], S_ISDIR(source.st_mode));
    mount_move(fd, target, "");
}

/* One file system for every scratch place: each superblock costs the kernel memory, and time at every
 * end of a cgroup on the machine. It is attached outside the root, and goes with the old one. */
static void apply_tmpfs(const struct record *r)
{
    CLEANUP_FD int fs = check(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC));
    option(fs, "mode", "%lo", 0711);
    option(fs, "size", "%lu", r->n[0]);
    option(fs, "nr_inodes", "%lu", r->n[1]);
    CLEANUP_FD int mount_fd = fs_mount(fs, MOUNT_ATTR_NOSUID);
    mount_move(mount_fd, AT_FDCWD, "scratch");
    state.scratch_fd = check(open("scratch", O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW));
}

static void apply_scratch(const struct record *r)
{
    check(mkdirat(state.scratch_fd, r->s[0], (mode_t)r->n[1]));
    check(fchownat(state.scratch_fd, r->s[0], (uid_t)r->n[2], (gid_t)r->n[3], AT_SYMLINK_NOFOLLOW));
    unsigned flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
    CLEANUP_FD int fd = check(syscall(SYS_open_tree, state.scratch_fd, r->s[0], flags));
    mount_attributes(fd, r->n[0], -1);
    CLEANUP_FD int target = target_open(r->s[1], true);
    mount_move(fd, target, "");
}

static void apply_proc(const struct record *r)
{
    CLEANUP_FD int fs = check(syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC));
    CLEANUP_FD int mount_fd = fs_mount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    CLEANUP_FD int target = target_open(r->s[0], true);
    mount_move(mount_fd, target, "");
}

static void apply_devpts(const struct record *r)
{
    CLEANUP_FD int fs = check(syscall(SYS_fsopen, "devpts", FSOPEN_CLOEXEC));
    option(fs, "ptmxmode", "%lo", 0666);
    option(fs, "mode", "%lo", 0620);
    option(fs, "max", "%lu", r->n[1]);
    if (r->n[0] != UINT32_MAX)
        option(fs, "gid", "%lu", r->n[0]);
    CLEANUP_FD int mount_fd = fs_mount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    CLEANUP_FD int target = target_open(r->s[0], true);
    mount_move(mount_fd, target, "");
}

static void apply_node(const struct record *r)
{
    if (r->s[0][0]) { /* without mknod's privilege the host's own node is shown */
        CLEANUP_FD int fd = check(syscall(SYS_open_tree, AT_FDCWD, r->s[0], OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
        CLEANUP_FD int target = target_open(r->s[1], false);
        mount_move(fd, target, "");
        return;
    }
    const char *leaf;
    CLEANUP_FD int parent = parent_open(r->s[1], &leaf);
    check(mknodat(parent, leaf, S_IFCHR | (mode_t)r->n[2], makedev((unsigned)r->n[0], (unsigned)r->n[1])));
    check(fchownat(parent, leaf, (uid_t)r->n[3], (gid_t)r->n[4], AT_SYMLINK_NOFOLLOW));
}

static void apply_directory(const struct record *r)
{
    const char *leaf;
    CLEANUP_FD int parent = parent_open(r->s[0], &leaf);
    if (mkdirat(parent, leaf, (mode_t)r->n[0]) == 0)
        check(fchownat(parent, leaf, (uid_t)r->n[1], (gid_t)r->n[2], AT_SYMLINK_NOFOLLOW));
    else if (errno != EEXIST)
        fail();
}

static void apply_symlink(const struct record *r)
{
    const char *leaf;
    CLEANUP_FD int parent = parent_open(r->s[1], &leaf);
    if (symlinkat(r->s[0], parent, leaf) < 0 && errno != EEXIST)
        fail();
}

/* Hides what a kernel may or may not have below /proc: absent is as good as masked. */
static void apply_mask(const struct record *r)
{
    struct stat found;
    CLEANUP_FD int target = sys_openat2(state.root_fd, r->s[0], O_PATH, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
    if (target < 0 && errno == ENOENT)
        return;
    check(target);
    check(fstat(target, &found));
    const char *source = S_ISDIR(found.st_mode) ? "empty" : "/dev/null";
    CLEANUP_FD int fd = check(syscall(SYS_open_tree, AT_FDCWD, source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    mount_attributes(fd, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, -1);
    mount_move(fd, target, "");
}

/* Whether the record was one of the file system's. */
bool mount_apply(const struct record *r)
{
    switch (r->tag) {
    case T_LAYER: apply_layer(r); break;
    case T_OVERLAY: apply_overlay(r); break;
    case T_BIND: apply_bind(r); break;
    case T_TMPFS: apply_tmpfs(r); break;
    case T_PROC: apply_proc(r); break;
    case T_DEVPTS: apply_devpts(r); break;
    case T_NODE: apply_node(r); break;
    case T_MKDIR: apply_directory(r); break;
    case T_SYMLINK: apply_symlink(r); break;
    case T_MASK: apply_mask(r); break;
    case T_SCRATCH: apply_scratch(r); break;
    default: return false;
    }
    return true;
}
