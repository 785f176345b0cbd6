/* What is written down about each sandbox, and how a restarted warden finds them again. Also the small
 * files of /proc and the cgroup tree, which both need. */
#include <dirent.h>
#include <signal.h>
#include <sys/statfs.h>

#include "warden.h"

#define STATE_BYTES_MAX (64u * 1024u)
#define USAGE_BYTES_MAX 512u

int file_write(int directory, const char *path, const char *text)
{
    CLEANUP_FD int fd = openat(directory, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = write(fd, text, strlen(text));
    if (n >= 0 && (size_t)n != strlen(text))
        errno = EIO;
    return n >= 0 && (size_t)n == strlen(text) ? 0 : -1;
}

ssize_t file_read(int directory, const char *path, char *text, size_t size)
{
    CLEANUP_FD int fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    ssize_t n = fd < 0 ? -1 : read(fd, text, size - 1);
    text[n > 0 ? n : 0] = 0;
    return n;
}

/* Pid and start time name one process of one boot; the namespace's inode tells a sandbox from anything else. */
int proc_facts(pid_t pid, uint64_t *start_time, uint64_t *namespace_inode)
{
    char path[64], text[1024];
    struct stat found;
    snprintf(path, sizeof path, "/proc/%d/ns/pid", pid);
    if (stat(path, &found) < 0)
        return -1;
    *namespace_inode = found.st_ino;
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    if (file_read(AT_FDCWD, path, text, sizeof text) <= 0)
        return -1;
    const char *at = strrchr(text, ')'); /* the name before it may hold spaces and brackets */
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    errno = EPROTO;
    return at && sscanf(at, " %lu", start_time) == 1 ? 0 : -1;
}

int state_write(const struct sandbox *box)
{
    char name[32], temporary[32], text[STATE_BYTES_MAX];
    snprintf(name, sizeof name, "%s.state", box->id);
    snprintf(temporary, sizeof temporary, "%s.new", box->id);
    int used = snprintf(text, sizeof text, "1 %s %d %lu %lu %ld\n", warden.boot_id, box->pid, box->start_time,
                        box->namespace_inode, box->created_ms);
    for (unsigned i = 0; i < box->cgroup_count; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s\n", box->cgroups[i]);
    CLEANUP_FD int fd = openat(warden.run_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || write(fd, text, (size_t)used) != used)
        return -1;
    return renameat(warden.run_fd, temporary, warden.run_fd, name);
}

/* From whatever the cgroups offer; who asked knows what each file means. A name that one hierarchy lacks
 * is not looked for again: looking for what is not there costs the kernel more than reading. */
void usage_read(const struct sandbox *box, struct buffer *out)
{
    static const char *const names[] = {
        "memory.current", "memory.peak", "memory.events", "memory.usage_in_bytes", "memory.max_usage_in_bytes",
        "memory.oom_control", "cpu.stat", "cpuacct.usage", "pids.current",
    };
    static uint32_t lacks[ROOTS_MAX];
    for (unsigned i = 0; i < box->cgroup_count; i++) {
        unsigned root = 0;
        size_t length = strlen(box->cgroups[i]) - ID_CHARS - 1;
        while (root < warden.root_count && (strncmp(warden.roots[root], box->cgroups[i], length) || warden.roots[root][length]))
            root++;
        for (unsigned n = 0; n < sizeof names / sizeof *names; n++) {
            char path[PATH_BYTES], value[64 + USAGE_BYTES_MAX];
            if (root < warden.root_count && lacks[root] >> n & 1)
                continue;
            snprintf(path, sizeof path, "%s/%s", box->cgroups[i], names[n]);
            size_t at = (size_t)snprintf(value, 64, "%s", names[n]) + 1;
            if (file_read(AT_FDCWD, path, value + at, USAGE_BYTES_MAX) >= 0)
                put(out, T_FILE, value, at + strlen(value + at) + 1);
            else if (root < warden.root_count && errno == ENOENT)
                lacks[root] |= 1u << n;
        }
    }
}

bool cgroups_remove(struct sandbox *box)
{
    bool is_clean = true;
    for (unsigned i = 0; i < box->cgroup_count; i++)
        if (rmdir(box->cgroups[i]) < 0 && errno != ENOENT)
            is_clean = false;
    return is_clean;
}

static bool state_parse(struct sandbox *box, char *text, char *boot_id)
{
    int used = 0;
    int fields = sscanf(text, "1 %36s %d %lu %lu %ld%n", boot_id, &box->pid, &box->start_time,
                        &box->namespace_inode, &box->created_ms, &used);
    if (fields != 5 || text[used] != '\n' || box->pid <= 1)
        return false;
    for (char *line = text + used + 1, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (line[0] != '/' || box->cgroup_count == ROOTS_MAX || strcmp(strrchr(line, '/') + 1, box->id))
            return false;
        box->cgroups[box->cgroup_count] = strdup(line);
        box->cgroup_count += box->cgroups[box->cgroup_count] != NULL;
    }
    return true;
}

/* A pidfd pins the process: facts that are right after it was opened stay right. Not being able to look is
 * no proof of an end: what may be alive is better left alone than killed. */
static int survivor_open(const struct sandbox *box, const char *boot_id)
{
    uint64_t start_time = 0, inode = 0;
    if (strcmp(boot_id, warden.boot_id))
        return -1;
    errno = 0;
    int fd = (int)syscall(SYS_pidfd_open, box->pid, 0);
    bool is_same = fd >= 0 && proc_facts(box->pid, &start_time, &inode) == 0 && start_time == box->start_time &&
                   inode == box->namespace_inode;
    if (!is_same && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        die(71, "adoption");
    if (!is_same)
        close_fd(&fd);
    return fd;
}

static bool is_frozen(const struct sandbox *box)
{
    char path[PATH_BYTES], text[16] = "";
    for (unsigned i = 0; i < box->cgroup_count && !text[0]; i++) {
        snprintf(path, sizeof path, "%s/cgroup.freeze", box->cgroups[i]);
        if (file_read(AT_FDCWD, path, text, sizeof text) > 0)
            break;
        snprintf(path, sizeof path, "%s/freezer.state", box->cgroups[i]);
        file_read(AT_FDCWD, path, text, sizeof text);
    }
    return text[0] == '1' || text[0] == 'F';
}

/* By its cgroups: what is left of it, if anything. */
static void leftover_end(struct sandbox *box)
{
    sandbox_kill(box);
    for (int tries = 0; !cgroups_remove(box) && tries < CLEAN_TRIES_MAX; tries++)
        usleep(CLEAN_RETRY_MS * 1000);
    sandbox_forget(box);
}

static void adopt_one(const char *name)
{
    char id[ID_CHARS + 1] = {0}, boot_id[40] = {0}, text[STATE_BYTES_MAX];
    memcpy(id, name, ID_CHARS);
    ssize_t length = file_read(warden.run_fd, name, text, sizeof text);
    struct sandbox *box = length < 0 ? NULL : sandbox_new(id);
    if (!box)
        die(71, name);
    box->adopted = true;
    int fd = state_parse(box, text, boot_id) ? survivor_open(box, boot_id) : -1;
    if (fd >= 0) {
        box->frozen = is_frozen(box);
        sandbox_adopt(box, fd);
        return;
    }
    leftover_end(box);
    unlinkat(warden.run_fd, name, 0);
}

static bool name_is(const char *name, const char *suffix)
{
    char id[ID_CHARS + 1] = {0};
    if (strlen(name) != ID_CHARS + strlen(suffix) || strcmp(name + ID_CHARS, suffix))
        return false;
    memcpy(id, name, ID_CHARS);
    return id_is_valid(id);
}

static void run_dir_sweep(bool is_adopting)
{
    DIR *directory = fdopendir(openat(warden.run_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char id[ID_CHARS + 1] = {0};
        snprintf(id, sizeof id, "%.20s", entry->d_name);
        if (is_adopting && name_is(entry->d_name, ".state"))
            adopt_one(entry->d_name);
        else if (!is_adopting && (name_is(entry->d_name, ".sock") || name_is(entry->d_name, ".new")) && !sandbox_find(id))
            unlinkat(warden.run_fd, entry->d_name, 0);
    }
    if (directory)
        closedir(directory);
}

/* A cgroup without a state file is of a create that was cut short: its child never got its "go". */
static void root_sweep(const char *root)
{
    DIR *directory = opendir(root);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (!id_is_valid(entry->d_name) || sandbox_find(entry->d_name))
            continue;
        struct sandbox *box = sandbox_new(entry->d_name);
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", root, entry->d_name);
        if (!box)
            continue;
        box->cgroups[0] = strdup(path);
        box->cgroup_count = box->cgroups[0] != NULL;
        leftover_end(box);
    }
    if (directory)
        closedir(directory);
}

void adopt_all(void)
{
    run_dir_sweep(true);
    run_dir_sweep(false);
    for (unsigned i = 0; i < warden.root_count; i++)
        root_sweep(warden.roots[i]);
}
