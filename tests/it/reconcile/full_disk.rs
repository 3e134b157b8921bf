//! What the controllers do while nothing can be written.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;
use vmdeck::host::EndReason;

use super::world::{World, uid};

/// Unmounts when dropped.
struct Small(PathBuf);

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
        std::fs::remove_dir(&self.0).ok();
    }
}

#[tokio::test]
async fn a_full_disk_delays_what_is_told_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let small = Small(dir.path().to_owned());
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=24m", "none"]).arg(&small.0).output();
    if !mounted.as_ref().is_ok_and(|m| m.status.success()) {
        println!("skipped: a small file system cannot be mounted here: {mounted:?}");
        return;
    }
    let w = World::with_store_in(dir).await;
    let vm = w.running("m", json!({})).await;
    w.settle().await;
    let ballast = small.0.join("ballast");
    {
        let mut file = std::fs::File::create(&ballast).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }
    // Until the log has no space left either.
    let large = "x".repeat(100_000);
    let mut count = 0;
    let refused = loop {
        count += 1;
        let body = json!({"data": {"a": large}});
        if w.get("cm", &format!("c{count}")).await.is_none() {
            let made = w.try_create("cm", &format!("c{count}"), body).await;
            if let Err(error) = made {
                break error.to_string();
            }
        }
    };
    assert!(refused.contains("no space is left"), "{refused}");

    // The guest powers off; nobody can be told.
    w.host.end(uid(&vm), EndReason::GuestShutdown);
    for _ in 0..50 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let shown = w.get("vm", "m").await.unwrap();
        assert_eq!(shown["status"]["phase"], "Running", "something was written on a full disk");
    }
    std::fs::remove_file(&ballast).unwrap();
    w.phase("vm", "m", "Stopped").await;
    assert!(w.host.steps().iter().filter(|s| s.contains("Start")).count() <= 1, "{:?}", w.host.steps());
}
