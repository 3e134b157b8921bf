//! The engine behind a kubeconfig context. The API is the same, so the host's own stands in for a cluster's, behind a
//! TCP port that a kubeconfig names.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;

use tokio::net::{TcpListener, UnixStream};

use crate::support::World;

/// A port whose connections go to the world's socket.
fn port(world: &World) -> SocketAddr {
    let socket = world.paths.api_socket();
    world.block_on(async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    let mut far = UnixStream::connect(socket).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
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
