//! Asks for lines before they are needed. A hint: it changes no value and may do nothing.

/// The line will be read.
#[inline]
pub(crate) fn for_reading<T>(place: *const T) {
    hint::<0, T>(place);
}

/// The line will be written: it can leave the core that has it.
#[inline]
pub(crate) fn for_writing<T>(place: *const T) {
    hint::<1, T>(place);
}

#[inline]
#[cfg(all(target_arch = "x86_64", not(miri), not(loom)))]
#[expect(unsafe_code, reason = "an intrinsic that is unsafe by declaration")]
fn hint<const WRITE: usize, T>(place: *const T) {
    use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
    let mut at = 0;
    while at < size_of::<T>() {
        let line = place.cast::<i8>().wrapping_add(at);
        // SAFETY: a prefetch does not access memory as far as the program can tell; any address will do.
        unsafe {
            if WRITE == 1 {
                _mm_prefetch::<_MM_HINT_ET0>(line);
            } else {
                _mm_prefetch::<_MM_HINT_T0>(line);
            }
        }
        at += 64;
    }
}

#[inline]
#[cfg(not(all(target_arch = "x86_64", not(miri), not(loom))))]
fn hint<const WRITE: usize, T>(_: *const T) {}
