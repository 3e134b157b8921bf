//! What this computer can do: QEMU, acceleration, firmware.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::command_line::Accelerator;
use super::cpu::{self, CpuFacts};
use super::spec::Firmware;
use crate::config::Accel;

/// What was found.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    /// The QEMU program.
    pub(super) qemu: Option<PathBuf>,
    /// Its version.
    pub(super) version: Option<String>,
    /// Its versioned machine types.
    pub(super) machine_types: Vec<String>,
    /// It can tell a power-off from a reboot in its log.
    pub(super) shutdown_trace: bool,
    /// `qemu-img`.
    pub(super) qemu_img: Option<PathBuf>,
    /// Executes guests.
    pub(super) accelerator: Accelerator,
    /// Why.
    pub(super) accelerator_reason: String,
    /// Processors that guests can have.
    pub(super) cpu: Arc<CpuFacts>,
    /// Group that may open `/dev/kvm`, when KVM is used and not everybody may.
    pub(super) kvm_group: Option<u32>,
    /// Only root may open `/dev/kvm`, and KVM is used.
    pub(super) kvm_closed: bool,
    /// Code and variables of UEFI firmware.
    pub(super) efi: Option<(PathBuf, PathBuf)>,
    /// The same with Secure Boot.
    pub(super) efi_secure: Option<(PathBuf, PathBuf)>,
}

/// Looks at everything. Runs programs: not for an async thread.
pub(super) fn probe(accel: Accel) -> Facts {
    let qemu = find_program(&["qemu-system-x86_64", "/usr/libexec/qemu-kvm"]);
    let run = |arguments: &'static [&'static str]| {
        let qemu = qemu.clone();
        std::thread::spawn(move || qemu.and_then(|qemu| output(&qemu, arguments)).unwrap_or_default())
    };
    // Side by side: each takes as long as QEMU takes to load.
    let version = run(&["--version"]);
    let machines = run(&["-machine", "help"]);
    let trace = run(&["-trace", "help"]);
    let machine = Path::new("/dev/kvm");
    let opens = std::fs::OpenOptions::new().read(true).write(true).open(machine);
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let opens = opens.map(drop).map_err(|error| error.to_string());
    let trial = || qemu.as_deref().map_or(Ok(()), try_kvm);
    let (accelerator, accelerator_reason) = choose_accelerator(accel, opens, &cpuinfo, std::env::consts::ARCH, &trial);
    let asked = qemu.clone();
    let cpu = std::thread::spawn(move || asked.map(|qemu| cpu::ask(&qemu, accelerator)).unwrap_or_default());
    // A thread that panicked has found nothing.
    let (version, machines, trace, cpu) = (
        version.join().unwrap_or_default(),
        machines.join().unwrap_or_default(),
        trace.join().unwrap_or_default(),
        cpu.join().unwrap_or_default(),
    );
    let (kvm_group, kvm_closed) = match (accelerator, std::fs::metadata(machine)) {
        (Accelerator::Kvm, Ok(meta)) => kvm_access(&meta),
        _ => (None, false),
    };
    Facts {
        version: version_of(&version),
        machine_types: machine_types(&machines),
        shutdown_trace: trace.lines().any(|line| line.trim() == "qemu_system_shutdown_request"),
        qemu_img: find_program(&["qemu-img"]),
        accelerator,
        accelerator_reason,
        cpu: Arc::new(cpu),
        kvm_group,
        kvm_closed,
        efi: first_pair(EFI),
        efi_secure: first_pair(EFI_SECURE),
        qemu,
    }
}

fn kvm_access(meta: &std::fs::Metadata) -> (Option<u32>, bool) {
    use std::os::unix::fs::MetadataExt;
    if meta.mode() & 0o006 == 0o006 {
        (None, false)
    } else if meta.mode() & 0o060 == 0o060 && meta.gid() != 0 {
        (Some(meta.gid()), false)
    } else {
        (None, true)
    }
}

