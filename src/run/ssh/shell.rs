//! A command or a login shell over an open SSH connection.

use std::io::{IsTerminal, Write};

use russh::ChannelMsg;
use russh::client::Handle;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};

use super::super::failure::{Failure, code};
use super::super::out;
use super::super::terminal::RawMode;
use super::client::KeyCheck;

/// Runs `command`, or a shell; the remote exit code.
pub async fn run(handle: &Handle<KeyCheck>, command: Option<&str>) -> Result<u8, Failure> {
    let broken = |e: russh::Error| Failure::new(format!("the connection broke: {e}"));
    let mut channel = handle.channel_open_session().await.map_err(broken)?;
    // As the ssh program has it: a terminal for a shell, none for a command.
    let terminal = command.is_none() && std::io::stdin().is_terminal();
    let raw = if terminal { Some(RawMode::enter()?) } else { None };
    if terminal {
        let (columns, rows) = size();
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".into());
        channel.request_pty(false, &term, columns, rows, 0, 0, &[]).await.map_err(broken)?;
    }
    match command {
        Some(command) => channel.exec(true, command).await.map_err(broken)?,
        None => channel.request_shell(true).await.map_err(broken)?,
    }
    let mut resized = signal(SignalKind::window_change())?;
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 8192];
    let mut reading = true;
    let mut status = None;
    loop {
        tokio::select! {
            read = stdin.read(&mut buffer), if reading => match read {
                Ok(size @ 1..) => channel.data_bytes(buffer[..size].to_vec()).await.map_err(broken)?,
                Ok(0) | Err(_) => {
                    reading = false;
                    channel.eof().await.map_err(broken)?;
                }
            },
            message = channel.wait() => match message {
                None | Some(ChannelMsg::Close) => break,
                Some(ChannelMsg::Data { data }) => out::bytes(&data)?,
                Some(ChannelMsg::ExtendedData { data, .. }) => {
                    // Nobody is left to tell it to if this fails.
                    let _ = std::io::stderr().write_all(&data);
                }
                Some(ChannelMsg::ExitStatus { exit_status }) => status = Some(u8::try_from(exit_status).unwrap_or(code::FAILED)),
                Some(ChannelMsg::ExitSignal { .. }) => status = Some(code::FAILED),
                Some(ChannelMsg::Failure) => return Err(Failure::new("the machine refused to run that")),
                Some(_) => {}
            },
            _ = resized.recv(), if terminal => {
                let (columns, rows) = size();
                channel.window_change(columns, rows, 0, 0).await.map_err(broken)?;
            }
        }
    }
    drop(raw);
    status.ok_or_else(|| Failure::new("the connection ended before the command did"))
}

/// Columns and rows of our terminal.
fn size() -> (u32, u32) {
    match rustix::termios::tcgetwinsize(std::io::stdin()) {
        Ok(size) if size.ws_col > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}
