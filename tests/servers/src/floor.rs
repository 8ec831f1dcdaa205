//! What a write of one client costs by itself: two syncs and two round trips, one after the other.

use crate::Result;
use crate::load::{histogram, micros};
use rustix::fs::fdatasync;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long a message and a block are.
const MESSAGE: usize = 320;
const BLOCK: usize = 4_096;

/// How many blocks the file has. They are written before anything is measured, as in a segment of a log.
const BLOCKS: u64 = 1_024;

/// Medians.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Floor {
    pub(crate) sync: Duration,
    pub(crate) round_trip: Duration,
    /// Two of each.
    pub(crate) write: Duration,
}

/// Measures it in a directory.
pub(crate) fn measure(directory: &Path, time: Duration) -> Result<Floor> {
    let file =
        File::options().create(true).truncate(true).read(true).write(true).open(directory.join("floor"))?;
    for block in 0..BLOCKS {
        file.write_all_at(&[1; BLOCK], block * BLOCK as u64)?;
    }
    file.sync_all()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    stream.set_nodelay(true)?;
    let echo = thread::spawn(move || echo(&listener));
    let (mut sync, mut round_trip, mut write) = (histogram(), histogram(), histogram());
    let end = Instant::now() + time;
    for turn in 0.. {
        let began = Instant::now();
        if began >= end {
            break;
        }
        for half in 0..2 {
            let at = Instant::now();
            ask(&mut stream)?;
            let asked = Instant::now();
            file.write_all_at(&[2; BLOCK], (2 * turn + half) % BLOCKS * BLOCK as u64)?;
            fdatasync(&file)?;
            round_trip.record(micros(asked - at)).expect("it grows as needed");
            sync.record(micros(asked.elapsed())).expect("it grows as needed");
        }
        write.record(micros(began.elapsed())).expect("it grows as needed");
    }
    drop(stream);
    echo.join().expect("it does not panic")?;
    let median =
        |histogram: &hdrhistogram::Histogram<u64>| Duration::from_micros(histogram.value_at_quantile(0.5));
    Ok(Floor { sync: median(&sync), round_trip: median(&round_trip), write: median(&write) })
}

fn ask(stream: &mut TcpStream) -> Result {
    stream.write_all(&[0; MESSAGE])?;
    stream.read_exact(&mut [0; MESSAGE])?;
    Ok(())
}

/// Sends back what comes, until the other side closes.
fn echo(listener: &TcpListener) -> std::io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let mut message = [0; MESSAGE];
    while stream.read_exact(&mut message).is_ok() {
        stream.write_all(&message)?;
    }
    Ok(())
}
