//! `host install`: the daemon as a systemd service.

use std::path::{Path, PathBuf};

use crate::config::Paths;

use super::super::failure::Failure;
use super::super::out;

/// Runs the command.
pub fn run(paths: &Paths, print: bool) -> Result<(), Failure> {
    let exe = std::env::current_exe()?;
    let system = rustix::process::geteuid().is_root();
    let home = std::env::var_os("VMDECK_HOME").filter(|h| !h.is_empty()).map(std::path::absolute).transpose()?;
    let text = unit(&exe, system, home.as_deref())?;
    if print {
        return out::bytes(text.as_bytes());
    }
    let file = unit_file(system)?;
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).map_err(|e| Failure::new(format!("cannot create {}: {e}", dir.display())))?;
    }
    std::fs::write(&file, &text).map_err(|e| Failure::new(format!("cannot write {}: {e}", file.display())))?;
    let user = if system { "" } else { "--user " };
    let linger = if system { "" } else { "\n  loginctl enable-linger        # to keep it without a login" };
    out::block(&format!(
        "Wrote {}. Now run:\n  systemctl {user}daemon-reload\n  systemctl {user}enable --now vmdeck{linger}\n\
         State is in {}; \"systemctl {user}stop vmdeck\" stops no machine.",
        file.display(),
        paths.state.display()
    ))
}

fn unit_file(system: bool) -> Result<PathBuf, Failure> {
    if system {
        return Ok("/etc/systemd/system/vmdeck.service".into());
    }
    let dirs = directories::BaseDirs::new().ok_or_else(|| Failure::new("no home directory: set HOME"))?;
    Ok(dirs.config_dir().join("systemd/user/vmdeck.service"))
}

/// The unit. `KillMode=process` leaves the machines alone.
fn unit(exe: &Path, system: bool, home: Option<&Path>) -> Result<String, Failure> {
    let exe = quoted(exe)?;
    let home = home.map(quoted).transpose()?.map(|h| format!("Environment=VMDECK_HOME={h}\n")).unwrap_or_default();
    let target = if system { "multi-user.target" } else { "default.target" };
    Ok(format!(
        "[Unit]\n\
         Description=vmdeck host: virtual machines of this computer\n\
         After=network.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         {home}ExecStart={exe} host start --foreground\n\
         Restart=on-failure\n\
         KillMode=process\n\
         Delegate=yes\n\
         \n\
         [Install]\n\
         WantedBy={target}\n"
    ))
}

/// A path as one word of a unit file.
fn quoted(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|t| !t.chars().any(char::is_control));
    let text = text.ok_or_else(|| Failure::new(format!("{} cannot be written into a unit file", path.display())))?;
    Ok(format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_quotes_paths_and_spares_machines() {
        let text = unit(Path::new("/opt/my \"deck\"/100%/vmdeck"), false, Some(Path::new("/h"))).unwrap();
        assert!(text.contains("ExecStart=\"/opt/my \\\"deck\\\"/100%%/vmdeck\" host start --foreground\n"), "{text}");
        assert!(text.contains("Environment=VMDECK_HOME=\"/h\"\n"));
        assert!(text.contains("KillMode=process"));
        assert!(text.contains("WantedBy=default.target"));
        assert!(unit(Path::new("/a\nb"), true, None).is_err());
    }
}
