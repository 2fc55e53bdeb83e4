//! A Python environment of the project's own, with exactly the pinned packages, below `target/`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::tools;

/// Packages that tests need.
const TEST_REQUIREMENTS: &str = "crates/quorate-evidence/tests/securesystemslib/requirements.txt";
/// Tools with prebuilt binaries.
const TOOL_REQUIREMENTS: &str = "xtask/requirements.txt";

/// An environment that exists.
#[derive(Debug, Clone)]
pub struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// Makes the environment where it is not there yet. Without Python the error says what to install.
    pub fn ensure(root: &Path) -> Result<Self> {
        let venv = Self { folder: root.join("target/python-venv") };
        if !tools::answers(Command::new(venv.python()).args(["-m", "pip", "--version"])) {
            venv.create()?;
        }
        Ok(venv)
    }

    /// Adds what the tests need; where that is impossible the error says why.
    pub fn install_packages(&self, root: &Path) -> Result<()> {
        self.install(root, TEST_REQUIREMENTS)
    }

    /// Adds the tools; where that is impossible the error says why.
    pub fn install_tools(&self, root: &Path) -> Result<()> {
        self.install(root, TOOL_REQUIREMENTS)
    }

    /// The interpreter.
    pub fn python(&self) -> PathBuf {
        self.bin("python")
    }

    /// A program of the environment.
    pub fn bin(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    fn create(&self) -> Result<()> {
        if !tools::answers(Command::new("python3").arg("--version")) {
            bail!(
                "python3 is missing: install Python 3.9 or later (Debian and Ubuntu: `apt-get install python3 python3-venv`)"
            );
        }
        for (module, hint) in [("venv", "python3-venv"), ("ensurepip", "python3-venv")] {
            if !tools::answers(Command::new("python3").args(["-c", &format!("import {module}")])) {
                bail!("python3 has no module `{module}`: Debian and Ubuntu have it in the package `{hint}`");
            }
        }
        // What is left of an interrupted attempt would be taken for whole.
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)
                .with_context(|| format!("cannot remove {}", self.folder.display()))?;
        }
        let output = Command::new("python3")
            .args(["-m", "venv"])
            .arg(&self.folder)
            .output()
            .context("cannot run python3 -m venv")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "python3 -m venv {} failed: {}", self.folder.display(), said.trim());
        Ok(())
    }

    /// Installs a list of requirements, unless exactly this list was installed before: then no network is needed.
    fn install(&self, root: &Path, list: &str) -> Result<()> {
        let path = root.join(list);
        let wanted = fs::read_to_string(&path).with_context(|| format!("cannot read {list}"))?;
        let stamp = self.folder.join(format!("installed-{}", list.replace('/', "-")));
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        let output = Command::new(self.python())
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&path)
            .output()
            .context("cannot run pip")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pip cannot install {list}: {}", said.trim());
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))
    }
}
