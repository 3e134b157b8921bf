//! One standalone host with a state directory of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use tokio::runtime::Runtime;
use vmdeck::client::{Choice, Hooks, ObjectEvent, Session, connect};
use vmdeck::config::Paths;
use vmdeck::types::kinds::{self, KindInfo};

use super::{BOOT, Console, SOON, guest_image, leftovers};

/// The program under test. The benchmark names a release build.
pub fn binary() -> PathBuf {
    std::env::var_os("VMDECK_BENCH_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_vmdeck").into(), PathBuf::from)
}

/// A state directory, the daemon on it, and a session with its API.
pub struct World {
    // Field order is drop order; `Drop` has stopped the daemon before.
    runtime: Runtime,
    session: Option<Session>,
    /// Where everything of this world is.
    pub paths: Paths,
    home: tempfile::TempDir,
}

impl World {
    /// A fresh world whose daemon answers.
    pub fn start() -> Self {
        let mut world = Self::without_daemon();
        world.start_daemon();
        world
    }

    /// A fresh world with this `config.toml`, whose daemon answers.
    pub fn start_with(settings: &str) -> Self {
        let mut world = Self::without_daemon();
        world.configure(settings);
        world.start_daemon();
        world
    }

    /// Writes `config.toml`; the next daemon reads it.
    pub fn configure(&self, settings: &str) {
        std::fs::create_dir_all(&self.paths.config).unwrap();
        std::fs::write(self.paths.settings_file(), settings).unwrap();
    }

    /// A fresh world in which the image `guest` is ready, uploaded through the API.
    pub fn with_image() -> Self {
        let world = Self::start();
        world.load_image();
        world
    }

    /// Uploads the guest's image as `guest`.
    pub fn load_image(&self) {
        self.apply(&std::fs::read_to_string(root().join("assets/samples/1-image.yaml")).unwrap());
        self.ok(&["upload", guest_image().to_str().unwrap(), "vi/guest"]);
    }

    /// A fresh state directory and nothing else.
    pub fn without_daemon() -> Self {
        // Short: socket paths have 107 characters.
        let home = tempfile::Builder::new().prefix("vmdeck-it-").tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        Self { runtime, session: None, paths: Paths::under(home.path()), home }
    }

    /// Starts the daemon and opens a session.
    pub fn start_daemon(&mut self) {
        self.ok(&["host", "start"]);
        let socket = self.paths.api_socket();
        let choice = Choice { host: Some(format!("unix://{}", socket.display())), ..Choice::default() };
        let hooks = Hooks {
            start: Arc::new(|| Box::pin(async { Err("not here".to_owned()) })),
            tunnel: Arc::new(|_| Box::pin(async { Err("not here".to_owned()) })),
        };
        self.session = Some(self.runtime.block_on(connect(&choice, &self.paths, &hooks)).unwrap());
    }

    /// The directory of this world.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The API.
    pub fn session(&self) -> &Session {
        self.session.as_ref().expect("the daemon was started")
    }

