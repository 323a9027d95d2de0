//! A running lab.
//!
//! In: a topology. Out: hosts to run things on. Never: anything left behind once it is dropped, or
//! once the program that holds it has ended in any way.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use nix::sched::CloneFlags;

use crate::configure;
use crate::enter::{self, Step};
use crate::error::LabError;
use crate::frame::Mac;
use crate::host::HostRef;
use crate::topology::Topology;

/// A lab ends when this is dropped, or with the process that holds it.
#[derive(Debug)]
pub struct Lab {
    /// Namespaces of the hosts; before `first`, because fields are dropped in order.
    hosts: BTreeMap<String, Machine>,
    first: FirstProcess,
}

#[derive(Debug)]
pub(crate) struct Machine {
    /// How a process becomes one of this host's.
    pub steps: Vec<Step>,
    pub net: Arc<OwnedFd>,
    pub macs: BTreeMap<String, Mac>,
}

/// `unshare`, whose only child is the first process of the lab's pid namespace. That one ends with
/// its standard input, which is held by nobody but this.
#[derive(Debug)]
struct FirstProcess {
    unshare: Child,
    pid: u32,
    steps: Vec<Step>,
}

impl Lab {
    /// Builds the lab; when this returns, every address can be reached.
    pub fn start(topology: &Topology) -> Result<Self, LabError> {
        topology.check()?;
        require_tools(&enter::search_path())?;
        let first = FirstProcess::start()?;
        let mut cables = Setup::start("the lab's cables", first.command("sh"))?;
        cables.configure(&configure::cables_script(topology))?;

        let hosts = topology.hosts.iter().map(|host| (&host.name, configure::host_script(topology, host)));
        let containers = topology
            .containers
            .iter()
            .map(|container| (&container.name, configure::container_script(topology, container)));
        let mut machines = BTreeMap::new();
        let mut setups = vec![cables];
        for (name, script) in hosts.chain(containers) {
            let (machine, mut setup) = first.make_machine(name)?;
            setup.feed(&script)?;
            machines.insert(name.clone(), machine);
            setups.push(setup);
        }
        setups.iter_mut().skip(1).try_for_each(Setup::await_configured)?;
        setups.into_iter().try_for_each(Setup::finish)?;
        for (h, host) in topology.hosts.iter().enumerate() {
            let macs =
                host.interfaces.iter().enumerate().map(|(i, interface)| (interface.name.clone(), configure::mac(h, i)));
            machines.get_mut(&host.name).expect("made above").macs = macs.collect();
        }
        for (c, container) in topology.containers.iter().enumerate() {
            let mac = configure::mac(topology.hosts.len() + c, 0);
            machines.get_mut(&container.name).expect("made above").macs = BTreeMap::from([("eth0".to_owned(), mac)]);
        }
        Ok(Self { hosts: machines, first })
    }

    /// A host or a container.
    pub fn host(&self, name: &str) -> Result<HostRef<'_>, LabError> {
        let (name, machine) = self.hosts.get_key_value(name).ok_or_else(|| LabError::NoSuchHost(name.to_owned()))?;
        Ok(HostRef::new(name, machine))
    }

    /// All hosts and containers, by name.
    pub fn hosts(&self) -> impl Iterator<Item = HostRef<'_>> {
        self.hosts.iter().map(|(name, machine)| HostRef::new(name, machine))
    }

    /// The lab's first process, as this process sees it: `nsenter --all --target PID` looks around,
    /// and there `ip netns exec HOST` does on a host.
    pub fn pid(&self) -> u32 {
        self.first.pid
    }
}

