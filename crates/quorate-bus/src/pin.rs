//! A core of its own for a thread that spins.

use std::io;

use rustix::thread::{CpuSet, sched_setaffinity};

/// Keeps the calling thread on one core from now on; for a thread that runs a [`crate::Shard`] or receives with [`crate::Wait::Spin`]. Cores are counted
/// from 0; one that is not there, or not allowed to this process, is an error, and the thread stays where it was.
pub fn pin_to_core(core: usize) -> io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

#[cfg(test)]
mod tests {
    use rustix::thread::sched_getaffinity;

    #[test]
    fn a_thread_stays_on_the_core_it_was_pinned_to_and_hears_of_one_that_is_not_there() {
        // A thread of its own, so that the others of this process go where they like.
        let pinned = std::thread::spawn(|| {
            let before = sched_getaffinity(None).unwrap();
            let core = (0..1024).find(|core| before.is_set(*core)).unwrap();
            super::pin_to_core(core).unwrap();
            assert_eq!(sched_getaffinity(None).unwrap().count(), 1);
            assert!(super::pin_to_core(1023).is_err());
            assert!(super::pin_to_core(usize::MAX).is_err());
            sched_getaffinity(None).unwrap().is_set(core)
        });
        assert!(pinned.join().unwrap());
    }
}
