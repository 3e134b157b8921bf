//! Commands of the shell as cases, and the desk they are run at.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use super::Served;
use super::rows::matches;
use crate::support::binary;

/// How a command has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Is(i32),
    Any,
}

/// One row: a command of the shell, and what is expected of it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub id: &'static str,
    /// The oldest client that knows the command.
    pub since: (u32, u32),
    pub run: &'static str,
    pub exit: Exit,
    /// Patterns over output and errors, see [`matches`].
    pub wants: &'static [&'static str],
}

/// A row for every client, which has to succeed.
pub const fn case(id: &'static str, run: &'static str, wants: &'static [&'static str]) -> Case {
    Case { id, since: (1, 0), run, exit: Exit::Is(0), wants }
}

impl Case {
    /// Its id and the first line of its command.
    pub fn title(&self) -> String {
        format!("{}  {}", self.id, self.run.lines().next().unwrap_or_default())
    }

    /// Only clients of this minor version and newer.
    pub const fn since(self, minor: u32) -> Self {
        Self { since: (1, minor), ..self }
    }

    /// It has to fail with this code.
    pub const fn exits(self, code: i32) -> Self {
        Self { exit: Exit::Is(code), ..self }
    }

    /// Its exit code tells nothing.
    pub const fn exits_anyhow(self) -> Self {
        Self { exit: Exit::Any, ..self }
    }
}

/// The scripts' surroundings: `vmdeck` is this build, other programs are the clients under test, all know the world.
pub struct Desk {
    pub served: Served,
    folder: PathBuf,
}

impl Desk {
    /// A desk in a world of its own, with programs by name, and files.
    pub fn new(programs: &[(&str, &Path)], files: &[(&str, &str)]) -> Self {
        let served = Served::start();
        let folder = served.world.home().join("desk");
        std::fs::create_dir_all(folder.join("bin")).unwrap();
        for (name, program) in programs {
            std::os::unix::fs::symlink(program, folder.join("bin").join(name)).unwrap();
        }
        std::os::unix::fs::symlink(binary(), folder.join("bin/vmdeck")).unwrap();
        let desk = Self { served, folder };
        for (name, text) in files {
            desk.put(name, text.as_bytes());
        }
        desk
    }

    /// Lays a file on the desk.
    pub fn put(&self, name: &str, content: &[u8]) {
        let path = self.folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Lays a program on the desk.
    pub fn put_program(&self, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let name = format!("bin/{name}");
        self.put(&name, script.as_bytes());
        std::fs::set_permissions(self.folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The desk's folder, in which scripts run.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A program in the desk's surroundings.
    pub fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(program);
        command
            .env("PATH", format!("{}:{path}", self.folder.join("bin").display()))
            .env("HOME", &self.folder)
            .env("KUBECONFIG", &self.served.kubeconfig)
            .env("VMDECK_HOME", self.served.world.home())
            .env("VMDECK_HOST", "local")
            .env("TZ", "UTC")
            .env_remove("KUBE_EDITOR")
            .current_dir(&self.folder);
        command
    }

    /// Runs a script that may take so many seconds.
    pub fn script(&self, script: &str, seconds: u32) -> Output {
        shell(&mut self.command("timeout"), script, seconds)
    }

    /// Runs one case.
    pub fn run(&self, case: &Case) -> Result<(), String> {
        let output = self.script(case.run, 90);
        let text = [&output.stdout[..], &output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        match (case.exit, output.status.code()) {
            (Exit::Any, Some(_)) => {}
            (Exit::Is(wanted), Some(code)) if wanted == code => {}
            (wanted, code) => return Err(format!("exit {code:?}, expected {wanted:?}:\n{text}")),
        }
        matches(&text, case.wants)
    }
}

/// Runs a script in a shell and gives all that it printed, errors after output. `timeout` ends it with everything it
/// started, so that no case can hang the table.
fn shell(command: &mut Command, script: &str, seconds: u32) -> Output {
    command.args(["-k", "5", &seconds.to_string(), "bash", "-c", script]).stdin(Stdio::null()).output().unwrap()
}
