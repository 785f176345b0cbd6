/* Parsing never acts: a request is checked from its first byte to its last before anything happens. */
#include <sys/resource.h>

#include "warden.h"

enum { REQUIRED = 1, MANY = 2 };
enum { HEAD, SETUP, PIVOT, USER, PRIVILEGE, FILTER, OTHER };

/* `format`: u = u32, q = u64, s = NUL-ended string, b = the rest as bytes. Plan records come in
 * the order of their phases, so that no plan can run a guest outside its root or with its filter off. */
static const struct shape {
    uint16_t tag;
    const char *format;
    uint8_t phase, flags;
} shapes[] = {
    {T_ID, "s", HEAD, REQUIRED},
    {T_GUEST, "s", HEAD, REQUIRED},
    {T_ARG, "s", HEAD, MANY},
    {T_ENV, "s", HEAD, MANY},
    {T_USERNS, "uuu", HEAD, REQUIRED}, /* uid base, gid base, count */
    {T_CGROUP, "uu", HEAD, MANY},      /* root index, version */
    {T_CGFILE, "uuss", HEAD, MANY},     /* root index, 1: may lack, file, value */
    {T_LAYER, "us", SETUP, MANY},      /* bind flags, host path; the topmost first */
    {T_OVERLAY, "u", SETUP, REQUIRED}, /* overlay flags */
    {T_BIND, "uss", SETUP, MANY},      /* bind flags, host path, target */
    {T_TMPFS, "qq", SETUP, 0},           /* bytes, inodes: one for all scratch places */
    {T_SCRATCH, "uuuuss", SETUP, MANY},  /* attributes, mode, uid, gid, name, target */
    {T_PROC, "s", SETUP, MANY},
    {T_DEVPTS, "uus", SETUP, MANY},      /* gid or ~0, terminals at most, target */
    {T_NODE, "uuuuuss", SETUP, MANY},    /* major, minor, mode, uid, gid, host path or "", target */
    {T_MKDIR, "uuus", SETUP, MANY},      /* mode, uid, gid, target */
    {T_SYMLINK, "ss", SETUP, MANY},      /* value, target */
    {T_MASK, "s", SETUP, MANY},
    {T_HOSTNAME, "s", SETUP, 0},
    {T_LOOPBACK, "", SETUP, 0},
    {T_SYSCTL, "ss", SETUP, MANY},  /* path below /proc/sys/net, value */
    {T_RLIMIT, "uqq", SETUP, MANY}, /* resource, soft, hard */
    {T_PIVOT, "", PIVOT, REQUIRED},
    {T_ENTER, "", USER, REQUIRED},
    {T_CAPS, "q", PRIVILEGE, REQUIRED}, /* mask of capabilities that stay */
    {T_NO_NEW_PRIVS, "", PRIVILEGE, REQUIRED},
    {T_SECCOMP, "ub", FILTER, 0}, /* seccomp(2) flags, struct sock_filter[] */
    {T_PORT, "uu", OTHER, 0},     /* address family, port */
    {T_VOLUME, "uuqq", OTHER, 0}, /* uid, gid, bytes at most or 0, inodes at most or 0 */
    {T_POOL, "u", OTHER, 0},      /* 1: switch quotas on */
    {T_EVENTS, "", OTHER, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static const struct shape *shape_of(uint16_t tag)
{
    for (unsigned i = 0; i < SHAPES; i++)
        if (shapes[i].tag == tag)
            return &shapes[i];
    return NULL;
}

bool id_is_valid(const char *id)
{
    if (strlen(id) != ID_CHARS || id[0] < 'a' || id[0] > 'z')
        return false;
    return strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789") == ID_CHARS;
}

/* Reads one value by its shape. Strings stay where they are, in the request. */
static bool value_parse(struct record *record, const char *format, const uint8_t *at, size_t left)
{
    unsigned numbers = 0, strings = 0;
    for (; *format; format++) {
        size_t width = *format == 'u' ? 4 : *format == 'q' ? 8 : 0;
        if (*format == 's') {
            const uint8_t *end = left ? memchr(at, 0, left) : NULL;
            if (!end || (size_t)(end - at) >= PATH_BYTES)
                return false;
            record->s[strings++] = (const char *)at;
            width = (size_t)(end - at) + 1;
        } else if (*format == 'b') {
            record->bytes = at;
            record->byte_count = width = left;
        } else {
            if (left < width)
                return false;
            uint64_t value = 0;
            memcpy(&value, at, width);
            record->n[numbers++] = value;
        }
        at += width;
        left -= width;
    }
    return left == 0;
}

/* An absolute path without empty, "." or ".." components; inside and outside the sandbox alike. */
static bool path_is_clean(const char *path)
{
    if (path[0] != '/' || path[1] == 0)
        return false;
    for (const char *part = path; *part;) {
        size_t length = strcspn(++part, "/");
        if (length == 0 || (part[0] == '.' && (length == 1 || (length == 2 && part[1] == '.'))))
            return false;
        part += length;
    }
    return true;
}

static bool is_below_net(const char *path)
{
    return strncmp(path, "net/", 4) == 0 && !strstr(path, "..") && !strstr(path, "//");
}

static bool range_is_valid(const struct record *map)
{
    uint64_t count = map->n[2], last = UINT32_MAX - 1;
    /* A privileged warden never maps a range that could hold a person's or a service's id. */
    bool is_low = warden.privileged && (map->n[0] < 0x10000 || map->n[1] < 0x10000);
    return count && !is_low && map->n[0] + count - 1 <= last && map->n[1] + count - 1 <= last;
}

static bool record_is_valid(const struct record *r)
{
    if (r->tag == T_ID)
        return id_is_valid(r->s[0]);
    if (r->tag == T_USERNS)
        return range_is_valid(r);
    if (r->tag == T_CGROUP)
        return r->n[0] < warden.root_count && (r->n[1] == 1 || r->n[1] == 2);
    if (r->tag == T_CGFILE)
        return r->n[0] < warden.root_count && !strchr(r->s[0], '/') && r->s[0][0] != '.' && r->s[0][0];
    if (r->tag == T_GUEST || r->tag == T_LAYER || r->tag == T_PROC || r->tag == T_MASK ||
        r->tag == T_DEVPTS || r->tag == T_MKDIR)
        return path_is_clean(r->s[0]);
    if (r->tag == T_BIND)
        return path_is_clean(r->s[0]) && path_is_clean(r->s[1]);
    if (r->tag == T_SCRATCH)
        return path_is_clean(r->s[1]) && !strchr(r->s[0], '/') && r->s[0][0] && r->s[0][0] != '.';
    if (r->tag == T_NODE)
        return path_is_clean(r->s[1]) && (r->s[0][0] == 0 || path_is_clean(r->s[0]));
    if (r->tag == T_SYMLINK)
        return path_is_clean(r->s[1]) && r->s[0][0];
    if (r->tag == T_HOSTNAME)
        return strlen(r->s[0]) <= 64 && r->s[0][0];
    if (r->tag == T_SYSCTL)
        return is_below_net(r->s[0]);
    if (r->tag == T_RLIMIT)
        return r->n[0] < RLIM_NLIMITS && r->n[1] <= r->n[2];
    if (r->tag == T_SECCOMP)
        return r->byte_count && r->byte_count % 8 == 0 && r->byte_count / 8 <= 4096;
    if (r->tag == T_PORT)
        return (r->n[0] == AF_INET || r->n[0] == AF_INET6) && r->n[1] >= 1 && r->n[1] <= 65535;
    if (r->tag == T_VOLUME)
        return r->n[0] != UINT32_MAX && r->n[1] != UINT32_MAX;
    return true;
}

const struct record *plan_find(const struct plan *plan, uint16_t tag)
{
    for (unsigned i = 0; i < plan->record_count; i++)
        if (plan->records[i].tag == tag)
            return &plan->records[i];
    return NULL;
}

static bool has_required(const struct plan *plan)
{
    for (unsigned i = 0; i < SHAPES; i++)
        if ((shapes[i].flags & REQUIRED) && !plan_find(plan, shapes[i].tag))
            return false;
    return true;
}

/* Other requests carry at most an id and one record of their own; a plan only for CREATE and CHECK. */
static bool is_allowed(uint32_t op, const struct shape *shape)
{
    bool is_plan = op == OP_CREATE || op == OP_CHECK;
    return is_plan ? shape->phase != OTHER : shape->tag == T_ID || shape->phase == OTHER;
}

int plan_parse(struct plan *plan, uint32_t op, const uint8_t *bytes, size_t length)
{
    plan->record_count = 0;
    uint8_t phase = HEAD;
    while (length) {
        uint16_t head[2];
        if (length < sizeof head || plan->record_count == RECORDS_MAX)
            return EBADMSG;
        memcpy(head, bytes, sizeof head);
        bytes += sizeof head;
        length -= sizeof head;
        const struct shape *shape = shape_of(head[0]);
        if (!shape || head[1] > length || !is_allowed(op, shape) || shape->phase < phase)
            return EBADMSG;
        if (!(shape->flags & MANY) && plan_find(plan, shape->tag))
            return EBADMSG;
        struct record *record = &plan->records[plan->record_count];
        memset(record, 0, sizeof *record);
        record->tag = shape->tag;
        if (!value_parse(record, shape->format, bytes, head[1]) || !record_is_valid(record))
            return EBADMSG;
        plan->record_count++;
        phase = shape->phase;
        bytes += head[1];
        length -= head[1];
    }
    const struct record *id = plan_find(plan, T_ID);
    plan->id = id ? id->s[0] : NULL;
    plan->guest = plan_find(plan, T_GUEST);
    plan->userns = plan_find(plan, T_USERNS);
    if (op == OP_CREATE || op == OP_CHECK)
        return has_required(plan) ? 0 : EBADMSG;
    bool needs_id = op != OP_HELLO && op != OP_LIST && op != OP_POOL_MOUNT && op != OP_VOLUME_LIST;
    return needs_id && !plan->id ? EBADMSG : 0;
}
