//! `vnc`: a viewer of this computer, or only a local port, on a machine's screen.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::cli::{VncArgs, target};

use super::failure::Failure;
use super::forward::cannot_listen;
use super::{Context, out};

/// How long a viewer may take to connect.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the verb.
pub async fn run(context: &Context, args: VncArgs) -> Result<(), Failure> {
    let machine = target::machine(&args.machine).map_err(Failure::usage)?;
    let namespace = machine.namespace.unwrap_or_else(|| context.default_namespace().to_owned());
    // Only a proxy may listen elsewhere than here: a screen has no password.
    let ip: IpAddr = if args.proxy_only { args.address } else { std::net::Ipv4Addr::LOCALHOST.into() };
    let address = SocketAddr::new(ip, args.port);
    super::holder::consider(context, &namespace, &machine.name, "vnc", args.force).await?;
    // A machine that cannot be seen is told before a viewer opens.
    let mut far = context.session.vnc(&namespace, &machine.name).await?;
    let listener = TcpListener::bind(address).await.map_err(|e| cannot_listen(address, &e))?;
    let port = listener.local_addr()?.port();
    if args.proxy_only {
        out::line(&format!("{{\"port\":{port}}}"))?;
        drop(far);
        return proxy(context, listener, namespace, machine.name).await;
    }
    let mut viewer = start(port)?;
    let (mut near, _) = tokio::select! {
        accepted = listener.accept() => accepted?,
        ended = viewer.wait() => {
            return Err(Failure::new(format!("the viewer ended before it connected ({})", ended?)));
        }
        () = tokio::time::sleep(PATIENCE) => {
            return Err(Failure::new(format!("the viewer did not connect within {} s", PATIENCE.as_secs())));
        }
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
        _ = viewer.wait() => {}
    }
    Ok(())
}

/// Connects whoever comes, until the user interrupts it.
async fn proxy(context: &Context, listener: TcpListener, namespace: String, name: String) -> Result<(), Failure> {
    loop {
        let (mut near, _) = listener.accept().await?;
        let (session, namespace, name) = (context.session.clone(), namespace.clone(), name.clone());
        tokio::spawn(async move {
            match session.vnc(&namespace, &name).await {
                Ok(mut far) => {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
                Err(e) => out::note(&format!("vmdeck: {e}")),
            }
        });
    }
}

fn start(port: u16) -> Result<Child, Failure> {
    let candidates =
        [("remote-viewer", format!("vnc://127.0.0.1:{port}")), ("vncviewer", format!("127.0.0.1::{port}"))];
    for (program, argument) in candidates {
        let mut command = Command::new(program);
        command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => return Ok(child),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(Failure::new(format!("cannot start {program}: {e}"))),
        }
    }
    let system = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    Err(Failure::new(format!(
        "no VNC viewer is installed\nInstall one with \"{}\", or use --proxy-only and a viewer of your own.",
        install_command(&system)
    )))
}

/// The command that installs a viewer on the system that this `os-release` describes.
fn install_command(os_release: &str) -> &'static str {
    let words = |key: &str| {
        let value = os_release.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
        value.trim_matches('"').split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let names = [words("ID="), words("ID_LIKE=")].concat();
    let is = |name: &str| names.iter().any(|n| n == name);
    if is("fedora") || is("rhel") {
        "sudo dnf install virt-viewer"
    } else if is("arch") {
        "sudo pacman -S virt-viewer"
    } else if names.iter().any(|n| n.contains("suse")) {
        "sudo zypper install virt-viewer"
    } else {
        "sudo apt-get install virt-viewer"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_viewer_of_each_system() {
        for (text, wanted) in [
            ("ID=debian\n", "apt-get"),
            ("NAME=x\nID=ubuntu\nID_LIKE=debian\n", "apt-get"),
            ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf"),
            ("ID=manjaro\nID_LIKE=arch\n", "pacman"),
            ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "zypper"),
            ("", "apt-get"),
        ] {
            assert!(install_command(text).contains(wanted), "{text}");
        }
    }
}
