//! The engine behind a kubeconfig context. The API is the same, so the host's own stands in for a cluster's, behind a
//! TCP port that a kubeconfig names.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};

use crate::support::{BOOT, SOON, Screen, World, machine_manifest};

/// A port whose connections go to the world's socket. What it answers to a probe is upstream's: it does not say that
/// sessions are shared, because there they are not.
fn port(world: &World) -> SocketAddr {
    let socket = world.paths.api_socket();
    world.block_on(async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    let far = UnixStream::connect(socket).await.unwrap();
                    let (mut from, mut to) = far.into_split();
                    let (mut client, mut answers) = near.split();
                    let answering = async {
                        let mut chunk = vec![0; 64 << 10];
                        while let Ok(n @ 1..) = from.read(&mut chunk).await {
                            let marked = chunk[..n].windows(11).position(|w| w == b"\"sessions\":");
                            marked.into_iter().for_each(|at| chunk[at + 1] = b'_');
                            if answers.write_all(&chunk[..n]).await.is_err() {
                                break;
                            }
                        }
                    };
                    tokio::select! {
                        () = answering => {}
                        _ = tokio::io::copy(&mut client, &mut to) => {}
                    }
                });
            }
        });
        address
    })
}

fn kubeconfig(world: &World, server: SocketAddr) -> String {
    let path = world.home().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
         clusters: [{{name: lab, cluster: {{server: 'http://{server}'}}}}, {{name: dead, cluster: {{server: 'http://127.0.0.1:1'}}}}]\n\
         users: [{{name: u, user: {{}}}}]\n\
         contexts:\n\
         - {{name: lab, context: {{cluster: lab, user: u, namespace: team}}}}\n\
         - {{name: dead, context: {{cluster: dead, user: u}}}}\n"
    );
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_context_that_serves_the_group_is_used_and_a_dead_one_is_told() {
    let world = World::start();
    let config = kubeconfig(&world, port(&world));
    world.ok(&["create", "namespace", "team"]);
    let run = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        let output =
            command.env_remove("VMDECK_HOST").env("KUBECONFIG", &config).stdin(Stdio::null()).output().unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    // The current context, its namespace, and the reason.
    let (code, said, errors) = run(&["version"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(said.contains("(lab: current kubeconfig context)"), "{said}");
    let (_, _, errors) = run(&["get", "vm"]);
    assert!(errors.contains("No resources found in team namespace."), "{errors}");
    // A named context that does not answer is an error, at once, with its cause.
    let begun = std::time::Instant::now();
    let (code, _, errors) = run(&["--context", "dead", "get", "vm"]);
    assert_eq!(code, Some(3));
    assert!(errors.contains("\"dead\"") && errors.contains("refused"), "{errors}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(5));
    let (code, _, errors) = run(&["--context", "nope", "get", "vm"]);
    assert_eq!(code, Some(3));
    assert!(errors.contains("\"lab\", \"dead\""), "{errors}");
    // The current one dead: the local host, and that is said.
    let text = std::fs::read_to_string(&config).unwrap().replace("current-context: lab", "current-context: dead");
    std::fs::write(&config, text).unwrap();
    let (code, _, errors) = run(&["get", "ns"]);
    assert_eq!(code, Some(0), "{errors}");
    assert!(errors.contains("using this computer's host") && errors.contains("refused"), "{errors}");
}

#[test]
fn a_console_is_not_taken_from_its_holder_unasked() {
    let world = World::with_image();
    world.apply(&machine_manifest("linux-vm", "AlwaysOnUnlessStoppedManually"));
    world.until_phase("vm/linux-vm", "Running", BOOT);
    let config = kubeconfig(&world, port(&world));
    let on_cluster = ["--kubeconfig", config.as_str(), "--context", "lab", "-n", "default", "console", "linux-vm"];

    // Free: nothing is asked.
    let mut holder = Screen::open(&world, &on_cluster, 80, 24);
    holder.until("Successfully connected", SOON);
    assert!(!holder.text().contains("HOLDER"), "{}", holder.text());

    // Held, and nobody to ask: refused, and what to do.
    let refused = world.run(&on_cluster);
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && words.contains("in use by") && words.contains("--force"), "{words}");
    assert!(world.run(&[&on_cluster[..], &["--force"]].concat()).status.success());

    // Held, with somebody to ask: no leaves, wait connects as soon as it is free.
    let mut second = Screen::open(&world, &on_cluster, 80, 24);
    second.until("End that session and connect?", SOON);
    second.keys("n\r");
    assert_eq!(second.wait(SOON), 1);
    let mut third = Screen::open(&world, &on_cluster, 80, 24);
    third.until("HOLDER", SOON);
    third.keys("w\r");
    third.until("waiting until it is free", SOON);
    holder.keys("\x1d");
    assert_eq!(holder.wait(SOON), 0);
    third.until("Successfully connected", SOON);

    // A vmdeck host's consoles are shared: told, not asked.
    let shared = Screen::open(&world, &["console", "linux-vm"], 80, 24);
    shared.until("also on this console", SOON);
    shared.until("Successfully connected", SOON);
    for mut screen in [third, shared] {
        screen.keys("\x1d");
        assert_eq!(screen.wait(SOON), 0);
    }
    world.ok(&["delete", "vm", "linux-vm"]);
}
