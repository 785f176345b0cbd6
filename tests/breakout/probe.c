/*
 * Tries one kernel door after the other, each in a child of its own, and prints a line for each:
 * its name and what came of it. `open` means that the kernel did it or went past the question of who
 * asks (a complaint about an argument comes after that question); `shut N` means errno N said no;
 * `killed N` means that signal N ended the try. Every argument is chosen so that a door that
 * is open does no harm to the machine. With `--control` each child first gets a mount namespace of
 * its own, so that what goes through an open door stays with it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#ifndef AF_VSOCK
#define AF_VSOCK 40
#endif
#ifndef AF_ALG
#define AF_ALG 38
#endif
#ifndef ADDR_COMPAT_LAYOUT
#define ADDR_COMPAT_LAYOUT 0x0200000
#endif

/* 0 when the kernel did it, its errno otherwise. */
static int said(long result) { return result < 0 ? errno : 0; }

static int try_mount_tmpfs(void) { return said(mount("none", "/tmp", "tmpfs", 0, NULL)); }
static int try_mount_proc(void) { return said(mount("none", "/tmp", "proc", 0, NULL)); }
static int try_mount_bind(void) { return said(mount("/", "/tmp", NULL, MS_BIND, NULL)); }
static int try_remount_usr(void) {
    return said(mount(NULL, "/usr", NULL, MS_REMOUNT | MS_BIND, NULL));
}
static int try_umount_proc(void) { return said(umount2("/proc", MNT_DETACH)); }
static int try_fsopen(void) { return said(syscall(430, "tmpfs", 0)); }
static int try_open_tree(void) { return said(syscall(428, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */)); }
static int try_pivot_root(void) { return said(syscall(SYS_pivot_root, "/", "/tmp")); }

static int try_unshare_user(void) { return said(unshare(CLONE_NEWUSER)); }
static int try_unshare_mount(void) { return said(unshare(CLONE_NEWNS)); }
static int try_unshare_net(void) { return said(unshare(CLONE_NEWNET)); }
static int try_unshare_cgroup(void) { return said(unshare(0x02000000)); }
static int try_clone_user(void) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return said(pid);
}
static int try_clone3_user(void) {
    uint64_t arguments[8] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD, 0, 0, 0};
    long pid = syscall(435, arguments, sizeof arguments);
    if (pid == 0) _exit(0);
    return said(pid);
}
static int try_setns(void) {
    int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    return fd < 0 ? errno : said(setns(fd, CLONE_NEWNET));
}

static int try_mknod_mem(void) {
    return said(mknod("/tmp/probe-mem", S_IFCHR | 0600, (dev_t)(1 << 8 | 1)));
}
static int try_mknod_disk(void) {
    return said(mknod("/tmp/probe-disk", S_IFBLK | 0600, (dev_t)(254 << 8)));
}
static int try_setcap_sys_admin(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{1u << CAP_SYS_ADMIN, 1u << CAP_SYS_ADMIN, 0}, {0, 0, 0}};
    return said(syscall(SYS_capset, &header, data));
}
static int try_new_privileges(void) {
    /* 0 here means that an execve may gain privileges: the door is open. */
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0 ? 0 : EPERM;
}
static int try_drop_seccomp(void) {
    /* Mode 0 means that nothing filters this process. */
    return prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 0 ? 0 : EPERM;
}

static int try_ptrace_init(void) { return said(ptrace(PTRACE_SEIZE, 1, 0, 0)); }
static int try_read_init_memory(void) {
    char byte;
    struct iovec local = {&byte, 1};
    struct iovec remote = {(void *)0x400000, 1};
    int result = said(process_vm_readv(1, &local, 1, &remote, 1, 0));
    return result == EFAULT ? 0 : result;
}
static int try_open_init_memory(void) { return said(open("/proc/1/mem", O_RDWR | O_CLOEXEC)); }
static int try_pidfd_getfd(void) {
    long fd = syscall(434, 1, 0);
    return fd < 0 ? errno : said(syscall(438, fd, 3, 0));
}
static int try_write_init_exe(void) {
    /* ETXTBSY comes after permission: whoever asks could write once the program ends. */
    int result = said(open("/proc/1/exe", O_WRONLY | O_CLOEXEC));
    return result == ETXTBSY ? 0 : result;
}

