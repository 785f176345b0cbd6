#include "wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BIT(tag) (UINT64_C(1) << (tag))

enum field_kind { KIND_NONE, KIND_STRING, KIND_LIST, KIND_U32, KIND_U64, KIND_BYTES };

struct field_rule {
    uint8_t kind;
    uint32_t bytes_max;
};

static const struct field_rule field_rules[TAG_REQUEST_COUNT] = {
    [TAG_ARG] = {KIND_LIST, REQUEST_BYTES_MAX}, [TAG_ENV] = {KIND_LIST, REQUEST_BYTES_MAX},
    [TAG_CWD] = {KIND_STRING, PATH_BYTES_MAX},  [TAG_USER] = {KIND_STRING, 127},
    [TAG_TIMEOUT_MS] = {KIND_U32, 4},           [TAG_GRACE_MS] = {KIND_U32, 4},
    [TAG_TAG] = {KIND_STRING, 64},              [TAG_FLAGS] = {KIND_U32, 4},
    [TAG_COLUMNS] = {KIND_U32, 4},              [TAG_ROWS] = {KIND_U32, 4},
    [TAG_PID] = {KIND_U32, 4},                  [TAG_SIGNAL] = {KIND_U32, 4},
    [TAG_PATH] = {KIND_STRING, PATH_BYTES_MAX}, [TAG_TO] = {KIND_STRING, PATH_BYTES_MAX},
    [TAG_OFFSET] = {KIND_U64, 8},               [TAG_LENGTH] = {KIND_U64, 8},
    [TAG_MODE] = {KIND_U32, 4},                 [TAG_OWNER] = {KIND_STRING, 127},
    [TAG_GROUP] = {KIND_STRING, 127},           [TAG_NAME] = {KIND_STRING, 255},
    [TAG_VALUE] = {KIND_BYTES, 65536},          [TAG_DEPTH] = {KIND_U32, 4},
    [TAG_PORT] = {KIND_U32, 4},                 [TAG_FAMILY] = {KIND_U32, 4},
    [TAG_LIMIT] = {KIND_U32, 4},                [TAG_TOKEN] = {KIND_STRING, 255},
};

struct request_rule {
    uint64_t required, optional;
};

#define FILE_REQUIRED (BIT(TAG_PATH))
#define FILE_OPTIONAL (BIT(TAG_USER) | BIT(TAG_FLAGS))
#define TARGET_OPTIONAL (BIT(TAG_PID) | BIT(TAG_TAG))

static const struct request_rule request_rules[OP_STATS + 1] = {
    [OP_EXEC] = {BIT(TAG_ARG),
                 BIT(TAG_ENV) | BIT(TAG_CWD) | BIT(TAG_USER) | BIT(TAG_TIMEOUT_MS)
                     | BIT(TAG_GRACE_MS) | BIT(TAG_TAG) | BIT(TAG_FLAGS) | BIT(TAG_COLUMNS)
                     | BIT(TAG_ROWS)},
    [OP_ATTACH] = {0, TARGET_OPTIONAL},
    [OP_SIGNAL] = {BIT(TAG_SIGNAL), TARGET_OPTIONAL},
    [OP_FORGET] = {0, TARGET_OPTIONAL},
    [OP_SHUTDOWN] = {0, BIT(TAG_GRACE_MS)},
    [OP_STAT] = {FILE_REQUIRED, FILE_OPTIONAL},
    [OP_LIST] = {FILE_REQUIRED, FILE_OPTIONAL | BIT(TAG_DEPTH)},
    [OP_READ] = {FILE_REQUIRED, FILE_OPTIONAL | BIT(TAG_OFFSET) | BIT(TAG_LENGTH)},
    [OP_WRITE] = {FILE_REQUIRED, FILE_OPTIONAL | BIT(TAG_MODE)},
    [OP_MKDIR] = {FILE_REQUIRED, FILE_OPTIONAL | BIT(TAG_MODE)},
    [OP_MOVE] = {FILE_REQUIRED | BIT(TAG_TO), FILE_OPTIONAL},
    [OP_REMOVE] = {FILE_REQUIRED, FILE_OPTIONAL},
    [OP_CHMOD] = {FILE_REQUIRED | BIT(TAG_MODE), FILE_OPTIONAL},
    [OP_CHOWN] = {FILE_REQUIRED, FILE_OPTIONAL | BIT(TAG_OWNER) | BIT(TAG_GROUP)},
    [OP_XATTR_GET] = {FILE_REQUIRED | BIT(TAG_NAME), FILE_OPTIONAL},
    [OP_XATTR_SET] = {FILE_REQUIRED | BIT(TAG_NAME) | BIT(TAG_VALUE), FILE_OPTIONAL},
    [OP_XATTR_LIST] = {FILE_REQUIRED, FILE_OPTIONAL},
    [OP_XATTR_REMOVE] = {FILE_REQUIRED | BIT(TAG_NAME), FILE_OPTIONAL},
    [OP_WATCH] = {FILE_REQUIRED, FILE_OPTIONAL | BIT(TAG_LIMIT)},
    [OP_PORT] = {BIT(TAG_PORT), BIT(TAG_FAMILY)},
};

