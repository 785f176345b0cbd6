/* The daemon's side of DIAL: Node has no recvmsg, and a descriptor comes only that way.
 * dial(socketPath, requestBytes) gives a promise of a descriptor (>= 0) or of a negated errno. */
#include <errno.h>
#include <netinet/in.h>
#include <node_api.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REQUEST_BYTES_MAX 512
#define ANSWER_BYTES_MAX 512
#define HEADER_BYTES 12
#define DESCRIPTORS_MAX 4
#define ANSWER_MS_MAX 5000
#define ERROR_TAG 100

struct dial {
    napi_async_work work;
    napi_deferred deferred;
    struct sockaddr_un address;
    uint8_t request[REQUEST_BYTES_MAX];
    size_t request_bytes;
    int result;
};

static bool is_tcp(int fd)
{
    int type = 0, protocol = 0;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0)
        return false;
    size = sizeof protocol;
    return getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 && type == SOCK_STREAM && protocol == IPPROTO_TCP;
}

/* Takes every descriptor that came, keeps the one that is wanted, closes the others. */
static void descriptors_take(struct msghdr *message, int *kept, bool *is_odd)
{
    for (struct cmsghdr *head = CMSG_FIRSTHDR(message); head; head = CMSG_NXTHDR(message, head)) {
        if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
            if (*kept < 0 && !*is_odd && is_tcp(fd)) {
                *kept = fd;
                continue;
            }
            *is_odd = true;
            close(fd);
        }
    }
    if (message->msg_flags & MSG_CTRUNC)
        *is_odd = true;
}

static int answer_read(int connection, uint8_t *answer, size_t *used, int *fd)
{
    bool is_odd = false;
    for (;;) {
        struct iovec part = {answer + *used, ANSWER_BYTES_MAX - *used};
        union { char bytes[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)]; struct cmsghdr align; } control;
        struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes,
                                 .msg_controllen = sizeof control.bytes};
        struct pollfd waiting = {.fd = connection, .events = POLLIN};
        int ready = poll(&waiting, 1, ANSWER_MS_MAX);
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready <= 0)
            return ready == 0 ? ETIMEDOUT : errno;
        ssize_t n = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : ECONNABORTED;
        descriptors_take(&message, fd, &is_odd);
        *used += (size_t)n;
        uint32_t length = 0;
        if (*used >= sizeof length)
            memcpy(&length, answer, sizeof length);
        if (is_odd || length > ANSWER_BYTES_MAX - HEADER_BYTES)
            return EPROTO;
        if (*used >= HEADER_BYTES && *used >= HEADER_BYTES + length)
            return 0;
        if (*used == ANSWER_BYTES_MAX)
            return EPROTO;
    }
}

/* An answer without an error record must have brought the socket. */
static int answer_result(const uint8_t *answer, size_t used, int *fd)
{
    uint16_t head[2];
    uint32_t error = 0;
    if (used == HEADER_BYTES) {
        int taken = *fd;
        *fd = -1;
        return taken >= 0 ? taken : -EPROTO;
    }
    if (used < HEADER_BYTES + sizeof head + sizeof error)
        return -EPROTO;
    memcpy(head, answer + HEADER_BYTES, sizeof head);
    memcpy(&error, answer + HEADER_BYTES + sizeof head, sizeof error);
    return head[0] == ERROR_TAG && error > 0 && error < 4096 ? -(int)error : -EPROTO;
}

static void dial_run(napi_env env, void *data)
{
    (void)env;
    struct dial *dial = data;
    uint8_t answer[ANSWER_BYTES_MAX];
    size_t used = 0;
    int fd = -1, error = 0;
    int connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connection < 0 || connect(connection, (struct sockaddr *)&dial->address, sizeof dial->address) < 0)
        error = errno == ECONNREFUSED || errno == ENOENT ? EHOSTDOWN : errno;
    else if (send(connection, dial->request, dial->request_bytes, MSG_NOSIGNAL) != (ssize_t)dial->request_bytes)
        error = EHOSTDOWN;
    else
        error = answer_read(connection, answer, &used, &fd);
    dial->result = error ? -error : answer_result(answer, used, &fd);
    if (fd >= 0)
        close(fd);
    if (connection >= 0)
        close(connection);
}

static void dial_done(napi_env env, napi_status status, void *data)
{
    struct dial *dial = data;
    napi_value value;
    bool is_given = napi_create_int32(env, status == napi_ok ? dial->result : -ECANCELED, &value) == napi_ok &&
                    napi_resolve_deferred(env, dial->deferred, value) == napi_ok;
    if (!is_given && dial->result >= 0)
        close(dial->result);
    napi_delete_async_work(env, dial->work);
    free(dial);
}

static napi_value refuse(napi_env env, const char *message)
{
    napi_throw_type_error(env, NULL, message);
    return NULL;
}

static napi_value dial_call(napi_env env, napi_callback_info info)
{
    napi_value arguments[2], promise, name;
    size_t count = 2, path_bytes = 0, request_bytes = 0;
    void *request = NULL;
    if (napi_get_cb_info(env, info, &count, arguments, NULL, NULL) != napi_ok || count != 2)
        return refuse(env, "dial takes a path and a request");
    struct dial *dial = calloc(1, sizeof *dial);
    if (!dial)
        return refuse(env, "out of memory");
    dial->address.sun_family = AF_UNIX;
    size_t room = sizeof dial->address.sun_path;
    bool has_path = napi_get_value_string_utf8(env, arguments[0], NULL, 0, &path_bytes) == napi_ok && path_bytes < room &&
                    napi_get_value_string_utf8(env, arguments[0], dial->address.sun_path, room, &path_bytes) == napi_ok;
    bool has_request = napi_get_buffer_info(env, arguments[1], &request, &request_bytes) == napi_ok &&
                       request_bytes > 0 && request_bytes <= REQUEST_BYTES_MAX;
    if (!has_path || !has_request) {
        free(dial);
        return refuse(env, "dial takes a short path and a short request");
    }
    memcpy(dial->request, request, request_bytes);
    dial->request_bytes = request_bytes;
    bool is_queued = napi_create_promise(env, &dial->deferred, &promise) == napi_ok &&
                     napi_create_string_utf8(env, "belljar.dial", NAPI_AUTO_LENGTH, &name) == napi_ok &&
                     napi_create_async_work(env, NULL, name, dial_run, dial_done, dial, &dial->work) == napi_ok &&
                     napi_queue_async_work(env, dial->work) == napi_ok;
    if (!is_queued) {
        free(dial);
        return refuse(env, "dial could not be queued");
    }
    return promise;
}

NAPI_MODULE_INIT(/* env, exports */)
{
    napi_value function;
    bool is_ready = napi_create_function(env, "dial", NAPI_AUTO_LENGTH, dial_call, NULL, &function) == napi_ok &&
                    napi_set_named_property(env, exports, "dial", function) == napi_ok;
    return is_ready ? exports : NULL;
}
