/* Arguments and start: takes the run directory, finds what still runs there, then serves. */
#include <linux/magic.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/vfs.h>
#include <time.h>

#include "warden.h"

#define MOUNTED "mounted-by-warden"

struct warden warden = {.run_fd = -1, .pool_fd = -1, .net_fd = -1};

_Noreturn void die(int status, const char *what)
{
    fprintf(stderr, "warden: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(status);
}

void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int64_t now_ms(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000 + at.tv_nsec / 1000000;
}

/* A record lock, not flock(2): a child that still sets up must not hold it for a dead warden.
 * The descriptor stays open for life, for closing it would let the lock go. */
static void run_dir_open(void)
{
    struct stat found;
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    warden.run_fd = open(warden.run_dir, O_DIRECTORY | O_CLOEXEC | O_RDONLY);
    int lock = openat(warden.run_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (warden.run_fd < 0 || lock < 0)
        die(71, warden.run_dir);
    /* Whoever may write here could name cgroups to be killed, and put links where we make directories. */
    errno = EPERM;
    if (fstat(warden.run_fd, &found) < 0 || found.st_uid != geteuid() || (found.st_mode & 022))
        die(77, "the run directory must be the warden's alone to write in");
    if (fcntl(lock, F_SETLK, &whole) < 0)
        die(75, "another warden holds this run directory");
}

/* Sockets and state are small, short-lived and of this boot alone; a disk's file system takes longer to
 * make them the more there are. So the run directory becomes a tmpfs where it is none. */
static void run_dir_take(void)
{
    struct statfs found = {0};
    if (mkdir(warden.run_dir, 0711) < 0 && errno != EEXIST)
        die(71, warden.run_dir);
    run_dir_open();
    if (warden.privileged && (fstatfs(warden.run_fd, &found) < 0 || found.f_type != TMPFS_MAGIC)) {
        unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
        if (syscall(SYS_mount, "belljar", warden.run_dir, "tmpfs", flags, "mode=0711,size=64m") < 0)
            die(71, "mount of the run directory");
        run_dir_open();
        close(openat(warden.run_fd, MOUNTED, O_CREAT | O_CLOEXEC | O_WRONLY, 0600));
    }
    if (mkdirat(warden.run_fd, "stage", 0700) < 0 && errno != EEXIST)
        die(71, "stage");
    /* The working directory is what a clone with CLONE_NEWNS finds again in its own copy of the mounts. */
    if (fchdir(warden.run_fd) < 0 || chdir("stage") < 0)
        die(71, "stage");
    mode_t mask = umask(0);
    static const char *const places[] = {"root", "scratch", "empty"};
    for (int i = -3; i < 64; i++) {
        char name[16];
        if (i < 0)
            snprintf(name, sizeof name, "%s", places[i + 3]);
        else
            snprintf(name, sizeof name, "l%d", i);
        if (mkdir(name, i == -1 ? 0555 : 0700) < 0 && errno != EEXIST)
            die(71, "stage");
    }
    umask(mask);
}

/* On v2 a directory gives its children only the controllers that are switched on in it. Best effort: what
 * is missing shows in the root's cgroup.controllers, and the client reports it. */
static void roots_make(void)
{
    static const char *const controllers[] = {"+memory", "+cpu", "+pids"};
    for (unsigned i = 0; i < warden.root_count; i++) {
        if (mkdir(warden.roots[i], 0755) < 0 && errno != EEXIST)
            die(71, warden.roots[i]);
        for (unsigned c = 0; c < 3; c++) {
            char path[PATH_BYTES];
            snprintf(path, sizeof path, "%s/../cgroup.subtree_control", warden.roots[i]);
            file_write(AT_FDCWD, path, controllers[c]);
            snprintf(path, sizeof path, "%s/cgroup.subtree_control", warden.roots[i]);
            file_write(AT_FDCWD, path, controllers[c]);
        }
    }
}

static const char *arguments_take(int argc, char **argv)
{
    const char *socket_path = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (!strcmp(name, "--socket"))
            socket_path = value;
        else if (!strcmp(name, "--run-dir"))
            warden.run_dir = value;
        else if (!strcmp(name, "--client-uid"))
            warden.client_uid = (uid_t)strtoul(value, NULL, 10);
        else if (!strcmp(name, "--cgroup-root") && warden.root_count < ROOTS_MAX)
            warden.roots[warden.root_count++] = value;
        else if (!strcmp(name, "--pool"))
            warden.pool = value;
        else if (!strcmp(name, "--pool-image"))
            warden.pool_image = value;
        else
            die(64, "unknown argument, or too many --cgroup-root");
    }
    if (argc % 2 == 0 || !socket_path || !warden.run_dir || warden.run_dir[0] != '/')
        die(64, "usage: warden --socket PATH --run-dir DIR --client-uid N [--cgroup-root DIR]... "
                "[--pool DIR [--pool-image FILE]]");
    return socket_path;
}

int main(int argc, char **argv)
{
    errno = 0;
    warden.client_uid = getuid();
    const char *socket_path = arguments_take(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    warden.privileged = geteuid() == 0;
    struct rlimit files; /* a descriptor for every adopted sandbox; what sandboxes get is the plan's */
    if (getrlimit(RLIMIT_NOFILE, &files) < 0 || (files.rlim_cur = files.rlim_max, setrlimit(RLIMIT_NOFILE, &files) < 0))
        die(71, "open files");
    server_start();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (null >= 0 && null < 3) /* whoever started us may have closed 0, 1 or 2 */
        null = dup(null);
    warden.net_fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    int boot = file_read(AT_FDCWD, "/proc/sys/kernel/random/boot_id", warden.boot_id, sizeof warden.boot_id) < 36;
    if (null < 0 || warden.net_fd < 0 || boot)
        die(71, "start");
    warden.boot_id[36] = 0;
    run_dir_take();
    roots_make();
    const struct record probe = {.tag = T_USERNS, .n = {warden.privileged ? 0x40000000 : geteuid(),
                                 warden.privileged ? 0x40000000 : getegid(), 1}};
    CLEANUP_FD int userns = -1;
    warden.userns_errno = userns_make(&probe, &userns);
    pool_open();
    adopt_all();
    spare_start();
    server_listen(socket_path);
    if (write(STDOUT_FILENO, "ready\n", 6) < 0 && errno != EPIPE)
        die(71, "stdout");
    server_run();
    unlink(socket_path);
    /* Sandboxes live on, and the next warden finds them. Without any, nothing stays behind. */
    if (warden.sandbox_count == 0) {
        for (unsigned i = 0; i < warden.root_count; i++)
            rmdir(warden.roots[i]);
        pool_release();
        if (faccessat(warden.run_fd, MOUNTED, F_OK, 0) == 0)
            syscall(SYS_umount2, warden.run_dir, 2 /* MNT_DETACH: our own descriptors are in it */);
    }
    return 0;
}
