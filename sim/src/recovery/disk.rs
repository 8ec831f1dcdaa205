//! A disk in memory that knows what is durable: small, and cheap to change a piece at a time.

use kontiki_core::wal::{Disk, DiskError, FileName};

pub(super) const SECTOR: usize = 512;
pub(super) const BLOCK: usize = 4_096;

/// A file as it is read, and as it is durable.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct File {
    pub(super) shown: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// The sectors that cannot be read.
    pub(super) unreadable: Vec<usize>,
}

/// Which file has which name. A file is known by its number, which stays when its name changes.
pub(super) type Names = Vec<(FileName, usize)>;

/// A change of the names that no sync of the directory has covered yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NameChange {
    Created(FileName, usize),
    Renamed(FileName, FileName),
    Removed(FileName),
}

impl NameChange {
    /// Whether both change the same name: then the earlier one is left where the later one is.
    pub(super) fn touches(self, other: Self) -> bool {
        let names = |change| match change {
            Self::Created(name, _) | Self::Removed(name) => [name, name],
            Self::Renamed(from, to) => [from, to],
        };
        names(self).iter().any(|name| names(other).contains(name))
    }

    pub(super) fn apply(self, names: &mut Names) {
        match self {
            Self::Created(name, file) => set(names, name, file),
            Self::Renamed(from, to) => {
                if let Some(file) = take(names, from) {
                    set(names, to, file);
                }
            }
            Self::Removed(name) => drop(take(names, name)),
        }
    }
}

fn take(names: &mut Names, name: FileName) -> Option<usize> {
    let at = names.iter().position(|(known, _)| *known == name)?;
    Some(names.swap_remove(at).1)
}

fn set(names: &mut Names, name: FileName, file: usize) {
    let _ = take(names, name);
    names.push((name, file));
}

/// A disk of one member.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Platter {
    /// Every file there has been, by its number.
    pub(super) files: Vec<File>,
    pub(super) names: Names,
    pub(super) durable_names: Names,
    pub(super) pending: Vec<NameChange>,
}

impl Platter {
    pub(super) fn number(&self, name: FileName) -> Result<usize, DiskError> {
        let found = self.names.iter().find(|(known, _)| *known == name);
        found.map(|(_, file)| *file).ok_or(DiskError::Missing(name))
    }

    /// Power fails, and nothing is left of what no sync has covered.
    pub(super) fn lose_unsynced(&mut self) {
        self.files.iter_mut().for_each(|file| file.shown.clone_from(&file.durable));
        self.names.clone_from(&self.durable_names);
        self.pending.clear();
    }

    /// Power fails, and everything is left.
    pub(super) fn keep_unsynced(&mut self) {
        self.files.iter_mut().for_each(|file| file.durable.clone_from(&file.shown));
        self.durable_names.clone_from(&self.names);
        self.pending.clear();
    }

    /// Power fails, and of each block that no sync has covered its first half is left, and no change of a
    /// name.
    pub(super) fn halve_unsynced(&mut self) {
        for file in &mut self.files {
            let durable = file.durable.len();
            file.shown.resize(durable.max(file.shown.len()), 0);
            for (at, block) in file.shown.chunks_mut(BLOCK).enumerate() {
                let from = (at * BLOCK + BLOCK / 2).min(at * BLOCK + block.len());
                let kept = from - at * BLOCK;
                let old = file.durable.get(from..).unwrap_or_default();
                let there = old.len().min(block.len() - kept);
                block[kept..kept + there].copy_from_slice(&old[..there]);
                block[kept + there..].fill(0);
            }
            file.durable.clone_from(&file.shown);
        }
        self.names.clone_from(&self.durable_names);
        self.pending.clear();
    }
}

impl Disk for Platter {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        let length = |(name, file): &(FileName, usize)| (*name, self.files[*file].shown.len() as u64);
        Ok(self.names.iter().map(length).collect())
    }

    fn create(&mut self, name: FileName, length: u64) -> Result<(), DiskError> {
        let file = self.files.len();
        self.files.push(File { shown: vec![0; length as usize], ..File::default() });
        let change = NameChange::Created(name, file);
        change.apply(&mut self.names);
        self.pending.push(change);
        Ok(())
    }

    fn read(&mut self, name: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        let file = &self.files[self.number(name)?];
        let at = at as usize;
        let rest = file.shown.get(at..).unwrap_or_default();
        let count = rest.len().min(into.len());
        let sectors = at / SECTOR..(at + count).div_ceil(SECTOR);
        if file.unreadable.iter().any(|sector| sectors.contains(sector)) {
            return Err(DiskError::Failed("a sector cannot be read".into()));
        }
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&mut self, name: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let number = self.number(name)?;
        let File { shown, unreadable, .. } = &mut self.files[number];
        let (at, end) = (at as usize, at as usize + bytes.len());
        shown.resize(shown.len().max(end), 0);
        shown[at..end].copy_from_slice(bytes);
        unreadable.retain(|sector| !(at..end).contains(&(sector * SECTOR)));
        Ok(())
    }

    fn sync(&mut self, name: FileName) -> Result<(), DiskError> {
        let number = self.number(name)?;
        let file = &mut self.files[number];
        file.durable.clone_from(&file.shown);
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        self.number(from)?;
        let change = NameChange::Renamed(from, to);
        change.apply(&mut self.names);
        self.pending.push(change);
        Ok(())
    }

    fn remove(&mut self, name: FileName) -> Result<(), DiskError> {
        self.number(name)?;
        let change = NameChange::Removed(name);
        change.apply(&mut self.names);
        self.pending.push(change);
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        self.durable_names.clone_from(&self.names);
        self.pending.clear();
        Ok(())
    }
}

