//! Copies of the workspace, in which a program changes the code, builds it and runs what it has built.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// What a file of the copy holds, by its path and what the original holds.
pub type Change<'c> = &'c dyn Fn(&Path, Vec<u8>) -> Vec<u8>;

/// How a program ends: well, with something that does not hold, or with what kept it from finding out,
/// which is printed.
pub fn exit_code(ended: Result<bool, impl fmt::Display>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Takes a place for this process alone, which two programs that change the same copy need, and waits for it.
/// It is given back when the file is dropped.
///
/// # Errors
///
/// Where the place cannot be made or locked.
pub fn lock(place: &Path, program: &str) -> io::Result<File> {
    fs::create_dir_all(place)?;
    let lock = File::create(place.join("lock"))?;
    if let Err(TryLockError::WouldBlock) = lock.try_lock() {
        eprintln!("another `{program}` works in {}: waiting until it has ended", place.display());
        lock.lock()?;
    }
    Ok(lock)
}

/// Makes `copy` like `original`, but for what `change` changes. Writes only what differs, so that little is
/// built again.
///
/// # Errors
///
/// Where something cannot be read or written.
pub fn mirror(original: &Path, copy: &Path, change: Change<'_>) -> io::Result<()> {
    if original.is_dir() {
        fs::create_dir_all(copy)?;
        for file in fs::read_dir(copy)? {
            let name = file?.file_name();
            if !original.join(&name).exists() {
                remove(&copy.join(&name))?;
            }
        }
        for file in fs::read_dir(original)? {
            let name = file?.file_name();
            mirror(&original.join(&name), &copy.join(&name), change)?;
        }
        return Ok(());
    }
    let bytes = change(original, fs::read(original)?);
    if fs::read(copy).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    if let Some(parent) = copy.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(copy, bytes)
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// What a command prints, if it comes to an end within the limit.
///
/// # Errors
///
/// `TimedOut` where it did not end, and was killed; `InvalidData` where it printed no UTF-8.
pub fn output_within(command: &mut Command, limit: Duration) -> io::Result<String> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe to read from"))?;
    let reader = thread::spawn(move || {
        let mut printed = Vec::new();
        stdout.read_to_end(&mut printed).map(|_| printed)
    });
    let started = Instant::now();
    let mut pause = Duration::from_millis(1);
    while child.try_wait()?.is_none() {
        if started.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            let what = format!("it ran on without end, and was stopped after {} s", limit.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
    let printed = reader.join().map_err(|_| io::Error::other("what it printed was not read"))??;
    String::from_utf8(printed).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_what_the_original_is_but_for_what_is_changed() {
        let place = tempfile::tempdir().expect("a directory");
        let (original, copy) = (place.path().join("original"), place.path().join("copy"));
        for (file, text) in [("original/a/kept", "1"), ("original/changed", "2"), ("copy/a/gone/file", "3")] {
            let path = place.path().join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        let change =
            |path: &Path, bytes: Vec<u8>| if path.ends_with("changed") { b"4".to_vec() } else { bytes };
        mirror(&original, &copy, &change).expect("a copy");
        let read = |file: &str| fs::read_to_string(copy.join(file)).ok();
        assert_eq!(read("a/kept").as_deref(), Some("1"));
        assert_eq!(read("changed").as_deref(), Some("4"));
        assert!(!copy.join("a/gone").exists());
        let written = fs::metadata(copy.join("changed")).and_then(|data| data.modified()).expect("a time");
        mirror(&original, &copy, &change).expect("the same copy");
        let then = fs::metadata(copy.join("changed")).and_then(|data| data.modified()).expect("a time");
        assert_eq!(then, written, "it was written again, and would be built again");
    }

    #[test]
    fn what_does_not_end_is_stopped() {
        let quick = output_within(Command::new("echo").arg("yes"), Duration::from_secs(60)).expect("it ends");
        assert_eq!(quick, "yes\n");
        let endless = output_within(Command::new("sleep").arg("1000"), Duration::from_millis(10));
        assert_eq!(endless.expect_err("it does not end").kind(), io::ErrorKind::TimedOut);
    }
}
