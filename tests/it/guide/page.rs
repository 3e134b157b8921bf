//! Outputs as pages that can be compared: what differs from run to run is named, the rest stays.

use regex::{Captures, Regex};

/// A text with the blanks between columns as two blanks, consecutive equal lines once (a watch repeats rows), and ages,
/// addresses, random names, times and the node's name by words: `AGE`, `10.66.10.N`, `linux-vm-HASH`, `TIME`, `NODE`.
/// A cell without content below a heading is `-`.
pub fn page(text: &str, node: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut head: Vec<usize> = Vec::new();
    for line in text.lines() {
        let line = line.trim_end();
        let mut cells = apart(line);
        if line.starts_with("NAME ") {
            head = cells.iter().map(|(at, _)| *at).collect();
        } else if (2..head.len()).contains(&cells.len()) {
            // Not every cell is there: each stands below its heading.
            let below = |(n, from): (usize, &usize)| {
                let to = head.get(n + 1).copied().unwrap_or(line.len());
                let cell = line.get(*from..to.min(line.len())).unwrap_or_default().trim();
                (*from, if cell.is_empty() { "-" } else { cell })
            };
            if cells.iter().all(|(at, _)| head.contains(at)) {
                cells = head.iter().enumerate().map(below).collect();
            }
        }
        let line = cells.into_iter().map(|(_, cell)| cell_of(cell, node)).collect::<Vec<_>>().join("  ");
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}

/// The rows below each heading in alphabetical order: random names have random places.
pub fn sorted(page: &str) -> String {
    let mut lines: Vec<&str> = page.lines().collect();
    if lines.len() > 1 {
        lines[1..].sort_unstable();
    }
    lines.join("\n")
}

/// Cells between two or more blanks, with their places.
fn apart(line: &str) -> Vec<(usize, &str)> {
    let between = Regex::new(" {2,}").unwrap();
    let mut cells = Vec::new();
    let mut from = 0;
    for gap in between.find_iter(line) {
        cells.push((from, &line[from..gap.start()]));
        from = gap.end();
    }
    cells.push((from, &line[from..]));
    cells
}

fn cell_of(cell: &str, node: &str) -> String {
    if cell == node {
        return "NODE".to_owned();
    }
    let replace = |pattern: &str, word: &str, text: String| {
        let with = |found: &Captures<'_>| format!("{}{word}", found.get(1).map_or("", |m| m.as_str()));
        Regex::new(pattern).unwrap().replace_all(&text, with).into_owned()
    };
    let text = replace(r"^\d+[smhd](?:\d+[smh])?$", "AGE", cell.to_owned());
    let text = replace(r"(10\.66\.10\.)\d+", "N", text);
    let text = replace(r"\b(ip-10-66-10-)\d+", "N", text);
    let text = replace(r"\b((?:restart|evict)-linux-vm-)\d{10}\b", "TIME", text);
    replace(r"\b(linux-vm-)[a-z0-9]{5}\b", "HASH", text)
}

/// What `lsblk` shows, with one blank between words, and the disks in an order that is the same for each run: Linux
/// looks for SCSI disks in parallel, so that which of those that are there at its start is `sda` is chance. The one
/// with partitions comes first, the others stay in their order; names and numbers are given anew.
pub fn disks(text: &str) -> String {
    let mut lines = text.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
    let head = lines.next().unwrap_or_default().join(" ");
    let mut groups: Vec<Vec<Vec<&str>>> = Vec::new();
    for line in lines {
        match groups.last_mut() {
            Some(group) if line[0].starts_with(['|', '`']) => group.push(line),
            _ => groups.push(vec![line]),
        }
    }
    groups.sort_by_key(|group| group.len() == 1);
    let mut out = vec![head];
    for (number, group) in groups.iter().enumerate() {
        let (disk, letter) = (group[0][0], ["a", "b", "c", "d"][number]);
        for line in group {
            let name = line[0].replace(disk, &format!("sd{letter}"));
            let part: usize = name.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap_or(0);
            let rest = line[2..].join(" ");
            out.push(format!("{name} 8:{} {rest}", number * 16 + part));
        }
    }
    out.join("\n")
}

#[test]
fn pages_keep_columns_and_name_what_differs() {
    let text = "NAME       PHASE       NEED RESTART   NODE   IPADDRESS     AGE\n\
                linux-vm   Running     True           here   10.66.10.14   5m16s\n\
                linux-vm   Running     True           here   10.66.10.14   5m16s\n\
                linux-vm   Migrating                  here                 79m   \n\
                NAME  A\n\
                ip-10-66-10-14   {\"name\":\"linux-vm-7prpx\"}   12h\n\
                linux-vm-custom-ip   10.66.20.77   linux-vm-root   restart-linux-vm-1764064800\n";
    assert_eq!(
        page(text, "here"),
        "NAME  PHASE  NEED RESTART  NODE  IPADDRESS  AGE\n\
         linux-vm  Running  True  NODE  10.66.10.N  AGE\n\
         linux-vm  Migrating  -  NODE  -  AGE\n\
         NAME  A\n\
         ip-10-66-10-N  {\"name\":\"linux-vm-HASH\"}  AGE\n\
         linux-vm-custom-ip  10.66.20.77  linux-vm-root  restart-linux-vm-TIME"
    );
    assert_ne!(page("A B", ""), page("A  B", ""), "a heading of two words is no two headings");
    assert_eq!(sorted("NAME\nb\na"), "NAME\na\nb");
}

#[test]
fn disks_have_one_order() {
    let seen = "NAME    MAJ:MIN RM  SIZE RO TYPE MOUNTPOINTS\nsda       8:0    0    1M  1 disk \n\
                sdb       8:16   0   10G  0 disk \n|-sdb1    8:17   0  9.9G  0 part /\n`-sdb15   8:31   0  106M  0 part /boot/efi\n";
    assert_eq!(
        disks(seen),
        "NAME MAJ:MIN RM SIZE RO TYPE MOUNTPOINTS\nsda 8:0 0 10G 0 disk\n|-sda1 8:1 0 9.9G 0 part /\n\
         `-sda15 8:15 0 106M 0 part /boot/efi\nsdb 8:16 0 1M 1 disk"
    );
}
