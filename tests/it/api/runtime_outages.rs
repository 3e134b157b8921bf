//! What kube-rs's watchers and controllers live through: a daemon that is restarted, history that is gone.

use std::pin::pin;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::{Patch, PatchParams, PostParams, ResourceExt};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, Event};
use serde_json::json;

use super::Served;
use super::rows::Rows;
use super::runtime::{Bench, Told, ensure, map};

#[test]
fn kube_rs_through_outages() {
    let served = Served::start();
    served.stay_on_this_port();
    let mut rows = Rows::new("kube-rs, outages");
    for (what, config) in [
        ("RS-40 a restart of the daemon: the watcher goes on, nothing lost, no list again", Config::default()),
        ("RS-41 the same with streaming lists", Config::default().streaming_lists()),
    ] {
        rows.add(what, settled(&served, restarted(&served, config)));
    }
    rows.add(
        "RS-42 a version that is compacted away: the watcher lists again and goes on",
        settled(&served, compacted(&served)),
    );
    rows.judge(3);
}

fn settled(served: &Served, case: impl Future<Output = Told>) -> Result<(), String> {
    let outcome = served.world.block_on(async { tokio::time::timeout(Duration::from_secs(90), case).await });
    let outcome = outcome.unwrap_or_else(|_| Err("not done after a minute and a half".into()));
    outcome.map_err(|e| format!("{e}\n{}", served.world.log_tail()))
}

async fn restarted(served: &Served, config: Config) -> Told {
    let bench = Bench::of(served).await;
    let label = if config == Config::default() { "restart-list" } else { "restart-stream" };
    let maps = bench.maps();
    let config = config.labels(&format!("case={label}"));
    let mut events = pin!(watcher::watcher(maps.clone(), config).default_backoff());
    maps.create(&PostParams::default(), &map(&format!("{label}-0"), label, "x")).await?;
    let mut seen = Vec::new();
    let mut inits = 0;
    let mut write = true;
    while seen.len() < 4 {
        // While the daemon is away the watcher gives errors and tries again.
        match events.next().await.ok_or("the watcher ended")? {
            Ok(Event::Init) => inits += 1,
            Ok(Event::InitApply(object) | Event::Apply(object)) => seen.push(object.name_any()),
            Ok(_) | Err(_) => {}
        }
        if seen.len() == 1 && std::mem::take(&mut write) {
            maps.create(&PostParams::default(), &map(&format!("{label}-1"), label, "x")).await?;
            let mut command = served.world.command(&["host", "restart"]);
            let done = tokio::task::spawn_blocking(move || command.output()).await??;
            ensure!(done.status.success(), "{done:?}");
            for n in 2..4 {
                // The connection that this client keeps is of the daemon before.
                let made = maps.create(&PostParams::default(), &map(&format!("{label}-{n}"), label, "x")).await;
                if made.is_err() {
                    maps.create(&PostParams::default(), &map(&format!("{label}-{n}"), label, "x")).await?;
                }
            }
        }
    }
    let wanted: Vec<String> = (0..4).map(|n| format!("{label}-{n}")).collect();
    ensure!(seen == wanted, "{seen:?}");
    ensure!(inits == 1, "began anew {} times", inits - 1);
    Ok(())
}

async fn compacted(served: &Served) -> Told {
    let bench = Bench::of(served).await;
    let maps = bench.maps();
    maps.create(&PostParams::default(), &map("compacted-0", "compacted", "x")).await?;
    for n in 0..8 {
        maps.create(&PostParams::default(), &map(&format!("busy-{n}"), "busy", "x")).await?;
    }
    // Without bookmarks its version stays where it is, and it asks for it again each second.
    let config = Config::default().labels("case=compacted").disable_bookmarks().timeout(1);
    let mut events = pin!(watcher::watcher(maps.clone(), config).default_backoff());
    while !matches!(events.try_next().await?, Some(Event::InitDone)) {}
    // History is kept for the newest thousand changes at least.
    let writes = (0..1100).map(|n| {
        let (maps, patch) = (maps.clone(), Patch::Merge(json!({"data": {"n": n.to_string()}})));
        async move { maps.patch(&format!("busy-{}", n % 8), &PatchParams::default(), &patch).await }
    });
    futures::stream::iter(writes).buffer_unordered(8).try_collect::<Vec<_>>().await?;
    let mut told = Vec::new();
    loop {
        match events.next().await.ok_or("the watcher ended")? {
            Ok(Event::InitDone) => break,
            Ok(Event::InitApply(object)) => told.push(object.name_any()),
            Ok(Event::Init) => {}
            Ok(event) => return Err(format!("{event:?}").into()),
            Err(watcher::Error::WatchError(status)) => ensure!(status.code == 410, "{status:?}"),
            Err(error) => return Err(error.into()),
        }
    }
    ensure!(told == ["compacted-0"], "{told:?}");
    maps.create(&PostParams::default(), &map("compacted-1", "compacted", "x")).await?;
    let event = events.try_next().await?.ok_or("the watcher ended")?;
    ensure!(matches!(&event, Event::Apply(o) if o.name_any() == "compacted-1"), "{event:?}");
    Ok(())
}
