/* Users of the sandbox: its own passwd and group files, read with bounds, and becoming one. */
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#define FIELD_COUNT_MAX 7

char *read_small_file(const char *path, size_t bytes_max) {
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return NULL;
    struct stat stat;
    char *text = NULL;
    size_t size = 0, capacity = 4096;
    if (fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode)) {
        /* Files below /proc say 0 and are read as they come. */
        if (stat.st_size > 0) capacity = (size_t)stat.st_size + 1;
        if (capacity > bytes_max) capacity = bytes_max;
        text = malloc(capacity + 1);
    }
    while (text) {
        ssize_t count = read(fd, text + size, capacity - size);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) break;
        size += (size_t)count;
        if (size < capacity) continue;
        if (capacity >= bytes_max) break;
        capacity = capacity * 2 < bytes_max ? capacity * 2 : bytes_max;
        char *larger = realloc(text, capacity + 1);
        if (!larger) break;
        text = larger;
    }
    close(fd);
    if (text) text[size] = 0;
    return text;
}

/* Cuts the next line of text into fields at ':'; returns how many, or -1 at the end. */
static int next_line(char **text, char *fields[FIELD_COUNT_MAX]) {
    char *line = *text;
    if (!line || !*line) return -1;
    char *end = strchr(line, '\n');
    *text = end ? end + 1 : NULL;
    if (end) *end = 0;
    int count = 0;
    while (line && count < FIELD_COUNT_MAX) {
        fields[count++] = line;
        line = strchr(line, ':');
        if (line) *line++ = 0;
    }
    return count;
}

