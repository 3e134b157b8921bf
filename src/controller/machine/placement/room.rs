//! Room for machines: memory, which is really given, and processors, which are guaranteed by shares.
//!
//! A machine takes its guest's memory and what QEMU needs around it. Of the processors it takes what it has been
//! promised: its cores times `coreFraction`. Whatever is promised to nobody, or not used, goes to who wants it.

use super::{Obstacle, Place};
use crate::types::quantity::{human_bytes, parse_percent};
use crate::types::{CpuSpec, VirtualMachineSpec};

const MIB: u64 = 1 << 20;

/// Memory and processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Bytes.
    pub memory: u64,
    /// Thousandths of a processor.
    pub milli_cpus: u64,
}

impl Amount {
    /// What an instance of this spec takes, with what it costs around the guest.
    pub fn of(spec: &VirtualMachineSpec, emulated: bool) -> Self {
        let guest = spec.memory.size.bytes().unwrap_or(0);
        Self { memory: guest.saturating_add(overhead(spec, emulated)), milli_cpus: requested_milli_cpus(&spec.cpu) }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            memory: self.memory.saturating_add(other.memory),
            milli_cpus: self.milli_cpus.saturating_add(other.milli_cpus),
        }
    }
}

/// Guaranteed thousandths of processors: cores times `coreFraction`, rounded up.
pub fn requested_milli_cpus(cpu: &CpuSpec) -> u64 {
    let fraction = cpu.core_fraction.as_deref().and_then(parse_percent).unwrap_or(100);
    (u64::from(cpu.cores.unsigned_abs()) * 1000 * u64::from(fraction)).div_ceil(100)
}

/// Thousandths as a quantity: `100m`, `2`.
pub fn format_milli(milli: u64) -> String {
    if milli.is_multiple_of(1000) { (milli / 1000).to_string() } else { format!("{milli}m") }
}

/// Bytes that QEMU needs beside the guest's memory: its own code and devices, 8 MiB for each virtual processor, page
/// tables and dirty bitmaps of the guest's memory, and translated code where guests are emulated (`tb-size` of the
/// command line). An upper estimate, in whole MiB.
pub fn overhead(spec: &VirtualMachineSpec, emulated: bool) -> u64 {
    let guest = spec.memory.size.bytes().unwrap_or(0);
    let processors = 8 * MIB * u64::from(spec.cpu.cores.unsigned_abs());
    let translated = if emulated { 128 * MIB } else { 0 };
    (80 * MIB + processors + translated).saturating_add(guest / 512).div_ceil(MIB) * MIB
}

/// What is missing on the node.
pub fn obstacles(wants: Amount, place: &Place<'_>) -> Vec<Obstacle> {
    let total = place.allocatable;
    let used = place.residents.iter().fold(Amount::default(), |sum, r| sum.plus(r.has));
    let mut all = Vec::new();
    if used.memory.saturating_add(wants.memory) > total.memory {
        let free = total.memory.saturating_sub(used.memory);
        let hint = if wants.memory > total.memory {
            format!(
                "It needs {} with QEMU's own part, more than the {} that machines may have on this node: ask for less \
                 in spec.memory.size.",
                human_bytes(wants.memory),
                human_bytes(total.memory)
            )
        } else {
            format!(
                "It needs {} of memory with QEMU's own part, {} of {} are free: stop {}, or ask for less in \
                 spec.memory.size.",
                human_bytes(wants.memory),
                human_bytes(free),
                human_bytes(total.memory),
                enough(place, wants.memory.saturating_sub(free), |a| a.memory, human_bytes)
            )
        };
        all.push(("Insufficient memory".to_owned(), hint));
    }
    if used.milli_cpus.saturating_add(wants.milli_cpus) > total.milli_cpus {
        let free = total.milli_cpus.saturating_sub(used.milli_cpus);
        let hint = if wants.milli_cpus > total.milli_cpus {
            format!(
                "It is promised {} of a processor's time, more than the {} that machines may have on this node: lower \
                 spec.cpu.coreFraction or spec.cpu.cores.",
                cpus(wants.milli_cpus),
                cpus(total.milli_cpus)
            )
        } else {
            format!(
                "It is to be promised {} of a processor's time, {} of {} are free: stop {}, or lower \
                 spec.cpu.coreFraction.",
                cpus(wants.milli_cpus),
                cpus(free),
                cpus(total.milli_cpus),
                enough(place, wants.milli_cpus.saturating_sub(free), |a| a.milli_cpus, cpus)
            )
        };
        all.push(("Insufficient cpu".to_owned(), hint));
    }
    all
}

/// `1.5 CPUs`, as people say it.
fn cpus(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    format!("{} CPUs", text.trim_end_matches('0').trim_end_matches('.'))
}

/// The residents that would make room, the largest first, as few as are enough.
fn enough(place: &Place<'_>, missing: u64, of: impl Fn(Amount) -> u64, show: impl Fn(u64) -> String) -> String {
    let mut largest: Vec<(&str, u64)> = place.residents.iter().map(|r| (r.name.as_str(), of(r.has))).collect();
    largest.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    let mut freed = 0u64;
    let mut named = Vec::new();
    for (name, amount) in largest {
        if freed >= missing {
            break;
        }
        freed = freed.saturating_add(amount);
        named.push(format!("{name} ({})", show(amount)));
    }
    if named.is_empty() { "other machines".to_owned() } else { named.join(" and ") }
}
