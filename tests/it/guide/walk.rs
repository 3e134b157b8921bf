//! One step after another in one world: each leaves what the next one needs, as for a reader.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use super::page::{disks, page, sorted};
use crate::api::desk::Desk;
use crate::api::rows::{Rows, matches};
use crate::support::{BOOT, Screen};

/// What a step does.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Types a command; what is behind is not in the guide, it is what a reader does meanwhile: waiting.
    Type(&'static str),
    /// Types a command in a terminal, then waits for each text and types the keys behind it.
    Terminal(&'static str, &'static [(&'static str, &'static str)]),
}

impl Act {
    /// What is typed first.
    pub fn text(&self) -> &'static str {
        match self {
            Self::Type(text) | Self::Terminal(text, _) => text,
        }
    }
}

/// What a step has to show.
#[derive(Debug, Clone, Copy)]
pub enum Shows {
    /// Exactly this page on standard output, see [`page`].
    Page(&'static str),
    /// The same, whatever the order of the rows is.
    Rows(&'static str),
    /// Exactly these block devices on standard output, see [`disks`].
    Disks(&'static str),
    /// Exactly this on standard output.
    Text(&'static str),
    /// Patterns over output and errors, see [`matches`].
    Like(&'static [&'static str]),
}

/// A step.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Section of the guide and a number.
    pub id: &'static str,
    pub act: Act,
    pub shows: Shows,
    /// It has to fail.
    pub fails: bool,
    /// Guests boot in it, and what it shows does not depend on the client.
    pub boots: bool,
}

/// A step that types something.
pub const fn step(id: &'static str, text: &'static str, shows: Shows) -> Step {
    Step { id, act: Act::Type(text), shows, fails: false, boots: false }
}

/// A step that talks in a terminal.
pub const fn talk(
    id: &'static str,
    text: &'static str,
    talk: &'static [(&'static str, &'static str)],
    wants: &'static [&'static str],
) -> Step {
    Step { id, act: Act::Terminal(text, talk), shows: Shows::Like(wants), fails: false, boots: false }
}

impl Step {
    /// It has to fail.
    pub const fn fails(self) -> Self {
        Self { fails: true, ..self }
    }

    /// Guests boot in it, and what it shows does not depend on the client: it is enough to take it once.
    pub const fn boots(self) -> Self {
        Self { boots: true, ..self }
    }
}

/// A reader's desk, with what the guide takes for granted: `d8`, an image, a network with the guide's addresses.
pub struct Walk {
    pub desk: Desk,
    node: String,
    rows: Rows,
    /// How long one step may take, in seconds.
    patience: u32,
}

/// The guide's program: `k` is kubectl, `v` is ours.
const D8: &str = "#!/bin/sh
way=$1; shift
case $way in
k) exec kubectl \"$@\" ;;
v) exec vmdeck \"$@\" ;;
esac
exit 2
";

/// What a reader waits for: operations are done, the machine runs, its agent speaks (the last thing that starts).
const SETTLED: &str = "#!/bin/sh
for op in $(vmdeck get vmop -o name | sed 's/[.][^/]*//'); do
    vmdeck wait $op --for 'jsonpath={.status.phase}=Completed' --timeout \"$PATIENCE\"s || exit 1
done
vmdeck wait vm $1 --for 'jsonpath={.status.phase}=Running' --timeout \"$PATIENCE\"s || exit 1
exec vmdeck wait vm $1 --for condition=AgentReady --timeout \"$PATIENCE\"s
";

/// The system's ssh with files of the desk: it looks for the user's own in the system's list of users. The password is
/// typed by a program, as there is no terminal.
const SSH: &str = "#!/bin/sh
exec \"$REAL_SSH\" -F ssh_config \"$@\"
";

fn title(step: &Step) -> String {
    format!("{}  {}", step.id, step.act.text().lines().next().unwrap_or_default())
}

