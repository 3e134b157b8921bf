//! First-boot media: a small ISO 9660 writer with Joliet and Rock Ridge names. Pure; the same input gives the
//! same bytes.
//!
//! Sectors of 2 KiB: 16 primary descriptor, 17 Joliet descriptor, 18 terminator, 19-22 path tables, then the
//! root directory twice (ISO and Joliet), the continuation area with Rock Ridge's announcement, the files.

use super::spec::{MachineSpec, Seed};

const SECTOR: usize = 2048;

/// The medium is padded to a multiple of this: the guest shows it as `1M`.
const ALIGNMENT: usize = 1 << 20;

/// A medium that cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum SeedError {
    /// The name of a file does not fit.
    #[error("{name:?} is not a usable file name for the medium: 1 to 64 characters, without '/'")]
    Name {
        /// The name.
        name: String,
    },
    /// The content does not fit.
    #[error("the medium's files are larger than 64 MiB")]
    TooLarge,
}

/// The medium of a machine.
pub(super) fn build(spec: &MachineSpec, seed: &Seed) -> Result<Vec<u8>, SeedError> {
    match seed {
        Seed::CloudInit { user_data, hostname } => {
            // YAML of two quoted strings: what cloud-init and simpler readers understand alike.
            let quoted = |text: &str| serde_json::Value::from(text).to_string();
            let (instance, hostname) = (quoted(&spec.uuid.to_string()), quoted(hostname));
            let meta_data = format!("instance-id: {instance}\nlocal-hostname: {hostname}\n");
            write_iso(
                "cidata",
                &[("meta-data".into(), meta_data.into_bytes()), ("user-data".into(), user_data.clone())],
            )
        }
        Seed::Sysprep(files) => write_iso("unattendCD", files),
    }
}

/// One file with its names and place.
struct Entry<'a> {
    iso: Vec<u8>,
    joliet: Vec<u8>,
    name: &'a str,
    content: &'a [u8],
    sector: u32,
}

