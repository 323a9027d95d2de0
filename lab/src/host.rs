//! One host of a running lab: commands, closures, sysctls and sockets in its namespaces.

use std::io;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, setns};

use crate::enter;
use crate::error::LabError;
use crate::frame::Mac;
use crate::lab::{Machine, one_line};
use crate::log::PacketLog;
use crate::wire::{RawSender, Wire};

#[derive(Clone, Copy, Debug)]
pub struct HostRef<'lab> {
    name: &'lab str,
    machine: &'lab Machine,
}

impl<'lab> HostRef<'lab> {
    pub(crate) fn new(name: &'lab str, machine: &'lab Machine) -> Self {
        Self { name, machine }
    }

    pub fn name(&self) -> &'lab str {
        self.name
    }

    /// A command on this host: its network, hostname, `/run` and `/var/lib/ringwall`, and for the
    /// rest the machine's own files. The working directory stays. Killing the child kills the
    /// program, and signals sent to it reach the program; the program ends with the lab.
    pub fn command(&self, program: &str) -> Command {
        enter::command(program, self.machine.steps.clone())
    }

    /// Runs a program to its end, with `input` on its standard input, and gives its output.
    /// That it fails is an error, with what it said.
    pub fn output(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, LabError> {
        let failed = |reason| LabError::Command { host: self.name.to_owned(), program: program.to_owned(), reason };
        let mut command = self.command(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let mut stdin = child.stdin.take().expect("piped above");
        let output = std::thread::scope(|scope| {
            // A program that reads nothing closes its input: no reason to fail.
            scope.spawn(move || io::Write::write_all(&mut stdin, input.as_bytes()));
            child.wait_with_output()
        });
        let output = output.map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(format!("{}: {}", output.status, one_line(&output.stderr))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs the closure on a thread that has entered this host's network, and only its network:
    /// sockets that it makes belong to this host for as long as they live, wherever they are used.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let net = &*self.machine.net;
        let result =
            std::thread::scope(|scope| scope.spawn(|| setns(net, CloneFlags::CLONE_NEWNET).map(|()| work())).join());
        match result {
            Ok(done) => done.map_err(|error| LabError::Enter(self.name.to_owned(), error.into())),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Sets a sysctl below `net`, such as `net.ipv4.ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        let written = self.output("sh", &["-c", "cat >\"$1\"", "sh", &path], value);
        written.map(drop).map_err(|error| LabError::Sysctl {
            host: self.name.to_owned(),
            key: key.to_owned(),
            reason: error.to_string(),
        })
    }

    /// The hardware address of an interface that the topology gave this host.
    pub fn mac(&self, interface: &str) -> Option<Mac> {
        self.machine.macs.get(interface).copied()
    }

    /// A packet socket on one of the topology's interfaces.
    pub fn wire(&self, interface: &str) -> Result<Wire, LabError> {
        let failed = |error| LabError::PacketSocket(format!("{}/{interface}", self.name), error);
        let mac = self.mac(interface).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        self.run(|| Wire::open(interface, mac))?.map_err(failed)
    }

    /// Sends packets of any shape as this host's own, through its output rules.
    pub fn raw_sender(&self) -> Result<RawSender, LabError> {
        self.run(RawSender::open)?.map_err(|error| LabError::PacketSocket(self.name.to_owned(), error))
    }

    /// What this host's rules log to an NFLOG group (`log group N` in nftables).
    pub fn packet_log(&self, group: u16) -> Result<PacketLog, LabError> {
        self.run(|| PacketLog::open(group))?.map_err(|error| LabError::PacketLog(group, error))
    }
}