impl Walk {
    /// Lays everything out. `kubectl` is what `d8 k` runs; the image becomes `vi/guest`.
    pub fn begin(title: &str, kubectl: &Path, image: &Path, patience: u32) -> Self {
        let desk = Desk::new(&[("kubectl", kubectl)], &[]);
        for (name, text) in [("d8", D8), ("settled", SETTLED), ("ssh", SSH), ("askpass", "#!/bin/sh\necho cloud\n")] {
            desk.put_program(name, text);
        }
        let known = desk.folder().join("known_hosts");
        desk.put("ssh_config", format!("UserKnownHostsFile {}\nLogLevel ERROR\n", known.display()).as_bytes());
        let world = &desk.served.world;
        world.apply(
            &std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/samples/1-image.yaml")).unwrap(),
        );
        world.ok(&["upload", image.to_str().unwrap(), "vi/guest"]);
        let node = world.ok(&["get", "node", "-o", "jsonpath={.items[0].metadata.name}"]);
        Self { desk, node, rows: Rows::new(title), patience }
    }

    /// Takes one step.
    pub fn take(&mut self, step: &Step) {
        let outcome = match step.act {
            Act::Type(text) => self.typed(text, step),
            Act::Terminal(text, talk) => self.talked(text, talk, step),
        };
        let failed = outcome.is_err();
        self.rows.add(&title(step), outcome.map_err(|why| format!("{why}\n{}", self.state(failed))));
    }

    /// Leaves one out.
    pub fn leave(&mut self, step: &Step, reason: &str) {
        self.rows.skip(&title(step), reason);
    }

    /// How the machines are, for messages.
    fn state(&self, wanted: bool) -> String {
        if !wanted {
            return String::new();
        }
        let output = self.desk.script("vmdeck get vm,vd,vmop -o wide; vmdeck describe vm | tail -40", 30);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), self.desk.served.world.log_tail())
    }

    /// Ends it: all steps must have been good.
    pub fn end(self, at_least: usize) {
        self.rows.judge(at_least);
    }

    fn environment(&self) -> String {
        let real = std::env::var_os("PATH").unwrap_or_default();
        let real = std::env::split_paths(&real).map(|d| d.join("ssh")).find(|p| p.is_file());
        let real = real.expect("`make setup` installs ssh");
        format!(
            "export PATIENCE={} REAL_SSH={} SSH_ASKPASS=$PWD/bin/askpass SSH_ASKPASS_REQUIRE=force NODE={}\nexec 2>errors\n",
            self.patience,
            real.display(),
            self.node
        )
    }

    fn typed(&self, text: &str, step: &Step) -> Result<(), String> {
        let output = self.desk.script(&(self.environment() + text), self.patience * 2);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = std::fs::read_to_string(self.desk.folder().join("errors")).unwrap_or_default();
        if output.status.success() == step.fails {
            return Err(format!("{}:\n{said}{errors}", output.status));
        }
        let same = |got: String, wanted: &str| {
            if got == wanted { Ok(()) } else { Err(format!("shows\n{got}\ninstead of\n{wanted}\n{errors}")) }
        };
        match step.shows {
            Shows::Page(wanted) => same(page(&said, &self.node), wanted),
            Shows::Rows(wanted) => same(sorted(&page(&said, &self.node)), &sorted(wanted)),
            Shows::Disks(wanted) => same(disks(&said), wanted),
            Shows::Text(wanted) => same(said.clone(), wanted),
            Shows::Like(wanted) => matches(&format!("{said}{errors}"), wanted),
        }
    }

    fn talked(&self, text: &str, talk: &[(&str, &str)], step: &Step) -> Result<(), String> {
        let mut command = self.desk.command("bash");
        let real = self.environment().replace("exec 2>errors\n", "").replace("SSH_ASKPASS_REQUIRE=force", "");
        command.args(["-c", &(real + text)]).stdin(Stdio::null());
        let mut screen = Screen::of(&command, 100, 30);
        for (wait, keys) in talk {
            screen.until(wait, BOOT.max(Duration::from_secs(self.patience.into())));
            screen.keys(keys);
        }
        let code = screen.wait(BOOT);
        let shown = screen.text();
        if (code == 0) == step.fails {
            return Err(format!("exit {code}:\n{shown}"));
        }
        match step.shows {
            Shows::Like(wanted) => matches(&shown, wanted),
            other => Err(format!("a terminal shows no {other:?}")),
        }
    }
}
