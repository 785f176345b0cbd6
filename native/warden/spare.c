/* Network namespaces made ahead: making one takes longer than any other step of a create. Nobody has been
 * in one before its sandbox, and each serves one sandbox only. */
#include <linux/sched.h>
#include <net/if.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "warden.h"

#define SPARE_COUNT 4u
#define REST_MS 2
#define RETRY_MS 1000

static struct { struct source source; pid_t maker; unsigned count; int fds[SPARE_COUNT]; } spare;

/* The maker stays until its namespace has been opened: an end of file tells it, or the warden's death. */
static _Noreturn void maker_main(int channel)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    /* Clients must see the warden's death, and the next warden has this one's sockets to itself. */
    if (dup2(channel, 0) < 0 || syscall(SYS_close_range, 1, ~0u, 0) < 0 || unshare(CLONE_NEWNET) < 0)
        _exit(1);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0 || send(0, "", 1, MSG_NOSIGNAL) != 1)
        _exit(1);
    _exit(recv(0, &request, 1, 0) == 0 ? 0 : 1);
}

static void maker_ready(struct source *source, uint32_t events)
{
    (void)events;
    char byte, path[64];
    ssize_t n = recv(source->fd, &byte, 1, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    snprintf(path, sizeof path, "/proc/%d/ns/net", spare.maker);
    int fd = n == 1 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    source_remove(source);
    while (waitpid(spare.maker, NULL, (int)__WALL) < 0 && errno == EINTR)
        ;
    spare.maker = 0;
    if (fd >= 0)
        spare.fds[spare.count++] = fd;
    if (spare.count < SPARE_COUNT)
        source_deadline(source, fd >= 0 ? REST_MS : RETRY_MS);
}

static void maker_start(struct source *source)
{
    int ends[2];
    struct clone_args args = {0}; /* no exit signal: children_reap is for sandboxes */
    bool is_busy = false; /* a create in progress needs the processors more */
    for (const struct sandbox *box = warden.sandboxes; box && !is_busy; box = box->next)
        is_busy = box->creating;
    if (is_busy || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        source_deadline(source, is_busy ? REST_MS : RETRY_MS);
        return;
    }
    spare.maker = (pid_t)syscall(SYS_clone3, &args, sizeof args);
    if (spare.maker == 0)
        maker_main(ends[1]);
    close(ends[1]);
    source->fd = ends[0];
    if (spare.maker > 0) {
        source_add(source, EPOLLIN);
        return;
    }
    close_fd(&source->fd);
    source_deadline(source, RETRY_MS);
}

void spare_start(void)
{
    spare.source = (struct source){.fd = -1, .ready = maker_ready, .expired = maker_start};
    if (warden.privileged)
        source_deadline(&spare.source, REST_MS);
}

int spare_take(void)
{
    int fd = spare.count ? spare.fds[--spare.count] : -1;
    if (warden.privileged && !spare.maker)
        source_deadline(&spare.source, REST_MS);
    return fd;
}
