//! A fence that costs the one who is often there nothing.
//!
//! A publisher that puts a message into a ring and then looks whether the receiver sleeps needs the two in that order, and so does a
//! receiver that says it will sleep and then looks into the ring. A fence on both sides would do; on the publisher's it costs as much as
//! the way of the message, because it waits until the line has come from the receiver's core. On Linux the receiver, who is about to do a system call
//! anyway, can make all threads of the process pass a fence: `membarrier(2)`. Where that is not to be had, both use fences.

#[cfg(not(loom))]
pub(crate) use real::{heavy, light};

#[cfg(not(loom))]
mod real {
    use std::sync::atomic::{AtomicU8, Ordering, compiler_fence, fence};

    use rustix::thread::{MembarrierCommand, membarrier, membarrier_query};

    const UNKNOWN: u8 = 0;
    const FENCES: u8 = 1;
    const BARRIER: u8 = 2;

    static MODE: AtomicU8 = AtomicU8::new(UNKNOWN);

    #[cold]
    fn find_out() -> u8 {
        let register = MembarrierCommand::RegisterPrivateExpedited;
        // Miri has fences, and not this system call.
        let has = !cfg!(miri) && membarrier_query().contains_command(MembarrierCommand::PrivateExpedited);
        let mode = if has && membarrier(register).is_ok() { BARRIER } else { FENCES };
        MODE.store(mode, Ordering::SeqCst);
        mode
    }

    /// On the side that is often there.
    #[inline]
    pub(crate) fn light() {
        let mode = match MODE.load(Ordering::Relaxed) {
            UNKNOWN => find_out(),
            known => known,
        };
        if mode == BARRIER {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }

    /// On the side that is about to sleep. `false` where it cannot be had now: then one must not sleep.
    pub(crate) fn heavy() -> bool {
        let mode = match MODE.load(Ordering::Relaxed) {
            UNKNOWN => find_out(),
            known => known,
        };
        fence(Ordering::SeqCst);
        mode != BARRIER || membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }
}

#[cfg(loom)]
pub(crate) fn light() {
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
}

#[cfg(loom)]
pub(crate) fn heavy() -> bool {
    loom::sync::atomic::fence(loom::sync::atomic::Ordering::SeqCst);
    true
}