/// An image with `files` in its root directory.
fn write_iso(label: &str, files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, SeedError> {
    let mut entries = Vec::new();
    for (number, (name, content)) in files.iter().enumerate() {
        let length = name.encode_utf16().count();
        if length == 0 || length > 64 || name.len() > 120 || name.contains(['/', '\0']) || name == "." || name == ".." {
            return Err(SeedError::Name { name: name.clone() });
        }
        let joliet = utf16(name);
        entries.push(Entry { iso: iso_name(name, number), joliet, name, content, sector: 0 });
    }
    if files.iter().map(|(_, content)| content.len()).sum::<usize>() > 64 << 20 {
        return Err(SeedError::TooLarge);
    }
    entries.sort_by(|a, b| a.iso.cmp(&b.iso));

    // The directories' sizes depend on the names only, so they can be measured before the places are known.
    let iso_sectors = directory(&entries, &Flavour::Iso { continuation: 0 }, 0, 0).len() / SECTOR;
    let joliet_sectors = directory(&entries, &Flavour::Joliet, 0, 0).len() / SECTOR;
    let iso_root = 23;
    let joliet_root = iso_root + sectors(iso_sectors);
    let continuation = joliet_root + sectors(joliet_sectors);
    let mut next = continuation + 1;
    for entry in &mut entries {
        entry.sector = next;
        next += sectors(entry.content.len().div_ceil(SECTOR));
    }
    let length = (next as usize * SECTOR).next_multiple_of(ALIGNMENT);
    let total = sectors(length / SECTOR);

    let mut image = vec![0_u8; length];
    let iso_size = sectors(iso_sectors * SECTOR);
    let joliet_size = sectors(joliet_sectors * SECTOR);
    place(&mut image, 16, &descriptor(false, label, total, 19, iso_root, iso_size));
    place(&mut image, 17, &descriptor(true, label, total, 21, joliet_root, joliet_size));
    place(&mut image, 18, b"\xffCD001\x01");
    for (sector, root) in [(19, iso_root), (21, joliet_root)] {
        // One directory, the root: name length 1, parent 1 (itself).
        place(&mut image, sector, &[&[1, 0][..], &root.to_le_bytes(), &[1, 0, 0, 0]].concat());
        place(&mut image, sector + 1, &[&[1, 0][..], &root.to_be_bytes(), &[0, 1, 0, 0]].concat());
    }
    place(&mut image, iso_root, &directory(&entries, &Flavour::Iso { continuation }, iso_root, iso_size));
    entries.sort_by(|a, b| a.joliet.cmp(&b.joliet));
    place(&mut image, joliet_root, &directory(&entries, &Flavour::Joliet, joliet_root, joliet_size));
    place(&mut image, continuation, &rock_ridge_announcement());
    for entry in &entries {
        place(&mut image, entry.sector, entry.content);
    }
    Ok(image)
}

fn sectors(count: usize) -> u32 {
    // The size limit above keeps every count far below this.
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn place(image: &mut [u8], sector: u32, bytes: &[u8]) {
    let start = sector as usize * SECTOR;
    image[start..start + bytes.len()].copy_from_slice(bytes);
}

fn both32(value: u32) -> [u8; 8] {
    let (l, b) = (value.to_le_bytes(), value.to_be_bytes());
    [l[0], l[1], l[2], l[3], b[0], b[1], b[2], b[3]]
}

fn both16(value: u16) -> [u8; 4] {
    let (l, b) = (value.to_le_bytes(), value.to_be_bytes());
    [l[0], l[1], b[0], b[1]]
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// A plain ISO name: capital letters, digits and underscores, with the file's number where that is needed to
/// keep names apart.
fn iso_name(name: &str, number: usize) -> Vec<u8> {
    let safe: String =
        name.chars().take(20).map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    format!("{safe}_{number}.;1").into_bytes()
}

fn descriptor(joliet: bool, label: &str, total: u32, path_table: u32, root: u32, root_size: u32) -> Vec<u8> {
    let mut d = vec![0_u8; SECTOR];
    d[0] = if joliet { 2 } else { 1 };
    d[1..6].copy_from_slice(b"CD001");
    d[6] = 1;
    let text = |d: &mut [u8], at: usize, length: usize, text: &str| {
        let field = &mut d[at..at + length];
        if joliet {
            for pair in field.chunks_exact_mut(2) {
                pair.copy_from_slice(&[0, b' ']);
            }
            let bytes = utf16(text);
            field[..bytes.len()].copy_from_slice(&bytes);
        } else {
            field.fill(b' ');
            field[..text.len()].copy_from_slice(text.as_bytes());
        }
    };
    text(&mut d, 8, 32, "LINUX");
    text(&mut d, 40, 32, label);
    d[80..88].copy_from_slice(&both32(total));
    if joliet {
        d[88..91].copy_from_slice(b"%/E");
    }
    d[120..124].copy_from_slice(&both16(1));
    d[124..128].copy_from_slice(&both16(1));
    d[128..132].copy_from_slice(&both16(SECTOR as u16));
    d[132..140].copy_from_slice(&both32(10));
    d[140..144].copy_from_slice(&path_table.to_le_bytes());
    d[148..152].copy_from_slice(&(path_table + 1).to_be_bytes());
    d[156..190].copy_from_slice(&record(&[0], root, root_size, true, &[]));
    for (at, length) in [(190, 128), (318, 128), (446, 128), (574, 128), (702, 36), (739, 36), (776, 36)] {
        text(&mut d, at, length, "");
    }
    // Created and changed at a fixed time, never expires.
    for at in [813, 830] {
        d[at..at + 16].copy_from_slice(b"2020010100000000");
    }
    for at in [847, 864] {
        d[at..at + 16].copy_from_slice(b"0000000000000000");
    }
    d[881] = 1;
    d
}

/// A directory record, with `system_use` behind the name.
fn record(name: &[u8], sector: u32, size: u32, directory: bool, system_use: &[u8]) -> Vec<u8> {
    let padding = usize::from(name.len().is_multiple_of(2));
    let length = (33 + name.len() + padding + system_use.len()).next_multiple_of(2);
    let mut r = Vec::with_capacity(length);
    // Names are short enough for a record's length to fit a byte.
    r.push(u8::try_from(length).unwrap_or(u8::MAX));
    r.push(0);
    r.extend(both32(sector));
    r.extend(both32(size));
    r.extend([120, 1, 1, 0, 0, 0, 0]);
    r.push(if directory { 2 } else { 0 });
    r.extend([0, 0]);
    r.extend(both16(1));
    r.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    r.extend(name);
    r.resize(33 + name.len() + padding, 0);
    r.extend(system_use);
    r.resize(length, 0);
    r
}

enum Flavour {
    Iso { continuation: u32 },
    Joliet,
}

/// The root directory, padded to whole sectors; no record crosses a sector's border.
fn directory(entries: &[Entry<'_>], flavour: &Flavour, own_sector: u32, own_size: u32) -> Vec<u8> {
    let (dot, dot_dot) = match flavour {
        Flavour::Iso { continuation } => {
            let mut first = b"SP\x07\x01\xbe\xef\x00".to_vec();
            first.extend(attributes(0o040_555, 2));
            first.extend(b"CE\x1c\x01");
            first.extend(both32(*continuation));
            first.extend(both32(0));
            first.extend(both32(sectors(rock_ridge_announcement().len())));
            (first, attributes(0o040_555, 2))
        }
        Flavour::Joliet => (Vec::new(), Vec::new()),
    };
    let mut records =
        vec![record(&[0], own_sector, own_size, true, &dot), record(&[1], own_sector, own_size, true, &dot_dot)];
    for entry in entries {
        let size = sectors(entry.content.len());
        records.push(match flavour {
            Flavour::Iso { .. } => {
                let mut system_use = attributes(0o100_444, 1);
                system_use.extend(b"NM");
                system_use.push(u8::try_from(5 + entry.name.len()).unwrap_or(u8::MAX));
                system_use.extend([1, 0]);
                system_use.extend(entry.name.as_bytes());
                record(&entry.iso, entry.sector, size, false, &system_use)
            }
            Flavour::Joliet => record(&entry.joliet, entry.sector, size, false, &[]),
        });
    }
    let mut bytes = Vec::new();
    for record in records {
        if bytes.len() / SECTOR != (bytes.len() + record.len() - 1) / SECTOR {
            bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        }
        bytes.extend(record);
    }
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

/// Rock Ridge `PX`: mode, links, owner 0:0.
fn attributes(mode: u32, links: u32) -> Vec<u8> {
    let mut px = b"PX\x24\x01".to_vec();
    for value in [mode, links, 0, 0] {
        px.extend(both32(value));
    }
    px
}

/// Rock Ridge `ER`: which extension is in use.
fn rock_ridge_announcement() -> Vec<u8> {
    let (id, description, source) = (
        "RRIP_1991A",
        "THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS",
        "SEE PUBLISHER IDENTIFIER IN PRIMARY VOLUME DESCRIPTOR FOR CONTACT INFORMATION",
    );
    let lengths = [id, description, source].map(|text| u8::try_from(text.len()).unwrap_or(u8::MAX));
    let mut er = b"ER".to_vec();
    er.push(8 + lengths.iter().sum::<u8>());
    er.push(1);
    er.extend(lengths);
    er.push(1);
    for text in [id, description, source] {
        er.extend(text.as_bytes());
    }
    er
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidata() -> Vec<u8> {
        let user_data = b"#cloud-config\nusers: []\n".repeat(200);
        write_iso("cidata", &[("meta-data".into(), b"{}".to_vec()), ("user-data".into(), user_data)]).unwrap()
    }

    /// What `isoinfo` prints for the medium; `None` where it is not installed.
    fn isoinfo(image: &[u8], arguments: &[&str]) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), image).unwrap();
        let output = std::process::Command::new("isoinfo").arg("-i").arg(file.path()).args(arguments).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    #[test]
    fn same_input_same_bytes_of_one_mebibyte() {
        assert_eq!(cidata(), cidata());
        assert_eq!(cidata().len(), 1 << 20);
        assert_eq!(&cidata()[16 * SECTOR + 40..][..7], b"cidata ");
    }

    #[test]
    fn another_implementation_reads_it() {
        let image = cidata();
        let Some(info) = isoinfo(&image, &["-d"]) else { return };
        assert!(info.contains("Volume id: cidata"), "{info}");
        assert!(info.contains("Joliet with UCS level 3 found"), "{info}");
        assert!(info.contains("Rock Ridge signatures version 1 found"), "{info}");
        for flavour in ["-R", "-J"] {
            let list = isoinfo(&image, &[flavour, "-f"]).unwrap();
            assert_eq!(list.trim(), "/meta-data\n/user-data", "{flavour}");
            let content = isoinfo(&image, &[flavour, "-x", "/user-data"]).unwrap();
            assert_eq!(content, "#cloud-config\nusers: []\n".repeat(200), "{flavour}");
        }
    }

    #[test]
    fn many_files_need_more_than_one_directory_sector() {
        let files: Vec<_> = (0..60).map(|n| (format!("file number {n}.xml"), format!("{n}").into_bytes())).collect();
        let image = write_iso("unattendCD", &files).unwrap();
        let Some(list) = isoinfo(&image, &["-J", "-f"]) else { return };
        assert_eq!(list.lines().count(), 60);
        assert_eq!(isoinfo(&image, &["-R", "-x", "/file number 42.xml"]).unwrap(), "42");
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        for name in ["", ".", "a/b", &"x".repeat(65)] {
            assert!(write_iso("cidata", &[(name.into(), Vec::new())]).is_err(), "{name}");
        }
    }
}
