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

#include "warden.h"

#define ARGS_MAX 32u

struct child_state state = {.root_fd = -1, .scratch_fd = -1};

_Noreturn void fail(void)
{
    char message[4 + 48] = {0};
    int error = errno;
    memcpy(message, &error, 4);
    snprintf(message + 4, sizeof message - 4, "%s", state.step);
    send(state.child->status_fd, message, sizeof message, MSG_NOSIGNAL);
    _exit(1);
}

int check(long result)
{
    if (result < 0)
        fail();
    return (int)result;
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
    if (mount_apply(r))
        return;
    switch (r->tag) {
    case T_HOSTNAME: check(sethostname(r->s[0], strlen(r->s[0]))); break;
    case T_LOOPBACK: apply_loopback(); break;
    case T_SYSCTL: apply_sysctl(r); break;
    case T_RLIMIT: check(setrlimit((__rlimit_resource_t)r->n[0], &(struct rlimit){r->n[1], r->n[2]})); break;
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
    state.step = "network-namespace";
    if (child->net_fd >= 0)
        check(setns(child->net_fd, CLONE_NEWNET));
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
