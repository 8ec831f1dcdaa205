//! A bound on the memory that something takes while it runs.

use kontiki_tests::memory::{Counting, peak};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs something that has `bytes` bytes to read, and checks that it never holds more than `each` for every
/// one of them and `fixed` beside.
pub(crate) fn bounded<T>(bytes: usize, each: u64, fixed: u64, act: impl FnOnce() -> T) -> T {
    let (result, most) = peak(act);
    let allowed = fixed + each * bytes as u64;
    assert!(most <= allowed as i64, "{bytes} bytes took {most} bytes of memory; {allowed} are allowed");
    result
}