/// More changes of names than this are never pending.
const MOST_CHANGES: usize = 8;

/// The names that a power failure can leave, and how many of the changes are among them: any of the changes,
/// but those of one name in their order.
pub(super) fn reachable(disk: &Platter) -> Vec<(Names, u32)> {
    let mut all: Vec<(Names, u32)> = Vec::new();
    let pending = &disk.pending;
    for mask in 0_u32..1 << pending.len().min(MOST_CHANGES) {
        let is_kept = |at: usize| mask >> at & 1 == 1;
        let in_order =
            |at: usize| (0..at).all(|earlier| is_kept(earlier) || !pending[earlier].touches(pending[at]));
        if !(0..pending.len()).all(|at| !is_kept(at) || in_order(at)) {
            continue;
        }
        let mut names = disk.durable_names.clone();
        (0..pending.len()).filter(|at| is_kept(*at)).for_each(|at| pending[at].apply(&mut names));
        names.sort_unstable();
        if all.iter().all(|(known, _)| *known != names) {
            all.push((names, mask.count_ones()));
        }
    }
    all
}

/// Whether recovery may look into a file: those that are called spare are of no meaning to it.
pub(super) fn is_read(disk: &Platter, file: usize) -> bool {
    let named =
        |names: &Names| names.iter().any(|(name, it)| *it == file && !matches!(name, FileName::Spare(_)));
    reachable(disk).iter().any(|(names, _)| named(names))
}

/// A sector of a file; zeros behind its end.
pub(super) fn sector_of(bytes: &[u8], sector: usize) -> &[u8] {
    bytes.get(sector * SECTOR..(sector + 1) * SECTOR).unwrap_or(&[0; SECTOR])
}

/// A sector of which the write was cut short.
pub(super) fn torn(old: &[u8], new: &[u8]) -> Vec<u8> {
    // The last byte of a sector is never zero: without it the rest is an unfinished sector.
    let cut = if old.iter().all(|byte| *byte == 0) { SECTOR - 1 } else { SECTOR / 2 };
    [&new[..cut], &old[cut..]].concat()
}

/// A disk on which a start is tried out: what it changes is kept beside, so that trying costs little.
pub(super) struct Overlay<'a> {
    under: &'a mut Platter,
    /// The files that are changed; none for those that are gone.
    changed: Vec<(FileName, Option<Vec<u8>>)>,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(under: &'a mut Platter) -> Self {
        Self { under, changed: Vec::new() }
    }

    fn known(&mut self, name: FileName) -> Option<&mut Option<Vec<u8>>> {
        self.changed.iter_mut().find(|(known, _)| *known == name).map(|(_, bytes)| bytes)
    }

    fn put(&mut self, name: FileName, bytes: Option<Vec<u8>>) {
        match self.known(name) {
            Some(known) => *known = bytes,
            None => self.changed.push((name, bytes)),
        }
    }

    fn bytes(&mut self, name: FileName) -> Result<&mut Vec<u8>, DiskError> {
        if self.known(name).is_none() {
            let bytes = self.under.files[self.under.number(name)?].shown.clone();
            self.changed.push((name, Some(bytes)));
        }
        self.known(name).and_then(Option::as_mut).ok_or(DiskError::Missing(name))
    }
}

impl Disk for Overlay<'_> {
    fn list(&mut self) -> Result<Vec<(FileName, u64)>, DiskError> {
        let mut files = self.under.list()?;
        files.retain(|(name, _)| self.changed.iter().all(|(known, _)| known != name));
        let changed = self.changed.iter();
        files.extend(changed.filter_map(|(name, bytes)| Some((*name, bytes.as_ref()?.len() as u64))));
        Ok(files)
    }

    fn create(&mut self, name: FileName, length: u64) -> Result<(), DiskError> {
        self.put(name, Some(vec![0; length as usize]));
        Ok(())
    }

    fn read(&mut self, name: FileName, at: u64, into: &mut [u8]) -> Result<usize, DiskError> {
        match self.known(name) {
            None => self.under.read(name, at, into),
            Some(None) => Err(DiskError::Missing(name)),
            Some(Some(bytes)) => {
                let rest = bytes.get(at as usize..).unwrap_or_default();
                let count = rest.len().min(into.len());
                into[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
        }
    }

    fn write(&mut self, name: FileName, at: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let held = self.bytes(name)?;
        let (at, end) = (at as usize, at as usize + bytes.len());
        held.resize(held.len().max(end), 0);
        held[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self, _: FileName) -> Result<(), DiskError> {
        Ok(())
    }

    fn rename(&mut self, from: FileName, to: FileName) -> Result<(), DiskError> {
        let bytes = std::mem::take(self.bytes(from)?);
        self.put(from, None);
        self.put(to, Some(bytes));
        Ok(())
    }

    fn remove(&mut self, name: FileName) -> Result<(), DiskError> {
        self.put(name, None);
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), DiskError> {
        Ok(())
    }
}
