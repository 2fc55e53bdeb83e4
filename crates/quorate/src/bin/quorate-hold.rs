//! The stage in which an agent of a fleet waits for its task; a node starts it, and nobody else has use for it. It is a
//! program of its own because a small one waits in less memory and makes room sooner.

fn main() -> std::process::ExitCode {
    // Where it fails, the node has been told why.
    quorate_agents::hold().map_or(std::process::ExitCode::FAILURE, |()| std::process::ExitCode::SUCCESS)
}
