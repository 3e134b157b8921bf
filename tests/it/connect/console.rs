//! `vmdeck console` over a guest's and the daemon's restarts, and how its stream ends.

use futures::StreamExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use vmdeck::client::{ConsoleError, StreamEnd};

use super::Running;
use crate::support::{BOOT, SOON, Screen, World, blank_machine};

#[test]
fn a_console_outlives_restarts_of_guest_and_daemon() {
    let mut world = World::with_image();
    drop(world.booted("linux-vm", "AlwaysOnUnlessStoppedManually"));
    let mut screen = Screen::open(&world, &["console", "linux-vm"], 100, 40);
    screen.until("Successfully connected to linux-vm console. The escape sequence is ^]", SOON);
    screen.keys("clear; echo $((6*7))\r");
    screen.until("42", SOON);

    // Another one at the same time: consoles are shared, nobody is sent away.
    let mut second = Screen::open(&world, &["console", "linux-vm", "--history", "0"], 100, 40);
    second.until("Successfully connected", SOON);
    screen.keys("clear; echo $((41+2))\r");
    second.until("43", SOON);
    second.keys("some words \x1d and more");
    assert_eq!(second.wait(SOON), 0);

    // The guest restarts: the same console shows it boot and takes the next login.
    world.ok(&["restart", "linux-vm", "--wait"]);
    screen.until_like("the next boot's prompt", BOOT, |t| {
        t.rfind("boot: 2").is_some_and(|at| t[at..].contains("linux-vm login: "))
    });
    screen.keys("cloud\r");
    screen.until("Password: ", SOON);
    screen.keys("cloud\r");
    screen.until(":~$ ", SOON);

    // The daemon is stopped and comes back: told as that, and the line goes on.
    world.ok(&["host", "stop"]);
    screen.until("connecting again", SOON);
    world.start_daemon();
    screen.until("vmdeck: connected again", SOON);
    screen.keys("clear; echo $((6*8))\r");
    screen.until("48", SOON);
    // It is killed: no word is said, only the connection breaks.
    world.kill_daemon();
    screen.until("connecting again", SOON);
    world.start_daemon();
    screen.until("vmdeck: connected again", SOON);
    screen.keys("clear; echo $((7*7))\r");
    screen.until("49", SOON);
    assert!(!screen.text().contains("took the console over"), "{}", screen.text());

    // The machine is deleted: the console ends by itself, and says so.
    world.ok(&["delete", "vm", "linux-vm"]);
    assert_ne!(screen.wait(BOOT), 0);
    assert!(screen.text().contains("not found"), "{}", screen.text());
    screen.assert_clean();
    world.leaves_nothing();
}

#[test]
fn how_streams_end() {
    let mut world = World::start();
    let open = |world: &World| world.block_on(world.session().console("default", "m", 0));
    assert!(matches!(open(&world), Err(ConsoleError::NotFound(_))), "{:?}", open(&world));
    world.apply(&blank_machine("m", "Manual"));
    world.until_phase("vm/m", "Stopped", SOON);
    let forward = world.block_on(world.session().port_forward("default", "m", 22));
    assert!(matches!(forward, Err(ConsoleError::NotReady(_))), "{forward:?}");
    world.ok(&["start", "m", "--wait"]);

    // The code of a stopping server is no takeover: that would be 1001.
    let socket = world.paths.api_socket();
    let code = world.spawn(async move {
        let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
        let path =
            "/apis/subresources.virtualization.deckhouse.io/v1alpha2/namespaces/default/virtualmachines/m/console";
        let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "plain.virtualization.deckhouse.io".parse().unwrap());
        let (mut socket, response) = tokio_tungstenite::client_async(request, stream).await.unwrap();
        assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "plain.virtualization.deckhouse.io");
        while let Some(message) = socket.next().await {
            if let Message::Close(Some(frame)) = message.unwrap() {
                return Some(frame.code);
            }
        }
        None
    });
    let line = open(&world).unwrap();
    let screen = world.block_on(world.session().vnc("default", "m")).unwrap();
    world.ok(&["host", "stop"]);
    assert_eq!(world.block_on(code).unwrap(), Some(CloseCode::Restart));
    let end = world.block_on(line.closed).unwrap();
    assert!(matches!(end, StreamEnd::Lost(_)), "{end:?}");
    drop(screen);

    // The end of the machine is the end of the stream.
    world.start_daemon();
    let line = open(&world).unwrap();
    world.ok(&["delete", "vm", "m"]);
    let end = world.block_on(line.closed).unwrap();
    assert_eq!(end, StreamEnd::Ended);
    let output = world.run(&["console", "m"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");

    // A machine that is not running yet is waited for, as long as it was said.
    world.apply(&blank_machine("later", "Manual"));
    world.until_phase("vm/later", "Stopped", SOON);
    let output = world.run(&["console", "later", "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("has not been started yet"), "{output:?}");
    let mut waiting = Running::start(world.command(&["console", "later"]).stderr(std::process::Stdio::piped()));
    let mut errors = std::io::BufReader::new(waiting.child.stderr.take().unwrap());
    let mut said = String::new();
    std::io::BufRead::read_line(&mut errors, &mut said).unwrap();
    assert!(said.contains("later is not there yet, waiting"), "{said}");
    world.ok(&["start", "later", "--wait"]);
    said.clear();
    std::io::BufRead::read_line(&mut errors, &mut said).unwrap();
    assert!(said.contains("Successfully connected to later console"), "{said}");
    drop(waiting);
    world.leaves_nothing();
}