static bool parse_id(const char *text, uint32_t *id) {
    uint64_t value = 0;
    size_t length = strlen(text);
    if (length == 0 || length > 10) return false;
    for (const char *at = text; *at; at++) {
        if (*at < '0' || *at > '9') return false;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    *id = (uint32_t)value;
    return value < UINT32_MAX; /* the last one means "no change" to the kernel */
}

static bool find_passwd(char *text, const char *name, const uint32_t *uid, struct user *user) {
    char *fields[FIELD_COUNT_MAX] = {NULL};
    int count;
    while (text && (count = next_line(&text, fields)) >= 0) {
        uint32_t line_uid, line_gid;
        if (count < 6 || !parse_id(fields[2], &line_uid) || !parse_id(fields[3], &line_gid))
            continue;
        if (name ? strcmp(fields[0], name) != 0 : line_uid != *uid) continue;
        user->uid = line_uid;
        user->gid = line_gid;
        snprintf(user->name, sizeof user->name, "%s", fields[0]);
        snprintf(user->home, sizeof user->home, "%s", fields[5][0] == '/' ? fields[5] : "/");
        if (count > 6 && fields[6][0] == '/')
            snprintf(user->shell, sizeof user->shell, "%s", fields[6]);
        return true;
    }
    return false;
}

/* Looks for a group and, when user is given, collects the ones that list the user. */
static bool scan_groups(char *text, const char *wanted, gid_t *gid, struct user *user) {
    char *fields[FIELD_COUNT_MAX] = {NULL};
    bool found = wanted && parse_id(wanted, gid);
    int count;
    while (text && (count = next_line(&text, fields)) >= 0) {
        uint32_t line_gid;
        if (count < 3 || !parse_id(fields[2], &line_gid)) continue;
        if (wanted && strcmp(fields[0], wanted) == 0) {
            *gid = line_gid;
            found = true;
        }
        for (char *rest = user && count > 3 ? fields[3] : NULL, *member; rest;) {
            member = strsep(&rest, ",");
            bool full = user->group_count == SUPPLEMENTARY_GROUPS_MAX;
            if (!full && strcmp(member, user->name) == 0)
                user->groups[user->group_count++] = line_gid;
        }
    }
    return found;
}

bool user_parse(const char *spec, char *passwd, char *group, struct user *user) {
    char name[128];
    snprintf(name, sizeof name, "%s", spec);
    char *wanted_group = strchr(name, ':');
    if (wanted_group) *wanted_group++ = 0;
    uint32_t uid = 0;
    bool numeric = parse_id(name, &uid);
    memset(user, 0, sizeof *user);
    snprintf(user->home, sizeof user->home, "/");
    snprintf(user->shell, sizeof user->shell, "/bin/sh");
    bool found = find_passwd(passwd, numeric ? NULL : name, &uid, user);
    if (!found && !numeric) return false;
    if (!found) {
        user->uid = user->gid = uid;
        snprintf(user->name, sizeof user->name, "%s", name);
    }
    gid_t gid = user->gid;
    bool has_group = scan_groups(group, wanted_group, &gid, found ? user : NULL);
    if (wanted_group && !has_group) return false;
    user->gid = gid;
    return true;
}

bool user_find(const char *spec, struct user *user) {
    char fallback[16];
    snprintf(fallback, sizeof fallback, "%u", (unsigned)guest.default_uid);
    char *passwd = read_small_file("/etc/passwd", USER_FILE_BYTES_MAX);
    char *group = read_small_file("/etc/group", USER_FILE_BYTES_MAX);
    bool found = user_parse(spec ? spec : fallback, passwd, group, user);
    free(passwd);
    free(group);
    return found;
}

bool group_find(const char *spec, gid_t *gid) {
    char *group = read_small_file("/etc/group", USER_FILE_BYTES_MAX);
    bool found = scan_groups(group, spec, gid, NULL);
    free(group);
    return found;
}

/* The helper that lists files asks for the same few ids again and again. */
void user_name_of(uid_t uid, char *name, size_t size) {
    struct user user;
    char *passwd = read_small_file("/etc/passwd", USER_FILE_BYTES_MAX);
    const uint32_t wanted = uid;
    if (find_passwd(passwd, NULL, &wanted, &user)) snprintf(name, size, "%s", user.name);
    else snprintf(name, size, "%u", (unsigned)uid);
    free(passwd);
}

void group_name_of(gid_t gid, char *name, size_t size) {
    char *group = read_small_file("/etc/group", USER_FILE_BYTES_MAX), *text = group;
    char *fields[FIELD_COUNT_MAX] = {NULL};
    int count;
    snprintf(name, size, "%u", (unsigned)gid);
    while (text && (count = next_line(&text, fields)) >= 0) {
        uint32_t line_gid;
        if (count < 3 || !parse_id(fields[2], &line_gid) || line_gid != gid) continue;
        snprintf(name, size, "%s", fields[0]);
        break;
    }
    free(group);
}

static void drop_capabilities(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    syscall(SYS_capset, &header, none);
}

int user_become(const struct user *user) {
    if (guest.can_switch_user) {
        if (setgroups(user->group_count, user->groups) < 0
            || setresgid(user->gid, user->gid, user->gid) < 0
            || setresuid(user->uid, user->uid, user->uid) < 0)
            return -1;
    }
    /* With one id mapped everyone is that id; what can still be given up is given up. */
    if (user->uid != 0) drop_capabilities();
    return 0;
}

void user_detect_mapping(void) {
    char *map = read_small_file("/proc/self/uid_map", 65536);
    char *setgroups_state = read_small_file("/proc/self/setgroups", 64);
    uint64_t total = 0;
    for (char *line = map; line && *line;) {
        unsigned long inside, outside, count;
        if (sscanf(line, "%lu %lu %lu", &inside, &outside, &count) == 3) total += count;
        line = strchr(line, '\n');
        if (line) line++;
    }
    bool may = !setgroups_state || strncmp(setgroups_state, "allow", 5) == 0;
    guest.mapped_uid_count = total > UINT32_MAX ? UINT32_MAX : (uint32_t)total;
    guest.can_switch_user = geteuid() == 0 && may && total > 1;
    free(map);
    free(setgroups_state);
}
