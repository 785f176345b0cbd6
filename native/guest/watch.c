/*
 * Recursive watching. Every watched directory is a node that knows its parent and its name, so a
 * rename of a directory changes one node and the paths of everything below follow.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "helper.h"

#define WATCH_COUNT_MAX 8192u
#define NODE_DEPTH_MAX 512
#define NO_NODE UINT32_MAX
#define MASK                                                                                       \
    (IN_CREATE | IN_CLOSE_WRITE | IN_MODIFY | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB  \
     | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK)

enum change { CREATED, MODIFIED, REMOVED, RENAMED, ATTRIBUTES, OVERFLOWED };

struct node {
    int watch;       /* inotify's number, -1 when free */
    uint32_t parent; /* NO_NODE for the root */
    char *name;
};

struct watcher {
    struct helper *helper;
    struct target root; /* not open: a descriptor would keep its removal from being told */
    dev_t device;
    ino_t inode;
    int inotify;
    bool recursive, overflowed, ended;
    uint32_t count, count_max; /* nodes ever used, and how many may be */
    struct node *nodes;
    uint32_t cookie, from_node; /* a MOVED_FROM that waits for its other half */
    bool from_directory;
    char *from_name;
};

static bool node_path(const struct watcher *watcher, uint32_t node, const char *name, char *path) {
    size_t at = PATH_BYTES_MAX;
    path[at] = 0;
    for (int i = 0; i < NODE_DEPTH_MAX; i++) {
        size_t length = strlen(name), slash = path[at] != 0 && length > 0;
        if (length + slash > at) return false;
        if (slash) path[--at] = '/';
        at -= length;
        memcpy(path + at, name, length);
        if (node == NO_NODE) {
            memmove(path, path + at, PATH_BYTES_MAX + 1 - at);
            return true;
        }
        name = watcher->nodes[node].name;
        node = watcher->nodes[node].parent;
    }
    return false;
}

static void emit(struct watcher *watcher, enum change change, const char *path, bool directory,
                 const char *from) {
    struct buffer *out = &watcher->helper->out;
    size_t start = frame_begin(out, SAY_EVENT);
    put_u32(out, TAG_KIND, change);
    put_string(out, TAG_PATH, path);
    if (directory) put_u32(out, TAG_TYPE, 1);
    put_string(out, TAG_FROM, from);
    frame_end(out, start);
    helper_flush_if_full(watcher->helper);
}

/* The temporary names that WRITE uses; 'n' for a new file, 'o' over an old one, 0 for others. */
static char temporary_kind(const char *name) {
    if (strncmp(name, TEMPORARY_NEW, strlen(TEMPORARY_NEW)) == 0) return 'n';
    return strncmp(name, TEMPORARY_OLD, strlen(TEMPORARY_OLD)) == 0 ? 'o' : 0;
}

static void emit_at(struct watcher *watcher, enum change change, uint32_t node, const char *name,
                    bool directory) {
    char path[PATH_BYTES_MAX + 1];
    if (temporary_kind(name)) return;
    if (node_path(watcher, node, name, path)) emit(watcher, change, path, directory, NULL);
}

/* Something may be missing from here on; said once until the client has seen it. */
static void overflow(struct watcher *watcher) {
    if (!watcher->overflowed) emit(watcher, OVERFLOWED, NULL, false, NULL);
    watcher->overflowed = true;
}

static uint32_t node_of(const struct watcher *watcher, int watch) {
    if (watch < 0) return NO_NODE; /* an overflow is nobody's */
    for (uint32_t i = 0; i < watcher->count; i++)
        if (watcher->nodes[i].watch == watch) return i;
    return NO_NODE;
}

static uint32_t node_child(const struct watcher *watcher, uint32_t parent, const char *name) {
    for (uint32_t i = 1; i < watcher->count; i++) {
        const struct node *node = &watcher->nodes[i];
        if (node->watch >= 0 && node->parent == parent && strcmp(node->name, name) == 0) return i;
    }
    return NO_NODE;
}

static void node_free(struct watcher *watcher, uint32_t index) {
    struct node *node = &watcher->nodes[index];
    node->watch = -1;
    free(node->name);
    node->name = NULL;
}

static void forget_tree(struct watcher *watcher, uint32_t index) {
    inotify_rm_watch(watcher->inotify, watcher->nodes[index].watch);
    node_free(watcher, index);
    for (uint32_t i = 1; i < watcher->count; i++)
        if (watcher->nodes[i].watch >= 0 && watcher->nodes[i].parent == index)
            forget_tree(watcher, i);
}

/* The analyzer of gcc 12 loses sight of memory that hangs on an array which grows. */
#pragma GCC diagnostic ignored "-Wanalyzer-malloc-leak"