static bool is_request(uint8_t type) {
    return (type >= OP_HELLO && type <= OP_SHUTDOWN) || (type >= OP_STAT && type <= OP_WATCH)
        || (type >= OP_PORT && type <= OP_STATS);
}

uint32_t get_u32(const uint8_t *from) {
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16
        | (uint32_t)from[3] << 24;
}

void set_u32(uint8_t *to, uint32_t value) {
    for (unsigned i = 0; i < 4; i++) to[i] = (uint8_t)(value >> (8 * i));
}

bool frame_header_parse(const uint8_t *header, uint32_t bytes_max, uint32_t *length) {
    *length = get_u32(header);
    return *length <= bytes_max && header[5] == 0 && header[6] == 0 && header[7] == 0;
}

static const char *field_check(uint8_t tag, const uint8_t *value, uint32_t length) {
    const struct field_rule *rule = &field_rules[tag];
    if (length > rule->bytes_max) return "a field is too long";
    if (rule->kind == KIND_U32 && length != 4) return "a number has the wrong size";
    if (rule->kind == KIND_U64 && length != 8) return "a number has the wrong size";
    bool text = rule->kind == KIND_STRING || rule->kind == KIND_LIST;
    if (text && length > 0 && memchr(value, 0, length)) return "a string contains NUL";
    if (rule->kind == KIND_STRING && length == 0) return "a string is empty";
    if (tag == TAG_ENV && (length == 0 || value[0] == '=' || !memchr(value, '=', length)))
        return "an environment entry is not NAME=value";
    return NULL;
}

/* The first pass changes nothing: it bounds every field and counts the lists. */
static const char *fields_check(struct request *request, const uint8_t *payload, uint32_t length) {
    const struct request_rule *rule = &request_rules[request->type];
    uint32_t at = 0;
    while (at < length) {
        if (length - at < 4) return "trailing bytes after the last field";
        uint8_t tag = payload[at];
        uint32_t size = get_u32(payload + at) >> 8;
        if (size > length - at - 4) return "a field runs past the end of the request";
        if (tag >= TAG_REQUEST_COUNT || !((rule->required | rule->optional) & BIT(tag)))
            return "a field does not belong to this request";
        const char *wrong = field_check(tag, payload + at + 4, size);
        if (wrong) return wrong;
        bool list = field_rules[tag].kind == KIND_LIST;
        if (!list && (request->present & BIT(tag))) return "a field is given twice";
        request->present |= BIT(tag);
        if (tag == TAG_ARG) request->argc++;
        if (tag == TAG_ENV) request->envc++;
        at += 4 + size;
    }
    return (request->present & rule->required) == rule->required ? NULL : "a field is missing";
}

const char *request_parse(struct request *request, uint8_t type, uint8_t *payload,
                          uint32_t length) {
    memset(request, 0, sizeof *request);
    if (!is_request(type)) return "unknown request type";
    request->type = type;
    const char *wrong = fields_check(request, payload, length);
    if (wrong) return wrong;
    if (type == OP_EXEC) {
        request->argv = calloc(request->argc + 1, sizeof *request->argv);
        request->envp = calloc(request->envc + ENV_DEFAULT_COUNT + 1, sizeof *request->envp);
        if (!request->argv || !request->envp) return "out of memory";
    }
    size_t argc = 0, envc = 0;
    for (uint32_t at = 0; at < length;) {
        uint8_t tag = payload[at];
        uint32_t size = get_u32(payload + at) >> 8;
        char *value = (char *)payload + at + 4;
        payload[at] = 0; /* ends the string before this field; the tag is read already */
        if (tag == TAG_ARG && request->argv) request->argv[argc++] = value;
        else if (tag == TAG_ENV && request->envp) request->envp[envc++] = value;
        else request->field[tag] = (struct span){value, size};
        at += 4 + size;
    }
    payload[length] = 0;
    if (type == OP_EXEC && request->argv[0][0] == 0) return "the command is empty";
    return NULL;
}

void request_free(struct request *request) {
    free(request->argv);
    free(request->envp);
    request->argv = request->envp = NULL;
}

bool request_has(const struct request *request, enum tag tag) {
    return request->present & BIT(tag);
}

const char *request_string(const struct request *request, enum tag tag) {
    return request->field[tag].data;
}

uint32_t request_u32(const struct request *request, enum tag tag, uint32_t fallback) {
    const struct span *field = &request->field[tag];
    return field->data ? get_u32((const uint8_t *)field->data) : fallback;
}