/// KVM only where it can run a guest: there are computers whose `/dev/kvm` opens and whose guests then hang
/// for ever, namely virtual ones without the processor's virtualization extensions.
pub(super) fn choose_accelerator(
    accel: Accel,
    opens: Result<(), String>,
    cpuinfo: &str,
    arch: &str,
    trial: &dyn Fn() -> Result<(), String>,
) -> (Accelerator, String) {
    let flags = || {
        cpuinfo
            .lines()
            .filter_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == "flags"))
            .flat_map(|(_, flags)| flags.split_ascii_whitespace())
            .any(|flag| flag == "vmx" || flag == "svm")
    };
    match accel {
        Accel::Kvm => (Accelerator::Kvm, "KVM, as configured (host.accel)".into()),
        Accel::Tcg => (Accelerator::Tcg, "emulation, as configured (host.accel)".into()),
        Accel::Auto if arch != "x86_64" => {
            (Accelerator::Tcg, format!("emulation: an {arch} processor cannot run x86-64 guests itself"))
        }
        Accel::Auto => match opens {
            Err(error) => (Accelerator::Tcg, format!("emulation: /dev/kvm cannot be opened ({error})")),
            Ok(()) if !flags() => (
                Accelerator::Tcg,
                "emulation: /dev/kvm opens, but the processor shows neither vmx nor svm, so guests would hang".into(),
            ),
            Ok(()) => match trial() {
                Ok(()) => (Accelerator::Kvm, "KVM: the processor has vmx or svm, and a trial machine runs".into()),
                Err(error) => (Accelerator::Tcg, format!("emulation: a trial machine does not run with KVM ({error})")),
            },
        },
    }
}

/// Makes a machine with KVM and ends it at once.
fn try_kvm(qemu: &Path) -> Result<(), String> {
    use std::io::Write;
    let arguments = ["-nodefaults", "-no-user-config", "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "16M"];
    let mut child = Command::new(qemu)
        .args(arguments)
        .args(["-display", "none", "-qmp", "stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A QEMU that ended at once does not read; its words come below.
        let _ = stdin.write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n");
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().lines().last().unwrap_or("no reason given").to_owned())
}

/// `10.0.2` from `QEMU emulator version 10.0.2 (Debian …)`.
fn version_of(text: &str) -> Option<String> {
    let (_, rest) = text.lines().next()?.split_once("version ")?;
    rest.split_ascii_whitespace().next().map(str::to_owned)
}

/// Names of versioned machine types from `-machine help`, without deprecated ones.
fn machine_types(help: &str) -> Vec<String> {
    help.lines()
        .filter(|line| !line.contains("deprecated"))
        .filter_map(|line| line.split_ascii_whitespace().next())
        .filter(|name| name.starts_with("pc-q35-") || name.starts_with("pc-i440fx-"))
        .map(str::to_owned)
        .collect()
}

/// The newest machine type that begins with `family`.
pub(super) fn newest<'a>(machine_types: &'a [String], family: &str) -> Option<&'a str> {
    let version = |name: &str| -> Vec<u32> {
        name[family.len()..].split('.').map(|part| part.parse().unwrap_or_default()).collect()
    };
    machine_types.iter().filter(|name| name.starts_with(family)).max_by_key(|name| version(name)).map(String::as_str)
}

impl Facts {
    /// Code and variables template for a firmware; `Ok(None)` for SeaBIOS, which QEMU brings along.
    pub(super) fn firmware(&self, firmware: Firmware) -> Result<Option<&(PathBuf, PathBuf)>, String> {
        match firmware {
            Firmware::Bios => Ok(None),
            Firmware::Efi => self
                .efi
                .as_ref()
                .map(Some)
                .ok_or_else(|| "no UEFI firmware (OVMF) was found; install the package ovmf (or edk2-ovmf)".into()),
            Firmware::EfiSecureBoot => self.efi_secure.as_ref().map(Some).ok_or_else(|| {
                "no UEFI firmware (OVMF) with Secure Boot was found; install the package ovmf (or edk2-ovmf)".into()
            }),
        }
    }
}

const EFI: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-4m-code.bin", "/usr/share/qemu/ovmf-x86_64-4m-vars.bin"),
];

const EFI_SECURE: &[(&str, &str)] = &[
    ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/OVMF/OVMF_CODE.secboot.fd", "/usr/share/OVMF/OVMF_VARS.ms.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.secboot.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
    ("/usr/share/qemu/ovmf-x86_64-smm-ms-code.bin", "/usr/share/qemu/ovmf-x86_64-smm-ms-vars.bin"),
];

