/*
 * Removing a tree of any depth and width with one open directory: down by name, up by "..", which
 * is believed only while it leads to the very directory that we came from.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "helper.h"

#define REMOVE_DEPTH_MAX 65536u
#define CLIENT_CHECK_INTERVAL 1024u

struct place {
    dev_t device;
    ino_t inode;
};

struct removal {
    int fd;
    size_t depth, capacity;
    struct place *above; /* of the directories between the first one and fd */
    unsigned count;
    struct entries entries;
};

static int enter(struct removal *removal, const char *name) {
    struct stat stat;
    if (removal->depth >= REMOVE_DEPTH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (removal->depth == removal->capacity) {
        size_t capacity = removal->capacity ? removal->capacity * 2 : 64;
        struct place *above = realloc(removal->above, capacity * sizeof *above);
        if (!above) return -1;
        removal->above = above;
        removal->capacity = capacity;
    }
    if (fstat(removal->fd, &stat) < 0) return -1;
    int fd = openat(removal->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -1;
    removal->above[removal->depth++] = (struct place){stat.st_dev, stat.st_ino};
    close(removal->fd);
    removal->fd = fd;
    return 0;
}

static int leave(struct removal *removal) {
    struct stat stat;
    struct place expected = removal->above[--removal->depth];
    int fd = openat(removal->fd, "..", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -1;
    close(removal->fd);
    removal->fd = fd;
    if (fstat(fd, &stat) < 0) return -1;
    errno = ESTALE; /* somebody moved the directory away from under us */
    return stat.st_dev == expected.device && stat.st_ino == expected.inode ? 0 : -1;
}

/* Removes one entry, or goes into it. What was removed since by somebody else is no failure. */
static int remove_entry(struct removal *removal, const struct entry *entry, bool *entered) {
    bool directory = entry->type == DT_DIR;
    if (unlinkat(removal->fd, entry->name, directory ? AT_REMOVEDIR : 0) == 0) return 0;
    if (errno == ENOENT) return 0;
    bool maybe_directory = directory ? errno == ENOTEMPTY || errno == EEXIST
                                     : errno == EISDIR || (errno == EPERM && entry->type == 0);
    if (!maybe_directory) return -1;
    *entered = true;
    return enter(removal, entry->name);
}

static int remove_contents(struct helper *helper, struct removal *removal) {
    for (;;) {
        struct entry entry;
        bool entered = false, any = false;
        removal->entries = (struct entries){.fd = removal->fd};
        if (lseek(removal->fd, 0, SEEK_SET) < 0) return -1;
        int more = 0;
        while (!entered && (more = entries_next(&removal->entries, &entry)) == 1) {
            any = true;
            if (remove_entry(removal, &entry, &entered) < 0) return -1;
            if (++removal->count % CLIENT_CHECK_INTERVAL == 0 && client_is_gone())
                helper_done(helper);
        }
        if (!entered && more < 0) return -1;
        if (any) continue; /* deleting while reading may skip entries: look again */
        if (removal->depth == 0) return 0;
        if (leave(removal) < 0) return -1;
    }
}

_Noreturn void op_remove(struct helper *helper) {
    struct target target;
    struct stat stat;
    static struct removal removal;
    helper_resolve(helper, TAG_PATH, false, &target);
    if (target_stat(&target, &stat) < 0) helper_fail(helper, errno, NULL);
    bool directory = S_ISDIR(stat.st_mode);
    if (directory && (helper->flags & FILE_RECURSIVE)) {
        removal.fd = path_open(&target, O_RDONLY | O_DIRECTORY);
        if (removal.fd < 0 || remove_contents(helper, &removal) < 0)
            helper_fail(helper, errno, NULL);
    }
    if (unlinkat(target.dir, target.name, directory ? AT_REMOVEDIR : 0) < 0)
        helper_fail(helper, errno, NULL);
    frame_put(&helper->out, SAY_OK, NULL, 0);
    helper_done(helper);
}
