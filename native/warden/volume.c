/* Volumes: one writable place a sandbox, below the pool and nowhere else. A btrfs subvolume where the
 * pool is btrfs, a directory elsewhere. */
#include <dirent.h>
#include <ftw.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

#include "warden.h"

#define SIMPLE_QUOTA_ENABLE 4 /* BTRFS_QUOTA_CTL_ENABLE_SIMPLE_QUOTA, kernel 6.7 */
#define LOOP_TRIES_MAX 64
#define WALK_FDS 32

int volume_open(int pool, const char *id)
{
    return sys_openat2(pool, id, O_RDONLY | O_DIRECTORY, 0,
                       RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

void pool_open(void)
{
    struct statfs found;
    close_fd(&warden.pool_fd);
    if (!warden.pool || (mkdir(warden.pool, 0700) < 0 && errno != EEXIST))
        return;
    warden.pool_fd = open(warden.pool, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    warden.is_btrfs = warden.pool_fd >= 0 && fstatfs(warden.pool_fd, &found) == 0 &&
                      found.f_type == BTRFS_SUPER_MAGIC;
}

/* The loop device goes away with the mount (autoclear), so nothing is left to clean after an unmount. */
static int loop_attach(int image, char *device, size_t size)
{
    CLEANUP_FD int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    for (int tries = 0; control >= 0 && tries < LOOP_TRIES_MAX; tries++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return -1;
        snprintf(device, size, "/dev/loop%d", number);
        int fd = open(device, O_RDWR | O_CLOEXEC);
        struct loop_config config = {.fd = (uint32_t)image, .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO};
        int result = fd < 0 ? -1 : ioctl(fd, LOOP_CONFIGURE, &config);
        if (result < 0 && errno == EINVAL) {
            config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
            result = ioctl(fd, LOOP_CONFIGURE, &config);
        }
        if (result == 0)
            return fd;
        close_fd(&fd);
        if (errno != EBUSY) /* somebody else was quicker with this one */
            return -1;
    }
    return -1;
}

static int quota_enable(int pool)
{
    struct btrfs_ioctl_quota_ctl_args args = {.cmd = SIMPLE_QUOTA_ENABLE};
    if (ioctl(pool, BTRFS_IOC_QUOTA_CTL, &args) == 0 || errno == EEXIST)
        return 0;
    args.cmd = BTRFS_QUOTA_CTL_ENABLE;
    return ioctl(pool, BTRFS_IOC_QUOTA_CTL, &args) == 0 || errno == EEXIST ? 0 : errno;
}

static int pool_mount(bool with_quota, const char **step)
{
    if (!warden.is_btrfs && warden.pool_image) {
        char device[32];
        *step = "image";
        CLEANUP_FD int image = open(warden.pool_image, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
        if (image < 0)
            return errno;
        *step = "loop";
        CLEANUP_FD int loop = loop_attach(image, device, sizeof device);
        if (loop < 0)
            return errno;
        *step = "mount";
        unsigned long flags = MS_NOATIME | MS_NODEV | MS_NOSUID;
        if (syscall(SYS_mount, device, warden.pool, "btrfs", flags, "discard=async") < 0)
            return errno;
        pool_open();
    }
    *step = "quota";
    return warden.is_btrfs && with_quota ? quota_enable(warden.pool_fd) : 0;
}

/* Only what we mounted: the image. The loop device goes with its last user, which may be a child that just began. */
void pool_release(void)
{
    close_fd(&warden.pool_fd);
    if (warden.pool_image && warden.is_btrfs)
        syscall(SYS_umount2, warden.pool, 2 /* MNT_DETACH */);
}

static int volume_limit(int volume, uint64_t bytes)
{
    /* Group 0 stands for the subvolume's own. Zero bytes take the limit away (all ones). */
    struct btrfs_ioctl_qgroup_limit_args args = {.lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER}};
    args.lim.max_rfer = bytes ? bytes : UINT64_MAX;
    return ioctl(volume, BTRFS_IOC_QGROUP_LIMIT, &args) < 0 ? errno : 0;
}

static int part_make(int volume, const char *name, const struct record *v)
{
    struct stat found;
    if (mkdirat(volume, name, 0755) < 0 && errno != EEXIST)
        return errno;
    if (fstatat(volume, name, &found, AT_SYMLINK_NOFOLLOW) == 0 && found.st_uid != geteuid())
        return 0; /* given away already; from then on its owner is the sandbox's own matter */
    return fchownat(volume, name, (uid_t)v->n[0], (gid_t)v->n[1], AT_SYMLINK_NOFOLLOW) < 0 ? errno : 0;
}

/* Making a volume that is there already completes it: a create that was cut short is simply asked for again. */
static int volume_create(const struct plan *plan, const struct record *v, uint32_t *limit_errno, const char **step)
{
    *step = "volume";
    int result = -1;
    if (warden.is_btrfs) {
        struct btrfs_ioctl_vol_args_v2 args = {0};
        memcpy(args.name, plan->id, ID_CHARS);
        result = ioctl(warden.pool_fd, BTRFS_IOC_SUBVOL_CREATE_V2, &args);
    } else
        result = mkdirat(warden.pool_fd, plan->id, 0700);
    if (result < 0 && errno != EEXIST)
        return errno;
    CLEANUP_FD int volume = volume_open(warden.pool_fd, plan->id);
    if (volume < 0 || fchmod(volume, 0700) < 0)
        return errno;
    bool is_limited = v->n[2] || (result < 0 && warden.is_btrfs);
    *limit_errno = (uint32_t)(!is_limited ? 0 : warden.is_btrfs ? volume_limit(volume, v->n[2]) : ENOTSUP);
    if (!v->n[2])
        *limit_errno = 0;
    int error = part_make(volume, "upper", v);
    return error ? error : part_make(volume, "work", v);
}

static int subvolume_destroy(const char *id)
{
    struct btrfs_ioctl_vol_args args = {0};
    memcpy(args.name, id, ID_CHARS);
    return ioctl(warden.pool_fd, BTRFS_IOC_SNAP_DESTROY, &args) < 0 ? errno : 0;
}

/* Empties `directory`: its directories move up to `top`, so depth costs neither stack nor descriptors. */
static int level_empty(int top, int directory, uint64_t *serial)
{
    DIR *entries = fdopendir(directory);
    if (!entries) {
        close(directory);
        return errno;
    }
    int error = 0;
    for (struct dirent *entry; !error && (entry = readdir(entries));) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        int at = dirfd(entries);
        char name[32];
        bool is_gone = unlinkat(at, entry->d_name, 0) == 0 || unlinkat(at, entry->d_name, AT_REMOVEDIR) == 0;
        if (!is_gone && !warden.privileged && fchmodat(at, entry->d_name, 0700, 0) < 0) /* moving writes its ".." */
            error = errno;
        do
            snprintf(name, sizeof name, ".belljar-%lx", (*serial)++);
        while (!is_gone && renameat2(at, entry->d_name, top, name, RENAME_NOREPLACE) < 0 && errno == EEXIST);
        if (!is_gone && faccessat(at, entry->d_name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
            error = errno ? errno : EIO;
    }
    closedir(entries);
    return error;
}

static int tree_remove(const struct plan *plan, struct buffer *out, const char **step)
{
    (void)out;
    *step = "remove";
    uint64_t serial = 0;
    CLEANUP_FD int top = volume_open(warden.pool_fd, plan->id);
    if (top < 0)
        return errno;
    for (bool is_empty = false; !is_empty;) {
        is_empty = true;
        DIR *entries = fdopendir(openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        for (struct dirent *entry; entries && (entry = readdir(entries));) {
            if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
                continue;
            is_empty = false;
            if (unlinkat(top, entry->d_name, 0) == 0 || unlinkat(top, entry->d_name, AT_REMOVEDIR) == 0)
                continue;
            /* Overlay's own work directory has mode 0. A refusal shows in the open that follows. */
            int chmod_result = fchmodat(top, entry->d_name, 0700, 0);
            (void)chmod_result;
            int below = openat(top, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            int error = below < 0 ? errno : level_empty(top, below, &serial);
            if (error) {
                closedir(entries);
                return error;
            }
        }
        if (!entries)
            return errno;
        closedir(entries);
    }
    return unlinkat(warden.pool_fd, plan->id, AT_REMOVEDIR) < 0 ? errno : 0;
}

static uint64_t walked_bytes;

static int walk_one(const char *path, const struct stat *found, int type, struct FTW *at)
{
    (void)path, (void)type, (void)at;
    walked_bytes += (uint64_t)found->st_blocks * 512;
    return 0;
}

static int tree_usage(const struct plan *plan, struct buffer *out, const char **step)
{
    *step = "usage";
    CLEANUP_FD int volume = volume_open(warden.pool_fd, plan->id);
    if (volume < 0 || fchdir(volume) < 0 || nftw("upper", walk_one, WALK_FDS, FTW_PHYS | FTW_MOUNT) != 0)
        return errno;
    uint64_t numbers[2] = {walked_bytes, 0};
    put(out, T_NUMBERS, numbers, sizeof numbers);
    return 0;
}

/* The kernel's own running count, which is ahead of what the last commit wrote to the quota tree. */
static int subvolume_usage(const char *id, struct buffer *out)
{
    CLEANUP_FD int volume = volume_open(warden.pool_fd, id);
    struct btrfs_ioctl_fs_info_args fs = {0};
    struct btrfs_ioctl_get_subvol_info_args info = {0};
    if (volume < 0 || ioctl(volume, BTRFS_IOC_FS_INFO, &fs) < 0 || ioctl(volume, BTRFS_IOC_GET_SUBVOL_INFO, &info) < 0)
        return errno;
    char path[256], value[32], uuid[40] = "";
    for (int i = 0, at = 0; i < 16; i++)
        at += snprintf(uuid + at, sizeof uuid - (size_t)at, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "",
                       fs.fsid[i]);
    uint64_t numbers[2] = {0};
    static const char *const names[] = {"referenced", "max_referenced"};
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "/sys/fs/btrfs/%s/qgroups/0_%llu/%s", uuid, (unsigned long long)info.treeid, names[i]);
        if (file_read(AT_FDCWD, path, value, sizeof value) <= 0)
            return ENOTSUP;
        numbers[i] = strtoull(value, NULL, 10);
    }
    put(out, T_NUMBERS, numbers, sizeof numbers);
    return 0;
}

static void volume_list(struct buffer *out)
{
    DIR *entries = fdopendir(openat(warden.pool_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        if (id_is_valid(entry->d_name))
            put_string(out, T_ID, entry->d_name);
    if (entries)
        closedir(entries);
}

void volume_request(uint32_t op, const struct plan *plan, const struct reply_to *to)
{
    const struct record *volume = plan_find(plan, T_VOLUME), *pool = plan_find(plan, T_POOL);
    const char *step = "pool";
    uint32_t limit_errno = 0;
    struct buffer out = {0};
    int error = 0;
    if (warden.pool_fd < 0 && op != OP_POOL_MOUNT)
        error = ENODEV;
    else if (op == OP_POOL_MOUNT)
        error = pool_mount(pool && pool->n[0] == 1, &step);
    else if (op == OP_VOLUME_CREATE && !volume)
        error = EBADMSG;
    else if (op == OP_VOLUME_CREATE)
        error = volume_create(plan, volume, &limit_errno, &step);
    else if (op == OP_VOLUME_LIST)
        volume_list(&out);
    else if (sandbox_find(plan->id) && op == OP_VOLUME_REMOVE)
        error = EBUSY;
    else if (op == OP_VOLUME_REMOVE && (!warden.is_btrfs || (error = subvolume_destroy(plan->id)) == ENOTTY))
        return worker_run(to, plan, tree_remove);
    else if (op == OP_VOLUME_USAGE && (!warden.is_btrfs || (error = subvolume_usage(plan->id, &out)) == ENOTSUP))
        return worker_run(to, plan, tree_usage);
    if (op == OP_VOLUME_CREATE && !error)
        put(&out, T_STATUS, &limit_errno, sizeof limit_errno);
    error ? reply_error(to, error, step) : reply(to, &out, -1);
    free(out.data);
}