static uint32_t node_new(struct watcher *watcher, uint32_t parent, const char *name, int watch) {
    uint32_t index = 0;
    while (index < watcher->count && watcher->nodes[index].watch >= 0) index++;
    if (index == watcher->count) {
        if (watcher->count % 64 == 0) {
            size_t size = (watcher->count + 64) * sizeof(struct node);
            struct node *nodes = realloc(watcher->nodes, size);
            if (!nodes) return NO_NODE;
            watcher->nodes = nodes;
        }
        watcher->count++;
    }
    struct node *node = &watcher->nodes[index];
    *node = (struct node){-1, parent, strdup(name)};
    if (!node->name) return NO_NODE;
    node->watch = watch;
    return index;
}

static int watch_directory(struct watcher *watcher, int fd, uint32_t parent, const char *name,
                           uint32_t *node) {
    char itself[40];
    snprintf(itself, sizeof itself, "/proc/self/fd/%d", fd);
    errno = EUSERS;
    if (watcher->count >= watcher->count_max) return -1;
    /* The last part of itself is a link on purpose. */
    int watch = inotify_add_watch(watcher->inotify, itself, MASK & ~(uint32_t)IN_DONT_FOLLOW);
    if (watch < 0) {
        if (errno == ENOSPC) errno = EUSERS;
        return -1;
    }
    *node = node_of(watcher, watch);
    if (*node != NO_NODE) return 1; /* already watched under another name */
    *node = node_new(watcher, parent, name, watch);
    errno = ENOMEM;
    return *node == NO_NODE ? -1 : 0;
}

/* Watches a directory and what is below it; tells of what is there already when it is new. */
static int add_tree(struct watcher *watcher, int fd, uint32_t parent, const char *name, bool tell) {
    uint32_t node;
    int result = watch_directory(watcher, fd, parent, name, &node);
    struct entries *entries = result == 0 && watcher->recursive ? calloc(1, sizeof *entries) : NULL;
    struct entry entry;
    if (entries) entries->fd = fd;
    while (result == 0 && entries && entries_next(entries, &entry) == 1) {
        struct stat stat;
        struct target target = {.dir = fd};
        snprintf(target.name, sizeof target.name, "%s", entry.name);
        bool directory = entry.type == DT_DIR;
        if (entry.type == DT_UNKNOWN && target_stat(&target, &stat) == 0)
            directory = S_ISDIR(stat.st_mode);
        if (tell) emit_at(watcher, CREATED, node, entry.name, directory);
        int child = directory ? path_open(&target, O_RDONLY | O_DIRECTORY) : -1;
        if (child >= 0) result = add_tree(watcher, child, node, entry.name, tell);
        else if (directory && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) result = -1;
    }
    free(entries);
    close_keeping_errno(fd);
    return result < 0 ? -1 : 0;
}

static int open_root(const struct watcher *watcher) {
    struct stat stat;
    int fd = path_open(&watcher->root, O_RDONLY | O_DIRECTORY);
    bool same = fd >= 0 && fstat(fd, &stat) == 0 && stat.st_dev == watcher->device
        && stat.st_ino == watcher->inode;
    if (fd >= 0 && !same) close(fd);
    return same ? fd : -1;
}

