//! A folder in which one process runs at a time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use quorate_agents::{Command, Containment, Ended, Limits, Stdin, ends, spawn};
use quorate_base::{ByteCount, Millis};

pub(crate) struct Room {
    pub(crate) folder: Folder,
    pub(crate) marker: String,
}

pub(crate) enum Folder {
    Own(tempfile::TempDir),
    Other(PathBuf),
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Other(path) => path,
        }
    }
}

impl Room {
    pub(crate) fn new() -> Self {
        Self::own(tempfile::tempdir().unwrap())
    }

    pub(crate) fn own(folder: tempfile::TempDir) -> Self {
        Self::of(Folder::Own(folder))
    }

    /// In a folder that another room has made.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self::of(Folder::Other(path))
    }

    fn of(folder: Folder) -> Self {
        let marker = folder.path().file_name().unwrap().to_string_lossy().to_lowercase().replace('.', "t");
        Self { folder, marker }
    }

    pub(crate) fn command(&self, script: &str) -> Command {
        let env =
            ["PATH", "HOME"].iter().filter_map(|name| Some((OsString::from(name), std::env::var_os(name)?)));
        Command {
            program: "sh".into(),
            args: vec!["-c".into(), script.into()],
            cwd: self.folder.path().to_owned(),
            env: env.collect::<BTreeMap<_, _>>(),
            stdin: Stdin::Null,
            stdout: self.folder.path().join("out"),
            stderr: self.folder.path().join("err"),
            limits: Limits {
                wall: Millis::from_secs(20),
                memory: ByteCount::mib(512),
                cpu: Millis::from_secs(20),
                output: ByteCount::mib(64),
                processes: 500,
                open_files: 256,
                cpus: None,
                disk: None,
                idle: None,
                grace: Millis(300),
            },
            sandbox: None,
            marker: self.marker.clone(),
        }
    }

    pub(crate) fn run(&self, command: &Command) -> Ended {
        spawn(command, &Containment::probe()).unwrap().wait().unwrap()
    }

    pub(crate) fn out(&self) -> String {
        String::from_utf8_lossy(&ends(&self.folder.path().join("out"), 4096).unwrap().1).into_owned()
    }
}

pub(crate) fn alive(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Every set of layers that can be had on this machine, from the strongest down.
pub(crate) fn layers() -> [(&'static str, Containment); 3] {
    [
        ("as found", Containment::probe()),
        ("cgroup v1", Containment::probe_v1()),
        ("no groups", Containment::plain()),
    ]
}

impl Room {
    pub(crate) fn run_in(&self, command: &Command, containment: &Containment) -> Ended {
        spawn(command, containment).unwrap().wait().unwrap()
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        std::fs::metadata(self.folder.path().join(name)).is_ok_and(|file| file.len() > 0)
    }
}

/// Starts one process after another, 300 in all, none of which starts any itself. Whether or not anybody stops it, each
/// of them and it itself are gone after some seconds: an alarm ends them.
pub(crate) const BOMB: &str = "exec python3 -c '
import os, signal, time
signal.alarm(15)
for _ in range(300):
    if os.fork() == 0:
        signal.alarm(10)
        time.sleep(10)
        os._exit(0)
time.sleep(10)
'";

/// A relay of 200 processes, each in a session of its own, each of which starts the next and stays. Whether or not
/// anybody stops it, each of them is gone after some seconds: an alarm ends it.
pub(crate) const RELAY: &str = "exec python3 -c '
import os, signal, time
signal.alarm(15)
for lap in range(200):
    if os.fork() != 0:
        break
    signal.alarm(10)
    os.setsid()
    with open(\"laps\", \"a\") as laps:
        laps.write(\"x\")
time.sleep(10)
'";

/// The line of an end's containment about something.
pub(crate) fn told<'a>(ended: &'a Ended, what: &str) -> &'a str {
    let line = ended.containment.iter().find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("nothing is told about {what}: {ended:?}"))
}
