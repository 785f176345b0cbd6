/* What a sandbox needs before its first process: user namespace, guest, socket, cgroups. */
#include <linux/sched.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "warden.h"

#define GUEST_BYTES_MAX (4 * 1024 * 1024)
#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

int userns_map(pid_t pid, const struct record *map)
{
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%d", pid);
    CLEANUP_FD int proc = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (proc < 0)
        return errno;
    snprintf(text, sizeof text, "0 %lu %lu\n", map->n[0], map->n[2]);
    if (file_write(proc, "uid_map", text) < 0)
        return errno;
    if (!warden.privileged && file_write(proc, "setgroups", "deny") < 0)
        return errno;
    snprintf(text, sizeof text, "0 %lu %lu\n", map->n[1], map->n[2]);
    return file_write(proc, "gid_map", text) < 0 ? errno : 0;
}

static int userns_wait(void *ends)
{
    char byte;
    close(((int *)ends)[1]);
    /* The end of file comes when the warden is done, or dead. No errno is touched: the memory is shared. */
    return read(((int *)ends)[0], &byte, 1) == 0 ? 0 : 1;
}

/* What a namespace uses up of pending signals, timers, inotify and message queues counts for its maker's id
 * as well. So each one is made under the sandbox's own first id: as root's, one sandbox could use up what
 * root and every other sandbox have. The capabilities stay, for some kernels ask for them here. */
static void maker_id(uid_t id)
{
    bool is_set = prctl(PR_SET_SECUREBITS, (unsigned long)SECBIT_NO_SETUID_FIXUP, 0, 0, 0) == 0 &&
                  syscall(SYS_setresuid, -1, id, -1) == 0 &&
                  prctl(PR_SET_SECUREBITS, 0ul, 0, 0, 0) == 0 && prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0;
    if (!is_set)
        abort(); /* going on with half of an identity is worse than an end */
}

/* A process of its own makes the user namespace, so that the sandbox's other namespaces, made by us,
 * belong to the host: its root owns nothing but its ids. The map serves id-mapped mounts as well. */
int userns_make(const struct record *map, int *fd_out)
{
    static _Alignas(16) char stack[16384];
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return errno;
    if (warden.privileged)
        maker_id((uid_t)map->n[0]);
    pid_t pid = clone(userns_wait, stack + sizeof stack, CLONE_NEWUSER | CLONE_VM, ends);
    int error = pid < 0 ? errno : 0;
    if (warden.privileged)
        maker_id(0);
    error = error ? error : userns_map(pid, map);
    if (!error) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
        *fd_out = open(path, O_RDONLY | O_CLOEXEC);
        error = *fd_out < 0 ? errno : 0;
    }
    close(ends[1]);
    while (pid > 0 && waitpid(pid, NULL, (int)__WCLONE) < 0 && errno == EINTR)
        ;
    close(ends[0]);
    return error;
}

/* The guest is a sealed copy in memory: /proc/1/exe inside then leads to no file of the host, and
 * nobody who owns the file can change a running guest. */
int guest_open(const char *path)
{
    static struct { int fd; struct stat of; } cache = {.fd = -1};
    CLEANUP_FD int source = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    struct stat now;
    if (source < 0 || fstat(source, &now) < 0)
        return -1;
    bool is_same = cache.fd >= 0 && now.st_dev == cache.of.st_dev && now.st_ino == cache.of.st_ino &&
                   now.st_size == cache.of.st_size && now.st_ctim.tv_sec == cache.of.st_ctim.tv_sec &&
                   now.st_ctim.tv_nsec == cache.of.st_ctim.tv_nsec;
    if (is_same)
        return cache.fd;
    errno = ENOEXEC;
    if (!S_ISREG(now.st_mode) || now.st_size <= 0 || now.st_size > GUEST_BYTES_MAX)
        return -1;
    int copy = (int)syscall(SYS_memfd_create, "guest", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (copy < 0 && errno == EINVAL)
        copy = (int)syscall(SYS_memfd_create, "guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *bytes = mmap(NULL, (size_t)now.st_size, PROT_READ, MAP_PRIVATE, source, 0);
    bool is_copied = copy >= 0 && bytes != MAP_FAILED && fchmod(copy, 0555) == 0 &&
                     write(copy, bytes, (size_t)now.st_size) == now.st_size &&
                     fcntl(copy, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
    if (bytes != MAP_FAILED)
        munmap(bytes, (size_t)now.st_size);
    if (!is_copied) {
        close_fd(&copy);
        return -1;
    }
    close_fd(&cache.fd);
    cache.fd = copy;
    cache.of = now;
    return copy;
}

int listener_make(const char *id)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = sizeof address.sun_path;
    if ((size_t)snprintf(address.sun_path, size, "%s/%s.sock", warden.run_dir, id) >= size)
        return errno = ENAMETOOLONG, -1;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    bool is_bound = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    umask(mask);
    bool is_ready = is_bound && chown(address.sun_path, warden.client_uid, (gid_t)-1) == 0 && listen(fd, 511) == 0;
    if (!is_ready)
        close_fd(&fd);
    return fd;
}

int cgroups_make(struct sandbox *box, const struct plan *plan, struct child *child, int *into)
{
    char path[PATH_BYTES];
    int root_to_cgroup[ROOTS_MAX];
    memset(root_to_cgroup, -1, sizeof root_to_cgroup);
    for (unsigned i = 0; i < plan->record_count; i++) {
        const struct record *r = &plan->records[i];
        if (r->tag == T_CGROUP) {
            if (root_to_cgroup[r->n[0]] >= 0)
                return errno = EEXIST, -1;
            snprintf(path, sizeof path, "%s/%s", warden.roots[r->n[0]], box->id);
            if (mkdir(path, 0755) < 0)
                return -1;
            root_to_cgroup[r->n[0]] = (int)box->cgroup_count;
            box->cgroups[box->cgroup_count++] = strdup(path);
            if (r->n[1] == 2) {
                close_fd(into);
                if ((*into = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
                    return -1;
                continue;
            }
            /* `tasks`, never cgroup.procs: the latter takes a lock that every fork of the host waits for. */
            strcat(path, "/tasks");
            if ((child->tasks[child->task_count++] = open(path, O_WRONLY | O_CLOEXEC)) < 0)
                return -1;
        } else if (r->tag == T_CGFILE) {
            int index = root_to_cgroup[r->n[0]];
            if (index < 0)
                return errno = ENOENT, -1;
            snprintf(path, sizeof path, "%s/%s", box->cgroups[index], r->s[0]);
            bool may_lack = r->n[1] == 1;
            if (file_write(AT_FDCWD, path, r->s[1]) < 0 && !(may_lack && errno == ENOENT)) {
                snprintf(box->step, sizeof box->step, "cgroup %.30s", r->s[0]);
                return -1;
            }
        }
    }
    return 0;
}
