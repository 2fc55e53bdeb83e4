//! The stage in which a process of a fleet waits for its program; a node starts it, and nobody else has use for it.

fn main() -> std::process::ExitCode {
    // Where it fails, the node has been told why.
    quorate_agents::hold().map_or(std::process::ExitCode::FAILURE, |()| std::process::ExitCode::SUCCESS)
}
