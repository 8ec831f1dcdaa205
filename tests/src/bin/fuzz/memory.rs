//! How much memory something takes while it runs.

// An allocator is an unsafe trait; this one counts and passes everything on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    /// The bytes that this thread has allocated and not yet freed.
    static LIVE: Cell<i64> = const { Cell::new(0) };
    /// The most that those ever were.
    static MOST: Cell<i64> = const { Cell::new(0) };
}

fn hold(more: usize, less: usize) {
    // The thread may be past its end, where no more allocations are counted.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + more as i64 - less as i64);
        let _ = MOST.try_with(|most| most.set(most.get().max(live.get())));
    });
}

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hold(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(0, layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // For a moment there may be both.
        hold(size, 0);
        hold(0, layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs something that has `bytes` bytes to read, and checks that it never holds more than `each` for every
/// one of them and `fixed` beside.
pub(crate) fn bounded<T>(bytes: usize, each: u64, fixed: u64, act: impl FnOnce() -> T) -> T {
    let before = LIVE.get();
    MOST.set(before);
    let result = act();
    let most = MOST.get() - before;
    let allowed = fixed + each * bytes as u64;
    assert!(most <= allowed as i64, "{bytes} bytes took {most} bytes of memory; {allowed} are allowed");
    result
}