fn first_pair(candidates: &[(&str, &str)]) -> Option<(PathBuf, PathBuf)> {
    candidates
        .iter()
        .map(|(code, variables)| (PathBuf::from(code), PathBuf::from(variables)))
        .find(|(code, variables)| code.exists() && variables.exists())
}

/// The first of `names` that is an executable: a path, or a name that PATH knows.
fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    names.iter().find_map(|name| {
        if name.contains('/') {
            return Some(PathBuf::from(name)).filter(|path| path.is_file());
        }
        std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
    })
}

fn output(program: &Path, arguments: &[impl AsRef<OsStr>]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// This computer, apart from QEMU.
#[derive(Debug, Clone)]
pub(super) struct Computer {
    /// Host name.
    pub(super) name: String,
    /// CPUs that this program may use.
    pub(super) cpus: u32,
    /// Bytes of memory.
    pub(super) memory: u64,
    /// Kernel release.
    pub(super) kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub(super) os: String,
    /// Kubernetes' word for the architecture.
    pub(super) architecture: String,
}

/// Reads it from the kernel and from os-release.
pub(super) fn computer() -> Computer {
    let uname = rustix::system::uname();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let os = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    Computer {
        name: uname.nodename().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX)),
        memory: memory_total(&memory),
        kernel: uname.release().to_string_lossy().into_owned(),
        os: pretty_name(&os),
        architecture: match std::env::consts::ARCH {
            "x86_64" => "amd64".into(),
            "aarch64" => "arm64".into(),
            other => other.into(),
        },
    }
}

fn memory_total(meminfo: &str) -> u64 {
    let kibibytes = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    kibibytes.and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() * 1024
}

fn pretty_name(os_release: &str) -> String {
    let name = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".into(), |name| name.trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kvm_needs_the_processor_too() {
        let with = "processor : 0\nflags\t\t: fpu vmx sse\n";
        let without = "processor : 0\nflags\t\t: fpu sse\n";
        let (opens, denied) = (Ok(()), Err("denied".to_owned()));
        let (runs, fails) = (Ok(()), Err("no".to_owned()));
        let cases = [
            (Accel::Auto, &opens, with, "x86_64", &runs, Accelerator::Kvm),
            (Accel::Auto, &opens, with, "x86_64", &fails, Accelerator::Tcg),
            (Accel::Auto, &opens, without, "x86_64", &runs, Accelerator::Tcg),
            (Accel::Auto, &denied, with, "x86_64", &runs, Accelerator::Tcg),
            (Accel::Auto, &opens, with, "aarch64", &runs, Accelerator::Tcg),
            (Accel::Kvm, &denied, without, "x86_64", &fails, Accelerator::Kvm),
            (Accel::Tcg, &opens, with, "x86_64", &runs, Accelerator::Tcg),
        ];
        for (accel, opens, cpuinfo, arch, trial, expected) in cases {
            let (got, reason) = choose_accelerator(accel, opens.clone(), cpuinfo, arch, &|| trial.clone());
            assert_eq!(got, expected, "{reason}");
        }
    }

    #[test]
    fn the_newest_machine_type_counts_numbers() {
        let help = "pc-q35-9.2  Standard\npc-q35-10.0 Standard\npc-q35-10.0.1 x\npc-q35-2.12 x (deprecated)\npc-i440fx-8.0 y\nq35 alias\n";
        let types = machine_types(help);
        assert_eq!(types.len(), 4);
        assert_eq!(newest(&types, "pc-q35-"), Some("pc-q35-10.0.1"));
        assert_eq!(newest(&types, "pc-i440fx-"), Some("pc-i440fx-8.0"));
        assert_eq!(newest(&types, "virt-"), None);
    }

    #[test]
    fn facts_are_read_from_text() {
        assert_eq!(version_of("QEMU emulator version 10.0.2 (Debian)\n").as_deref(), Some("10.0.2"));
        assert_eq!(memory_total("MemTotal:  24576 kB\n"), 24 << 20);
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
    }
}
