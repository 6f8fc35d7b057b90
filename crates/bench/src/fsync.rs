//! How long this machine takes to make 4 KiB durable, now.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::clock::now_nanos;

/// What a page of SQLite's log is.
const PAGE_BYTES: usize = 4096;

/// Samples in one measurement.
const SAMPLES: u64 = 200;

/// Nanoseconds of each of 200 writes of 4 KiB with `fdatasync`, over a file that has its length
/// already, as a log that is used again has.
pub(crate) fn measure(folder: &Path) -> Result<Vec<u64>> {
    let mut file = tempfile::tempfile_in(folder).context("making a file to sync")?;
    write_all(&mut file, 0)?;
    (0..SAMPLES)
        .map(|sample| {
            file.seek(SeekFrom::Start(sample * PAGE_BYTES as u64))?;
            let began_nanos = now_nanos();
            file.write_all(&[sample as u8; PAGE_BYTES])?;
            file.sync_data().context("fdatasync")?;
            Ok(now_nanos() - began_nanos)
        })
        .collect()
}

fn write_all(file: &mut File, byte: u8) -> Result<()> {
    for _ in 0..SAMPLES {
        file.write_all(&[byte; PAGE_BYTES])?;
    }
    file.sync_all().context("fsync")?;
    Ok(())
}