static int try_raw_socket(void) { return said(socket(AF_INET, SOCK_RAW, 1)); }
static int try_packet_socket(void) { return said(socket(AF_PACKET, SOCK_RAW, 0)); }
static int try_netfilter_socket(void) { return said(socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)); }
static int try_audit_socket(void) { return said(socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT)); }
static int try_alg_socket(void) { return said(socket(AF_ALG, SOCK_SEQPACKET, 0)); }
static int try_vsock_socket(void) { return said(socket(AF_VSOCK, SOCK_STREAM, 0)); }
static int try_route_change(void) {
    struct {
        struct nlmsghdr header;
        unsigned char family[16];
    } request = {{sizeof request, 16 /* RTM_NEWLINK */, NLM_F_REQUEST | NLM_F_ACK, 1, 0}, {0}};
    struct {
        struct nlmsghdr header;
        int32_t error;
        char rest[256];
    } answer = {0};
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (fd < 0) return errno;
    if (send(fd, &request, sizeof request, 0) < 0) return errno;
    if (recv(fd, &answer, sizeof answer, 0) < 0) return errno;
    return -answer.error;
}

static int try_bpf(void) {
    uint32_t attribute[32] = {1 /* hash map */, 4, 4, 1};
    return said(syscall(SYS_bpf, 0, attribute, sizeof attribute));
}
static int try_add_key(void) { return said(syscall(SYS_add_key, "user", "probe", "x", 1, -2)); }
static int try_keyctl(void) { return said(syscall(SYS_keyctl, 0, -4, 1)); }
static int try_io_uring(void) {
    char parameters[120] = {0};
    return said(syscall(SYS_io_uring_setup, 1, parameters));
}
static int try_userfaultfd(void) { return said(syscall(SYS_userfaultfd, O_CLOEXEC)); }
static int try_perf(void) {
    struct perf_event_attr attribute = {.type = PERF_TYPE_SOFTWARE, .size = sizeof attribute};
    return said(syscall(SYS_perf_event_open, &attribute, -1, 0, -1, 0));
}
static int try_kexec(void) { return said(syscall(SYS_kexec_load, 0, 17, NULL, 0)); }
static int try_init_module(void) { return said(syscall(SYS_init_module, "junk", 4, "")); }
static int try_reboot(void) { return said(syscall(SYS_reboot, 1, 2, 3, NULL)); }
static int try_swapon(void) { return said(syscall(SYS_swapon, "/no/such/file", 0)); }
static int try_acct(void) { return said(syscall(SYS_acct, "/no/such/file")); }
static int try_settime(void) {
    struct timespec nonsense = {0, 2000000000L};
    return said(syscall(SYS_clock_settime, 0, &nonsense));
}
static int try_syslog(void) {
    char text[64];
    return said(syscall(SYS_syslog, 3, text, sizeof text));
}
static int try_handle(void) {
    struct {
        struct file_handle header;
        unsigned char bytes[128];
    } handle = {0};
    int mount_id;
    handle.header.handle_bytes = sizeof handle.bytes;
    int named = said(name_to_handle_at(AT_FDCWD, "/", &handle.header, &mount_id, 0));
    if (named != 0 && named != EOPNOTSUPP) return named;
    int fd = open("/", O_RDONLY | O_CLOEXEC);
    int result = said(open_by_handle_at(fd, &handle.header, O_RDONLY));
    return result == EOPNOTSUPP ? EPERM : result;
}
static int try_fanotify(void) { return said(syscall(SYS_fanotify_init, 0, 0)); }
static int try_iopl(void) {
#ifdef SYS_iopl
    return said(syscall(SYS_iopl, 3));
#else
    return EPERM;
#endif
}
static int try_personality(void) { return said(personality(ADDR_COMPAT_LAYOUT)); }
static int try_hostname(void) { return said(sethostname("probe", 5)); }
static int try_tiocsti(void) {
    /* On a terminal of one's own, so that nothing is typed into anybody's. */
    int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
    int zero = 0;
    char name[64];
    if (fd < 0) return errno;
    if (ioctl(fd, TIOCSPTLCK, &zero) < 0 || ptsname_r(fd, name, sizeof name) != 0) return errno;
    setsid();
    int slave = open(name, O_RDWR | O_CLOEXEC);
    if (slave < 0) return errno;
    ioctl(slave, TIOCSCTTY, 0);
    return said(ioctl(slave, TIOCSTI, "x"));
}
static int try_i386_calls(void) {
#ifdef __x86_64__
    /* Through the 32-bit door the same numbers mean other calls: 20 is getpid there. */
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    return result > 0 ? 0 : (int)-result;
#else
    return ENOSYS;
#endif
}
static int try_x32_calls(void) {
#ifdef __x86_64__
    return said(syscall(0x40000000L | SYS_getpid));
#else
    return ENOSYS;
#endif
}
static int try_chroot_escape(void) {
    struct stat root, here;
    int outside = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (outside < 0 || stat("/", &root) < 0) return errno;
    mkdir("/tmp/probe-root", 0700);
    if (chroot("/tmp/probe-root") < 0 || fchdir(outside) < 0) return errno;
    for (int step = 0; step < 64; step++)
        if (chdir("..") < 0) return errno;
    if (stat(".", &here) < 0) return errno;
    /* Out of the chroot is no feat; out of the root directory that the sandbox began with is. */
    return here.st_ino == root.st_ino && here.st_dev == root.st_dev ? EPERM : 0;
}

