/* A raw pipe to a port of the sandbox's loopback. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "helper.h"

#define CONNECT_TIMEOUT_MS 3000
#define PIPE_BYTES 65536

struct half {
    int from, to;
    size_t at, length;
    bool ended, closed; /* nothing more comes; and the other side knows */
    uint8_t data[PIPE_BYTES];
};

static int dial(int family, uint16_t port) {
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct timeval patience = {.tv_sec = CONNECT_TIMEOUT_MS / 1000};
    int one = 1, fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    v6.sin6_addr = in6addr_loopback;
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* also bounds connect */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    int result = family == AF_INET ? connect(fd, (struct sockaddr *)&v4, sizeof v4)
                                   : connect(fd, (struct sockaddr *)&v6, sizeof v6);
    if (result == 0) return fd;
    close_keeping_errno(fd);
    return -1;
}

static int dial_loopback(uint16_t port, uint32_t family) {
    int fd = -1;
    if (family != 6) fd = dial(AF_INET, port);
    if (fd >= 0 || family == 4) return fd;
    int error = errno;
    fd = dial(AF_INET6, port);
    if (fd < 0 && family != 6) errno = error; /* IPv4's reason is the one people expect */
    return fd;
}

/* Moves what can be moved without waiting. False when a side is broken. */
static bool pump(struct half *half) {
    if (half->at == half->length && !half->ended) {
        ssize_t count = recv(half->from, half->data, sizeof half->data, MSG_DONTWAIT);
        if (count < 0 && errno != EAGAIN && errno != EINTR) return false;
        if (count == 0) half->ended = true;
        half->at = 0;
        half->length = count > 0 ? (size_t)count : 0;
    }
    while (half->at < half->length) {
        ssize_t count = send(half->to, half->data + half->at, half->length - half->at,
                             MSG_DONTWAIT | MSG_NOSIGNAL);
        if (count < 0 && errno == EAGAIN) return true;
        if (count < 0 && errno != EINTR) return false;
        if (count > 0) half->at += (size_t)count;
    }
    if (half->ended && !half->closed) {
        shutdown(half->to, SHUT_WR);
        half->closed = true;
    }
    return true;
}

static short wanted(const struct half *in, const struct half *out) {
    bool reads = in->at == in->length && !in->ended;
    return (short)((reads ? POLLIN : 0) | (out->at < out->length ? POLLOUT : 0));
}

_Noreturn void op_port(struct helper *helper) {
    static struct half up, down;
    uint32_t port = request_u32(helper->request, TAG_PORT, 0);
    uint32_t family = request_u32(helper->request, TAG_FAMILY, 0);
    if (port < 1 || port > UINT16_MAX) helper_fail(helper, EINVAL, "port out of range");
    int fd = dial_loopback((uint16_t)port, family);
    if (fd < 0) helper_fail(helper, errno, NULL);
    frame_put(&helper->out, SAY_OK, NULL, 0);
    helper_flush(helper);
    buffer_free(&helper->out);
    up.from = down.to = HELPER_FD;
    down.from = up.to = fd;
    while (!up.closed || !down.closed) {
        struct pollfd sides[] = {{HELPER_FD, wanted(&up, &down), 0}, {fd, wanted(&down, &up), 0}};
        /* A side that has nothing to do would report its end for ever. */
        for (int i = 0; i < 2; i++)
            if (!sides[i].events) sides[i].fd = -1;
        if (poll(sides, 2, -1) < 0 && errno != EINTR) break;
        if (!pump(&up) || !pump(&down)) break;
    }
    _exit(0);
}
