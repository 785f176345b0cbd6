/* What runs between clone3 and the guest: applies the plan in order. Any failure ends the child, so
 * nothing half-made can run. Everything happens on the child's own namespaces. */
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/openat2.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sysmacros.h>

#include "warden.h"

#define ARGS_MAX 32u
#define LAYERS_MAX 64u

static struct {
    const struct child *child;
    const char *step;
    int root_fd, scratch_fd;
    unsigned layers;
} state = {.root_fd = -1, .scratch_fd = -1};

static _Noreturn void fail(void)
{
    char message[4 + 48] = {0};
    int error = errno;
    memcpy(message, &error, 4);
    snprintf(message + 4, sizeof message - 4, "%s", state.step);
    send(state.child->status_fd, message, sizeof message, MSG_NOSIGNAL);
    _exit(1);
}

static int check(long result)
{
    if (result < 0)
        fail();
    return (int)result;
}

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
        if (next < 0 && errno == ENOENT) {
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
        if (unlinkat(parent, leaf, 0) < 0 && errno != ENOENT)
            fail();
        int made = is_directory ? mkdirat(parent, leaf, 0755)
                                : openat(parent, leaf, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        check(made);
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

static int fs_open(const char *type)
{
    return check(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
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
    CLEANUP_FD int fs = fs_open("overlay");
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
    CLEANUP_FD int fs = fs_open("tmpfs");
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
    CLEANUP_FD int fs = fs_open("proc");
    CLEANUP_FD int mount_fd = fs_mount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
    CLEANUP_FD int target = target_open(r->s[0], true);
    mount_move(mount_fd, target, "");
}

static void apply_devpts(const struct record *r)
{
    CLEANUP_FD int fs = fs_open("devpts");
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

static void apply_loopback(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    CLEANUP_FD int fd = check(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    check(ioctl(fd, SIOCGIFFLAGS, &request));
    request.ifr_flags |= IFF_UP;
    check(ioctl(fd, SIOCSIFFLAGS, &request));
}

static void apply_sysctl(const struct record *r)
{
    /* Through the sandbox's own /proc: the host's would keep one name for each of its sandboxes in one chain. */
    CLEANUP_FD int base = check(sys_openat2(state.root_fd, "proc/sys", O_PATH | O_DIRECTORY, 0, RESOLVE_IN_ROOT));
    check(file_write(base, r->s[0], r->s[1]));
}

static void apply_rlimit(const struct record *r)
{
    struct rlimit limit = {r->n[1], r->n[2]};
    check(setrlimit((__rlimit_resource_t)r->n[0], &limit));
}

static void apply_pivot(void)
{
    check(fchdir(state.root_fd));
    /* pivot_root(".", ".") stacks the old root on the new one, from where it can be let go. */
    check(syscall(SYS_pivot_root, ".", "."));
    check(syscall(SYS_umount2, ".", 2 /* MNT_DETACH */));
    check(chdir("/"));
    close_fd(&state.root_fd);
}

static void apply_enter(void)
{
    if (warden.privileged) {
        check(setns(state.child->userns_fd, CLONE_NEWUSER));
        check(syscall(SYS_setgroups, 0, NULL));
    }
    check(syscall(SYS_setresgid, 0, 0, 0));
    check(syscall(SYS_setresuid, 0, 0, 0));
}

static void apply_caps(const struct record *r)
{
    check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
    for (unsigned long cap = 0; cap < 64; cap++) {
        int is_bounded = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (is_bounded < 0)
            break; /* past the last capability of this kernel */
        if (is_bounded && !(r->n[0] >> cap & 1))
            check(prctl(PR_CAPBSET_DROP, cap, 0, 0, 0));
    }
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    check(syscall(SYS_capget, &head, data));
    for (int i = 0; i < 2; i++) {
        data[i].permitted &= (uint32_t)(r->n[0] >> (32 * i));
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    check(syscall(SYS_capset, &head, data));
}

static void apply_seccomp(const struct record *r)
{
    static struct sock_filter code[4096];
    memcpy(code, r->bytes, r->byte_count);
    struct sock_fprog program = {(unsigned short)(r->byte_count / sizeof *code), code};
    check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, r->n[0], &program));
}

static const char *step_name(uint16_t tag)
{
    static const char *const names[] = {
        [T_LAYER] = "layer", [T_OVERLAY] = "overlay", [T_BIND] = "bind", [T_TMPFS] = "tmpfs", [T_PROC] = "proc",
        [T_DEVPTS] = "devpts", [T_NODE] = "node", [T_MKDIR] = "mkdir", [T_SYMLINK] = "symlink", [T_MASK] = "mask", [T_SCRATCH] = "scratch",
        [T_HOSTNAME] = "hostname", [T_LOOPBACK] = "loopback", [T_SYSCTL] = "sysctl", [T_RLIMIT] = "rlimit",
        [T_PIVOT] = "pivot", [T_ENTER] = "enter", [T_CAPS] = "caps", [T_NO_NEW_PRIVS] = "no-new-privs",
        [T_SECCOMP] = "seccomp",
    };
    return tag < sizeof names / sizeof *names && names[tag] ? names[tag] : "head";
}

static void apply(const struct record *r)
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
    case T_HOSTNAME: check(sethostname(r->s[0], strlen(r->s[0]))); break;
    case T_LOOPBACK: apply_loopback(); break;
    case T_SYSCTL: apply_sysctl(r); break;
    case T_RLIMIT: apply_rlimit(r); break;
    case T_PIVOT: apply_pivot(); break;
    case T_ENTER: apply_enter(); break;
    case T_CAPS: apply_caps(r); break;
    case T_NO_NEW_PRIVS: check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)); break;
    case T_SECCOMP: apply_seccomp(r); break;
    default: break; /* the head of the plan is the warden's own part */
    }
}

