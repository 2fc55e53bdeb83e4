//! What checks there are, and which a project gets where nobody says.

use quorate_base::Millis;
use serde::{Deserialize, Serialize};

use crate::detect::Project;

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CheckSpec {
    /// A program with its arguments, run at the top of the checkout.
    Command { argv: Vec<String>, timeout: Millis },
    /// One of [`crate::builtin::NAMES`].
    Builtin { name: String },
}

/// Time a detected command has.
const TIMEOUT: Millis = Millis::from_secs(20 * 60);

/// The checks of a project, each with the speciality it belongs to and its name.
///
/// Empty where the project has no test command that is known: a panel that cannot run a test has nothing to say.
pub fn default_panel(project: &Project) -> Vec<(&'static str, String, CheckSpec)> {
    let mut checks = Vec::new();
    for (i, family) in project.families.iter().enumerate() {
        let name = |base: &str| if i == 0 { base.to_owned() } else { format!("{base}-{}", family.name) };
        checks.push((
            "tests",
            name("tests"),
            CheckSpec::Command { argv: family.test.clone(), timeout: TIMEOUT },
        ));
        if let Some(build) = &family.build {
            checks.push((
                "integration",
                name("build"),
                CheckSpec::Command { argv: build.clone(), timeout: TIMEOUT },
            ));
        }
    }
    if checks.is_empty() {
        return checks;
    }
    let builtin = |name: &str| CheckSpec::Builtin { name: name.to_owned() };
    for (speciality, name) in [
        ("integration", "interface"),
        ("security", "secrets"),
        ("security", "hygiene"),
        ("architecture", "structure"),
        ("performance", "performance"),
    ] {
        checks.push((speciality, name.to_owned(), builtin(name)));
    }
    checks
}
