//! The UI in a pseudo-terminal: the real program, its screen as text, keys as a user types them.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::World;

/// What the terminal shows, and every byte it was sent.
struct Shown {
    parser: vt100::Parser,
    bytes: Vec<u8>,
    ended: bool,
}

/// A program in a terminal.
pub struct Screen {
    shown: Arc<(Mutex<Shown>, Condvar)>,
    writer: Box<dyn Write + Send>,
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn portable_pty::Child + Send + Sync>,
}

impl Screen {
    /// Starts the UI (or a command of the program) of a world in a terminal of this size.
    pub fn open(world: &World, arguments: &[&str], columns: u16, rows: u16) -> Self {
        Self::of(&world.command(arguments), columns, rows)
    }

    /// Starts a command, as it stands with its environment and directory, in a terminal of this size.
    pub fn of(model: &std::process::Command, columns: u16, rows: u16) -> Self {
        let pair =
            native_pty_system().openpty(PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }).unwrap();
        let mut command = CommandBuilder::new(model.get_program());
        command.args(model.get_args());
        for (name, value) in model.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            }
        }
        command.env("TERM", "xterm-256color");
        command.env_remove("NO_COLOR");
        command.cwd(model.get_current_dir().expect("a directory"));
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let shown =
            Shown { parser: vt100::Parser::new(sized(rows), sized(columns), 0), bytes: Vec::new(), ended: false };
        let shown = Arc::new((Mutex::new(shown), Condvar::new()));
        let mut reader = pair.master.try_clone_reader().unwrap();
        let sink = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 65536];
            loop {
                let n = reader.read(&mut buffer).unwrap_or(0);
                // A failed wait has poisoned the lock: nobody looks any more.
                let Ok(mut shown) = sink.0.lock() else { return };
                shown.parser.process(&buffer[..n]);
                shown.bytes.extend_from_slice(&buffer[..n]);
                shown.ended = n == 0;
                sink.1.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        Self { shown, writer: pair.master.take_writer().unwrap(), master: pair.master, child }
    }

    /// The screen's text.
    pub fn text(&self) -> String {
        self.shown.0.lock().unwrap().parser.screen().contents()
    }

    /// Waits until the screen is as wanted; the text it then shows.
    pub fn until_like(&self, what: &str, patience: Duration, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + patience;
        let mut shown = self.shown.0.lock().unwrap();
        loop {
            let text = shown.parser.screen().contents();
            if wanted(&text) {
                return text;
            }
            assert!(!shown.ended, "the program ended before {what}; its screen:\n{text}");
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {what} in {patience:?}; the screen:\n{text}");
            shown = self.shown.1.wait_timeout(shown, left).unwrap().0;
        }
    }

    /// Waits until a text is on the screen.
    pub fn until(&self, text: &str, patience: Duration) -> String {
        self.until_like(&format!("{text:?}"), patience, |t| t.contains(text))
    }

    /// Waits until a text has left the screen.
    pub fn until_without(&self, text: &str, patience: Duration) -> String {
        self.until_like(&format!("screen without {text:?}"), patience, |t| !t.contains(text))
    }

    /// Types; control characters are keys (`\r` Enter, `\x1b` Esc, `\x1d` ctrl-]).
    pub fn keys(&mut self, keys: &str) {
        self.writer.write_all(keys.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    /// Changes the terminal's size.
    pub fn resize(&self, columns: u16, rows: u16) {
        self.shown.0.lock().unwrap().parser.screen_mut().set_size(sized(rows), sized(columns));
        self.master.resize(PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }).unwrap();
    }

    /// The program's process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.process_id().unwrap()).unwrap()
    }

    /// Waits until the program has ended; its exit code.
    pub fn wait(&mut self, patience: Duration) -> u32 {
        let deadline = Instant::now() + patience;
        let mut shown = self.shown.0.lock().unwrap();
        while !shown.ended {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it does not end; its screen:\n{}", shown.parser.screen().contents());
            shown = self.shown.1.wait_timeout(shown, left).unwrap().0;
        }
        drop(shown);
        self.child.wait().unwrap().exit_code()
    }

    /// Fails unless everything the program changed about the terminal has been undone.
    pub fn assert_clean(&self) {
        let shown = self.shown.0.lock().unwrap();
        let screen = shown.parser.screen();
        assert!(!screen.alternate_screen(), "still on the alternate screen");
        assert!(!screen.hide_cursor(), "the cursor is still hidden");
        assert!(!screen.bracketed_paste(), "bracketed paste is still on");
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None, "the mouse is still grabbed");
        assert!(!screen.application_keypad() && !screen.application_cursor(), "keys are still in application mode");
        let text = String::from_utf8_lossy(&shown.bytes);
        for (on, off) in [("\x1b[>1u", "\x1b[<1u"), ("\x1b[?1004h", "\x1b[?1004l"), ("\x1b[?2026h", "\x1b[?2026l")] {
            assert!(text.rfind(on) <= text.rfind(off), "{on:?} was never undone");
        }
    }
}

fn sized(n: u16) -> std::num::NonZero<u16> {
    std::num::NonZero::new(n).expect("terminals have a size")
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
