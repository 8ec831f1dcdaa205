//! The identity of a data directory.
//!
//! Beside the log lies one small file that names the member and the group of the directory, and how the group
//! began. It is written before anything else, and once more when the group is known. The directory of another
//! member or group is refused, and so is one whose identity file is missing while its log exists: started as
//! new, the member would have forgotten its votes.

use kontiki_core::types::{Incarnation, NodeId};
use kontiki_core::wal::FileName;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

pub use kontiki_core::replica::formation::Record;

/// Returns the record of a new directory of this member.
pub(crate) fn blank(id: NodeId) -> io::Result<Record> {
    Ok(Record::blank(id, Incarnation(crate::entropy()?)))
}

/// Returns the identity stored in a directory; `None` if it is empty.
pub fn load(directory: &Path, id: NodeId) -> Result<Option<Record>, IdentityError> {
    let path = directory.join(NAME);
    let failed = |error| IdentityError::Failed { path: path.clone(), error };
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let used = fs::read_dir(directory)
                .map_err(failed)?
                .flatten()
                .any(|entry| entry.file_name().to_str().is_some_and(|name| FileName::parse(name).is_some()));
            return if used { Err(IdentityError::Gone { path }) } else { Ok(None) };
        }
        Err(error) => return Err(failed(error)),
    };
    let record: Record = serde_json::from_slice(&text)
        .map_err(|error| IdentityError::Garbled { path: path.clone(), why: error.to_string() })?;
    if record.format != Record::FORMAT {
        return Err(IdentityError::Format { path, format: record.format });
    }
    if record.id != id {
        return Err(IdentityError::OtherMember { path, found: record.id, wanted: id });
    }
    Ok(Some(record))
}

/// Writes the file. It is durable when this returns, and never half written.
pub fn store(record: &Record, directory: &Path) -> Result<(), IdentityError> {
    let path = directory.join(NAME);
    let write = || {
        let new = directory.join(NEW);
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| IdentityError::Failed { path: path.clone(), error })
}

const NAME: &str = "identity.json";
const NEW: &str = "identity.new";

/// The reason a directory cannot be used by this member.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("cannot use {path}: {error}")]
    Failed {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        error: io::Error,
    },
    /// There is a log but no identity file.
    #[error(
        "{path} is gone, but the log beside it is there: put the file back, or remove the member from its group, empty the directory and join again"
    )]
    Gone {
        /// The expected path.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("{path} is damaged ({why}): restore it from a backup")]
    Garbled {
        /// The file.
        path: PathBuf,
        /// The damage.
        why: String,
    },
    /// The file was written by a later version of this library.
    #[error("{path} has format {format}, of a later version of kontiki: use that version")]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format version.
        format: u32,
    },
    /// The directory belongs to another member.
    #[error("{path} says that the directory belongs to member {found}: give member {wanted} its own")]
    OtherMember {
        /// The identity file.
        path: PathBuf,
        /// The member that owns the directory.
        found: NodeId,
        /// The member that tried to open it.
        wanted: NodeId,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use kontiki_core::types::ClusterId;

    fn id(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    #[test]
    fn a_directory_remembers_whose_it_is() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        assert_eq!(load(directory.path(), id(1))?, None);
        let mut record = blank(id(1))?;
        store(&record, directory.path())?;
        assert_eq!(load(directory.path(), id(1))?, Some(record.clone()));
        record.cluster = Some(ClusterId(u64::MAX));
        store(&record, directory.path())?;
        assert_eq!(load(directory.path(), id(1))?, Some(record));
        let other = load(directory.path(), id(2));
        assert!(matches!(other, Err(IdentityError::OtherMember { .. })), "{other:?}");
        Ok(())
    }

    #[test]
    fn a_log_without_its_file_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        File::create(directory.path().join(FileName::Segment(1).to_string()))?;
        let loaded = load(directory.path(), id(1));
        assert!(matches!(loaded, Err(IdentityError::Gone { .. })), "{loaded:?}");
        fs::write(directory.path().join(NAME), b"{\"format\":1")?;
        let loaded = load(directory.path(), id(1));
        assert!(matches!(loaded, Err(IdentityError::Garbled { .. })), "{loaded:?}");
        fs::write(directory.path().join(NAME), serde_json::to_vec(&Record { format: 2, ..blank(id(1))? })?)?;
        let loaded = load(directory.path(), id(1));
        assert!(matches!(loaded, Err(IdentityError::Format { format: 2, .. })), "{loaded:?}");
        Ok(())
    }
}