impl FirstProcess {
    fn start() -> Result<Self, LabError> {
        let mut command = Command::new("unshare");
        command.env("PATH", enter::search_path());
        let root = nix::unistd::geteuid().is_root();
        if !root {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child", "--", "sh", "-c"]);
        // Its own process group: a Ctrl-C is for the program that holds the lab.
        command.arg(configure::FIRST_PROCESS).current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut unshare = command.spawn().map_err(LabError::Start)?;

        let mut line = String::new();
        let stdout = unshare.stdout.take().expect("piped above");
        BufReader::new(stdout).read_line(&mut line).map_err(LabError::Start)?;
        let Ok(pid) = line.trim().parse() else {
            let output = unshare.wait_with_output().map_err(LabError::Start)?;
            return Err(LabError::Namespaces(one_line(&output.stderr)));
        };
        let mut first = Self { unshare, pid, steps: Vec::new() };
        let flags = [
            ("user", CloneFlags::CLONE_NEWUSER),
            ("pid", CloneFlags::CLONE_NEWPID),
            ("mnt", CloneFlags::CLONE_NEWNS),
            ("ipc", CloneFlags::CLONE_NEWIPC),
            ("uts", CloneFlags::CLONE_NEWUTS),
            ("net", CloneFlags::CLONE_NEWNET),
        ];
        for (file, flag) in flags.into_iter().skip(usize::from(root)) {
            let namespace =
                open(&format!("/proc/{pid}/ns/{file}")).map_err(|error| LabError::Open("the lab".into(), error))?;
            first.steps.push(Step::Join(namespace, flag));
        }
        Ok(first)
    }

    fn command(&self, program: &str) -> Command {
        enter::command(program, self.steps.clone())
    }

    /// Makes a host's mount and UTS namespaces around its net namespace, and starts a shell there.
    fn make_machine(&self, name: &str) -> Result<(Machine, Setup), LabError> {
        let open = |path: String| open(&path).map_err(|error| LabError::Open(name.to_owned(), error));
        let net = open(format!("/proc/{}/root/run/netns/{name}", self.pid))?;
        let mut steps = self.steps.clone();
        steps.extend([
            Step::Join(Arc::clone(&net), CloneFlags::CLONE_NEWNET),
            Step::Unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS),
            Step::Hostname(name.to_owned()),
            Step::mount("tmpfs", "/run"),
            Step::mount("tmpfs", "/var/lib/ringwall"),
            Step::mount("sysfs", "/sys"),
        ]);
        let mut shell = enter::command("sh", steps);
        shell.current_dir("/");
        let setup = Setup::start(name, shell)?;
        // The shell waits for its input, so its namespaces are there to be opened; held open here,
        // they outlive it.
        let own = |file: &str| open(format!("/proc/{}/ns/{file}", setup.shell.id()));
        let mut steps = self.steps.clone();
        steps.extend([
            Step::Join(own("mnt")?, CloneFlags::CLONE_NEWNS),
            Step::Join(own("uts")?, CloneFlags::CLONE_NEWUTS),
            Step::Join(Arc::clone(&net), CloneFlags::CLONE_NEWNET),
        ]);
        Ok((Machine { steps, net, macs: BTreeMap::new() }, setup))
    }
}

impl Drop for FirstProcess {
    fn drop(&mut self) {
        self.steps.clear();
        drop(self.unshare.stdin.take());
        // It ends by itself, after every other process of the lab; nothing can be done about an error.
        let _ = self.unshare.wait();
    }
}

/// A shell that runs one of the scripts of [`configure`].
struct Setup {
    what: String,
    shell: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Setup {
    fn start(what: &str, mut shell: Command) -> Result<Self, LabError> {
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut shell = shell.spawn().map_err(|error| LabError::Spawn(what.to_owned(), error))?;
        let stdin = shell.stdin.take();
        let stdout = BufReader::new(shell.stdout.take().expect("piped above"));
        Ok(Self { what: what.to_owned(), shell, stdin, stdout })
    }

    fn feed(&mut self, script: &str) -> Result<(), LabError> {
        match self.stdin.as_mut().map_or(Ok(()), |stdin| stdin.write_all(script.as_bytes())) {
            // A shell that gave up early says why when it is waited for.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(LabError::Spawn(self.what.clone(), error)),
            _ => Ok(()),
        }
    }

    fn await_configured(&mut self) -> Result<(), LabError> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line);
        read.map_err(|error| LabError::Spawn(self.what.clone(), error))?;
        if line.trim() == configure::CONFIGURED { Ok(()) } else { self.end(format!("it said `{}`", line.trim())) }
    }

    fn configure(&mut self, script: &str) -> Result<(), LabError> {
        self.feed(script)?;
        self.await_configured()
    }

    fn finish(mut self) -> Result<(), LabError> {
        self.end(String::new())
    }

    /// Waits for the end; a failure of the script is one, and so is `complaint`.
    fn end(&mut self, mut complaint: String) -> Result<(), LabError> {
        drop(self.stdin.take());
        let mut message = Vec::new();
        let read = self.shell.stderr.take().map_or(Ok(0), |mut stderr| stderr.read_to_end(&mut message));
        let status = read.and_then(|_| self.shell.wait()).map_err(|error| LabError::Spawn(self.what.clone(), error))?;
        if !status.success() {
            complaint = one_line(&message);
        }
        if status.success() && complaint.is_empty() {
            Ok(())
        } else {
            Err(LabError::Configure(self.what.clone(), complaint))
        }
    }
}

impl Drop for Setup {
    /// Where another one failed, this one is not wanted any more.
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

fn open(path: &str) -> io::Result<Arc<OwnedFd>> {
    File::open(path).map(|file| Arc::new(OwnedFd::from(file)))
}

pub(crate) fn one_line(message: &[u8]) -> String {
    let message = String::from_utf8_lossy(message);
    message.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

fn require_tools(path: &OsStr) -> Result<(), LabError> {
    const TOOLS: [(&str, &str); 5] =
        [("unshare", "util-linux"), ("mount", "mount"), ("ip", "iproute2"), ("nft", "nftables"), ("cat", "coreutils")];
    let is_there = |tool: &str| std::env::split_paths(path).any(|folder| folder.join(tool).is_file());
    match TOOLS.into_iter().find(|(tool, _)| !is_there(tool)) {
        Some((tool, package)) => Err(LabError::MissingTool { tool, package }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_named_with_its_package() {
        assert!(require_tools(&enter::search_path()).is_ok());
        let error = require_tools(OsStr::new("/nowhere:/dev")).unwrap_err();
        assert_eq!(error.to_string(), "`unshare` is not installed: on Debian, install the package `util-linux`");
    }
}
