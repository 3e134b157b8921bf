//! SSH, screen and forwarded ports of the machine at hand.

use super::*;
use crate::tui::console::{History, Line, Target};
use crate::tui::message::{ConsoleNews, Job};
use crate::tui::state::Front;

/// On the running machine `web`.
fn on_web() -> Desk {
    let mut desk = Desk::demo(120, 36);
    desk.keys("/web<enter>");
    assert!(desk.screen().contains("Running"), "{}", desk.screen());
    desk.effects.clear();
    desk
}

fn by_ssh(login: &str) -> Target {
    Target { line: Line::Ssh { login: login.into() }, ..Target::serial("default", "web") }
}

fn news(desk: &mut Desk, target: &Target, news: ConsoleNews) {
    desk.event(Event::Console { target: target.clone(), news });
}

#[test]
fn ssh_offers_the_last_login_and_opens_a_tab_beside_the_console() {
    let mut desk = on_web();
    desk.keys("c");
    assert!(
        desk.effects.iter().any(|e| matches!(e, Effect::ConsoleConnect { target, .. } if target.line == Line::Serial))
    );
    desk.keys("<ctrl-]><ctrl-]>C");
    assert!(desk.screen().contains("SSH to default/web") && desk.screen().contains("cloud"), "{}", desk.screen());
    desk.effects.clear();
    desk.keys("<backspace><backspace><backspace><backspace><backspace>root<enter>");
    let target = by_ssh("root");
    let connected = desk.effects.iter().find_map(|e| match e {
        Effect::ConsoleConnect { target, attempt: 0, size, .. } => Some((target.clone(), *size)),
        _ => None,
    });
    let (columns, rows) = connected.clone().unwrap().1;
    assert_eq!(connected.unwrap().0, target);
    assert!(columns == 120 && rows < 36 && rows > 24, "{columns}x{rows}");
    assert!(
        desk.effects
            .iter()
            .any(|e| matches!(e, Effect::Remember { file: "logins", lines } if lines.last().unwrap() == "root"))
    );
    news(&mut desk, &target, ConsoleNews::Attached(History::None));
    news(&mut desk, &target, ConsoleNews::Bytes("root@web:~# ".into()));
    assert!(desk.screen().contains("root@web:~#"), "{}", desk.screen());
    assert!(desk.screen().lines().nth(1).unwrap().contains("root@web"), "a tab: {}", desk.screen());
    assert!(desk.screen().contains("default/web"), "the console's tab stays: {}", desk.screen());
}

#[test]
fn an_ssh_session_is_told_of_a_new_size_once_and_a_console_is_not() {
    let mut desk = on_web();
    desk.keys("c<ctrl-]><ctrl-]>C<enter>");
    let target = by_ssh("cloud");
    news(&mut desk, &target, ConsoleNews::Attached(History::None));
    news(&mut desk, &Target::serial("default", "web"), ConsoleNews::Attached(History::None));
    desk.effects.clear();
    desk.event(Event::Resize(90, 30));
    desk.event(Event::Wake);
    let told = &desk.effects;
    assert!(
        matches!(told.as_slice(), [Effect::ConsoleResize { target: t, size: (90, _) }] if *t == target),
        "{told:?}"
    );
}

#[test]
fn a_logout_closes_its_tab_and_a_failure_keeps_it() {
    let mut desk = on_web();
    desk.keys("C<enter>");
    let target = by_ssh("cloud");
    news(&mut desk, &target, ConsoleNews::Attached(History::None));
    news(&mut desk, &target, ConsoleNews::Ended("ssh ended with exit code 255".into()));
    assert!(desk.screen().contains("exit code 255"), "{}", desk.screen());
    assert_eq!(desk.state.front, Front::Consoles);
    desk.keys("<ctrl-]>c");
    news(&mut desk, &target, ConsoleNews::Attached(History::None));
    news(&mut desk, &target, ConsoleNews::Closed);
    assert_eq!(desk.state.front, Front::Views);
    assert!(desk.state.consoles.is_empty());
    assert!(desk.screen().contains("cloud@web: logged out"), "{}", desk.screen());
}

#[test]
fn ports_are_checked_before_anything_runs_and_the_screen_needs_a_running_machine() {
    let mut desk = on_web();
    desk.keys("F8080:80 nonsense<enter>");
    assert!(desk.screen().contains("`nonsense` is no port"), "{}", desk.screen());
    assert!(desk.effects.is_empty());
    desk.keys("F8080:80 udp/53<enter>");
    assert!(
        matches!(desk.effects.as_slice(), [Effect::Run { job: Job::Forward { ports, .. }, .. }] if ports == &["8080:80", "udp/53"])
    );
    desk.effects.clear();
    desk.keys("v");
    assert!(matches!(desk.effects.as_slice(), [Effect::Run { job: Job::Vnc(machine), .. }] if machine.name == "web"));
    let mut desk = Desk::demo(120, 36);
    desk.keys("0/build<enter>");
    desk.effects.clear();
    desk.keys("v");
    assert!(desk.effects.is_empty() && desk.screen().contains("it is Stopped"), "{}", desk.screen());
}
