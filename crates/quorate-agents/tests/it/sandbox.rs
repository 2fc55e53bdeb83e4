//! Real processes that try to get out of their sandbox, each beside the same attempt without one.

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Child;

use quorate_agents::sandbox::{Error, places};
use quorate_agents::{
    Command, Containment, Ended, Network, Outcome, Sandbox, SandboxLayer, SpawnError, ends, spawn,
};
use quorate_base::{ByteCount, Millis};

use crate::room::{Room, alive};

/// What an attempt that was refused exits with.
const REFUSED: i32 = 13;

/// A worktree, and beside it what a process in it must not reach.
pub(crate) struct Yard {
    pub(crate) room: Room,
    pub(crate) containment: Containment,
}

impl Yard {
    pub(crate) fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap())
    }

    fn at(folder: tempfile::TempDir) -> Self {
        let yard = Self { room: Room::own(folder), containment: Containment::probe() };
        for folder in ["worktree", "tmp", "other", "home/.ssh"] {
            std::fs::create_dir_all(yard.path(folder)).unwrap();
        }
        std::fs::write(yard.path("other/secret"), "hush").unwrap();
        std::fs::write(yard.path("home/.ssh/id_ed25519"), "hush").unwrap();
        std::fs::write(yard.path("worktree/mine"), "mine").unwrap();
        yard
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.folder.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn works(&self, layer: SandboxLayer) -> bool {
        let name = format!("sandbox: {layer}");
        self.containment.describe().iter().any(|row| row.name == name && row.works)
    }

    /// A shell in the worktree that knows where everything else lies.
    pub(crate) fn command(&self, script: &str) -> Command {
        let mut command = Command { cwd: self.path("worktree"), ..self.room.command(script) };
        command.env.insert("TMPDIR".into(), self.path("tmp").into());
        command.env.insert("YARD".into(), self.path("").into());
        command.limits.memory = ByteCount::mib(2048);
        command.limits.wall = Millis::from_secs(40);
        command
    }

    pub(crate) fn sandbox(&self, command: &Command, network: Network) -> Sandbox {
        let mut write = places::devices();
        write.extend([self.path("worktree"), self.path("tmp")]);
        Sandbox {
            read: places::readable(&command.env),
            write,
            hidden: places::hidden(&command.env),
            temporary: Some(self.path("tmp")),
            network,
            egress: Default::default(),
            require: Vec::new(),
        }
    }

    pub(crate) fn run(&self, command: &Command) -> Ended {
        spawn(command, &self.containment).unwrap().wait().unwrap()
    }

    fn enclosed(&self, command: &Command, network: Network) -> Ended {
        self.run(&Command { sandbox: Some(self.sandbox(command, network)), ..command.clone() })
    }

    pub(crate) fn said(&self) -> String {
        let (_, words) = ends(&self.path("err"), 4096).unwrap();
        format!("{}{}", self.room.out(), String::from_utf8_lossy(&words))
    }

    /// Whether all layers are there; where one is not, that a process which requires it is not started.
    #[track_caller]
    fn has(&self, command: &Command, network: Network, layers: &[SandboxLayer]) -> bool {
        let Some(layer) = layers.iter().find(|layer| !self.works(**layer)) else { return true };
        let sandbox = Sandbox { require: vec![*layer], ..self.sandbox(command, network) };
        let refusal = spawn(&Command { sandbox: Some(sandbox), ..command.clone() }, &self.containment);
        let Err(SpawnError::Sandbox(Error::LayerMissing { layer: missing, .. })) = refusal else {
            panic!("{layer} does not work here, and a process that requires it was started");
        };
        assert_eq!(missing, *layer);
        false
    }

    /// Works without a sandbox, and not in one.
    #[track_caller]
    fn refused_to(&self, command: &Command, network: Network, layers: &[SandboxLayer], undo: impl Fn()) {
        if !self.has(command, network, layers) {
            return;
        }
        let free = self.run(command);
        assert_eq!(
            free.outcome,
            Outcome::Exited { code: 0 },
            "without a sandbox: {command:?}: {}",
            self.said()
        );
        undo();
        let held = self.enclosed(command, network);
        let said = self.said();
        assert!(
            matches!(held.outcome, Outcome::Exited { code } if code != 0),
            "in a sandbox: {command:?}: {held:?}: {said}"
        );
        assert!(!said.contains("hush"), "{said}");
    }

    #[track_caller]
    fn refused(&self, script: &str) {
        self.refused_to(&self.command(script), Network::Off, &[SandboxLayer::Landlock], || {});
    }

    /// Python says what it was refused by its exit code.
    pub(crate) fn python(&self, lines: &[&str]) -> Command {
        let body: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        let script = format!(
            "import ctypes, os, signal, socket, sys\nyard = os.environ['YARD']\ntry:\n{body}except OSError as error:\n    print(error, file=sys.stderr)\n    sys.exit({REFUSED})\n"
        );
        let mut command = self.command("");
        command.program = "python3".into();
        command.args = vec!["-c".into(), script.into()];
        command
    }
}

