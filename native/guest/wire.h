/* Frames and fields of the guest protocol. PROTOCOL.md describes them; nothing here does I/O. */
#ifndef BELLJAR_WIRE_H
#define BELLJAR_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER_BYTES 8u
#define REQUEST_BYTES_MAX (1u << 20)
#define DATA_BYTES_MAX 65536u
#define PATH_BYTES_MAX 4095u
#define ENV_DEFAULT_COUNT 5u

enum frame_type {
    OP_HELLO = 1, OP_EXEC, OP_ATTACH, OP_PROCESSES, OP_SIGNAL, OP_FORGET, OP_SHUTDOWN,
    OP_STAT = 16, OP_LIST, OP_READ, OP_WRITE, OP_MKDIR, OP_MOVE, OP_REMOVE, OP_CHMOD, OP_CHOWN,
    OP_XATTR_GET, OP_XATTR_SET, OP_XATTR_LIST, OP_XATTR_REMOVE, OP_WATCH,
    OP_PORT = 32, OP_PORTS, OP_STATS,
    SEND_STDIN = 64, SEND_STDIN_EOF, SEND_RESIZE, SEND_SIGNAL, SEND_DATA, SEND_END,
    SAY_OK = 128, SAY_ERROR, SAY_STARTED, SAY_STDOUT, SAY_STDERR, SAY_EXIT, SAY_ENTRY, SAY_DATA,
    SAY_END, SAY_EVENT,
};

enum tag {
    TAG_ARG = 1, TAG_ENV, TAG_CWD, TAG_USER, TAG_TIMEOUT_MS, TAG_GRACE_MS, TAG_TAG, TAG_FLAGS,
    TAG_COLUMNS, TAG_ROWS, TAG_PID, TAG_SIGNAL, TAG_PATH, TAG_TO, TAG_OFFSET, TAG_LENGTH,
    TAG_MODE, TAG_OWNER, TAG_GROUP, TAG_NAME, TAG_VALUE, TAG_DEPTH, TAG_PORT, TAG_FAMILY,
    TAG_LIMIT, TAG_TOKEN, TAG_REQUEST_COUNT,
    /* only in answers */
    TAG_ERRNO = 64, TAG_CODE, TAG_MESSAGE, TAG_TYPE, TAG_SIZE, TAG_MTIME_NS, TAG_UID, TAG_GID,
    TAG_USER_NAME, TAG_GROUP_NAME, TAG_TARGET, TAG_STARTED_AT_MS, TAG_ADDRESS, TAG_COMMAND,
    TAG_VERSION, TAG_KIND, TAG_FROM, TAG_STATE, TAG_EXIT, TAG_COUNT, TAG_MEMORY_TOTAL,
    TAG_MEMORY_AVAILABLE, TAG_RSS, TAG_CPU_US, TAG_LOAD_MILLI, TAG_DISK_TOTAL, TAG_DISK_FREE,
    TAG_TMP_TOTAL, TAG_TMP_FREE,
};

enum exec_flags { EXEC_STDIN = 1, EXEC_TERMINAL = 2, EXEC_KEEP = 4, EXEC_FLAGS_ALL = 7 };

enum file_flags {
    FILE_PARENTS = 1,   /* make missing parent directories */
    FILE_APPEND = 2,    /* WRITE: add to the end instead of replacing */
    FILE_SYNC = 4,      /* WRITE: fsync before the acknowledgement */
    FILE_NO_REPLACE = 8, /* MOVE, WRITE: an existing target is an error */
    FILE_RECURSIVE = 16, /* REMOVE: with everything below it */
    FILE_NO_FOLLOW = 32, /* STAT: the link itself */
    FILE_FLAGS_ALL = 63,
};

enum exit_reason { EXIT_EXITED, EXIT_SIGNALED, EXIT_TIMEOUT, EXIT_CANCELLED };

struct span {
    char *data;
    uint32_t length;
};

struct request {
    uint8_t type;
    uint64_t present;
    struct span field[TAG_REQUEST_COUNT];
    size_t argc, envc;
    char **argv, **envp; /* NULL-terminated; envp has room for ENV_DEFAULT_COUNT more */
};

struct buffer {
    uint8_t *data;
    size_t length, capacity, sent;
    bool failed; /* memory ran out: what is in it must not be sent */
};

uint32_t get_u32(const uint8_t *from);
void set_u32(uint8_t *to, uint32_t value);

/* Returns false unless the reserved bytes are zero and the length is at most bytes_max. */
bool frame_header_parse(const uint8_t *header, uint32_t bytes_max, uint32_t *length);

/*
 * Checks a request's fields and points into payload, which must have one writable byte after its
 * end: every string becomes NUL-terminated in place. Returns NULL, or what is wrong.
 */
const char *request_parse(struct request *request, uint8_t type, uint8_t *payload, uint32_t length);
void request_free(struct request *request);
bool request_has(const struct request *request, enum tag tag);
const char *request_string(const struct request *request, enum tag tag);
uint32_t request_u32(const struct request *request, enum tag tag, uint32_t fallback);
uint64_t request_u64(const struct request *request, enum tag tag, uint64_t fallback);

bool buffer_reserve(struct buffer *buffer, size_t bytes);
void buffer_put(struct buffer *buffer, const void *data, size_t bytes);
void buffer_free(struct buffer *buffer);
size_t buffer_pending(const struct buffer *buffer);
size_t frame_begin(struct buffer *buffer, enum frame_type type);
void frame_end(struct buffer *buffer, size_t start);
void frame_put(struct buffer *buffer, enum frame_type type, const void *data, size_t bytes);
void put_u32(struct buffer *buffer, enum tag tag, uint32_t value);
void put_u64(struct buffer *buffer, enum tag tag, uint64_t value);
void put_string(struct buffer *buffer, enum tag tag, const char *value);
void put_bytes(struct buffer *buffer, enum tag tag, const void *value, size_t bytes);
void put_error(struct buffer *buffer, int error, const char *code, const char *message);
const char *error_code(int error);

#endif