static void directory_appeared(struct watcher *watcher, uint32_t parent, const char *name) {
    char path[PATH_BYTES_MAX + 1];
    if (!watcher->recursive || !node_path(watcher, parent, name, path)) return;
    int root = open_root(watcher);
    if (root < 0) return;
    int fd = openat(root, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    close(root);
    if (fd >= 0 && add_tree(watcher, fd, parent, name, true) < 0) overflow(watcher);
}

/* The other half of a move did not come: the entry left the watched tree. */
static void flush_move(struct watcher *watcher) {
    if (!watcher->from_name) return;
    emit_at(watcher, REMOVED, watcher->from_node, watcher->from_name, watcher->from_directory);
    uint32_t moved = node_child(watcher, watcher->from_node, watcher->from_name);
    if (moved != NO_NODE) forget_tree(watcher, moved);
    free(watcher->from_name);
    watcher->from_name = NULL;
}

static void finish_move(struct watcher *watcher, uint32_t node, const struct inotify_event *event) {
    char from[PATH_BYTES_MAX + 1], to[PATH_BYTES_MAX + 1];
    bool directory = event->mask & IN_ISDIR;
    bool named = node_path(watcher, watcher->from_node, watcher->from_name, from)
        && node_path(watcher, node, event->name, to);
    char kind = temporary_kind(watcher->from_name);
    if (named && kind) emit(watcher, kind == 'n' ? CREATED : MODIFIED, to, directory, NULL);
    else if (named) emit(watcher, RENAMED, to, directory, from);
    uint32_t moved = node_child(watcher, watcher->from_node, watcher->from_name);
    char *name = moved != NO_NODE ? strdup(event->name) : NULL;
    if (name) {
        free(watcher->nodes[moved].name);
        watcher->nodes[moved].name = name;
        watcher->nodes[moved].parent = node;
    }
    free(watcher->from_name);
    watcher->from_name = NULL;
}

static void handle_event(struct watcher *watcher, const struct inotify_event *event) {
    uint32_t node = node_of(watcher, event->wd);
    const char *name = event->len ? event->name : "";
    bool directory = event->mask & IN_ISDIR;
    bool second_half = event->mask & IN_MOVED_TO && watcher->from_name
        && event->cookie == watcher->cookie;
    if (!second_half) flush_move(watcher);
    if (event->mask & IN_Q_OVERFLOW) overflow(watcher);
    if (node == NO_NODE) return;
    if (event->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF)) {
        if (node == 0) watcher->ended = true; /* the root is gone, or no longer where it was */
        else if (event->mask & IN_IGNORED) node_free(watcher, node);
        return;
    }
    if (second_half) finish_move(watcher, node, event);
    else if (event->mask & IN_MOVED_FROM) {
        watcher->cookie = event->cookie;
        watcher->from_node = node;
        watcher->from_directory = directory;
        watcher->from_name = strdup(name);
    } else if (event->mask & (IN_CREATE | IN_MOVED_TO)) {
        emit_at(watcher, CREATED, node, name, directory);
        if (directory) directory_appeared(watcher, node, name);
    } else if (event->mask & IN_DELETE) emit_at(watcher, REMOVED, node, name, directory);
    else if (event->mask & (IN_CLOSE_WRITE | IN_MODIFY)) emit_at(watcher, MODIFIED, node, name, 0);
    else if (event->mask & IN_ATTRIB && *name) emit_at(watcher, ATTRIBUTES, node, name, directory);
}

static void read_events(struct watcher *watcher) {
    static _Alignas(struct inotify_event) char data[16384];
    ssize_t count = read(watcher->inotify, data, sizeof data);
    /* A file that is written to piece by piece says so each time: one event is enough. */
    const struct inotify_event *previous = NULL;
    for (ssize_t at = 0; at < count && !watcher->ended;) {
        const struct inotify_event *event = (const struct inotify_event *)(const void *)(data + at);
        bool same = previous && previous->wd == event->wd && event->mask == IN_MODIFY
            && previous->mask == IN_MODIFY && strcmp(previous->name, event->name) == 0;
        if (!same) handle_event(watcher, event);
        previous = event->len ? event : NULL;
        at += (ssize_t)sizeof *event + (ssize_t)event->len;
    }
}

static _Noreturn void watch_loop(struct watcher *watcher) {
    struct pollfd sources[] = {{watcher->inotify, POLLIN, 0}, {HELPER_FD, POLLIN | POLLRDHUP, 0}};
    while (!watcher->ended) {
        helper_flush(watcher->helper);
        watcher->overflowed = false;
        /* Both halves of a move are queued together; a short wait is more than enough. */
        int ready = poll(sources, 2, watcher->from_name ? 20 : -1);
        if (ready < 0 && errno != EINTR) break;
        if (sources[1].revents) _exit(0);
        if (ready == 0) flush_move(watcher);
        else if (sources[0].revents) read_events(watcher);
    }
    frame_put(&watcher->helper->out, SAY_END, NULL, 0);
    helper_done(watcher->helper);
}

_Noreturn void op_watch(struct helper *helper) {
    static struct watcher watcher;
    struct stat stat;
    watcher.helper = helper;
    watcher.recursive = helper->flags & FILE_RECURSIVE;
    watcher.count_max = request_u32(helper->request, TAG_LIMIT, WATCH_COUNT_MAX);
    if (watcher.count_max < 1 || watcher.count_max > WATCH_COUNT_MAX)
        helper_fail(helper, EINVAL, "the limit is 1 to 8192 directories");
    helper_resolve(helper, TAG_PATH, true, &watcher.root);
    int first = path_open(&watcher.root, O_RDONLY | O_DIRECTORY);
    if (first < 0 || fstat(first, &stat) < 0) helper_fail(helper, errno, NULL);
    watcher.device = stat.st_dev;
    watcher.inode = stat.st_ino;
    watcher.inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watcher.inotify < 0) helper_fail(helper, errno, NULL);
    if (add_tree(&watcher, first, NO_NODE, "", false) < 0)
        helper_fail(helper, errno, "not every directory can be watched");
    frame_put(&helper->out, SAY_OK, NULL, 0);
    watch_loop(&watcher);
}
