//! How a program becomes a member of the lab's pid namespace and still is its starter's child.
//!
//! In: a process between fork and exec that has joined the namespace, which holds for its children
//! only. Out: one of them, which goes on to exec. Never: an allocation or a lock; all of this runs
//! where only bare system calls are allowed.
//!
//! ```text
//! starter ── front ── (gone)           the pid namespace of the machine
//! ─────────────────────┊───────────────────────────────────────────────
//! first process ────── guard ── program     the pid namespace of the lab
//! ```
//!
//! The starter waits for the front, which passes signals to the guard and ends as the program ended.
//! The guard kills the program when the front is gone, and reaps it. It is a child of the lab's first
//! process: a child of the front would, with the front killed, be left to the machine's first
//! process, and where that one never reaps (as in many containers) the lab could not end.

use std::mem::{size_of, zeroed};
use std::ptr::null_mut;

use nix::errno::Errno;
use nix::libc::{self, c_int, c_uint, c_void, pid_t};

/// Returns in the program's process only.
#[expect(unsafe_code, reason = "a joined pid namespace holds for children only, so the program has to be one")]
pub(crate) fn fork_into_pid_namespace() -> nix::Result<()> {
    let mut sockets = [0; 2];
    // SAFETY: this process has one thread, and all sides of the forks make nothing but system calls
    // on values of their own frames.
    unsafe {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
        Errno::result(libc::socketpair(libc::AF_UNIX, kind, 0, sockets.as_mut_ptr()))?;
        let [of_front, of_guard] = sockets;
        // From here on, lest one reach a relay before it is ready.
        let before = block_signals();
        let between = Errno::result(libc::fork())?;
        if between != 0 {
            front(of_front, between);
        }
        match libc::fork() {
            // Who reads the socket learns that there is no program.
            -1 => libc::_exit(1),
            0 => {}
            _ => libc::_exit(0),
        }
        match libc::fork() {
            -1 => libc::_exit(1),
            0 => {
                libc::sigprocmask(libc::SIG_SETMASK, &raw const before, null_mut());
                Ok(())
            }
            program => guard(of_guard, program),
        }
    }
}

/// Ends as the program ends. `between` is the process that makes the guard and is gone.
#[expect(unsafe_code, reason = "between fork and exec there are only bare system calls")]
unsafe fn front(socket: c_int, between: pid_t) -> ! {
    // SAFETY: system calls on values of this frame.
    unsafe {
        close_all_but(socket);
        libc::waitpid(between, null_mut(), 0);
        let mut all = zeroed();
        libc::sigfillset(&raw mut all);
        let signals = libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC);
        loop {
            let [message, signal] = wait_for([socket, signals]);
            if message {
                let mut status: c_int = 0;
                let size = size_of::<c_int>();
                let read = libc::recv(socket, (&raw mut status).cast(), size, 0);
                // No status: the lab is gone, and all in it was killed.
                end_like(if read == size as isize { status } else { libc::SIGKILL });
            }
            if signal {
                let mut details: libc::signalfd_siginfo = zeroed();
                libc::read(signals, (&raw mut details).cast(), size_of::<libc::signalfd_siginfo>());
                let number = details.ssi_signo as c_int;
                // A terminal's signals reach the program by themselves.
                if number != libc::SIGCHLD && details.ssi_code != libc::SI_KERNEL {
                    libc::send(socket, (&raw const number).cast::<c_void>(), size_of::<c_int>(), libc::MSG_NOSIGNAL);
                }
            }
        }
    }
}

/// Kills the program when the front tells it to or is gone, and reports the program's end.
#[expect(unsafe_code, reason = "between fork and exec there are only bare system calls")]
unsafe fn guard(socket: c_int, program: pid_t) -> ! {
    // SAFETY: system calls on values of this frame.
    unsafe {
        close_all_but(socket);
        let ended = libc::syscall(libc::SYS_pidfd_open, program, 0) as c_int;
        let mut front = socket;
        loop {
            let [message, end] = wait_for([front, ended]);
            if end {
                let mut status: c_int = 0;
                libc::waitpid(program, &raw mut status, 0);
                libc::send(socket, (&raw const status).cast::<c_void>(), size_of::<c_int>(), libc::MSG_NOSIGNAL);
                libc::_exit(0);
            }
            if message {
                let mut signal: c_int = 0;
                let size = size_of::<c_int>();
                if libc::recv(socket, (&raw mut signal).cast(), size, 0) == size as isize {
                    libc::kill(program, signal);
                } else {
                    libc::kill(program, libc::SIGKILL);
                    // poll(2) passes over negative descriptors.
                    front = -1;
                }
            }
        }
    }
}

#[expect(unsafe_code, reason = "between fork and exec there are only bare system calls")]
unsafe fn wait_for(descriptors: [c_int; 2]) -> [bool; 2] {
    let mut polled = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: the array lives through the call and has the stated length.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), 2, -1) };
    polled.map(|one| ready > 0 && one.revents != 0)
}

#[expect(unsafe_code, reason = "between fork and exec there are only bare system calls")]
unsafe fn block_signals() -> libc::sigset_t {
    // SAFETY: system calls on values of this frame; all zeroes is a valid set.
    unsafe {
        let (mut all, mut before) = (zeroed(), zeroed());
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        before
    }
}

/// Who reads the program's output, or waits for its exec, must not wait for its relays.
#[expect(unsafe_code, reason = "between fork and exec there are only bare system calls")]
unsafe fn close_all_but(socket: c_int) {
    let socket = socket as c_uint;
    // SAFETY: nothing in this process uses the descriptors any more.
    unsafe {
        if socket > 0 {
            libc::syscall(libc::SYS_close_range, 0, socket - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, socket + 1, c_uint::MAX, 0);
    }
}

#[expect(unsafe_code, reason = "between fork and exec there are only bare system calls")]
unsafe fn end_like(status: c_int) -> ! {
    // SAFETY: system calls on values of this frame.
    unsafe {
        if libc::WIFSIGNALED(status) {
            let signal = libc::WTERMSIG(status);
            // One core is enough.
            libc::prctl(libc::PR_SET_DUMPABLE, 0);
            libc::signal(signal, libc::SIG_DFL);
            let mut none = zeroed();
            libc::sigemptyset(&raw mut none);
            libc::kill(libc::getpid(), signal);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, null_mut());
        }
        libc::_exit(libc::WEXITSTATUS(status))
    }
}
