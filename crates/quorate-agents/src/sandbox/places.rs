//! Where programs and what they are built with usually lie.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Programs, libraries and settings of the system. `/proc` shows a process its own files and the names of others; the
/// kernel keeps the rest of those from whoever is in a sandbox.
const SYSTEM: [&str; 16] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc",
    "/opt",
    "/nix",
    "/gnu/store",
    "/run/current-system",
    "/var/lib/ca-certificates",
    "/snap",
    "/proc",
    "/sys",
];

/// Settings that are often links to folders not named above.
const LINKED: [&str; 3] = ["/etc/resolv.conf", "/etc/localtime", "/etc/hosts"];

/// Below the folders above, and nobody's business.
const SECRET: [&str; 10] = [
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssl/private",
    "/etc/letsencrypt",
    "/etc/krb5.keytab",
    "/etc/NetworkManager/system-connections",
];

/// Devices that are the same for everybody. No terminals: what is written to one, a person or a program may take for
/// something else.
const DEVICES: [&str; 6] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Folders of a home that hold programs and what they are built with.
const HOME: [&str; 22] = [
    ".cargo",
    ".rustup",
    ".nvm",
    ".fnm",
    ".volta",
    ".npm-global",
    ".bun",
    ".deno",
    ".pyenv",
    ".rbenv",
    ".asdf",
    ".sdkman",
    ".ghcup",
    ".local/bin",
    ".local/lib",
    ".local/pipx",
    ".local/share/pipx",
    ".local/share/uv",
    ".local/share/mise",
    ".local/share/pnpm",
    ".local/share/fnm",
    "go",
];

/// Variables that say where such a folder lies.
const VARIABLES: [&str; 9] = [
    "CARGO_HOME",
    "RUSTUP_HOME",
    "NVM_DIR",
    "PYENV_ROOT",
    "VOLTA_HOME",
    "GOROOT",
    "GOPATH",
    "JAVA_HOME",
    "VIRTUAL_ENV",
];

/// In such a folder, and nobody's business.
const CREDENTIALS: [&str; 2] = ["credentials", "credentials.toml"];

/// Settings that tools look for in every folder above the one they work in, and stumble over where they can see but not
/// read one. None is a place for secrets.
const ABOVE: [&str; 44] = [
    "Cargo.toml",
    "Cargo.lock",
    ".cargo/config.toml",
    ".cargo/config",
    "rust-toolchain",
    "rust-toolchain.toml",
    "rustfmt.toml",
    ".rustfmt.toml",
    "clippy.toml",
    ".clippy.toml",
    ".editorconfig",
    ".gitattributes",
    ".gitignore",
    ".ignore",
    "package.json",
    "pnpm-workspace.yaml",
    "lerna.json",
    "nx.json",
    "turbo.json",
    "deno.json",
    "tsconfig.json",
    "jsconfig.json",
    "eslint.config.js",
    "eslint.config.mjs",
    ".eslintrc.json",
    ".eslintrc.js",
    ".eslintrc.cjs",
    ".prettierrc",
    ".prettierignore",
    ".nvmrc",
    ".node-version",
    ".python-version",
    ".ruby-version",
    ".tool-versions",
    "mise.toml",
    "pyproject.toml",
    "setup.cfg",
    "tox.ini",
    "pytest.ini",
    "conftest.py",
    "ruff.toml",
    "mypy.ini",
    "go.mod",
    "go.work",
];

/// What every program may read: the system, and the tools of the home and of the search path of this environment.
pub fn readable(env: &BTreeMap<OsString, OsString>) -> Vec<PathBuf> {
    let home = home(env);
    let mut paths: Vec<PathBuf> = SYSTEM.iter().chain(&LINKED).map(PathBuf::from).collect();
    if let Some(home) = home {
        paths.extend(HOME.iter().map(|name| home.join(name)));
    }
    let search = env.get(OsStr::new("PATH")).map(std::env::split_paths).into_iter().flatten();
    let named = VARIABLES.iter().filter_map(|name| env.get(OsStr::new(name))).map(PathBuf::from);
    // A whole home is no tool.
    let tool = |path: &PathBuf| path.is_absolute() && home.is_none_or(|home| !home.starts_with(path));
    paths.extend(search.chain(named).filter(tool));
    paths.retain(|path| path.exists());
    paths
}

/// What every program may write: devices that keep nothing.
pub fn devices() -> Vec<PathBuf> {
    DEVICES.iter().map(PathBuf::from).filter(|path| path.exists()).collect()
}

/// What of the readable is hidden.
pub fn hidden(env: &BTreeMap<OsString, OsString>) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = SECRET.iter().map(PathBuf::from).collect();
    let keys = std::fs::read_dir("/etc/ssh").into_iter().flatten().flatten();
    paths.extend(
        keys.filter(|file| file.file_name().as_encoded_bytes().ends_with(b"_key")).map(|key| key.path()),
    );
    let cargo = env.get(OsStr::new("CARGO_HOME")).map(PathBuf::from);
    let folders = cargo.into_iter().chain(home(env).map(|home| home.join(".cargo")));
    paths.extend(folders.flat_map(|folder| CREDENTIALS.map(|name| folder.join(name))));
    paths.retain(|path| path.exists());
    paths
}

/// Settings in the folders above one that tools read when they work in it.
pub fn settings_above(folder: &Path) -> Vec<PathBuf> {
    let plain = |path: &PathBuf| path.symlink_metadata().is_ok_and(|about| about.is_file());
    folder
        .ancestors()
        .skip(1)
        .flat_map(|above| ABOVE.iter().map(|name| above.join(name)))
        .filter(plain)
        .collect()
}

fn home(env: &BTreeMap<OsString, OsString>) -> Option<&Path> {
    env.get(OsStr::new("HOME")).map(Path::new).filter(|home| home.is_absolute() && *home != Path::new("/"))
}