/// A process that stands outside, ended with the test.
struct Bystander(Child);

impl Bystander {
    fn new() -> Self {
        let mut sleep = std::process::Command::new("sleep");
        let child = sleep.arg("1000").env("BYSTANDER", "hush").spawn().unwrap();
        // Until it has become the program, it still shows this process's environment.
        while !std::fs::read(format!("/proc/{}/environ", child.id()))
            .unwrap()
            .windows(4)
            .any(|w| w == b"hush")
        {}
        Self(child)
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_belongs_to_others_can_neither_be_read_nor_listed() {
    let yard = Yard::new();
    yard.refused("cat $YARD/other/secret");
    yard.refused("cat $YARD/home/.ssh/id_ed25519");
    yard.refused("ls $YARD/home/.ssh");
    yard.refused("ls $YARD");
    yard.refused("ln -sf $YARD/other/secret link && cat link");
    yard.refused("ln -sfn $YARD/home/.ssh folder && cat folder/id_ed25519");
    yard.refused("ln -f $YARD/other/secret hard && cat hard");
    yard.refused("cp $YARD/other/secret copy && cat copy");
    yard.refused("cd $YARD/other && cat secret");
    yard.refused("cat /proc/self/root$YARD/other/secret");
    yard.refused("cat /proc/self/cwd/../other/secret");
}

#[test]
fn nothing_outside_the_worktree_can_be_written() {
    let yard = Yard::new();
    yard.refused("echo x > $YARD/other/new");
    yard.refused("echo x >> $YARD/other/secret");
    yard.refused("ln -sf $YARD/other/through link && echo x > link");
    yard.refused("ln -f mine $YARD/other/hard");
    yard.refused("cp mine again && mv again $YARD/other/moved");
    yard.refused("mkdir $YARD/other/folder.$$");
    yard.refused("mkfifo $YARD/other/fifo.$$");
    yard.refused("echo x > /tmp/quorate-sandbox-test.$$ && rm /tmp/quorate-sandbox-test.$$");
    yard.refused("mv $YARD/home $YARD/house && mv $YARD/house $YARD/home");
    yard.refused("cd .. && mv worktree tree && mv tree worktree");
    yard.refused("mkdir ../beside && rmdir ../beside");
    let empty = yard.python(&["os.truncate(yard + 'other/secret', 0)"]);
    let undo = || std::fs::write(yard.path("other/secret"), "hush").unwrap();
    yard.refused_to(&empty, Network::Off, &[SandboxLayer::Landlock], undo);
    assert_eq!(std::fs::read_to_string(yard.path("other/secret")).unwrap(), "hush");
    let remove = yard.command("rm $YARD/other/secret");
    yard.refused_to(&remove, Network::Off, &[SandboxLayer::Landlock], undo);
    assert!(yard.path("other/secret").exists());
}

#[test]
fn modes_and_times_of_files_outside_stay_as_they_are() {
    let yard = Yard::new();
    for script in ["chmod 777 $YARD/other/secret", "touch -d 2001-01-01 $YARD/other/secret"] {
        yard.refused_to(&yard.command(script), Network::Off, &[SandboxLayer::Namespaces], || {});
    }
}

#[test]
fn a_program_cannot_replace_itself() {
    let yard = Yard::new();
    let program = yard.path("home/agent.sh");
    let write = || {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(&program, "#!/bin/sh\necho evil > \"$0\" || rm \"$0\"\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write();
    let command = Command { program: program.clone(), args: Vec::new(), ..yard.command("") };
    yard.refused_to(&command, Network::Off, &[SandboxLayer::Landlock], write);
    assert!(std::fs::read_to_string(&program).unwrap().starts_with("#!/bin/sh"));
}

#[test]
fn with_the_network_off_nothing_can_be_connected_to() {
    let yard = Yard::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = format!("socket.create_connection(('127.0.0.1', {port}), 5)");
    let udp = format!("socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))");
    for line in [tcp.as_str(), &udp, "socket.socket(socket.AF_INET6, socket.SOCK_STREAM)"] {
        yard.refused_to(&yard.python(&[line]), Network::Off, &[], || {});
    }
}

#[test]
fn on_loopback_a_process_reaches_what_it_started_itself_and_nothing_else() {
    let yard = Yard::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let own = yard.python(&[
        "server = socket.create_server(('127.0.0.1', 0))",
        "socket.create_connection(server.getsockname(), 5).sendall(b'x')",
        "assert server.accept()[0].recv(1) == b'x'",
    ]);
    let sandbox = yard.sandbox(&own, Network::Loopback);
    if !yard.works(SandboxLayer::Namespaces) {
        let refusal = spawn(&Command { sandbox: Some(sandbox), ..own }, &yard.containment);
        assert!(matches!(refusal, Err(SpawnError::Sandbox(Error::Network { .. }))), "{refusal:?}");
        return;
    }
    let ended = yard.enclosed(&own, Network::Loopback);
    assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
    assert!(ended.containment.contains(&"network: loopback (network namespace)".to_owned()), "{ended:?}");
    let tcp = format!("socket.create_connection(('127.0.0.1', {port}), 5)");
    yard.refused_to(&yard.python(&[&tcp]), Network::Loopback, &[], || {});
}

#[test]
fn sockets_of_others_cannot_be_connected_to_even_with_the_network_open() {
    let yard = Yard::new();
    let _in_files = UnixListener::bind(yard.path("other/socket")).unwrap();
    let name = format!("quorate-{}", yard.room.marker);
    let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
    let _abstract = UnixListener::bind_addr(&address).unwrap();
    let abstract_name = format!("socket.socket(socket.AF_UNIX).connect('\\0{name}')");
    for network in [Network::Off, Network::Open] {
        for line in ["socket.socket(socket.AF_UNIX).connect(yard + 'other/socket')", &abstract_name] {
            yard.refused_to(&yard.python(&[line]), network, &[SandboxLayer::Seccomp], || {});
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let tcp = yard.python(&[&format!("socket.create_connection(('127.0.0.1', {port}), 5)")]);
    assert_eq!(yard.enclosed(&tcp, Network::Open).outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
}

#[test]
fn processes_outside_can_be_neither_signalled_nor_looked_into() {
    let yard = Yard::new();
    let bystander = Bystander::new();
    let pid = bystander.0.id();
    let seize = format!(
        "libc = ctypes.CDLL(None, use_errno=True); sys.exit(0 if libc.ptrace(0x4206, {pid}, 0, 0) == 0 else {REFUSED})"
    );
    yard.refused_to(&yard.python(&[&seize]), Network::Off, &[SandboxLayer::Seccomp], || {});
    yard.refused(&format!("cat /proc/{pid}/environ"));
    yard.refused(&format!("ls /proc/{pid}/root/"));
    let read = yard.python(&[&format!("os.open('/proc/{pid}/mem', os.O_RDONLY)")]);
    yard.refused_to(&read, Network::Off, &[SandboxLayer::Landlock], || {});
    yard.refused(&format!("kill -0 {pid}"));
    yard.refused(&format!("kill -CONT {pid}"));
    yard.refused(&format!("kill -CONT {}", std::process::id()));
}

#[test]
fn calls_into_the_kernel_that_no_tool_needs_are_refused() {
    let yard = Yard::new();
    let call = |number: libc_number::Number, arguments: &str| {
        format!(
            "libc = ctypes.CDLL(None, use_errno=True); libc.syscall({}, {arguments}); sys.exit({REFUSED} if ctypes.get_errno() == 1 else 0)",
            number
        )
    };
    // Each fails for another reason where it is not refused: what it is given is nonsense.
    for (number, arguments) in libc_number::CALLS {
        let command = yard.python(&[&call(number, arguments)]);
        if !yard.has(&command, Network::Off, &[SandboxLayer::Seccomp]) {
            continue;
        }
        let ended = yard.enclosed(&command, Network::Off);
        assert_eq!(ended.outcome, Outcome::Exited { code: REFUSED }, "{number} {arguments}: {}", yard.said());
    }
}

/// Numbers of calls and nonsense to call them with; those of this processor.
mod libc_number {
    pub(super) type Number = i64;

    pub(super) const CALLS: [(Number, &str); 7] = [
        (libc::SYS_bpf, "99, 0, 0"),
        (libc::SYS_io_uring_setup, "0, 0"),
        (libc::SYS_userfaultfd, "-1"),
        (libc::SYS_keyctl, "9999, 0, 0, 0, 0"),
        (libc::SYS_clone, "0x10000000, 0, 0, 0, 0"),
        (libc::SYS_unshare, "0x10000000"),
        (libc::SYS_perf_event_open, "0, 0, 0, 0, 0"),
    ];
}

#[test]
fn no_descriptor_passes_to_a_process() {
    let yard = Yard::new();
    let file = std::fs::File::open(yard.path("other/secret")).unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let command = yard.command("ls /proc/self/fd | tr '\\n' ' '");
    for network in [None, Some(Network::Off), Some(Network::Open)] {
        let sandbox = network.map(|network| yard.sandbox(&command, network));
        assert_eq!(yard.run(&Command { sandbox, ..command.clone() }).outcome, Outcome::Exited { code: 0 });
        // The fourth is the one by which `ls` reads the list.
        assert_eq!(yard.room.out().trim(), "0 1 2 3", "{network:?}");
    }
}

#[test]
fn ordinary_work_goes_on_as_usual() {
    let yard = Yard::new();
    let command = yard.command(
        r#"set -eux
        mkdir -p deep/er && echo one > deep/er/file && mv deep/er/file deep/file && ln -s deep/file link && cat link
        ln deep/file hard && rm hard && chmod 700 deep && touch -d 2001-01-01 deep/file
        mkfifo pipe && (echo through > pipe &) && cat pipe
        sleep 1000 & kill $! ; wait $! || true
        cat <<END
here
END
        echo kept > "$TMPDIR/kept" && cat "$TMPDIR/kept"
        echo void > /dev/null && echo out > /dev/stdout && head -c 4 /dev/urandom | wc -c
        cat /proc/self/status > /dev/null && grep -c processor /proc/cpuinfo > /dev/null
        git init -q . && git add . && git -c user.name=T -c user.email=t@example.invalid commit -q -m first && git status --short
        printf 'fn main() { println!("built"); }' > hello.rs && rustc -o hello hello.rs && ./hello
        "#,
    );
    let command = Command {
        env: command
            .env
            .into_iter()
            .chain([("GIT_CONFIG_GLOBAL".into(), OsString::from("/dev/null"))])
            .collect(),
        ..command
    };
    for network in [Network::Off, Network::Open] {
        let ended = yard.enclosed(&command, network);
        assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
        assert!(yard.room.out().contains("built"), "{}", yard.said());
        for entry in std::fs::read_dir(yard.path("worktree")).unwrap() {
            let path = entry.unwrap().path();
            let _ = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir_all(&path));
        }
    }
}

#[test]
fn files_made_inside_belong_to_who_started_it() {
    use std::os::unix::fs::MetadataExt;
    let yard = Yard::new();
    let ended = yard.enclosed(&yard.command("touch new && id -u"), Network::Off);
    assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
    let owner = std::fs::metadata(yard.path("worktree/new")).unwrap().uid();
    assert_eq!(owner, std::fs::metadata(yard.path("worktree")).unwrap().uid());
    assert_eq!(yard.room.out().trim(), owner.to_string());
}

#[test]
fn each_layer_that_works_is_named_and_each_that_does_not_is_refused_where_it_is_required() {
    let yard = Yard::new();
    let command = yard.command("true");
    let working: Vec<_> =
        SandboxLayer::ALL.into_iter().map(|(_, layer)| layer).filter(|layer| yard.works(*layer)).collect();
    let sandbox = Sandbox { require: working.clone(), ..yard.sandbox(&command, Network::Off) };
    let ended = yard.run(&Command { sandbox: Some(sandbox), ..command.clone() });
    let line = |what: &str| ended.containment.iter().find(|line| line.starts_with(what)).cloned().unwrap();
    assert_eq!(line("files:").contains("landlock ABI"), working.contains(&SandboxLayer::Landlock));
    assert_eq!(line("files:").contains("read-only mounts"), working.contains(&SandboxLayer::Namespaces));
    assert_eq!(line("calls:") == "calls: seccomp", working.contains(&SandboxLayer::Seccomp));
    assert!(line("network:").starts_with("network: off ("), "{ended:?}");
    for (name, layer) in SandboxLayer::ALL {
        // On a machine that offers nothing, and on this one where it lacks the layer.
        let mut without = vec![Containment::plain()];
        without.extend((!working.contains(&layer)).then(|| yard.containment.clone()));
        for containment in without {
            let sandbox = Sandbox { require: vec![layer], ..yard.sandbox(&command, Network::Open) };
            let refusal = spawn(&Command { sandbox: Some(sandbox), ..command.clone() }, &containment);
            let refusal = refusal.map(|_| ()).unwrap_err();
            assert!(matches!(&refusal, SpawnError::Sandbox(Error::LayerMissing { .. })), "{refusal:?}");
            assert!(refusal.to_string().contains(&format!("requires `{name}`")), "{refusal}");
        }
    }
    for network in [Network::Off, Network::Loopback] {
        let sandbox = yard.sandbox(&command, network);
        let refusal = spawn(&Command { sandbox: Some(sandbox), ..command.clone() }, &Containment::plain());
        assert!(matches!(refusal, Err(SpawnError::Sandbox(Error::Network { .. }))), "{refusal:?}");
    }
}

#[test]
fn a_path_that_is_missing_or_would_open_what_is_hidden_is_told() {
    let yard = Yard::new();
    let command = yard.command("cat $YARD/other/secret");
    let with = |change: &dyn Fn(&mut Sandbox)| {
        let mut sandbox = yard.sandbox(&command, Network::Off);
        change(&mut sandbox);
        Command { sandbox: Some(sandbox), ..command.clone() }
    };
    let gone = with(&|sandbox| sandbox.read.push(yard.path("gone")));
    assert!(matches!(spawn(&gone, &yard.containment), Err(SpawnError::Sandbox(Error::Path { .. }))));
    let exposed = with(&|sandbox| {
        sandbox.write.push(yard.path(""));
        sandbox.hidden.push(yard.path("other"));
    });
    assert!(matches!(spawn(&exposed, &yard.containment), Err(SpawnError::Sandbox(Error::Exposed { .. }))));
    if yard.works(SandboxLayer::Landlock) {
        let split = |hidden: &str| {
            with(&|sandbox| {
                sandbox.read.push(yard.path(""));
                sandbox.hidden.push(yard.path(hidden));
            })
        };
        assert_ne!(yard.run(&split("other")).outcome, Outcome::Exited { code: 0 });
        assert_eq!(yard.run(&split("home/.ssh")).outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
    }
}

#[test]
fn a_process_in_a_sandbox_still_ends_with_its_tree_and_its_limits() {
    let yard = Yard::new();
    let mut command =
        yard.command("setsid sh -c 'echo $$ > escapee; exec sleep 1000' & while :; do sleep 0.05; done");
    command.limits.wall = Millis(600);
    let ended = yard.enclosed(&command, Network::Off);
    assert_eq!(ended.outcome, Outcome::WallLimit);
    assert!(!alive(&yard.path("worktree/escapee")));
}

#[test]
fn shared_memory_and_the_common_temporary_folder_are_each_process_s_own() {
    // Not below `/tmp`, where its own folder cannot take the place of it.
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let yard = Yard::at(folder);
    let lock = yard.python(&["import multiprocessing", "multiprocessing.Lock().acquire()"]);
    let name = format!("quorate-{}", yard.room.marker);
    let command =
        yard.command(&format!("echo x > /dev/shm/{name} && echo x > /tmp/{name} && cat \"$TMPDIR/{name}\""));
    if !yard.has(&lock, Network::Off, &[SandboxLayer::Namespaces]) {
        return;
    }
    assert_eq!(yard.enclosed(&lock, Network::Off).outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
    for _ in 0..2 {
        let ended = yard.enclosed(&command, Network::Off);
        assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
        for folder in ["/dev/shm", "/tmp"] {
            assert!(!Path::new(folder).join(&name).exists());
        }
        std::fs::remove_file(yard.path("tmp").join(&name)).unwrap();
    }
    let fill = yard.command("head -c 100000000 /dev/zero > /dev/shm/full");
    assert_ne!(yard.enclosed(&fill, Network::Off).outcome, Outcome::Exited { code: 0 });
    for path in ["/tmp", "/dev/shm"] {
        std::fs::write(Path::new(path).join(&name), "hush").unwrap();
        let read = yard.enclosed(&yard.command(&format!("cat {path}/{name}")), Network::Off);
        std::fs::remove_file(Path::new(path).join(&name)).unwrap();
        assert_ne!(read.outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
    }
}

/// Says to the copy of this test that runs in a sandbox where its room is.
const INSIDE: &str = "QUORATE_TEST_INSIDE";

#[test]
fn a_sandbox_inside_a_sandbox_holds_too() {
    if let Some(room) = std::env::var_os(INSIDE) {
        return inside(Path::new(&room));
    }
    let yard = Yard::new();
    std::fs::write(yard.path("tmp/secret"), "hush").unwrap();
    let mut command = yard.command("");
    command.program = std::env::current_exe().unwrap();
    let name = "sandbox::a_sandbox_inside_a_sandbox_holds_too";
    command.args = ["--exact", name, "--nocapture"].map(Into::into).to_vec();
    command.env.insert(INSIDE.into(), yard.path("").into());
    let ended = yard.enclosed(&command, Network::Off);
    assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
    assert!(yard.room.out().contains("1 passed"), "{}", yard.said());
    let inner = std::fs::read_to_string(yard.path("worktree/inner.out")).unwrap();
    assert_eq!(inner, "mine");
}

/// Within the outer sandbox: its temporary folder, which the outer may use, is closed to the inner.
fn inside(yard: &Path) {
    let containment = Containment::nested();
    let env = std::env::vars_os().filter(|(name, _)| name == "PATH").collect();
    let mut write = places::devices();
    write.push(yard.join("worktree"));
    let works = |layer: SandboxLayer| {
        containment.describe().iter().any(|row| row.name == format!("sandbox: {layer}") && row.works)
    };
    let require =
        [SandboxLayer::Landlock, SandboxLayer::Seccomp].into_iter().filter(|layer| works(*layer)).collect();
    let command = Command {
        cwd: yard.join("worktree"),
        args: vec![
            "-c".into(),
            "cat mine; echo x > made || exit 9; cat ../tmp/secret && exit 7; exit 0".into(),
        ],
        stdout: yard.join("worktree/inner.out"),
        stderr: yard.join("worktree/inner.err"),
        sandbox: Some(Sandbox {
            read: places::readable(&env),
            write,
            hidden: places::hidden(&env),
            temporary: None,
            network: Network::Off,
            egress: Default::default(),
            require,
        }),
        env,
        ..Room::new().command("")
    };
    let ended = spawn(&command, &containment).unwrap().wait().unwrap();
    let expected = if works(SandboxLayer::Landlock) { 0 } else { 7 };
    assert_eq!(ended.outcome, Outcome::Exited { code: expected }, "{ended:?}");
}
