//! Panics of the code under test, which are findings of the simulator and not failures of it.

use std::cell::Cell;
use std::panic::{UnwindSafe, catch_unwind};

thread_local! {
    static IN_KERNEL: Cell<bool> = const { Cell::new(false) };
    /// Where the last of them was.
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Runs a kernel and catches its panics, which are findings of the simulator and not failures of it.
pub(crate) fn quietly(kernel: impl FnOnce() + UnwindSafe) -> std::thread::Result<()> {
    IN_KERNEL.set(true);
    let result = catch_unwind(kernel);
    IN_KERNEL.set(false);
    result
}

/// Keeps panics of simulated kernels, which are reported as violated properties, from being printed where
/// they happen. Other panics are printed as before.
pub fn quiet_kernel_panics() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if IN_KERNEL.get() {
            PLACE.set(panic.location().map(ToString::to_string));
        } else {
            loud(panic);
        }
    }));
}

/// What a kernel panicked with, and where.
pub(crate) fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let place = PLACE.take().map(|place| format!(" ({place})"));
    text.to_owned() + &place.unwrap_or_default()
}
