/**
 * The deny-list of the level `standard`, as data. What is not named is allowed: sandboxes run other
 * people's programs. Every name has its number on both architectures; null is "does not exist there".
 */
export const ARCHITECTURES = ["x64", "arm64"] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

/** Errno values, the same on both architectures */
export const ERRNO = {
  EPERM: 1,
  EINVAL: 22,
  ENOSYS: 38,
  EPROTONOSUPPORT: 93,
  EAFNOSUPPORT: 97,
} as const;
export type ErrnoName = keyof typeof ERRNO;

/** A system call's numbers: x86-64, arm64 */
type Numbers = readonly [x64: number | null, arm64: number | null];

/** Calls refused whatever their arguments are. */
export const DENIED: readonly {
  readonly why: string;
  readonly errno: ErrnoName;
  readonly calls: Readonly<Record<string, Numbers>>;
}[] = [
  {
    why: "the file system tree is the warden's work",
    errno: "EPERM",
    calls: {
      mount: [165, 40],
      umount2: [166, 39],
      pivot_root: [155, 41],
      open_tree: [428, 428],
      open_tree_attr: [467, 467],
      move_mount: [429, 429],
      fsopen: [430, 430],
      fsconfig: [431, 431],
      fsmount: [432, 432],
      fspick: [433, 433],
      mount_setattr: [442, 442],
    },
  },
  {
    why: "namespaces of one's own open most of the kernel that root alone reaches otherwise",
    errno: "EPERM",
    calls: { unshare: [272, 97], setns: [308, 268] },
  },
  {
    why: "the flags of clone3 lie in memory where no filter sees them; libc falls back to clone",
    errno: "ENOSYS",
    calls: { clone3: [435, 435] },
  },
  {
    why: "rings carry out calls that no filter sees; programs fall back",
    errno: "ENOSYS",
    calls: {
      io_uring_setup: [425, 425],
      io_uring_enter: [426, 426],
      io_uring_register: [427, 427],
    },
  },
  {
    why: "the kernel itself: programs, modules, tracing, restart",
    errno: "EPERM",
    calls: {
      bpf: [321, 280],
      perf_event_open: [298, 241],
      init_module: [175, 105],
      finit_module: [313, 273],
      delete_module: [176, 106],
      create_module: [174, null],
      get_kernel_syms: [177, null],
      query_module: [178, null],
      kexec_load: [246, 104],
      kexec_file_load: [320, 294],
      reboot: [169, 142],
      syslog: [103, 116],
      lookup_dcookie: [212, 18],
      acct: [163, 89],
      quotactl: [179, 60],
      quotactl_fd: [443, 443],
      nfsservctl: [180, 42],
      swapon: [167, 224],
      swapoff: [168, 225],
      vhangup: [153, 58],
      _sysctl: [156, null],
      sysfs: [139, null],
      uselib: [134, null],
      ustat: [136, null],
      iopl: [172, null],
      ioperm: [173, null],
      modify_ldt: [154, null],
    },
  },
  {
    why: "key rings are not separated by namespaces",
    errno: "EPERM",
    calls: { add_key: [248, 217], request_key: [249, 218], keyctl: [250, 219] },
  },
  {
    why: "a file by its handle is a file past every directory's permissions",
    errno: "EPERM",
    calls: {
      name_to_handle_at: [303, 264],
      open_by_handle_at: [304, 265],
      fanotify_init: [300, 262],
    },
  },
  {
    why: "stalling the kernel on one's own page faults turns small races into large ones",
    errno: "EPERM",
    calls: { userfaultfd: [323, 282] },
  },
  {
    why: "memory and kernel pointers of other processes",
    errno: "EPERM",
    calls: {
      kcmp: [312, 272],
      move_pages: [279, 239],
      migrate_pages: [256, 238],
      mbind: [237, 235],
    },
  },
  {
    why: "the machine's clock is everybody's",
    errno: "EPERM",
    calls: {
      settimeofday: [164, 170],
      clock_settime: [227, 112],
      clock_adjtime: [305, 266],
      adjtimex: [159, 171],
    },
  },
];

/** What a call's argument must be for the call to be refused; the low 32 bits are looked at. */
export type ArgumentTest =
  | { readonly hasAnyBitOf: number }
  | { readonly isOneOf: readonly number[] }
  | { readonly isNoneOf: readonly number[] };

/** Calls refused for their arguments; every condition of a rule must hold. */
export const CONDITIONAL: readonly {
  readonly why: string;
  readonly call: string;
  readonly numbers: Numbers;
  readonly errno: ErrnoName;
  readonly when: readonly { readonly argument: number; readonly test: ArgumentTest }[];
}[] = [
  {
    why: "CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET",
    call: "clone",
    numbers: [56, 220],
    errno: "EPERM",
    when: [{ argument: 0, test: { hasAnyBitOf: 0x7e02_0000 } }],
  },
  {
    why: "TIOCSTI and TIOCLINUX type into a terminal that may be somebody else's",
    call: "ioctl",
    numbers: [16, 29],
    errno: "EPERM",
    when: [{ argument: 1, test: { isOneOf: [0x5412, 0x541c] } }],
  },
  {
    why: "AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK are what programs need; AF_PACKET, AF_VSOCK, AF_ALG and the rest reach further",
    call: "socket",
    numbers: [41, 198],
    errno: "EAFNOSUPPORT",
    when: [{ argument: 0, test: { isNoneOf: [1, 2, 10, 16] } }],
  },
  {
    why: "NETLINK_ROUTE answers getifaddrs; the other protocols configure the kernel",
    call: "socket",
    numbers: [41, 198],
    errno: "EPROTONOSUPPORT",
    when: [
      { argument: 0, test: { isOneOf: [16] } },
      { argument: 2, test: { isNoneOf: [0] } },
    ],
  },
  {
    why: "PER_LINUX, PER_LINUX32, UNAME26, no randomisation (debuggers), and the query; other personalities switch protections off",
    call: "personality",
    numbers: [135, 92],
    errno: "EPERM",
    when: [{ argument: 0, test: { isNoneOf: [0, 8, 0x2_0000, 0x2_0008, 0x4_0000, 0xffff_ffff] } }],
  },
];
