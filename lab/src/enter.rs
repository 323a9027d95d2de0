//! How a process of this program gets into a lab: the steps between fork and exec.
//!
//! In: file descriptors of namespaces and mounts to make. Out: a [`Command`] that starts its
//! program there, as a member of the lab's pid namespace. Never: a step in the calling process.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::sethostname;

use crate::relay;

/// One thing to do after the fork. All memory is allocated before it, because a child of a process
/// with threads may not allocate.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Join(Arc<OwnedFd>, CloneFlags),
    Unshare(CloneFlags),
    Hostname(String),
    Mount { kind: CString, target: CString },
}

impl Step {
    pub(crate) fn mount(kind: &str, target: &str) -> Self {
        let c_string = |text: &str| CString::new(text).expect("a constant without NUL");
        Self::Mount { kind: c_string(kind), target: c_string(target) }
    }

    fn perform(&self) -> nix::Result<()> {
        match self {
            Self::Join(namespace, flag) => setns(namespace, *flag),
            Self::Unshare(flags) => unshare(*flags),
            Self::Hostname(name) => sethostname(name),
            Self::Mount { kind, target } => {
                let (kind, target) = (kind.as_c_str(), target.as_c_str());
                mount(Some(kind), target, Some(kind), MsFlags::empty(), None::<&std::ffi::CStr>)
            }
        }
    }
}

/// A command that performs `steps` and then runs its program. One of them must join a pid
/// namespace; see [`relay`] for how the program gets there.
///
/// Fails as `Command` does, with the program's own error when it cannot be started.
pub(crate) fn command(program: &str, steps: Vec<Step>) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", search_path());
    let enter = move || -> io::Result<()> {
        let directory = WorkingDirectory::remember()?;
        steps.iter().try_for_each(Step::perform)?;
        directory.restore()?;
        relay::fork_into_pid_namespace()?;
        Ok(())
    };
    #[expect(
        unsafe_code,
        reason = "entering namespaces has to happen between fork and exec; the closure only makes system calls"
    )]
    // SAFETY: the closure neither allocates nor takes a lock.
    unsafe {
        command.pre_exec(enter);
    }
    command
}

/// `PATH`, with the administrator's directories, which ordinary users lack, at the end.
pub(crate) fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    path.push(":/usr/local/sbin:/usr/sbin:/sbin");
    path
}

/// Joining a mount namespace moves a process to its root: this brings it back to where it was.
struct WorkingDirectory([libc::c_char; libc::PATH_MAX as usize]);

impl WorkingDirectory {
    fn remember() -> nix::Result<Self> {
        let mut path = [0; libc::PATH_MAX as usize];
        #[expect(unsafe_code, reason = "nix's getcwd allocates, which is not allowed after fork")]
        // SAFETY: the buffer is as long as stated and lives through the call.
        let found = unsafe { libc::getcwd(path.as_mut_ptr(), path.len()) };
        if found.is_null() { Err(Errno::last()) } else { Ok(Self(path)) }
    }

    fn restore(&self) -> nix::Result<()> {
        #[expect(unsafe_code, reason = "nix's chdir copies the path, which is already a C string here")]
        // SAFETY: `getcwd` succeeded, so the buffer holds a string with its NUL.
        Errno::result(unsafe { libc::chdir(self.0.as_ptr()) }).map(drop)
    }
}