static void signals_reset(void)
{
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < 32; number++)
        signal(number, SIG_DFL);
    check(sigprocmask(SIG_SETMASK, &none, NULL));
}

static void namespaces_own(const struct child *child)
{
    state.step = "go";
    char go;
    /* The end of file means that the warden died before it had written this sandbox down. */
    errno = ECANCELED;
    if (read(child->status_fd, &go, 1) != 1)
        _exit(1);
    state.step = "cgroup-join";
    for (unsigned i = 0; i < child->task_count; i++)
        check(write(child->tasks[i], "0", 1));
    state.step = "cgroup-namespace";
    check(unshare(CLONE_NEWCGROUP));
    state.step = "private";
    check(syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    umask(0);
}

_Noreturn void child_main(const struct child *child)
{
    state.child = child;
    namespaces_own(child);
    char *arguments[ARGS_MAX + 2] = {(char *)"guest"}, *environment[ARGS_MAX + 1] = {0};
    unsigned argument_count = 1, environment_count = 0;
    int fds[3] = {child->guest_fd, child->listen_fd, child->status_fd};
    for (unsigned i = 0; i < child->plan->record_count; i++) {
        const struct record *r = &child->plan->records[i];
        state.step = step_name(r->tag);
        if (r->tag == T_ARG && argument_count <= ARGS_MAX)
            arguments[argument_count++] = (char *)r->s[0];
        else if (r->tag == T_ENV && environment_count < ARGS_MAX)
            environment[environment_count++] = (char *)r->s[0];
        if (r->tag == T_CAPS) { /* the last step that still may look at the new root by name */
            int null = check(open("/dev/null", O_RDWR | O_NOFOLLOW | O_CLOEXEC));
            for (int fd = 0; fd < 3; fd++)
                check(dup2(null, fd));
            check(dup2(fds[1], 3));
            setsid();
            umask(022);
            signals_reset();
            check(syscall(SYS_close_range, 4, ~0u, CLOSE_RANGE_CLOEXEC));
        }
        apply(r);
    }
    state.step = "guest";
    check(syscall(SYS_execveat, fds[0], "", arguments, environment, AT_EMPTY_PATH));
    _exit(1);
}