uint64_t request_u64(const struct request *request, enum tag tag, uint64_t fallback) {
    const uint8_t *data = (const uint8_t *)request->field[tag].data;
    return data ? get_u32(data) | (uint64_t)get_u32(data + 4) << 32 : fallback;
}

bool buffer_reserve(struct buffer *buffer, size_t bytes) {
    if (buffer->failed) return false;
    if (buffer->capacity - buffer->length >= bytes) return true;
    size_t capacity = buffer->capacity ? buffer->capacity : 256;
    while (capacity - buffer->length < bytes) capacity *= 2;
    uint8_t *data = realloc(buffer->data, capacity);
    if (!data) {
        buffer->failed = true;
        return false;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return true;
}

void buffer_put(struct buffer *buffer, const void *data, size_t bytes) {
    if (!bytes || !buffer_reserve(buffer, bytes)) return;
    memcpy(buffer->data + buffer->length, data, bytes);
    buffer->length += bytes;
}

void buffer_free(struct buffer *buffer) {
    free(buffer->data);
    memset(buffer, 0, sizeof *buffer);
}

size_t buffer_pending(const struct buffer *buffer) {
    return buffer->length - buffer->sent;
}

size_t frame_begin(struct buffer *buffer, enum frame_type type) {
    size_t start = buffer->length;
    const uint8_t header[FRAME_HEADER_BYTES] = {0, 0, 0, 0, (uint8_t)type, 0, 0, 0};
    buffer_put(buffer, header, sizeof header);
    return start;
}

void frame_end(struct buffer *buffer, size_t start) {
    if (buffer->failed) return;
    set_u32(buffer->data + start, (uint32_t)(buffer->length - start - FRAME_HEADER_BYTES));
}

void frame_put(struct buffer *buffer, enum frame_type type, const void *data, size_t bytes) {
    size_t start = frame_begin(buffer, type);
    buffer_put(buffer, data, bytes);
    frame_end(buffer, start);
}

void put_bytes(struct buffer *buffer, enum tag tag, const void *value, size_t bytes) {
    uint8_t head[4];
    set_u32(head, (uint32_t)bytes << 8 | (uint32_t)tag);
    buffer_put(buffer, head, sizeof head);
    buffer_put(buffer, value, bytes);
}

void put_u32(struct buffer *buffer, enum tag tag, uint32_t value) {
    uint8_t bytes[4];
    set_u32(bytes, value);
    put_bytes(buffer, tag, bytes, sizeof bytes);
}

void put_u64(struct buffer *buffer, enum tag tag, uint64_t value) {
    uint8_t bytes[8];
    set_u32(bytes, (uint32_t)value);
    set_u32(bytes + 4, (uint32_t)(value >> 32));
    put_bytes(buffer, tag, bytes, sizeof bytes);
}

void put_string(struct buffer *buffer, enum tag tag, const char *value) {
    if (value) put_bytes(buffer, tag, value, strlen(value));
}

void put_error(struct buffer *buffer, int error, const char *code, const char *message) {
    size_t start = frame_begin(buffer, SAY_ERROR);
    put_u32(buffer, TAG_ERRNO, (uint32_t)error);
    put_string(buffer, TAG_CODE, code ? code : error_code(error));
    put_string(buffer, TAG_MESSAGE, message ? message : strerror(error));
    frame_end(buffer, start);
}

const char *error_code(int error) {
    static const struct {
        int error;
        const char *code;
    } codes[] = {
        {ENOENT, "not-found"},       {ESRCH, "not-found"},        {EACCES, "permission"},
        {EPERM, "permission"},       {EROFS, "read-only"},        {ELOOP, "is-symlink"},
        {ENOSPC, "no-space"},        {EDQUOT, "quota"},           {EEXIST, "exists"},
        {ENOTEMPTY, "not-empty"},    {ENOTDIR, "not-directory"},  {EISDIR, "is-directory"},
        {E2BIG, "too-large"},        {EFBIG, "too-large"},        {ENAMETOOLONG, "too-large"},
        {ERANGE, "too-large"},       {EAGAIN, "too-many"},        {EMFILE, "too-many"},
        {ENFILE, "too-many"},        {EUSERS, "too-many"},        {ENOMEM, "no-memory"},
        {ENODATA, "no-attribute"},   {ENOTSUP, "unsupported"},    {EINVAL, "bad-request"},
        {EXDEV, "cross-device"},     {EBUSY, "busy"},             {ESTALE, "changed"},
        {ECONNREFUSED, "refused"},   {ETIMEDOUT, "timeout"},      {EINPROGRESS, "timeout"},
        {ECONNABORTED, "aborted"},   {EBADMSG, "bad-request"},    {EMEDIUMTYPE, "not-regular"},
        {ENXIO, "not-regular"},
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].error == error) return codes[i].code;
    return "io";
}
