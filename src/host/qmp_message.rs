//! The monitor's messages as types: the events this host acts on, everything else as JSON. Pure.

use serde_json::Value;

use super::EndReason;

/// One line from QEMU.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Message {
    /// First line of a connection.
    Greeting,
    /// A command's success.
    Return {
        /// Our id, absent during negotiation.
        id: Option<u64>,
        /// The answer.
        value: Value,
    },
    /// A command's failure.
    Error {
        /// Our id, absent during negotiation.
        id: Option<u64>,
        /// Class.
        class: String,
        /// Words.
        description: String,
    },
    /// Something happened.
    Event(Event),
}

/// Events this host acts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Event {
    /// The guest executes again.
    Resume,
    /// The guest is held.
    Stop,
    /// The run is over. `reason` is QEMU's word, e.g. `guest-reset`.
    Shutdown {
        /// Why.
        reason: String,
    },
    /// The guest's kernel panicked.
    GuestPanicked,
    /// A device has been unplugged.
    DeviceDeleted {
        /// Its id.
        device: String,
    },
    /// The guest refused to unplug a device.
    DeviceUnplugRefused {
        /// Its id.
        device: String,
    },
    /// A virtio-serial port was opened or closed in the guest.
    PortChanged {
        /// Device id of the port.
        id: String,
        /// Open.
        open: bool,
    },
    /// One we do not act on.
    Other(String),
}

/// Reads one line; `None` if it is not a message.
pub(super) fn parse(line: &str) -> Option<Message> {
    let value: Value = serde_json::from_str(line.trim()).ok()?;
    if value.get("QMP").is_some() {
        return Some(Message::Greeting);
    }
    let id = value.get("id").and_then(Value::as_u64);
    if let Some(answer) = value.get("return") {
        return Some(Message::Return { id, value: answer.clone() });
    }
    if let Some(error) = value.get("error") {
        return Some(Message::Error { id, class: text(error, "class"), description: text(error, "desc") });
    }
    let name = value.get("event")?.as_str()?;
    let none = Value::Null;
    let data = value.get("data").unwrap_or(&none);
    Some(Message::Event(match name {
        "RESUME" => Event::Resume,
        "STOP" => Event::Stop,
        "SHUTDOWN" => Event::Shutdown { reason: text(data, "reason") },
        "GUEST_PANICKED" => Event::GuestPanicked,
        // PCI devices announce their virtio half first, without an id.
        "DEVICE_DELETED" if data.get("device").is_some() => Event::DeviceDeleted { device: text(data, "device") },
        "DEVICE_UNPLUG_GUEST_ERROR" => Event::DeviceUnplugRefused { device: text(data, "device") },
        "VSERPORT_CHANGE" => Event::PortChanged {
            id: text(data, "id"),
            open: data.get("open").and_then(Value::as_bool).unwrap_or(false),
        },
        other => Event::Other(other.to_owned()),
    }))
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// How the guest ended, from the word of a `SHUTDOWN` event; `None` for the host's own doing.
pub(super) fn guest_end(reason: &str) -> Option<EndReason> {
    match reason {
        "guest-shutdown" => Some(EndReason::GuestShutdown),
        "guest-reset" => Some(EndReason::GuestReset),
        "guest-panic" => Some(EndReason::GuestPanic),
        _ => None,
    }
}

/// How a guest ended while nobody listened, from the `query-status` word and QEMU's log; `None` if it has not
/// ended. A reboot and a power-off both leave status `shutdown`; the trace line that QEMU writes for a power-off
/// only (`command_line` switches it on) tells them apart.
pub(super) fn end_while_away(status: &str, log: &str) -> Option<EndReason> {
    match status {
        "guest-panicked" => Some(EndReason::GuestPanic),
        "shutdown" if log.contains(super::command_line::SHUTDOWN_TRACE) => Some(EndReason::GuestShutdown),
        "shutdown" => Some(EndReason::GuestReset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_messages() {
        let cases = [
            (r#"{"QMP":{"version":{}}}"#, Some(Message::Greeting)),
            (r#"{"return":{},"id":4}"#, Some(Message::Return { id: Some(4), value: serde_json::json!({}) })),
            (
                r#"{"timestamp":{},"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}"#,
                Some(Message::Event(Event::Shutdown { reason: "guest-reset".into() })),
            ),
            (
                r#"{"event":"DEVICE_DELETED","data":{"path":"/machine/x/virtio-backend"}}"#,
                Some(Message::Event(Event::Other("DEVICE_DELETED".into()))),
            ),
            (
                r#"{"event":"VSERPORT_CHANGE","data":{"open":true,"id":"agent0"}}"#,
                Some(Message::Event(Event::PortChanged { id: "agent0".into(), open: true })),
            ),
            ("garbage", None),
        ];
        for (line, message) in cases {
            assert_eq!(parse(line), message, "{line}");
        }
    }

    #[test]
    fn ends_that_nobody_heard() {
        let log = "qemu_system_shutdown_request reason=6\n";
        assert_eq!(end_while_away("running", log), None);
        assert_eq!(end_while_away("shutdown", log), Some(EndReason::GuestShutdown));
        assert_eq!(end_while_away("shutdown", ""), Some(EndReason::GuestReset));
        assert_eq!(end_while_away("guest-panicked", ""), Some(EndReason::GuestPanic));
    }
}
