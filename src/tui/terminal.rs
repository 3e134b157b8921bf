//! The terminal's modes: taken on start, given back on every way out (return, panic, suspension, editor).

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::clipboard::CopyToClipboard;
use crossterm::event::{
    DisableBracketedPaste, DisableFocusChange, DisableMouseCapture, EnableBracketedPaste, EnableFocusChange,
    EnableMouseCapture,
};
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use crossterm::{cursor, execute, queue};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::state::State;
use super::view::{self, Drawn};

/// Whether the modes are taken, so that giving back twice does no harm.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// The screen, in our modes while this lives.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    /// Mouse events come to us instead of the terminal's own selection.
    mouse: bool,
}

impl Screen {
    /// Takes the terminal. Fails if there is none.
    pub fn open() -> io::Result<Self> {
        if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "standard input and output are not a terminal"));
        }
        restore_on_panic();
        take()?;
        let backend = CrosstermBackend::new(BufWriter::with_capacity(64 * 1024, io::stdout()));
        let terminal = Terminal::new(backend).inspect_err(|_| give_back())?;
        Ok(Self { terminal, mouse: false })
    }

    /// Columns and rows.
    pub fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.terminal.size()?;
        Ok((size.width, size.height))
    }

    /// Draws the state; only cells that changed are sent.
    pub fn draw(&mut self, state: &State) -> io::Result<Drawn> {
        let mut drawn = Drawn { cursor: None, due: None };
        self.take_mouse(view::wants_mouse(state))?;
        self.terminal.draw(|frame| {
            drawn = view::draw(state, frame.buffer_mut());
            if let Some(cursor) = drawn.cursor {
                frame.set_cursor_position(cursor);
            }
        })?;
        Ok(drawn)
    }

    /// Takes the mouse only while somebody listens: without that, selecting and copying is the terminal's.
    fn take_mouse(&mut self, wanted: bool) -> io::Result<()> {
        if wanted == self.mouse {
            return Ok(());
        }
        self.mouse = wanted;
        let backend = self.terminal.backend_mut();
        if wanted { execute!(backend, EnableMouseCapture) } else { execute!(backend, DisableMouseCapture) }
    }

    /// Forgets what is on the screen: the next drawing sends everything.
    pub fn forget(&mut self) -> io::Result<()> {
        // Not `clear`, which asks the terminal where its cursor is: the answer may be a key press away, or never come.
        let size = self.terminal.size()?;
        self.terminal.resize(ratatui::layout::Rect::new(0, 0, size.width, size.height))
    }

    /// Puts text into the clipboard.
    pub fn copy(&mut self, text: &str) -> io::Result<()> {
        execute!(self.terminal.backend_mut(), CopyToClipboard::to_clipboard_from(text))
    }

    /// Gives the terminal to somebody else for a while.
    pub fn release(&mut self) {
        give_back();
    }

    /// Takes it back and forgets what is on it.
    pub fn retake(&mut self) -> io::Result<()> {
        take()?;
        self.mouse = false;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> io::Result<()> {
    enable_raw_mode()?;
    TAKEN.store(true, Ordering::SeqCst);
    let mut out = io::stdout();
    queue!(out, EnterAlternateScreen, EnableBracketedPaste, EnableFocusChange, cursor::Hide)?;
    out.flush()
}

/// Every mode we may have set is taken back, in reverse order. Errors do not matter: the terminal may be gone.
fn give_back() {
    if !TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    let mut out = io::stdout();
    let _ = queue!(out, DisableMouseCapture, DisableFocusChange, DisableBracketedPaste);
    let _ = queue!(out, LeaveAlternateScreen, cursor::Show);
    let _ = out.flush();
    let _ = disable_raw_mode();
}

/// A panic's message belongs on the normal screen.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            give_back();
            before(info);
        }));
    });
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::num::NonZeroU16;

    use portable_pty::{CommandBuilder, PtySize, native_pty_system};

    use super::*;

    const INNER: &str = "VMDECK_TEST_PANIC";

    /// The inner half of the next test, which runs it in a terminal of its own.
    #[test]
    fn panics_while_it_has_the_terminal() {
        if std::env::var_os(INNER).is_some() {
            let _screen = Screen::open().unwrap();
            panic!("on purpose");
        }
    }

    #[test]
    fn a_panic_leaves_a_clean_terminal_and_its_message_on_the_normal_screen() {
        let pair = native_pty_system().openpty(PtySize { rows: 24, cols: 80, ..PtySize::default() }).unwrap();
        let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
        command.args(["--exact", "tui::terminal::tests::panics_while_it_has_the_terminal", "--nocapture"]);
        command.env(INNER, "1");
        command.env("RUST_BACKTRACE", "0");
        command.env("TERM", "xterm-256color");
        let mut child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        // A terminal whose program is gone ends with an error.
        while let Ok(n @ 1..) = reader.read(&mut buffer) {
            bytes.extend_from_slice(&buffer[..n]);
        }
        assert!(!child.wait().unwrap().success());
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let (entered, left) = (text.find("\x1b[?1049h").unwrap(), text.find("\x1b[?1049l").unwrap());
        assert!(entered < left && left < text.find("on purpose").unwrap(), "{text:?}");
        let size = |n| NonZeroU16::new(n).unwrap();
        let mut parser = vt100::Parser::new(size(24), size(80), 0);
        parser.process(&bytes);
        let screen = parser.screen();
        assert!(!screen.alternate_screen() && !screen.bracketed_paste() && !screen.hide_cursor(), "{text:?}");
    }
}