    /// Runs a future of the session.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Runs a future beside the story.
    pub fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(future)
    }

    /// The daemon's pid.
    pub fn daemon_pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.paths.lock_file()).expect("a daemon has the lock");
        text.trim().parse().expect("the lock file holds a pid")
    }

    /// Kills the daemon without a word, as a crash would, and waits until it is gone.
    pub fn kill_daemon(&mut self) {
        self.session = None;
        let pid = rustix::process::Pid::from_raw(self.daemon_pid()).unwrap();
        let fd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        let mut polled = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
        let limit = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
        assert_eq!(rustix::event::poll(&mut polled, Some(&limit)).unwrap(), 1, "the daemon outlived SIGKILL");
    }

    /// The program with this world's environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .env("VMDECK_HOME", self.home.path())
            .env("VMDECK_HOST", "local")
            .env_remove("VMDECK_CONTEXT")
            .env_remove("KUBECONFIG")
            .env("HOME", self.home.path())
            .current_dir(self.home.path());
        command
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Runs the program, which has to succeed; its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(
            output.status.success(),
            "vmdeck {arguments:?}: {}\n{}{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log_tail()
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Applies manifests with `vmdeck apply -f -`.
    pub fn apply(&self, manifests: &str) -> String {
        use std::io::Write;
        let mut command = self.command(&["apply", "-f", "-"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(manifests.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "apply: {errors}\n{}", self.log_tail());
        String::from_utf8(output.stdout).unwrap()
    }

    /// An object, by `kind/name` in the default namespace; `None` if there is none.
    pub fn find(&self, which: &str) -> Option<Value> {
        let (kind, name) = split(which);
        match self.block_on(self.session().get(kind, namespace(kind), name)) {
            Ok(object) => Some(object),
            Err(e) if e.is_not_found() => None,
            Err(e) => panic!("{which}: {e}"),
        }
    }

    /// An object that exists.
    pub fn get(&self, which: &str) -> Value {
        self.find(which).unwrap_or_else(|| panic!("there is no {which}"))
    }

    /// Waits until an object is as wanted and gives it. Driven by the API's watch.
    pub fn until(&self, which: &str, what: &str, patience: Duration, wanted: impl Fn(&Value) -> bool) -> Value {
        self.watch(which, what, patience, |now| now.is_some_and(&wanted)).expect("wanted objects exist")
    }

    /// Waits until an object is gone.
    pub fn until_gone(&self, which: &str, patience: Duration) {
        self.watch(which, "gone", patience, |now| now.is_none());
    }

    /// Waits until `status.phase` is this word.
    pub fn until_phase(&self, which: &str, phase: &str, patience: Duration) -> Value {
        self.until(which, &format!("phase {phase}"), patience, |o| o["status"]["phase"] == phase)
    }

    fn watch(
        &self,
        which: &str,
        what: &str,
        patience: Duration,
        done: impl Fn(Option<&Value>) -> bool,
    ) -> Option<Value> {
        let (kind, name) = split(which);
        let mut last = None;
        let session = self.session().clone();
        let found = self.block_on(async {
            let events = session.watch_object(kind, namespace(kind), name);
            tokio::pin!(events);
            let looking = async {
                while let Some(event) = events.next().await {
                    last = match event {
                        ObjectEvent::Now(object) => Some(object),
                        ObjectEvent::Gone => None,
                        ObjectEvent::Stale(_) => continue,
                    };
                    if done(last.as_ref()) {
                        return true;
                    }
                }
                false
            };
            tokio::time::timeout(patience, looking).await
        });
        if !matches!(found, Ok(true)) {
            let shown = last.map_or("it does not exist".into(), |o| serde_json::to_string_pretty(&o).unwrap());
            panic!("{which} is not \"{what}\" after {patience:?}:\n{shown}\n{}", self.log_tail());
        }
        last
    }

    /// Opens a machine's console, with what it printed before.
    pub fn console(&self, machine: &str) -> Console {
        Console::open(self.session(), self.runtime.handle(), &self.paths.runtime, machine)
    }

    /// A booted machine of the manifest, with its user logged in on the console.
    pub fn booted(&self, machine: &str, run_policy: &str) -> Console {
        self.apply(&super::machine_manifest(machine, run_policy));
        if run_policy == "Manual" {
            // A start of a machine that waits for its disk is refused.
            self.until_phase(&format!("vm/{machine}"), "Stopped", SOON);
            self.ok(&["start", machine, "--wait"]);
        }
        self.until_phase(&format!("vm/{machine}"), "Running", BOOT);
        let mut console = self.console(machine);
        console.login();
        console
    }

    /// QEMU processes of this world.
    pub fn qemu_pids(&self) -> Vec<i32> {
        leftovers::processes(self.home())
            .into_iter()
            .filter(|(_, c)| c.contains("qemu-system") && !c.contains("-machine none"))
            .map(|(p, _)| p)
            .collect()
    }

    /// The processes that are the machines' networks.
    pub fn network_pids(&self) -> Vec<i32> {
        leftovers::processes(self.home())
            .into_iter()
            .filter(|(_, c)| c.contains("qemu-system") && c.contains("-machine none"))
            .map(|(p, _)| p)
            .collect()
    }

    /// What QEMU says is on the screen of the one machine there is.
    pub fn screen_shot(&self) -> super::viewer::Picture {
        use std::io::{BufRead, BufReader, Write};
        let rescue = leftovers::files(&self.paths.runtime).into_iter().find(|f| f.ends_with("rescue")).unwrap();
        let directory = self.paths.runtime.join(rescue.parent().unwrap());
        // Paths of sockets are short; this one is opened through its directory.
        let opened = std::fs::File::open(&directory).unwrap();
        let socket = format!("/proc/self/fd/{}/rescue", std::os::fd::AsRawFd::as_raw_fd(&opened));
        let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        for command in
            [r#"{"execute":"qmp_capabilities"}"#, r#"{"execute":"screendump","arguments":{"filename":"shot.ppm"}}"#]
        {
            stream.write_all(command.as_bytes()).unwrap();
            // The greeting and events come between.
            let answer =
                lines.by_ref().map(Result::unwrap).find(|l| l.contains("\"return\"") || l.contains("\"error\""));
            assert!(answer.as_ref().is_some_and(|a| a.contains("\"return\"")), "{command}: {answer:?}");
        }
        let file = std::fs::read(directory.join("shot.ppm")).unwrap();
        let text = String::from_utf8_lossy(&file[..20.min(file.len())]).into_owned();
        let mut words = text.split_ascii_whitespace().skip(1).map(|w| w.parse().unwrap_or(0));
        let (width, height) = (words.next().unwrap(), words.next().unwrap());
        let pixels: Vec<u8> = file[file.len() - width * height * 3..].to_vec();
        super::viewer::Picture { width, height, pixels }
    }

    /// Deletes every machine and checks that nothing of them is left: no process, no record, no runtime file.
    pub fn leaves_nothing(&self) {
        let list = |kind: &'static KindInfo| {
            let list = self.block_on(self.session().list(kind, None, &vmdeck::client::ListOptions::default())).unwrap();
            list["items"].as_array().cloned().unwrap_or_default()
        };
        let machines = list(kinds::find("vm").unwrap());
        for machine in &machines {
            self.ok(&["delete", "vm", machine["metadata"]["name"].as_str().unwrap()]);
        }
        for machine in &machines {
            self.until_gone(&format!("vm/{}", machine["metadata"]["name"].as_str().unwrap()), BOOT);
        }
        assert_eq!(self.qemu_pids(), [0; 0], "QEMU outlived its machine");
        assert_eq!(self.network_pids(), [0; 0], "a network outlived its machine");
        let records = leftovers::files(&self.paths.machines());
        assert!(records.is_empty(), "records outlived their machines: {records:?}");
        let sockets = leftovers::files(&self.paths.runtime);
        assert_eq!(sockets, [PathBuf::from("api.sock")], "runtime files outlived their machines");
        // Owned objects go by garbage collection, a moment later.
        for address in list(kinds::find("vmip").unwrap()) {
            self.until_gone(&format!("vmip/{}", address["metadata"]["name"].as_str().unwrap()), SOON);
        }
    }

    /// The end of the daemon's log, for messages.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read_to_string(self.paths.host_log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        format!("--- host.log\n{}", lines[lines.len().saturating_sub(25)..].join("\n"))
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.session = None;
        if std::env::var_os("VMDECK_TEST_KEEP").is_some() {
            eprintln!("kept: {}", self.home.path().display());
            self.home.disable_cleanup(true);
            return;
        }
        let _ = self.run(&["host", "stop"]);
        // Only processes that name this world's own directory.
        for (pid, _) in leftovers::processes(self.home.path()) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn split(which: &str) -> (&'static KindInfo, &str) {
    let (kind, name) = which.split_once('/').expect("kind/name");
    (kinds::find(kind).unwrap_or_else(|| panic!("no kind {kind}")), name)
}

fn namespace(kind: &KindInfo) -> Option<&'static str> {
    kind.namespaced().then_some("default")
}
