/* Listening TCP ports and who listens, and the sandbox's resource numbers: all from /proc. */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "helper.h"

#define LISTENER_COUNT_MAX 1024
#define PROC_FILE_BYTES_MAX (4u << 20)
#define DESCRIPTORS_READ_MAX (1u << 20)

struct listener {
    unsigned long inode;
    unsigned port, uid, pid;
    char address[INET6_ADDRSTRLEN], command[64];
};

struct table {
    size_t count;
    unsigned descriptors_read;
    struct listener listeners[LISTENER_COUNT_MAX];
};

/* Addresses are printed as 32-bit words in the machine's byte order, as they lie in memory. */
static void parse_listener(struct table *table, const char *line) {
    char address[33], text[INET6_ADDRSTRLEN];
    unsigned port, state, uid;
    unsigned long inode;
    uint32_t words[4] = {0, 0, 0, 0};
    if (table->count == LISTENER_COUNT_MAX) return;
    if (sscanf(line, " %*u: %32[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*x:%*x %*x:%*x %*x %u %*u %lu",
               address, &port, &state, &uid, &inode) != 5 || state != 0x0a)
        return;
    size_t word_count = strlen(address) / 8;
    for (size_t i = 0; i < word_count && i < 4; i++) {
        char word[9] = {0};
        memcpy(word, address + 8 * i, 8);
        words[i] = (uint32_t)strtoul(word, NULL, 16);
    }
    if (!inet_ntop(word_count == 1 ? AF_INET : AF_INET6, words, text, sizeof text)) return;
    struct listener *listener = &table->listeners[table->count++];
    *listener = (struct listener){.inode = inode, .port = port, .uid = uid};
    memcpy(listener->address, text, sizeof text);
}

static void read_listeners(struct table *table, const char *path) {
    char *text = read_small_file(path, PROC_FILE_BYTES_MAX), *rest = text;
    for (char *line; rest && (line = strsep(&rest, "\n"));) parse_listener(table, line);
    free(text);
}

static void found_socket(struct table *table, unsigned long inode, const char *pid) {
    for (size_t i = 0; i < table->count; i++) {
        struct listener *listener = &table->listeners[i];
        if (listener->inode != inode || listener->pid) continue;
        char path[64];
        listener->pid = (unsigned)strtoul(pid, NULL, 10);
        snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
        char *comm = read_small_file(path, sizeof listener->command - 1);
        if (comm) snprintf(listener->command, sizeof listener->command, "%.*s",
                           (int)strcspn(comm, "\n"), comm);
        free(comm);
    }
}

/*
 * Looking at another user's descriptors asks for the same ids or for CAP_SYS_PTRACE, which nobody
 * in a sandbox has; so for each process this helper takes its ids for a moment.
 */
static void search_process(struct table *table, const char *pid) {
    char path[64], target[64];
    unsigned long inode;
    struct stat stat;
    snprintf(path, sizeof path, "/proc/%.20s", pid);
    if (lstat(path, &stat) < 0) return;
    setfsgid(stat.st_gid);
    setfsuid(stat.st_uid);
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (++table->descriptors_read > DESCRIPTORS_READ_MAX) break;
        ssize_t length = readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1);
        if (length <= 0) continue;
        target[length] = 0;
        if (sscanf(target, "socket:[%lu]", &inode) == 1) found_socket(table, inode, pid);
    }
    if (dir) closedir(dir);
    setfsuid(0);
    setfsgid(0);
}

_Noreturn void op_ports(struct helper *helper) {
    static struct table table;
    struct buffer *out = &helper->out;
    read_listeners(&table, "/proc/net/tcp");
    read_listeners(&table, "/proc/net/tcp6");
    DIR *proc = table.count ? opendir("/proc") : NULL;
    for (struct dirent *entry; proc && (entry = readdir(proc));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9') search_process(&table, entry->d_name);
    for (size_t i = 0; i < table.count; i++) {
        const struct listener *listener = &table.listeners[i];
        size_t start = frame_begin(out, SAY_ENTRY);
        put_u32(out, TAG_PORT, listener->port);
        put_string(out, TAG_ADDRESS, listener->address);
        put_u32(out, TAG_UID, listener->uid);
        if (listener->pid) put_u32(out, TAG_PID, listener->pid);
        if (listener->command[0]) put_string(out, TAG_COMMAND, listener->command);
        frame_end(out, start);
        helper_flush_if_full(helper);
    }
    frame_put(out, SAY_END, NULL, 0);
    helper_done(helper);
}

struct totals {
    uint32_t count;
    uint64_t rss_pages, cpu_ticks;
};

static void add_process(struct totals *totals, const char *pid) {
    char path[64];
    unsigned long user, system;
    long rss;
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    char *text = read_small_file(path, 4096);
    /* The name in parentheses may hold anything, so fields are counted after the last one. */
    const char *after = text ? strrchr(text, ')') : NULL;
    if (after && sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %*d %*d %*d"
                        " %*d %*d %*d %*u %*u %ld", &user, &system, &rss) == 3) {
        totals->count++;
        totals->rss_pages += rss > 0 ? (uint64_t)rss : 0;
        totals->cpu_ticks += user + system;
    }
    free(text);
}

static uint64_t meminfo_bytes(const char *text, const char *name) {
    unsigned long long kilobytes = 0;
    const char *at = text ? strstr(text, name) : NULL;
    if (at) sscanf(at + strlen(name), " %llu", &kilobytes);
    return kilobytes * 1024;
}

static void put_disk(struct buffer *out, const char *path, enum tag total, enum tag free_tag) {
    struct statfs fs;
    if (statfs(path, &fs) < 0) memset(&fs, 0, sizeof fs);
    uint64_t block = fs.f_bsize > 0 ? (uint64_t)fs.f_bsize : 0;
    put_u64(out, total, block * fs.f_blocks);
    put_u64(out, free_tag, block * fs.f_bavail);
}

_Noreturn void op_stats(struct helper *helper) {
    struct totals totals = {0, 0, 0};
    struct buffer *out = &helper->out;
    double load = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *entry; proc && (entry = readdir(proc));)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9') add_process(&totals, entry->d_name);
    char *meminfo = read_small_file("/proc/meminfo", 65536);
    char *loadavg = read_small_file("/proc/loadavg", 128);
    if (loadavg) load = strtod(loadavg, NULL);
    size_t start = frame_begin(out, SAY_OK);
    put_u32(out, TAG_COUNT, totals.count);
    put_u64(out, TAG_RSS, totals.rss_pages * (uint64_t)sysconf(_SC_PAGESIZE));
    put_u64(out, TAG_CPU_US, totals.cpu_ticks * 1000000 / (uint64_t)sysconf(_SC_CLK_TCK));
    put_u64(out, TAG_MEMORY_TOTAL, meminfo_bytes(meminfo, "MemTotal:"));
    put_u64(out, TAG_MEMORY_AVAILABLE, meminfo_bytes(meminfo, "MemAvailable:"));
    put_u32(out, TAG_LOAD_MILLI, load > 0 && load < 4e6 ? (uint32_t)(load * 1000) : 0);
    put_disk(out, "/", TAG_DISK_TOTAL, TAG_DISK_FREE);
    put_disk(out, "/tmp", TAG_TMP_TOTAL, TAG_TMP_FREE);
    frame_end(out, start);
    helper_done(helper);
}