static const struct {
    const char *name;
    int (*try)(void);
} DOORS[] = {
#define DOOR(name) {#name, try_##name}
    DOOR(mount_tmpfs), DOOR(mount_proc), DOOR(mount_bind), DOOR(remount_usr), DOOR(umount_proc),
    DOOR(fsopen), DOOR(open_tree), DOOR(pivot_root), DOOR(unshare_user), DOOR(unshare_mount),
    DOOR(unshare_net), DOOR(unshare_cgroup), DOOR(clone_user), DOOR(clone3_user), DOOR(setns),
    DOOR(mknod_mem), DOOR(mknod_disk), DOOR(setcap_sys_admin), DOOR(new_privileges),
    DOOR(drop_seccomp), DOOR(ptrace_init), DOOR(read_init_memory), DOOR(open_init_memory),
    DOOR(pidfd_getfd), DOOR(write_init_exe), DOOR(raw_socket), DOOR(packet_socket),
    DOOR(netfilter_socket), DOOR(audit_socket), DOOR(alg_socket), DOOR(vsock_socket),
    DOOR(route_change), DOOR(bpf), DOOR(add_key), DOOR(keyctl), DOOR(io_uring), DOOR(userfaultfd),
    DOOR(perf), DOOR(kexec), DOOR(init_module), DOOR(reboot), DOOR(swapon), DOOR(acct),
    DOOR(settime), DOOR(syslog), DOOR(handle), DOOR(fanotify), DOOR(iopl), DOOR(personality),
    DOOR(hostname), DOOR(tiocsti), DOOR(i386_calls), DOOR(x32_calls), DOOR(chroot_escape),
};

/* Whether the errno is one that a wall gives; any other came from behind it. */
static int is_wall(int error) {
    switch (error) {
    case EPERM: case EACCES: case ENOSYS: case EAFNOSUPPORT: case EPROTONOSUPPORT:
    case ESOCKTNOSUPPORT: case EROFS: case ENODEV: case ESRCH: case EIO: case ENXIO: case ENOENT:
        return 1;
    default:
        return 0;
    }
}

/* Doors whose complaint about a missing file comes after the question of who asks. */
static int is_past_wall(const char *name, int error) {
    return error == ENOENT && (strcmp(name, "swapon") == 0 || strcmp(name, "acct") == 0);
}

/* Connects to an abstract socket: a name ends where its length says, or fills the whole address. */
static int connect_abstract(const char *name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(name);
    if (length + 1 > sizeof address.sun_path) return 1;
    memcpy(address.sun_path + 1, name, length);
    const socklen_t spellings[] = {(socklen_t)(sizeof(sa_family_t) + 1 + length), sizeof address};
    for (size_t index = 0; index < 2; index++) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&address, spellings[index]) == 0) {
            printf("connected\n");
            return 0;
        }
    }
    printf("error %d\n", errno);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "--abstract") == 0) return connect_abstract(argv[2]);
    int is_control = argc > 1 && strcmp(argv[1], "--control") == 0;
    for (size_t index = 0; index < sizeof DOORS / sizeof DOORS[0]; index++) {
        const char *name = DOORS[index].name;
        pid_t pid = fork();
        if (pid < 0) return 1;
        if (pid == 0) {
            alarm(5);
            if (is_control && (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0))
                _exit(errno);
            int error = DOORS[index].try();
            _exit(error == 0 || is_past_wall(name, error) || !is_wall(error) ? 0 : error);
        }
        int status;
        if (waitpid(pid, &status, 0) < 0) return 1;
        if (WIFSIGNALED(status)) printf("%s killed %d\n", name, WTERMSIG(status));
        else if (WEXITSTATUS(status) == 0) printf("%s open\n", name);
        else printf("%s shut %d\n", name, WEXITSTATUS(status));
        fflush(stdout);
    }
    return 0;
}
