//! `config.toml`: every key has a default; an unknown key is an error with file and line.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The whole settings file.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Settings {
    /// The standalone node.
    pub host: HostSettings,
    /// The viewer.
    pub ui: UiSettings,
}

/// Settings of `vmdeck host`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HostSettings {
    /// Subnets for machine addresses; network and broadcast address are not used (`virtualMachineCIDRs`).
    #[serde(rename = "virtualMachineCIDRs")]
    pub virtual_machine_cidrs: Vec<ipnet::Ipv4Net>,
    /// Which accelerator QEMU uses.
    pub accel: Accel,
    /// Make `coreFraction` a hard cap, not only a guaranteed share.
    pub cpu_cap: bool,
    /// Percent of the processors that machines may be promised together (cores times `coreFraction`); 300 promises
    /// three times what there is.
    pub cpu_overcommit_percent: u32,
    /// Percent of the memory that machines may have together.
    pub memory_overcommit_percent: u32,
    /// MiB of memory that are kept for everything else on this computer.
    #[serde(rename = "reservedMemoryMiB")]
    pub reserved_memory_mebibytes: u64,
    /// Loopback `address:port` of the TLS listener for stock clients; absent means no TCP listener.
    pub listen: Option<std::net::SocketAddr>,
    /// Name of the one Node; the host name if absent.
    pub node_name: Option<String>,
    /// Bytes per second that a live migration may take; as many as there are if absent.
    pub migration_bandwidth: Option<u64>,
    /// Bytes per second that copying a running disk for a snapshot may take; as many as there are if absent.
    pub snapshot_bandwidth: Option<u64>,
    /// How long a released address stays with its namespace, in seconds (upstream: 600).
    pub lease_retention_seconds: u64,
    /// How long changes are kept for watches that were interrupted, in seconds; the newest thousand are kept anyway.
    pub history_seconds: u64,
}

impl Default for HostSettings {
    fn default() -> Self {
        Self {
            virtual_machine_cidrs: vec![default_cidr()],
            accel: Accel::Auto,
            cpu_cap: false,
            cpu_overcommit_percent: 100,
            memory_overcommit_percent: 100,
            reserved_memory_mebibytes: 256,
            listen: None,
            node_name: None,
            migration_bandwidth: None,
            snapshot_bandwidth: None,
            lease_retention_seconds: 600,
            history_seconds: 300,
        }
    }
}

fn default_cidr() -> ipnet::Ipv4Net {
    ipnet::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 66, 10, 0), 24)
}

/// Accelerator choice; `auto` takes KVM only where it can run a guest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accel {
    /// Probe, then choose.
    #[default]
    Auto,
    /// Hardware virtualization, no questions asked.
    Kvm,
    /// Emulation.
    Tcg,
}

/// Settings of the viewer.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct UiSettings {
    /// Name of a theme in `themes/` (shipped) or in the configuration's `themes/`.
    pub theme: String,
    /// ASCII instead of glyphs.
    pub ascii: bool,
    /// Key chord that leaves a console.
    pub console_leave: String,
    /// Lines of scrollback of a console.
    pub scrollback: usize,
}

impl Default for UiSettings {
    fn default() -> Self {
        Self { theme: "dark".into(), ascii: false, console_leave: "ctrl-]".into(), scrollback: 10_000 }
    }
}

/// A settings file that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file exists but could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not valid; the source names line and key.
    #[error("{path} is not a valid settings file")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<toml::de::Error>,
    },
}

impl Settings {
    /// Reads `path`; a missing file gives the defaults.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        match std::fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text)
                .map_err(|source| SettingsError::Parse { path: path.to_path_buf(), source: Box::new(source) }),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(SettingsError::Read { path: path.to_path_buf(), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_unknown_ones_refused() {
        let s: Settings = toml::from_str("[host]\naccel='tcg'\nvirtualMachineCIDRs=['10.1.0.0/16']\n").unwrap();
        assert_eq!(s.host.accel, Accel::Tcg);
        assert_eq!(s.host.virtual_machine_cidrs[0].to_string(), "10.1.0.0/16");
        let s: Settings = toml::from_str("[host]\ncpuOvercommitPercent=300\nreservedMemoryMiB=0\n").unwrap();
        assert_eq!((s.host.cpu_overcommit_percent, s.host.memory_overcommit_percent), (300, 100));
        assert_eq!(s.host.reserved_memory_mebibytes, 0);
        assert!(toml::from_str::<Settings>("[host]\naccell='tcg'\n").is_err());
    }
}
