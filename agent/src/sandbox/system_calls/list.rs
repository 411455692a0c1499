//! Which calls, and with which arguments.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError,
    SeccompCmpArgLen::{Dword, Qword},
    SeccompCmpOp::{Eq, MaskedEq},
    SeccompCondition, SeccompRule,
};

use super::super::Role;

/// Calls by number; an empty list of rules fits whatever the arguments are.
type Calls = BTreeMap<i64, Vec<SeccompRule>>;

type Rules = Result<Vec<SeccompRule>, BackendError>;

/// What both processes need, whatever the arguments.
const BOTH: &[i64] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    // Threads, and their ends.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    // Time and chance.
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_nanosleep,
    // Descriptors that it has.
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_write,
    libc::SYS_writev,
    // The runtime's waiting.
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    // The last filter closes this door.
    libc::SYS_seccomp,
];

/// The older names that the C library uses on this processor.
#[cfg(target_arch = "x86_64")]
const OLD: &[i64] = &[libc::SYS_epoll_wait, libc::SYS_poll];
#[cfg(target_arch = "aarch64")]
const OLD: &[i64] = &[];

/// What it takes to answer callers on listening sockets that it was handed.
const RUNNER: &[i64] = &[libc::SYS_accept4, libc::SYS_getsockname, libc::SYS_shutdown];

/// Ways to run programs, to reach into other processes or the kernel, and to change what is mounted where.
const FATAL: &[i64] = &[
    libc::SYS_add_key,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_delete_module,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_memfd_create,
    libc::SYS_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
];

/// `clone3` hides its flags in memory, where a filter cannot look; the C library falls back to `clone`.
const UNKNOWN: &[i64] = &[libc::SYS_clone3, libc::SYS_seccomp];

/// What starts a thread: everything is shared with it. The C library of GNU, and that of musl, which adds a flag that
/// means nothing any more.
const THREAD: u64 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u64;
const MUSL_THREAD: u64 = THREAD | libc::CLONE_DETACHED as u64;

/// `ioctl` to make a descriptor non-blocking.
const FIONBIO: u64 = libc::FIONBIO;

/// `prctl` to name a thread, and what the installation of a filter asks for first.
const PRCTL: [u64; 2] = [libc::PR_SET_NAME as u64, libc::PR_SET_NO_NEW_PRIVS as u64];

/// `fcntl` on the flags of a descriptor, and to copy it.
const FCNTL: [i32; 5] = [libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL, libc::F_DUPFD_CLOEXEC];

pub(super) fn allowed(role: Role) -> Result<Calls, BackendError> {
    let runner = if role == Role::Runner { RUNNER } else { &[] };
    let mut calls = whatever(BOTH.iter().chain(OLD).chain(runner));
    let mut with = |call, rules: Rules| rules.map(|rules| calls.insert(call, rules));
    // Nothing is made executable, and no memory is shared, which the limit on memory would not count.
    let not_executable = || SeccompCondition::new(2, Dword, MaskedEq(libc::PROT_EXEC as u64), 0);
    let private = SeccompCondition::new(3, Dword, MaskedEq(libc::MAP_SHARED as u64), 0)?;
    with(libc::SYS_mmap, one(vec![not_executable()?, private]))?;
    with(libc::SYS_mprotect, one(vec![not_executable()?]))?;
    let thread = |flags| rule(vec![SeccompCondition::new(0, Qword, Eq, flags)?]);
    with(libc::SYS_clone, Ok(vec![thread(THREAD)?, thread(MUSL_THREAD)?]))?;
    with(libc::SYS_prctl, any(0, &PRCTL))?;
    with(libc::SYS_ioctl, any(1, &[FIONBIO]))?;
    with(libc::SYS_fcntl, any(1, &FCNTL.map(i64::from).map(i64::unsigned_abs)))?;
    // Both ends stay in the process; the runtime wakes itself by one.
    with(libc::SYS_socketpair, any(0, &[libc::AF_UNIX as u64]))?;
    // A process that aborts signals itself.
    with(libc::SYS_tgkill, any(0, &[u64::from(std::process::id())]))?;
    Ok(calls)
}

pub(super) fn fatal() -> Calls {
    whatever(FATAL)
}

pub(super) fn unknown() -> Calls {
    whatever(UNKNOWN)
}

fn whatever<'a>(calls: impl IntoIterator<Item = &'a i64>) -> Calls {
    calls.into_iter().map(|call| (*call, Vec::new())).collect()
}

/// Argument `index` is one of `values`. Each of these arguments is an `int`, whose upper half means nothing.
fn any(index: u8, values: &[u64]) -> Rules {
    values.iter().map(|value| rule(vec![SeccompCondition::new(index, Dword, Eq, *value)?])).collect()
}

/// All conditions hold.
fn one(conditions: Vec<SeccompCondition>) -> Rules {
    Ok(vec![rule(conditions)?])
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}
