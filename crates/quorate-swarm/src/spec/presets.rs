//! Command templates of agent CLIs that people have installed, for `quorate run --agent NAME "objective"`.
//!
//! Each is the CLI's documented headless form. None is given standard input (some treat a pipe as more prompt).

use std::collections::BTreeSet;

use quorate_agents::Network;
use quorate_base::{ByteCount, Millis};

use super::{AgentLimits, AgentSpec, Restart, Retry, Role, SandboxSpec};
use crate::budget::{Budget, Source};

/// One known agent CLI.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    pub name: &'static str,
    pub program: &'static str,
    pub args: &'static [&'static str],
    /// Where its declaration switches the sandbox off, if that changes anything.
    pub args_unenclosed: Option<&'static [&'static str]>,
    /// Environment the CLI reads for its own settings.
    pub env: &'static [&'static str],
    /// Environment that holds credentials; blotted out of everything kept.
    pub secrets: &'static [&'static str],
    /// Where the CLI keeps its settings, sessions and credentials: in its sandbox it may write there.
    pub own: &'static [&'static str],
    /// What the CLI connects to; any host where there is none, because it is not known what it needs.
    pub hosts: &'static [&'static str],
    /// How to get the program.
    pub install: &'static str,
    /// How it tells what it uses, in the form in which it is started here.
    pub usage: Source,
}

/// Environment every agent may see unless its declaration says otherwise.
pub const ENV_DEFAULT: [&str; 9] =
    ["PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "USER", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];

/// Bounds of an agent whose declaration sets none: room for an agent CLI that compiles and tests.
pub const LIMITS_DEFAULT: AgentLimits = AgentLimits {
    wall: Millis::from_secs(30 * 60),
    memory: ByteCount::mib(4096),
    cpu: Millis::from_secs(60 * 60),
    output: ByteCount::mib(256),
    processes: 2048,
    open_files: 4096,
    cpus: None,
    disk: ByteCount::mib(16 << 10),
    idle: Some(Millis::from_secs(10 * 60)),
};

/// What journals from before these limits could be set stand for.
pub(super) fn processes_default() -> u32 {
    LIMITS_DEFAULT.processes
}

pub(super) fn open_files_default() -> u64 {
    LIMITS_DEFAULT.open_files
}

pub(super) fn disk_default() -> ByteCount {
    LIMITS_DEFAULT.disk
}

pub const PRESETS: [Preset; 5] = [
    Preset {
        name: "claude",
        program: "claude",
        args: &[
            "-p",
            "{objective}",
            "--output-format",
            "stream-json",
            "--verbose",
            "--permission-mode",
            "acceptEdits",
        ],
        args_unenclosed: None,
        env: &["ANTHROPIC_BASE_URL", "CLAUDE_CONFIG_DIR"],
        secrets: &["ANTHROPIC_API_KEY", "CLAUDE_CODE_OAUTH_TOKEN"],
        own: &["~/.claude/", "~/.claude.json", "$CLAUDE_CONFIG_DIR/", "~/.cache/claude-cli-nodejs/"],
        hosts: &["api.anthropic.com", "platform.claude.com", "claude.ai", "$ANTHROPIC_BASE_URL"],
        install: "npm install -g @anthropic-ai/claude-code",
        usage: Source::Claude,
    },
    Preset {
        name: "codex",
        program: "codex",
        // Its own sandbox makes namespaces, which it cannot do within another.
        args: &["exec", "--json", "-s", "danger-full-access", "{objective}"],
        args_unenclosed: Some(&["exec", "--json", "-s", "workspace-write", "{objective}"]),
        env: &["CODEX_HOME", "OPENAI_BASE_URL"],
        secrets: &["OPENAI_API_KEY", "CODEX_API_KEY"],
        own: &["~/.codex/", "$CODEX_HOME/"],
        hosts: &["api.openai.com", "chatgpt.com", "auth.openai.com", "$OPENAI_BASE_URL"],
        install: "npm install -g @openai/codex",
        usage: Source::Codex,
    },
    Preset {
        name: "gemini",
        program: "gemini",
        // It trusts no folder it has not seen, and a worktree is always new.
        args: &["-p", "{objective}", "-o", "stream-json", "--approval-mode", "auto_edit", "--skip-trust"],
        args_unenclosed: None,
        env: &["GOOGLE_CLOUD_PROJECT", "GOOGLE_GEMINI_BASE_URL"],
        secrets: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
        own: &["~/.gemini/"],
        hosts: &[
            "generativelanguage.googleapis.com",
            "cloudcode-pa.googleapis.com",
            "oauth2.googleapis.com",
            "$GOOGLE_GEMINI_BASE_URL",
        ],
        install: "npm install -g @google/gemini-cli",
        usage: Source::None,
    },
    Preset {
        name: "opencode",
        program: "opencode",
        args: &["run", "--format", "json", "{objective}"],
        args_unenclosed: None,
        env: &["OPENCODE_CONFIG"],
        secrets: &["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "OPENROUTER_API_KEY"],
        own: &[
            "~/.config/opencode/",
            "~/.local/share/opencode/",
            "~/.local/state/opencode/",
            "~/.cache/opencode/",
        ],
        hosts: &[],
        install: "npm install -g opencode-ai",
        usage: Source::Opencode,
    },
    Preset {
        name: "aider",
        program: "aider",
        args: &["--message", "{objective}", "--yes-always", "--no-auto-commits"],
        args_unenclosed: None,
        env: &["AIDER_MODEL", "OPENAI_API_BASE"],
        secrets: &["ANTHROPIC_API_KEY", "OPENAI_API_KEY", "DEEPSEEK_API_KEY"],
        own: &["~/.aider/", "~/.aider.conf.yml"],
        hosts: &[],
        install: "python -m pip install aider-install && aider-install",
        usage: Source::None,
    },
];

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

impl Preset {
    pub fn spec(&self) -> AgentSpec {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut env = owned(&ENV_DEFAULT);
        env.extend(owned(self.env));
        AgentSpec {
            role: Role::Coder,
            program: self.program.to_owned(),
            args: owned(self.args),
            env,
            secrets: owned(self.secrets),
            secrets_required: Vec::new(),
            count: 1,
            can: BTreeSet::new(),
            cost: 1,
            reports_to: None,
            scale: None,
            attempts: 1,
            fleet: 0,
            retry: Retry::default(),
            restart: Restart::default(),
            budget: Budget::default(),
            launch_budget: Budget::default(),
            usage: self.usage,
            limits: LIMITS_DEFAULT,
            // It must reach its model.
            sandbox: Some(SandboxSpec {
                own: owned(self.own),
                network: if self.hosts.is_empty() { Network::Open } else { Network::Listed },
                hosts: owned(self.hosts),
                ..SandboxSpec::default()
            }),
        }
    }
}
