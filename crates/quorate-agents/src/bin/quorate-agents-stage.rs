//! The stage of a process that is started ahead and nothing else, for the tests of this crate.

fn main() -> std::process::ExitCode {
    // Where it fails, the node has been told why.
    quorate_agents::hold().map_or(std::process::ExitCode::FAILURE, |()| std::process::ExitCode::SUCCESS)
}
